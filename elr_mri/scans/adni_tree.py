"""The images of an IDA download: NIfTI files and DICOM series, wherever they lie in the folder.

Images are keyed on the id at the end of their name (`…_I45108.nii`), because a leaf folder is called after the
series (`S13408`) in older downloads and after the image (`I358089`) in newer ones, and may hold more than one image.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from os.path import commonpath
from pathlib import Path

import pandas as pd

from elr_mri.scans import t1
from elr_mri.scans.adni_columns import rids
from elr_mri.scans.cohort import blank_images, mark
from elr_mri.scans.imagepath import READ_ERRORS

PTID = re.compile(r"\d{3}_S_\d{4,5}", re.I)
_IN_NAME = re.compile(r"(?<!\d)\d{3}_S_\d{4,5}(?!\d)", re.I)
_SUFFIX = re.compile(
    r"(?P<stem>.*?)(?P<suffix>(\.nii|\.img|\.mgh|\.nrrd|\.dcm)?(\.gz)?|\.[A-Za-z]\w{0,4})", re.I | re.S
)
_NIFTI = {".nii", ".nii.gz"}
_DICOM = {".dcm", ".ima", ".dicom"}
_OTHER = {".img", ".img.gz", ".mnc", ".mgz", ".mgh", ".mgh.gz", ".dcm.gz", ".nrrd", ".nrrd.gz", ".mha", ".mhd"}
_NO_IMAGE = re.compile(
    r"\.(csv|tsv|xml|json|txt|pdf|html?|md|log|xlsx?|docx?|png|jpe?g|gif|hdr|bval|bvec|py|r|rda|rdata|rds|sh|ya?ml|gz"
    r"|tar|tgz|db|ini|lnk)"
)
_UID = re.compile(r"_(?:I(\d+)|(D\d+))$", re.I)
_SERIES = re.compile(r"_S(\d+)_[ID]\d+$", re.I)
_LEAF = re.compile(r"(?:S\d+|I(\d+)|(D\d+))", re.I)
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(_\d{2}_\d{2}_\d{2}.*)?")
_NAMED = re.compile(r"_MR_(.+?)_br_", re.I)


def list_images(files: Sequence[Path], *, root: Path) -> pd.DataFrame:
    """One row per image in the tree: NIfTI files, and DICOM series (the files of one image id in one leaf folder).

    Columns: image_path, image_uid, series, ptid, subject (RID), date, description, reason, detail. A zip that still
    holds images, or that cannot be read, is a row too, so that no one takes what lies in it for read.
    """
    rows, series, unknown = [], {}, {}
    for path in files:
        kind, stem = _kind(path)
        if kind in ("nifti", "other"):
            rows.append(_row(path, root, path, stem, None if kind == "nifti" else "unsupported-format"))
        elif kind == "dicom":
            series.setdefault(_leaf(path, root), {}).setdefault(_uid(stem), []).append(path)
        elif kind == "unknown":
            unknown.setdefault(_leaf(path, root), []).append(path)
        elif kind == "zip" and (refused := _refused_zip(path)):
            rows.append(_row(path, root, path, stem, refused[0]) | {"detail": refused[1]})
    for leaf, by_uid in series.items():
        rows += [_series_row(leaf, paths, by_uid, root) for paths in by_uid.values()]
    rows += _unread_leaves(unknown, {Path(row["image_path"]) for row in rows}, root)
    images = blank_images(rows)
    return images if images.empty else _checked(images)


def _checked(images: pd.DataFrame) -> pd.DataFrame:
    """Mark what names no image, two subjects, or no T1; subject and date as numbers."""
    mark(images, images["conflict"].notna(), "conflicting-ids", images["conflict"])
    mark(images, images["image_uid"].isna() | images["ptid"].isna(), "no-image-id")
    not_t1 = [
        not t1.is_t1(told) or t1.is_derived(folder) or t1.is_derived(stem)
        for told, folder, stem in zip(images["description"], images["folder"], images["stem"], strict=True)
    ]
    mark(images, not_t1, "not-t1", images["description"])
    images["subject"] = rids(images["ptid"])
    images["date"] = pd.to_datetime(images["date"], format="%Y-%m-%d", errors="coerce")
    return images.drop(columns=["conflict", "folder", "stem"])


def _kind(path: Path) -> tuple[str | None, str]:
    """What a file is by its suffix, or where that tells nothing by its bytes; and its name without the suffix."""
    match = _SUFFIX.fullmatch(path.name)
    suffix, stem = (match["suffix"].lower(), match["stem"]) if match else ("", path.name)
    for kind, suffixes in (("nifti", _NIFTI), ("dicom", _DICOM), ("other", _OTHER), ("zip", {".zip"})):
        if suffix in suffixes:
            return kind, stem
    if _NO_IMAGE.fullmatch(suffix):
        return None, stem
    try:
        with open(path, "rb") as file:
            return ("dicom" if file.read(132)[128:] == b"DICM" else "unknown"), stem
    except OSError:
        return "unknown", stem


def _uid(stem: str) -> str | None:
    """The image id at the end of a name: `I45108` is 45108, a derived image's `D12` stays `D12`."""
    match = _UID.search(stem)
    return (match[1] or match[2].upper()) if match else None


def _leaf(path: Path, root: Path) -> Path:
    """The folder of an image: the nearest one called after a series or an image, or else the file's own."""
    return next((p for p in path.parents if p != root and root in p.parents and _LEAF.fullmatch(p.name)), path.parent)


def _series_row(leaf: Path, paths: list[Path], by_uid: dict, root: Path) -> dict:
    """The row of one DICOM series; several series that share one folder cannot be told apart by the converter."""
    folder = leaf if len(by_uid) == 1 else Path(commonpath([path.parent for path in paths]))
    own = set(paths)
    mixed = any(folder in p.parents for others in by_uid.values() for p in others if p not in own)
    stem = _kind(paths[0])[1]
    return _row(paths[0] if mixed else folder, root, paths[0], stem, "mixed-dicom-folder" if mixed else None)


def _unread_leaves(unknown: dict[Path, list[Path]], known: set[Path], root: Path) -> list[dict]:
    """Leaf folders that hold nothing but files of an unknown kind: found, though they cannot be read."""
    taken = known | {parent for path in known for parent in path.parents}
    return [
        _row(leaf, root, paths[0], _kind(paths[0])[1], "unsupported-format")
        for leaf, paths in unknown.items()
        if _LEAF.fullmatch(leaf.name) and leaf not in taken
    ]


def _refused_zip(path: Path) -> tuple[str, str] | None:
    """Why a zip's images are not read, and how many they are by the names in its directory; None where it holds none."""
    try:
        with zipfile.ZipFile(path) as archive:
            held = sum(bool(re.search(r"\.(nii|dcm|ima)(\.gz)?$", name, re.I)) for name in archive.namelist())
    except READ_ERRORS as problem:
        return "unreadable-archive", " ".join(str(problem).split())
    return ("unsupported-format", f"a zip that is not unpacked ({held} images)") if held else None


def _row(image: Path, root: Path, file: Path, stem: str, reason: str | None) -> dict:
    """What path and name of one image tell; folders outside the cohort's own are not looked at."""
    parts = file.relative_to(root).parts[:-1]
    named, folder = _NAMED.search(file.name), _described(parts)
    told = list(_subjects_in(parts, file.name))
    leaf = next((m for p in reversed(parts) if (m := _LEAF.fullmatch(p))), None)
    series = _SERIES.search(stem)
    return {
        "image_path": str(image),
        "image_uid": _uid(stem) or (leaf and (leaf[1] or leaf[2])),
        "series": series and series[1],
        "ptid": told[0] if told else None,
        "conflict": f"{told[0]} and {told[1]}" if len(told) > 1 else None,
        "date": next((m[1] for p in reversed(parts) if (m := _DATE.fullmatch(p))), None),
        "reason": reason,
        "description": named[1] if named else folder or stem,
        "folder": folder,
        "stem": stem,
    }


def _described(parts: Sequence[str]) -> str:
    """The series description: the folder above the one that is called after the date."""
    return next((parts[i - 1] for i in range(1, len(parts)) if _DATE.fullmatch(parts[i])), "")


def _subjects_in(parts: Sequence[str], name: str) -> Iterator[str]:
    """The different PTIDs that the nearest folder and the file name tell."""
    folder = next((p.upper() for p in reversed(parts) if PTID.fullmatch(p)), None)
    names = {found.upper() for found in _IN_NAME.findall(name)}
    yield from dict.fromkeys([*([folder] if folder else []), *sorted(names)])
