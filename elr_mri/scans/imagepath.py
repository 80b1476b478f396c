"""Where an image lies: a file, a DICOM folder, or `archive.zip!member` for an image inside a zip."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_IN_ZIP = re.compile(r"(.+?\.zip)!(.+)", re.I | re.S)

#: What opening or reading a broken file or archive raises.
READ_ERRORS = (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error)


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
    match = re.search(r"_space-([A-Za-z0-9]+)_[^/\\]*$", image_path)
    return match[1] if match else None


def split_member(image_path: str) -> tuple[Path, str | None]:
    """The file or folder on disk, and the member inside it if it is a zip.

    >>> split_member("scans/mri12.zip!mri12ni/T1/a.nii")[1]
    'mri12ni/T1/a.nii'
    """
    match = _IN_ZIP.fullmatch(image_path)
    return (Path(match[1]), match[2]) if match else (Path(image_path), None)


@contextmanager
def open_bytes(image_path: str) -> Iterator[BinaryIO]:
    """Open a file or a zip member for reading, without unpacking anything to disk."""
    on_disk, member = split_member(image_path)
    if member is None:
        with open(on_disk, "rb") as file:
            yield file
    else:
        with zipfile.ZipFile(on_disk) as archive, archive.open(member) as file:
            yield file


def size_bytes(image_path: str) -> int:
    """Uncompressed size of a file or zip member."""
    on_disk, member = split_member(image_path)
    if member is None:
        return on_disk.stat().st_size
    with zipfile.ZipFile(on_disk) as archive:
        return archive.getinfo(member).file_size
