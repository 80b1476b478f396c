"""From the packed cache to batches: which scans, how standardised, and each epoch's random views of them.

The cache stays on disk as one array (a memory map); a batch is read, standardised, and cut and
blurred in one operation, by three small matrices (one per axis), which costs a hundredth of a step.
Everything random about an epoch is a function of (seed, epoch), so a resumed run needs no generator state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from elr_mri.errors import BadInput
from elr_mri.imaging.packed import Cache
from elr_mri.scans.table import CLASSES, SPLIT, UNUSED, join_splits, read_scans

#: A voxel whose standard deviation over the training scans is below this share of the mean one holds no information.
FLOOR = 0.1


@dataclass(frozen=True)
class ScanSet:
    """Packed scans with what is known of them.

    Attributes
    ----------
    table : DataFrame
        One line per scan, in the scan table's order: row (in `volumes`), sha256 of that row, label (0 CN, 1 MCI, 2 AD), split, and the columns of scans.tsv.
    volumes : (N, X, Y, Z) or (N, n_channels, X, Y, Z), uint8 or float16, RAS+, template grid
        The whole cache; `table.row` points into it.
    meta : dict
        The cache's `meta.json`.
    """

    table: pd.DataFrame
    volumes: np.ndarray
    meta: dict[str, Any]

    def of(self, *splits: str) -> ScanSet:
        """The scans of some splits, in the same order."""
        return ScanSet(self.table[self.table["split"].isin(splits)].reset_index(drop=True), self.volumes, self.meta)

    def part(self, lines: slice) -> ScanSet:
        """Some lines of the table, in the same order."""
        return ScanSet(self.table.iloc[lines].reset_index(drop=True), self.volumes, self.meta)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(X, Y, Z) of one packed scan, or (n_channels, X, Y, Z)."""
        return self.volumes.shape[1:]

    @property
    def labels(self) -> Tensor:
        """(n_scans,) int64."""
        return torch.tensor(self.table["label"].to_numpy())

    @property
    def ages_years(self) -> Tensor:
        """(n_scans,) float32."""
        return torch.tensor(self.table["age_years"].to_numpy(), dtype=torch.float32)

    def read(self, places: np.ndarray) -> Tensor:
        """(len(places), n_channels, X, Y, Z) packed values of some lines of the table."""
        stored = self.volumes[self.table["row"].to_numpy(dtype=int)[places]]
        return torch.from_numpy(stored.reshape(len(stored), -1, *stored.shape[-3:]))


def read_scan_set(cache_dir: Path | str, scans_path: Path | str, splits_path: Path | str) -> ScanSet:
    """Every packed scan that takes part, with its line of scans.tsv and its split.

    In the order of the scan table: that of the cache's rows depends on when which scan was packed.
    """
    cache = Cache.read(cache_dir)
    index = cache.index[["row", "scan_id", "sha256"]]
    scans = join_splits(read_scans(scans_path), SPLIT.read(splits_path))
    lost = index.loc[~index["scan_id"].isin(scans["scan_id"]), "scan_id"]
    if len(lost):
        raise BadInput(
            expected="packed scans that the scan table names",
            got=f"{lost.iloc[0]} and {len(lost) - 1} more",
            where=str(cache_dir),
            fix="Pack again from this scan table.",
        )
    table = scans.merge(index, on="scan_id", validate="1:1")
    table = table[table["split"] != UNUSED].reset_index(drop=True)
    table["label"] = table["diagnosis"].map(CLASSES.index)
    return ScanSet(table, cache.volumes, cache.meta)


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
        volumes = volumes.float()
        if self.kind == "voxel":
            return (volumes - self.centre) * self.scale
        low, high = volumes.amin(dim=(2, 3, 4), keepdim=True), volumes.amax(dim=(2, 3, 4), keepdim=True)
        return (volumes - low) / (high - low).clamp_min(1e-6)

    def informative(self) -> Tensor | None:
        """(X, Y, Z) or (n_channels, X, Y, Z) bool: the voxels that can reach the network; None where all can."""
        return self.scale > 0 if self.kind == "voxel" else None


def _mean_of_varying(deviation: Tensor) -> Tensor:
    """Mean of each channel's voxels that vary at all, to be broadcast over (X, Y, Z) or (n_channels, X, Y, Z)."""
    varying = deviation > 0
    total, n = deviation.sum(dim=(-3, -2, -1), keepdim=True), varying.sum(dim=(-3, -2, -1), keepdim=True)
    return total / n.clamp_min(1)


@dataclass(frozen=True)
class Views:
    """How each scan of a batch is looked at: `offsets` (batch, 3) int, voxels; `sigmas` (batch,) float, voxels."""

    offsets: np.ndarray
    sigmas: np.ndarray


def centred(batch: int, shape: tuple[int, ...], crop: int) -> Views:
    """The view of evaluation: the central crop, not blurred."""
    return Views(np.tile([(n - crop) // 2 for n in shape], (batch, 1)), np.zeros(batch))


def draw_views(
    rng: np.random.Generator,
    batch: int,
    shape: tuple[int, ...],
    *,
    crop: int,
    shift_max: int | None,
    blur_sigma_max: float,
) -> Views:
    """Random views: crops within `shift_max` voxels of the centre (None: anywhere), blur of σ ~ U(0, maximum)."""
    room = np.array(shape) - crop
    middle = room // 2
    reach = room if shift_max is None else np.full(3, shift_max)
    low, high = np.maximum(middle - reach, 0), np.minimum(middle + reach, room)
    return Views(rng.integers(low, high + 1, size=(batch, 3)), rng.uniform(0, blur_sigma_max, size=batch))


def look(volumes: Tensor, views: Views, crop: int) -> Tensor:
    """Crop and blur in one: each axis is multiplied by a (crop, n) matrix of Gaussian weights.

    Parameters
    ----------
    volumes : (batch, n_channels, X, Y, Z) float32

    Returns
    -------
    (batch, n_channels, crop, crop, crop) float32, every channel of a scan seen alike. A Gaussian is cut at 4 σ and sums to 1, also at the border; σ = 0 only cuts.
    """
    batch, _, *shape = volumes.shape
    for axis, n in enumerate(shape):
        weights = _window(views.offsets[:, axis], views.sigmas, crop, n).to(volumes.device)
        lines = volumes.movedim(axis + 2, 1)
        volumes = (
            torch.bmm(weights, lines.reshape(batch, n, -1)).view(batch, crop, *lines.shape[2:]).movedim(1, axis + 2)
        )
    return volumes


def _window(offsets: np.ndarray, sigmas: np.ndarray, crop: int, n: int) -> Tensor:
    """(batch, crop, n) float32: weight of input voxel j for output voxel i, a Gaussian around offset + i."""
    distance = np.arange(n)[None, None] - (np.arange(crop)[None, :, None] + offsets[:, None, None])
    sigma = np.maximum(sigmas, 1e-3)[:, None, None]
    weights = np.exp(-0.5 * (distance / sigma) ** 2) * (np.abs(distance) <= np.floor(4 * sigma + 0.5))
    return torch.from_numpy((weights / weights.sum(axis=2, keepdims=True)).astype(np.float32))


def draw_epoch(
    n_scans: int,
    shape: tuple[int, ...],
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    crop: int,
    shift_max: int | None,
    blur_sigma_max: float,
) -> Iterator[tuple[np.ndarray, Views]]:
    """Every scan once, in random order: (places (batch,) in the scan set, their views) for each batch.

    Batches hold `batch_size` scans or a few less, within one of each other: batch norm has no variance of a single
    left-over scan.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(n_scans)
    for places in np.array_split(order, math.ceil(n_scans / batch_size)):
        yield places, draw_views(rng, len(places), shape, crop=crop, shift_max=shift_max, blur_sigma_max=blur_sigma_max)
