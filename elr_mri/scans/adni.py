"""An ADNI download: the IDA image tree, wherever it lies in the folder, and the tables beside it.

Which T1 of a visit is kept: in ADNI1, GO and 2 the one that the archive has processed furthest (`Scaled`, then `N3`,
then GradWarp or B1 only, then as acquired), not accelerated before accelerated, 1.5 T in ADNI1 and 3 T later; in ADNI3
and 4 as acquired first and accelerated first (the phases' own protocols); then first acquisition before repeat
(`MPR-R`), then nearest to the visit, then the lowest image id.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from elr_mri.config import Cohort, Ingest
from elr_mri.scans import t1
from elr_mri.scans.adni_columns import NAMES, tables_named
from elr_mri.scans.adni_lists import read_image_lists, read_withdrawn, with_list
from elr_mri.scans.adni_tables import Clinic, ages_on, read_clinic
from elr_mri.scans.adni_tree import PTID, list_images
from elr_mri.scans.cohort import Found, keep_one_per_visit, mark, refuse_empty, session_id, subject_id
from elr_mri.scans.download import files_under
from elr_mri.scans.visits import carried_notes, match_visits

_LEVELS = ("original", "part", "n3", "scaled")
#: Two sources may differ by so much in an age before a note says so: one may round, the other count from enrolment.
_AGE_TOLERANCE_YEARS = 2.0


def read(cohort: Cohort, settings: Ingest) -> Found:
    """Read an ADNI download; see `cohort.Found`."""
    files = files_under(cohort.path)
    clinic = read_clinic(files, where=cohort.path)
    lists = read_image_lists(files)
    images = list_images(files, root=Path(cohort.path))
    refuse_empty(images, where=cohort.path)
    uids, series = read_withdrawn(files)
    mark(images, images["image_uid"].isin(uids) | images["series"].isin(series), "withdrawn")
    images = with_list(images, lists)
    images = match_visits(
        images, clinic.visits, max_days=settings.max_days, carry_forward_days=settings.carry_forward_days
    )
    ptids = _ptids(images, clinic)
    _complete(images, clinic, ptids)
    _choose(images)
    notes = pd.concat([clinic.notes, _image_notes(images, ptids), carried_notes(images)], ignore_index=True)
    notes["months"] = notes["months"].clip(0, 600)
    tables = [f for name in NAMES for f in tables_named(files, name)]
    return Found(
        images,
        _named(clinic.visits, ptids),
        _named(notes, ptids).drop_duplicates(["subject_id", "months", "note"]),
        (*tables, *lists.files),
    )


def _ptids(images: pd.DataFrame, clinic: Clinic) -> dict[int, str]:
    """One PTID for each RID: the tables', or else the first in the tree, so that nobody counts as two."""
    seen = images.dropna(subset=["subject", "ptid"]).sort_values("ptid", ascending=False)
    told = {rid: ptid for rid, ptid in clinic.ptids.items() if PTID.fullmatch(ptid)}
    return dict(zip(seen["subject"].astype(int), seen["ptid"], strict=True)) | told


def _complete(images: pd.DataFrame, clinic: Clinic, ptids: dict[int, str]) -> None:
    """Ids, age at the scan, and image facts that the visit lacks, in place."""
    age = ages_on(images["date"], images["subject"], clinic.baselines).where(lambda a: a.between(18, 120))
    images["table_age"] = age
    images["age_years"] = age.fillna(images["list_age"]).where(lambda a: a.between(18, 120))
    mark(images, images["age_years"].isna(), "no-age")
    images["field_strength_t"] = images["list_field"].fillna(images["field_strength_t"])
    for name in ("sex", "phase"):
        images[name] = images[name].where(images[name].notna(), images[f"list_{name}"])
    known = images["subject"].map(ptids)
    images["site"] = images["site"].where(images["site"].notna(), known.astype("str").str[:3])
    images["subject_id"] = [_subject(p) if isinstance(p, str) else None for p in known]
    images["session_id"] = [session_id(m) if m == m else None for m in images["months"]]


def _choose(images: pd.DataFrame) -> None:
    """Keep one T1 per visit by the rule in the module's docstring, in place."""
    phase = images["phase"].astype("str").str.upper().str.replace(r"[^A-Z0-9]", "", regex=True)
    later, first = phase.isin(["ADNI3", "ADNI4"]), phase == "ADNI1"
    level = images["description"].map(lambda d: _LEVELS.index(t1.processing_level(d))).astype(int)
    images["rank_level"] = level.where(later, len(_LEVELS) - 1 - level)
    images["rank_accelerated"] = images["description"].map(t1.is_accelerated).astype(bool) ^ later
    images["rank_field"] = (images["field_strength_t"] - 3.0 + 1.5 * first).abs().fillna(1.0)
    images["rank_repeat"] = images["description"].map(t1.is_repeat).astype(bool)
    images["rank_days"] = (images["date"] - images["visit_date"]).dt.days.abs()
    images["rank_uid"] = pd.to_numeric(images["image_uid"], errors="coerce")
    keep_one_per_visit(images, ["rank_level", "rank_accelerated", "rank_field", "rank_repeat", "rank_days", "rank_uid"])


def _image_notes(images: pd.DataFrame, ptids: dict[int, str]) -> pd.DataFrame:
    """Kept scans whose folder names another site's PTID than the tables, or whose age two sources tell differently."""
    kept = images[images["reason"].isna()]
    known = kept["subject"].map(ptids)
    ours, theirs = kept["table_age"], kept["list_age"]
    both = zip(ours, theirs, strict=True)
    ages = pd.Series(
        [f"age {a:.1f} by the tables, {b:.1f} in the image list" for a, b in both], kept.index, dtype="str"
    )
    said = [
        (
            "the image tree says " + kept["ptid"].astype("str") + ", the tables say " + known.astype("str"),
            known != kept["ptid"],
        ),
        (ages + "; the tables' is taken", (ours - theirs).abs() > _AGE_TOLERANCE_YEARS),
    ]
    return pd.concat([kept.loc[rows, ["subject", "months"]].assign(note=words[rows]) for words, rows in said])


def _subject(ptid: str) -> str:
    """`123_S_0456` -> `sub-ADNI123S0456`."""
    return subject_id("ADNI" + ptid.upper().replace("_", ""), where="ADNI image tree")


def _named(rows: pd.DataFrame, ptids: dict[int, str]) -> pd.DataFrame:
    """Rows of known subjects with their subject_id; a RID that no table and no image gives a PTID has none."""
    ptid = rows["subject"].map(ptids)
    if "ptid" in rows:
        ptid = rows["ptid"].where(rows["ptid"].notna(), ptid)
    known = rows[ptid.astype("str").str.fullmatch(PTID.pattern, case=False).fillna(False).astype(bool)]
    return known.assign(subject_id=ptid[known.index].map(_subject)).reset_index(drop=True)
