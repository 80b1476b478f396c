"""Trainings with wrong labels on a study's own scans, as `elr-mri train --labels` left them: what each was told, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.lab.curves import gradients, has_gradients, memorization
from elr_mri.learning.checkpoint import read_facts
from elr_mri.learning.objective import averages_speak
from elr_mri.learning.recipe import class_weights
from elr_mri.learning.trajectory import read_trajectory
from elr_mri.provenance import digest_file, read_json, sidecar
from elr_mri.scans.labels import LABELS
from elr_mri.scans.predictions import PREDICTIONS
from elr_mri.scans.table import CLASSES


@dataclass(frozen=True)
class Trial:
    """One training run with wrong labels: its method, seed and loss, how labels were made wrong, and what came of it.

    `loss` and `class_weights` are those that it was trained with, the study's own among them.
    """

    method: str
    seed: int
    noise: config.Noise
    loss: config.Loss
    class_weights: str
    labels: pd.DataFrame
    predictions: pd.DataFrame
    targets: pd.DataFrame
    said: np.ndarray

    @property
    def share(self) -> float:
        """Share of the labels that were drawn to be wrong."""
        return self.noise.share

    @property
    def realised(self) -> float:
        """Share of the training labels that are wrong."""
        return float((self.targets["given"] != self.true).mean())

    @property
    def true(self) -> pd.Series:
        """The true diagnosis of each training scan, in the order of `targets`; a scan that the labels do not name has its own."""
        known = self.labels.set_index("scan_id")["diagnosis"]
        return self.targets["scan_id"].map(known).fillna(self.targets["given"]).rename("true")

    @property
    def voice(self) -> str:
        """Who said `said`: the `network` that predicts, or the `average` of its weights."""
        return "average" if self.loss.elr and averages_speak(self.loss.elr) else "network"

    def curve(self, kind: str) -> pd.DataFrame | None:
        """The table of `memorization`, or of `gradients`: None where those do not follow from what was said."""
        true, given = (column.map(CLASSES.index).to_numpy() for column in (self.true, self.targets["given"]))
        if kind == "memorization":
            return memorization(self.said, true, given)
        if not has_gradients(self.loss):
            return None
        weights = class_weights(torch.tensor(given), len(CLASSES), self.class_weights)
        return gradients(
            self.said, true, given, self.loss, class_weights=None if weights is None else weights.double().numpy()
        )


def read_trial(folder: Path, labels_path: Path) -> Trial:
    """A model folder, with its predictions, and the labels it was trained with."""
    facts, (targets, said) = read_facts(folder), read_trajectory(folder)
    labels = LABELS.read(labels_path)
    named = targets["scan_id"].map(labels.set_index("scan_id")["given"])
    strangers = named.isna().any() and facts["data"].get("labels") != digest_file(labels_path)
    if strangers or (named.notna() & (named != targets["given"])).any():
        raise BadInput(
            expected=f"the labels that {folder} was trained with",
            got="others",
            where=str(labels_path),
            fix="Name the runs and their label tables in the same order.",
        )
    if not sidecar(labels_path).is_file():
        raise BadInput(
            expected="a record beside the labels of how they were made wrong",
            got="none",
            where=str(sidecar(labels_path)),
            fix="Make the labels with `elr-mri lab noise`.",
        )
    settings = facts["settings"]  # what the study says of all models, a model's own put in its place
    told = facts["model"] | {key: settings[key] for key in ("label_smoothing", "patience")}
    return Trial(
        method=facts["slug"],
        seed=facts["seed"],
        noise=config.Noise(**read_json(sidecar(labels_path))["settings"]),
        loss=config.Loss(**{key: told.get(key) for key in config.Loss.model_fields}),
        class_weights=settings["class_weights"],
        labels=labels,
        predictions=PREDICTIONS.read(folder / "predictions.tsv"),
        targets=targets,
        said=said,
    )


def read_trials(runs: Sequence[Path], label_paths: Sequence[Path]) -> list[Trial]:
    """All trainings of an experiment; refuses two of one method, share and seed, and labels of one share that were made wrong in different ways."""
    if not runs or len(runs) != len(label_paths):
        raise BadInput(
            expected="at least one run, and a label table for each",
            got=f"{len(runs)} runs, {len(label_paths)} tables",
            where="--run, --labels",
            fix="Name both as often.",
        )
    trials = [read_trial(*pair) for pair in zip(runs, label_paths, strict=True)]
    known: dict[tuple, Path] = {}
    ways: dict[float, tuple[config.Noise, Path]] = {}
    for trial, run, path in zip(trials, runs, label_paths, strict=True):
        key = (trial.method, trial.share, trial.seed)
        if key in known:
            raise BadInput(
                expected="one run of each method, share and seed",
                got=f"{known[key]} and {run} of {trial.method}, share {trial.share:g}, seed {trial.seed}",
                where="--run",
                fix="Name each run once; give no share or seed of lab.mri twice.",
            )
        known[key] = run
        way = trial.noise.model_copy(update={"seed": 0})
        first, where = ways.setdefault(trial.share, (way, path))
        if way != first:
            raise BadInput(
                expected=f"labels of share {trial.share:g} that were made wrong as in {where}",
                got=f"another {' and '.join(k for k in type(way).model_fields if getattr(way, k) != getattr(first, k))}",
                where=str(path),
                fix="Make all labels with the same lab.noise but for share and seed.",
            )
    return trials
