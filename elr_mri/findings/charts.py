"""The charts of the report: each function draws one figure from tidy tables."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from elr_mri.findings import privacy, style, words
from elr_mri.findings.metrics import CHANCE
from elr_mri.scans.table import CLASSES

#: Confusion matrices beside each other: with more their numbers could not be read.
MATRICES = 5
METRIC_TITLES = {
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "macro_auc": "Macro-AUC",
    "micro_auc": "Micro-AUC",
}


def forest(results: pd.DataFrame) -> Figure:
    """Every model's scores with intervals, one row of panels per group of unseen scans; dashed: guessing."""
    groups = _groups(results)
    models = list(dict.fromkeys(results["model"]))
    drawn = style.figure(9.4, len(groups) * (0.75 + 0.27 * len(models)))
    panels = drawn.subplots(len(groups), len(METRIC_TITLES), sharey=True, sharex="col", squeeze=False)
    for row, (cohort, split) in zip(panels, groups, strict=True):
        found = results[(results["cohort"] == cohort) & (results["split"] == split)]
        for axes, (metric, title) in zip(row, METRIC_TITLES.items(), strict=True):
            of_metric = found[found["metric"] == metric].set_index("model")
            for place, model in enumerate(models):
                value, low, high = 100 * of_metric.loc[model, ["value", "low", "high"]].astype(float)
                look = style.model_style(models, model)
                axes.plot([low, high], [place, place], color=look["color"], linewidth=1.8, solid_capstyle="round")
                axes.plot(
                    value,
                    place,
                    marker=look["marker"],
                    color=look["color"],
                    markersize=6,
                    markeredgecolor="white",
                    markeredgewidth=0.7,
                )
            guess = words.guessing(found, cohort, split) if metric == words.LEAD else CHANCE[metric]
            axes.axvline(100 * guess, color=style.QUIET, linewidth=0.9, linestyle=(0, (3, 3)))
            axes.set_yticks(range(len(models)), models)
            axes.set_ylim(len(models) - 0.4, -0.6)
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
            axes.set_title(title if axes is not row[0] else f"{style.group_title(cohort, split)}\n{title}")
    for axes in panels[-1]:
        axes.set_xlabel("percent")
    return drawn


def roc_curves(roc: pd.DataFrame, results: pd.DataFrame) -> Figure:
    """One-vs-rest ROC curves: a row per group, a column per class; the legend gives each AUC."""
    groups = _groups(roc)
    models = list(dict.fromkeys(results["model"]))
    drawn = style.figure(9.4, 3.3 * len(groups))
    panels = drawn.subplots(len(groups), len(CLASSES), squeeze=False)
    for row, (cohort, split) in zip(panels, groups, strict=True):
        for axes, name in zip(row, CLASSES, strict=True):
            axes.plot([0, 1], [0, 1], color=style.QUIET, linewidth=0.9, linestyle=(0, (3, 3)))
            here = (roc["cohort"] == cohort) & (roc["split"] == split) & (roc["class"] == name)
            for (model, seed), curve in roc[here].groupby(["model", "seed"], sort=False):
                look = style.model_style(models, model) | {"marker": ""}
                axes.plot(
                    curve["false_positive_rate"].astype(float),
                    curve["true_positive_rate"].astype(float),
                    **look,
                    label=_auc_label(results, model, cohort, split, name) if seed == curve_seed(roc, model) else None,
                )
            axes.set(
                xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xlabel="1 − specificity", ylabel="sensitivity"
            )
            axes.set_title(f"{style.group_title(cohort, split)}: {name} or not")
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="lower right", handlelength=1.8, fontsize=6.5, labelspacing=0.25, borderaxespad=0.2)
    return drawn


def curve_seed(roc: pd.DataFrame, model: str) -> int:
    """The first seed of a model: the one whose curve carries the legend."""
    return int(roc.loc[roc["model"] == model, "seed"].min())


def learning_curves(histories: pd.DataFrame) -> Figure:
    """Cross-entropy above and accuracy below by epoch, a column per model; thin lines are seeds.

    The cross-entropy of training is shown without the regularising term, which is negative and would hide it.
    """
    models = list(dict.fromkeys(histories["model"]))
    drawn = style.figure(max(1.75 * len(models), 4), 4.3)
    panels = drawn.subplots(2, len(models), squeeze=False, sharey="row", sharex="col")
    colours = {"train": style.QUIET, "val": "#0072B2"}
    names = {"train": "training scans", "val": "validation scans"}
    for column, model in enumerate(models):
        above, below = panels[:, column]
        for seed, history in histories[histories["model"] == model].groupby("seed"):
            for part, colour in colours.items():
                look = {
                    "color": colour,
                    "linewidth": 1.3,
                    "label": names[part] if seed == histories["seed"].min() else None,
                }
                above.plot(history["epoch"], history[f"{part}_ce"], **look)
                score = history["val_balanced_accuracy"] if part == "val" else history["train_accuracy"]
                below.plot(history["epoch"], 100 * score, **look)
        above.axhline(np.log(3), color=style.QUIET, linewidth=0.8, linestyle=(0, (3, 3)))
        below.axhline(100 / 3, color=style.QUIET, linewidth=0.8, linestyle=(0, (3, 3)))
        above.set_title(model)
        below.set_xlabel("epoch")
    panels[0, 0].set_ylabel("cross-entropy (nats)")
    panels[1, 0].set_ylabel("accuracy (train),\nbalanced accuracy (val), %")
    drawn.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return drawn


def volumes_by_class(volumes: pd.DataFrame, *, dots: bool) -> Figure:
    """Regional volumes as per mille of the intracranial volume: boxes of the quartiles, and every scan a dot where it may be told.

    Parameters
    ----------
    volumes : DataFrame
        Columns region, diagnosis, share (volume / intracranial volume).
    dots : bool
        Without them a class of fewer than `privacy.FEWEST` scans has no box, either.
    """
    regions = list(dict.fromkeys(volumes["region"]))
    drawn = style.figure(2.35 * len(regions), 3.1)
    rng = np.random.default_rng(0)  # jitter only
    for axes, region in zip(drawn.subplots(1, len(regions), squeeze=False)[0], regions, strict=True):
        for place, name in enumerate(CLASSES):
            share = 1000 * volumes.loc[
                (volumes["region"] == region) & (volumes["diagnosis"] == name), "share"
            ].to_numpy(float)
            colour = style.CLASS_COLOURS[name]
            if dots:
                spread = rng.uniform(-0.17, 0.17, len(share))
                axes.scatter(place + spread, share, s=5, color=colour, alpha=0.4, linewidths=0)
            if len(share) >= (1 if dots else privacy.FEWEST):
                axes.boxplot(
                    share,
                    positions=[place],
                    widths=0.5,
                    showfliers=False,
                    medianprops={"color": style.INK, "linewidth": 1.6},
                    boxprops={"color": colour},
                    whiskerprops={"color": colour},
                    capprops={"color": colour},
                )
        axes.set_xticks(range(len(CLASSES)), CLASSES)
        axes.grid(axis="x", visible=False)
        axes.set_title(region.replace("_", ", ").capitalize())
    drawn.axes[0].set_ylabel("‰ of intracranial volume")
    return drawn


def confusion_matrices(confusion: pd.DataFrame) -> Figure:
    """Where scans of each class went, in percent of the class, with counts: rows of at most `MATRICES` models for each group."""
    groups = _groups(confusion)
    models = list(dict.fromkeys(confusion["model"]))
    n_rows = -(-len(models) // MATRICES)
    n_columns = -(-len(models) // n_rows)
    drawn = style.figure(1.75 * n_columns + 0.6, 1.95 * n_rows * len(groups) + 0.2)
    panels = drawn.subplots(n_rows * len(groups), n_columns, squeeze=False, sharey=True)
    for number, (cohort, split) in enumerate(groups):
        rows = panels[number * n_rows : (number + 1) * n_rows]
        for axes, model in itertools.zip_longest(rows.flat, models):
            if model is None:
                axes.set_visible(False)
                continue
            here = confusion[
                (confusion["cohort"] == cohort) & (confusion["split"] == split) & (confusion["model"] == model)
            ]
            counts = here.groupby(["diagnosis", "predicted"])["n_scans"].sum(min_count=1).unstack()
            _matrix(axes, counts.reindex(index=CLASSES, columns=CLASSES, fill_value=0).to_numpy(float))
            axes.set_title(model, fontsize=9)
        for axes in rows[:, 0]:
            axes.set_ylabel(f"{style.group_title(cohort, split)}\ntrue class")
    drawn.supxlabel("predicted", fontsize=9)
    return drawn


def _matrix(axes, counts: np.ndarray) -> None:
    """One confusion matrix: (3, 3) counts, true by row; a row of NaN is not told."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(np.nan_to_num(share), cmap="Blues", vmin=0, vmax=1)
    for (true, predicted), value in np.ndenumerate(share):
        axes.text(
            predicted,
            true,
            "not told" if np.isnan(value) else f"{100 * value:.0f}%\n{counts[true, predicted]:.0f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if value > 0.55 else style.INK,
        )
    axes.set_xticks(range(len(CLASSES)), CLASSES)
    axes.set_yticks(range(len(CLASSES)), CLASSES)
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _auc_label(results: pd.DataFrame, model: str, cohort: str, split: str, name: str) -> str:
    """`wide 78.2`: a model and its AUC for one class in percent."""
    wanted = {"model": model, "cohort": cohort, "split": split, "metric": f"auc_{name.lower()}"}
    row = results[np.logical_and.reduce([results[key] == value for key, value in wanted.items()])].iloc[0]
    return f"{model} {100 * row['value']:.0f}"


def _groups(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The unseen (cohort, split) groups of a table, in its order."""
    unseen = table[table["split"].isin(("test", "external"))]
    return list(unseen[["cohort", "split"]].drop_duplicates().itertuples(index=False, name=None))
