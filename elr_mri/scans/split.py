"""Subjects into train, validation and test, stratified by class, age and sex; external cohorts are only tested on.

Subjects are put in an order: by diagnosis at the first scan, then age band, then sex, and within such a stratum by a
hash of seed and subject. Walking along it, each subject goes to the split that is furthest behind its share. So every
stretch of the order (a class, a class and age band …) holds each split within about one subject of its share, rows may
stand in any order, and a subject's rank in its stratum depends on nobody else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from elr_mri import config, provenance
from elr_mri.errors import BadInput
from elr_mri.scans.table import CLASSES, SPLIT, read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["split"]

#: Age bands for stratification, in years.
AGE_EDGES = (65.0, 70.0, 75.0, 80.0, 85.0)


def split(scans_path: Path, settings: config.Split, external: Sequence[str], output: Path) -> None:
    """Write `splits.tsv`: cohort, subject_id, split, fold (blank for test and external subjects).

    Parameters
    ----------
    external : names of the cohorts that are never trained on
    """
    scans = read_scans(scans_path)
    unknown = sorted(set(external) - set(scans["cohort"]))
    if unknown:
        raise BadInput(
            expected="external cohorts that have scans",
            got=unknown[0],
            where=str(scans_path),
            fix=f"The table's cohorts are {', '.join(sorted(set(scans['cohort'])))}.",
        )
    splits = assign(scans, settings, external)
    check_no_leak(scans, splits, external)
    SPLIT.write(splits, output)
    provenance.record(
        output,
        step="split",
        version=VERSION,
        inputs={str(scans_path): provenance.digest_file(scans_path)},
        settings={"split": settings.model_dump(mode="json"), "external": sorted(external)},
    )


def assign(scans: pd.DataFrame, settings: config.Split, external: Sequence[str]) -> pd.DataFrame:
    """The split table of a scan table: one row per cohort and subject, by subject_id."""
    people = scans.sort_values(["subject_id", "months", "cohort", "scan_id"]).drop_duplicates(["cohort", "subject_id"])
    inside = ~people["cohort"].isin(external)
    ordered = _in_order(people[inside].drop_duplicates("subject_id"), settings.seed)
    shares = {
        "train": 1 - settings.val_share - settings.test_share,
        "val": settings.val_share,
        "test": settings.test_share,
    }
    chosen = pd.Series(_spread(len(ordered), list(shares.values())), index=ordered["subject_id"]).map(
        dict(enumerate(shares))
    )
    _check_filled(chosen, shares, len(ordered))
    open_subjects = chosen.index[chosen != "test"]
    folds = pd.Series(np.arange(len(open_subjects)) % max(settings.n_folds, 1), index=open_subjects)
    out = people[["cohort", "subject_id"]].copy()
    out["split"] = people["subject_id"].map(chosen).where(inside, "external")
    out["fold"] = people["subject_id"].map(folds).where(inside & bool(settings.n_folds)).astype("Int64")
    return out.sort_values(["cohort", "subject_id"]).reset_index(drop=True)


def check_no_leak(scans: pd.DataFrame, splits: pd.DataFrame, external: Sequence[str]) -> None:
    """Prove that no subject and no image stands in two splits, that all have one, and that external means external."""

    def refuse(expected: str, got: str) -> None:
        raise BadInput(expected=expected, got=got, where="splits", fix="Nothing may be learned from a tested subject.")

    per_subject = splits.groupby("subject_id")["split"].nunique()
    if (per_subject > 1).any():
        refuse("every subject in one split", f"{per_subject.idxmax()} in {per_subject.max()}")
    joined = scans.merge(splits, on=["cohort", "subject_id"], how="left")
    if joined["split"].isna().any():
        refuse("a split for every subject", f"none for {joined.loc[joined['split'].isna(), 'subject_id'].iloc[0]}")
    per_image = joined.groupby("image_path")["split"].nunique()
    if (per_image > 1).any():
        refuse("every image in one split", f"{per_image.idxmax()} in {per_image.max()}")
    astray = joined[(joined["split"] == "external") != joined["cohort"].isin(external)]
    if len(astray):
        refuse(
            "external cohorts in split external, and no others",
            f"{astray['subject_id'].iloc[0]} in {astray['split'].iloc[0]}",
        )


def _in_order(people: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Subjects by class, age band and sex, and by hash within these."""
    keyed = people.assign(
        _class=people["diagnosis"].map(CLASSES.index),
        _age=np.digitize(people["age_years"], AGE_EDGES),
        _sex=people["sex"].fillna(""),
        _hash=[_hash(seed, s) for s in people["subject_id"]],
    )
    return keyed.sort_values(["_class", "_age", "_sex", "_hash"], kind="stable")


def _hash(seed: int, subject: str) -> str:
    return hashlib.sha256(f"{seed}:{subject}".encode()).hexdigest()


def _spread(n: int, shares: Sequence[float]) -> list[int]:
    """For n places in a row, which share each goes to: always the one furthest behind, ties to the smaller share."""
    counts, out = np.zeros(len(shares)), []
    for i in range(n):
        behind = np.asarray(shares) * (i + 1) - counts
        best = max(range(len(shares)), key=lambda k: (round(behind[k], 9), -shares[k]))
        counts[best] += 1
        out.append(best)
    return out


def _check_filled(chosen: pd.Series, shares: dict[str, float], n_subjects: int) -> None:
    """Every split that was asked for has a subject, unless all cohorts are external."""
    empty = [name for name, share in shares.items() if share > 0 and not (chosen == name).any()]
    if empty and n_subjects:
        raise BadInput(
            expected=f"enough subjects for split {empty[0]} at a share of {shares[empty[0]]:g}",
            got=f"{n_subjects} subjects",
            where="config, key split",
            fix="Raise the share, or add subjects.",
        )
