"""ADNI's clinical tables: one row per subject and visit, with the diagnosis made at that visit.

The diagnosis is ADNIMERGE's DX, and DXSUM's where DX is blank; never the enrolment group. DXSUM has had three
codings (ADNI data dictionary): DXCURREN in ADNI1, DXCHANGE in ADNIGO/2, DIAGNOSIS in ADNI3/4 and now in all.

The month of a visit is that of its harmonised code (VISCODE2; ADNIMERGE's VISCODE). Codes that tell no month (`y1`,
`init`, `v02`, `uns1`, `4_m12`: they count from the start of a phase) are dated: the ADNIMERGE visit of the same week, or
else the months since the first visit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.scans.adni_columns import read_releases, rids, sexes, tables_named
from elr_mri.scans.download import dates, numbers
from elr_mri.scans.visits import MONTH_DAYS, YEAR_DAYS

_DX = {"cn": "CN", "nl": "CN", "mci": "MCI", "dementia": "AD", "ad": "AD"}
_DXCURREN = {1: "CN", 2: "MCI", 3: "AD"}
_DXCHANGE = {1: "CN", 7: "CN", 9: "CN", 2: "MCI", 4: "MCI", 8: "MCI", 3: "AD", 5: "AD", 6: "AD"}
#: DXSUM's columns of the diagnosis with their codings, the preferred one first.
_CODINGS = {"diagnosis": _DXCURREN, "dxchange": _DXCHANGE, "dxcurren": _DXCURREN}
#: Codes of the first visit; `4_` is ADNI4's, for those who enter with it.
_FIRST_VISIT = {"bl": 0, "4_bl": 0, "sc": 1, "4_sc": 1, "scmri": 2}
_SAME_VISIT_DAYS = 7


#: What names a visit, with its type: that of an empty table's column is nothing that can be merged.
_KEYS = {"subject": float, "months": float}


@dataclass(frozen=True)
class Clinic:
    """The tables of one download, joined. `visits` is indexed by row; its `subject` is the RID.

    Columns of `visits`: subject, months, date, age_years, diagnosis, reason, phase, site, sex, mmse, cdr_global, apoe4,
    field_strength_t, hippocampus_mm3, entorhinal_mm3, icv_mm3. `baselines`, by RID: baseline (day), age on it, birth,
    sex, site, apoe4. `notes`: subject, months, note, ptid.
    """

    visits: pd.DataFrame
    ptids: dict[int, str]
    baselines: pd.DataFrame
    notes: pd.DataFrame


def read_clinic(files: Sequence[Path], *, where: str) -> Clinic:
    """Read ADNIMERGE and DXSUM (either will do, both are compared) and, where they are there, PTDEMOG and CDR.

    ADNIMERGE ends with ADNI3. A subject that it does not hold begins at its first visit in DXSUM, and has its age and
    sex from PTDEMOG.
    """
    if not tables_named(files, "ADNIMERGE") and not tables_named(files, "DXSUM"):
        _refuse(files, where)
    names = {"ADNIMERGE": ["subject", "code"], "DXSUM": ["subject", "code", "raw"]}
    (merge, merge_notes), (told, told_notes) = (_own_rows(read_releases(files, n, key=k), n) for n, k in names.items())
    people = read_releases(files, "PTDEMOG", key=["subject"])
    baselines = _first_visits(_baselines(merge), told, people)
    visits, merge_twice = _one_per_month(_merge_visits(merge, baselines), "ADNIMERGE")
    summed, sum_notes = _dxsum_visits(told, baselines, visits)
    visits, disagree = _joined(visits, summed)
    visits = _with_ages(visits, baselines)
    cdr = _cdr(read_releases(files, "CDR", key=["subject", "code"]))
    visits = visits.merge(cdr.astype(_KEYS), on=list(_KEYS), how="left")
    visits["reason"] = visits["diagnosis"].isna().map({True: "no-diagnosis", False: None})
    ptids = {
        int(rid): ptid.upper()
        for table in (people, told, merge)
        for rid, ptid in zip(table["subject"], table["ptid"], strict=True)
        if rid == rid and isinstance(ptid, str)
    }
    notes = pd.concat([merge_notes, told_notes, merge_twice, sum_notes, disagree], ignore_index=True)
    return Clinic(visits, ptids, baselines, notes)


def _refuse(files: Sequence[Path], where: str) -> None:
    """Say which table is wanted; ADNIMERGE2, which has none under that name, is known by its ADSL."""
    successor = next((f for f in files if f.stem.upper().startswith(("ADSL", "ADNIMERGE2"))), None)
    raise BadInput(
        expected="ADNIMERGE.csv or DXSUM_PDXCONV.csv, with or without a date suffix",
        got="neither" if successor is None else f"{successor.name} of the R package ADNIMERGE2, which is not read",
        where=where,
        fix="Download ADNIMERGE, or DXSUM and PTDEMOG, from IDA (Study Files) into this folder.",
    )


def _own_rows(table: pd.DataFrame, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows whose RID and PTID name one subject; the others are left out, with a note under the PTID."""
    other = rids(table["ptid"])
    wrong = table["subject"].notna() & other.notna() & (table["subject"] != other)
    lost = table[wrong]
    pairs = zip(lost["subject"], lost["ptid"], strict=True)
    told = [f"{name} has RID {rid:g} with PTID {ptid}: row left out" for rid, ptid in pairs]
    notes = pd.DataFrame({"subject": lost["subject"], "months": 0.0, "note": told})
    return table[~wrong].reset_index(drop=True), notes.assign(ptid=lost["ptid"].str.upper())


def _joined(merge: pd.DataFrame, told: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ADNIMERGE's visits with the blanks filled from DXSUM, and a note for every visit where the two disagree."""
    visits = merge.astype(_KEYS).merge(told.astype(_KEYS), on=list(_KEYS), how="outer", suffixes=("", "_sum"))
    ours, theirs = visits["diagnosis"], visits["diagnosis_sum"]
    differ = ours.notna() & theirs.notna() & (ours != theirs)
    words = "ADNIMERGE says " + ours.astype("str") + ", DXSUM says " + theirs.astype("str") + "; ADNIMERGE is taken"
    disagree = visits.loc[differ, ["subject", "months"]].assign(note=words[differ])
    for name in ("diagnosis", "date", "phase"):
        visits[name] = visits[name].where(visits[name].notna(), visits.pop(f"{name}_sum"))
    return visits, disagree


def _one_per_month(frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of one subject and month as one visit, the first value of each column; a note where diagnoses differ."""
    frame = frame.dropna(subset=["subject", "months"])
    grouped = frame.groupby(["subject", "months"], as_index=False)
    visits = grouped.first()
    several = grouped["diagnosis"].nunique()
    twice = visits[several["diagnosis"] > 1]
    note = name + " has several diagnoses of this visit; " + twice["diagnosis"].astype("str") + " is taken"
    return visits, twice[["subject", "months"]].assign(note=note)


def _months(codes: pd.Series) -> pd.Series:
    """Months of a harmonised visit code: bl and sc are 0, m06 is 6; missing for any other."""
    text = codes.astype("str").str.strip().str.lower()
    return text.str.extract(r"^m(\d{1,3})$")[0].astype(float).mask(text.isin(list(_FIRST_VISIT)), 0.0)


def _months_by_date(frame: pd.DataFrame, baselines: pd.DataFrame) -> pd.Series:
    """Months by the code or else by the date, never negative."""
    start = baselines["baseline"].reindex(frame["subject"]).set_axis(frame.index)
    by_date = ((frame["date"] - start).dt.days / MONTH_DAYS).round().clip(lower=0)
    return frame["months"].fillna(by_date)


def _baselines(merge: pd.DataFrame) -> pd.DataFrame:
    """Per RID: day of the baseline visit (counted back from a later one where no row tells it), age on it, and facts."""
    site = numbers(merge["site"])
    frame = pd.DataFrame(
        {
            "subject": merge["subject"],
            "age": numbers(merge["age"], low=18, high=120),
            "sex": sexes(merge["sex"]),
            "site": merge["site"].astype(object).where(site.isna(), site.map("{:03.0f}".format)),
            "apoe4": numbers(merge["apoe4"], high=2),
        }
    )
    told, own = dates(merge["baseline"]), dates(merge["date"])
    at_baseline = merge["code"].astype("str").str.lower() == "bl"
    frame["baseline"] = own.where(at_baseline).fillna(told)
    frame = frame.assign(later=~at_baseline).sort_values("later", kind="stable").drop(columns="later")
    counted = own - pd.to_timedelta((_months(merge["code"]) * MONTH_DAYS).round(), unit="D")
    people = frame.dropna(subset=["subject"]).groupby("subject").first()
    people["baseline"] = people["baseline"].fillna(counted.groupby(merge["subject"]).min().reindex(people.index))
    return people.astype({"baseline": "datetime64[ns]", "age": float})


def _first_visits(baselines: pd.DataFrame, told: pd.DataFrame, people: pd.DataFrame) -> pd.DataFrame:
    """The baselines with what ADNIMERGE lacks: the day of the first visit in DXSUM, sex and birth by PTDEMOG."""
    first = _first_days(told)
    people = people.assign(sex=sexes(people["sex"]), birth=_birthdays(people)).dropna(subset=["subject"])
    known = people.groupby("subject")[["sex", "birth"]].first()
    whole = baselines.reindex(baselines.index.union(first.index).union(known.index))
    whole["baseline"] = whole["baseline"].fillna(first.reindex(whole.index))
    known = known.reindex(whole.index)
    whole["sex"] = whole["sex"].where(whole["sex"].notna(), known["sex"])
    return whole.assign(birth=known["birth"].astype("datetime64[ns]")).rename_axis("subject")


def _first_days(told: pd.DataFrame) -> pd.Series:
    """Baseline day by DXSUM: of the baseline visit, else the screening, else counted back from a coded visit."""
    code = _codes(told)
    months, day = _months(code), dates(told["date"])
    start = day - pd.to_timedelta((months.fillna(0) * MONTH_DAYS).round(), unit="D")
    order = code.str.lower().map(_FIRST_VISIT).fillna(3).where(months.notna(), 4)
    rows = pd.DataFrame({"subject": told["subject"], "order": order, "start": start}).dropna()
    return rows.sort_values(["order", "start"]).groupby("subject")["start"].first().astype("datetime64[ns]")


def _codes(told: pd.DataFrame) -> pd.Series:
    """The harmonised visit code, or the raw one where it is blank or tells nothing."""
    code, raw = told["code"].astype("str"), told["raw"].astype("str")
    helpless = code.isna() | (_months(code).isna() & _months(raw).notna())
    return code.where(~helpless, raw)


def _birthdays(people: pd.DataFrame) -> pd.Series:
    """Birth dates from PTDOB (`09/1941`, `1941-09`) or PTDOBYY and PTDOBMM: the middle of the month, or of a year alone."""
    text = people["born"].astype("str")
    american, iso = text.str.extract(r"^(?:(\d{1,2})/(?:\d{1,2}/)?)?(\d{4})$"), text.str.extract(r"^(\d{4})-(\d{1,2})")
    year = people["born_year"].astype("str").str.extract(r"^(\d{4})")[0].fillna(american[1]).fillna(iso[0])
    month = numbers(people["born_month"], low=1, high=12).fillna(numbers(american[0])).fillna(numbers(iso[1]))
    month = month.where(month.between(1, 12)).fillna(7)
    day = pd.DataFrame({"year": numbers(year, low=1880, high=2020), "month": month, "day": 15})
    return pd.to_datetime(day, errors="coerce").astype("datetime64[ns]")


def _merge_visits(merge: pd.DataFrame, baselines: pd.DataFrame) -> pd.DataFrame:
    """ADNIMERGE's rows as visits; a visit without a date stands at its nominal month."""
    frame = pd.DataFrame(
        {
            "subject": merge["subject"],
            "date": dates(merge["date"]),
            "months": _months(merge["code"]),
            "diagnosis": _states(merge["dx"], {}),
            "phase": merge["phase"],
            "mmse": numbers(merge["mmse"], high=30),
            "field_strength_t": numbers(merge["field"].astype("str").str.extract(r"([\d.]+)")[0], low=0.01, high=12),
            "hippocampus_mm3": numbers(merge["hippocampus"]),
            "entorhinal_mm3": numbers(merge["entorhinal"]),
            "icv_mm3": numbers(merge["icv"]),
        }
    )
    frame["months"] = _months_by_date(frame, baselines)
    return frame


def _states(values: pd.Series, coding: dict[int, str]) -> pd.Series:
    """CN, MCI, AD from a code, or from words of which the last names the state arrived at (`NL to MCI`)."""
    words = values.astype("str").str.lower().str.replace(r"^.*(?: to |: )", "", regex=True).str.strip().map(_DX)
    coded = numbers(values).map(coding).astype(object)
    return coded.where(coded.notna(), words.astype(object))


def _dxsum_visits(
    told: pd.DataFrame, baselines: pd.DataFrame, merged: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """DXSUM's rows as visits, baseline before screening before what has no code of its own; and notes on them."""
    code = _codes(told)
    states = pd.DataFrame({name: _states(told[name], coding) for name, coding in _CODINGS.items()})
    frame = pd.DataFrame(
        {
            "subject": told["subject"],
            "date": dates(told["date"]),
            "months": _months(code),
            "diagnosis": states.bfill(axis=1).iloc[:, 0] if len(states) else None,
            "phase": told["phase"],
        }
    )
    order = code.str.lower().map(_FIRST_VISIT).fillna(0).where(frame["months"].notna(), 3)
    frame["months"] = frame["months"].fillna(_months_of_same_week(frame, merged))
    frame["months"] = _months_by_date(frame, baselines)
    split = states.nunique(axis=1) > 1
    words = states[split].apply(lambda row: ", ".join(f"{n.upper()} {v}" for n, v in row.dropna().items()), axis=1)
    notes = frame.loc[split, ["subject", "months"]].assign(note="DXSUM disagrees with itself: " + words.astype("str"))
    frame = frame.loc[order.sort_values(kind="stable").index]
    visits, twice = _one_per_month(frame, "DXSUM")
    return visits, pd.concat([notes.dropna(subset=["subject", "months"]), twice], ignore_index=True)


def _months_of_same_week(frame: pd.DataFrame, merged: pd.DataFrame) -> pd.Series:
    """Months of the ADNIMERGE visit within a week of a row, missing where there is none."""
    rows = frame[["subject", "date"]].dropna().sort_values("date").reset_index(names="row")
    known = merged[["subject", "date", "months"]].dropna().sort_values("date")
    if rows.empty or known.empty:
        return pd.Series(float("nan"), index=frame.index)
    week = pd.Timedelta(days=_SAME_VISIT_DAYS)
    near = pd.merge_asof(rows, known, on="date", by="subject", direction="nearest", tolerance=week)
    return near.set_index("row")["months"].reindex(frame.index)


def ages_on(days: pd.Series, subjects: pd.Series, baselines: pd.DataFrame) -> pd.Series:
    """Age in years on a day: at baseline plus the time since, or else since the birth by PTDEMOG."""
    facts = baselines.reindex(subjects).set_axis(days.index)
    age = facts["age"] + (days - facts["baseline"]).dt.days / YEAR_DAYS
    return age.fillna((days - facts["birth"]).dt.days / YEAR_DAYS)


def _with_ages(visits: pd.DataFrame, baselines: pd.DataFrame) -> pd.DataFrame:
    """Add the date where only the month is known, the age (at baseline + elapsed time), and what does not change."""
    facts = baselines.reindex(visits["subject"]).reset_index(drop=True)
    nominal = facts["baseline"] + pd.to_timedelta((visits["months"] * MONTH_DAYS).round(), unit="D")
    visits["date"] = visits["date"].fillna(nominal).astype("datetime64[ns]")
    visits["age_years"] = ages_on(visits["date"], visits["subject"], baselines)
    return visits.assign(sex=facts["sex"], site=facts["site"], apoe4=facts["apoe4"])


def _cdr(table: pd.DataFrame) -> pd.DataFrame:
    """Global CDR by subject and month."""
    frame = pd.DataFrame(
        {"subject": table["subject"], "months": _months(table["code"]), "cdr_global": numbers(table["cdr"], high=3)}
    )
    return frame.dropna().groupby(["subject", "months"], as_index=False).first()
