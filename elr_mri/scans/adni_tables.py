"""ADNI's clinical tables: one row per subject and visit, with the diagnosis made at that visit.

The diagnosis is ADNIMERGE's DX, and DXSUM's where DX is blank; never the enrolment group. DXSUM has had three
codings (ADNI data dictionary): DXCURREN in ADNI1, DXCHANGE in ADNIGO/2, DIAGNOSIS in ADNI3/4 and now in all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.scans.download import dates, header, numbers, read_table
from elr_mri.scans.visits import MONTH_DAYS, YEAR_DAYS

#: Name of a table without its cohort prefix, date suffix and `.csv`, as a pattern.
NAMES = {
    "ADNIMERGE": "ADNIMERGE",
    "DXSUM": "DXSUM(?:_PDXCONV)?(?:_ADNIALL)?",
    "PTDEMOG": "PTDEMOG",
    "CDR": "CDR",
    "DELMRSCANS": "DELMRSCANS",
}
_RELEASE = re.compile(r"_(\d{1,2}[A-Za-z]{3}\d{4})\.csv$", re.I)

_DX = {"cn": "CN", "nl": "CN", "mci": "MCI", "dementia": "AD", "ad": "AD"}
_DXCURREN = {1: "CN", 2: "MCI", 3: "AD"}
_DXCHANGE = {1: "CN", 7: "CN", 9: "CN", 2: "MCI", 4: "MCI", 8: "MCI", 3: "AD", 5: "AD", 6: "AD"}
_DIAGNOSIS = _DXCURREN

_MERGE = {
    "rid": ["rid"],
    "ptid": ["ptid"],
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
    "rid": ["rid"],
    "ptid": ["ptid"],
    "code": ["viscode2", "viscode"],
    "raw": ["viscode"],
    "date": ["examdate"],
    "phase": ["phase", "colprot"],
    "dxcurren": ["dxcurren"],
    "dxchange": ["dxchange"],
    "diagnosis": ["diagnosis"],
}
_LIST = {
    "uid": ["image data id", "image id", "image_id", "imageid", "imageuid"],
    "date": ["acq date", "study date", "scandate", "image_date", "acq_date"],
    "description": ["description", "series_description", "sequence"],
    "sex": ["sex"],
    "age": ["age"],
    "field": ["magstrength", "mri_field_str"],
    "protocol": ["imaging protocol"],
}


_CDR = {"rid": ["rid"], "code": ["viscode2", "viscode"], "cdr": ["cdglobal"]}
_DEMOGRAPHICS = {
    "rid": ["rid"],
    "sex": ["ptgender"],
    "born": ["ptdob"],
    "born_year": ["ptdobyy"],
    "born_month": ["ptdobmm"],
}
_WITHDRAWN = {"uid": ["imageid", "image id", "image_id", "imageuid"]}

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


@dataclass(frozen=True)
class Clinic:
    """The tables of one download, joined. `visits` is indexed by row; its `subject` is the RID.

    Columns of `visits`: subject, months, date, age_years, diagnosis, reason, phase, site, sex, mmse, cdr_global, apoe4,
    field_strength_t, hippocampus_mm3, entorhinal_mm3, icv_mm3. `disagree`: subject, months, note.
    """

    visits: pd.DataFrame
    ptids: dict[int, str]
    baselines: pd.DataFrame
    disagree: pd.DataFrame


def tables_named(files: Sequence[Path], name: str) -> list[Path]:
    """Files that hold table `name`, whatever their cohort prefix, the oldest release first."""
    pattern = re.compile(rf"(?:.*_)?{NAMES[name]}(?:_\d{{1,2}}[A-Za-z]{{3}}\d{{4}})?\.csv", re.I)
    return sorted((f for f in files if pattern.fullmatch(f.name)), key=lambda f: (released(f), f.name))


def released(path: Path) -> datetime:
    """The day in a table's name (`ADNIMERGE_23Dec2025.csv`), the earliest of all days where there is none."""
    suffix = _RELEASE.search(path.name)
    try:
        return datetime.strptime(suffix.group(1), "%d%b%Y") if suffix else datetime.min
    except ValueError:
        return datetime.min


def read_clinic(files: Sequence[Path], *, where: str) -> Clinic:
    """Read ADNIMERGE and DXSUM (either will do, both are compared) and, where they are there, PTDEMOG and CDR.

    ADNIMERGE ends with ADNI3. A subject that it does not hold begins at its first visit in DXSUM, and has its age and
    sex from PTDEMOG.
    """
    merges, sums = tables_named(files, "ADNIMERGE"), tables_named(files, "DXSUM")
    if not merges and not sums:
        raise BadInput(
            expected="ADNIMERGE.csv or DXSUM_PDXCONV.csv, with or without a date suffix",
            got="neither",
            where=where,
            fix="Download them from IDA (Study Data) into this folder.",
        )
    merge, told = (_concat(t, COLUMNS[name], REQUIRED[name]) for name, t in (("ADNIMERGE", merges), ("DXSUM", sums)))
    born = _concat(tables_named(files, "PTDEMOG"), _DEMOGRAPHICS, REQUIRED["PTDEMOG"])
    baselines = _first_visits(_baselines(merge), told, born)
    visits, disagree = _joined(_merge_visits(merge, baselines), _dxsum_visits(told, baselines))
    visits = _with_ages(visits, baselines)
    visits = visits.merge(
        _cdr(_concat(tables_named(files, "CDR"), _CDR, REQUIRED["CDR"])), on=["subject", "months"], how="left"
    )
    visits["reason"] = visits["diagnosis"].isna().map({True: "no-diagnosis", False: None})
    ptids = {
        int(rid): ptid
        for table in (told, merge)
        for rid, ptid in zip(numbers(table["rid"]), table["ptid"], strict=True)
        if rid == rid and isinstance(ptid, str)
    }
    return Clinic(visits, ptids, baselines, disagree)


def _joined(merge: pd.DataFrame, told: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ADNIMERGE's visits with the blanks filled from DXSUM, and a note for every visit where the two disagree."""
    visits = merge.merge(told, on=["subject", "months"], how="outer", suffixes=("", "_sum"))
    ours, theirs = visits["diagnosis"], visits["diagnosis_sum"]
    differ = ours.notna() & theirs.notna() & (ours != theirs)
    words = "ADNIMERGE says " + ours.astype("str") + ", DXSUM says " + theirs.astype("str") + "; ADNIMERGE is taken"
    disagree = visits.loc[differ, ["subject", "months"]].assign(note=words[differ])
    for name in ("diagnosis", "date", "phase"):
        visits[name] = visits[name].where(visits[name].notna(), visits.pop(f"{name}_sum"))
    return visits, disagree


def is_image_list(path: Path) -> bool:
    """Whether a file is a CSV that tells ids and dates of images, and not the list of the withdrawn ones."""
    if path.suffix.lower() != ".csv" or tables_named([path], "DELMRSCANS"):
        return False
    names = set(header(path))
    return bool(names & set(_LIST["uid"])) and bool(names & set(_LIST["date"]))


def read_image_lists(files: Sequence[Path]) -> tuple[pd.DataFrame, list[Path]]:
    """What collection, search and metadata CSVs say about images: by uid date, sex, age, field strength, manufacturer.

    Such a table has any name; it is known by its columns, an image id and an acquisition date.
    """
    rows, used = [], []
    for path in files:
        if is_image_list(path):
            rows.append(read_table(path, _LIST))
            used.append(path)
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=list(_LIST), dtype="str")
    table["uid"] = table["uid"].astype("str").str.extract(r"^[Ii]?(\d+)$")[0]
    table["date"] = dates(table["date"])
    protocol = table.pop("protocol").astype("str")
    table["field"] = numbers(
        table["field"].fillna(protocol.str.extract(r"Field Strength=([\d.]+)")[0]), low=0.01, high=12
    )
    table["manufacturer"] = protocol.str.extract(r"Manufacturer=([^;]+)")[0].str.strip()
    table["age"], table["sex"] = numbers(table["age"], low=18, high=120), _sexes(table["sex"])
    return table.dropna(subset=["uid"]).groupby("uid").first(), used


def read_withdrawn(files: Sequence[Path]) -> set[str]:
    """Image ids in DELMRSCANS."""
    table = _concat(tables_named(files, "DELMRSCANS"), _WITHDRAWN, REQUIRED["DELMRSCANS"])
    return set(table["uid"].astype("str").str.extract(r"^[Ii]?(\d+)")[0].dropna())


def _concat(paths: Sequence[Path], wanted: dict[str, list[str]], required: Sequence[str]) -> pd.DataFrame:
    """Several files of one table below each other, the newest release on top."""
    parts = [read_table(path, wanted, required=required) for path in reversed(paths)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(wanted), dtype="str")


def _sexes(values: pd.Series) -> pd.Series:
    first = values.astype("str").str.strip().str.upper().str[:1]
    return first.where(first.isin(["F", "M"]), None).astype(object)


def _months(codes: pd.Series) -> pd.Series:
    """Months of a harmonised visit code: bl and sc are 0, m06 is 6; missing for any other."""
    text = codes.astype("str").str.strip().str.lower()
    return text.str.extract(r"^m(\d{1,3})$")[0].astype(float).mask(text.isin(["bl", "sc"]), 0.0)


def _months_by_date(frame: pd.DataFrame, baselines: pd.DataFrame) -> pd.Series:
    """Months by the code or else by the date, never negative."""
    start = baselines["baseline"].reindex(frame["subject"]).set_axis(frame.index)
    by_date = ((frame["date"] - start).dt.days / MONTH_DAYS).round().clip(lower=0)
    return frame["months"].fillna(by_date)


def _baselines(merge: pd.DataFrame) -> pd.DataFrame:
    """Per RID: day of the baseline visit, age on it, sex, site, APOE ε4 count."""
    frame = pd.DataFrame(
        {
            "subject": numbers(merge["rid"]),
            "age": numbers(merge["age"], low=18, high=120),
            "sex": _sexes(merge["sex"]),
            "site": merge["site"],
            "apoe4": numbers(merge["apoe4"], high=2),
        }
    )
    told, own = dates(merge["baseline"]), dates(merge["date"])
    at_baseline = merge["code"].astype("str").str.lower() == "bl"
    frame["baseline"] = own.where(at_baseline).fillna(told)
    frame = frame.assign(later=~at_baseline).sort_values("later", kind="stable").drop(columns="later")
    return (
        frame.dropna(subset=["subject"]).groupby("subject").first().astype({"baseline": "datetime64[ns]", "age": float})
    )


def _first_visits(baselines: pd.DataFrame, told: pd.DataFrame, born: pd.DataFrame) -> pd.DataFrame:
    """The baselines with what ADNIMERGE lacks: the day of the first visit in DXSUM, age and sex by PTDEMOG."""
    first = dates(told["date"]).groupby(numbers(told["rid"])).min().dropna()
    born = born.assign(subject=numbers(born["rid"]), sex=_sexes(born["sex"].replace({"1": "M", "2": "F"})))
    born["day"] = _birthdays(born)
    people = born.dropna(subset=["subject"]).groupby("subject")[["sex", "day"]].first()
    whole = baselines.reindex(baselines.index.union(first.index))
    whole["baseline"] = whole["baseline"].fillna(first.reindex(whole.index))
    known = people.reindex(whole.index)
    whole["sex"] = whole["sex"].where(whole["sex"].notna(), known["sex"])
    age = (whole["baseline"] - known["day"].astype("datetime64[ns]")).dt.days / YEAR_DAYS
    whole["age"] = whole["age"].fillna(age.where(age.between(18, 120)))
    return whole.rename_axis("subject")


def _birthdays(people: pd.DataFrame) -> pd.Series:
    """Birth dates from PTDOB (`09/1941`, `1941-09`) or PTDOBYY and PTDOBMM: the middle of the month, or of a year alone."""
    text = people["born"].astype("str")
    american, iso = text.str.extract(r"^(\d{1,2})/(?:\d{1,2}/)?(\d{4})$"), text.str.extract(r"^(\d{4})-(\d{1,2})")
    year = numbers(people["born_year"], low=1880, high=2020).fillna(numbers(american[1])).fillna(numbers(iso[0]))
    month = numbers(people["born_month"], low=1, high=12).fillna(numbers(american[0])).fillna(numbers(iso[1]))
    day = pd.DataFrame({"year": year, "month": month.fillna(7), "day": 15})
    return pd.to_datetime(day, errors="coerce").astype("datetime64[ns]")


def _merge_visits(merge: pd.DataFrame, baselines: pd.DataFrame) -> pd.DataFrame:
    """ADNIMERGE's rows as visits; a visit without a date stands at its nominal month."""
    frame = pd.DataFrame(
        {
            "subject": numbers(merge["rid"]),
            "date": dates(merge["date"]),
            "months": _months(merge["code"]),
            "diagnosis": merge["dx"].astype("str").str.lower().str.replace(r"^.* to ", "", regex=True).map(_DX),
            "phase": merge["phase"],
            "mmse": numbers(merge["mmse"], high=30),
            "field_strength_t": numbers(merge["field"].astype("str").str.extract(r"([\d.]+)")[0], low=0.01, high=12),
            "hippocampus_mm3": numbers(merge["hippocampus"]),
            "entorhinal_mm3": numbers(merge["entorhinal"]),
            "icv_mm3": numbers(merge["icv"]),
        }
    )
    frame["months"] = _months_by_date(frame, baselines)
    return frame.dropna(subset=["subject", "months"]).groupby(["subject", "months"], as_index=False).first()


def _dxsum_visits(told: pd.DataFrame, baselines: pd.DataFrame) -> pd.DataFrame:
    """DXSUM's rows as visits, whichever of its three codings a row uses; baseline before screening."""
    code = told["code"].where(told["code"].notna(), told["raw"])
    diagnosis = numbers(told["diagnosis"]).map(_DIAGNOSIS)
    for name, coding in (("dxchange", _DXCHANGE), ("dxcurren", _DXCURREN)):
        other = numbers(told[name]).map(coding)
        diagnosis = diagnosis.astype(object).where(diagnosis.notna(), other)
    frame = pd.DataFrame(
        {
            "subject": numbers(told["rid"]),
            "date": dates(told["date"]),
            "months": _months(code),
            "diagnosis": diagnosis,
            "phase": told["phase"],
        }
    )
    frame["months"] = _months_by_date(frame, baselines)
    frame = frame.assign(screening=code.astype("str").str.lower() == "sc").sort_values("screening", kind="stable")
    frame = frame.drop(columns="screening").dropna(subset=["subject", "months"])
    return frame.groupby(["subject", "months"], as_index=False).first()


def _with_ages(visits: pd.DataFrame, baselines: pd.DataFrame) -> pd.DataFrame:
    """Add the date where only the month is known, the age (at baseline + elapsed time), and what does not change."""
    facts = baselines.reindex(visits["subject"]).reset_index(drop=True)
    nominal = facts["baseline"] + pd.to_timedelta((visits["months"] * MONTH_DAYS).round(), unit="D")
    visits["date"] = visits["date"].fillna(nominal).astype("datetime64[ns]")
    visits["age_years"] = facts["age"] + (visits["date"] - facts["baseline"]).dt.days / YEAR_DAYS
    return visits.assign(sex=facts["sex"], site=facts["site"], apoe4=facts["apoe4"])


def _cdr(table: pd.DataFrame) -> pd.DataFrame:
    """Global CDR by subject and month."""
    frame = pd.DataFrame(
        {
            "subject": numbers(table["rid"]),
            "months": _months(table["code"]),
            "cdr_global": numbers(table["cdr"], high=3),
        }
    )
    return frame.dropna().groupby(["subject", "months"], as_index=False).first()
