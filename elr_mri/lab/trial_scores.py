"""Scores of trainings with wrong labels on the unseen scans: each seed's own, their means, and paired differences between methods.

Intervals are over subjects and, from two seeds on, over seeds (`seeds.py`): the column `covers` says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings.bootstrap import draw_scores, interval
from elr_mri.findings.metrics import METRICS, score
from elr_mri.findings.predicted import UNSEEN, Group, groups_of
from elr_mri.lab.seeds import covers, over_seeds
from elr_mri.lab.trials import Trial

#: What is compared, of all the scores.
SHOWN = ("accuracy", "balanced_accuracy", "macro_auc")

#: Draws, seed and level of a study that sets none.
USUAL = config.Evaluate()


def scores(
    trials: Sequence[Trial], truth: pd.Series | None, settings: config.Evaluate = USUAL
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Scores on the unseen scans, by share: of each method over its seeds, of each method less the first, and of each seed.

    Draws, seed and level are those of `settings`. A difference is over the seeds that both methods have; methods without one in common have none.
    """
    results, differences, seeds = [], [], []
    for share in sorted({trial.share for trial in trials}):
        own = {(trial.method, trial.seed): trial for trial in trials if trial.share == share}
        told = pd.concat([t.predictions.assign(model=m, seed=s) for (m, s), t in own.items()], ignore_index=True)
        if truth is not None:
            told["diagnosis"] = told["scan_id"].map(truth)
        for group in groups_of(_checked(told[told["split"].isin(UNSEEN)], len(own))):
            judged = Judged(group, share, own, settings)
            results += judged.results()
            differences += judged.differences()
            seeds += judged.seeds()
    return pd.DataFrame(results), pd.DataFrame(differences, columns=DIFFERENCE), pd.DataFrame(seeds)


def _checked(told: pd.DataFrame, n_runs: int) -> pd.DataFrame:
    """Predictions of unseen scans; refuses none, and scans that some runs only have predicted."""
    times = told["scan_id"].value_counts()
    if told.empty or (times != n_runs).any():
        raise BadInput(
            expected="test or external scans that every run has predicted",
            got="none" if told.empty else f"{times.idxmin()} in {times.min()} of {n_runs} runs",
            where="predictions.tsv of the runs",
            fix="Predict the whole study with every run.",
        )
    return told


#: Columns of a line of the differences.
DIFFERENCE = (
    *("share", "realised", "model", "reference", "cohort", "split", "metric", "difference", "low", "high"),
    *("level", "covers", "n_scans", "n_subjects", "n_seeds"),
)


class Judged:
    """What all trainings with one share of wrong labels say of one group of scans, scored once and on the same draws of its subjects."""

    def __init__(
        self, group: Group, share: float, trials: dict[tuple[str, int], Trial], settings: config.Evaluate
    ) -> None:
        self.group, self.share, self.trials, self.settings = group, share, trials, settings
        said = list(group.predictions.values())
        facts = {"draws": self.settings.draws, "seed": self.settings.seed}
        found = draw_scores(group.labels, said, group.subjects, **facts)
        self.points = {name: score(group.labels, p) for name, p in zip(group.predictions, said, strict=True)}
        self.draws = dict(zip(group.predictions, found, strict=True))

    def results(self) -> Iterator[dict]:
        """One line per method and score."""
        for model in self.group.models:
            keys = [(model, seed) for seed in self.seeds_of(model)]
            for metric in SHOWN:
                points = np.array([self.points[key][metric] for key in keys])
                deviation = points.std(ddof=1) if len(keys) > 1 else np.nan
                drawn = np.stack([self.drawn(key, metric) for key in keys])
                line = {"model": model, **self.group.place, "metric": metric, "value": points.mean()}
                yield self.place(keys) | line | self.span(drawn) | {"seed_deviation": deviation}

    def differences(self) -> Iterator[dict]:
        """One line per method and score, less the first method's of the same seeds."""
        reference, *others = self.group.models
        for model in others:
            common = [seed for seed in self.seeds_of(model) if seed in self.seeds_of(reference)]
            pairs = [((model, seed), (reference, seed)) for seed in common]
            for metric in SHOWN if common else ():
                moved = np.array([self.points[a][metric] - self.points[b][metric] for a, b in pairs])
                drawn = np.stack([self.drawn(a, metric) - self.drawn(b, metric) for a, b in pairs])
                line = {"model": model, "reference": reference, **self.group.place, "metric": metric}
                yield self.place([key for key, _ in pairs]) | line | {"difference": moved.mean()} | self.span(drawn)

    def seeds(self) -> Iterator[dict]:
        """One line per training."""
        for (method, seed), points in self.points.items():
            trial = self.trials[method, seed]
            line = {"method": method, "share": self.share, "seed": seed, **self.group.place}
            yield (
                line
                | {name: points[name] for name in SHOWN}
                | {
                    "realised": trial.realised,
                    "epochs": len(trial.said),
                    "n_scans": len(self.group.labels),
                }
            )

    def seeds_of(self, model: str) -> list[int]:
        """A method's seeds, in order: seeds of one number are drawn alike of all methods."""
        return sorted(seed for name, seed in self.points if name == model)

    def drawn(self, key: tuple[str, int], metric: str) -> np.ndarray:
        """(draws,) scores of one training."""
        return self.draws[key][METRICS.index(metric)]

    def place(self, keys: Sequence[tuple[str, int]]) -> dict[str, float]:
        """The share drawn, and the mean share of these trainings' labels that is wrong."""
        return {"share": self.share, "realised": float(np.mean([self.trials[key].realised for key in keys]))}

    def span(self, drawn: np.ndarray) -> dict[str, object]:
        """The interval of (n_seeds, draws), and what it rests on."""
        low, high = interval(over_seeds(drawn, self.settings.seed), level=self.settings.level)
        return {
            "low": low,
            "high": high,
            "level": self.settings.level,
            "covers": covers(len(drawn)),
            "n_scans": len(self.group.labels),
            "n_subjects": len(np.unique(self.group.subjects)),
            "n_seeds": len(drawn),
        }
