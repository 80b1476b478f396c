"""Batches of training views, an epoch at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from elr_mri import config
from elr_mri.learning.dataset import ScanSet, Standardise, Views, draw_epoch, look


@dataclass(frozen=True)
class Batch:
    rows: Tensor
    volumes: Tensor
    ages: Tensor
    labels: Tensor


class Feed:
    def __init__(
        self,
        scans: ScanSet,
        standardise: Standardise,
        *,
        batch_size: int,
        crop: int,
        shift_max: int | None,
        blur_sigma_max: float,
        augment: config.Augment,
        device: torch.device,
        resident: bool | Literal["auto"] = "auto",
    ):
        self.scans, self.standardise, self.device, self.crop = scans, standardise, device, crop
        self.drawing = {
            "batch_size": batch_size,
            "crop": crop,
            "shift_max": shift_max,
            "blur_sigma_max": blur_sigma_max,
        }

    def __len__(self) -> int:
        return math.ceil(len(self.scans) / self.drawing["batch_size"])

    def epoch(self, *, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        shape = self.scans.row_shape[-3:]
        drawn = draw_epoch(len(self.scans), shape, seed=seed, epoch=epoch, **self.drawing)
        for number, (places, views) in enumerate(drawn):
            if number < start:
                continue
            here = np.array_split(np.arange(len(places)), world)[rank]
            places, views = places[here], Views(views.offsets[here], views.sigmas[here])
            rows = torch.from_numpy(places)
            volumes = look(self.standardise(self.scans.read(places).to(self.device)), views, self.crop)
            labels, ages = self.scans.labels[rows], self.scans.ages_years[rows]
            yield Batch(rows.to(self.device), volumes, ages.to(self.device), labels.to(self.device))
