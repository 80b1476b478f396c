"""What the phantom study knows of its scans: their true diagnoses, where the scan table may hold wrong ones."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES

#: The columns that are read of the phantom's `truth/visits.tsv`.
TRUTH = Schema(
    name="truth",
    version=1,
    key=("cohort", "subject", "months"),
    columns=(
        Column("cohort"),
        Column("subject"),
        Column("months", "number"),
        Column("true_label", allowed=CLASSES),
    ),
)


def truth_of(scans: pd.DataFrame, path: Path | None) -> pd.Series | None:
    """The true diagnoses by scan_id, where there is a truth to read; says so where the named one is not there."""
    if path is None:
        return None
    if not path.is_file():
        print(f"no truth at {path}: the scan table's diagnoses are taken for true")
        return None
    return true_diagnoses(path, scans).set_axis(scans["scan_id"])


def true_diagnoses(path: Path | str, scans: pd.DataFrame) -> pd.Series:
    """The true diagnosis of each scan, by cohort, subject and months; raises `BadInput` where a scan has none.

    The study's subject `002_S_0001` of ADNI is `sub-ADNI002S0001` in the scan table, and `NACC100001` of NACC is `sub-NACC100001`.
    """
    truth = TRUTH.read(path)
    bare = truth["subject"].str.replace(r"[^A-Za-z0-9]", "", regex=True)
    known = {}
    for prefix in ("sub-" + truth["cohort"], "sub-"):
        visits = zip(truth["cohort"], prefix + bare, truth["months"].astype(float), strict=True)
        known |= dict(zip(visits, truth["true_label"], strict=True))
    keys = zip(scans["cohort"], scans["subject_id"], scans["months"].astype(float), strict=True)
    found = pd.Series([known.get(key) for key in keys], index=scans.index, dtype=object)
    if found.isna().any():
        raise BadInput(
            expected="the true diagnosis of every scan",
            got=f"none of {scans.loc[found.isna(), 'scan_id'].iloc[0]} and {int(found.isna().sum()) - 1} more",
            where=str(path),
            fix="Give the truth/visits.tsv of the phantom study that the scans are from.",
        )
    return found
