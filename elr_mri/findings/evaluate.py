"""From prediction tables to every score with its interval, the paired differences, confusion, ROC and calibration.

All models are scored on the same scans (those that every model predicted; the others are listed
in `left_out.tsv`) and on the same bootstrap draws of subjects. A model trained with several seeds
is scored as the mean of its seeds' scores: what one training run can be expected to reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from elr_mri import config, provenance
from elr_mri.findings import latex
from elr_mri.findings.bootstrap import centred, draw, interval, p_value, scoring, without_each
from elr_mri.findings.calibration import calibrate
from elr_mri.findings.metrics import METRICS, confusion
from elr_mri.findings.predicted import UNSEEN, Group, by_subject, common_scans, groups_of, read_predictions
from elr_mri.findings.tables import (
    CALIBRATION,
    CONFUSION,
    DIFFERENCES,
    LEFT_OUT,
    RELIABILITY,
    RESULTS,
    ROC,
    SUBJECT_DIFFERENCES,
    SUBJECTS,
    TEMPERATURES,
)
from elr_mri.scans.cells import write_tsv
from elr_mri.scans.schema import Schema
from elr_mri.scans.table import CLASSES
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["evaluate"]
#: The place of the calibration error among the scores.
ECE = METRICS.index("ece")
#: The talk's columns.
MAIN_METRICS = ("accuracy", "balanced_accuracy", "micro_auc", "macro_auc")


def evaluate(*, prediction_paths: list[Path], settings: config.Evaluate, out_dir: Path) -> Path:
    """Write `tables/*.tsv` in `out_dir`; returns the path of `tables/results.tsv`.

    Files: `results.tsv` (tidy), `main.tsv` and `main.tex` (the talk's form, percent with intervals), `differences.tsv`, the same
    by subject (`subjects.tsv`, `subject_differences.tsv`), `confusion.tsv`, `roc.tsv`, `temperatures.tsv`, `calibration.tsv`,
    `reliability.tsv` and `left_out.tsv`.
    """
    common, left_out = common_scans(read_predictions(prediction_paths))
    groups = list(groups_of(common))
    made: dict[str, tuple[Schema, list[dict]]] = {
        "results": (RESULTS, []),
        "differences": (DIFFERENCES, []),
        "subjects": (SUBJECTS, []),
        "subject_differences": (SUBJECT_DIFFERENCES, []),
        "confusion": (CONFUSION, []),
        "roc": (ROC, []),
    }
    for group in groups:
        found = [*compare(group, settings), *(_by_row(rows) for rows in compare(by_subject(group), settings))]
        found += [list(_confusion_rows(group)), list(_roc_rows(group)) if group.split in UNSEEN else []]
        for (_, rows), more in zip(made.values(), found, strict=True):
            rows += more
    calibrated = zip((TEMPERATURES, CALIBRATION, RELIABILITY), calibrate(groups, settings), strict=True)
    made |= {schema.name: (schema, rows) for schema, rows in calibrated}
    tables = Path(out_dir) / "tables"
    out = tables / "results.tsv"
    for name, (schema, rows) in made.items():
        schema.write(pd.DataFrame(rows, columns=[column.name for column in schema.columns]), tables / f"{name}.tsv")
    LEFT_OUT.write(left_out, tables / "left_out.tsv")
    main = main_table(pd.DataFrame(made["results"][1]))
    with provenance.atomic(tables / "main.tsv") as draft:
        write_tsv(main, draft)
    provenance.write_text(tables / "main.tex", latex.main_table(main, level=settings.level))
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
    scores = scoring(group.labels, list(group.predictions.values()), list(group.logits.values()))
    points = scores(np.ones((1, len(group.labels))))[..., 0]
    draws = draw(scores, group.subjects, draws=settings.draws, seed=settings.seed)
    return lines(group, points, draws, without_each(scores, group.subjects), level=settings.level)


def lines(
    group: Group, points: np.ndarray, draws: np.ndarray, without: np.ndarray, *, level: float
) -> tuple[list[dict], list[dict]]:
    """What `compare` tells, of every score (n_predictions, n_metrics), of its draws and of its values without each subject (n_predictions, n_metrics, n)."""
    draws[:, ECE] = centred(points[:, ECE], draws[:, ECE])
    found = points, draws, without, level
    return list(_result_rows(group, *found)), list(_difference_rows(group, *found))


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


def _counts(group: Group, model: str) -> dict[str, int]:
    """How much a score rests on."""
    return {
        "n_scans": len(group.labels),
        "n_subjects": group.n_subjects,
        "n_seeds": len(group.seeds_of(model)),
    }


def _result_rows(
    group: Group, points: np.ndarray, draws: np.ndarray, without: np.ndarray, level: float
) -> Iterator[dict]:
    """One row per model and metric; arguments as `lines`."""
    for model in group.models:
        seeds = group.seeds_of(model)
        values, drawn, fewer = (part[seeds].mean(axis=0) for part in (points, draws, without))
        for position, metric in enumerate(METRICS):
            low, high = interval(drawn[position], level=level, without=fewer[position])
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


def _difference_rows(
    group: Group, points: np.ndarray, draws: np.ndarray, without: np.ndarray, level: float
) -> Iterator[dict]:
    """One row per pair of models and metric, the later model minus the earlier."""
    for reference, model in combinations(group.models, 2):
        these, those = group.seeds_of(model), group.seeds_of(reference)
        values, drawn, fewer = (
            part[these].mean(axis=0) - part[those].mean(axis=0) for part in (points, draws, without)
        )
        for position, metric in enumerate(METRICS):
            low, high = interval(drawn[position], level=level, without=fewer[position])
            yield {
                "model": model,
                "reference": reference,
                **group.place,
                "metric": metric,
                "difference": values[position],
                "low": low,
                "high": high,
                "p": p_value(drawn[position], without=fewer[position]),
                "level": level,
                **_counts(group, model),
            }


def _by_row(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines of a group by subject: its rows are no scans."""
    return [{"n_rows" if name == "n_scans" else name: value for name, value in row.items()} for row in rows]


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
