"""A volume baseline and a network, fused: what both say together, weighed on the validation scans.

Each model's logits are divided by its own temperature; a multinomial logistic model stacks them (Wolpert, Neural Networks 5, 1992):

    scores = ½ (z_volumes + z_network) + Δ [z_volumes, z_network, 1]        penalty ½ λ ‖Δ‖²

so that the strongest penalty, λ = ∞, is the mean of the two log-probabilities, and validation only has to say how to leave it. λ is
chosen by cross-validation over validation subjects; where these are too few for it, the mean is taken, and told. Only validation scans are learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import log_softmax

from elr_mri import config, provenance
from elr_mri.errors import BadInput
from elr_mri.findings.calibration import best_temperature
from elr_mri.findings.candidates import TEMPERATURES, log_loss
from elr_mri.scans.predictions import PREDICTIONS, Z_COLUMNS, prediction_table
from elr_mri.scans.table import CLASSES
from elr_mri.stages import VERSIONS

MODEL = "fused"
VERSION = VERSIONS["fuse"]
#: Penalties that cross-validation chooses from; infinity is the mean.
PENALTIES = (np.inf, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
#: Fewer validation subjects of any class make no cross-validation.
FEWEST = 5
_FACTS = ["scan_id", "subject_id", "cohort", "split", "diagnosis"]


def fuse(*, volume_path: Path, network_paths: Sequence[Path], settings: config.Fuse, out_dir: Path) -> Path:
    """Fuse a volume baseline with a network, seed by seed; returns the path of `predictions.tsv`, of model `fused`.

    Parameters
    ----------
    volume_path : path
        Predictions of `baseline`; of the models in it that of `settings.baseline` is taken.
    network_paths : sequence of path
        Predictions of one network, one table for each of its seeds.
    """
    volumes = PREDICTIONS.read(volume_path)
    volumes = volumes[volumes["model"] == settings.baseline]
    networks = pd.concat([PREDICTIONS.read(path) for path in network_paths], ignore_index=True)
    names = networks["model"].unique()
    if settings.model is not None:
        networks = networks[networks["model"] == settings.model]
    if volumes.empty or networks.empty or networks["model"].nunique() > 1:
        raise BadInput(
            expected=f"predictions of {settings.baseline} and of {settings.model or 'one network'}",
            got=f"{settings.baseline if len(volumes) else 'none'} and {', '.join(names)}",
            where=f"{volume_path}, {', '.join(map(str, network_paths))}",
            fix="Name the tables of `baseline` and of one network; fuse.model and fuse.baseline say which.",
        )
    tables, runs = [], []
    for seed, network in networks.groupby("seed"):
        table, run = _of_one_seed(volumes, network, settings, where=str(volume_path))
        tables.append(table.assign(seed=seed))
        runs.append({"seed": int(seed)} | run)
    facts = {
        "model": MODEL,
        "version": VERSION,
        "of": [settings.baseline, str(networks["model"].iloc[0])],
        "runs": runs,
    }
    provenance.write_json(Path(out_dir) / "model.json", facts)
    out = Path(out_dir) / "predictions.tsv"
    PREDICTIONS.write(pd.concat(tables, ignore_index=True), out)
    paths = [volume_path, *network_paths]
    provenance.record(
        out,
        step="fuse",
        version=VERSION,
        settings=settings,
        inputs={str(path): provenance.digest_file(path) for path in paths},
    )
    return out


def _of_one_seed(
    volumes: pd.DataFrame, network: pd.DataFrame, settings: config.Fuse, *, where: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The prediction table of one seed, and how it was made."""
    both = volumes.merge(network, on=_FACTS, suffixes=("_volumes", "_network"), validate="1:1")
    if (n := max(len(volumes), len(network)) - len(both)) > 0:
        print(f"fuse: {n} scans were predicted by one of the two models only, and are not by both", flush=True)
    labels, val = both["diagnosis"].map(CLASSES.index).to_numpy(), (both["split"] == "val").to_numpy()
    if not val.any():
        raise BadInput(
            expected="validation scans that both models predicted", got="none", where=where, fix="Predict split val."
        )
    said = [both[[f"{z}_{which}" for z in Z_COLUMNS]].to_numpy(dtype=float) for which in ("volumes", "network")]
    people = both.loc[val, "subject_id"].to_numpy()
    fewest = min(len(set(people[labels[val] == k])) for k in range(len(CLASSES)))
    warmths = [best_temperature(labels[val], z[val], bounds=TEMPERATURES) if fewest else 1.0 for z in said]
    logits = np.stack([log_softmax(z / warmth, axis=1) for z, warmth in zip(said, warmths)])
    run: dict[str, Any] = {"temperatures": warmths, "n_val_scans": int(val.sum()), "n_val_subjects": len(set(people))}
    penalty, trials = np.inf, []
    if fewest >= FEWEST:
        trials = cross_validated(logits[:, val], labels[val], people, folds=settings.folds, seed=settings.seed)
        penalty = min(trials, key=lambda trial: trial[1])[0]
    change = fit(logits[:, val], labels[val], penalty)
    told = "the mean of the log-probabilities" if np.isinf(penalty) else f"stacked, penalty {penalty:g}"
    short = f"; fewer than {FEWEST} validation subjects of a class, so no cross-validation" if fewest < FEWEST else ""
    print(f"fuse: {told} of {int(val.sum())} validation scans{short}", flush=True)
    run |= {
        "how": "mean" if np.isinf(penalty) else "stacked",
        "why": f"fewer than {FEWEST} validation subjects of a class" if fewest < FEWEST else "cross-validation",
        "penalty": None if np.isinf(penalty) else penalty,
        "change": change.tolist(),
        "cross_validation": [{"penalty": None if np.isinf(p) else p, "log_loss": loss} for p, loss in trials],
    }
    return prediction_table(both, fused(logits, change), model=MODEL, seed=0), run


def fused(logits: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Scores of both models together: (2, n_scans, n_classes), and Δ (n_classes, 2 n_classes + 1), to (n_scans, n_classes)."""
    return logits.mean(axis=0) + _inputs(logits) @ change.T


def fit(logits: np.ndarray, labels: np.ndarray, penalty: float) -> np.ndarray:
    """Δ of the lowest penalised log-loss: (n_classes, 2 n_classes + 1); all zero for an infinite penalty.

    Parameters
    ----------
    logits : (2, n_scans, n_classes) float
    labels : (n_scans,) int
    penalty : float
        λ, against the mean log-loss of a scan.
    """
    inputs, n_classes = _inputs(logits), logits.shape[2]
    change = np.zeros((n_classes, inputs.shape[1]))
    if np.isinf(penalty):
        return change
    start, hot = logits.mean(axis=0), np.eye(n_classes)[labels]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        now = flat.reshape(change.shape)
        logs = log_softmax(start + inputs @ now.T, axis=1)
        slope = (np.exp(logs) - hot).T @ inputs / len(labels) + penalty * now
        return log_loss(logs, labels) + penalty * (flat @ flat) / 2, slope.ravel()

    return minimize(loss, change.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x.reshape(
        change.shape
    )


def cross_validated(
    logits: np.ndarray, labels: np.ndarray, people: np.ndarray, *, folds: int, seed: int
) -> list[tuple[float, float]]:
    """(penalty, log-loss over held-out subjects) of every penalty; `people` (n_scans,) says whose scan each is."""
    fold, tried = deal(labels, people, folds=folds, seed=seed), []
    for penalty in PENALTIES:
        held = np.zeros(logits.shape[1:])
        for out in range(folds):
            change = fit(logits[:, fold != out], labels[fold != out], penalty)
            held[fold == out] = fused(logits[:, fold == out], change)
        tried.append((penalty, log_loss(held, labels)))
    return tried


def deal(labels: np.ndarray, people: np.ndarray, *, folds: int, seed: int) -> np.ndarray:
    """Fold of each scan, (n_scans,) int: the subjects of each class, by their first scan, are dealt out in turn."""
    names, first = np.unique(people, return_index=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(labels[first][order], kind="stable")]
    fold_of = dict(zip(names[order], np.arange(len(names)) % folds))
    return np.array([fold_of[name] for name in people])


def _inputs(logits: np.ndarray) -> np.ndarray:
    """Both models' log-probabilities, centred, and a one: (n_scans, 2 n_classes + 1)."""
    centred = logits - logits.mean(axis=2, keepdims=True)
    return np.column_stack([*centred, np.ones(logits.shape[1])])
