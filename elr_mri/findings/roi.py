"""Tables of ROI volumes with labels, as others keep them, read into one form.

    FreeSurfer   one row per scan, columns as aseg and aparc name them (Left-Hippocampus, lh_entorhinal_volume)
    published    one such table for each of train, val, test and external (the authors' ADNI_*_volumes.tsv, NACC_volumes.tsv)

Only regions are features: scores of tests, diagnoses and genes stand in such tables too, and would tell the diagnosis. Sums of
regions (BrainSegVol, TotalGrayVol) are left out with them. Every row that is not used is told, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from elr_mri import provenance
from elr_mri.config import SPLIT_TABLES, RoiTables
from elr_mri.errors import BadInput
from elr_mri.findings.normalise import ICV
from elr_mri.findings.roi_units import in_mm3
from elr_mri.imaging.further import spelled
from elr_mri.imaging.given import COLUMNS
from elr_mri.scans.cohort import classes, session_months
from elr_mri.scans.download import header, numbers, read_table
from elr_mri.scans.split import assign
from elr_mri.scans.table import CLASSES, PARTS, SPLITS

WHO = {
    "name": ["measure:volume", "subject_session", "scan_id"],
    "subject_id": ["participant_id", "subject_id", "subject", "ptid", "rid", "naccid"],
    "session_id": ["session_id", "session", "viscode2", "viscode"],
    "cohort": ["cohort"],
    "split": ["split"],
    "diagnosis": ["diagnosis", "dx", "group"],
    "age_years": ["age", "age_years"],
    "sex": ["sex", "gender", "ptgender"],
}
#: Head size: FreeSurfer's columns, else NACC's, which is in cm³.
_ICV = [*COLUMNS["freesurfer"]["intracranial"], "naccicv"]
#: NACC writes 888 for an age that is not known.
OLDEST_YEARS = 120.0
_BIDS = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?")


@dataclass(frozen=True)
class RoiTable:
    """Scans with their regions, in one form.

    Attributes
    ----------
    scans : DataFrame
        scan_id, cohort, subject_id, person (whose scan it is, over all cohorts), split, label (0, 1, 2 for CN, MCI, AD), age_years, and the regions and `intracranial` in mm³ (thickness in mm),
        missing where not known.
    regions : tuple of str
    left_out : dict of str to int
        Reason -> rows of the tables that are not used.
    digests : dict of str to str
        File name -> SHA-256.
    """

    scans: pd.DataFrame
    regions: tuple[str, ...]
    left_out: dict[str, int]
    digests: dict[str, str]

    def rows(self, split: str) -> np.ndarray:
        """Places of a split's scans."""
        return np.flatnonzero((self.scans["split"] == split).to_numpy())


def read_foreign(settings: RoiTables, section: str = "lab.tables") -> tuple[pd.DataFrame, tuple[str, ...], list[Path]]:
    """The rows of the tables that the config names (`section`: where it does), the regions that all have, and the files."""
    given = [split for split in SPLIT_TABLES if getattr(settings, split)]
    named = [settings.path] if settings.path else [getattr(settings, split) for split in given]
    files = [Path(path).expanduser() for path in named]
    parts = [_foreign(path, settings, section) for path in files]
    regions = _shared([names for _, names in parts], files)
    frames = [frame for frame, _ in parts]
    if not settings.path:
        frames = [frame.assign(split=split) for frame, split in zip(frames, given, strict=True)]
    return pd.concat(frames, ignore_index=True), regions, files


def checked(frame: pd.DataFrame, regions: tuple[str, ...], files: Sequence[Path], settings: RoiTables) -> RoiTable:
    """Rows in one form: labels numbered, a split for each, every subject in one of them; what is not used is told."""
    frame = _with_persons(frame)
    frame, left_out = _labelled(frame, where=str(files[0]))
    frame = _with_split(frame, settings, where=str(files[0]))
    unused = ~frame["split"].isin(SPLITS)
    left_out |= {"split unused": int(unused.sum())} if unused.any() else {}
    frame = frame[~unused].reset_index(drop=True)
    _check(frame, where=", ".join(str(file) for file in files))
    regions = _measured_everywhere(frame, regions, where=str(files[0]))
    digests = {file.name: provenance.digest_file(file) for file in files if file.is_file()}
    columns = ["scan_id", "cohort", "subject_id", "person", "split", "label", "age_years", *regions, ICV]
    return RoiTable(frame[list(dict.fromkeys(columns))], regions, left_out, digests)


def further_regions(path: Path) -> pd.DataFrame:
    """The regions by FreeSurfer's names in a table of ours, but for those that it has under our names anyway: a column each, rows as there."""
    ours = {name for names in COLUMNS["freesurfer"].values() for name in names}
    told = {name: region for name in header(path) if name not in ours and (region := spelled(name))}
    frame = read_table(path, {region: [name] for name, region in told.items()}) if told else pd.DataFrame()
    return pd.DataFrame({name: numbers(frame[name]) for name in frame})


def _foreign(path: Path, settings: RoiTables, section: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table with FreeSurfer's columns, or with the regions that the config names, and the regions that it has."""
    if path.is_dir():
        _refuse("a table", "a folder", path, f"Name scans.tsv with it ({section}.scans) if `measure` wrote it.")
    names = header(path)
    chosen = [name.lower() for name in settings.regions] if settings.regions else [n for n in names if spelled(n)]
    absent = [name for name in chosen if name not in names]
    if absent or not chosen:
        got = f"none named {absent[0]}" if absent else f"{len(names)} others"
        _refuse(
            "columns of regions, such as Left-Hippocampus and lh_entorhinal_volume",
            got,
            path,
            f"Name them in {section}.regions.",
        )
    who = WHO | {
        ours: [own.lower()] for ours, own in (("subject_id", settings.subject), ("diagnosis", settings.label)) if own
    }
    told = {name: spelled(name) or name for name in dict.fromkeys(chosen)}
    if len(set(told.values())) < len(told):
        twice = [name for name, ours in told.items() if list(told.values()).count(ours) > 1]
        _refuse("one column for each region", " and ".join(twice), path, "Remove all but one of them.")
    wanted = {**who, ICV: _ICV, **{ours: [name] for name, ours in told.items()}}
    frame = read_table(path, wanted, required=["diagnosis"])
    lowest = {ICV: 0.0, "age_years": 1.0} | dict.fromkeys(told.values(), 0.0)
    text = frame.drop(columns=list(lowest))
    figures = {name: numbers(frame[name], low=low) for name, low in lowest.items()}
    figures["age_years"] = figures["age_years"].where(figures["age_years"] <= OLDEST_YEARS)
    _tell_words(frame, {name: figures[name] for name in told.values()}, path)
    sizes = {name: figures[name] for name in (*told.values(), ICV)}
    figures |= in_mm3(sizes, frame["cohort"], next((name for name in _ICV if name in names), ""), path)
    return _named(pd.concat([text, pd.DataFrame(figures)], axis=1), path, section), tuple(told.values())


def _tell_words(frame: pd.DataFrame, figures: dict[str, pd.Series], path: Path) -> None:
    """Refuse a column whose cells are all words (decimal commas, say); tell how many others are taken for blank."""
    strange = {name: frame[name].notna() & column.isna() for name, column in figures.items()}
    for name, cells in strange.items():
        if cells.any() and figures[name].isna().all():
            got = f"{frame.loc[cells, name].iloc[0]!r} and no number in {name}"
            _refuse(
                "volumes in mm³ as plain numbers", got, path, "Write decimals with a point, or take the column out."
            )
    if n := sum(int(cells.sum()) for cells in strange.values()):
        name = next(name for name, cells in strange.items() if cells.any())
        first = frame.loc[strange[name], name].iloc[0]
        print(f"tables: {n} cells of {path} are no volumes and are taken for blank, as {first!r} in {name}", flush=True)


def _measured_everywhere(frame: pd.DataFrame, regions: tuple[str, ...], *, where: str) -> tuple[str, ...]:
    """The regions that some scan of each split has; nothing can be learned from the others, or nothing judged by them, and they are told."""
    known = frame[list(regions)].notna().groupby(frame["split"]).any()
    splits = [split for split in SPLITS if split in known.index]
    kept = tuple(name for name in regions if known[name].all())
    if not kept:
        _refuse(f"regions of scans of {', '.join(splits)}", "none that no split lacks", where, "Fill them.")
    for split in splits:
        if empty := [name for name in regions if not known.loc[split, name]]:
            what = "training" if split == "train" else split
            print(f"tables: blank in all {what} scans and left out: {', '.join(empty[:5])} ({len(empty)})", flush=True)
    return kept


def _named(frame: pd.DataFrame, path: Path, section: str) -> pd.DataFrame:
    """Subject and scan of every row; FreeSurfer's own tables name sub-…_ses-… in one column."""
    parts = frame["name"].astype("str").str.extract(_BIDS)
    frame["subject_id"] = frame["subject_id"].fillna(parts[0])
    frame["session_id"] = frame["session_id"].fillna(parts[1]).fillna("")
    if (lost := frame["subject_id"].isna()).any():
        row = int(np.flatnonzero(lost)[0]) + 1
        _refuse("a subject in each row", f"none in row {row}", path, f"Name its column in {section}.subject.")
    frame["scan_id"] = [f"{s}_{v}" if v else s for s, v in zip(frame["subject_id"], frame["session_id"], strict=True)]
    return frame.assign(cohort_told=frame["cohort"].notna(), cohort=frame["cohort"].fillna(path.stem.split("_")[0]))


def _with_persons(frame: pd.DataFrame) -> pd.DataFrame:
    """Whose scan each is, `person`: cohort and subject where every row tells its cohort; by the subject alone where some cohort
    is only the file's name, for one subject may stand in two files."""
    if not frame.get("cohort_told", pd.Series(True, index=frame.index)).all():
        return frame.assign(person=frame["subject_id"])
    several = int((frame.groupby("subject_id")["cohort"].nunique() > 1).sum())
    if several:
        print(f"tables: {several} names of subjects are in several cohorts and count as different people", flush=True)
    return frame.assign(person=frame["cohort"].astype("str") + " " + frame["subject_id"].astype("str"))


def _shared(regions: Sequence[tuple[str, ...]], files: Sequence[Path]) -> tuple[str, ...]:
    """The regions that every table has, in the order of the first; what another lacks is told."""
    kept = tuple(name for name in regions[0] if all(name in names for names in regions))
    lacking = sorted({name for names in regions for name in names} - set(kept))
    if lacking:
        print(
            f"tables: {len(lacking)} regions are not in every table and are left out: {', '.join(lacking[:5])}",
            flush=True,
        )
    if not kept:
        _refuse(
            "regions that all tables have", "none", ", ".join(map(str, files)), "Measure them with the same programme."
        )
    return kept


def _labelled(frame: pd.DataFrame, *, where: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows with a diagnosis of CN, MCI or AD, numbered; and how many others there are, by reason."""
    diagnosis, reason = classes(frame["diagnosis"])
    if diagnosis.isna().all():
        words = ", ".join(repr(word) for word in frame["diagnosis"].dropna().unique()[:3])
        _refuse(
            "diagnoses such as CN, MCI and AD",
            words or "none",
            where,
            "Write them so, or name their column in lab.tables.label.",
        )
    left_out = {str(name): int(n) for name, n in reason.dropna().value_counts().items()}
    for name, n in left_out.items():
        print(f"tables: {n} rows are left out: {name}", flush=True)
    kept = diagnosis.notna()
    return frame[kept].copy().assign(label=diagnosis[kept].map(CLASSES.index).astype(int)), left_out


def _with_split(frame: pd.DataFrame, settings: RoiTables, *, where: str) -> pd.DataFrame:
    """The split that the table tells, or else a draw of subjects, stratified as `split` does it."""
    told = frame["split"] if "split" in frame else pd.Series(pd.NA, index=frame.index)
    if told.isna().all():
        months = frame["months"] if "months" in frame else session_months(frame["session_id"]).fillna(0)
        people = frame.assign(months=months, diagnosis=frame["label"].map(dict(enumerate(CLASSES))))
        drawn = assign(people, settings.split, settings.external_cohorts)
        return frame.drop(columns="split", errors="ignore").merge(
            drawn[["cohort", "subject_id", "split"]], on=["cohort", "subject_id"], how="left", validate="m:1"
        )
    split = told.astype("str").str.strip().str.lower().replace({"training": "train", "validation": "val"})
    if (wrong := ~split.isin(PARTS)).any():
        _refuse(
            f"a split among {', '.join(PARTS)}",
            "a blank cell" if pd.isna(told[wrong].iloc[0]) else repr(told[wrong].iloc[0]),
            f"{where}, column split",
            "Correct it, or remove the column.",
        )
    return frame.assign(split=split)


def _check(frame: pd.DataFrame, *, where: str) -> None:
    """Every scan once, every subject in one split, and all three classes to learn from and to be tested on."""
    if (twice := frame.duplicated(["cohort", "scan_id"])).any():
        fix = "Remove the repeated rows, or tell visits apart by a column session_id."
        _refuse("each scan once", f"{frame.loc[twice, 'scan_id'].iloc[0]} twice", where, fix)
    spread = frame.groupby("person")["split"].nunique()
    if (spread > 1).any():
        _refuse(
            "every subject in one split",
            f"{spread.idxmax()} in {spread.max()}",
            where,
            "Nothing may be learned from a tested subject.",
        )
    for split in ("train", "val", "test"):
        present = set(frame.loc[frame["split"] == split, "label"])
        if absent := [name for number, name in enumerate(CLASSES) if number not in present]:
            _refuse(
                f"{split} scans of CN, MCI and AD",
                f"none of {', '.join(absent)}",
                where,
                "Check the diagnoses and the split.",
            )


def _refuse(expected: str, got: str, where: Path | str, fix: str) -> None:
    raise BadInput(expected=expected, got=got, where=str(where), fix=fix)
