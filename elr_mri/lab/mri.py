"""Do wrong labels mislead the networks of a study, and does early-learning regularization help? On its own scans.

Every run is an ordinary model folder, trained with labels of which a known share is wrong (`elr-mri train --labels`). Models are judged
on the test and external scans by the true labels where somebody knows them (phantoms), else by the given ones, after the last
epoch: a best-epoch reading would hide memorization.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings import style
from elr_mri.findings.evaluate import UNSEEN, compare, groups_of
from elr_mri.lab.curves import gradients, has_gradients, memorization
from elr_mri.lab.figures import gradient_figure, memorization_figure, scores_figure
from elr_mri.lab.truth import truth_of
from elr_mri.learning.trajectory import read_trajectory
from elr_mri.provenance import atomic, digest_file, read_json, record, sidecar, write_json
from elr_mri.scans.labels import LABELS
from elr_mri.scans.predictions import PREDICTIONS
from elr_mri.scans.table import CLASSES, read_scans
from elr_mri.stages import VERSIONS

#: What is compared, of all the scores.
SHOWN = ("accuracy", "balanced_accuracy", "macro_auc")


@dataclass(frozen=True)
class Trial:
    """One training run with wrong labels: its method and seed, the share of labels drawn to be wrong, and what came of it."""

    method: str
    seed: int
    share: float
    labels: pd.DataFrame
    predictions: pd.DataFrame
    targets: pd.DataFrame
    said: np.ndarray
    loss: config.Loss

    @property
    def realised(self) -> float:
        """Share of the training labels that are wrong."""
        return float((self.targets["given"] != self.true).mean())

    @property
    def true(self) -> pd.Series:
        """The true diagnosis of each training scan, in the order of `targets`."""
        known = self.labels.set_index("scan_id")["diagnosis"]
        return self.targets["scan_id"].map(known).rename("true")

    def curve(self, kind: str) -> pd.DataFrame:
        """The table of `memorization` or of `gradients`."""
        true, given = (column.map(CLASSES.index).to_numpy() for column in (self.true, self.targets["given"]))
        return (
            memorization(self.said, true, given)
            if kind == "memorization"
            else gradients(self.said, true, given, self.loss)
        )


def read_trial(folder: Path, labels_path: Path) -> Trial:
    """A model folder, with its predictions, and the labels it was trained with."""
    facts = read_json(folder / "model.json")
    targets, said = read_trajectory(folder)
    labels = LABELS.read(labels_path)
    wanted = targets["scan_id"].map(labels.set_index("scan_id")["given"])
    if not wanted.equals(targets["given"].rename(wanted.name)):
        raise BadInput(
            expected=f"the labels that {folder} was trained with",
            got="others",
            where=str(labels_path),
            fix="Name the runs and their label tables in the same order.",
        )
    loss = config.Loss(**{key: facts["model"].get(key) for key in config.Loss.model_fields})
    share = float(read_json(sidecar(labels_path))["settings"]["share"])
    predictions = PREDICTIONS.read(folder / "predictions.tsv")
    return Trial(facts["slug"], facts["seed"], share, labels, predictions, targets, said, loss)


def mri(
    runs: Sequence[Path],
    label_paths: Sequence[Path],
    scans_path: Path,
    settings: config.Lab,
    *,
    truth_path: Path | None,
    out_dir: Path,
) -> Path:
    """Write `results.tsv`, `differences.tsv`, `curves.tsv`, `gradients.tsv`, the figures and `findings.json`; returns the path of the first."""
    if len(runs) != len(label_paths):
        raise BadInput(
            expected="a label table for each run",
            got=f"{len(runs)} runs, {len(label_paths)} tables",
            where="--run, --labels",
            fix="Name both as often.",
        )
    trials = [read_trial(*pair) for pair in zip(runs, label_paths, strict=True)]
    truth = truth_of(read_scans(scans_path), truth_path)
    results, differences = scores(trials, truth)
    for name, table in (("results", results), ("differences", differences)):
        _write(table, out_dir / f"{name}.tsv")
    curves = {kind: _curves(trials, kind) for kind in ("memorization", "gradients")}
    for kind, table in curves.items():
        _write(table, out_dir / f"{kind}.tsv")
    _draw(curves, results, settings, out_dir)
    write_json(
        out_dir / "findings.json", findings(trials, results, differences, judged="given" if truth is None else "true")
    )
    inputs = {str(path): digest_file(path) for path in (*(run / "predictions.tsv" for run in runs), *label_paths)}
    record(out_dir / "results.tsv", step="lab", version=VERSIONS["lab"], inputs=inputs, settings=settings)
    return out_dir / "results.tsv"


def scores(trials: Sequence[Trial], truth: pd.Series | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores on the unseen scans, and each method's paired difference to the first, by share; seeds are averaged within each draw of subjects."""
    results, differences = [], []
    for share in sorted({trial.share for trial in trials}):
        own = [trial for trial in trials if trial.share == share]
        told = pd.concat([t.predictions.assign(model=t.method, seed=t.seed) for t in own], ignore_index=True)
        if truth is not None:
            told["diagnosis"] = told["scan_id"].map(truth)
        realised = float(np.mean([trial.realised for trial in own]))
        for group in groups_of(told[told["split"].isin(UNSEEN)]):
            found, paired = compare(group, config.Evaluate())
            place = {"share": share, "realised": realised}
            results += [place | row for row in found if row["metric"] in SHOWN]
            differences += [
                place | row for row in paired if row["metric"] in SHOWN and row["reference"] == own[0].method
            ]
    return pd.DataFrame(results), pd.DataFrame(differences)


def _curves(trials: Sequence[Trial], kind: str) -> pd.DataFrame:
    """The curves of all trials that have them."""
    parts = []
    for trial in trials:
        if kind == "gradients" and not has_gradients(trial.loss):
            continue
        place = {"method": trial.method, "share": trial.share, "seed": trial.seed}
        parts.append(trial.curve(kind).assign(**place))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def findings(trials: Sequence[Trial], results: pd.DataFrame, differences: pd.DataFrame, *, judged: str) -> dict:
    """What a reader is told: at the largest share, what is memorized and what was gained on the unseen scans."""
    share = max(trial.share for trial in trials)
    own = [trial for trial in trials if trial.share == share]
    memorized = {}
    for trial in own:
        wrong = trial.curve("memorization").query("group == 'wrong'")
        memorized.setdefault(trial.method, []).append(
            [float(wrong[k].iloc[-1]) for k in ("given", "true")] if len(wrong) else None
        )
    means = {
        method: dict(zip(("given", "true"), np.mean([v for v in values if v], axis=0).tolist()))
        for method, values in memorized.items()
        if any(values)
    }
    pick = [
        name
        for name in (
            "cohort",
            "split",
            "model",
            "reference",
            "difference",
            "low",
            "high",
            "n_scans",
            "n_subjects",
            "n_seeds",
        )
        if name in differences
    ]
    gained = (
        differences[(differences["share"] == share) & (differences["metric"] == "balanced_accuracy")][pick]
        if len(differences)
        else differences
    )
    return {
        "share": share,
        "realised": float(np.mean([trial.realised for trial in own])),
        "judged_by": judged,
        "n_training_scans": len(own[0].targets),
        "seeds": sorted({trial.seed for trial in own}),
        "epochs": int(own[0].said.shape[0]),
        "methods": list(dict.fromkeys(trial.method for trial in own)),
        "last_epoch_of_wrong_labels": means,
        "balanced_accuracy_gained": gained.to_dict("records"),
    }


def _draw(curves: dict[str, pd.DataFrame], results: pd.DataFrame, settings: config.Lab, out_dir: Path) -> None:
    """The figures: curves at the largest share and the first seed, scores by share."""
    share = curves["memorization"]["share"].max()
    for kind, figure in (("memorization", memorization_figure), ("gradients", gradient_figure)):
        table = curves[kind]
        if table.empty:
            continue
        own = table[(table["share"] == share) & (table["seed"] == table["seed"].iloc[0])]
        shown = dict(iter(own.groupby("method", sort=False)))
        with style.drawing():
            style.save(figure(shown), out_dir / "figures" / kind)
    with style.drawing():
        style.save(scores_figure(results, "balanced_accuracy"), out_dir / "figures" / "scores")


def _write(table: pd.DataFrame, path: Path) -> None:
    with atomic(path) as draft:
        table.to_csv(draft, sep="\t", index=False, float_format="%.6g", lineterminator="\n")
