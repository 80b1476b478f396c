"""The packed cache as the learning zone sees it: which scans take part, in which split, and their packed values.

The cache stays on disk as one array (a memory map).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from elr_mri.errors import BadInput
from elr_mri.imaging.packed import Cache
from elr_mri.scans.labels import replace_labels
from elr_mri.scans.table import CLASSES, SPLIT, UNUSED, join_splits, read_scans


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

    def at(self, places: np.ndarray) -> ScanSet:
        """The lines at `places`, in that order."""
        return ScanSet(self.table.iloc[places].reset_index(drop=True), self.volumes, self.meta)

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


def read_scan_set(
    cache_dir: Path | str, scans_path: Path | str, splits_path: Path | str, labels_path: Path | str | None = None
) -> ScanSet:
    """Every packed scan that takes part, with its line of scans.tsv and its split.

    In the order of the scan table: that of the cache's rows depends on when which scan was packed. `labels_path` gives
    diagnoses in place of the scan table's. The hash of every row is checked: a damaged cache is no silent result.
    """
    cache = Cache.read(cache_dir)
    cache.validate()
    index = cache.index[["row", "scan_id", "sha256"]]
    scans = join_splits(read_scans(scans_path), SPLIT.read(splits_path))
    if labels_path is not None:
        scans = replace_labels(scans, labels_path)
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
