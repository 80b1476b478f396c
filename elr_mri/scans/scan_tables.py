"""SCAN, NACC's standardised imaging since 2021: its tables of volumes and of series quality, matched by person and day.

`*_scan_mrisbm_nacc<NN>.csv` holds one row per session (FreeSurfer-like volumes), `*_scan_mriqc_nacc<NN>.csv` one per
series. Images come from LONI in an IDA-like tree, `NACC012345/<protocol>/<day>/<image id>/`. SCAN has no visit number:
a session belongs to the UDS visit nearest in time.

Public descriptions do not say in which unit volumes are, so it is told by size: a hippocampus of less than 100 and a
head of less than 10,000 are in cm³. A series is refused where its grade is a failure in words or Mayo's 4 (of 1 to 4,
as in ADNI).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from elr_mri.scans import t1
from elr_mri.scans.download import dates, numbers, read_table

_NAME = re.compile(r"(?:investigator|commercial)_scan_(mriqc|mrisbm)_nacc(\d+)\.csv", re.I)
_FAILED = re.compile(r"4(\.0)?|fail(ed)?|unusable|reject(ed)?", re.I)

_VOLUMES = {
    "naccid": ["naccid"],
    "day": ["scandt", "scandate", "studydate"],
    "hippocampus": ["hippocampus", "hippovol"],
    "hippocampus_left": ["left_hippo", "lhippo", "left_hippocampus"],
    "hippocampus_right": ["right_hippo", "rhippo", "right_hippocampus"],
    "entorhinal_left": ["lh_entorhinal_volume", "lh_entorhinal_grayvol", "lent"],
    "entorhinal_right": ["rh_entorhinal_volume", "rh_entorhinal_grayvol", "rent"],
    "icv": ["estimatedtotalintracranialvol", "cerebrumtcv", "icv", "naccicv"],
}
_SERIES = {
    "naccid": ["naccid"],
    "day": ["studydate", "scandt", "scandate"],
    "description": ["seriesdescription"],
    "grade": ["seriesqc"],
    "study_grade": ["studyqc"],
    "chosen": ["serieschosen"],
}

#: Table -> what is read from it (our name -> the column's names), and what it is of no use without.
COLUMNS = {"SCAN volumes": _VOLUMES, "SCAN series": _SERIES}
REQUIRED = {"SCAN volumes": ("naccid", "day"), "SCAN series": ("naccid", "day", "description")}


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
    both = numbers(table["hippocampus_left"]) + numbers(table["hippocampus_right"])
    return pd.DataFrame(
        {
            "subject": table["naccid"].str.upper(),
            "date": dates(table["day"]),
            "archive": pd.Series(None, index=table.index, dtype=object),
            "hippocampus_mm3": _mm3(numbers(table["hippocampus"]).fillna(both), small=100.0),
            "entorhinal_mm3": _mm3(numbers(table["entorhinal_left"]) + numbers(table["entorhinal_right"]), small=100.0),
            "icv_mm3": _mm3(numbers(table["icv"]), small=10_000.0),
        }
    ).dropna(subset=["subject", "date"])


def read_series(path: Path) -> pd.DataFrame:
    """Graded series: subject, date, name (the description, plain), failed, chosen; of repeated rows the best."""
    table = read_table(path, _SERIES, required=REQUIRED["SCAN series"])
    series = pd.DataFrame(
        {
            "subject": table["naccid"].str.upper(),
            "date": dates(table["day"]),
            "name": table["description"].map(t1.plain, na_action="ignore"),
            "failed": [_failed(one) or _failed(other) for one, other in zip(table["grade"], table["study_grade"])],
            "chosen": table["chosen"].astype("str").str.strip().str.lower().isin(["1", "1.0", "true", "yes", "y"]),
        }
    ).dropna(subset=["subject", "date", "name"])
    best = series.sort_values(["failed", "chosen"], ascending=[True, False], kind="stable")
    return best.drop_duplicates(["subject", "date", "name"]).reset_index(drop=True)


def _failed(grade: object) -> bool:
    return isinstance(grade, str) and bool(_FAILED.fullmatch(grade.strip()))


def _mm3(volumes: pd.Series, *, small: float) -> pd.Series:
    """Volumes in mm³: those below `small` are cm³; zero is missing."""
    return volumes.mask(volumes == 0).where(volumes >= small, volumes * 1000.0).mask(volumes == 0)
