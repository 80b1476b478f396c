"""From prediction tables to every score with its interval, the paired differences, confusion and ROC.

All models are scored on the same scans (those that every model predicted; the others are listed
in `left_out.tsv`) and on the same bootstrap draws of subjects. A model trained with several seeds
is scored as the mean of its seeds' scores: what one training run can be expected to reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from elr_mri import config, provenance
from elr_mri.errors import BadInput
from elr_mri.findings.bootstrap import draw_scores, interval
from elr_mri.findings.metrics import METRICS, confusion, score
from elr_mri.findings.tables import CONFUSION, DIFFERENCES, LEFT_OUT, RESULTS, ROC
from elr_mri.scans.cells import write_tsv
from elr_mri.scans.predictions import ENSEMBLE, P_COLUMNS, PREDICTIONS, ensembles
from elr_mri.scans.table import CLASSES, SPLITS
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["evaluate"]
#: The splits of the main table: subjects that no training or choice has seen.
UNSEEN = ("test", "external")
#: The talk's columns.
MAIN_METRICS = ("accuracy", "balanced_accuracy", "micro_auc", "macro_auc")


@dataclass(frozen=True)
class Group:
    """The scans of one cohort and split, and what every (model, seed) said about them, in the same scan order."""

    cohort: str
    split: str
    subjects: np.ndarray  # (n_scans,) str
    labels: np.ndarray  # (n_scans,) int
    predictions: dict[tuple[str, int], np.ndarray]  # (n_scans, 3) probabilities

    def seeds_of(self, model: str) -> list[int]:
        """Positions of a model's seeds in `predictions`."""
        return [position for position, (name, _) in enumerate(self.predictions) if name == model]

    @property
    def models(self) -> list[str]:
        """Models in the order in which their tables were given."""
        return list(dict.fromkeys(name for name, _ in self.predictions))

    @property
    def place(self) -> dict[str, str]:
        """The two columns that name this group in every table."""
        return {"cohort": self.cohort, "split": self.split}


def evaluate(*, prediction_paths: list[Path], settings: config.Evaluate, out_dir: Path) -> Path:
    """Write `tables/*.tsv` in `out_dir`; returns the path of `tables/results.tsv`.

    Files: `results.tsv` (tidy), `main.tsv` (the talk's form, percent with intervals), `differences.tsv`,
    `confusion.tsv`, `roc.tsv` and `left_out.tsv`.
    """
    predictions = read_predictions(prediction_paths)
    common, left_out = _common_scans(predictions)
    results, differences, confusions, curves = [], [], [], []
    for group in groups_of(common):
        found, paired = compare(group, settings)
        results += found
        differences += paired
        confusions += _confusion_rows(group)
        curves += _roc_rows(group) if group.split in UNSEEN else []
    tables = Path(out_dir) / "tables"
    out = tables / "results.tsv"
    RESULTS.write(pd.DataFrame(results), out)
    DIFFERENCES.write(
        pd.DataFrame(differences, columns=[c.name for c in DIFFERENCES.columns]), tables / "differences.tsv"
    )
    CONFUSION.write(pd.DataFrame(confusions), tables / "confusion.tsv")
    ROC.write(pd.DataFrame(curves, columns=[c.name for c in ROC.columns]), tables / "roc.tsv")
    LEFT_OUT.write(left_out, tables / "left_out.tsv")
    with provenance.atomic(tables / "main.tsv") as draft:
        write_tsv(main_table(pd.DataFrame(results)), draft)
    provenance.record(
        out,
        step="evaluate",
        version=VERSION,
        settings=settings,
        inputs={str(path): provenance.digest_file(path) for path in prediction_paths},
    )
    return out


def compare(group: Group, settings: config.Evaluate) -> tuple[list[dict], list[dict]]:
    """Every score of every model on a group of scans with its interval, and their paired differences: lines of `RESULTS` and of `DIFFERENCES`."""
    predictions = list(group.predictions.values())
    draws = draw_scores(group.labels, predictions, group.subjects, draws=settings.draws, seed=settings.seed)
    points = np.array([[score(group.labels, p)[m] for m in METRICS] for p in predictions])
    return (
        list(_result_rows(group, points, draws, settings.level)),
        list(_difference_rows(group, points, draws, settings.level)),
    )


def read_predictions(paths: list[Path]) -> pd.DataFrame:
    """All prediction tables as one; refuses tables that disagree about a scan's subject, split or diagnosis."""
    if not paths:
        raise BadInput(
            expected="at least one prediction table", got="none", where="evaluate", fix="Name predictions.tsv files."
        )
    together = pd.concat([PREDICTIONS.read(path) for path in paths], ignore_index=True)
    together = PREDICTIONS.validate(together, where="the prediction tables together")
    facts = together[["scan_id", "subject_id", "cohort", "split", "diagnosis"]].drop_duplicates()
    if (twice := facts["scan_id"].duplicated()).any():
        raise BadInput(
            expected="one subject, split and diagnosis per scan in every prediction table",
            got=f"two for {facts.loc[twice, 'scan_id'].iloc[0]}",
            where=", ".join(map(str, paths)),
            fix="Predict again with the scan table and split in use.",
        )
    return _with_ensembles(together)


def _with_ensembles(predictions: pd.DataFrame) -> pd.DataFrame:
    """The predictions, and those of each model's seeds together, where it has several and no table holds them."""
    known = set(predictions["model"])
    more = ensembles(predictions[~(predictions["model"] + ENSEMBLE).isin(known)])
    return pd.concat([predictions, more], ignore_index=True)


def groups_of(predictions: pd.DataFrame) -> Iterator[Group]:
    """The groups in the order of the splits, then of the cohorts' names; every model must hold every scan."""
    models = list(predictions[["model", "seed"]].drop_duplicates().itertuples(index=False, name=None))
    for split in SPLITS:
        for cohort, rows in predictions[predictions["split"] == split].groupby("cohort"):
            tables = {
                (m, int(s)): rows[(rows["model"] == m) & (rows["seed"] == s)].sort_values("scan_id") for m, s in models
            }
            first = next(iter(tables.values()))
            yield Group(
                cohort=str(cohort),
                split=split,
                subjects=first["subject_id"].to_numpy(),
                labels=first["diagnosis"].map(CLASSES.index).to_numpy(dtype=int),
                predictions={name: table[list(P_COLUMNS)].to_numpy(dtype=float) for name, table in tables.items()},
            )


def main_table(results: pd.DataFrame) -> pd.DataFrame:
    """The talk's form: one row per unseen group and method, scores in percent as `value (low–high)`."""
    rows = []
    unseen = results[results["split"].isin(UNSEEN)]
    for (cohort, split, model), found in unseen.groupby(["cohort", "split", "model"], sort=False):
        by_metric = found.set_index("metric")
        counts = {"n_scans": found["n_scans"].iloc[0], "n_subjects": found["n_subjects"].iloc[0]}
        scores = {metric: percent(*by_metric.loc[metric, ["value", "low", "high"]]) for metric in MAIN_METRICS}
        rows.append({"cohort": cohort, "split": split, "method": model, **counts, **scores})
    return pd.DataFrame(rows, columns=["cohort", "split", "method", "n_scans", "n_subjects", *MAIN_METRICS])


def percent(value: float, low: float, high: float) -> str:
    """A share with its interval as text: `66.9 (58.0–75.1)`; a dash where it is undefined."""
    if not np.isfinite(value):
        return "–"
    return (
        f"{100 * value:.1f} ({100 * low:.1f}–{100 * high:.1f})"
        if np.isfinite([low, high]).all()
        else f"{100 * value:.1f}"
    )


def _common_scans(predictions: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the scans that every model predicted, and the other rows."""
    n_models = len(predictions[["model", "seed"]].drop_duplicates())
    everywhere = predictions.groupby("scan_id")["scan_id"].transform("size") == n_models
    if not everywhere.any():
        raise BadInput(
            expected="scans that every model predicted",
            got="none in common",
            where="the prediction tables",
            fix="Predict the same scans with every model.",
        )
    return predictions[everywhere], predictions.loc[~everywhere]


def _counts(group: Group, model: str) -> dict[str, int]:
    """How much a score rests on."""
    return {
        "n_scans": len(group.labels),
        "n_subjects": len(np.unique(group.subjects)),
        "n_seeds": len(group.seeds_of(model)),
    }


def _result_rows(group: Group, points: np.ndarray, draws: np.ndarray, level: float) -> Iterator[dict]:
    """One row per model and metric. points (n_predictions, n_metrics), draws (n_predictions, n_metrics, n_draws)."""
    for model in group.models:
        seeds = group.seeds_of(model)
        values, drawn = points[seeds].mean(axis=0), draws[seeds].mean(axis=0)
        for position, metric in enumerate(METRICS):
            low, high = interval(drawn[position], level=level)
            yield {
                "model": model,
                **group.place,
                "metric": metric,
                "value": values[position],
                "low": low,
                "high": high,
                "level": level,
                **_counts(group, model),
            }


def _difference_rows(group: Group, points: np.ndarray, draws: np.ndarray, level: float) -> Iterator[dict]:
    """One row per pair of models and metric, the later model minus the earlier."""
    for reference, model in combinations(group.models, 2):
        these, those = group.seeds_of(model), group.seeds_of(reference)
        values = points[these].mean(axis=0) - points[those].mean(axis=0)
        drawn = draws[these].mean(axis=0) - draws[those].mean(axis=0)
        for position, metric in enumerate(METRICS):
            low, high = interval(drawn[position], level=level)
            yield {
                "model": model,
                "reference": reference,
                **group.place,
                "metric": metric,
                "difference": values[position],
                "low": low,
                "high": high,
                "level": level,
                **_counts(group, model),
            }


def _confusion_rows(group: Group) -> Iterator[dict]:
    """One row per model, seed, true and predicted class."""
    for (model, seed), probabilities in group.predictions.items():
        for (true, predicted), count in np.ndenumerate(confusion(group.labels, probabilities)):
            yield {
                "model": model,
                "seed": seed,
                **group.place,
                "diagnosis": CLASSES[true],
                "predicted": CLASSES[predicted],
                "n_scans": count,
            }


def _roc_rows(group: Group) -> Iterator[dict]:
    """One row per point of each class's one-vs-rest curve; none for a class without scans or without others."""
    for (model, seed), probabilities in group.predictions.items():
        for index, name in enumerate(CLASSES):
            positive = group.labels == index
            if positive.all() or not positive.any():
                continue
            false_rate, true_rate, _ = roc_curve(positive, probabilities[:, index])
            for point, (x, y) in enumerate(zip(false_rate, true_rate, strict=True)):
                yield {
                    "model": model,
                    "seed": seed,
                    **group.place,
                    "class": name,
                    "point": point,
                    "false_positive_rate": x,
                    "true_positive_rate": y,
                }
