"""An ADNI download: the IDA image tree, wherever it lies in the folder, and the tables beside it.

Images are keyed on the id at the end of their name (`…_I45108.nii`), because a leaf folder is called after the
series (`S13408`) in older downloads and after the image (`I358089`) in newer ones, and may hold more than one image.

Which T1 of a visit is kept: in ADNI1, GO and 2 the one that the archive has processed furthest (`Scaled`, then `N3`,
then GradWarp or B1 only, then as acquired), not accelerated before accelerated, 1.5 T in ADNI1 and 3 T later; in ADNI3
and 4 as acquired first and accelerated first (the phases' own protocols); then first acquisition before repeat
(`MPR-R`), then nearest to the visit, then the lowest image id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from elr_mri.config import Cohort, Ingest
from elr_mri.scans import t1
from elr_mri.scans.adni_tables import NAMES, Clinic, read_clinic, read_image_lists, read_withdrawn, tables_named
from elr_mri.scans.cohort import Found, blank_images, keep_one_per_visit, mark, refuse_empty, session_id, subject_id
from elr_mri.scans.download import files_under
from elr_mri.scans.visits import YEAR_DAYS, match_visits

_IMAGE = re.compile(r"(?P<stem>.*?)(?P<format>\.nii(\.gz)?|\.dcm|\.ima|\.img|\.mnc|\.mgz)", re.I | re.S)
_UID = re.compile(r"_I(\d+)$")
_PTID = re.compile(r"\d{3}_S_\d{4,5}")
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(_\d{2}_\d{2}_\d{2}.*)?")
_LEVELS = ("original", "part", "n3", "scaled")


def read(cohort: Cohort, settings: Ingest) -> Found:
    """Read an ADNI download; see `cohort.Found`."""
    files = files_under(cohort.path)
    clinic = read_clinic(files, where=cohort.path)
    lists, list_files = read_image_lists(files)
    images = list_images(files, root=Path(cohort.path))
    refuse_empty(images, where=cohort.path)
    mark(images, images["image_uid"].isin(read_withdrawn(files)), "withdrawn")
    images = _with_list(images, lists)
    images = match_visits(
        images, clinic.visits, max_days=settings.max_days, carry_forward_days=settings.carry_forward_days
    )
    _complete(images, clinic)
    _choose(images)
    ptids = clinic.ptids | dict(
        zip(images["subject"].dropna().astype(int), images.loc[images["subject"].notna(), "ptid"], strict=True)
    )
    tables = [f for name in NAMES for f in tables_named(files, name)]
    return Found(images, _named(clinic.visits, ptids), _named(clinic.disagree, ptids), tuple(tables + list_files))


def list_images(files: Sequence[Path], *, root: Path) -> pd.DataFrame:
    """One row per image in the tree: NIfTI files, and DICOM leaf folders (their files together are one image).

    Columns: image_path, image_uid, ptid, subject (RID), date, description, reason, detail.
    """
    rows, series = [], {}
    for path in files:
        match = _IMAGE.fullmatch(path.name)
        if match is None:
            continue
        kind = match["format"].lower()
        uid = _UID.search(match["stem"])
        if kind in (".dcm", ".ima"):
            series.setdefault(path.parent, {}).setdefault(uid and uid[1], path)
        else:
            reason = None if kind in (".nii", ".nii.gz") else "unsupported-format"
            rows.append(_row(path, root, path, uid and uid[1], reason))
    for folder, by_uid in series.items():
        for uid, path in by_uid.items():
            where = folder if len(by_uid) == 1 else path
            rows.append(_row(where, root, path, uid, "mixed-dicom-folder" if len(by_uid) > 1 else None))
    images = blank_images(rows)
    if images.empty:
        return images
    mark(images, images["image_uid"].isna() | images["ptid"].isna(), "no-image-id")
    mark(images, ~images["description"].map(t1.is_t1).astype(bool), "not-t1", images["description"])
    images["subject"] = pd.to_numeric(images["ptid"].astype("str").str.split("_").str[-1], errors="coerce").astype(
        float
    )
    images["date"] = pd.to_datetime(images["date"], format="%Y-%m-%d", errors="coerce")
    return images


def _row(image: Path, root: Path, file: Path, uid: str | None, reason: str | None) -> dict:
    """What path and name of one image tell; folders outside the cohort's own are not looked at."""
    parts = file.relative_to(root).parts[:-1]
    ptid = next((p for p in reversed(parts) if _PTID.fullmatch(p)), None) or next(iter(_PTID.findall(file.name)), None)
    day = next((m[1] for p in reversed(parts) if (m := _DATE.fullmatch(p))), None)
    named = re.search(r"_MR_(.+?)_(?:Br|br)_", file.name)
    folder = next((parts[i - 1] for i in range(1, len(parts)) if _DATE.fullmatch(parts[i])), "")
    return {
        "image_path": str(image),
        "image_uid": uid,
        "ptid": ptid,
        "date": day,
        "reason": reason,
        "description": folder or (named[1] if named else file.stem),
    }


def _with_list(images: pd.DataFrame, lists: pd.DataFrame) -> pd.DataFrame:
    """Add what the image lists know: the date where the path has none, field strength, manufacturer, sex, age."""
    told = lists.reindex(images["image_uid"]).reset_index(drop=True)
    images["date"] = images["date"].fillna(told["date"])
    images["manufacturer"] = told["manufacturer"].astype(object).where(told["manufacturer"].notna(), None)
    return images.assign(list_field=told["field"], list_age=told["age"], list_sex=told["sex"])


def _complete(images: pd.DataFrame, clinic: Clinic) -> None:
    """Ids, age at the scan, and image facts that the visit lacks, in place."""
    base = clinic.baselines.reindex(images["subject"]).reset_index(drop=True)
    age = base["age"] + (images["date"] - base["baseline"]).dt.days / YEAR_DAYS
    images["age_years"] = age.fillna(images["list_age"]).where(lambda a: a.between(18, 120))
    mark(images, images["age_years"].isna(), "no-age")
    images["field_strength_t"] = images["list_field"].fillna(images["field_strength_t"])
    images["sex"] = images["sex"].where(images["sex"].notna(), images["list_sex"])
    images["site"] = images["site"].where(images["site"].notna(), images["ptid"].astype("str").str[:3])
    images["subject_id"] = [_subject(p) if isinstance(p, str) else None for p in images["ptid"]]
    images["session_id"] = [session_id(m) if m == m else None for m in images["months"]]


def _choose(images: pd.DataFrame) -> None:
    """Keep one T1 per visit by the rule in the module's docstring, in place."""
    later = images["phase"].astype("str").str.upper().isin(["ADNI3", "ADNI4"])
    first = images["phase"].astype("str").str.upper() == "ADNI1"
    level = images["description"].map(lambda d: _LEVELS.index(t1.processing_level(d))).astype(int)
    images["rank_level"] = level.where(later, len(_LEVELS) - 1 - level)
    images["rank_accelerated"] = images["description"].map(t1.is_accelerated).astype(bool) ^ later
    images["rank_field"] = (images["field_strength_t"] - 3.0 + 1.5 * first).abs().fillna(1.0)
    images["rank_repeat"] = images["description"].map(t1.is_repeat).astype(bool)
    images["rank_days"] = (images["date"] - images["visit_date"]).dt.days.abs()
    images["rank_uid"] = pd.to_numeric(images["image_uid"], errors="coerce")
    keep_one_per_visit(images, ["rank_level", "rank_accelerated", "rank_field", "rank_repeat", "rank_days", "rank_uid"])


def _subject(ptid: str) -> str:
    """`123_S_0456` -> `sub-ADNI123S0456`."""
    return subject_id("ADNI" + ptid.replace("_", ""), where="ADNI image tree")


def _named(rows: pd.DataFrame, ptids: dict[int, str]) -> pd.DataFrame:
    """Rows of known subjects with their subject_id; a RID that no table and no image gives a PTID has none."""
    ptid = rows["subject"].map(ptids)
    known = rows[ptid.astype("str").str.fullmatch(_PTID.pattern).fillna(False).astype(bool)]
    return known.assign(subject_id=ptid[known.index].map(_subject)).reset_index(drop=True)
