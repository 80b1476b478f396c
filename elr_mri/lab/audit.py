"""Which labels should a clinician look at again? Training scans by how strongly what the network learnt disagrees with the label given.

A network learns right labels before wrong ones (Liu et al., NeurIPS 2020, section 3), and with early-learning regularization it does not
memorize the wrong ones later, so its targets keep the first impression. The disagreement of a scan is the probability that its
targets give to other classes, 1 − t_given / Σ t, the mean over the runs that trained on it.

    audit.tsv    scan_id, subject_id, given, suggested, disagreement, rank, and the subject's mean over visits
    audit.html   the first of them with the evidence: target history, volumes, picture
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings.baseline import percentile, read_volumes
from elr_mri.findings.page import render
from elr_mri.imaging.packed import Cache
from elr_mri.lab.evidence import history_strip, slices
from elr_mri.lab.truth import truth_of
from elr_mri.learning.trajectory import read_trajectory
from elr_mri.provenance import digest_file, read_json, record, write_json, write_text
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES, read_scans
from elr_mri.stages import VERSIONS

TEMPLATES = Path(__file__).with_name("templates")
#: Share of the training scans that a review is thought to have time for: precision is told there.
REVIEWED = 0.1

AUDIT = Schema(
    name="audit",
    version=1,
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
        *(Column(f"t_{c.lower()}", "number", low=0, high=1.001) for c in CLASSES),
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
    """The targets and trajectories of some runs; refuses runs of other scans, labels or lengths."""
    tables, said = zip(*(read_trajectory(folder) for folder in folders), strict=True)
    key = ["scan_id", "cohort", "subject_id", "given"]
    for folder, table, way in zip(folders, tables, said, strict=True):
        if not (table[key].equals(tables[0][key]) and way.shape == said[0].shape):
            raise BadInput(
                expected="runs of the same training scans, labels and epochs",
                got="others",
                where=f"{folders[0]}, {folder}",
                fix="Audit runs that differ in their seed alone.",
            )
    targets = [table[[f"t_{c.lower()}" for c in CLASSES]].to_numpy(dtype=float) for table in tables]
    shares = [t / t.sum(axis=1, keepdims=True).clip(1e-9) for t in targets]
    return Runs(tables[0][key], np.mean(shares, axis=0), np.mean(said, axis=0))


def rank(runs: Runs) -> pd.DataFrame:
    """The audit table, the strongest disagreement first."""
    table = runs.scans.copy()
    given = table["given"].map(CLASSES.index).to_numpy()
    table["suggested"] = np.array(CLASSES)[runs.targets.argmax(axis=1)]
    table["disagreement"] = (1 - runs.targets[np.arange(len(table)), given]).clip(0, 1).round(6)
    differs = (table["suggested"] != table["given"]).astype(int)
    subject = [table["cohort"], table["subject_id"]]
    table["n_visits"] = differs.groupby(subject).transform("size")
    table["n_visits_disagreeing"] = differs.groupby(subject).transform("sum")
    table["subject_disagreement"] = table["disagreement"].groupby(subject).transform("mean").round(6)
    for name, column in zip(CLASSES, runs.targets.T, strict=True):
        table[f"t_{name.lower()}"] = column.round(6)
    table = table.sort_values(["disagreement", "scan_id"], ascending=[False, True], ignore_index=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def found(wrong: np.ndarray, disagreement: np.ndarray) -> dict[str, float]:
    """How well a ranking finds wrong labels: average precision, and precision among the first `REVIEWED` of all.

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
        "average_precision": float(average_precision_score(wrong, disagreement)) if wrong.any() else float("nan"),
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
    runs = read_runs(folders)
    table = rank(runs)
    AUDIT.write(table, out_dir / "audit.tsv")
    facts: dict[str, Any] = {
        "runs": [str(folder) for folder in folders],
        "model": read_json(folders[0] / "model.json")["slug"],
        "n_scans": len(table),
        "n_subjects": int(table[["cohort", "subject_id"]].drop_duplicates().shape[0]),
        "n_disagreeing": int((table["suggested"] != table["given"]).sum()),
        "found": None,
    }
    scans = read_scans(scans_path)
    truth = truth_of(scans[scans["scan_id"].isin(table["scan_id"])], truth_path)
    if truth is not None:
        wrong = (table["scan_id"].map(truth) != table["given"]).to_numpy()
        facts["found"] = found(wrong, table["disagreement"].to_numpy())
    write_json(out_dir / "audit.json", facts)
    lines = evidence(table.head(settings.shown), runs, scans_path, cache_dir, baseline_path)
    page = render(
        "audit.html.j2",
        {"title": "Labels to look at again", "facts": facts, "lines": lines, "classes": CLASSES},
        folder=TEMPLATES,
    )
    write_text(out_dir / "audit.html", page)
    inputs = {str(folder): digest_file(folder / "targets.tsv") for folder in folders}
    record(out_dir / "audit.tsv", step="lab", version=VERSIONS["lab"], inputs=inputs, settings=settings)
    return out_dir / "audit.tsv"


def evidence(
    table: pd.DataFrame, runs: Runs, scans_path: Path, cache_dir: Path, baseline_path: Path | None
) -> list[Mapping[str, Any]]:
    """What the page shows of some scans."""
    scans = read_scans(scans_path).set_index("scan_id")
    cache, volumes = Cache.read(cache_dir), read_volumes(cache_dir / "roi_volumes.tsv").set_index("scan_id")
    rows = cache.index.set_index("scan_id")["row"]
    model = None if baseline_path is None else read_json(baseline_path)
    places = {scan: place for place, scan in enumerate(runs.scans["scan_id"])}
    lines = []
    for line in table.to_dict("records"):
        scan, own = scans.loc[line["scan_id"]], volumes.loc[line["scan_id"]]
        ranks = {}
        if model is not None and model["source"] == own["source"]:
            known = {k: float(v) for k, v in own.items() if isinstance(v, (int, float)) and np.isfinite(v)}
            ranks = percentile(model, known, age_years=scan["age_years"], source=own["source"])
        lines.append(
            line
            | {
                "age_years": float(scan["age_years"]),
                "sex": scan["sex"] if isinstance(scan["sex"], str) else None,
                "mmse": None if pd.isna(scan["mmse"]) else float(scan["mmse"]),
                "cdr_global": None if pd.isna(scan["cdr_global"]) else float(scan["cdr_global"]),
                "hippocampus_mm3": None if pd.isna(own["hippocampus"]) else float(own["hippocampus"]),
                "percentiles": ranks,
                "targets": {c: line[f"t_{c.lower()}"] for c in CLASSES},
                "history": history_strip(runs.said[:, places[line["scan_id"]]]),
                "picture": slices(cache, int(rows[line["scan_id"]])),
            }
        )
    return lines
