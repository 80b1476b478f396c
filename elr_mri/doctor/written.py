"""Data that the user arranged, looked at: a BIDS folder, or a plain table of scans."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from elr_mri.config import Cohort
from elr_mri.doctor.download import Download, Missing, refusal, sized, some, table, tables_in, warn_of_tables
from elr_mri.errors import BadInput
from elr_mri.scans import plain
from elr_mri.scans.bids import PARTICIPANTS, SESSIONS, list_images
from elr_mri.scans.download import read_table
from elr_mri.scans.imagepath import split_member

_OWN = "config/README.md says which columns; you write this one"


def look_bids(found: Download, cohort: Cohort, files: Sequence[Path]) -> None:
    """Add what a BIDS folder holds to `found`."""
    root = Path(cohort.path)
    whole = [path for path in files if path == root / "participants.tsv"]
    own = [path for path in files if re.fullmatch(r"sub-[A-Za-z0-9]+_sessions\.tsv", path.name)]
    people = table("participants", whole, PARTICIPANTS, ("participant",), where=_OWN)
    sessions = table("sessions", own, SESSIONS, ("session",), where=_OWN, every=True)
    found.tables += [people, sessions]
    for one in (people, sessions) if own else (people,):
        found.need(one)
    for name in ("age", "diagnosis"):
        if whole and not people.broken and people.columns[name] is None and sessions.columns.get(name) is None:
            found.missing.append(
                Missing(
                    f"a column {' or '.join(PARTICIPANTS[name])}", "add it to participants.tsv or to every sessions.tsv"
                )
            )
    found.unread = [path for path in tables_in(files) if path not in {*whole, *own}]
    warn_of_tables(found)
    images = list_images(files, root)
    candidates = images[images["reason"].isna()]
    found.need_images(len(candidates), "your BIDS conversion: sub-*/ses-*/anat/*_T1w.nii.gz")
    found.sample = candidates["image_path"].tolist()
    if images.empty or not whole or people.broken:
        return
    known = set("sub-" + read_table(whole[0], PARTICIPANTS)["participant"].dropna().str.removeprefix("sub-"))
    mine = candidates[candidates["participant"].isin(known)]
    found.n_scans = len(mine.groupby(["participant", "session"]))
    found.counts.append(
        f"{len(candidates)} T1w images of {candidates['participant'].nunique()} participants, {len(known)} in participants.tsv, "
        f"{mine['participant'].nunique()} in both ({len(mine)} images)"
    )
    strangers = sorted(set(candidates["participant"]) - known)
    if strangers:
        found.warnings.append(
            f"{len(strangers)} participants without a row ({some(strangers)}): their scans will be excluded"
        )


def look_table(found: Download, cohort: Cohort) -> None:
    """Add what a table of scans names to `found`."""
    path = Path(cohort.path)
    files = [path] if path.is_file() else []
    one = table("scans", files, plain.COLUMNS, plain.REQUIRED, where=_OWN)
    found.tables.append(one)
    found.need(one)
    if not files or one.broken:
        return
    try:
        rows = read_table(path, plain.COLUMNS, required=plain.REQUIRED)
    except BadInput as problem:
        found.missing.append(refusal(problem))
        return
    images = [str(path.parent / image) for image in rows["image_path"].dropna()]
    there = [image for image in images if split_member(image)[0].exists()]
    found.n_bytes = sum(split_member(image)[0].stat().st_size for image in there)
    found.counts.append(
        f"{len(rows)} rows of {rows['participant'].nunique()} subjects; {len(there)} of {len(images)} images there ({sized(found.n_bytes)})"
    )
    found.n_scans, found.sample = len(there), there
    found.need_images(len(there), "the column image_path: relative paths are relative to the table")
    if 0 < len(there) < len(images):
        lost = [image for image in images if image not in set(there)]
        found.warnings.append(
            f"{len(lost)} images are not there ({some(Path(p).name for p in lost)}): they will be excluded"
        )
