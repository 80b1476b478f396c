"""A raw BIDS folder with `participants.tsv` and, where visits differ, `sub-*/sub-*_sessions.tsv`.

The columns are those of `written.FACTS`; a session's own value goes before the participant's. Months come from the
session label (`ses-M006`, `ses-M06`), else from a column `months`, else from the difference in age. Clinica's tables
are read as they are (`age_bl` of participants, a diagnosis for each session); its `diagnosis_sc` is the one at enrolment.

Of several T1w images of a session is kept: without a contrast agent (`ce-`) before with, then the lowest `run-`, then
without `acq-` and `rec-` before with, then the first by name. Parts of a complex image (`part-phase`) are no T1w image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from elr_mri.config import Cohort, Ingest
from elr_mri.errors import BadInput
from elr_mri.scans.cohort import Found, blank_images, keep_one_per_visit, mark, no_notes, refuse_empty, session_key
from elr_mri.scans.download import files_under, read_table
from elr_mri.scans.written import FACTS, complete

#: What is read from `participants.tsv` and from a `sessions.tsv`: our name -> the column's names.
PARTICIPANTS = {"participant": ["participant_id", "subject_id"], **FACTS}
SESSIONS = {"session": ["session_id"], **FACTS}
#: Which T1w image of a session is kept: the lowest of these, in this order.
RANKS = ["rank_contrast", "rank_run", "rank_variant"]
_NIFTI = re.compile(r".*\.nii(\.gz)?", re.I | re.S)


def read(cohort: Cohort, settings: Ingest) -> Found:
    """Read a BIDS folder; see `cohort.Found`. `settings` is not needed: a session is its own visit."""
    del settings
    files = files_under(cohort.path)
    return found(list_images(files, Path(cohort.path)), Path(cohort.path), files, cohort, RANKS)


def found(
    images: pd.DataFrame, tables: Path, files: Sequence[Path], cohort: Cohort, order: Sequence[str] = ()
) -> Found:
    """Images (participant, session) joined with what `participants.tsv` and `sessions.tsv` below `tables` say.

    files : everything below `tables`; order : which image of a session is kept, see `keep_one_per_visit`.
    """
    if tables / "participants.tsv" not in files:
        raise BadInput(
            expected="participants.tsv",
            got="none",
            where=str(tables),
            fix="Add it, with participant_id, diagnosis and age.",
        )
    refuse_empty(images, where=cohort.path)
    facts, used = _facts(tables, files, set(zip(images["participant"], images["session"], strict=True)))
    images = images.merge(facts, on=["participant", "session"], how="left", validate="m:1")
    mark(images, images["file"].isna(), "no-table-row")
    visits = complete(images, facts, cohort)
    keep_one_per_visit(images, order)
    return Found(images, visits, no_notes(), tuple(used))


def list_images(files: Sequence[Path], root: Path) -> pd.DataFrame:
    """Every NIfTI image below `sub-*`; all but `anat/*_T1w` are marked as not T1. Derivatives are not looked at."""
    rows = []
    for path in files:
        parts = path.relative_to(root).parts
        if not parts[0].startswith("sub-") or not _NIFTI.fullmatch(path.name):
            continue
        session = session_key(parts[1]) if parts[1].startswith("ses-") else ""
        t1w = re.search(r"_T1w\.nii(\.gz)?$", path.name) and path.parent.name == "anat"
        t1w = t1w and not re.search(r"_part-(phase|real|imag)_", path.name)
        run = re.search(r"_run-(\d+)_", path.name)
        rows.append(
            {
                "image_path": str(path),
                "participant": parts[0],
                "session": session,
                "reason": None if t1w else "not-t1",
                "rank_contrast": "_ce-" in path.name,
                "rank_run": int(run[1]) if run else 0,
                "rank_variant": len(re.findall("_(?:acq|rec)-", path.name)),
            }
        )
    images = blank_images(rows)
    names = ["image_path", "image_uid", "participant", "session", *RANKS, "reason", "detail"]
    return images if images.empty else images[names]


def _facts(root: Path, files: Sequence[Path], scanned: set[tuple[str, str]]) -> tuple[pd.DataFrame, list[Path]]:
    """What the tables say of every participant and session: one row each, with the file and line that it stands in."""
    whole = root / "participants.tsv"
    people = _table(whole, "participant", PARTICIPANTS)
    sessions, used = [], [whole]
    for path in files:
        if re.fullmatch(r"sub-[A-Za-z0-9]+_sessions\.tsv", path.name):
            own = _table(path, "session", SESSIONS)
            sessions.append(own.assign(participant=path.name.removesuffix("_sessions.tsv")))
            used.append(path)
    known = {(row["participant"], row["session"]) for own in sessions for row in own.to_dict("records")}
    bare = sorted(scanned - known)
    rows = pd.concat(
        [*sessions, pd.DataFrame(bare, columns=["participant", "session"], dtype="str")], ignore_index=True
    )
    joined = rows.merge(people, on="participant", how="inner", suffixes=("", "_person"))
    if sessions:  # a fault of the age is told of the table that the age stands in
        own_age = joined["age"].notna()
        joined["file"], joined["line"] = joined["file"].where(own_age), joined["line"].where(own_age)
    for name in [*FACTS, "file", "line"]:
        if f"{name}_person" in joined:
            joined[name] = joined[name].astype(object).where(joined[name].notna(), joined.pop(f"{name}_person"))
    for name in ("age", "diagnosis"):
        if joined[name].isna().all() and len(joined) and (name != "age" or joined["age_bl"].isna().all()):
            raise BadInput(
                expected="a column " + " or ".join(FACTS[name]),
                got="none with a value",
                where=str(whole),
                fix="Add it.",
            )
    return joined, used


def _table(path: Path, key: str, columns: dict[str, list[str]]) -> pd.DataFrame:
    """One table with its key, the facts and where each row stands."""
    table = read_table(path, columns, required=(key,))
    if key == "session":  # `M00` and `ses-M000` are one
        table[key] = table[key].map(session_key, na_action="ignore")
    twice = table[key][table[key].duplicated()]
    if len(twice):
        raise BadInput(
            expected=f"one row for each {columns[key][0]}",
            got=f"{twice.iloc[0]} more than once",
            where=str(path),
            fix="Remove the repeated row.",
        )
    odd = table[key][~table[key].fillna("").str.fullmatch(r"(ses-)?[A-Za-z0-9]*")] if key == "session" else []
    if len(odd):
        raise BadInput(
            expected="a session of letters and digits, such as ses-M006",
            got=repr(odd.iloc[0][:80]),
            where=f"{path}, column session_id",
            fix="Give it the name of the session's folder.",
        )
    if key == "participant":
        table[key] = "sub-" + table[key].str.removeprefix("sub-")
    return table.assign(file=str(path), line=[str(i + 2) for i in range(len(table))]).dropna(subset=[key])
