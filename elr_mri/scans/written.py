"""Tables that the user wrote (BIDS participants, plain tables): words for diagnoses, ages, months, made ours.

Columns, in any case, the first that is there: diagnosis (`diagnosis`, `dx`, `group`, `label`; never one at enrolment, such as clinica's `diagnosis_sc`), age in years (`age`,
`age_years`, `age_at_scan`; or at the first visit, `age_bl`, to which the months are added), sex (`sex`, `gender`), months since the first visit (`months`, `month`).
What is blank excludes a scan; what cannot be (an age of −4) is refused, because its author can mend it.
"""

from __future__ import annotations

import re

import pandas as pd

from elr_mri.config import Cohort
from elr_mri.errors import BadInput
from elr_mri.scans.cells import one_line
from elr_mri.scans.cohort import classes, mark, session_id, session_months, subject_id
from elr_mri.scans.download import numbers

#: Our name -> names that a column may go under.
FACTS = {
    "diagnosis": ["diagnosis", "dx", "group", "label"],
    "age": ["age_years", "age", "age_at_scan"],
    "age_bl": ["age_bl", "age_at_baseline"],
    "sex": ["sex", "gender"],
    "months": ["months", "month"],
    "mmse": ["mmse", "mms"],
    "cdr_global": ["cdr_global", "cdr"],
    "apoe4": ["apoe4", "apoe"],
    "field_strength_t": ["field_strength_t", "field_strength", "magnetic_field"],
    "site": ["site"],
    "manufacturer": ["manufacturer"],
    "hippocampus_mm3": ["hippocampus_mm3", "adni_hippocampus_vol"],
    "entorhinal_mm3": ["entorhinal_mm3", "adni_entorhinal_vol"],
    "icv_mm3": ["icv_mm3", "adni_icv"],
}
_RANGES = {
    "mmse": (0, 30),
    "cdr_global": (0, 3),
    "apoe4": (0, 2),
    "field_strength_t": (0.01, 12),
    "hippocampus_mm3": (0, 1e5),
    "entorhinal_mm3": (0, 1e5),
    "icv_mm3": (0, 1e7),
}


def complete(images: pd.DataFrame, facts: pd.DataFrame, cohort: Cohort) -> pd.DataFrame:
    """Ids, months, age and diagnosis of images from tables that the user wrote, in place; returns the visits.

    Blank ages and diagnoses exclude an image; impossible ones (an age of −4) are refused, naming file, column and row.
    """
    images["subject_id"] = [label(p, cohort) for p in images["participant"]]
    _check_labels(images, cohort)
    months = months_of(facts)
    images["months"] = pd.merge(images[["participant", "session"]], months, on=["participant", "session"], how="left")[
        "months"
    ]
    images["session_id"] = [session_id(m) if m == m else None for m in images["months"]]
    images["age"] = _with_baseline(images)
    images["age_years"] = checked_age(images)
    told, reason = classes(images["diagnosis"])
    images["diagnosis"] = told
    for code in ("no-diagnosis", "other-diagnosis"):
        mark(images, reason == code, code)
    mark(images, images["age_years"].isna(), "no-age")
    first = images["sex"].astype("str").str.strip().str.upper().str[:1]
    images["sex"] = first.where(first.isin(["F", "M"]), None).astype(object)
    for name, (low, high) in _RANGES.items():
        images[name] = numbers(images[name], low=low, high=high)
    visits = facts.drop(columns="months").merge(months, on=["participant", "session"])
    return pd.DataFrame(
        {
            "subject_id": [label(p, cohort) for p in visits["participant"]],
            "months": visits["months"],
            "age_years": numbers(_with_baseline(visits), low=18, high=120),
            "diagnosis": classes(visits["diagnosis"])[0],
        }
    )


def _with_baseline(rows: pd.DataFrame) -> pd.Series:
    """Ages as written; where there is none, the age at the first visit and the months since."""
    later = pd.to_numeric(rows["age_bl"], errors="coerce") + rows["months"] / 12
    return rows["age"].astype(object).where(rows["age"].notna() | later.isna(), later.map("{:.4g}".format))


def checked_age(images: pd.DataFrame) -> pd.Series:
    """Ages in years; one that no adult has, or that is no number, is refused where the image would be kept."""
    age = numbers(images["age"], low=18, high=120)
    wrong = images["reason"].isna() & images["age"].notna() & age.isna()
    if wrong.any():
        row = images[wrong].iloc[0]
        raise BadInput(
            expected="an age in years between 18 and 120",
            got=repr(row["age"]),
            where=f"{row['file']}, column age, row {row['line']}",
            fix="Correct it, or leave it blank to exclude the scan.",
        )
    return age


def months_of(facts: pd.DataFrame) -> pd.DataFrame:
    """Months since the first visit of each participant and session; a lone session without any clue is the first."""
    months = session_months(facts["session"]).fillna(numbers(facts["months"], high=600))
    age = numbers(facts["age"], low=18, high=120)
    first = age.groupby(facts["participant"]).transform("min")
    varies = age.groupby(facts["participant"]).transform("nunique") > 1
    months = months.fillna(((age - first) * 12).round().where(varies))
    alone = facts.groupby("participant")["session"].transform("size") == 1
    months = months.mask(months.isna() & alone, 0.0)
    if months.isna().any():
        lost = facts[months.isna()].iloc[0]
        raise BadInput(
            expected="a session such as ses-M006, or a column months or age for each session",
            got=repr(lost["session"]),
            where=f"{lost['file']}, participant {lost['participant']}",
            fix="Add a column `months` to its sessions.tsv.",
        )
    return facts[["participant", "session"]].assign(months=months)


def label(participant: str, cohort: Cohort) -> str:
    """A user's own subject label as our subject_id: separators off, the cohort's name in front if it is not there."""
    bare = re.sub(r"[ _.\-]", "", participant.strip().removeprefix("sub-"))
    whole = bare if not bare or bare.startswith(cohort.name) else cohort.name + bare
    return subject_id(whole, where=f"{cohort.path}, participant {one_line(participant[:80])}")


def _check_labels(images: pd.DataFrame, cohort: Cohort) -> None:
    """Two labels may not become one subject_id (`a-b` and `ab`)."""
    labels = images.groupby("subject_id")["participant"].unique()
    merged = labels[labels.map(len) > 1]
    if len(merged):
        raise BadInput(
            expected="subject labels that differ in letters and digits",
            got=" and ".join(merged.iloc[0]),
            where=cohort.path,
            fix="These are two subjects with one id; rename one.",
        )
