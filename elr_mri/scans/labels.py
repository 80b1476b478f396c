"""Given labels that take the place of a scan table's: what a noisy-label experiment trains on, with the labels before."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES, SPLITS

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
    """The scans with the diagnoses given at `path` where it names them; test and external scans among those are refused."""
    labels = LABELS.read(path)
    judged = labels.loc[labels["split"].isin(["test", "external"]), "scan_id"]
    if len(judged):
        raise BadInput(
            expected="labels of training and validation scans",
            got=f"one of {judged.iloc[0]}, by which models are judged",
            where=str(path),
            fix="Leave test and external scans out.",
        )
    given = table["scan_id"].map(labels.set_index("scan_id")["given"])
    return table.assign(diagnosis=given.fillna(table["diagnosis"]))
