"""Who was scanned: the demographic table as the page tells it, without counts that point at someone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from elr_mri.findings import privacy
from elr_mri.scans.demographics import DEMOGRAPHICS


def demographic_rows(path: Path, *, in_house: bool) -> list[dict[str, str]]:
    """The demographic table as texts; small classes are told as `privacy` has it unless `in_house`."""
    table = DEMOGRAPHICS.read(path)
    groups = [group for _, group in table.groupby(["cohort", "split"], sort=False)]
    shown = [group if in_house else privacy.class_counts(group, ("subjects", "scans")) for group in groups]
    return [
        _texts(exact, told, in_house=in_house)
        for group, hidden in zip(groups, shown, strict=True)
        for exact, told in zip(group.itertuples(index=False), hidden.itertuples(index=False), strict=True)
    ]


def _texts(exact: tuple, told: tuple, *, in_house: bool) -> dict[str, str]:
    """One row; a mean of a few people is not told, nor a share that comes from a few women or men."""
    age = "–" if pd.isna(exact.age_mean_years) else f"{exact.age_mean_years:.1f}"
    spread = "" if pd.isna(exact.age_sd_years) else f" ({exact.age_sd_years:.1f})"
    women = "–" if pd.isna(exact.female_share) else f"{100 * exact.female_share:.0f} %"
    if not in_house:
        n_women = 0 if pd.isna(exact.female_share) else round(exact.female_share * exact.subjects)
        counted = str(told.subjects) not in (
            privacy.SMALL,
            privacy.HIDDEN,
        )  # what a hidden class would tell, its mean and share tell, too
        age, spread = (age, spread) if counted else ("–", "")
        women = "–" if not counted or privacy.few(n_women) or privacy.few(exact.subjects - n_women) else women
    return {
        "cohort": exact.cohort,
        "split": exact.split,
        "diagnosis": exact.diagnosis,
        "subjects": str(told.subjects),
        "scans": str(told.scans),
        "age": age + spread,
        "women": women,
    }
