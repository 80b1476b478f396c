"""Given labels that take the place of a scan table's: what a noisy-label experiment trains on, with the labels before."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES, SPLITS

#: Scans of these splits keep their diagnoses.
JUDGED = ("test", "external")

LABELS = Schema(
    name="label",
    version=1,
    key=("scan_id",),
    columns=(
        Column("scan_id"),
        Column("cohort"),
        Column("subject_id"),
        Column("split", allowed=SPLITS),
        Column("diagnosis", allowed=CLASSES),  # taken for true
        Column("given", allowed=CLASSES),  # trained on
    ),
)


def replace_labels(table: pd.DataFrame, path: Path | str) -> pd.DataFrame:
    """The scans (with their splits) with the diagnoses given at `path` where it names them; test and external scans among those, by either table, are refused."""
    labels = LABELS.read(path)
    strange = labels.loc[~labels["scan_id"].isin(table["scan_id"]), "scan_id"]
    if len(strange):
        raise BadInput(
            expected="labels of scans of this study",
            got=f"{strange.iloc[0]} and {len(strange) - 1} more that its scan table does not have",
            where=str(path),
            fix="Make the labels from this scan table.",
        )
    splits = labels["scan_id"].map(table.set_index("scan_id")["split"])
    judged = labels.loc[labels["split"].isin(JUDGED) | splits.isin(JUDGED), "scan_id"]
    if len(judged):
        raise BadInput(
            expected="labels of training and validation scans",
            got=f"one of {judged.iloc[0]}, by which models are judged",
            where=str(path),
            fix="Leave test and external scans out.",
        )
    given = table["scan_id"].map(labels.set_index("scan_id")["given"])
    return table.assign(diagnosis=given.fillna(table["diagnosis"]))
