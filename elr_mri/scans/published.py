"""The split tables of a published study as the split: participant_id, session_id and diagnosis of each of its scans.

They list scans, so what they do not name takes no part: a subject that is not listed, and a scan of a listed subject in
another session. Beside the split table are written

    listed.tsv    one row for each scan that they list: found here or not, and what each table calls it
    unused.tsv    one row for each scan of the scan table that takes no part, with the reason

so that listed = found + not found, and scans = used + unused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from elr_mri import config, provenance
from elr_mri.errors import BadInput
from elr_mri.scans import strata
from elr_mri.scans.cohort import classes, session_id, session_months
from elr_mri.scans.download import numbers, read_table
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES, UNUSED

#: What became of a listed scan.
STATES = ("found", "other-diagnosis", "session-not-found", "subject-not-found")

LISTED = Schema(
    name="listed scan",
    version=1,
    key=("subject_id", "session_id"),
    columns=(
        Column("subject_id"),
        Column("session_id"),
        Column("split", allowed=("train", "val", "test")),
        Column("published_diagnosis", required=False, allowed=CLASSES),
        Column("scan_id", required=False),
        Column("diagnosis", required=False, allowed=CLASSES),
        Column("state", allowed=STATES),
    ),
)
UNUSED_SCANS = Schema(
    name="unused scan",
    version=1,
    key=("scan_id",),
    columns=(
        Column("scan_id"),
        Column("cohort"),
        Column("subject_id"),
        Column("session_id"),
        Column("reason", allowed=("subject-not-listed", "session-not-listed")),
    ),
)

_COLUMNS = {
    "participant": ["participant_id"],
    "session": ["session_id"],
    "diagnosis": ["diagnosis"],
    "age": ["age", "age_years"],
    "sex": ["sex", "gender"],
}


def tables(published: config.Published) -> dict[str, str]:
    """Split -> path of its table, of those that are given."""
    paths = {"train": published.train, "val": published.val, "test": published.test}
    return {split: path for split, path in paths.items() if path}


def read_listed(published: config.Published) -> pd.DataFrame:
    """Every listed scan: subject_id, session_id, months, split, diagnosis, age_years, sex (the last three may be missing)."""
    listed = pd.concat([_read_one(path, split) for split, path in tables(published).items()], ignore_index=True)
    spread = listed.groupby("subject_id")["split"].unique()
    torn = spread[spread.map(len) > 1]
    if len(torn):
        _refuse(
            "every subject in one of the published tables",
            f"{torn.index[0]} in {' and '.join(torn.iloc[0])} ({len(torn)} subjects in all)",
            "split.published",
            "Nothing may be learned from a tested subject; correct the tables.",
        )
    return listed


def assign(scans: pd.DataFrame, settings: config.Split, external: Sequence[str]) -> tuple[pd.DataFrame, dict]:
    """The split table that the published tables make of a scan table, and the tables beside it: name -> (schema, rows).

    Folds are drawn among the listed subjects, found or not, so they do not depend on what was downloaded.
    """
    listed = read_listed(settings.published)
    outside = scans[scans["cohort"].isin(external) & scans["subject_id"].isin(listed["subject_id"])]
    if len(outside):
        _refuse(
            "listed subjects in internal cohorts only",
            f"{outside['subject_id'].iloc[0]} in the external cohort {outside['cohort'].iloc[0]}",
            "split.published",
            "Give that cohort the role internal, or take its subjects off the tables.",
        )
    inside = scans[~scans["cohort"].isin(external)]
    found, unused = _found(listed, inside), _unused(inside, listed)
    if found["scan_id"].isna().all():
        _refuse(
            "scans of the published tables in the scan table",
            f"none of the {len(listed)} listed ones",
            "split.published",
            f"They list subjects such as {listed['subject_id'].iloc[0]}; check that the tables belong to these cohorts.",
        )
    _tell(found, unused, settings.published.labels)
    people = scans[["cohort", "subject_id"]].drop_duplicates().sort_values(["cohort", "subject_id"], ignore_index=True)
    told = people["subject_id"].map(dict(zip(listed["subject_id"], listed["split"], strict=True))).fillna(UNUSED)
    splits = people.assign(
        split=told.where(~people["cohort"].isin(external), "external"),
        fold=people["subject_id"].map(_folds(listed, settings)).astype("Int64"),
        sessions=people["subject_id"].map(_sessions(listed, settings.published.labels)),
    )
    return splits, {
        "listed.tsv": (LISTED, found.sort_values(["subject_id", "session_id"])),
        "unused.tsv": (UNUSED_SCANS, unused.sort_values("scan_id")),
    }


def forget(output: Path) -> None:
    """Remove the tables of an earlier run beside `output`; files that this step did not write are left alone."""
    for name in ("listed.tsv", "unused.tsv"):
        table = output.with_name(name)
        beside = provenance.sidecar(table)
        if table.is_file() and beside.is_file() and provenance.read_json(beside).get("step") == "split":
            table.unlink()
            beside.unlink()


def _read_one(path: str, split: str) -> pd.DataFrame:
    """One published table; separators, cases and the number of digits of a month may be any."""
    rows = read_table(path, _COLUMNS, required=["participant", "session"])
    if rows.empty:
        _refuse("at least one listed scan", "none", path, "Give a table with rows.")
    bare = rows["participant"].str.removeprefix("sub-")
    months = session_months(rows["session"])
    told, reason = classes(rows["diagnosis"])
    for bad, column, expected in (
        (
            ~bare.str.fullmatch(r"[A-Za-z0-9]+").fillna(False).astype(bool),
            "participant",
            "an id such as sub-ADNI123S0456",
        ),
        (months.isna(), "session", "a session such as ses-M00 or ses-M006"),
        (reason == "other-diagnosis", "diagnosis", "CN, MCI, AD or a blank"),
    ):
        if bad.any():
            row = int(bad.to_numpy().argmax())
            _refuse(expected, repr(rows[column].iloc[row]), f"{path}, row {row + 1}", "Correct that row.")
    out = pd.DataFrame(
        {
            "subject_id": "sub-" + bare,
            "session_id": [session_id(m) for m in months],
            "months": months,
            "split": split,
            "diagnosis": told,
            "age_years": numbers(rows["age"], low=18, high=120),
            "sex": rows["sex"].str.upper().str[:1].where(lambda s: s.isin(["F", "M"])).astype(object),
        }
    )
    if (twice := out.duplicated(["subject_id", "session_id"])).any():
        first = out[twice].iloc[0]
        got = f"{first['subject_id']} {first['session_id']} more than once"
        _refuse("each scan once", got, path, "Remove the repeated row.")
    return out


def _found(listed: pd.DataFrame, scans: pd.DataFrame) -> pd.DataFrame:
    """The rows of listed.tsv."""
    here = scans[["subject_id", "session_id", "scan_id", "diagnosis"]].drop_duplicates(["subject_id", "session_id"])
    rows = listed.rename(columns={"diagnosis": "published_diagnosis"}).merge(
        here, on=["subject_id", "session_id"], how="left"
    )
    state = pd.Series("found", index=rows.index)
    differs = rows["published_diagnosis"].notna() & (rows["published_diagnosis"] != rows["diagnosis"])
    state[differs] = "other-diagnosis"
    state[rows["scan_id"].isna()] = "session-not-found"
    state[~rows["subject_id"].isin(scans["subject_id"])] = "subject-not-found"
    return rows.assign(state=state)


def _unused(scans: pd.DataFrame, listed: pd.DataFrame) -> pd.DataFrame:
    """The rows of unused.tsv."""
    names = pd.MultiIndex.from_frame(listed[["subject_id", "session_id"]])
    rows = scans[~pd.MultiIndex.from_frame(scans[["subject_id", "session_id"]]).isin(names)]
    known = rows["subject_id"].isin(listed["subject_id"])
    return rows.assign(reason=known.map({True: "session-not-listed", False: "subject-not-listed"}))


def _sessions(listed: pd.DataFrame, labels: str) -> dict[str, str]:
    """Subject -> its listed sessions, as the column `sessions` of the split table holds them."""
    told = listed.sort_values("months")
    if labels == "published":
        told = told.assign(session_id=told["session_id"] + ("=" + told["diagnosis"].fillna("")).replace("=", ""))
    return told["session_id"].groupby(told["subject_id"]).agg(" ".join).to_dict()


def _folds(listed: pd.DataFrame, settings: config.Split) -> dict[str, int]:
    """Subject -> fold, of the listed subjects that are not tested; stratified by what the tables tell of the first session."""
    if not settings.n_folds:
        return {}
    first = listed[listed["split"] != "test"].sort_values(["subject_id", "months"])
    first = first.assign(diagnosis=first.groupby("subject_id")["diagnosis"].bfill()).drop_duplicates("subject_id")
    ordered = strata.in_order(first, settings.seed)
    return strata.draw(ordered, dict.fromkeys(range(settings.n_folds), 1 / settings.n_folds), {}).to_dict()


def _tell(found: pd.DataFrame, unused: pd.DataFrame, labels: str) -> None:
    """Print listed = found + not found, and what takes no part."""
    states = found["state"].value_counts().reindex(STATES, fill_value=0)
    there = states["found"] + states["other-diagnosis"]
    print(
        f"split: {len(found)} scans are listed = {there} found + {len(found) - there} not found"
        f" ({states['subject-not-found']} of subjects without any scan, {states['session-not-found']} in another session); see listed.tsv"
    )
    if states["other-diagnosis"]:
        whose = "published one" if labels == "published" else "scan table's"
        print(
            f"split: of {states['other-diagnosis']} found scans the published diagnosis is another; the {whose} counts"
        )
    reasons = unused["reason"].value_counts()
    told = ", ".join(f"{n} {reason}" for reason, n in reasons.items())
    print(f"split: {len(unused)} scans take no part" + (f" ({told}); see unused.tsv" if told else ""))


def _refuse(expected: str, got: str, where: str, fix: str) -> None:
    raise BadInput(expected=expected, got=got, where=where, fix=fix)
