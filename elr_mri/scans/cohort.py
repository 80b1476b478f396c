"""What a reader finds in a download: one row per image, kept or with the reason why not.

Every reader returns `Found`. An image is never dropped from its table; it is marked with a
reason, so found = kept + excluded holds by construction and `ingest.py` checks it on what is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.scans.cells import is_printable
from elr_mri.scans.imagepath import is_missing, split_member

#: Why an image that was found is not a scan of the study: code in `exclusions.tsv` -> sentence for people.
REASONS = {
    "not-t1": "not a T1-weighted scan (another sequence, a mask, or without distortion correction)",
    "unsupported-format": "an image format that is not read (only NIfTI and DICOM are)",
    "no-image-id": "the file name carries no image id and subject id",
    "conflicting-ids": "folder, file name and image list name different subjects",
    "mixed-dicom-folder": "one folder holds the DICOM files of several images",
    "unknown-series": "neither sidecar nor header nor folder names tell which sequence it is",
    "unreadable-archive": "the zip, or this file in it, cannot be read",
    "encrypted-archive": "the zip asks for a password",
    "nested-archive": "a zip inside a zip, which is not opened; unpack the outer one",
    "oversized-member": "unpacks to more than an image can be (a zip bomb)",
    "ambiguous-member": "the zip holds several files of this name with different contents",
    "no-nifti-in-archive": "the zip holds no NIfTI or DICOM image",
    "unsafe-path": "a path or link inside the zip leads out of it",
    "unprintable-path": "the path holds a control character or no valid text; rename the file or folder",
    "missing-file": "the file is not there: a table names it, or a link leads to it",
    "failed-series-qc": "refused by the study's own quality control of the series (SCAN)",
    "unknown-space": "already registered, but to a space that is not known to be MNI152",
    "withdrawn": "withdrawn by the study (DELMRSCANS)",
    "no-table-row": "no row in the study's tables is about this image or subject",
    "no-date": "the acquisition date is unknown",
    "no-visit-near": "no clinical visit within max_days of the scan",
    "no-diagnosis": "the matching visit has no diagnosis",
    "impaired-not-mci": "diagnosed as impaired, not MCI (NACCUDSD 2)",
    "dementia-not-ad": "dementia that is not due to Alzheimer's disease, by the configured definition",
    "other-diagnosis": "a diagnosis that is none of CN, MCI, AD",
    "no-age": "the age at the scan is unknown or impossible",
    "other-scan-of-visit": "another scan of the same visit was chosen",
    "duplicate-image": "the same bytes as another kept image",
}

_ID = re.compile(r"[A-Za-z0-9]{1,64}")  # longer ones make paths that file systems refuse


@dataclass(frozen=True)
class Found:
    """What a download holds.

    Parameters
    ----------
    images : DataFrame
        One row per image found: the columns of `scans.tsv` except cohort and scan_id, and
        `reason` (missing = kept) and `detail`.
    visits : DataFrame
        subject_id, months, age_years, diagnosis: every clinical visit, scanned or not.
    notes : DataFrame
        subject_id, months, note: what a person should look at, such as tables that disagree.
    tables : paths of the tables that were read
    """

    images: pd.DataFrame
    visits: pd.DataFrame
    notes: pd.DataFrame
    tables: tuple[Path, ...]


def subject_id(label: str, *, where: str) -> str:
    """`sub-<label>`; the label becomes part of file names, so anything but letters and digits is refused."""
    if not _ID.fullmatch(label):
        raise BadInput(
            expected="a subject id of letters and digits, at most 64",
            got=repr(label[:80]),
            where=where,
            fix="Rename that subject.",
        )
    return f"sub-{label}"


def session_id(months: float) -> str:
    """`ses-M006` for 6 months after the first visit."""
    return f"ses-M{int(months):03d}"


def session_months(labels: pd.Series) -> pd.Series:
    """Months after the first visit from session labels such as `ses-M006`, `M06`; missing where a label tells none."""
    return pd.to_numeric(labels.astype("str").str.extract(r"^(?:ses-)?[Mm](\d{1,3})$")[0], errors="coerce").astype(
        float
    )


def session_key(label: str) -> str:
    """A session label in one spelling: `ses-M006` for `M6`, `ses-M06` and `ses-M006`; others as they are.

    >>> session_key("ses-M00"), session_key("baseline"), session_key("")
    ('ses-M000', 'ses-baseline', '')
    """
    months = session_months(pd.Series([label], dtype="str"))[0]
    if months == months:
        return session_id(months)
    return "ses-" + label.removeprefix("ses-") if label else ""


def mark(
    images: pd.DataFrame, chosen: Iterable[bool] | pd.Series, reason: str, detail: str | pd.Series | None = None
) -> None:
    """Exclude the chosen images for a reason, in place; an image keeps its first reason."""
    if reason not in REASONS:
        raise KeyError(f"no such exclusion reason: {reason}")
    rows = images["reason"].isna() & pd.Series(chosen, index=images.index).fillna(False).astype(bool)
    images.loc[rows, "reason"] = reason
    if detail is not None:
        images.loc[rows, "detail"] = detail if isinstance(detail, str) else detail[rows]


def keep_one_per_visit(images: pd.DataFrame, order: Sequence[str]) -> None:
    """Of the kept images of one subject and visit keep the first in `order` (columns, ascending), in place.

    An image whose path no table can hold, or that is a link to nothing, is excluded before the choice, so that it takes
    no other's place.
    """
    mark(images, ~images["image_path"].map(is_printable).astype(bool), "unprintable-path")
    kept = images["reason"].isna()
    gone = images.loc[kept, "image_path"].map(lambda path: is_missing(split_member(path)[0]))
    mark(images, gone.reindex(images.index), "missing-file")
    kept = images[images["reason"].isna()].sort_values([*order, "image_path"], kind="stable")
    first = kept.groupby(["subject_id", "months"])["image_path"].transform("first")
    others = kept.index[first != kept["image_path"]]
    mark(images, images.index.isin(others), "other-scan-of-visit", ("chosen: " + first).reindex(images.index))


def refuse_empty(images: pd.DataFrame, *, where: str) -> None:
    """Raise `BadInput` where a download holds no image at all."""
    if images.empty:
        raise BadInput(
            expected="at least one image",
            got="none",
            where=where,
            fix="Check this cohort's `path` and `format` in the config.",
        )


def no_notes() -> pd.DataFrame:
    """An empty table of notes."""
    return pd.DataFrame(columns=["subject_id", "months", "note"])


def blank_images(rows: Sequence[dict]) -> pd.DataFrame:
    """The image table that a reader starts from: text paths and ids, no reasons yet."""
    text = ("subject_id", "image_path", "image_uid", "description", "manufacturer", "site", "sex", "reason", "detail")
    frame = pd.DataFrame(list(rows), columns=sorted({*text, *(key for row in rows for key in row)}))
    return frame.astype(dict.fromkeys(text, object)).where(frame.notna(), None)


def classes(values: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Users' words for a diagnosis as CN, MCI, AD.

    Returns
    -------
    (diagnosis, reason): one of the two is set for each value; the reason is `no-diagnosis` or `other-diagnosis`.
    """
    words = {
        "CN": (
            "cn",
            "nc",
            "hc",
            "nl",
            "normal",
            "control",
            "healthy",
            "cognitively normal",
            "cognitively unimpaired",
            "cu",
        ),
        "MCI": ("mci", "emci", "lmci", "mild cognitive impairment"),
        "AD": ("ad", "dementia", "alzheimer", "alzheimers", "alzheimer's", "alzheimer's disease", "alzheimer disease"),
    }
    table = {word: name for name, spellings in words.items() for word in spellings}
    plain = values.astype("str").str.strip().str.lower()
    diagnosis = plain.map(table).astype(object)
    reason = np.where(values.isna(), "no-diagnosis", np.where(diagnosis.isna(), "other-diagnosis", None))
    return diagnosis.where(diagnosis.notna(), None), pd.Series(reason, index=values.index, dtype=object)
