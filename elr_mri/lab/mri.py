"""Do wrong labels mislead the networks of a study, and does early-learning regularization help? On its own scans.

Every run is an ordinary model folder, trained with labels of which a known share is wrong (`elr-mri train --labels`). Models are judged
on the test and external scans by the true labels where somebody knows them (phantoms), else by the given ones, after the last
epoch: a best-epoch reading would hide memorization.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from elr_mri import config
from elr_mri.findings import style
from elr_mri.lab.curves import has_gradients
from elr_mri.lab.figures import gradient_figure, memorization_figure, scores_figure
from elr_mri.lab.trial_scores import USUAL, scores
from elr_mri.lab.trials import Trial, read_trials
from elr_mri.lab.truth import truth_of
from elr_mri.provenance import atomic, digest_file, record, write_json
from elr_mri.scans.table import read_scans
from elr_mri.stages import VERSIONS

#: Columns of the curves' tables before those of the curves themselves; and of a table of gradients.
PLACE = ("method", "share", "seed", "voice")
GRADIENTS = ("epoch", "group", "gradient", "entropy", "regularizer", *PLACE)
#: Of a difference, what the report tells.
TOLD = ("cohort", "split", "model", "reference", "difference", "low", "high", "level", "covers", "n_scans", "n_subjects", "n_seeds")  # fmt: skip


def mri(
    runs: Sequence[Path],
    label_paths: Sequence[Path],
    scans_path: Path,
    settings: config.Lab,
    *,
    truth_path: Path | None,
    out_dir: Path,
    evaluation: config.Evaluate = USUAL,
) -> Path:
    """Write `results.tsv`, `differences.tsv`, `seeds.tsv`, `memorization.tsv`, `gradients.tsv`, the figures and `findings.json`; returns the path of the first.

    `evaluation`: draws, seed and level of the intervals, as in `evaluate`.
    """
    trials = read_trials(runs, label_paths)
    truth = truth_of(read_scans(scans_path), truth_path)
    results, differences, seeds = scores(trials, truth, evaluation)
    curves = {kind: _curves(trials, kind) for kind in ("memorization", "gradients")}
    tables = {"results": results, "differences": differences, "seeds": seeds, **curves}
    for name, table in tables.items():
        _write(table, out_dir / f"{name}.tsv")
    _draw(trials, curves, results, seeds, out_dir)
    write_json(out_dir / "findings.json", findings(trials, differences, judged="given" if truth is None else "true"))
    inputs = {str(path): digest_file(path) for path in (*(run / "predictions.tsv" for run in runs), *label_paths)}
    how = evaluation.model_dump(mode="json")
    record(
        out_dir / "results.tsv",
        step="lab",
        version=VERSIONS["lab"],
        inputs=inputs,
        settings=settings,
        evaluation=how,
    )
    return out_dir / "results.tsv"


def worst(trials: Sequence[Trial]) -> list[Trial]:
    """The trainings with the largest share of wrong labels: what figures and findings show."""
    share = max(trial.share for trial in trials)
    return [trial for trial in trials if trial.share == share]


def findings(trials: Sequence[Trial], differences: pd.DataFrame, *, judged: str) -> dict[str, Any]:
    """What a reader is told: at the largest share, how the methods were trained, what is memorized and what was gained on the unseen scans."""
    own = worst(trials)
    by_method: dict[str, list[Trial]] = {}
    for trial in own:
        by_method.setdefault(trial.method, []).append(trial)
    here = differences[(differences["share"] == own[0].share) & (differences["metric"] == "balanced_accuracy")]
    return {
        "share": own[0].share,
        "realised": float(np.mean([trial.realised for trial in own])),
        "noise": {"kind": own[0].noise.kind, "per": own[0].noise.per, "splits": list(own[0].noise.splits)},
        "judged_by": judged,
        "n_training_scans": len(own[0].targets),
        "seeds": sorted({trial.seed for trial in own}),
        "shown_seed": own[0].seed,
        "methods": list(by_method),
        "trained": {method: _trained(of) for method, of in by_method.items()},
        "without_gradients": [method for method, of in by_method.items() if not has_gradients(of[0].loss)],
        "last_epoch_of_wrong_labels": {m: told for m, of in by_method.items() if (told := _memorized(of))},
        "balanced_accuracy_gained": here[list(TOLD)].to_dict("records"),
    }


def _trained(trials: Sequence[Trial]) -> dict[str, Any]:
    """How one method was trained, over its seeds."""
    first, epochs = trials[0], [len(trial.said) for trial in trials]
    return {
        "loss": first.loss.model_dump(mode="json", exclude_none=True),
        "class_weights": first.class_weights,
        "voice": first.voice,
        "n_training_scans": len(first.targets),
        "n_seeds": len(trials),
        "epochs": [min(epochs), max(epochs)],
    }


def _memorized(trials: Sequence[Trial]) -> dict[str, Any] | None:
    """Of the wrongly labelled training scans the shares that are predicted as given and as they truly are after the last epoch, means over the seeds."""
    ends = [trial.curve("memorization").query("group == 'wrong' and n > 0").tail(1) for trial in trials]
    told = pd.concat(ends)
    return {"given": told["given"].mean(), "true": told["true"].mean(), "n_seeds": len(told)} if len(told) else None


def _curves(trials: Sequence[Trial], kind: str) -> pd.DataFrame:
    """The curves of all trainings that have them."""
    parts = [
        table.assign(**{name: getattr(trial, name) for name in PLACE})
        for trial in trials
        if (table := trial.curve(kind)) is not None
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(GRADIENTS))


def _draw(
    trials: Sequence[Trial], curves: dict[str, pd.DataFrame], results: pd.DataFrame, seeds: pd.DataFrame, out_dir: Path
) -> None:
    """The figures: curves at the largest share and the first of its seeds, scores by share."""
    first = worst(trials)[0]
    for kind, figure in (("memorization", memorization_figure), ("gradients", gradient_figure)):
        table, stem = curves[kind], out_dir / "figures" / kind
        own = table[(table["share"] == first.share) & (table["seed"] == first.seed)]
        shown = {_title(*key): rows for key, rows in own.groupby(["method", "voice"], sort=False)}
        for old in (stem.with_name(f"{kind}.{form}") for form in ("png", "svg")):
            old.unlink(missing_ok=True)
        if shown:
            with style.drawing():
                style.save(figure(shown), stem)
    with style.drawing():
        style.save(scores_figure(results, "balanced_accuracy", seeds), out_dir / "figures" / "scores")


def _title(method: str, voice: str) -> str:
    """A method's name over its panel, and who speaks in it if it is not the network that predicts."""
    return method if voice == "network" else f"{method} (averaged weights)"


def _write(table: pd.DataFrame, path: Path) -> None:
    with atomic(path) as draft:
        table.to_csv(draft, sep="\t", index=False, float_format="%.6g", lineterminator="\n")
