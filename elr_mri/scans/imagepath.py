"""Where an image lies: a file, a DICOM folder, or inside a zip `archive.zip!member` or, for DICOM, `archive.zip!folder/`
(`archive.zip!./` where they lie at its top). A DICOM file stands for the series that it is of, among others in its folder.

A zip is opened where it is. What a member may be is decided here, once, for listing and for unpacking: deflated or
stored, without a password, and not larger than an image can be.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_IN_ZIP = re.compile(r"(.+?\.zip)!(.+)", re.I | re.S)

#: What opening or reading a broken file or archive raises (`struct.error`: a directory cut short).
READ_ERRORS = (
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    struct.error,
    zlib.error,
)

#: No head scan is larger: 645 voxels a side in double precision have 2 GiB.
MAX_BYTES = 2**31

#: Deflate reaches 1,000 to 1 on zeros. A defaced or brain-extracted image stays below 100 to 1.
MAX_RATIO = 200
_SMALL_BYTES = 2**24

#: Endings of what lies beside DICOM files; DICOM files themselves often end in their number only.
NO_SLICE = frozenset(
    [
        ".json",
        ".txt",
        ".nii",
        ".gz",
        ".zip",
        ".csv",
        ".tsv",
        ".xml",
        ".pdf",
        ".html",
        ".htm",
        ".png",
        ".jpg",
        ".jpeg",
        ".bval",
        ".bvec",
        ".md",
        ".log",
        ".mgz",
        ".mgh",
        ".img",
        ".hdr",
        ".mnc",
        ".nrrd",
        ".sql",
        ".exe",
        ".xlsx",
        ".docx",
        ".tar",
        ".md5",
        ".ini",
        ".inf",
    ]
)


#: Spaces, as BIDS names them, that are the MNI152 (ICBM) space in mm: a scan that was laid there is not registered again.
MNI_SPACES = (
    "MNI152NLin2009cSym",
    "MNI152NLin2009cAsym",
    "MNI152NLin2009aSym",
    "MNI152NLin2009aAsym",
    "MNI152NLin2009bSym",
    "MNI152NLin2009bAsym",
    "MNI152NLin6Sym",
    "MNI152NLin6Asym",
)


def space_of(image_path: str) -> str | None:
    """The `space-` entity of a file's name, None where it has none.

    >>> space_of("sub-1/t1_linear/sub-1_space-MNI152NLin2009cSym_res-1x1x1_T1w.nii.gz")
    'MNI152NLin2009cSym'
    """
    match = re.search(r"_space-([A-Za-z0-9]+)_", re.split(r"[/\\]", image_path)[-1])
    return match[1] if match else None


def split_member(image_path: str) -> tuple[Path, str | None]:
    """The file or folder on disk, and the member inside it if it is a zip.

    >>> split_member("scans/mri12.zip!mri12ni/T1/a.nii")[1]
    'mri12ni/T1/a.nii'
    """
    match = _IN_ZIP.fullmatch(image_path)
    return (Path(match[1]), match[2]) if match else (Path(image_path), None)


def is_missing(path: Path | str) -> bool:
    """Whether nothing is there: no file, or a link to none. Raises `OSError` where that cannot be told."""
    try:
        os.stat(path)
    except OSError as problem:
        if problem.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return True
        raise
    return False


def is_slice(name: str) -> bool:
    """Whether a file may, by its name, be one of the DICOM files of its folder."""
    return PurePosixPath(name).suffix.lower() not in NO_SLICE and not name.startswith(".") and name != "DICOMDIR"


def unreadable(info: zipfile.ZipInfo) -> tuple[str, str] | None:
    """Why a zip member is not read, as reason and detail; None where it can be."""
    if info.flag_bits & 1:
        return "encrypted-archive", ""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "unreadable-archive", f"compressed by method {info.compress_type}; only deflate (8) is read"
    ratio = info.file_size / max(info.compress_size, 1)
    if info.file_size > MAX_BYTES or (ratio > MAX_RATIO and info.file_size > _SMALL_BYTES):
        return "oversized-member", f"{info.compress_size} bytes in the zip, {info.file_size} bytes unpacked"
    return None


def members(archive: zipfile.ZipFile, member: str) -> list[zipfile.ZipInfo]:
    """The zip members that make an image: one file, or for `folder/` the DICOM files that lie directly in it."""
    return _pick(_by_place(archive.infolist()), member)


def _by_place(infos: Iterable[zipfile.ZipInfo]) -> dict[str, list[zipfile.ZipInfo]]:
    """Members by their name, and possible DICOM files also by their folder (`./` is the top)."""
    places: dict[str, list[zipfile.ZipInfo]] = {}
    for info in infos:
        if info.is_dir():
            continue
        folder, _, name = info.filename.rpartition("/")
        places[info.filename] = [info]  # of several members of one name only the last can be opened by it
        if is_slice(name):
            places.setdefault(f"{folder or '.'}/", []).append(info)
    return places


def _pick(places: dict[str, list[zipfile.ZipInfo]], member: str) -> list[zipfile.ZipInfo]:
    if member not in places:
        raise KeyError(f"the archive holds no {member}")
    return sorted(places[member], key=lambda info: (info.filename, info.header_offset))


@lru_cache(maxsize=8)
def _directory(path: Path, size: int, changed_ns: int) -> dict[str, list[zipfile.ZipInfo]]:
    """A zip's directory; kept for the next image, because an archive of a whole study takes seconds to open."""
    with zipfile.ZipFile(path) as archive:
        return _by_place(archive.infolist())


def _members_of(path: Path, member: str) -> list[zipfile.ZipInfo]:
    now = path.stat()
    return _pick(_directory(path, now.st_size, now.st_mtime_ns), member)


def sizes(image_path: str) -> tuple[int, ...]:
    """Uncompressed sizes of the files of an image."""
    on_disk, member = split_member(image_path)
    if member is None:
        return tuple(part.stat().st_size for part in _files(on_disk))
    return tuple(info.file_size for info in _members_of(on_disk, member))


def checksums(image_path: str) -> tuple[int, ...]:
    """CRC-32 of each file of an image in a zip, from the zip's directory: nothing is unpacked for it."""
    on_disk, member = split_member(image_path)
    return tuple(info.CRC for info in _members_of(on_disk, member or ""))


@contextmanager
def open_parts(image_path: str) -> Iterator[Iterator[BinaryIO]]:
    """Open the files of an image one after the other, without unpacking anything to disk."""
    on_disk, member = split_member(image_path)
    if member is None:
        yield map(Path.open, _files(on_disk), repeat("rb"))
        return
    with zipfile.ZipFile(on_disk) as archive:
        yield (archive.open(info) for info in members(archive, member))


@contextmanager
def open_bytes(image_path: str) -> Iterator[BinaryIO]:
    """Open an image for reading, of a DICOM series its first file, without unpacking anything to disk."""
    with open_parts(image_path) as parts, next(parts) as file:
        yield file


def _files(on_disk: Path) -> Sequence[Path]:
    return files_below(on_disk) if on_disk.is_dir() else [on_disk]


def files_below(folder: Path) -> list[Path]:
    """The files of a folder of DICOM files, links to nothing among them, sorted.

    Raises `OSError` where the folder, or one in it, cannot be read.
    """
    found = [Path(root, name) for root, _, names in os.walk(folder, onerror=_raise) for name in names]
    return sorted(path for path in found if path.is_file() or is_missing(path))


def _raise(problem: OSError) -> None:
    raise problem
