"""What a network said of every training scan while it learnt: whether it memorizes, and which labels it never believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from elr_mri.provenance import atomic
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES

TARGETS = Schema(
    name="target",
    version=1,
    key=("scan_id",),
    columns=(
        Column("scan_id"),
        Column("cohort"),
        Column("subject_id"),
        Column("given", allowed=CLASSES),
        *(Column(f"t_{c.lower()}", "number", low=0, high=1.001) for c in CLASSES),
    ),
)


class Trajectory(nn.Module):
    """What was said of each training scan in each epoch, at the step that it was trained on; kept in the training state.

    `said` (n_epochs, n_scans, n_classes) float32: probabilities by the network that predicts; by its averaged weights where it sees mixtures of scans only (`Objective.voice`).
    """

    def __init__(self, n_epochs: int, n_scans: int, n_classes: int):
        super().__init__()
        self.register_buffer("said", torch.zeros(n_epochs, n_scans, n_classes))

    @torch.no_grad()
    def add(self, epoch: int, rows: Tensor, logits: Tensor) -> None:
        """Record a batch: rows (batch,), logits (batch, n_classes)."""
        self.said[epoch, rows] = functional.softmax(logits.float(), dim=1)


def write_trajectory(folder: Path, scans: pd.DataFrame, said: Tensor, targets: Tensor) -> None:
    """Write `targets.tsv`, the targets (n_scans, n_classes) at the end, and `trajectory.npy`, said (n_epochs, n_scans, n_classes)."""
    table = scans[["scan_id", "cohort", "subject_id"]].assign(given=scans["diagnosis"])
    for name, column in zip(CLASSES, targets.cpu().double().numpy().T, strict=True):
        table[f"t_{name.lower()}"] = column.round(6)
    with atomic(folder / "trajectory.npy") as draft, draft.open("wb") as file:
        np.save(file, said.cpu().numpy())
    TARGETS.write(table, folder / "targets.tsv")


def read_trajectory(folder: Path | str) -> tuple[pd.DataFrame, np.ndarray]:
    """The targets at the end, one line per training scan, and what was said (n_epochs, n_scans, n_classes) in the same order."""
    return TARGETS.read(Path(folder) / "targets.tsv"), np.load(Path(folder) / "trajectory.npy", allow_pickle=False)
