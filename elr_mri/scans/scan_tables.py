"""SCAN, NACC's standardised imaging since 2021: its tables of volumes and of series quality, matched by person and day.

`*_scan_mrisbm_nacc<NN>.csv` holds one row per session (FreeSurfer-like volumes), `*_scan_mriqc_nacc<NN>.csv` one per
series. Images come from LONI in an IDA-like tree, `NACC012345/<protocol>/<day>/<image id>/`. SCAN has no visit number:
a session belongs to the UDS visit nearest in time.

Public descriptions do not say in which unit volumes are (users multiply LEFT_HIPPO by 1,000 and LH_ENTORHINAL_GVOL by
1), so it is told by size: a hippocampus of less than 100 and a head of less than 10,000 are in cm³. A series is refused
where its grade is a failure in words or Mayo's 4 (of 1 to 4, as in ADNI); of an unknown grade nothing is concluded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from elr_mri.scans import t1
from elr_mri.scans.download import COPY, dates, numbers, read_table
from elr_mri.scans.nacc_tables import is_missing_code

_NAME = re.compile(rf"(?:investigator|commercial)_scan_(?:clariti_)?(mriqc|mrisbm)_nacc(\d+){COPY}\.csv", re.I)
_FAILED = re.compile(r"4(\.0*)?$|fail|unusable|reject", re.I)
_MAKERS = (("siemens", "Siemens"), ("philips", "Philips"), ("ge", "GE"))

_VOLUMES = {
    "naccid": ["naccid"],
    "day": ["scandt", "scandate", "studydate"],
    "hippocampus": ["hippocampus", "hippo", "hippovol"],
    "hippocampus_left": ["left_hippo", "lhippo", "left_hippocampus"],
    "hippocampus_right": ["right_hippo", "rhippo", "right_hippocampus"],
    "entorhinal_left": ["lh_entorhinal_gvol", "lh_entorhinal_volume", "lh_entorhinal_grayvol", "lent"],
    "entorhinal_right": ["rh_entorhinal_gvol", "rh_entorhinal_volume", "rh_entorhinal_grayvol", "rent"],
    "icv": ["estimatedtotalintracranialvol", "cerebrumtcv", "icv", "naccicv"],
}
_SERIES = {
    "naccid": ["naccid"],
    "day": ["studydate", "scandt", "scandate"],
    "description": ["seriesdescription"],
    "image": ["loniimage", "loni_image", "imageid", "image_id"],
    "uid": ["seriesinstanceuid"],
    "field": ["magneticfieldstrength"],
    "maker": ["scannermanufacturer"],
    "grade": ["seriesqc"],
    "study_grade": ["studyqc"],
    "chosen": ["serieschosen"],
}

#: Table -> what is read from it (our name -> the column's names), and what it is of no use without.
COLUMNS = {"SCAN volumes": _VOLUMES, "SCAN series": _SERIES}
REQUIRED = {"SCAN volumes": ("naccid", "day"), "SCAN series": ("naccid", "day")}


def scan_tables(files: Sequence[Path]) -> dict[str, list[Path]]:
    """The tables of `COLUMNS` in a download, the latest freeze first."""
    found: dict[str, list[tuple[int, str, Path]]] = {name: [] for name in COLUMNS}
    for path in files:
        if match := _NAME.fullmatch(path.name):
            name = "SCAN volumes" if match[1].lower() == "mrisbm" else "SCAN series"
            found[name].append((int(match[2]), path.name, path))
    return {name: [path for *_, path in sorted(named, reverse=True)] for name, named in found.items()}


def read_scan_sessions(path: Path) -> pd.DataFrame:
    """SCAN sessions in the columns of `nacc_tables.read_sessions`: subject, date and volumes in mm³; no archive."""
    table = read_table(path, _VOLUMES, required=REQUIRED["SCAN volumes"])
    volume = {
        name: numbers(table[name]).mask(is_missing_code(table[name]))
        for name in _VOLUMES
        if name not in ("naccid", "day")
    }
    both = volume["hippocampus_left"] + volume["hippocampus_right"]
    return pd.DataFrame(
        {
            "subject": table["naccid"].str.upper(),
            "date": _days(table["day"]),
            "archive": pd.Series(None, index=table.index, dtype=object),
            "hippocampus_mm3": _mm3(volume["hippocampus"].fillna(both), small=100.0),
            "entorhinal_mm3": _mm3(volume["entorhinal_left"] + volume["entorhinal_right"], small=100.0),
            "icv_mm3": _mm3(volume["icv"], small=10_000.0),
        }
    ).dropna(subset=["subject", "date"])


def read_series(path: Path) -> pd.DataFrame:
    """Graded series: subject, date, image (LONI's number), uid, name (the description, plain), is_t1, failed (the grade
    that refuses it), chosen, field_strength_t, manufacturer."""
    table = read_table(path, _SERIES, required=REQUIRED["SCAN series"])
    grades_of = zip(table["grade"], table["study_grade"], strict=True)
    tesla = numbers(table["field"].str.extract(r"(\d+\.?\d*)")[0])
    return pd.DataFrame(
        {
            "subject": table["naccid"].str.upper(),
            "date": _days(table["day"]),
            "image": table["image"].str.extract(r"(?<!\d)(\d+)(?:\.0*)?$")[0].astype(object),
            "uid": table["uid"].astype(object),
            "name": table["description"].map(t1.plain, na_action="ignore").astype(object),
            "is_t1": table["description"].fillna("").map(t1.is_t1).astype(bool),
            "failed": pd.Series([_refusal(*pair) for pair in grades_of], index=table.index, dtype=object),
            "chosen": table["chosen"].astype("str").str.strip().str.lower().isin(["1", "1.0", "true", "yes", "y"]),
            "field_strength_t": tesla.where(tesla < 100, tesla / 10_000).where(lambda t: t.between(0.01, 12)),
            "manufacturer": table["maker"].map(_maker, na_action="ignore").astype(object),
        }
    ).dropna(subset=["subject", "date"])


def grades(images: pd.DataFrame, series: pd.DataFrame | None) -> pd.DataFrame:
    """What SCAN's table of series says of each image: failed, chosen, field_strength_t, manufacturer; blank where nothing.

    An image in SCAN's tree is known by LONI's image number (`I123456` in its folder or file name), else by its series
    UID, else by its protocol's name, else as the only T1 of its day. Where several rows remain (repeats under one name)
    it is refused if all of them are, and where only the session is known, if all of its series are.
    """
    blank = {"failed": None, "chosen": False, "field_strength_t": float("nan"), "manufacturer": None}
    of_day = {} if series is None else series.groupby(["subject", "date"]).indices
    told = []
    for image in images.itertuples():
        rows = of_day.get((image.subject, image.date)) if isinstance(image.scan_protocol, str) else None
        told.append(blank if rows is None else _grade_of(image, series.iloc[rows]))
    return pd.DataFrame(told, index=images.index, columns=list(blank)).astype(
        {"failed": object, "manufacturer": object}
    )


def _grade_of(image, rows: pd.DataFrame) -> dict:
    """One row of `grades`, from the series of the image's person and day."""
    numbered = {
        m[1] for text in (image.sessions[-1], image.name) if (m := re.search(r"(?:^|_)i?(\d{4,})$", text, re.I))
    }
    named = {t1.plain(image.scan_protocol), t1.plain(image.description)}
    uids = {*image.sessions, image.name, *([image.image_uid] if isinstance(image.image_uid, str) else [])}
    only = rows["is_t1"] & (rows["is_t1"].sum() == 1)
    ways = (rows["image"].isin(numbered), rows["uid"].isin(uids), rows["name"].isin(named), only)
    own = next((rows[way] for way in ways if way.any()), None)
    known = rows if own is None else own
    return {
        "failed": known["failed"].iloc[0] if known["failed"].notna().all() else None,
        "chosen": own is not None and bool(own["chosen"].any()),
        "field_strength_t": known["field_strength_t"].max(),
        "manufacturer": next(iter(known["manufacturer"].dropna()), None),
    }


def _refusal(series: object, study: object) -> str | None:
    """The grade by which a series is refused, its own or its session's."""
    for name, grade in (("SERIESQC", series), ("STUDYQC", study)):
        if isinstance(grade, str) and _FAILED.match(grade.strip()):
            return f"{name} {grade.strip()}"
    return None


def _maker(name: str) -> str | None:
    return next((ours for word, ours in _MAKERS if word in name.lower()), None)


def _days(values: pd.Series) -> pd.Series:
    """Dates as the tables write them, `20240131` included."""
    return dates(values).fillna(pd.to_datetime(values, format="%Y%m%d", errors="coerce"))


def _mm3(volumes: pd.Series, *, small: float) -> pd.Series:
    """Volumes in mm³: those below `small` are cm³; zero is missing."""
    return volumes.mask(volumes == 0).where(volumes >= small, volumes * 1000.0).mask(volumes == 0)
