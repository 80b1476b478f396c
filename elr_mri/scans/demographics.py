"""Subjects and scans by split and class: the talk's table.

A subject whose diagnosis changes is counted in each of its classes, so the classes of a split add up to more than
its unique subjects, which stand in the row `all`. Ages are those at the scans.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from elr_mri import config, provenance
from elr_mri.errors import BadInput
from elr_mri.scans import published
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES, PARTS, SPLIT, join_splits, read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["demographics"]

DEMOGRAPHICS = Schema(
    name="demographics",
    version=1,
    key=("cohort", "split", "diagnosis"),
    columns=(
        Column("cohort"),
        Column("split", allowed=PARTS),
        Column("diagnosis", allowed=(*CLASSES, "all")),
        Column("subjects", "integer", low=0),
        Column("scans", "integer", low=0),
        Column("age_mean_years", "number", required=False),
        Column("age_sd_years", "number", required=False),
        Column("female_share", "number", required=False, low=0, high=1),
    ),
)


def demographics(scans_path: Path, splits_path: Path, output: Path) -> None:
    """Write the table of subjects, scans, age and sex by cohort, split and class."""
    table = count(join_splits(read_scans(scans_path), SPLIT.read(splits_path)))
    DEMOGRAPHICS.write(table, output)
    inputs = {str(path): provenance.digest_file(path) for path in (scans_path, splits_path)}
    provenance.record(output, step="demographics", version=VERSION, inputs=inputs, settings={})


def demographics_of_published(tables: config.Published, output: Path) -> None:
    """Write the same table from published split tables alone; scans that they list without a diagnosis are not counted."""
    listed = published.read_listed(tables)
    blank = listed["diagnosis"].isna()
    for split, path in published.tables(tables).items():
        if blank[listed["split"] == split].all():
            raise BadInput(
                expected="a column diagnosis with CN, MCI or AD",
                got="none",
                where=path,
                fix="Give the table that holds the diagnoses.",
            )
    if blank.any():
        told = ", ".join(f"{n} {split}" for split, n in listed.loc[blank, "split"].value_counts(sort=False).items())
        print(f"demographics: {int(blank.sum())} listed scans without a diagnosis are not counted ({told})")
    DEMOGRAPHICS.write(count(listed[~blank].assign(cohort="published")), output)
    inputs = {path: provenance.digest_file(path) for path in published.tables(tables).values()}
    provenance.record(output, step="demographics", version=VERSION, inputs=inputs, settings={})


def count(scans: pd.DataFrame) -> pd.DataFrame:
    """The demographic table of scans that have their split."""
    rows = []
    for cohort in sorted(scans["cohort"].unique()):
        for split in PARTS:
            group = scans[(scans["cohort"] == cohort) & (scans["split"] == split)]
            if len(group):
                rows += [_row(cohort, split, name, group[group["diagnosis"] == name]) for name in CLASSES]
                rows.append(_row(cohort, split, "all", group))
    return pd.DataFrame(rows, columns=[column.name for column in DEMOGRAPHICS.columns])


def _row(cohort: str, split: str, diagnosis: str, scans: pd.DataFrame) -> dict:
    """One line; the female share is of the subjects whose sex is known."""
    sexes = scans.drop_duplicates("subject_id")["sex"].dropna()
    return {
        "cohort": cohort,
        "split": split,
        "diagnosis": diagnosis,
        "subjects": scans["subject_id"].nunique(),
        "scans": len(scans),
        "age_mean_years": scans["age_years"].mean(),
        "age_sd_years": scans["age_years"].std(),
        "female_share": (sexes == "F").mean() if len(sexes) else None,
    }
