"""The report's words on saliency: which regions it prefers, and whether the maps pass the checks that they could fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from elr_mri.findings import privacy, style
from elr_mri.scans.saliency import (
    AGGREGATE,
    ALL,
    AROUND,
    CASCADE,
    CHECKS,
    FAIL,
    LOBES,
    NOT_MADE,
    PASS,
    PERMUTED,
    RANDOM,
    REST,
    SHARES,
    SINGLE,
    TRAINED,
)
from elr_mri.scans.table import CLASSES

METHODS = {
    "gradient": "gradient",
    "gradient-input": "gradient × input",
    "smoothgrad": "SmoothGrad",
    "integrated": "integrated gradients",
}
#: What the map of each method tells of a voxel.
MEANING = {
    "gradient": "how strongly its evidence for AD over CN answers to a small change of each voxel",
    "gradient-input": "how strongly its evidence for AD over CN answers to each voxel, times the voxel’s value as the network sees it",
    "smoothgrad": "how strongly its evidence for AD over CN answers to a small change of each voxel, mean over noisy copies of the scan",
    "integrated": "what each voxel adds to its evidence for AD over CN on the way from scans of cognitively normal subjects to the scan",
}
REGIONS = {
    "hippocampus_left": "left hippocampus",
    "hippocampus_right": "right hippocampus",
    "entorhinal_left": "left entorhinal cortex",
    "entorhinal_right": "right entorhinal cortex",
    "hippocampus": "hippocampi",
    "entorhinal": "entorhinal cortices",
}
MODELS = {TRAINED: "the model", RANDOM: "fresh weights", PERMUTED: "random labels"}
#: Each check as a question, and what a failure means.
QUESTIONS = {
    "fresh weights": (
        "Does the map differ from that of a network that learnt nothing?",
        "The map is largely one of the architecture: do not read it as what was learnt.",
    ),
    "random labels": (
        "Does it differ from that of a network trained on labels drawn at random?",
        "The map shows what any training on these scans leaves, whatever the labels.",
    ),
    "split halves": (
        "Do two halves of the subjects give the same map?",
        "The map depends on who was looked at: do not read single spots.",
    ),
    "fresh weights, preference": (
        "Does a network that learnt nothing prefer no region?",
        "The architecture alone prefers the medial temporal lobe: read the model’s ratio against that of fresh weights, not against 1.",
    ),
    "planted regions": (
        "Does the model look where most of the phantoms’ atrophy was planted, in hippocampus and entorhinal cortex?",
        "Hippocampus and entorhinal cortex hold less than was asked. The phantoms’ ventricles and cortex carry an effect, too, so look where the rest lies; these maps alone do not tell where the disease is.",
    ),
    "completeness": (
        "Do the integrated gradients add up to the change of the evidence?",
        "More explain.steps are needed before these numbers mean what they say.",
    ),
}
COMPARED = {
    "fresh weights": "rank correlation",
    "random labels": "rank correlation",
    "split halves": "rank correlation",
    "fresh weights, preference": "ratio",
    "planted regions": "ratio",
    "completeness": "share missed",
}


def may_tell(explain_dir: Path, *, people: bool) -> frozenset[str]:
    """Of whom the page may show what maps have in common: `all` and classes, without those of fewer than five persons.

    people : whether it may show single persons, too; else a map of scans whose persons nobody counted (no `shares.tsv`) stays hidden
    """
    if people:
        return frozenset((ALL, *CLASSES))
    path = explain_dir / "shares.tsv"
    counts = SHARES.read(path).groupby("class")["n_subjects"].max() if path.is_file() else {}
    return frozenset(name for name in (ALL, *CLASSES) if counts.get(name, 0) >= privacy.FEWEST)


def read(explain_dir: Path | None, *, people: bool = True) -> dict[str, Any] | None:
    """What the section says; None without maps, or where `explain` wrote none of the tables (an earlier version).

    people : whether the page may show what is of few persons (`may_tell`)
    """
    if explain_dir is None or not (explain_dir / "checks.tsv").is_file():
        return None
    shares, checks = SHARES.read(explain_dir / "shares.tsv"), CHECKS.read(explain_dir / "checks.tsv")
    first = checks["method"].iloc[0]
    failed, told = checks[checks["verdict"] == FAIL], may_tell(explain_dir, people=people)
    hidden = [name for name in CLASSES if name in set(shares["class"]) - told]
    shares = shares[shares["class"].isin(told)]
    return {
        "method": METHODS.get(first, first),
        "meaning": MEANING.get(first, ""),
        "regions": region_rows(shares, first),
        "lobes": lobe_rows(shares),
        "models": [MODELS[name] for name in MODELS if name in set(shares["model"])],
        "n": None if shares.empty else [int(shares["n_scans"].max()), int(shares["n_subjects"].max())],
        "checks": [check(row) for row in checks.itertuples(index=False)],
        "n_failed": len(failed),
        "n_made": int((checks["verdict"] != NOT_MADE).sum()),
        "several": checks["method"].nunique() > 1,
        "hidden": hidden,
    }


def region_rows(shares: pd.DataFrame, method: str) -> list[dict[str, Any]]:
    """A line for each region, all scans: its volume, and the ratios of the mean map and of single maps by whose maps they are."""
    mine = shares[(shares["method"] == method) & (shares["class"] == ALL)]
    rows = []
    for region, found in mine.groupby("region", sort=False):
        cells = []
        for name in MODELS:
            for way in (AGGREGATE, SINGLE):
                one = found[(found["model"] == name) & (found["way"] == way)]
                cells += [ratio(line) for line in one.itertuples(index=False)]
        volume = f"{100 * found['volume_share'].iloc[0]:.2f}"
        rows.append({"name": REGIONS.get(region, region), "volume": volume, "cells": cells, "total": region == LOBES})
    return rows


def lobe_rows(shares: pd.DataFrame) -> list[dict[str, Any]]:
    """The medial temporal regions' ratio in the mean map by method and class, of each model."""
    mine = shares[(shares["region"] == LOBES) & (shares["way"] == AGGREGATE)]
    rows = []
    for (method, name), found in mine.groupby(["method", "class"], sort=False):
        by_model = {line.model: ratio(line) for line in found.itertuples(index=False)}
        cells = [by_model[model] for model in MODELS if model in by_model]
        rows.append({"method": METHODS.get(method, method), "class": name, "cells": cells})
    return rows


def ratio(line: Any) -> tuple[str, str]:
    """A ratio and its interval as texts."""
    if line.ratio != line.ratio:
        return "–", ""
    return f"{line.ratio:.2f}", "" if line.low != line.low else f"{line.low:.2f} to {line.high:.2f}"


def check(row: Any) -> dict[str, str]:
    """A line of the checks' table."""
    question, failure = QUESTIONS[row.check]
    value = "–" if row.value != row.value else f"{row.value:.2f}".replace("-", "−")
    asked = f"{COMPARED[row.check]} {row.asked} {row.threshold:g}"
    words = {
        PASS: "",
        FAIL: failure,
        NOT_MADE: "Set explain.permuted to true to train that network."
        if row.check == "random labels"
        else "There was nothing to make it from.",
    }
    said = {"question": question, "value": value, "asked": asked, "verdict": row.verdict}
    return said | {"method": METHODS.get(row.method, row.method), "words": words[row.verdict]}


def draw(explain_dir: Path) -> Figure | None:
    """Ratios of the regions with their intervals, and the cascade; None where neither was made."""
    if not (explain_dir / "checks.tsv").is_file():
        return None
    shares, cascade = SHARES.read(explain_dir / "shares.tsv"), CASCADE.read(explain_dir / "cascade.tsv")
    if shares.empty and cascade.empty:
        return None
    drawn = style.figure(9.2, 3.4)
    left, right = drawn.subplots(1, 2, width_ratios=[1.25, 1])
    if len(shares):
        _ratios(left, shares)
    left.set_visible(bool(len(shares)))
    if len(cascade):
        _cascade(right, cascade)
    right.set_visible(bool(len(cascade)))
    return drawn


def _ratios(axes: Any, shares: pd.DataFrame) -> None:
    method = shares["method"].iloc[0]
    mine = shares[(shares["method"] == method) & (shares["class"] == ALL) & (shares["way"] == AGGREGATE)]
    names = [name for name in dict.fromkeys(mine["region"]) if name not in ("hippocampus", "entorhinal")]
    told = [name for name in names if name not in (LOBES, AROUND, REST)]
    kept = [*told[:8], *(name for name in (LOBES, AROUND, REST) if name in names)]
    models = [name for name in MODELS if name in set(mine["model"])]
    for k, name in enumerate(models):
        found = mine[mine["model"] == name].set_index("region").loc[kept]
        places = np.arange(len(kept)) + 0.18 * (k - (len(models) - 1) / 2)
        look = style.model_style(list("abcdefg"), "dca"[k])
        reach = np.nan_to_num(np.abs(found[["low", "high"]].to_numpy().T - found["ratio"].to_numpy()))
        axes.errorbar(
            found["ratio"], places, xerr=reach, label=MODELS[name], ls="", marker=look["marker"], color=look["color"]
        )
    axes.axvline(1, color=style.QUIET, linewidth=0.8)
    axes.set_yticks(range(len(kept)), [REGIONS.get(name, name) for name in kept])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("share of saliency / share of volume")
    axes.set_title(f"Where the mean map lies ({METHODS.get(method, method)})")
    axes.legend(loc="lower right")


def _cascade(axes: Any, cascade: pd.DataFrame) -> None:
    methods = list(dict.fromkeys(cascade["method"]))
    for name in methods:
        found = cascade[cascade["method"] == name].sort_values("step")
        look = style.model_style(methods, name) if len(methods) > 1 else style.model_style(list("abcd"), "d")
        axes.plot(found["step"], found["rank_correlation"], label=METHODS.get(name, name), **look)
    layers = cascade[cascade["method"] == methods[0]].sort_values("step")["layer"]
    axes.axhline(0, color=style.QUIET, linewidth=0.8)
    axes.set_xticks(range(len(layers)), ["trained", *layers[1:]], rotation=25, ha="right")
    axes.set_ylim(min(-0.1, float(cascade["rank_correlation"].min()) - 0.05), 1.05)
    axes.set_ylabel("rank correlation with the map")
    axes.set_title("Layers made fresh from the top")
    axes.legend(loc="best")
