"""NACC's tables: UDS visits with their diagnosis, and MRI sessions.

Codes follow NACC's Researchers' Data Dictionaries (UDS; Imaging Data). −4, 8, 9, 88, 99, 888, 995–998, 8888 and
their decimals are missing codes; they are caught by range, volumes by their repeated digit. UDS 4 forms ask for
BIRTHSEX where earlier ones ask for SEX. Files are
`investigator_*` or, with the same columns, `commercial_*`; column order and case differ between freezes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from elr_mri.config import Ingest
from elr_mri.errors import BadInput
from elr_mri.scans.download import COPY, numbers, read_table
from elr_mri.scans.visits import MONTH_DAYS

_UDS_NAME = re.compile(rf"(investigator|commercial)_(ftldlbd_)?nacc(\d+){COPY}\.csv", re.I)
_MRI_NAME = re.compile(rf"(investigator|commercial)_mri_nacc(\d+){COPY}\.csv", re.I)

#: MRIFIELD and MRIMANU (Imaging Data dictionary); 5 other, 7 varies within the session, 8 no MRI, 9 unknown.
FIELD_T = {1: 1.5, 2: 3.0}
MANUFACTURER = {1: "GE", 2: "Siemens", 3: "Philips"}

_UDS = {
    name: [name]
    for name in (
        "naccid",
        "naccadc",
        "visityr",
        "visitmo",
        "visitday",
        "naccage",
        "sex",
        "birthsex",
        "naccudsd",
        "naccalzd",
        "naccalzp",
        "naccetpr",
        "cdrglob",
        "naccmmse",
        "naccne4s",
    )
}
_MRI = {
    name: [name]
    for name in (
        "naccid",
        "mriyr",
        "mrimo",
        "mridy",
        "naccmria",
        "naccmrfi",
        "mrifield",
        "mrimanu",
        "hippovol",
        "lent",
        "rent",
        "naccicv",
    )
}


#: Table -> what is read from it (our name -> the column's names), and what it is of no use without.
COLUMNS = {"UDS": _UDS, "MRI": _MRI}
REQUIRED = {
    "UDS": ("naccid", "visityr", "visitmo", "visitday", "naccudsd"),
    "MRI": ("naccid", "mriyr", "mrimo", "mridy", "naccmrfi"),
}


#: Columns of a session, whichever table tells of it.
SESSION = [
    "subject",
    "date",
    "archive",
    "mri_age_years",
    "field_strength_t",
    "manufacturer",
    "hippocampus_mm3",
    "entorhinal_mm3",
    "icv_mm3",
]


def freezes(files: Sequence[Path], *, mri: bool) -> list[tuple[int, Path]]:
    """The UDS or the MRI tables in the download with the number of their freeze, the latest last."""
    pattern = _MRI_NAME if mri else _UDS_NAME
    named = [(int(match.groups()[-1]), f) for f in files if (match := pattern.fullmatch(f.name))]
    return sorted(named, key=lambda pair: (pair[0], pair[1].name, pair[1]))


def newest(files: Sequence[Path], *, mri: bool, where: str) -> Path:
    """The UDS or the MRI table of the latest freeze in the download."""
    named = freezes(files, mri=mri)
    if not named:
        wanted = "investigator_mri_nacc<NN>.csv" if mri else "investigator_nacc<NN>.csv"
        raise BadInput(
            expected=f"{wanted} or commercial_{wanted.split('_', 1)[1]}",
            got="neither",
            where=where,
            fix="Put the tables of your NACC request into this folder.",
        )
    return named[-1][1]


def read_visits(path: Path, settings: Ingest) -> pd.DataFrame:
    """UDS visits: subject (NACCID), months, date, age_years, diagnosis, reason, sex, site, mmse, cdr_global, apoe4.

    A diagnosis that the study does not use is blank, with the reason in `reason`.
    """
    uds = read_table(path, _UDS, required=REQUIRED["UDS"])
    visits = pd.DataFrame(
        {
            "subject": uds["naccid"].str.upper(),
            "date": _day(uds["visityr"], uds["visitmo"], uds["visitday"]),
            "age_years": numbers(uds["naccage"], low=18, high=120),
            "sex": numbers(uds["sex"].fillna(uds["birthsex"])).map({1: "M", 2: "F"}),
            "site": uds["naccadc"],
            "mmse": numbers(uds["naccmmse"], high=30),
            "cdr_global": numbers(uds["cdrglob"], high=3),
            "apoe4": numbers(uds["naccne4s"], high=2),
        }
    )
    visits["diagnosis"], visits["reason"] = _diagnosis(uds, settings)
    visits = visits.dropna(subset=["subject", "date"]).sort_values(["subject", "date"], kind="stable")
    first = visits.groupby("subject")["date"].transform("min")
    visits["months"] = ((visits["date"] - first).dt.days / MONTH_DAYS).round()
    for name in ("sex", "apoe4"):
        visits[name] = visits[name].fillna(visits.groupby("subject")[name].transform("first"))
    told_first = visits.assign(blank=visits["diagnosis"].isna()).sort_values(
        ["subject", "months", "blank"], kind="stable"
    )
    return told_first.drop_duplicates(["subject", "months"]).drop(columns="blank").reset_index(drop=True)


def _diagnosis(uds: pd.DataFrame, settings: Ingest) -> tuple[pd.Series, pd.Series]:
    """NACCUDSD and the etiology as CN, MCI, AD; or the reason why none of them.

    AD is dementia (NACCUDSD 4) with Alzheimer's disease as its `primary` cause (NACCALZP 1 or NACCETPR 1), as `any`
    cause (NACCALZP 1 or 2, NACCALZD 1, NACCETPR 1), or every `dementia`: `ingest.nacc_ad`.
    """
    level, contributing = numbers(uds["naccudsd"]), numbers(uds["naccalzp"])
    primary = (contributing == 1) | (numbers(uds["naccetpr"]) == 1)
    caused = {
        "primary": primary,
        "any": primary | (contributing == 2) | (numbers(uds["naccalzd"]) == 1),
        "dementia": pd.Series(True, index=uds.index),
    }[settings.nacc_ad]
    between = settings.nacc_impaired_not_mci
    chosen = [level == 1, level == 3, (level == 4) & caused, level == 2]
    diagnosis = np.select(chosen, ["CN", "MCI", "AD", between], default="")
    diagnosis = pd.Series(diagnosis, index=uds.index).replace({"": None, "exclude": None}).astype(object)
    reason = np.select(
        [diagnosis.notna(), level == 2, level == 4], ["", "impaired-not-mci", "dementia-not-ad"], "no-diagnosis"
    )
    return diagnosis.where(diagnosis.notna(), None), pd.Series(reason, index=uds.index).replace("", None)


def read_sessions(path: Path) -> pd.DataFrame:
    """MRI sessions: subject, date, archive (file stem), mri_age_years, field strength, manufacturer, volumes in mm³."""
    mri = read_table(path, _MRI, required=REQUIRED["MRI"])
    return pd.DataFrame(
        {
            "subject": mri["naccid"].str.upper(),
            "date": _day(mri["mriyr"], mri["mrimo"], mri["mridy"]),
            "archive": mri["naccmrfi"].map(archive_stem, na_action="ignore"),
            "mri_age_years": numbers(mri["naccmria"], low=18, high=120),
            "field_strength_t": numbers(mri["mrifield"]).map(FIELD_T),
            "manufacturer": numbers(mri["mrimanu"]).map(MANUFACTURER).astype(object),
            "hippocampus_mm3": _mm3(mri["hippovol"]),
            "entorhinal_mm3": _mm3(mri["lent"]) + _mm3(mri["rent"]),
            "icv_mm3": _mm3(mri["naccicv"]),
        }
    )


def archive_stem(name: str) -> str:
    """What a session is called, free of `.zip`, case, and the `ni` that marks NIfTI: `mri3374ni.zip` -> `mri3374`."""
    stem = re.sub(r"\.zip$", "", Path(name.strip().replace("\\", "/")).name, flags=re.I).lower()
    return re.sub(r"(?<=\d)[_-]?ni$", "", stem)


def is_missing_code(values: pd.Series) -> pd.Series:
    """Whether a volume is one of 8.8888, 88.8888, 888.8888, 9.999 …: one digit throughout, three times or more."""
    digits = values.astype("str").str.replace(".", "", regex=False)
    return digits.str.fullmatch(r"8{3,}0*|9{3,}0*").fillna(False).astype(bool)


def _mm3(values: pd.Series) -> pd.Series:
    """NACC's cm³ as mm³, missing codes and 0 blank."""
    return numbers(values).mask(is_missing_code(values) | (numbers(values) == 0)) * 1000.0


def _day(year: pd.Series, month: pd.Series, day: pd.Series) -> pd.Series:
    """Three columns as a date; an unknown day (88, 99) is the middle of its month, an unknown month is missing."""
    year, month = numbers(year, low=1980, high=2100), numbers(month, low=1, high=12)
    middle = numbers(day, low=1, high=31).fillna(15)
    text = pd.DataFrame({"year": year, "month": month, "day": middle})
    return pd.to_datetime(text, errors="coerce").astype("datetime64[ns]")
