"""The tables of scores as the page shows them: by group of unseen scans, a row per method, each value with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from elr_mri import config
from elr_mri.findings import published, style, words
from elr_mri.findings.evaluate import MAIN_METRICS
from elr_mri.findings.predicted import UNSEEN


def results_of(results: pd.DataFrame, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """For each unseen group its title, counts, and one row per method: name, seeds, and (value, interval) texts."""
    groups = []
    for (cohort, split), rows in results[results["split"].isin(UNSEEN)].groupby(["cohort", "split"], sort=False):
        methods = []
        for model, found in rows.groupby("model", sort=False):
            by_metric = found.set_index("metric")
            cells = [_cell(*by_metric.loc[metric, ["value", "low", "high"]].astype(float)) for metric in metrics]
            methods.append({"name": model, "n_seeds": int(found["n_seeds"].iloc[0]), "cells": cells})
        groups.append(
            {
                "title": style.group_title(cohort, split),
                "methods": methods,
                "n_scans": int(rows["n_scans"].iloc[0]),
                "n_subjects": int(rows["n_subjects"].iloc[0]),
            }
        )
    return groups


def without_width(results: pd.DataFrame, metrics: Sequence[str]) -> bool:
    """Whether an interval of a score of unseen scans has no width, because all draws of subjects score alike."""
    shown = results[results["split"].isin(UNSEEN) & results["metric"].isin(metrics)]
    return bool((shown["low"] == shown["high"]).any())


def differences_of(differences: pd.DataFrame, reference: str) -> list[dict[str, Any]]:
    """As `results_of`, for the differences of every other method from `reference`, in percentage points."""
    versus = words.against(differences, reference)
    groups = []
    for (cohort, split), rows in versus[versus["split"].isin(UNSEEN)].groupby(["cohort", "split"], sort=False):
        methods = []
        for model, found in rows.groupby("model", sort=False):
            by_metric = found.set_index("metric")
            cells = [
                _cell(*by_metric.loc[metric, ["difference", "low", "high"]].astype(float), sign="+")
                for metric in MAIN_METRICS
            ]
            methods.append({"name": model, "cells": cells})
        groups.append({"title": style.group_title(cohort, split), "methods": methods})
    return groups


def published_beside(results: pd.DataFrame, cohorts: Sequence[config.Cohort]) -> list[dict[str, Any]]:
    """The published rows by data set, each score with that of our counterpart on the same cohort: the one cohort of the study that is it, by its
    name or by the format of its download; with none or several nothing of ours stands beside."""
    ours = results.set_index(["cohort", "model", "split", "metric"])["value"]
    groups = []
    for data, (whose, split) in published.PLACE_OF.items():
        cohort = _the_one(whose, cohorts, set(results.loc[results["split"] == split, "cohort"]))
        methods = []
        for row in (row for row in published.PUBLISHED if row.data == data):
            here = [ours.get((cohort, published.COUNTERPART[row.method], split, metric)) for metric in MAIN_METRICS]
            cells = [
                (getattr(row, m), None if x is None else f"{100 * x:.1f}")
                for m, x in zip(MAIN_METRICS, here, strict=True)
            ]
            methods.append({"name": row.method, "counterpart": published.COUNTERPART[row.method], "cells": cells})
        groups.append({"title": data, "methods": methods})
    return groups


def _the_one(whose: str, cohorts: Sequence[config.Cohort], scored: set[str]) -> str | None:
    """The scored cohort that is `whose` (ADNI, NACC); None where none is, or several are."""
    by_format = {cohort.name for cohort in cohorts if cohort.format == whose.lower()}
    found = [name for name in scored if name.upper() == whose] or [name for name in scored if name in by_format]
    return found[0] if len(found) == 1 else None


def _cell(value: float, low: float, high: float, sign: str = "") -> tuple[str, str]:
    """A share and its interval as percent texts; a dash where undefined."""
    value, low, high = (words.percent(number, sign) for number in (value, low, high))
    return value, f"{low} to {high}"
