"""One series of a session: what its folders, its sidecar or its DICOM header tell of it.

Only a bounded piece of a sidecar or a DICOM file is ever read, and of a header only which sequence it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elr_mri.scans.dicom import HEAD_BYTES, Part, by_series, sequence
from elr_mri.scans.imagepath import READ_ERRORS, is_missing, is_slice

NIFTI = re.compile(r".*\.nii(\.gz)?", re.I | re.S)
UNSUPPORTED = re.compile(r".*\.(mgz|mgh|img|mnc|nrrd)(\.gz)?", re.I | re.S)

#: A sidecar larger than this is not a sidecar.
MAX_TOLD_BYTES = 2**20

#: The day's folder of an IDA tree (`2024-10-31_10_24_18.0`); the series description is the folder above it.
IDA_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})(_\d{2}_\d{2}_\d{2}.*)?", re.A)

#: Folder and file names that tell no sequence: numbers and UIDs, `DICOM`, the session's own name.
_NAMELESS = re.compile(
    r"[\d._-]*|(dicoms?|nifti|nii|ni|im|img|image|scan|mr|mri)s?[\d._-]*|nacc\d{6}.*|mri\d+(ni)?|[0-9a-f.-]{16,}", re.I
)


@dataclass(frozen=True)
class Series:
    """One image found.

    Parameters
    ----------
    image_path : as in `imagepath`
    folders : names of the archive and the folders that it lies in, outermost first
    name : its own name without ending, empty for a DICOM series
    size : bytes
    told : what its sidecar or DICOM header calls it, empty where that tells nothing
    is_dicom : whether a series of DICOM files
    reason, detail : why it cannot be used; None where it can
    uid : tells two images of one path apart; of one DICOM series among others in a folder, its UID
    """

    image_path: str
    folders: Sequence[str]
    name: str = ""
    size: int = 0
    told: str = ""
    is_dicom: bool = False
    reason: str | None = None
    detail: str | None = None
    uid: str | None = None

    @property
    def description(self) -> str:
        """What the series is called: by sidecar or header, else by the IDA's folder, else by all of its folders."""
        above = [self.folders[i - 1] for i, part in enumerate(self.folders) if i and IDA_DAY.fullmatch(part)]
        return self.told or "".join(above[-1:]) or " / ".join([*self.folders[1:], self.name]).strip(" /")

    @property
    def is_nameless(self) -> bool:
        """Whether nothing tells which sequence this is."""
        return not self.told and all(_NAMELESS.fullmatch(part) for part in [*self.folders[1:], self.name])


def stem(name: str) -> str:
    """A NIfTI file's name without its ending."""
    return re.sub(r"\.nii(\.gz)?$", "", name, flags=re.I)


def sidecar_text(raw: bytes) -> str:
    """Series description and acquisition type from a dcm2niix sidecar, empty if it tells none."""
    try:
        told = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        return ""
    if not isinstance(told, Mapping):
        return ""
    return sequence(*(told.get(key) for key in ("SeriesDescription", "ProtocolName", "MRAcquisitionType")))


def unpacked(files: Sequence[Path], *, root: Path) -> list[Series]:
    """The series of unpacked sessions: NIfTI files, and folders of DICOM files.

    The DICOM files of a folder are one image, which the folder stands for; where they, or those in folders within, are of
    several series, each is an image, which its first file stands for.
    """
    found, slices = [], {}
    for path in files:
        folders = path.relative_to(root).parts[:-1]
        if NIFTI.fullmatch(path.name):
            told = sidecar_text(_head(Path(stem(str(path)) + ".json"), MAX_TOLD_BYTES, whole=True))
            found.append(Series(str(path), folders, stem(path.name), _size(path), told, reason=_gone([path])))
        elif UNSUPPORTED.fullmatch(path.name):
            found.append(Series(str(path), folders, path.name, reason="unsupported-format"))
        elif is_slice(path.name):
            slices.setdefault(path.parent, []).append(path)
    above = {parent for folder in slices for parent in folder.parents}
    for folder, paths in slices.items():
        whole = by_series(Part(path, path.name, _size(path), _head(path, HEAD_BYTES)) for path in paths)
        folders, gone = folder.relative_to(root).parts, _gone(paths)
        for one in whole:
            among = len(whole) > 1 or (folder in above and one.uid)  # the converter looks into the folders within, too
            place, uid = (one.files[0], one.uid or None) if among else (folder, None)
            found.append(Series(str(place), folders, "", one.n_bytes, one.told, is_dicom=True, reason=gone, uid=uid))
    return found


def _gone(files: Sequence[Path]) -> str | None:
    """The reason of an image of which a file is a link to nothing."""
    return "missing-file" if any(is_missing(path) for path in files) else None


def _size(path: Path) -> int:
    return 0 if is_missing(path) else path.stat().st_size


def _head(path: Path, most: int, *, whole: bool = False) -> bytes:
    """The first `most` bytes of a file, empty if it cannot be read or, where all of it is wanted, is larger."""
    try:
        with open(path, "rb") as file:
            raw = file.read(most + 1)
    except READ_ERRORS:
        return b""
    return b"" if whole and len(raw) > most else raw[:most]
