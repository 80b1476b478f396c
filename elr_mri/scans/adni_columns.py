"""ADNI's tables: what their files are called, which columns are read, and how one that was downloaded twice is read once.

Names have changed with the years: `ADNIMERGE.csv`, `ADNIMERGE_23Dec2025.csv`, and from the cohort builder
`All_Subjects_DXSUM_10Oct2025.csv`. Columns are matched in any case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from elr_mri.scans.download import COPY, header, numbers, read_table

#: Name of a table without its cohort prefix, date suffix and `.csv`, as a pattern.
NAMES = {
    "ADNIMERGE": "ADNIMERGE",
    "DXSUM": "DXSUM(?:_PDXCONV)?(?:_ADNIALL)?",
    "PTDEMOG": "PTDEMOG",
    "CDR": "CDR",
    "DELMRSCANS": "DELMRSCANS",
}
_DATED = r"_(\d{1,2}[A-Za-z]{3}\d{4})"
_RELEASE = re.compile(rf"{_DATED}{COPY}\.csv$", re.I)

_PTID = ["ptid", "subject_id", "subject id", "subjectid", "subject"]
_RID = ["rid", "ptid", "subject_id"]
_UID = ["image data id", "image id", "image_id", "imageid", "imageuid", "image_data_id", "image uid", "image_uid"]
_MERGE = {
    "rid": _RID,
    "ptid": _PTID,
    "code": ["viscode"],
    "date": ["examdate"],
    "baseline": ["examdate_bl"],
    "age": ["age"],
    "sex": ["ptgender"],
    "dx": ["dx"],
    "phase": ["colprot"],
    "site": ["site"],
    "mmse": ["mmse"],
    "apoe4": ["apoe4"],
    "field": ["fldstreng"],
    "hippocampus": ["hippocampus"],
    "entorhinal": ["entorhinal"],
    "icv": ["icv"],
}
_DXSUM = {
    "rid": _RID,
    "ptid": _PTID,
    "code": ["viscode2", "viscode"],
    "raw": ["viscode"],
    "date": ["examdate"],
    "phase": ["phase", "colprot"],
    "dxcurren": ["dxcurren"],
    "dxchange": ["dxchange"],
    "diagnosis": ["diagnosis"],
}
_DEMOGRAPHICS = {
    "rid": _RID,
    "ptid": _PTID,
    "sex": ["ptgender"],
    "born": ["ptdob"],
    "born_year": ["ptdobyy"],
    "born_month": ["ptdobmm"],
}
_CDR = {"rid": _RID, "ptid": _PTID, "code": ["viscode2", "viscode"], "cdr": ["cdglobal"]}
_LIST = {
    "uid": _UID,
    "ptid": _PTID,
    "date": ["acq date", "study date", "scandate", "image_date", "acq_date", "mri_date", "study_date"],
    "description": ["description", "series_description", "mri_description", "sequence"],
    "sex": ["sex"],
    "age": ["age"],
    "field": ["magstrength", "mri_field_str"],
    "maker": ["mri_mfr"],
    "protocol": ["imaging protocol"],
    "phase": ["phase"],
}
_WITHDRAWN = {"uid": [*_UID, "loni_image", "loniuid", "loni_uid", "loni image", "loni_image_id", "loni image id"]}

#: Table -> what is read from it (our name -> the column's names), and what it is of no use without.
COLUMNS = {
    "ADNIMERGE": _MERGE,
    "DXSUM": _DXSUM,
    "PTDEMOG": _DEMOGRAPHICS,
    "CDR": _CDR,
    "DELMRSCANS": _WITHDRAWN,
    "image list": _LIST,
}
REQUIRED = {
    "ADNIMERGE": ("rid", "code", "date"),
    "DXSUM": ("rid",),
    "PTDEMOG": ("rid",),
    "CDR": ("rid",),
    "DELMRSCANS": ("uid",),
}


def tables_named(files: Sequence[Path], name: str) -> list[Path]:
    """Files that hold table `name`, whatever their cohort prefix, the oldest release first."""
    pattern = re.compile(rf"(?:.*_)?{NAMES[name]}(?:{_DATED})?{COPY}\.csv", re.I)
    return sorted((f for f in files if pattern.fullmatch(f.name)), key=lambda f: (released(f), f.name))


def released(path: Path) -> datetime:
    """The day in a table's name (`ADNIMERGE_23Dec2025.csv`), the earliest of all days where there is none."""
    suffix = _RELEASE.search(path.name)
    try:
        return datetime.strptime(suffix.group(1), "%d%b%Y") if suffix else datetime.min
    except ValueError:
        return datetime.min


def is_image_list(path: Path) -> bool:
    """Whether a file is a CSV about images: it has an image id, or subject, age and description of each.

    A clinical table (named so, or with visit codes, such as ADNIMERGE with its IMAGEUID) is none: its AGE is that at
    baseline.
    """
    if path.suffix.lower() != ".csv" or any(tables_named([path], name) for name in NAMES):
        return False
    names = set(header(path))
    has = {ours: bool(names & set(aliases)) for ours, aliases in _LIST.items()}
    if names & {"viscode", "viscode2", "examdate", "usubjid"}:
        return False
    facts = ("date", "age", "sex", "field", "protocol", "description")
    return (has["uid"] and any(has[f] for f in facts)) or all(has[f] for f in ("ptid", "age", "description"))


def read_releases(files: Sequence[Path], name: str, *, key: Sequence[str]) -> pd.DataFrame:
    """All files of one table below each other, the newest release on top, with the RID as `subject`.

    Of the rows with the same `key` (our names) only those of the newest release count, whole: what it leaves blank is
    not filled from an older one. Prints which release goes before which.
    """
    paths, wanted = tables_named(files, name)[::-1], COLUMNS[name]
    parts = [
        read_table(path, wanted, required=REQUIRED[name]).assign(release=len({released(p) for p in paths[i:]}))
        for i, path in enumerate(paths)
    ]
    if not parts:
        return pd.DataFrame(columns=[*wanted, "subject"], dtype="str")
    table = pd.concat(parts, ignore_index=True)
    if "rid" in table:
        table["subject"] = rids(table["rid"]).fillna(rids(table["ptid"]))
    newest = table.groupby(list(key), dropna=False)["release"].transform("max")
    older = table["release"] < newest
    if len(paths) > 1:
        told = f", {int(older.sum())} rows of older ones give way" if older.any() else ""
        print(f"{name}: {len(paths)} files, {paths[0].name} goes before {', '.join(p.name for p in paths[1:])}{told}")
    return table[~older].reset_index(drop=True)


def rids(values: pd.Series) -> pd.Series:
    """Roster ids from RIDs (`456`) or PTIDs (`123_S_0456`, whose last part is the RID); missing where there is none."""
    text = values.astype("str")
    last = text.str.extract(r"^\s*\d{3}_[Ss]_(\d{4,5})\s*$")[0]
    return numbers(last.fillna(values)).where(lambda rid: rid == rid.round())


def sexes(values: pd.Series) -> pd.Series:
    """F or M from a word, a letter, or PTGENDER's code (1 male, 2 female)."""
    first = values.astype("str").str.strip().str.upper().str[:1].replace({"1": "M", "2": "F"})
    return first.where(first.isin(["F", "M"]), None).astype(object)
