"""Packed values to what a network sees, and cutting windows from a grid."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from elr_mri.learning.dataset import ScanSet

#: A voxel whose standard deviation over the training scans is below this share of the mean one holds no information.
FLOOR = 0.1

#: Voxels along each axis of a grid, which need not follow each other.
Places = tuple[np.ndarray, np.ndarray, np.ndarray]


class Standardise(nn.Module):
    """Packed values to what a network sees, each channel by itself; its statistics travel with the model's weights.

    Parameters
    ----------
    kind : "scan" or "voxel"
        `scan` maps each channel of a scan to [0, 1] by its own extremes, as the reference. `voxel` subtracts the training
        mean of each voxel and divides by its standard deviation: affinely aligned brains are nearly alike, and
        this leaves what differs. Voxels that hardly vary (background) become 0.
    shape : (X, Y, Z) or (n_channels, X, Y, Z) of a packed scan
    """

    def __init__(self, kind: Literal["scan", "voxel"], shape: tuple[int, ...]):
        super().__init__()
        self.kind = kind
        if kind == "voxel":
            self.register_buffer("centre", torch.zeros(shape))
            self.register_buffer("scale", torch.ones(shape))

    @torch.no_grad()
    def fit(self, scans: ScanSet) -> None:
        """Take the statistics from `scans` (the training scans), one volume at a time."""
        if self.kind == "scan":
            return
        total, squares = (
            torch.zeros(self.centre.shape, dtype=torch.float64),
            torch.zeros(self.centre.shape, dtype=torch.float64),
        )
        for place in range(len(scans)):
            volume = scans.read(np.array([place]))[0].double().view(total.shape)
            total += volume
            squares += volume**2
        mean = total / len(scans)
        deviation = (squares / len(scans) - mean**2).clamp_min(0).sqrt()
        floor = FLOOR * _mean_of_varying(deviation)
        self.centre.copy_(mean)
        self.scale.copy_(torch.where(deviation > floor, 1 / deviation.clamp_min(1e-12), 0.0))

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, n_channels, X, Y, Z) packed values → float32 of the same shape."""
        whole = tuple(np.arange(n) for n in volumes.shape[-3:])
        return self.window(volumes.float(), whole, extremes(volumes))

    def window(self, values: Tensor, places: Places, extremes: Tensor | None, *, out: Tensor | None = None) -> Tensor:
        """Standardise what was cut from packed scans.

        Parameters
        ----------
        values : (..., n_channels, x, y, z) float32, packed values
        places : three int arrays, (x,), (y,), (z,)
            Where on the packed grid the values stand.
        extremes : (2, ..., n_channels, 1, 1, 1)
            Lowest and highest value of each channel of the whole scans; `voxel` does not look at them.
        out : like values, or None
            Where the result is to be put.
        """
        if self.kind == "voxel":
            return torch.sub(values, take(self.centre, places), out=out).mul_(take(self.scale, places))
        low, high = extremes.float()
        return torch.sub(values, low, out=out).div_((high - low).clamp_min(1e-6))

    def informative(self) -> Tensor | None:
        """(X, Y, Z) or (n_channels, X, Y, Z) bool: the voxels that can reach the network; None where all can."""
        return self.scale > 0 if self.kind == "voxel" else None


def _mean_of_varying(deviation: Tensor) -> Tensor:
    """Mean of each channel's voxels that vary at all, to be broadcast over (X, Y, Z) or (n_channels, X, Y, Z)."""
    varying = deviation > 0
    total, n = deviation.sum(dim=(-3, -2, -1), keepdim=True), varying.sum(dim=(-3, -2, -1), keepdim=True)
    return total / n.clamp_min(1)


def extremes(volumes: Tensor) -> Tensor:
    """(2, ..., n_channels, 1, 1, 1): lowest and highest value of each channel of (..., n_channels, X, Y, Z)."""
    flat = volumes.flatten(-3)
    return torch.stack([flat.amin(dim=-1), flat.amax(dim=-1)])[..., None, None, None]


def take(values: np.ndarray | Tensor, places: Places) -> np.ndarray | Tensor:
    """The voxels at `places` along each of the last three axes; a view of the same memory where they follow each other."""
    window = tuple(slice(int(place.min()), int(place.max()) + 1) for place in places)
    values = values[(..., *window)]
    for axis, place in zip((-3, -2, -1), places):
        if (np.diff(place) == 1).all():
            continue
        place = place - place.min()
        if isinstance(values, Tensor):
            values = values.index_select(
                values.ndim + axis, torch.from_numpy(place).to(values.device, non_blocking=True)
            )
        else:
            values = values.take(place, axis=axis)
    return values
