"""A plain table of scans, TSV or CSV, with at least image_path, subject_id, age_years and diagnosis.

Other columns are those of `written.FACTS`, and session_id (`ses-M006`). A relative image_path is relative to the
table. Without session_id and months, the months of a subject's scans are told from their ages.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from elr_mri.config import Cohort, Ingest
from elr_mri.errors import BadInput
from elr_mri.scans.cohort import Found, keep_one_per_visit, mark, no_notes, refuse_empty
from elr_mri.scans.download import read_table
from elr_mri.scans.imagepath import split_member
from elr_mri.scans.written import FACTS, complete

#: What is read from the table (our name -> the column's names), and what it is of no use without.
COLUMNS = {
    "image_path": ["image_path", "path", "filename", "file"],
    "participant": ["subject_id", "participant_id"],
    "session": ["session_id"],
    "image_uid": ["image_uid"],
    **FACTS,
}
REQUIRED = ("image_path", "participant", "age", "diagnosis")


def read(cohort: Cohort, settings: Ingest) -> Found:
    """Read a table of scans; see `cohort.Found`. `settings` is not needed: a row is its own visit."""
    del settings
    path = Path(cohort.path)
    if not path.is_file():
        raise BadInput(
            expected="a table of scans",
            got="a folder" if path.is_dir() else "no such file",
            where=str(path),
            fix="Check this cohort's `path` and `format` in the config.",
        )
    images = (
        read_table(path, COLUMNS, required=REQUIRED).astype(object).dropna(how="all")
    )  # spreadsheets leave blank rows
    images = images.where(images.notna(), None)
    refuse_empty(images, where=str(path))
    images = images.assign(file=str(path), line=[str(i + 2) for i in images.index], reason=None, detail=None)
    images = images.reset_index(drop=True)
    _check_keys(images)
    images["image_path"] = [str(path.parent / p) for p in images["image_path"]]
    there = images["image_path"].map(lambda p: os.path.exists(split_member(p)[0]))
    mark(images, ~there.astype(bool), "missing-file")
    images["session"] = images["session"].where(images["session"].notna(), "row " + images["line"])
    visits = complete(images, images.drop_duplicates(["participant", "session"]), cohort)
    keep_one_per_visit(images, [])
    return Found(images, visits, no_notes(), (path,))


def _check_keys(images: pd.DataFrame) -> None:
    """Every row names a subject and an image, and no image stands in two rows."""
    for name in ("participant", "image_path"):
        if images[name].isna().any():
            row = images[images[name].isna()].iloc[0]
            raise BadInput(
                expected="a value",
                got="a blank",
                where=f"{row['file']}, column {COLUMNS[name][0]}, row {row['line']}",
                fix="Fill it in or remove the row.",
            )
    twice = images[images["image_path"].duplicated()]
    if len(twice):
        row = twice.iloc[0]
        raise BadInput(
            expected="one row for each image_path",
            got=f"{row['image_path']} again",
            where=f"{row['file']}, row {row['line']}",
            fix="Remove the repeated row.",
        )
