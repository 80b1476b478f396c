"""A NACC download: the UDS and MRI tables, and the images in zips (mixed protocol), wherever they lie in the folder.

A zip is one MRI session; it is listed, never unpacked (`archives.py`). Sessions that someone has unpacked are read as
well. A session is found in the MRI table by its name (NACCMRFI: `mri3374.zip`, on disk also `mri3374ni.zip`;
`NACC012345_<digits>.zip`), or else by the NACCID and date in it (`1234_NACC012345_20190101.zip`). SCAN, the standardised
imaging since 2021, comes as an IDA-like tree with tables of its own (`scan_tables.py`); a download may hold either or both.

Which series of a visit is kept: a T1-weighted one by the series description in the sidecar JSON, in the DICOM header or
else in the folder names (DICOM files of several series in one folder are told apart by their headers); without contrast before with, 3-D before 2-D, nearest to the visit, the one that SCAN chose,
first before repeat, NIfTI before DICOM, then the largest. Series that SCAN's quality control refused are excluded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from elr_mri.config import Cohort, Ingest
from elr_mri.scans import t1
from elr_mri.scans.archives import in_zip
from elr_mri.scans.cohort import (
    Found,
    blank_images,
    keep_one_per_visit,
    mark,
    refuse_empty,
    session_id,
    subject_id,
)
from elr_mri.scans.download import files_under
from elr_mri.scans.nacc_tables import SESSION, archive_stem, freezes, newest, read_sessions, read_visits
from elr_mri.scans.scan_tables import grades, read_scan_sessions, read_series, scan_tables
from elr_mri.scans.series import IDA_DAY, Series, unpacked
from elr_mri.scans.visits import YEAR_DAYS, carried_notes, match_visits

_NACCID = r"NACC[0-9]{6}"
_DAY = re.compile(r"_((?:19|20)\d{6})(?:\D|$)", re.A)


def read(cohort: Cohort, settings: Ingest) -> Found:
    """Read a NACC download; see `cohort.Found`."""
    files = files_under(cohort.path)
    uds, scan = newest(files, mri=False, where=cohort.path), scan_tables(files)
    used = [uds, *(paths[0] for paths in scan.values() if paths)]
    if not any(scan.values()) or freezes(files, mri=True):  # a download may hold SCAN alone
        used.append(newest(files, mri=True, where=cohort.path))
    visits, sessions = read_visits(uds, settings), _sessions(files, scan)
    visits = visits[visits["subject"].astype("str").str.fullmatch(_NACCID).astype(bool)].reset_index(drop=True)
    images = list_images(files, root=Path(cohort.path))
    refuse_empty(images, where=cohort.path)
    images = _with_session(images, sessions)
    _grade(images, scan["SCAN series"])
    images = match_visits(images, visits, max_days=settings.max_days, carry_forward_days=settings.carry_forward_days)
    age = images["age_years"] + (images["date"] - images["visit_date"]).dt.days / YEAR_DAYS
    images["age_years"] = age.fillna(images["mri_age_years"]).where(lambda a: a.between(18, 120))
    mark(images, images["age_years"].isna(), "no-age")
    images["subject_id"] = [_subject(s) if isinstance(s, str) else None for s in images["subject"]]
    images["session_id"] = [session_id(m) if m == m else None for m in images["months"]]
    images["rank_days"] = (images["date"] - images["visit_date"]).dt.days.abs()
    keep_one_per_visit(
        images, ["rank_contrast", "rank_flat", "rank_days", "rank_chosen", "rank_repeat", "rank_dicom", "rank_bytes"]
    )
    named = visits.assign(subject_id=visits["subject"].map(_subject))
    notes = carried_notes(images)
    notes["subject_id"] = notes["subject"].map(_subject)
    return Found(images, named, notes[["subject_id", "months", "note"]], tuple(used))


def _sessions(files: Sequence[Path], scan: dict[str, list[Path]]) -> pd.DataFrame:
    """The sessions of the mixed protocol and of SCAN, whichever tables the download holds."""
    parts = [read_sessions(newest(files, mri=True, where=""))] if freezes(files, mri=True) else []
    parts += [read_scan_sessions(path) for path in scan["SCAN volumes"][:1]]
    sessions = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=SESSION)
    return sessions.reindex(columns=SESSION).astype({"date": "datetime64[ns]"})


def _grade(images: pd.DataFrame, tables: Sequence[Path]) -> None:
    """Exclude series that SCAN's own quality control refused, rank the one that it chose first, in place.

    Field strength and manufacturer come from the same rows where no other table has told them.
    """
    graded = grades(images, read_series(tables[0])) if tables else grades(images, None)
    mark(images, graded["failed"].notna(), "failed-series-qc", graded["failed"])
    images["rank_chosen"] = 1 - graded["chosen"].astype(int)
    for name in ("field_strength_t", "manufacturer"):
        images[name] = images[name].where(images[name].notna(), graded[name])


def list_images(files: Sequence[Path], *, root: Path) -> pd.DataFrame:
    """One row per NIfTI or DICOM series in a zip or an unpacked session, and one per zip that holds none.

    Columns: image_path, image_uid, sessions (what the archive and its folders are called), description, scan_subject,
    scan_protocol, scan_day (of an image in SCAN's tree), rank_*, reason, detail.
    """
    zips = [path for path in files if path.suffix.lower() == ".zip"]
    found = [one for path in zips for one in in_zip(path)] + unpacked(files, root=root)
    images = blank_images([_row(one) for one in found])
    mark(images, [one.is_nameless for one in found], "unknown-series", images["description"])
    mark(images, ~images["description"].astype("str").map(t1.is_t1).astype(bool), "not-t1", images["description"])
    return images


def _row(one: Series) -> dict:
    """One series as a row: what its place, its name and its sidecar or header tell."""
    contrast, flat, repeat = t1.series_rank(one.description)
    subject, protocol, day = _in_scan_tree(one.folders)
    return {
        "scan_subject": subject,
        "scan_protocol": protocol,
        "scan_day": day,
        "image_path": one.image_path,
        "image_uid": one.uid,
        "sessions": [archive_stem(part) for part in one.folders],
        "name": one.name,
        "description": one.description,
        "rank_contrast": contrast,
        "rank_flat": flat,
        "rank_repeat": repeat,
        "rank_dicom": int(one.is_dicom),
        "rank_bytes": -float(one.size),
        "reason": one.reason,
        "detail": one.detail,
    }


def _in_scan_tree(folders: Sequence[str]) -> tuple[str | None, str | None, str | None]:
    """NACCID, protocol and day of an image in SCAN's tree (`NACC012345/…/<protocol>/<day>/<image id>`), else blanks.

    Some put a visit and a modality between person and protocol (`NACC012345/v1/T1/MPRAGE/…`).
    """
    day = next((k for k in range(len(folders) - 1, 1, -1) if IDA_DAY.fullmatch(folders[k])), None)
    person = next((f for f in reversed(folders[: (day or 1) - 1]) if re.fullmatch(_NACCID, f, re.I)), None)
    if day is None or person is None:
        return None, None, None
    return person.upper(), folders[day - 1], folders[day][:10]


def _with_session(images: pd.DataFrame, sessions: pd.DataFrame) -> pd.DataFrame:
    """Give every image its session: by the archive's name, or else by NACCID and date in it or in SCAN's tree.

    An image of that tree needs no row: the tree tells whose it is, and when.
    """
    by_name = {stem: i for i, stem in reversed(list(sessions["archive"].items())) if isinstance(stem, str)}
    by_date = {
        (s, d): i
        for i, s, d in zip(sessions.index, sessions["subject"], sessions["date"].dt.strftime("%Y%m%d"), strict=True)
        if s == s
    }
    rows = np.full(len(images), -1)
    for k, names in enumerate(images["sessions"]):
        dated = [told for name in names if (told := _dated(name))]
        if isinstance(images["scan_subject"][k], str):
            dated.append((images["scan_subject"][k], images["scan_day"][k].replace("-", "")))
        hits = [by_name[n] for n in names if n in by_name] + [by_date[key] for key in dated if key in by_date]
        rows[k] = hits[0] if hits else -1
    mark(images, (rows < 0) & images["scan_subject"].isna(), "no-table-row")
    told = sessions.reindex(rows).drop(columns="archive").reset_index(drop=True)
    kept = images.drop(columns=[c for c in told.columns if c in images.columns])
    images = pd.concat([kept, told], axis=1)
    images["subject"] = images["subject"].where(images["subject"].notna(), images["scan_subject"])
    images["date"] = pd.to_datetime(images["date"]).fillna(pd.to_datetime(images["scan_day"], errors="coerce"))
    known = images["subject"].astype("str").str.fullmatch(_NACCID).fillna(False).astype(bool)
    mark(images, ~known, "no-table-row")
    images["subject"] = images["subject"].astype(object).where(known, None)
    return images


def _dated(name: str) -> tuple[str, str] | None:
    """NACCID and day in a name (`1234_NACC012345_20190101`): the first id, and the first day behind it.

    Two searches, one after the other: a single pattern would look for the day anew from every id of a long name.
    """
    person = re.search(_NACCID, name, re.I)
    day = person and _DAY.search(name, person.end())
    return (person[0].upper(), day[1]) if day else None


def _subject(naccid: str) -> str:
    """`NACC012345` -> `sub-NACC012345`."""
    return subject_id(naccid.upper(), where="NACC tables")
