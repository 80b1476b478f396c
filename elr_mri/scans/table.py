"""The scan table and its companions: the contract between downloads and everything after.

`scans.tsv` names every kept scan; `exclusions.tsv` every image found and not kept, with a
reason (found = kept + excluded, always); `visits.tsv` every clinical visit, scanned or not;
`notes.tsv` what a person should look at, such as two tables that disagree on a diagnosis;
`splits.tsv` the one split of every subject.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.scans.schema import Column, Schema

#: The classes, in the order of every probability vector: cognitively normal, mild impairment, Alzheimer's disease.
CLASSES = ("CN", "MCI", "AD")
SPLITS = ("train", "val", "test", "external")
#: What stands for a split where a scan takes no part: published split tables were given that do not list it.
UNUSED = "unused"
#: Where a scan may stand.
PARTS = (*SPLITS, UNUSED)

SCANS = Schema(
    name="scan",
    version=1,
    key=("scan_id",),
    columns=(
        Column("scan_id", names_files=True),
        Column("cohort"),
        Column("subject_id", names_files=True),
        Column("session_id"),
        Column("months", "number", low=0, high=600),
        Column("age_years", "number", low=18, high=120),
        Column("sex", required=False, allowed=("F", "M")),
        Column("diagnosis", allowed=CLASSES),
        Column("image_path"),
        Column("image_uid", required=False),
        Column("field_strength_t", "number", required=False, low=0.01, high=12),
        Column("manufacturer", required=False),
        Column("site", required=False),
        Column("mmse", "number", required=False, low=0, high=30),
        Column("cdr_global", "number", required=False, low=0, high=3),
        Column("apoe4", "number", required=False, low=0, high=2),
        Column("hippocampus_mm3", "number", required=False, low=0),
        Column("entorhinal_mm3", "number", required=False, low=0),
        Column("icv_mm3", "number", required=False, low=0),
    ),
)

EXCLUSIONS = Schema(
    name="exclusion",
    version=1,
    key=("cohort", "image_path", "image_uid"),
    columns=(
        Column("cohort"),
        Column("subject_id", required=False),
        Column("image_path"),
        Column("image_uid", required=False),
        Column("reason"),
        Column("detail", required=False),
    ),
)

VISITS = Schema(
    name="visit",
    version=1,
    key=("cohort", "subject_id", "months"),
    columns=(
        Column("cohort"),
        Column("subject_id"),
        Column("months", "number", low=0, high=600),
        Column("age_years", "number", required=False, low=18, high=120),
        Column("diagnosis", required=False, allowed=CLASSES),
    ),
)

NOTES = Schema(
    name="note",
    version=1,
    key=("cohort", "subject_id", "months", "note"),
    columns=(Column("cohort"), Column("subject_id"), Column("months", "number", low=0, high=600), Column("note")),
)

SPLIT = Schema(
    name="split",
    version=1,
    key=("cohort", "subject_id"),
    columns=(
        Column("cohort"),
        Column("subject_id"),
        Column("split", allowed=PARTS),
        Column("fold", "integer", required=False, low=0),
        # Published splits list scans: the subject's sessions that take part (`ses-M000 ses-M006`; blank: all), with the
        # published diagnosis where that is to be used (`ses-M000=CN`).
        Column("sessions", required=False, may_lack=True),
    ),
)


def read_scans(path: Path | str) -> pd.DataFrame:
    """Read `scans.tsv`; an empty table is refused, because no later step can mean anything on it."""
    scans = SCANS.read(path)
    if scans.empty:
        raise BadInput(
            expected="at least one scan",
            got="an empty table",
            where=str(path),
            fix="See exclusions.tsv beside it for the reason of every image that was found.",
        )
    return scans


def join_splits(scans: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """The scans with their `split`, that of their subject; raises `BadInput` where a subject has none.

    A scan that takes no part (see `SPLIT`) has split `UNUSED`: count it, and do nothing else with it.
    """
    columns = [name for name in ("cohort", "subject_id", "split", "sessions") if name in splits]
    joined = scans.merge(splits[columns], on=["cohort", "subject_id"], how="left", validate="m:1")
    lost = joined.loc[joined["split"].isna(), "subject_id"]
    if len(lost):
        raise BadInput(
            expected="a split for every subject",
            got=f"none for {lost.iloc[0]} and {lost.nunique() - 1} more",
            where="splits.tsv",
            fix="Run `elr-mri split` on this scan table.",
        )
    return _listed_sessions(joined) if "sessions" in joined else joined


def _listed_sessions(joined: pd.DataFrame) -> pd.DataFrame:
    """Scans of sessions that are not listed take no part; a diagnosis listed with a session replaces the scan's."""
    for row, session, told in zip(joined.index, joined["session_id"], joined["sessions"], strict=True):
        if not isinstance(told, str):
            continue
        listed = dict(part.partition("=")[::2] for part in told.split())
        if session not in listed:
            joined.loc[row, "split"] = UNUSED
        elif listed[session]:
            joined.loc[row, "diagnosis"] = listed[session]
    return joined.drop(columns="sessions")
