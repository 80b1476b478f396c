"""Which row of somebody else's table is which scan of ours, by the names that people give to runs and images.

A row's name is a FreeSurfer subject (`sub-01_ses-M000`, `sub-01_ses-M000.long.sub-01`, a path to it), or an image file
(SynthSeg). It is compared, case and separators aside, with a scan's id, its subject and session, the name of its image,
its image id (`I45108`, also that of the folder it lies in), and, where the subject has one scan in the study, the subject's id. A name of two scans, or two
rows of one scan, is no match: the scan is told with the reason.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

from elr_mri.scans.imagepath import split_member

_IMAGE_SUFFIX = re.compile(r"(\.nii(\.gz)?|\.mg[zh]|\.dcm|\.img|\.hdr)$", re.I)
_LONG = ".long."
#: The folder of one image in a download from LONI.
_LONI_FOLDER = re.compile(r"/I(\d{4,})/[^/]+$", re.I)


@dataclass
class Match:
    """The row that stands for a scan (None: no row), why there is none, and what to look at where there is one."""

    row: str | None = None
    reason: str = ""


@dataclass
class _Found:
    """What was found for a scan: rows that name it, rows that name its subject, and faults."""

    own: list[str] = field(default_factory=list)
    subject: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)


def match(scans: pd.DataFrame, rows: Iterable[str]) -> dict[str, Match]:
    """The row of every scan.

    Parameters
    ----------
    scans : DataFrame
        The whole scan table: two scans of one name are only seen in it.
    rows : iterable of str
        The names of all rows, or of all folders.
    """
    rows = sorted(set(rows))
    of_scan, of_subject = _index(scans)
    bases = {_plain(row.partition(_LONG)[2]) for row in rows if _LONG in row}
    found: dict[str, _Found] = defaultdict(_Found)
    for row in rows:
        key = _plain(row.partition(_LONG)[0])
        if _LONG not in row and key in bases:
            continue  # the within-subject template of a longitudinal run is no scan
        own, subject = of_scan.get(key, set()), of_subject.get(key, set())
        for owners, name in ((own, "own"), (subject - own, "subject")):
            for scan_id in owners:
                getattr(found[scan_id], "shared" if len(owners) > 1 else name).append(row)
    longitudinal = any(_LONG in row for one in found.values() for row in one.own + one.subject)
    return {scan_id: _choose(found[scan_id], longitudinal) for scan_id in scans["scan_id"]}


def _choose(found: _Found, longitudinal: bool) -> Match:
    """One row, or the reason for none. A longitudinal run goes before the cross-sectional one of the same scan."""
    rows = found.own or found.subject
    rows = [row for row in rows if _LONG in row] or rows
    if len(rows) > 1:
        return Match(reason=f"{len(rows)} rows name this scan: {', '.join(rows[:4])}")
    if rows and longitudinal and _LONG not in rows[0]:
        return Match(rows[0], f"the cross-sectional run {rows[0]}, where other scans have longitudinal ones")
    if rows:
        return Match(rows[0])
    if found.shared:
        return Match(reason=f"{found.shared[0]} names this and other scans")
    return Match(reason="no row or folder names this scan")


def _index(scans: pd.DataFrame) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Name -> the scans that it names; and for the names of subjects. More than one scan under a name: ambiguous."""
    of_scan, of_subject = defaultdict(set), defaultdict(set)
    for scan in scans.itertuples():
        for name in _names(scan):
            of_scan[name].add(scan.scan_id)
        for name in _subject_names(scan):
            of_subject[name].add(scan.scan_id)
    return of_scan, of_subject


def _names(scan) -> set[str]:
    """What a row of this scan may be called, plain."""
    archive, member = split_member(scan.image_path)
    image = _plain(member or str(archive))
    names = {_plain(scan.scan_id), image, image.removesuffix("t1w")}
    names |= {name + _plain(scan.session_id) for name in _subject_names(scan)}
    uid = str(scan.image_uid) if isinstance(scan.image_uid, str) else ""
    if folder := _LONI_FOLDER.search((member or str(archive)).replace("\\", "/")):
        names.add(f"i{folder[1]}")
    return {*names, f"i{uid}" if uid.isdigit() else _plain(uid)} - {"", "i"}


def _subject_names(scan) -> set[str]:
    """The subject's id, with and without `sub-` and the cohort's name: `sub-ADNI001S0001`, `001_S_0001`."""
    bare = scan.subject_id.removeprefix("sub-")
    return {_plain(name) for name in (scan.subject_id, bare, bare.removeprefix(scan.cohort))} - {""}


def _plain(name: str) -> str:
    """The last part of a path, without an image's suffix, in lower case, letters and digits only.

    >>> _plain("/data/fs/sub-01_ses-M000/"), _plain("I45108.nii.gz")
    ('sub01sesm000', 'i45108')
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return re.sub(r"[\W_]", "", _IMAGE_SUFFIX.sub("", last).lower())
