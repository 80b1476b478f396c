"""The series in a zip, from its directory: listed, never unpacked.

Every image in a zip becomes one `Series`, usable or with the reason why not; so does a zip that holds none. Of the
members only small sidecars and the beginnings of DICOM files are read, both up to a fixed size.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from elr_mri.scans import series
from elr_mri.scans.dicom import HEAD_BYTES, Part, by_series
from elr_mri.scans.imagepath import READ_ERRORS, is_slice, unreadable
from elr_mri.scans.series import MAX_TOLD_BYTES, Series

_LINK = 0o120000


def in_zip(path: Path) -> list[Series]:
    """The series of one archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir() and not _is_hidden(info.filename)]
            found = _files(archive, path, infos) + _dicom_folders(archive, path, infos)
    except READ_ERRORS as problem:
        return [Series(str(path), (path.name,), reason="unreadable-archive", detail=" ".join(str(problem).split()))]
    return found or [Series(str(path), (path.name,), reason="no-nifti-in-archive")]


def _files(archive: zipfile.ZipFile, path: Path, infos: Sequence[zipfile.ZipInfo]) -> list[Series]:
    """NIfTI images, images of other formats, and zips inside the zip, which are not opened."""
    found = []
    by_name = {info.filename: info for info in infos}
    contents: dict[str, list[tuple[int, int]]] = {}
    for info in infos:
        contents.setdefault(info.filename, []).append((info.CRC, info.file_size))
    for info in infos:
        inner = PurePosixPath(info.filename)
        folders = (path.name, *inner.parts[:-1])
        reason, detail = unsafe(info) or unreadable(info) or (None, None)
        uid, told = None, ""
        if len(contents[info.filename]) > 1:
            uid = f"offset{info.header_offset}"
            reason = reason or _of_copies(contents[info.filename], is_last=info is by_name[info.filename])
        if series.NIFTI.fullmatch(inner.name):
            beside = by_name.get(series.stem(info.filename) + ".json")
            told = series.sidecar_text(_read(archive, beside, MAX_TOLD_BYTES, whole=True)) if not reason else ""
        elif series.UNSUPPORTED.fullmatch(inner.name):
            reason = reason or "unsupported-format"
        elif inner.suffix.lower() == ".zip":
            reason = reason or "nested-archive"
        else:
            continue
        place = f"{path}!{info.filename}"
        name = series.stem(inner.name)
        found.append(Series(place, folders, name, info.file_size, told, reason=reason, detail=detail, uid=uid))
    return found


def _dicom_folders(archive: zipfile.ZipFile, path: Path, infos: Sequence[zipfile.ZipInfo]) -> list[Series]:
    """The series of the folders of DICOM files: the folder stands for its only one, else of each its first file."""
    folders: dict[str, list[zipfile.ZipInfo]] = {}
    for info in infos:
        parent, _, name = info.filename.rpartition("/")
        if is_slice(name):
            folders.setdefault(parent, []).append(info)
    found = []
    for folder, parts in folders.items():
        problems = [problem for info in parts if (problem := unsafe(info) or unreadable(info))]
        reason, detail = problems[0] if problems else (None, None)
        names = (path.name, *PurePosixPath(folder).parts)
        series_of = by_series(
            Part(info, info.filename, info.file_size, b"" if problems else _read(archive, info, HEAD_BYTES))
            for info in sorted(parts, key=lambda info: (info.filename, info.header_offset))
        )
        for one in series_of:
            place, uid = f"{path}!{folder or '.'}/", None
            if len(series_of) > 1:
                place, uid = f"{path}!{one.files[0].filename}", one.uid or None
            found.append(
                Series(place, names, "", one.n_bytes, one.told, is_dicom=True, reason=reason, detail=detail, uid=uid)
            )
    return found


def unsafe(info: zipfile.ZipInfo) -> tuple[str, str] | None:
    """Whether a member would land, or leads, outside the folder that its zip is unpacked into."""
    name = info.orig_filename
    parts = name.split("/")
    escapes = name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name)
    if escapes or (info.external_attr >> 16) & 0o170000 == _LINK:
        return "unsafe-path", "a link" if not escapes else "leads out of the zip's own folder"
    return None


def _of_copies(contents: Sequence[tuple[int, int]], *, is_last: bool) -> str | None:
    """Of members under one name only the last can be opened: it is used if the others hold the same, else none is."""
    if len(set(contents)) > 1:
        return "ambiguous-member"
    return None if is_last else "duplicate-image"


def _is_hidden(name: str) -> bool:
    """What a Mac adds to a zip: `__MACOSX/` and files such as `._scan.nii`."""
    parts = name.split("/")
    return "__MACOSX" in parts or (parts[-1].startswith(".") and not parts[-1].startswith(".."))


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo | None, most: int, *, whole: bool = False) -> bytes:
    """The first `most` bytes of a member; empty if it cannot be read or, where all of it is wanted, is larger."""
    if info is None or unreadable(info) or (whole and info.file_size > most):
        return b""
    try:
        with archive.open(info) as file:
            return file.read(most)
    except READ_ERRORS:
        return b""
