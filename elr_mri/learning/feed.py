"""What the training loop is fed: every scan once an epoch, in random order, each in a new random view.

Everything random about a batch is a function of (seed, epoch, batch), so a resumed run needs no generator state, may
start anywhere in an epoch, and several processes see their shares of the same batches.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from elr_mri.config import Augment
from elr_mri.errors import BadInput
from elr_mri.imaging.packed import MAPPINGS, MAX_INTENSITY, by_channel
from elr_mri.learning.dataset import ScanSet
from elr_mri.learning.standardise import Standardise, extremes
from elr_mri.learning.views import Scratch, View, cut, draw, look

#: Packed scans are held on a GPU when they take no more than this share of its free memory; the network needs the rest.
RESIDENT_SHARE = 0.5


@dataclass(frozen=True)
class Batch:
    """What one step is trained on, on the device.

    Attributes
    ----------
    rows : (batch,) int64, positions in the training set
    volumes : (batch, n_channels, crop, crop, crop) float32, RAS+, standardised
    ages : (batch,) float32, years
    labels : (batch,) int64
    n_scans : int
        Scans of the batch in all processes together.
    """

    rows: Tensor
    volumes: Tensor
    ages: Tensor
    labels: Tensor
    n_scans: int


class Feed:
    """Random views of a set of scans, batch by batch.

    Parameters
    ----------
    scans : ScanSet
        The training scans.
    standardise : Standardise
        Fitted; on `device`.
    batch_size : int
        Scans per step, of all processes together. Batches hold as many or a few less, within one of each other: batch norm has
        no variance of a single left-over scan.
    crop : int, voxels
    shift_max : int or None, voxels
        Largest distance of a crop from the centre; None is anywhere.
    blur_sigma_max : float, voxels
    augment : Augment
    device : device
        Where the views are computed.
    resident : bool or "auto"
        Whether all packed scans are held on the device; auto: on a GPU where they fit. Else they are read from the memory
        map a batch ahead.
    """

    def __init__(
        self,
        scans: ScanSet,
        standardise: Standardise,
        *,
        batch_size: int,
        crop: int,
        shift_max: int | None,
        blur_sigma_max: float,
        augment: Augment,
        device: torch.device,
        resident: bool | Literal["auto"] = "auto",
    ):
        self.standardise, self.batch_size, self.crop = standardise, batch_size, crop
        self.device, self.shape = torch.device(device), scans.row_shape[-3:]
        self.drawing = {
            "crop": crop,
            "shift_max": shift_max,
            "blur_sigma_max": blur_sigma_max,
            "augment": augment,
            "spacing_mm": scans.meta.get("spacing_mm", 1.0),
        }
        scale = MAPPINGS["T1w"][str(scans.volumes.dtype)]["scale"]
        self.unit = (scale, scale * MAX_INTENSITY)
        self.labels, self.ages = scans.labels.to(self.device), scans.ages_years.to(self.device)
        self.stored, self.places = scans.volumes, scans.table["row"].to_numpy(dtype=int)
        self.extremes = self._find_extremes() if standardise.kind == "scan" else None
        self.resident = self._fits() if resident == "auto" else resident
        self.held = self._hold() if self.resident else None
        mapped = isinstance(self.stored, np.memmap) and not self.resident and hasattr(os, "posix_fadvise")
        self.file = open(self.stored.filename, "rb") if mapped else None  # noqa: SIM115 (as long as the memory map)
        self.scratch = Scratch() if self.device.type == "cpu" else None

    def __len__(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self.places) / self.batch_size)

    def epoch(self, *, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on; of each the share of process `rank` of `world`.

        The views are those of the whole batch, whatever `start`, `rank` and `world`, so that the shares of all processes together
        are the batch of a single one.
        """
        order = np.random.default_rng([seed, epoch]).permutation(len(self.places))
        batches = np.array_split(order, len(self))
        if world > min(map(len, batches)):
            raise BadInput(
                expected=f"a train.batch_size of at least {world} scans, one for each process",
                got=f"batches of {min(map(len, batches))}",
                where="train.batch_size",
                fix="Raise it, or start fewer processes.",
            )
        wanted = (
            self._share(rows, np.random.default_rng([seed, epoch, number + 1]), rank, world)
            for number, rows in enumerate(batches)
            if number >= start
        )
        ready = _ahead(self._read(wanted), self.device.type == "cuda" and not self.resident)
        for whole, (rows, views, pieces) in zip(batches[start:], ready, strict=True):
            yield self._look(rows, views, pieces, len(whole))

    def _share(
        self, rows: np.ndarray, rng: np.random.Generator, rank: int, world: int
    ) -> tuple[np.ndarray, list[View]]:
        """Draw the views of a batch and keep the share of one process."""
        views = draw(rng, len(rows), self.shape, **self.drawing)
        mine = np.array_split(np.arange(len(rows)), world)[rank]
        return rows[mine], [views[i] for i in mine]

    def _read(
        self, wanted: Iterable[tuple[np.ndarray, list[View]]]
    ) -> Iterator[tuple[np.ndarray, list[View], list[np.ndarray | Tensor]]]:
        """Add to each batch the packed values that its views need."""
        wanted = iter(wanted)
        following = next(wanted, None)
        while following is not None:
            (rows, views), following = following, next(wanted, None)
            if following is not None:
                self._will_need(following[0])
            yield rows, views, [self._piece(row, view) for row, view in zip(rows, views)]

    def _will_need(self, rows: np.ndarray) -> None:
        """Let the system read scans of the next batch from the disk while this one is worked on."""
        if self.file is not None:
            for place in self.places[rows]:
                start = self.stored.offset + int(place) * self.stored[0].nbytes
                os.posix_fadvise(self.file.fileno(), start, self.stored[0].nbytes, os.POSIX_FADV_WILLNEED)

    def _piece(self, row: int, view: View) -> np.ndarray | Tensor:
        """The packed values of one scan that its view needs; for a GPU pinned, so that they travel beside its work."""
        if self.held is not None:
            return cut(self.held[row], view, self.crop)
        piece = cut(by_channel(self.stored[self.places[row]]), view, self.crop)
        return torch.from_numpy(piece.copy()).pin_memory() if self.device.type == "cuda" else piece

    def _look(self, rows: np.ndarray, views: list[View], pieces: list[np.ndarray | Tensor], n_scans: int) -> Batch:
        """Compute the views of a share of a batch of `n_scans`."""
        volumes = torch.empty(len(rows), len(pieces[0]), *(self.crop,) * 3, device=self.device)
        for row, view, piece, out in zip(rows, views, pieces, volumes):
            piece = piece.to(self.device, non_blocking=True) if isinstance(piece, Tensor) else piece
            told = None if self.extremes is None else self.extremes[row]
            options = {"shape": self.shape, "extremes": told, "unit": self.unit, "scratch": self.scratch, "out": out}
            look(piece, view, self.crop, self.standardise, **options)
        rows = torch.from_numpy(rows).to(self.device, non_blocking=True)
        return Batch(rows, volumes, self.ages[rows], self.labels[rows], n_scans)

    def _find_extremes(self) -> Tensor:
        """(n_scans, 2, n_channels, 1, 1, 1) float32: of every scan, once for the whole run."""
        found = [extremes(torch.from_numpy(by_channel(self.stored[row]).copy())) for row in self.places]
        return torch.stack(found).to(self.device, torch.float32)

    def _fits(self) -> bool:
        """Whether the device is a GPU with room for all packed scans."""
        if self.device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        return len(self.places) * self.stored[0].nbytes <= RESIDENT_SHARE * free

    def _hold(self) -> Tensor:
        """(n_scans, n_channels, X, Y, Z) packed values of all scans, on the device."""
        shape = (len(self.places), *by_channel(self.stored[0]).shape)
        held = torch.empty(shape, dtype=torch.from_numpy(self.stored[:1].copy()).dtype, device=self.device)
        for place, row in enumerate(self.places):
            held[place] = torch.from_numpy(by_channel(self.stored[row]).copy())
        return held


def _ahead(items: Iterator, wanted: bool) -> Iterator:
    """The same items, each made by another thread while its predecessor is in use, where `wanted`."""
    if not wanted:
        yield from items
        return
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = reader.submit(next, items, None)
            yield item
