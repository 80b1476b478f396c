"""One process, many scans: which scans a batch holds, the progress line of each, and the batch's status table."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.provenance import alone
from elr_mri.scans.batches import batch_of
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import read_scans

STATES = ("pass", "review", "fail")

STATUS = Schema(
    name="status",
    version=1,
    key=("scan_id",),
    columns=(Column("scan_id"), Column("status", allowed=STATES), Column("reason", required=False)),
)


def members(scans_path: Path | str, batch: str, batches: int) -> pd.DataFrame:
    """The rows of `scans.tsv` in a batch; raises `BadInput` where there is none."""
    scans = read_scans(scans_path)
    mine = scans[[batch_of(subject_id, batches) == batch for subject_id in scans["subject_id"]]]
    if mine.empty:
        raise BadInput(
            expected=f"a batch that holds scans, of {batches or scans['subject_id'].nunique()}",
            got=repr(batch),
            where=str(scans_path),
            fix="Give --batches as it was when the batch was named; with 0 the batch is a subject_id.",
        )
    return mine


def run(scans: pd.DataFrame, step: str, one: Callable[[pd.Series], dict], table: Path) -> None:
    """Call `one` for every row, print a line for each, and write the status table `table`.

    `one` returns a dict with at least scan_id, status and reason.
    """
    with alone(table):
        _run(scans, step, one, table)


def _run(scans: pd.DataFrame, step: str, one: Callable[[pd.Series], dict], table: Path) -> None:
    rows = []
    for k, (_, row) in enumerate(scans.iterrows(), start=1):
        began = time.perf_counter()
        told = one(row)
        rows.append({key: told[key] for key in ("scan_id", "status", "reason")})
        words = f" ({told['reason']})" if told["reason"] else ""
        print(
            f"{step} {k}/{len(scans)} {row.scan_id}: {told['status']}{words}, {time.perf_counter() - began:.1f} s",
            flush=True,
        )
    STATUS.write(pd.DataFrame(rows), table)
