"""How a scan is looked at: where it is cropped, how it is blurred, what else is changed; and the looking.

Everything random is drawn here (`draw`), with NumPy, and applied here (`look`), with torch, on the device that holds the scan.
A crop is cut before anything is computed, with the few voxels around it that the blur needs, so that a view costs
what its crop costs. Blurring by shifted additions was the fastest of nine ways on a CPU (docs/decisions/0012).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from elr_mri.config import Augment
from elr_mri.learning.augment import Changes, change, draw_changes
from elr_mri.learning.standardise import Places, Standardise, take

#: A Gaussian is cut at this many σ, as SciPy does.
TRUNCATE = 4.0


@dataclass(frozen=True)
class View:
    """How one scan is looked at.

    Attributes
    ----------
    offset : (3,) int, voxels
        First voxel of the crop on the packed grid.
    sigma : float, voxels
        Of the Gaussian blur; 0 is none.
    changes : Changes or None
        What else is done to the scan, before it is standardised.
    """

    offset: tuple[int, int, int]
    sigma: float = 0.0
    changes: Changes | None = None

    @property
    def radius(self) -> int:
        """Voxels that the blur reads beyond the crop."""
        return int(TRUNCATE * self.sigma + 0.5)


class Scratch:
    """Memory that views are computed in on a CPU, one after the other: fresh memory costs as much as the arithmetic."""

    def __init__(self) -> None:
        self.buffers = [torch.empty(0), torch.empty(0)]

    def take(self, shape: Sequence[int]) -> Tensor:
        """A float32 tensor of this shape, whatever is in it; it stands until the next but one is taken."""
        self.buffers.reverse()
        n = math.prod(shape)
        if len(self.buffers[0]) < n:
            self.buffers[0] = torch.empty(n)
        return self.buffers[0][:n].view(*shape)

    def floats(self, stored: np.ndarray | Tensor) -> Tensor:
        """Stored values as float32."""
        values = self.take(stored.shape)
        np.copyto(values.numpy(), stored, casting="unsafe")
        return values


def centred(shape: Sequence[int], crop: int, shift: tuple[int, int, int] = (0, 0, 0)) -> View:
    """The view of evaluation: the central crop of a grid (X, Y, Z), shifted as far as there is room, and nothing else."""
    x, y, z = (min(max((n - crop) // 2 + step, 0), n - crop) for n, step in zip(shape, shift))
    return View((x, y, z))


def draw(
    rng: np.random.Generator,
    batch: int,
    shape: Sequence[int],
    *,
    crop: int,
    shift_max: int | None,
    blur_sigma_max: float,
    augment: Augment,
    spacing_mm: float,
) -> list[View]:
    """Random views: crops within `shift_max` voxels of the centre (None: anywhere), blur of σ ~ U(0, maximum), and
    the changes of `augment`. Crops and blurs are the same whatever is augmented.
    """
    room = np.array(shape) - crop
    middle = room // 2
    reach = room if shift_max is None else np.full(3, shift_max)
    low, high = np.maximum(middle - reach, 0), np.minimum(middle + reach, room)
    offsets = rng.integers(low, high + 1, size=(batch, 3)).tolist()
    sigmas = rng.uniform(0, blur_sigma_max, size=batch).tolist()
    changes = [draw_changes(rng, augment, spacing_mm) for _ in range(batch)]
    return [View(tuple(o), s, c) for o, s, c in zip(offsets, sigmas, changes)]


def window(view: View, shape: Sequence[int], crop: int) -> Places:
    """The packed voxels that a view reads along each axis: the crop and the blur's radius on either side.

    Beyond the border the grid is reflected (… 1 0 | 0 1 …), as SciPy's `gaussian_filter` does by default.
    """
    places = []
    for start, n in zip(view.offset, shape):
        place = np.arange(start - view.radius, start + crop + view.radius) % (2 * n)
        places.append(np.minimum(place, 2 * n - 1 - place))
    return tuple(places)


def cut(stored: np.ndarray | Tensor, view: View, crop: int) -> np.ndarray | Tensor:
    """Of a packed scan (n_channels, X, Y, Z) what a view needs: its window, or all of a scan that is to be turned."""
    if view.changes is not None and view.changes.affine is not None:
        return stored
    x, y, z = window(view, stored.shape[-3:], crop)
    if view.changes is not None and view.changes.mirrored:
        x = stored.shape[-3] - 1 - x[::-1]
    return take(stored, (x, y, z))


def look(
    piece: np.ndarray | Tensor,
    view: View,
    crop: int,
    standardise: Standardise,
    *,
    shape: Sequence[int],
    extremes: Tensor | None = None,
    unit: tuple[float, float] = (1.0, 1.0),
    scratch: Scratch | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """One view of a scan: changed, standardised, blurred.

    Turning, mirroring and the changes of intensity come before standardisation, because they stand for what happens to a head or in
    a scanner before anything is computed: voxel standardisation compares each place with the training scans' values at that place, and a
    head that lies askew or a brighter scan is compared so when it comes to be predicted. Scan standardisation maps by the extremes of the
    unchanged scan, so a change of intensity reaches the network and may leave [0, 1]. Crop and blur act on what the
    network sees, after it: a blurred scan less the sharp mean would show every edge of the mean, whatever the diagnosis.

    Parameters
    ----------
    piece : (n_channels, X, Y, Z) or its window, packed values
        As `cut` gives it.
    shape : (X, Y, Z) of the packed grid
    extremes : (2, n_channels, 1, 1, 1) float32
        Lowest and highest value of each channel of the unchanged scan; for `standardise: scan`.
    unit : (float, float)
        Packed value of white matter and the highest packed value, of the scan's channel.
    scratch : Scratch or None
        For a CPU; a GPU's memory is kept by torch.
    out : (n_channels, crop, crop, crop) float32 or None
        Where the view is to be put, its place in a batch.

    Returns
    -------
    (n_channels, crop, crop, crop) float32
    """
    places = window(view, shape, crop)
    values = piece.float() if scratch is None else scratch.floats(piece)
    if view.changes is not None:
        values = change(values, view.changes, places, shape, unit)
    if standardise.kind == "scan":  # one affine map for all voxels: blurred first, fewer are left to be mapped
        values = blur(values, view.sigma, view.radius, scratch=scratch)
        return standardise.window(values, places, extremes, out=out)
    values = standardise.window(values, places, extremes, out=values)
    return blur(values, view.sigma, view.radius, scratch=scratch, out=out)


def blur(
    values: Tensor, sigma: float, radius: int, *, scratch: Scratch | None = None, out: Tensor | None = None
) -> Tensor:
    """Gaussian blur of each channel, σ in voxels, that uses up `radius` voxels at every face.

    (n_channels, X, Y, Z) float32 → (n_channels, X − 2 radius, …), in `out` where it is given. The weights are cut at `radius` and sum to 1.
    """
    if radius == 0:
        return values if out is None else out.copy_(values)
    weights = gaussian(sigma, radius)
    if values.device.type != "cpu":
        return _by_matrices(values, weights, out=out)
    return _by_shifts(values, weights, scratch or Scratch(), out=out)


def gaussian(sigma: float, radius: int) -> np.ndarray:
    """(2 radius + 1,) float64 weights of a Gaussian, σ in voxels, sum 1."""
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def _by_shifts(values: Tensor, weights: np.ndarray, scratch: Scratch, *, out: Tensor | None = None) -> Tensor:
    """One axis after the other, one multiply-add of the shifted block per weight: a CPU streams through memory."""
    for axis in (1, 2, 3):
        n = values.shape[axis] - len(weights) + 1
        shape = (*values.shape[:axis], n, *values.shape[axis + 1 :])
        total = out if axis == 3 and out is not None else scratch.take(shape)
        torch.mul(values.narrow(axis, 0, n), float(weights[0]), out=total)
        for shift, weight in enumerate(weights[1:], start=1):
            total.add_(values.narrow(axis, shift, n), alpha=float(weight))
        values = total
    return values


def _by_matrices(values: Tensor, weights: np.ndarray, *, out: Tensor | None = None) -> Tensor:
    """One axis after the other as a product with a band matrix: three kernels on a GPU, where multiplying is cheap
    and starting a kernel is not."""
    for axis in (1, 2, 3):
        n = values.shape[axis] - len(weights) + 1
        band = np.zeros((values.shape[axis], n), dtype=np.float32)
        for shift, weight in enumerate(weights):
            band[np.arange(n) + shift, np.arange(n)] = weight
        values = (values.movedim(axis, -1) @ torch.from_numpy(band).to(values.device, non_blocking=True)).movedim(
            -1, axis
        )
    return values.contiguous() if out is None else out.copy_(values)
