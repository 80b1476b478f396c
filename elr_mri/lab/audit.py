"""Which labels should a clinician look at again? Training scans by how strongly what was learnt disagrees with the label given.

Two opinions. The network's: it learns right labels before wrong ones (Liu et al., NeurIPS 2020, section 3), and with early-learning
regularization does not memorize the wrong ones later, so its targets keep the first impression. The volumes': an ordinal model that reckons with wrong labels
(`ordinal.py`), and that few parameters keep from memorizing. Both are multiplied, and the disagreement of a scan is the probability that is left to other classes than the given one.

    audit.tsv    scan_id, subject_id, given, suggested, disagreement, rank, both opinions, and the subject's mean over visits
    audit.html   the first of them with the evidence: target history, volumes, picture
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, cohen_kappa_score

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings import normalise
from elr_mri.findings.baseline import known_sides, read_volumes
from elr_mri.findings.page import render
from elr_mri.lab.evidence import evidence
from elr_mri.lab.ordinal import Ordinal, fit_ordinal
from elr_mri.lab.truth import truth_of
from elr_mri.learning.trajectory import read_trajectory
from elr_mri.provenance import digest_file, read_json, record, write_json, write_text
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES, read_scans
from elr_mri.stages import VERSIONS

TEMPLATES = Path(__file__).with_name("templates")
#: Share of the training scans that a review is thought to have time for: precision is told there.
REVIEWED = 0.1
#: The least probability of a class.
FLOOR = 1e-6

AUDIT = Schema(
    name="audit",
    version=2,
    key=("scan_id",),
    columns=(
        Column("rank", "integer", low=1),
        Column("scan_id"),
        Column("cohort"),
        Column("subject_id"),
        Column("given", allowed=CLASSES),
        Column("suggested", allowed=CLASSES),
        Column("disagreement", "number", low=0, high=1),
        Column("n_visits", "integer", low=1),
        Column("n_visits_disagreeing", "integer", low=0),
        Column("subject_disagreement", "number", low=0, high=1),
        Column("disagreement_network", "number", low=0, high=1),
        Column("disagreement_volumes", "number", required=False, low=0, high=1),
        *(Column(f"t_{c.lower()}", "number", low=0, high=1.001) for c in CLASSES),
        *(Column(f"v_{c.lower()}", "number", required=False, low=0, high=1.001) for c in CLASSES),
    ),
)


@dataclass(frozen=True)
class Runs:
    """What several runs with the same training scans and labels say of them.

    Attributes
    ----------
    scans : DataFrame
        scan_id, cohort, subject_id, given.
    targets : (n_scans, 3) float
        Mean over the runs, each scan's normalised to sum 1.
    said : (n_epochs, n_scans, 3) float
        Mean over the runs.
    """

    scans: pd.DataFrame
    targets: np.ndarray
    said: np.ndarray


def read_runs(folders: Sequence[Path]) -> Runs:
    """The targets and trajectories of some runs; refuses runs of other scans or labels.

    A run that stopped earlier than another goes on saying what it said last.
    """
    tables, said = zip(*(read_trajectory(folder) for folder in folders), strict=True)
    key = ["scan_id", "cohort", "subject_id", "given"]
    for folder, table in zip(folders, tables, strict=True):
        if not table[key].equals(tables[0][key]):
            raise BadInput(
                expected="runs of the same training scans and labels",
                got="others",
                where=f"{folders[0]}, {folder}",
                fix="Audit runs that differ in their seed alone.",
            )
    targets = [table[[f"t_{c.lower()}" for c in CLASSES]].to_numpy(dtype=float) for table in tables]
    shares = [t / t.sum(axis=1, keepdims=True).clip(1e-9) for t in targets]
    longest = max(len(way) for way in said)
    held = [np.concatenate([way, np.repeat(way[-1:], longest - len(way), axis=0)]) for way in said]
    return Runs(tables[0][key], np.mean(shares, axis=0), np.mean(held, axis=0))


@dataclass(frozen=True)
class Volumes:
    """What the volumes say of the same scans.

    Attributes
    ----------
    said : (n_scans, 3) float
        Probability of each true class, the given label taken into account; NaN where a scan has no volumes.
    model : Ordinal
    regions : tuple of str
    doubts : (n_scans,) bool
        Scans to which the volumes alone would give another label.
    """

    said: np.ndarray
    model: Ordinal
    regions: tuple[str, ...]
    doubts: np.ndarray


def ask_volumes(scans: pd.DataFrame, measured: pd.DataFrame) -> Volumes | None:
    """The opinion of the measured volumes, as shares of the head where its size is known, and of age; None where no region is known.

    Parameters
    ----------
    scans : DataFrame
        scan_id, given, age_years.
    measured : DataFrame
        As `roi_volumes.tsv`.
    """
    own = scans[["scan_id"]].merge(measured, on="scan_id", how="left", validate="1:1")
    regions = known_sides(own)
    if not regions:
        return None
    how = {"method": "ratio" if own[normalise.ICV].notna().any() else "none"}
    features = np.column_stack([normalise.apply(own, regions, how), scans["age_years"]])
    known = np.isfinite(features[:, :-1]).any(axis=1)
    if not known.any():
        return None
    given = scans["given"].map(CLASSES.index).to_numpy()
    model = fit_ordinal(features[known], given[known], len(CLASSES))
    said = np.full((len(scans), len(CLASSES)), np.nan)
    said[known] = model.posterior(features[known], given[known])
    return Volumes(said, model, regions, known & (model.likely(features).argmax(axis=1) != given))


def rank(runs: Runs, volumes: Volumes | None = None) -> pd.DataFrame:
    """The audit table, the strongest disagreement first; where volumes say nothing of a scan, the network's opinion stands alone."""
    table, n = runs.scans[["scan_id", "cohort", "subject_id", "given"]].copy(), len(runs.scans)
    beside = np.full((n, len(CLASSES)), np.nan) if volumes is None else volumes.said
    both = pool(runs.targets, beside, network_weight(runs, volumes))
    given = table["given"].map(CLASSES.index).to_numpy()
    table["suggested"] = np.array(CLASSES)[both.argmax(axis=1)]
    for name, said in (("", both), ("_network", runs.targets), ("_volumes", beside)):
        table[f"disagreement{name}"] = (1 - said[np.arange(n), given]).clip(0, 1).round(6)
    differs = (table["suggested"] != table["given"]).astype(int)
    subject = [table["cohort"], table["subject_id"]]
    table["n_visits"] = differs.groupby(subject).transform("size")
    table["n_visits_disagreeing"] = differs.groupby(subject).transform("sum")
    table["subject_disagreement"] = table["disagreement"].groupby(subject).transform("mean").round(6)
    for letter, said in (("t", runs.targets), ("v", beside)):
        for name, column in zip(CLASSES, said.T, strict=True):
            table[f"{letter}_{name.lower()}"] = column.round(6)
    table = table.sort_values(["disagreement", "scan_id"], ascending=[False, True], ignore_index=True)
    table.insert(0, "rank", np.arange(1, n + 1))
    return table[[column.name for column in AUDIT.columns]]


def pool(network: np.ndarray, volumes: np.ndarray, weight: float) -> np.ndarray:
    """(n, 3) both opinions as one: their product, the network's to the power `weight` (a logarithmic opinion pool: Genest & Zidek, Stat Sci 1, 1986)."""
    product = np.clip(network, FLOOR, 1) ** weight * np.clip(volumes, FLOOR, 1)
    pooled = np.where(np.isnan(volumes), network, product)
    return pooled / pooled.sum(axis=1, keepdims=True).clip(FLOOR)


def network_weight(runs: Runs, volumes: Volumes | None) -> float:
    """What the network's opinion weighs beside the volumes': how far both doubt the same labels beyond chance (Cohen's κ, at least 0).

    A network that has memorized doubts none, and one that has learnt nothing doubts any: neither has an opinion. Without volumes it stands alone, with weight 1.
    """
    if volumes is None:
        return 1.0
    given = runs.scans["given"].map(CLASSES.index).to_numpy()
    network, known = runs.targets.argmax(axis=1) != given, np.isfinite(volumes.said[:, 0])
    if not (network[known].any() and volumes.doubts[known].any()):
        return 0.0
    return max(0.0, float(cohen_kappa_score(network[known], volumes.doubts[known])))


def found(wrong: np.ndarray, disagreement: np.ndarray) -> dict[str, float | None]:
    """How well a ranking finds wrong labels: average precision (None where no label is wrong), and precision among the first `REVIEWED` of all.

    Parameters
    ----------
    wrong : (n,) bool
    disagreement : (n,) float
        Higher is more suspicious.
    """
    first = np.argsort(-disagreement, kind="stable")[: max(1, round(REVIEWED * len(wrong)))]
    return {
        "n": len(wrong),
        "wrong": int(wrong.sum()),
        "average_precision": float(average_precision_score(wrong, disagreement)) if wrong.any() else None,
        "precision_at_10_percent": float(wrong[first].mean()),
    }


def audit(
    folders: Sequence[Path],
    scans_path: Path,
    cache_dir: Path,
    settings: config.LabelAudit,
    *,
    baseline_path: Path | None,
    truth_path: Path | None,
    out_dir: Path,
) -> Path:
    """Write `audit.tsv`, `audit.html` and `audit.json`; returns the path of the first.

    Parameters
    ----------
    folders : paths
        Model folders of one model, of several seeds.
    baseline_path : path or None
        `model.json` of the volume baseline, for percentiles of the hippocampi.
    truth_path : path or None
        The phantom's truth, to tell how many of the wrong labels were found.
    """
    runs, scans = read_runs(folders), read_scans(scans_path)
    own = runs.scans.merge(scans[["scan_id", "age_years"]], on="scan_id", how="left", validate="1:1")
    volumes = ask_volumes(own, read_volumes(cache_dir / "roi_volumes.tsv"))
    table = rank(runs, volumes)
    AUDIT.write(table, out_dir / "audit.tsv")
    facts: dict[str, Any] = {
        "runs": [str(folder) for folder in folders],
        "model": read_json(folders[0] / "model.json")["slug"],
        "n_scans": len(table),
        "n_subjects": int(table[["cohort", "subject_id"]].drop_duplicates().shape[0]),
        "n_disagreeing": int((table["suggested"] != table["given"]).sum()),
        "network_weight": network_weight(runs, volumes),
        "volumes": None if volumes is None else {"regions": volumes.regions, "noise": volumes.model.noise},
        "found": None,
    }
    truth = truth_of(scans[scans["scan_id"].isin(table["scan_id"])], truth_path)
    if truth is not None:
        wrong = (table["scan_id"].map(truth) != table["given"]).to_numpy()
        opinions = {name: table[f"disagreement_{name}"].fillna(0).to_numpy() for name in ("network", "volumes")}
        facts["found"] = found(wrong, table["disagreement"].to_numpy())
        facts["found_alone"] = {name: found(wrong, told) for name, told in opinions.items()}
    write_json(out_dir / "audit.json", facts)
    said = dict(zip(runs.scans["scan_id"], np.moveaxis(runs.said, 1, 0), strict=True))
    lines = evidence(table.head(settings.shown), said, scans_path, cache_dir, baseline_path)
    page = render(
        "audit.html.j2",
        {"title": "Labels to look at again", "facts": facts, "lines": lines, "classes": CLASSES},
        folder=TEMPLATES,
    )
    write_text(out_dir / "audit.html", page)
    read = [folder / name for folder in folders for name in ("targets.tsv", "trajectory.npy")]
    read += [scans_path, cache_dir / "roi_volumes.tsv", *([baseline_path] if baseline_path else [])]
    inputs = {str(path): digest_file(path) for path in read}
    record(out_dir / "audit.tsv", step="lab", version=VERSIONS["lab"], inputs=inputs, settings=settings)
    return out_dir / "audit.tsv"
