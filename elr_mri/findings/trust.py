"""The report's page on the probabilities themselves: what is said of them, in plain words, from the tables of `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from elr_mri.findings import privacy
from elr_mri.findings.metrics import ERRORS
from elr_mri.findings.style import group_title
from elr_mri.findings.tables import CALIBRATION, RELIABILITY, TEMPERATURES
from elr_mri.findings.words import percent

#: Points between how sure a model is and how often it is right from which on it is called too sure, or too modest.
NOTED = 0.05


@dataclass(frozen=True)
class Tables:
    """The three tables of calibration."""

    temperatures: pd.DataFrame
    scores: pd.DataFrame
    curves: pd.DataFrame


def read(tables_dir: Path) -> Tables:
    """The tables `temperatures`, `calibration` and `reliability` of `evaluate`."""
    named = {schema: tables_dir / f"{schema.name}.tsv" for schema in (TEMPERATURES, CALIBRATION, RELIABILITY)}
    return Tables(*(schema.read(path) for schema, path in named.items()))


def without(tables: Tables, groups: set[tuple[str, str]]) -> Tables:
    """The tables without these groups (cohort, split) of unseen scans; temperatures are of validation scans."""
    scores, curves = (privacy.without(table, groups) for table in (tables.scores, tables.curves))
    return replace(tables, scores=scores, curves=curves)


def told(tables: Tables, *, people: bool = True) -> dict[str, Any]:
    """What the section needs: `groups` of rows, the `notes` on temperatures, and whether any could be fitted; few people are told as `<5` unless `people`."""
    fitted = tables.temperatures
    n_subjects = int(fitted["n_subjects"].max()) if len(fitted) else 0
    return {
        "groups": [_group(tables, *key) for key, _ in tables.scores.groupby(["cohort", "split"], sort=False)],
        "notes": _notes(fitted),
        "any": bool(fitted["temperature"].notna().any()),
        "n_validation": int(fitted["n_scans"].max()) if len(fitted) else 0,
        "n_validation_subjects": privacy.SMALL if privacy.few(n_subjects) and not people else n_subjects,
    }


def _group(tables: Tables, cohort: str, split: str) -> dict[str, Any]:
    """Title, counts, rows and sentences of one group of unseen scans."""
    scores, curves = (
        table[(table["cohort"] == cohort) & (table["split"] == split)] for table in (tables.scores, tables.curves)
    )
    methods = []
    for model, rows in scores.groupby("model", sort=False):
        own = tables.temperatures.loc[tables.temperatures["model"] == model, "temperature"]
        by_state = rows.set_index(["metric", "state"])
        methods.append(
            {
                "name": model,
                "n_seeds": int(rows["n_seeds"].iloc[0]),
                "temperatures": ", ".join("–" if pd.isna(value) else f"{value:.2f}" for value in own),
                "sure": _sure(curves[(curves["model"] == model) & (curves["state"] == "before")]),
                "cells": [_cell(by_state.loc[metric], metric) for metric in ERRORS],
            }
        )
    first = scores.iloc[0]
    counts = {"n_scans": int(first["n_scans"]), "n_subjects": int(first["n_subjects"])}
    return {"title": group_title(cohort, split), **counts, "methods": methods, "sentences": _sentences(scores, methods)}


def _sure(curve: pd.DataFrame) -> tuple[float, float]:
    """Mean probability of the predicted class, and the share of right predictions."""
    weights = curve["n_predictions"].to_numpy(dtype=float)
    return tuple(
        float(np.average(curve[name].to_numpy(dtype=float), weights=weights)) for name in ("confidence", "right")
    )


def _cell(rows: pd.DataFrame, metric: str) -> tuple[str, str]:
    """`0.91 → 0.84`, and the difference with its interval; before alone where there is no after."""
    before, after = (_number(rows.loc[state, "value"], metric) for state in ("before", "after"))
    change = [_number(rows.loc["difference", name], metric, "+") for name in ("value", "low", "high")]
    if pd.isna(rows.loc["after", "value"]):
        return before, ""
    return f"{before} → {after}", f"{change[0]} ({change[1]} to {change[2]})"


def _number(value: float, metric: str, sign: str = "") -> str:
    """A calibration error in percent, the others to three places; with a true minus, and no sign on a zero."""
    if metric == "ece":
        return percent(float(value), sign)
    if pd.isna(value):
        return "–"
    rounded = round(float(value), 3)
    return f"{rounded:{sign}.3f}".replace("-", "−") if rounded else "0.000"


def _sentences(scores: pd.DataFrame, methods: list[dict[str, Any]]) -> list[str]:
    """Who is too sure of itself, and whether the scaling helped, by the whole interval of the log-loss's difference."""
    gaps = {method["name"]: method["sure"][0] - method["sure"][1] for method in methods}
    said = [
        _named("says higher probabilities than it is right", [name for name, gap in gaps.items() if gap > NOTED]),
        _named("says lower probabilities than it is right", [name for name, gap in gaps.items() if gap < -NOTED]),
    ]
    said = [f"{one}, by more than {100 * NOTED:g} points on average." for one in said if one]
    said = said or [f"No method is off by more than {100 * NOTED:g} points on average."]
    moved = scores[(scores["metric"] == "log_loss") & (scores["state"] == "difference")].dropna(subset=["low", "high"])
    if len(moved):
        better, worse = (set(moved.loc[rows, "model"]) for rows in (moved["high"] < 0, moved["low"] > 0))
        open_ = len(moved) - len(better) - len(worse)
        said.append(
            f"By the whole interval of the log-loss, scaling made the probabilities of {len(better) or 'none'} of {len(moved)} methods better "
            f"and of {len(worse) or 'none'} worse; for {open_ or 'none'} it cannot be told."
        )
    return said


def _named(what: str, models: list[str]) -> str:
    """`wide and alexnet …`, in the singular or plural; blank of none."""
    if not models:
        return ""
    if len(models) == 1:
        return f"{models[0]} {what}"
    verb, rest = what.split(" ", 1)
    return f"{', '.join(models[:-1])} and {models[-1]} {verb.removesuffix('s')} {rest.replace('it is', 'they are')}"


def _notes(temperatures: pd.DataFrame) -> list[str]:
    """What to know of temperatures that could not be fitted as they should: each note once, with whose it is."""
    noted = temperatures[temperatures["note"].notna()]
    every = temperatures["model"].nunique()
    said = []
    for note, rows in noted.groupby("note", sort=False):
        models = list(dict.fromkeys(rows["model"]))
        whose = "every method" if len(models) == every > 1 else ", ".join(models)
        said.append(f"{whose}: {note}.")
    return said
