"""A NACC download: the UDS and MRI tables, and the images in zips (mixed protocol), wherever they lie in the folder.

A zip is one MRI session; it is listed, never unpacked, and an image in it is named `archive.zip!member`. Sessions that
someone has unpacked are read as well. A session is found in the MRI table by its name (NACCMRFI: `mri3374.zip`, on disk
also `mri3374ni.zip`; `NACC012345_<digits>.zip`), or else by the NACCID and date in it (`1234_NACC012345_20190101.zip`).
SCAN, the standardised imaging since 2021, comes as an IDA-like tree with tables of its own (`scan_tables.py`); a download
may hold either or both.

Which series of a session is kept: a T1-weighted one by the series description in the sidecar JSON or else the folder
names; without contrast before with, 3-D before 2-D, nearest to the visit, the one that SCAN chose, first before repeat, then the
largest. Series that SCAN's quality control refused are excluded.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from elr_mri.config import Cohort, Ingest
from elr_mri.scans import t1
from elr_mri.scans.cohort import (
    Found,
    blank_images,
    keep_one_per_visit,
    mark,
    no_notes,
    refuse_empty,
    session_id,
    subject_id,
)
from elr_mri.scans.download import files_under
from elr_mri.scans.imagepath import READ_ERRORS
from elr_mri.scans.nacc_tables import SESSION, archive_stem, freezes, newest, read_sessions, read_visits
from elr_mri.scans.scan_tables import read_scan_sessions, read_series, scan_tables
from elr_mri.scans.visits import YEAR_DAYS, match_visits

_NIFTI = re.compile(r".*\.nii(\.gz)?", re.I | re.S)
_NACCID = re.compile(r"NACC\d{6}", re.I)
_DAY = re.compile(r"((?:19|20)\d{2}-\d{2}-\d{2})(_\d{2}_\d{2}_\d{2}.*)?")
_DATED = re.compile(r"(nacc\d{6}).*?_((?:19|20)\d{6})(?:\D|$)", re.I)

#: A sidecar larger than this is not a sidecar.
_MAX_JSON_BYTES = 2**20


def read(cohort: Cohort, settings: Ingest) -> Found:
    """Read a NACC download; see `cohort.Found`."""
    files = files_under(cohort.path)
    uds, scan = newest(files, mri=False, where=cohort.path), scan_tables(files)
    used = [uds, *(paths[0] for paths in scan.values() if paths)]
    if not any(scan.values()) or freezes(files, mri=True):  # a download may hold SCAN alone
        used.append(newest(files, mri=True, where=cohort.path))
    visits, sessions = read_visits(uds, settings), _sessions(files, scan)
    visits = visits[visits["subject"].astype("str").str.fullmatch(_NACCID.pattern).astype(bool)].reset_index(drop=True)
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
    keep_one_per_visit(images, ["rank_contrast", "rank_flat", "rank_days", "rank_chosen", "rank_repeat", "rank_bytes"])
    named = visits.assign(subject_id=visits["subject"].map(_subject))
    return Found(images, named, no_notes(), tuple(used))


def _sessions(files: Sequence[Path], scan: dict[str, list[Path]]) -> pd.DataFrame:
    """The sessions of the mixed protocol and of SCAN, whichever tables the download holds."""
    parts = [read_sessions(newest(files, mri=True, where=""))] if freezes(files, mri=True) else []
    parts += [read_scan_sessions(path) for path in scan["SCAN volumes"][:1]]
    sessions = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=SESSION)
    return sessions.reindex(columns=SESSION).astype({"date": "datetime64[ns]"})


def _grade(images: pd.DataFrame, tables: Sequence[Path]) -> None:
    """Exclude series that SCAN's own quality control refused, and rank the one that it chose first, in place."""
    images["rank_chosen"] = 1
    if not tables:
        return
    graded = {(s.subject, s.date, s.name): s for s in read_series(tables[0]).itertuples(index=False)}
    keys = zip(images["subject"], images["date"], images["scan_protocol"], strict=True)
    found = [
        graded.get((subject, day, t1.plain(name))) if isinstance(name, str) else None for subject, day, name in keys
    ]
    mark(images, [one is not None and one.failed for one in found], "failed-series-qc")
    images["rank_chosen"] = [0 if one is not None and one.chosen else 1 for one in found]


def list_images(files: Sequence[Path], *, root: Path) -> pd.DataFrame:
    """One row per NIfTI series in a zip or an unpacked session, per DICOM folder, and per zip that holds none.

    Columns: image_path, session (what the archive or folder is called), description, bytes, reason, detail.
    """
    rows, series = [], {}
    for path in files:
        if path.suffix.lower() in (".dcm", ".ima"):
            series.setdefault(path.parent, path)
        elif path.suffix.lower() == ".zip":
            rows += _in_zip(path)
        elif _NIFTI.fullmatch(path.name):
            sidecar = Path(re.sub(r"\.nii(\.gz)?$", ".json", str(path), flags=re.I))
            raw = sidecar.read_bytes() if sidecar.is_file() and sidecar.stat().st_size <= _MAX_JSON_BYTES else b""
            folders = path.relative_to(root).parts[:-1]
            rows.append(_row(str(path), path.stat().st_size, folders, path.name, raw))
    for folder, path in series.items():
        parts = path.relative_to(root).parts[:-1]
        rows.append(_row(str(folder), sum(p.stat().st_size for p in folder.iterdir()), parts, "", b""))
    images = blank_images(rows)
    mark(images, ~images["description"].astype("str").map(t1.is_t1).astype(bool), "not-t1", images["description"])
    return images


def _in_zip(path: Path) -> list[dict]:
    """The NIfTI members of one archive, from its directory; only small JSON sidecars are opened."""
    found = []
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
            for name, info in members.items():
                inner = PurePosixPath(name)
                if not _NIFTI.fullmatch(inner.name) or inner.name.startswith("._") or "__MACOSX" in inner.parts:
                    continue
                sidecar = members.get(re.sub(r"\.nii(\.gz)?$", ".json", name, flags=re.I))
                raw = archive.read(sidecar) if sidecar and sidecar.file_size <= _MAX_JSON_BYTES else b""
                found.append((name, inner, info.file_size, raw))
    except READ_ERRORS as problem:
        return [_row(str(path), 0, (path.name,), "", b"") | {"reason": "unreadable-archive", "detail": str(problem)}]
    rows = [_row(f"{path}!{n}", size, (path.name, *p.parts[:-1]), p.name, raw) for n, p, size, raw in found]
    for row, (name, inner, _, _) in zip(rows, found, strict=True):
        if inner.is_absolute() or ".." in inner.parts or "\\" in name:
            row["reason"] = "unsafe-path"
    return rows or [_row(str(path), 0, (path.name,), "", b"") | {"reason": "no-nifti-in-archive"}]


def _row(image_path: str, size: int, folders: Sequence[str], name: str, raw: bytes) -> dict:
    """One series: what its folders, its name and its sidecar tell."""
    told = _sidecar_text(raw)
    description = told or " / ".join([*folders[1:], re.sub(r"\.nii(\.gz)?$", "", name, flags=re.I)])
    contrast, flat, repeat = t1.series_rank(description)
    subject, protocol, day = _in_scan_tree(folders)
    return {
        "scan_subject": subject,
        "scan_protocol": protocol,
        "scan_day": day,
        "image_path": image_path,
        "sessions": [archive_stem(part) for part in folders],
        "description": description,
        "rank_contrast": contrast,
        "rank_flat": flat,
        "rank_repeat": repeat,
        "rank_bytes": -float(size),
    }


def _in_scan_tree(folders: Sequence[str]) -> tuple[str | None, str | None, str | None]:
    """NACCID, protocol and day of an image in SCAN's tree (`NACC012345/<protocol>/<day>/<image id>`), else blanks."""
    for k in range(len(folders) - 2):
        if _NACCID.fullmatch(folders[k]) and (day := _DAY.fullmatch(folders[k + 2])):
            return folders[k].upper(), folders[k + 1], day[1]
    return None, None, None


def _sidecar_text(raw: bytes) -> str:
    """Series description and acquisition type from a dcm2niix sidecar, empty if it tells none."""
    try:
        told = json.loads(raw) if raw else {}
    except ValueError:
        return ""
    if not isinstance(told, dict) or not told.get("SeriesDescription"):
        return ""
    return f"{told['SeriesDescription']} {told.get('MRAcquisitionType', '')}".strip()


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
        dated = [(m[1].upper(), m[2]) for name in names if (m := _DATED.search(name))]
        if isinstance(images["scan_subject"][k], str):
            dated.append((images["scan_subject"][k], images["scan_day"][k].replace("-", "")))
        hits = [by_name[n] for n in names if n in by_name] + [by_date[key] for key in dated if key in by_date]
        rows[k] = hits[0] if hits else -1
    mark(images, (rows < 0) & images["scan_subject"].isna(), "no-table-row")
    told = sessions.reindex(rows).drop(columns="archive").reset_index(drop=True)
    kept = images.drop(columns=["sessions", *(c for c in told.columns if c in images.columns)])
    images = pd.concat([kept, told], axis=1)
    images["subject"] = images["subject"].where(images["subject"].notna(), images["scan_subject"])
    images["date"] = pd.to_datetime(images["date"]).fillna(pd.to_datetime(images["scan_day"], errors="coerce"))
    known = images["subject"].astype("str").str.fullmatch(_NACCID.pattern).fillna(False).astype(bool)
    mark(images, ~known, "no-table-row")
    images["subject"] = images["subject"].astype(object).where(known, None)
    return images


def _subject(naccid: str) -> str:
    """`NACC012345` -> `sub-NACC012345`."""
    return subject_id(naccid.upper(), where="NACC tables")
