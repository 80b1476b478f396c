"""Where every image went: found = kept + excluded, kept = packed + failed, packed = train + val + test + external.

`account` counts, once, into one tidy table; the page's table (`lines`) and the flow diagram (`flow`, drawn by
`consort.py`) are other views of that table and count nothing themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.findings import privacy
from elr_mri.imaging.cache import STATUS
from elr_mri.imaging.qc import LIMITS
from elr_mri.scans.cohort import REASONS
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES, PARTS, join_splits

#: Why a kept scan is not in the cache: code in `accounting.tsv` -> words for people.
FAILURES = {
    "convert": "the image could not be read or converted",
    "no-brain": "no brain was found in it",
    "quality-control": "quality control refused its registration",
    "review": "a person refused it in the review",
}

#: Reasons to exclude an image that tell something of the person, not of the image.
PERSONAL = ("withdrawn", "no-diagnosis", "impaired-not-mci", "dementia-not-ad", "other-diagnosis", "no-age")

#: Stands in place of a reason that would tell something of so few people.
NOT_TOLD = "for a reason that is told in in-house copies"

#: `review` tells how many of the packed scans quality control marks to be looked at. `diagnosis` is blank in sums.
ACCOUNTING = Schema(
    name="accounting",
    version=1,
    key=("stage", "cohort", "reason", "diagnosis"),
    columns=(
        Column("stage", allowed=("found", "excluded", "kept", "failed", "packed", "review", *PARTS)),
        Column("cohort"),
        Column("reason", required=False),
        Column("diagnosis", required=False, allowed=CLASSES),
        Column("n_images", "integer", low=0),
        Column("n_subjects", "integer", low=0),
    ),
)


@dataclass(frozen=True)
class Box:
    """One box of the flow diagram: a title with its number, then lines of (number or class, words).

    A `side` box holds what left the flow; the boxes of the splits stand beside each other.
    """

    stage: str
    title: str
    n_images: int
    lines: tuple[tuple[str, str], ...] = ()

    @property
    def side(self) -> bool:
        return self.stage in ("excluded", "failed")


def account(
    scans: pd.DataFrame, exclusions: pd.DataFrame | None, states: pd.DataFrame, splits: pd.DataFrame | None
) -> pd.DataFrame:
    """Count images and subjects of every cohort at every stage; see `ACCOUNTING`.

    Parameters
    ----------
    scans : the kept scans
    exclusions : every other image that was found; without it nothing is said of what was found
    states : the final state of every scan, as from `scan_states`
    splits : the split of every subject; without it packed scans are not told apart
    """
    cohorts = sorted({*scans["cohort"], *(exclusions["cohort"] if exclusions is not None else ())})
    excluded = None if exclusions is None else exclusions.assign(stage="excluded")
    told = states.merge(scans[["scan_id", "subject_id", "session_id", "diagnosis"]], on="scan_id", validate="1:1")
    told["reason"] = [
        failure(step, reason) if status == "fail" else None
        for status, step, reason in zip(told["status"], told["step"], told["reason"], strict=True)
    ]
    rows = []
    for cohort in cohorts:
        kept = scans[scans["cohort"] == cohort]
        if excluded is not None:
            out = excluded[excluded["cohort"] == cohort]
            rows.append(_row("found", cohort, pd.concat([kept["subject_id"], out["subject_id"]])))
            rows += _by_reason("excluded", cohort, out)
        rows.append(_row("kept", cohort, kept["subject_id"]))
        rows += _of_kept(cohort, told[told["cohort"] == cohort], splits)
    return ACCOUNTING.validate(
        pd.DataFrame(rows, columns=[c.name for c in ACCOUNTING.columns]), where="the accounting table"
    )


def _of_kept(cohort: str, told: pd.DataFrame, splits: pd.DataFrame | None) -> list[dict]:
    """What became of a cohort's kept scans."""
    packed = told[told["status"] != "fail"]
    rows = _by_reason("failed", cohort, told[told["status"] == "fail"])
    rows.append(_row("packed", cohort, packed["subject_id"]))
    rows.append(_row("review", cohort, packed.loc[packed["status"] == "review", "subject_id"]))
    joined = packed.iloc[:0].assign(split=None) if splits is None else join_splits(packed, splits)
    for split in PARTS:
        here = joined[joined["split"] == split]
        if len(here):
            rows.append(_row(split, cohort, here["subject_id"]))
            rows += [
                _row(split, cohort, here.loc[here["diagnosis"] == name, "subject_id"], diagnosis=name)
                for name in CLASSES
            ]
    return rows


def _by_reason(stage: str, cohort: str, images: pd.DataFrame) -> list[dict]:
    """One row per reason, the most frequent first."""
    counts = images["reason"].value_counts().rename_axis("reason").reset_index(name="n")
    order = counts.sort_values(["n", "reason"], ascending=[False, True])["reason"]
    return [
        _row(stage, cohort, images.loc[images["reason"] == reason, "subject_id"], reason=reason) for reason in order
    ]


def _row(
    stage: str, cohort: str, subjects: pd.Series, *, reason: str | None = None, diagnosis: str | None = None
) -> dict:
    """One row from the subject of each image; images of unknown subjects count as images alone."""
    return {
        "stage": stage,
        "cohort": cohort,
        "reason": reason,
        "diagnosis": diagnosis,
        "n_images": len(subjects),
        "n_subjects": subjects.nunique(),
    }


def scan_states(scans: pd.DataFrame, status_path: Path) -> pd.DataFrame:
    """The final state of every kept scan, with its cohort; refuses a table that lost or gained a scan."""
    status = STATUS.read(status_path)
    if strange := set(status["scan_id"]) ^ set(scans["scan_id"]):
        raise BadInput(
            expected="one state for every scan of the scan table",
            got=f"{len(strange)} scans in one table only, e.g. {min(strange)}",
            where=str(status_path),
            fix="Run `pack` again.",
        )
    return status.merge(scans[["scan_id", "cohort"]], on="scan_id")


def failure(step: str | None, reason: str | None) -> str:
    """The code in `FAILURES` of a scan that failed, or the name of its step."""
    told = reason if isinstance(reason, str) else ""
    if step == "register" and told.startswith("no brain"):
        return "no-brain"
    if step == "register" and any(limit.words in told for limit in LIMITS.values()):
        return "quality-control"
    return step if isinstance(step, str) else "unknown step"


def words(code: str) -> str:
    """A reason's code in people's words; an unknown code as it is."""
    return REASONS.get(code) or FAILURES.get(code) or code


def shown(table: pd.DataFrame, *, in_house: bool) -> pd.DataFrame:
    """The table with its counts as texts, `images` and `subjects`, for `lines` and `flow`; small counts of people are told as `privacy` has it
    unless `in_house`. How many images failed, or were of another sequence, tells of no one."""
    texts = table.assign(images=[f"{n:,}" for n in table["n_images"]], subjects=[f"{n:,}" for n in table["n_subjects"]])
    if in_house:
        return texts
    texts["subjects"] = [privacy.SMALL if privacy.few(n) else f"{n:,}" for n in table["n_subjects"]]
    for (stage, _), rows in table.groupby(["stage", "cohort"]):
        classes = rows[rows["diagnosis"].notna()]
        if stage in PARTS and len(classes):
            hidden = privacy.class_counts(classes, ("n_images", "n_subjects"))
            texts.loc[classes.index, ["images", "subjects"]] = hidden[["n_images", "n_subjects"]].to_numpy()
        if stage == "excluded" and rows["reason"].isin(PERSONAL).any():
            counts = dict(zip(rows.index, rows["n_images"], strict=True))
            small = {i for i in rows.index[rows["reason"].isin(PERSONAL)] if privacy.few(counts[i])}
            told = privacy.told(
                {i: n if i in small or not privacy.few(n) else privacy.FEWEST for i, n in counts.items()}
            )
            for i in rows.index:
                if i in small or told[i] == privacy.HIDDEN:
                    texts.loc[i, "images"] = told[i]
            if len(rows) == len(small) == 1:  # found − kept tells how many: then not why
                texts.loc[rows.index, "reason"] = NOT_TOLD
    return texts


def lines(table: pd.DataFrame, *, in_house: bool = True) -> list[dict[str, object]]:
    """The page's table: cohort, stage, what became of the images, how many, and of how many subjects."""
    titles = {
        "found": "images found",
        "kept": "scans kept",
        "packed": "scans packed",
        "review": "of these marked for review by quality control",
    }
    return [
        {
            "cohort": row.cohort,
            "stage": row.stage,
            "what": titles.get(row.stage) or f"{row.stage}: {words(row.reason)}",
            "n_images": row.images,
            "n_subjects": row.subjects,
        }
        for row in shown(table, in_house=in_house)[~table["stage"].isin(PARTS)].itertuples(index=False)
    ]


def flow(table: pd.DataFrame, *, in_house: bool = True) -> dict[str, list[Box]]:
    """The boxes of the flow diagram by cohort, in the order of the flow; what left it stands before what went on."""
    return {cohort: list(_boxes(rows)) for cohort, rows in shown(table, in_house=in_house).groupby("cohort")}


def _boxes(rows: pd.DataFrame) -> Iterable[Box]:
    """One cohort's boxes: found, excluded, kept, failed, packed, splits."""
    sums = rows[rows["diagnosis"].isna()].set_index("stage")
    if "found" in sums.index:
        yield Box("found", "Images found", int(sums.loc["found", "n_images"]))
        yield _side("excluded", "Excluded", rows)
    yield _with_subjects("kept", "Scans kept", sums.loc["kept"])
    yield _side("failed", "Failed on the way", rows)
    review = int(sums.loc["review", "n_images"])
    yield _with_subjects(
        "packed", "Scans packed", sums.loc["packed"], f"{review:,} of them marked for review" if review else None
    )
    for split in PARTS:
        if split in sums.index:
            classes = rows[(rows["stage"] == split) & rows["diagnosis"].notna()]
            told = [(row.diagnosis, f"{row.subjects} / {row.images}") for row in classes.itertuples()]
            whole = sums.loc[split]
            every = ("all", f"{whole['subjects']} / {whole['images']}")
            yield Box(split, split.capitalize(), int(whole["n_images"]), (every, *told))


def _side(stage: str, title: str, rows: pd.DataFrame) -> Box:
    """What left the flow, reason by reason."""
    gone = rows[rows["stage"] == stage]
    told = tuple((row.images, words(row.reason)) for row in gone.itertuples())
    return Box(stage, title, int(gone["n_images"].sum()), told)


def _with_subjects(stage: str, title: str, row: pd.Series, more: str | None = None) -> Box:
    subjects = f"of {row['subjects']} subject{'s' if row['n_subjects'] != 1 else ''}"
    return Box(stage, title, int(row["n_images"]), tuple(("", told) for told in (subjects, more) if told))
