"""Random changes of a training scan beside crop and blur: drawn in one place, applied in another.

A head that lies otherwise (an affine jitter, a mirror) and a scanner that sees otherwise (contrast, bias field, noise).
Ranges are those of `config.Augment`; the choice of changes follows TorchIO (Pérez-García et al. 2021) and MONAI.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from elr_mri.config import Augment
from elr_mri.learning.standardise import Places

#: Degree of the polynomial that is the logarithm of a bias field (Van Leemput et al. 1999), and its terms but the constant.
DEGREE = 3
TERMS = tuple(powers for powers in product(range(DEGREE + 1), repeat=3) if 0 < sum(powers) <= DEGREE)


@dataclass(frozen=True)
class Changes:
    """What is done to one scan before it is standardised.

    Attributes
    ----------
    mirrored : bool
        Left and right exchanged (the first axis of the grid, RAS+).
    affine : (3, 4) float64 or None
        From voxels of the view to voxels of the scan, both counted from the middle of the grid.
    gamma : float
        Power of the intensities, in units of white matter's, which keeps its own; 1 changes nothing.
    bias : (19,) float64 or None
        Coefficients of `TERMS` in the logarithm of the bias field, on coordinates from −1 to 1 across the grid.
    noise : float
        Standard deviation of the white noise inside the brain, as a share of the intensity range.
    noise_seed : int
    """

    mirrored: bool = False
    affine: np.ndarray | None = None
    gamma: float = 1.0
    bias: np.ndarray | None = None
    noise: float = 0.0
    noise_seed: int = 0


def draw_changes(rng: np.random.Generator, augment: Augment, spacing_mm: float) -> Changes | None:
    """Random changes of one scan; None where nothing is asked for, or drawn."""
    if augment == Augment():
        return None
    angles = rng.uniform(-1, 1, size=3) * np.deg2rad(augment.rotate_deg)
    scales = 1 + rng.uniform(-1, 1, size=3) * augment.scale
    shift = rng.uniform(-1, 1, size=3) * augment.translate_mm / spacing_mm
    moved = augment.rotate_deg or augment.scale or augment.translate_mm
    return Changes(
        mirrored=bool(rng.random() < augment.flip),
        affine=np.column_stack([rotation(angles) * scales, shift]) if moved else None,
        gamma=float(np.exp(rng.uniform(-1, 1) * augment.gamma)),
        bias=rng.uniform(-1, 1, size=len(TERMS)) * augment.bias_field if augment.bias_field else None,
        noise=float(rng.random() * augment.noise),
        noise_seed=int(rng.integers(2**62)),
    )


def rotation(angles: np.ndarray) -> np.ndarray:
    """(3, 3) rotation about the first, then the second, then the third axis, radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn, (a, b) = np.eye(3), ((axis + 1) % 3, (axis + 2) % 3)
        turn[[a, b], [a, b]] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def change(
    values: Tensor,
    changes: Changes,
    places: Places,
    shape: Sequence[int],
    unit: tuple[float, float],
) -> Tensor:
    """Apply changes to a scan, in the window that a view reads.

    Intensities change in the first channel only: a second one holds log-Jacobians.

    Parameters
    ----------
    values : (n_channels, X, Y, Z) float32, packed values, if there is an affine; else the window that `cut` gives
    places : three (w,) int, voxels of the packed grid
    shape : (X, Y, Z) of the packed grid
    unit : (float, float)
        Packed value of white matter and the highest packed value.

    Returns
    -------
    (n_channels, w, w, w) float32
    """
    if changes.affine is not None:
        values = _turned(values, changes, places, shape)
    elif changes.mirrored:
        values = values.flip(1)
    scan = first = values[0]
    white, high = unit
    if changes.gamma != 1:
        scan = white * (scan.clamp_min(0) / white) ** changes.gamma
    if changes.bias is not None:
        scan = scan * _bias_field(changes.bias, places, shape, scan.device)
    if changes.noise:
        noise = torch.randn(
            scan.shape, generator=torch.Generator(scan.device).manual_seed(changes.noise_seed), device=scan.device
        )
        scan = torch.where(scan > 0, scan + changes.noise * high * noise, scan)  # the background stays empty
    if scan is first:
        return values
    return torch.cat([scan.clamp(0, high)[None], values[1:]])  # as packing clips


def _turned(values: Tensor, changes: Changes, places: Places, shape: Sequence[int]) -> Tensor:
    """Sample a scan, trilinearly, where the affine takes the voxels at `places`; beyond the grid it goes on as at its
    corner voxel (empty background, an unchanged volume)."""
    middle = (np.array(shape) - 1) / 2
    matrix = changes.affine * np.array([[-1.0], [1], [1]]) if changes.mirrored else changes.affine
    axes = [torch.from_numpy(p - m).to(values.device, torch.float32, non_blocking=True) for p, m in zip(places, middle)]
    x, y, z = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
    rows = [(a * x + b * y + c * z + t) / max(m, 0.5) for (a, b, c, t), m in zip(matrix.tolist(), middle)]
    grid = torch.stack(rows[::-1], dim=-1)  # grid_sample wants the last axis first
    outside = values[:, :1, :1, :1]
    sampled = functional.grid_sample((values - outside)[None], grid[None], align_corners=True)
    return sampled[0] + outside


def _bias_field(coefficients: np.ndarray, places: Places, shape: Sequence[int], device: torch.device) -> Tensor:
    """(w, w, w) float32: the exponential of a polynomial in the place."""
    table = np.zeros((DEGREE + 1,) * 3)
    table[tuple(np.array(TERMS).T)] = coefficients
    powers = [np.vander(2 * p / (n - 1) - 1, DEGREE + 1, increasing=True) for p, n in zip(places, shape)]
    table, x, y, z = (torch.from_numpy(a).to(device, torch.float32, non_blocking=True) for a in (table, *powers))
    return torch.exp(torch.einsum("ijk,xi,yj,zk->xyz", table, x, y, z))
