"""The second volume baseline, `volumes-all`: every region that was measured, volumes and thicknesses, in a classifier chosen on validation.

Age and head size are taken out of each region by healthy people's lines (`wscores.py`), the classifier is chosen and calibrated on
validation (`candidates.py`), and what an external cohort changes is estimated without its labels (`adaptation.py`). Stored as `volumes-all.json`
and, of trees, `volumes-all.npz`, which holds plain arrays only; `read` gives back what predicts the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from elr_mri import config, provenance
from elr_mri.errors import BadInput
from elr_mri.findings import adaptation, candidates, trees, wscores
from elr_mri.findings.normalise import ICV
from elr_mri.scans.predictions import prediction_table
from elr_mri.scans.table import CLASSES
from elr_mri.stages import VERSIONS

MODEL, MOVED = "volumes-all", "volumes-all-prior"
#: A scan with a smaller share of the regions is not predicted.
FEWEST_KNOWN = 0.5
#: An external cohort of fewer scans is not aligned, nor are its shares estimated.
FEWEST_SCANS = 20


def fit_and_predict(
    table: pd.DataFrame, regions: Sequence[str], settings: config.AllRegions, out_dir: Path, *, seed: int
) -> list[pd.DataFrame]:
    """Fit on the training scans, choose and calibrate on validation, predict all: prediction tables of `MODEL` and, if asked, `MOVED`.

    Parameters
    ----------
    table : DataFrame
        scan_id, subject_id, cohort, split, diagnosis, age_years, `intracranial` and the regions, mm³ or mm; blanks allowed.
    """
    table = _predictable(table, regions)
    head = settings.head == "controls" and bool(table[ICV].notna().any())
    if settings.head == "controls" and not head:
        print(f"baseline: {MODEL}: no scan has an intracranial volume; head size is left in", flush=True)
    table = _checked_blanks(table, settings, head=head)
    train = table[table["split"] == "train"]
    how = wscores.fit(train, regions, head=head, age=settings.age == "controls")
    how |= {"age_is_feature": settings.age == "feature"}
    features, labels = matrix(table, how), table["diagnosis"].map(CLASSES.index).to_numpy()
    parts = {split: (table["split"] == split).to_numpy() for split in ("train", "val")}
    chosen, trials = candidates.choose(
        *((features[part], labels[part]) for part in parts.values()), settings.models, seed=seed
    )
    before = np.bincount(labels[parts["train"]], minlength=len(CLASSES)) / parts["train"].sum()
    means = np.stack([features[parts["train"] & (labels == k)].mean(axis=0) for k in range(len(CLASSES))])
    logits, cohorts = np.zeros((len(table), len(CLASSES))), []
    moved = logits.copy()
    for (cohort, external), rows in _groups(table):
        found = features[rows]
        if external:
            found = adaptation.aligned(found, means, before, chosen.logits, settings.align)
        logits[rows] = moved[rows] = chosen.logits(found)
        if external:
            shares = adaptation.class_shares(softmax(logits[rows], axis=1), before)
            moved[rows] = adaptation.moved(logits[rows], before, shares)
            cohorts.append({"cohort": cohort, "n_scans": int(rows.sum()), "estimated_shares": shares.tolist()})
    facts = {
        "model": MODEL,
        "version": VERSIONS["baseline"],
        "classes": list(CLASSES),
        "classifier": chosen.facts(),
        "features": how,
        "align": settings.align,
        "training_shares": before.tolist(),
        "external": cohorts,
        "validation": trials,
        "n_train_scans": int(parts["train"].sum()),
        "n_train_subjects": int(train["subject_id"].nunique()),
        "n_val_scans": int(parts["val"].sum()),
        "n_val_subjects": int(table.loc[parts["val"], "subject_id"].nunique()),
    }
    _write(out_dir, facts, chosen.arrays())
    told = [prediction_table(table, logits, model=MODEL, seed=seed)]
    return told + ([prediction_table(table, moved, model=MOVED, seed=seed)] if settings.prior_shift else [])


def matrix(table: pd.DataFrame, how: Mapping[str, Any]) -> np.ndarray:
    """What the classifier sees: (n_scans, n_features) float, the W-scores and, if it is a feature, age in years; a blank age is the usual one."""
    scores = wscores.apply(table, how)
    if not how["age_is_feature"]:
        return scores
    return np.column_stack([scores, table["age_years"].astype(float).fillna(how["usual_age_years"])])


def read(folder: Path) -> tuple[candidates.Classifier, dict[str, Any]]:
    """The stored classifier, and the facts beside it; the arrays are read without pickle."""
    facts = provenance.read_json(Path(folder) / f"{MODEL}.json")
    with np.load(Path(folder) / f"{MODEL}.npz", allow_pickle=False) as held:
        classifier = candidates.read(facts["classifier"], dict(held))
    n_features = len(facts["features"]["regions"]) + facts["features"]["age_is_feature"]
    for fitted, _ in classifier.members:
        if fitted.arrays:
            trees.check(fitted.arrays, n_features, str(folder))
    return classifier, facts


def _write(out_dir: Path, facts: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    provenance.write_json(Path(out_dir) / f"{MODEL}.json", facts)
    with provenance.atomic(Path(out_dir) / f"{MODEL}.npz") as draft:
        np.savez_compressed(draft, allow_pickle=False, **arrays)


def _groups(table: pd.DataFrame) -> list[tuple[tuple[str, bool], np.ndarray]]:
    """(cohort, whether it is external and large enough to be looked at as a whole) and its rows; all other scans are one group."""
    external = (table["split"] == "external").to_numpy()
    groups, rest = [], np.ones(len(table), dtype=bool)
    for cohort in table.loc[external, "cohort"].unique():
        rows = external & (table["cohort"] == cohort).to_numpy()
        if rows.sum() >= FEWEST_SCANS:
            groups.append(((cohort, True), rows))
            rest &= ~rows
    return [(("", False), rest), *groups] if rest.any() else groups


def _predictable(table: pd.DataFrame, regions: Sequence[str]) -> pd.DataFrame:
    """The scans with at least half of the regions; the others are told."""
    known = table[list(regions)].notna().mean(axis=1)
    if (lacking := known < FEWEST_KNOWN).any():
        print(
            f"baseline: {MODEL}: {int(lacking.sum())} scans have fewer than half of the {len(regions)} regions, as {table.loc[lacking, 'scan_id'].iloc[0]}; not predicted",
            flush=True,
        )
    blanks = int(table.loc[~lacking, list(regions)].isna().sum().sum())
    if blanks:
        print(f"baseline: {MODEL}: {blanks} blank regions are taken for the training scans' median", flush=True)
    return table[~lacking].reset_index(drop=True)


def _checked_blanks(table: pd.DataFrame, settings: config.AllRegions, *, head: bool) -> pd.DataFrame:
    """The scans that can be predicted: a split or cohort that knows no head size or no age is left out and told, training scans are refused."""
    needed = [(ICV, "head")] * head + [("age_years", "age")] * (settings.age != "ignore")
    for column, key in needed:
        if table.loc[table["split"] == "train", column].isna().all():
            raise BadInput(
                expected=f"{column} of some train scan",
                got="none",
                where="the table of volumes",
                fix=f"Fill it, or set baseline.all_regions.{key}: ignore.",
            )
        known = table[column].notna().groupby([table["cohort"], table["split"]]).transform("any")
        for (cohort, split), rows in table[~known].groupby(["cohort", "split"]):
            print(
                f"baseline: {MODEL}: no scan of {cohort} {split} has its {column}; its {len(rows)} scans are not predicted",
                flush=True,
            )
        table = table[known].reset_index(drop=True)
        blank = table[column].isna()
        if blank.any():
            print(f"baseline: {MODEL}: {int(blank.sum())} scans without {column} count as of the usual one", flush=True)
    return table
