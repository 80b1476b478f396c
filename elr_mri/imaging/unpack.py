"""A readable image file for every way in which a scan is stored: plain, in a zip, or as DICOM files.

What has to be unpacked goes under names of ours into a scratch folder beside the output, and is gone afterwards. Sizes
are limited by what a zip's directory says and again while reading, because a directory can lie.

Nothing of a DICOM header but geometry and voxels is carried on: dcm2niix writes no sidecar (`-b n`), its messages,
which may name files and people, are not repeated, and the image that `convert` writes has a header of its own.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib

from elr_mri.errors import of_the_machine
from elr_mri.provenance import scratch
from elr_mri.scans.dicom import HEAD_BYTES, Part, by_series, is_dicom, is_multiframe, preferred_t1
from elr_mri.scans.imagepath import (
    MAX_BYTES,
    READ_ERRORS,
    files_below,
    is_missing,
    is_slice,
    members,
    split_member,
    unreadable,
)

SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh", ".img", ".hdr")

#: What readers raise on a broken file (seen on truncated, mislabelled and empty files).
UNREADABLE = (
    *READ_ERRORS,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.freesurfer.mghformat.MGHError,
    TypeError,
    ValueError,
    OverflowError,  # an offset of the voxels that is infinite, or beyond any file
)

#: A disk with less room is full: a DICOM series becomes several MiB.
MIN_FREE_BYTES = 1 << 20

#: Files of one DICOM series; the finest T1 has some 400.
_MAX_SLICES = 5000


class Unusable(ValueError):
    """A scan that this pipeline cannot use; the message is the reason in its status."""


@contextmanager
def local_file(source: str, work_dir: Path) -> Iterator[Path]:
    """A readable image file for `source`; what had to be unpacked disappears when the block ends."""
    path, member = split_member(source)
    if not os.path.exists(path):
        raise Unusable("no such file")
    if not (path.is_file() or path.is_dir()):
        raise Unusable("neither a file nor a folder")
    if member is None and path.is_file() and not _is_dicom(path):
        yield path
        return
    with scratch(work_dir) as unpacked:
        suffix = next((s for s in SUFFIXES if member and member.lower().endswith(s)), None)
        if suffix is not None:
            yield _unzip(path, member, unpacked, suffix)
            return
        folder = unpacked / "dicom"
        folder.mkdir()
        if member is not None:
            _unzip(path, member, folder, ".dcm")
        elif files := _one_series(_beside(path), path):
            for k, file in enumerate(files):
                (folder / f"{k:05d}.dcm").symlink_to(file.resolve())
        else:
            folder = path
        yield _dicom(folder, unpacked)


def _is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM (`DICM` after 128 bytes)."""
    return is_dicom(_head(path))


def _head(path: Path) -> bytes:
    """The first bytes of a file, as many as tell what it is."""
    try:
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as problem:
        if of_the_machine(problem):
            raise
        raise Unusable(f"unreadable: {problem.strerror}") from problem


def _beside(path: Path) -> list[Part]:
    """What may be DICOM files of a folder and the folders in it, or beside a file; a link to nothing is one, and unusable."""
    try:
        files = files_below(path) if path.is_dir() else sorted(path.parent.iterdir())
        files = [f for f in files if f == path or (is_slice(f.name) and (f.is_file() or is_missing(f)))]
        return [Part(file, file.name, file.stat().st_size, _head(file)) for file in files]
    except OSError as problem:
        if of_the_machine(problem):
            raise
        raise Unusable(f"unreadable: {problem.strerror}") from problem


def _one_series(parts: list[Part], named: object) -> list:
    """The files of the series that the file `named` is of; else that of several which says that it is a T1-weighted scan.

    Empty where there are no several: whatever lies there is the scan. A file of many frames is a whole head by itself.
    """
    own = next((part for part in parts if part.file == named), None)
    if own is not None and (is_multiframe(own.head) or not is_slice(own.name.rpartition("/")[2])):
        return [own.file]
    found = by_series(parts)
    if own is not None:
        return next((one.files for one in found if own.file in one.files), [own.file])
    if len(found) < 2:
        return []
    if (chosen := preferred_t1(found)) is None:
        raise Unusable(f"{len(found)} DICOM series in one folder, none of which says that it is T1-weighted")
    return chosen.files


def _unzip(archive: Path, member: str, scratch: Path, suffix: str) -> Path:
    """Stream the files of an image in a zip into `scratch` as `00000<suffix>` and so on; returns the first."""
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = members(opened, member) if suffix != ".dcm" else _series_in(opened, member)
            if len(infos) > _MAX_SLICES:
                raise Unusable(f"{len(infos)} files in one folder of the archive; a series has at most {_MAX_SLICES}")
            left = MAX_BYTES
            for k, info in enumerate(infos):
                _check(info)
                left = _stream(opened, info, scratch / f"{k:05d}{suffix}", left)
    except Unusable:
        raise
    except UNREADABLE as problem:
        if of_the_machine(problem):
            raise
        raise Unusable(f"unreadable in the archive: {' '.join(str(problem).split())[:160]}") from problem
    return scratch / f"00000{suffix}"


def _series_in(archive: zipfile.ZipFile, member: str) -> list[zipfile.ZipInfo]:
    """The files of the series that a folder, or one of its files, in a zip stands for."""
    folder, _, name = member.rpartition("/")
    named = members(archive, member)[0] if name else None
    infos = members(archive, f"{folder or '.'}/") if not name or is_slice(name) else []
    parts = []
    for info in infos:
        _check(info)
        with archive.open(info) as file:
            parts.append(Part(info, info.filename, info.file_size, file.read(HEAD_BYTES)))
    if named is not None and not any(part.file is named and is_dicom(part.head) for part in parts):
        raise Unusable(f"{member} is no NIfTI, MGZ or DICOM file")
    return _one_series(parts, named) or infos


def _check(info: zipfile.ZipInfo) -> None:
    """Raise `Unusable` where a member cannot be read."""
    if problem := unreadable(info):
        raise Unusable(" ".join(("not read from the archive:", *problem)).strip())


def _stream(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, left: int) -> int:
    """Copy one member, at most `left` bytes and no more than the zip's directory says; returns what is left."""
    most = min(left, info.file_size)
    done = 0
    with archive.open(info) as stream, open(target, "wb") as file:
        while piece := stream.read(1 << 20):
            done += len(piece)
            if done > most:
                raise Unusable(f"unpacks to more than {most} bytes")
            file.write(piece)
    return left - done


def _dicom(folder: Path, scratch: Path) -> Path:
    """Convert the DICOM files of one series with dcm2niix; of several images that it makes the largest is the scan."""
    import dcm2niix  # carries the binary

    made = scratch / "nifti"
    made.mkdir()
    options = ["-b", "n", "-z", "n", "-m", "y", "-x", "n", "-f", "scan"]
    done = subprocess.run(
        [dcm2niix.bin, *options, "-o", str(made), str(folder.absolute())],  # so that `-x` is no option
        capture_output=True,
        check=False,
    )
    if shutil.disk_usage(made).free < MIN_FREE_BYTES:  # it does not say so itself
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(made))
    found = [path for path in sorted(made.glob("*.nii")) if not path.stem.endswith("_Eq")]
    straightened = sorted(made.glob("*_Eq*.nii"))
    if not found:
        raise Unusable(f"dcm2niix made no image of the folder (exit status {done.returncode})")
    return max(straightened or found, key=lambda path: path.stat().st_size)
