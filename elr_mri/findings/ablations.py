"""What a change of the network does: each ablation beside the model that it starts from, on the same scans.

Scores and paired differences are those of `evaluate`, run on the base model and its ablations alone, so that the
intervals are subject-clustered and paired by scan like all others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from elr_mri import config, provenance, variants
from elr_mri.errors import BadInput
from elr_mri.findings import style, words
from elr_mri.findings.evaluate import MAIN_METRICS
from elr_mri.findings.predicted import UNSEEN
from elr_mri.findings.tables import ABLATIONS, DIFFERENCES, RESULTS

PLACE = ["model", "cohort", "split", "metric"]


def read(tables_dir: Path | None, model_dirs: Sequence[Path], study: config.Study) -> pd.DataFrame:
    """The table `ABLATIONS`, the base model first.

    Parameters
    ----------
    tables_dir : path or None
        The `tables` folder of `evaluate` on the base model and its ablations; without it the table is empty.
    model_dirs : sequence of path
        Their model folders `<model>/seed-<n>`, one or more of each: the number of weights stands in model.json.
    study : config.Study
        Says what each ablation changes.
    """
    if tables_dir is None:
        return pd.DataFrame(columns=[column.name for column in ABLATIONS.columns])
    changed, sizes = changes(study), n_parameters(model_dirs)
    results = RESULTS.read(tables_dir / "results.tsv")
    strange = [m for m in dict.fromkeys(results["model"]) if m not in changed or m not in sizes]
    if strange:
        raise BadInput(
            expected=f"{', '.join(changed)}, each with a model folder",
            got=strange[0],
            where=str(tables_dir / "results.tsv"),
            fix="Run `snakemake ablations` again, or name its folder with --ablated.",
        )
    base = next(iter(changed))
    versus = words.against(DIFFERENCES.read(tables_dir / "differences.tsv"), base)
    versus = versus.rename(columns={"low": "difference_low", "high": "difference_high"})
    found = results.merge(
        versus[[*PLACE, "difference", "difference_low", "difference_high"]], on=PLACE, how="left", validate="1:1"
    )
    found["changed"] = found["model"].map(changed)
    found["n_parameters"] = found["model"].map(sizes)
    order = {slug: place for place, slug in enumerate(changed)}
    found = found.sort_values("model", key=lambda slugs: slugs.map(order), kind="stable", ignore_index=True)
    return found[[column.name for column in ABLATIONS.columns]]


def changes(study: config.Study) -> dict[str, str]:
    """What of the base model each ablation changes, in words of the config; the base first, with nothing."""
    models = {slug: model.model_dump(exclude_unset=True) for slug, model in study.train.models.items()}
    section = study.ablations.model_dump(exclude_unset=True)
    told = {str(variants.base_of(models, section)): ""}
    for slug, keys in variants.changes(models, section).items():
        told[slug] = ", ".join(f"{key} {_word(value)}" for key, value in keys.items())
    return told


def _word(value: Any) -> str:
    """A value of the config as YAML writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def n_parameters(model_dirs: Sequence[Path]) -> dict[str, int]:
    """Weights of each model, from the model.json of its folders."""
    return {
        str(facts["slug"]): int(facts["n_parameters"])
        for facts in (provenance.read_json(folder / "model.json") for folder in model_dirs)
    }


def groups(table: pd.DataFrame) -> list[dict[str, Any]]:
    """For each unseen group its title, counts, and one row per model.

    A row has its name, what is changed, the weights in millions, and for each of the main metrics the texts of value, difference from
    the base and interval of the difference.
    """
    said = []
    for (cohort, split), rows in table[table["split"].isin(UNSEEN)].groupby(["cohort", "split"], sort=False):
        methods = []
        for model, found in rows.groupby("model", sort=False):
            by_metric, first = found.set_index("metric"), found.iloc[0]
            methods.append(
                {
                    "name": model,
                    "changed": first["changed"],
                    "millions": f"{first['n_parameters'] / 1e6:.2f}",
                    "n_seeds": int(first["n_seeds"]),
                    "cells": [_cell(by_metric.loc[metric]) for metric in MAIN_METRICS],
                }
            )
        counts = {"n_scans": int(rows["n_scans"].iloc[0]), "n_subjects": int(rows["n_subjects"].iloc[0])}
        said.append({"title": style.group_title(cohort, split), "methods": methods, **counts})
    return said


def _cell(row: pd.Series) -> tuple[str, str]:
    """A score in percent, and its difference from the base in points with the interval; that is blank for the base."""
    value = words.percent(float(row["value"]))
    if pd.isna(row["difference"]):
        return value, ""
    names = ("difference", "difference_low", "difference_high")
    middle, low, high = (words.percent(float(row[name]), "+") for name in names)
    return value, f"{middle} ({low} to {high})"
