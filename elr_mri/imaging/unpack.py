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
from elr_mri.scans.imagepath import MAX_BYTES, READ_ERRORS, members, split_member, unreadable

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
        if member is None:
            yield _dicom(path if path.is_dir() else _by_itself(path, unpacked), unpacked)
        elif member.endswith("/"):
            folder = unpacked / "dicom"
            folder.mkdir()
            _unzip(path, member, folder, ".dcm")
            yield _dicom(folder, unpacked)
        else:
            suffix = next((s for s in SUFFIXES if member.lower().endswith(s)), None)
            if suffix is None:
                raise Unusable(f"{member} is no NIfTI or MGZ file")
            yield _unzip(path, member, unpacked, suffix)


def _is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM (`DICM` after 128 bytes); an enhanced one holds a whole head."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError as problem:
        raise Unusable(f"unreadable: {problem.strerror}") from problem


def _by_itself(path: Path, scratch: Path) -> Path:
    """A folder with this DICOM file and nothing of what lies beside it."""
    folder = scratch / "dicom"
    folder.mkdir()
    (folder / "scan.dcm").symlink_to(path.resolve())
    return folder


def _unzip(archive: Path, member: str, scratch: Path, suffix: str) -> Path:
    """Stream the files of an image in a zip into `scratch` as `00000<suffix>` and so on; returns the first."""
    try:
        with zipfile.ZipFile(archive) as opened:
            infos = members(opened, member)
            if len(infos) > _MAX_SLICES:
                raise Unusable(f"{len(infos)} files in one folder of the archive; a series has at most {_MAX_SLICES}")
            left = MAX_BYTES
            for k, info in enumerate(infos):
                if problem := unreadable(info):
                    raise Unusable(" ".join(("not read from the archive:", *problem)).strip())
                left = _stream(opened, info, scratch / f"{k:05d}{suffix}", left)
    except Unusable:
        raise
    except UNREADABLE as problem:
        if of_the_machine(problem):
            raise
        raise Unusable(f"unreadable in the archive: {' '.join(str(problem).split())[:160]}") from problem
    return scratch / f"00000{suffix}"


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
    """Convert a DICOM folder with dcm2niix; of several series the one with most voxels is the scan."""
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
