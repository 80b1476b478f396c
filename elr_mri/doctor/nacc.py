"""A NACC download looked at: freezes, columns, and whose sessions have clinical rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from elr_mri.config import Cohort
from elr_mri.doctor.download import Download, Table, some, table, tables_in, warn_of_tables
from elr_mri.doctor.sites import NACC
from elr_mri.scans.nacc import list_images
from elr_mri.scans.nacc_tables import COLUMNS, REQUIRED, freezes, read_sessions
from elr_mri.scans.scan_tables import COLUMNS as SCAN_COLUMNS
from elr_mri.scans.scan_tables import REQUIRED as SCAN_REQUIRED
from elr_mri.scans.scan_tables import scan_tables

_NACCID = re.compile(rb"NACC\d{6}", re.I)


def look(found: Download, cohort: Cohort, files: Sequence[Path]) -> None:
    """Add what a NACC folder holds to `found`."""
    uds, mri = _look_at_tables(found, files)
    images = list_images(files, root=Path(cohort.path))
    candidates = images[images["reason"].isna()]
    found.need_images(len(candidates), NACC["images"])
    found.sample = candidates["image_path"].tolist()
    if images.empty:
        return
    told = ", ".join(f"{n} {reason}" for reason, n in images["reason"].value_counts().items())
    found.counts.append(f"{len(images)} images, {len(candidates)} of them T1" + (f" (others: {told})" if told else ""))
    if not mri.files or mri.broken or not uds.files or uds.broken:
        return
    sessions = read_sessions(mri.files[0])
    by_name = dict(zip(sessions["archive"], sessions["subject"], strict=True))
    scanned, seen = set(sessions["subject"].dropna()), _subjects_in(uds.files[0])
    subjects = [_subject(names, by_name, scanned) for names in candidates["sessions"]]
    both = [s for s in subjects if s in seen]
    found.n_scans = len({(s, min(n)) for s, n in zip(subjects, candidates["sessions"], strict=True) if s in seen})
    found.counts.append(
        f"{len({s for s in subjects if s})} subjects with T1 images, {len(seen)} in the UDS, {len(set(both))} in both ({len(both)} images)"
    )
    nameless = [p for s, p in zip(subjects, candidates["image_path"], strict=True) if s is None]
    if nameless:
        found.warnings.append(
            f"{len(nameless)} T1 images without a row in the MRI table ({some(Path(p.split('!')[0]).name for p in nameless)}): they will be excluded"
        )
    strangers = sorted({s for s in subjects if s and s not in seen})
    if strangers:
        found.warnings.append(
            f"{len(strangers)} subjects with T1 images but without a UDS visit ({some(strangers)}): they will be excluded"
        )


def _look_at_tables(found: Download, files: Sequence[Path]) -> tuple[Table, Table]:
    """The UDS and the MRI table, the latest freeze first."""
    numbers, scan = {}, scan_tables(files)
    for name in ("UDS", "MRI"):
        named = freezes(files, mri=name == "MRI")[::-1]
        one = table(name, [path for _, path in named], COLUMNS[name], REQUIRED[name], where=NACC[name])
        found.tables.append(one)
        if name == "UDS" or not any(scan.values()):  # a download may hold SCAN alone
            found.need(one)
        numbers |= {name: named[0][0]} if named else {}
        if len(named) > 1:
            found.warnings.append(
                f"{len(named)} tables {name}: {named[0][1].name} is read, {some(p.name for _, p in named[1:])} not"
            )
    if len(set(numbers.values())) > 1:
        found.warnings.append(
            f"the UDS is of freeze {numbers['UDS']}, the MRI table of {numbers['MRI']}: take both of one freeze"
        )
    for name, paths in scan.items():
        if paths:
            found.tables.append(table(name, paths, SCAN_COLUMNS[name], SCAN_REQUIRED[name], where=NACC[name]))
    read = {path for t in found.tables for path in t.files}
    found.unread = [path for path in tables_in(files) if path not in read]
    warn_of_tables(found)
    uds, mri = found.tables[:2]
    return uds, mri


def _subjects_in(path: Path) -> set[str]:
    """The NACCIDs of a table, line by line: a UDS table of 700 MB is never held."""
    ids = set()
    with open(path, "rb") as file:
        for line in file:
            if match := _NACCID.search(line):
                ids.add(match[0].decode().upper())
    return ids


def _subject(names: Sequence[str], by_name: dict[str, str], scanned: set[str]) -> str | None:
    """Whose session an image is of: by the archive's name in the MRI table, or else by the NACCID in it."""
    for name in names:
        if isinstance(by_name.get(name), str):
            return by_name[name]
    inside = [m[0].decode().upper() for name in names if (m := _NACCID.search(name.encode(errors="replace")))]
    return next((naccid for naccid in inside if naccid in scanned), None)
