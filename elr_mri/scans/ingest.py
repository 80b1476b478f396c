"""Download folders to one scan table, with every image accounted for.

Writes scans.tsv (kept), exclusions.tsv (found and not kept, with the reason), visits.tsv (every clinical visit) and
notes.tsv (what a person should look at). For every cohort found = kept + excluded; it is checked on the written tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from elr_mri import config, provenance
from elr_mri.errors import BadInput
from elr_mri.scans import adni, bids, caps, nacc, plain
from elr_mri.scans.cells import path_cell
from elr_mri.scans.cohort import Found, mark
from elr_mri.scans.duplicates import first_copies
from elr_mri.scans.table import EXCLUSIONS, NOTES, SCANS, VISITS
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["ingest"]

_READERS = {"adni": adni.read, "nacc": nacc.read, "bids": bids.read, "caps": caps.read, "tsv": plain.read}


def ingest(cohorts: Sequence[config.Cohort], settings: config.Ingest, out_dir: Path) -> None:
    """Read all cohorts and write the four tables into `out_dir`; prints one line of accounting for each cohort."""
    out_dir = Path(out_dir)
    _check_cohorts(cohorts)
    found = {cohort.name: _READERS[cohort.format](cohort, settings) for cohort in cohorts}
    images = pd.concat([f.images.assign(cohort=name) for name, f in found.items()], ignore_index=True)
    images["image_path"] = images["image_path"].map(path_cell)
    _check_ids(images)
    _exclude_copies(images)
    images["scan_id"] = images["subject_id"].astype("str") + "_" + images["session_id"].astype("str")
    for cohort in cohorts:
        _account(cohort, images[images["cohort"] == cohort.name], found[cohort.name])
    inputs = {str(path): provenance.digest_file(path) for f in found.values() for path in f.tables}
    inputs["images"] = provenance.digest_json(sorted(images["image_path"]))
    for name, schema, rows in _tables(images, found):
        schema.write(rows, out_dir / name)
        provenance.record(
            out_dir / name,
            step="ingest",
            version=VERSION,
            inputs=inputs,
            settings={
                "ingest": settings.model_dump(mode="json"),
                "cohorts": [c.model_dump(mode="json") for c in cohorts],
            },
        )


def _exclude_copies(images: pd.DataFrame) -> None:
    """Of byte-identical images keep the one of the earliest visit, cohorts in the order of the config, in place."""
    kept = images[images["reason"].isna()]
    order = (
        kept.assign(place=pd.factorize(kept["cohort"])[0])
        .sort_values(["place", "months", "subject_id"], kind="stable")
        .index
    )
    for later, first in first_copies(images.loc[order, "image_path"].tolist()).items():
        mark(
            images, images.index == order[later], "duplicate-image", "same as " + images.loc[order[first], "image_path"]
        )


def _tables(images: pd.DataFrame, found: dict[str, Found]) -> list[tuple]:
    """Name, schema and rows of the four tables."""
    kept, excluded = images[images["reason"].isna()], images[images["reason"].notna()]
    absent = [c.name for c in SCANS.columns if c.name not in images.columns]
    visits = pd.concat([f.visits.assign(cohort=name) for name, f in found.items()], ignore_index=True)
    visits["age_years"] = visits["age_years"].where(visits["age_years"].between(18, 120))
    visits = visits[visits["months"].between(0, 600)].drop_duplicates(["cohort", "subject_id", "months"])
    notes = pd.concat([f.notes.assign(cohort=name) for name, f in found.items()], ignore_index=True)
    return [
        ("scans.tsv", SCANS, kept.assign(**dict.fromkeys(absent)).sort_values("scan_id")),
        ("exclusions.tsv", EXCLUSIONS, excluded.sort_values(["cohort", "image_path"])),
        ("visits.tsv", VISITS, visits.sort_values(["cohort", "subject_id", "months"])),
        ("notes.tsv", NOTES, notes.sort_values(["cohort", "subject_id", "months"])),
    ]


def _check_cohorts(cohorts: Sequence[config.Cohort]) -> None:
    """At least one cohort, each under its own name."""
    names = [cohort.name for cohort in cohorts]
    if not names or len(set(names)) < len(names):
        raise BadInput(
            expected="at least one cohort, each with its own name",
            got=", ".join(names) or "none",
            where="config, key cohorts",
            fix="Name every cohort once.",
        )


def _check_ids(images: pd.DataFrame) -> None:
    """A visit of a subject stands in one cohort only; two cohorts that share people must be told apart by the user."""
    kept = images[images["reason"].isna()]
    shared = kept[kept.duplicated(["subject_id", "session_id"], keep=False)]
    if len(shared):
        first = shared.sort_values(["subject_id", "session_id"]).iloc[:2]
        raise BadInput(
            expected="a visit of a subject in one cohort",
            got=f"{first['subject_id'].iloc[0]} {first['session_id'].iloc[0]} in " + " and ".join(first["cohort"]),
            where="cohorts",
            fix="Remove one of the copies, or one of the cohorts.",
        )


def _account(cohort: config.Cohort, images: pd.DataFrame, found: Found) -> None:
    """Print found = kept + excluded; refuse a cohort of which nothing is kept."""
    expected = len(found.images)
    counts = images["reason"].value_counts()
    kept, excluded = int(images["reason"].isna().sum()), int(counts.sum())
    if kept + excluded != expected:
        raise AssertionError(f"{cohort.name}: {expected} images found, but {kept} kept and {excluded} excluded")
    told = ", ".join(f"{n} {reason}" for reason, n in counts.items())
    print(
        f"ingest {cohort.name}: {expected} images found = {kept} kept + {excluded} excluded"
        + (f" ({told})" if told else "")
    )
    if not kept:
        raise BadInput(
            expected="at least one scan to keep",
            got=f"{expected} images, all excluded ({told})",
            where=cohort.path,
            fix=f"Check that the clinical tables ({', '.join(path.name for path in found.tables[:4])}) are those of these images.",
        )
