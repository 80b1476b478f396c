"""The talk's figures of memorization, one column for each method, drawn from the tables of `curves.py`.

Liu et al., NeurIPS 2020, figure 1 (shares of the predictions) and figure 3 (gradients).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from elr_mri.findings import style
from elr_mri.findings.metrics import METRICS

#: Of the room that a share has, what its methods take.
WIDTH = 0.7
BLUE, VERMILION = "#0072B2", "#D55E00"
#: What an example may be predicted as: column, words, colour and dash.
PREDICTED = (
    ("true", "the true class", BLUE, "-"),
    ("given", "the given wrong class (memorized)", VERMILION, (0, (4, 1.2))),
    ("other", "another class", style.QUIET, (0, (1, 1.2))),
)
#: Examples with a right label and with a wrong one: group, words, colour and dash.
GROUPS = (
    ("clean", "right label", BLUE, "-"),
    ("wrong", "wrong label", VERMILION, (0, (4, 1.2))),
)


def memorization_figure(curves: dict[str, pd.DataFrame], *, iterations: bool = False) -> Figure:
    """What training examples with right and with wrong labels are predicted as, over training; make it inside `style.drawing()`.

    Parameters
    ----------
    curves : dict of DataFrame
        Of each method, by the name to be shown, the table of `curves.memorization`.
    iterations : bool
        The table's epochs are single iterations, so many that their axis is logarithmic.
    """
    drawn, panels = grid(list(curves), n_rows=2)
    for (method, table), column in zip(curves.items(), panels.T, strict=True):
        for axes, (group, *_) in zip(column, GROUPS, strict=True):
            rows = table[table["group"] == group]
            for kind, label, colour, dash in PREDICTED:
                if (group, kind) != ("clean", "given"):  # a right label is the true class
                    axes.plot(rows["epoch"], 100 * rows[kind], color=colour, linestyle=dash, label=label)
            axes.set_ylim(-2, 102)
            _note_if_empty(axes, int(rows["n"].max()))
            if axes is column[0]:
                axes.set_title(method)
        time_axis(column[-1], iterations=iterations)
    for axes, (_, words, _, _) in zip(panels[:, 0], GROUPS, strict=True):
        axes.set_ylabel(f"{words}:\npercent predicted as")
    legend(drawn, panels[-1, 0])
    return drawn


def gradient_figure(gradients: dict[str, pd.DataFrame], *, iterations: bool = False) -> Figure:
    """Mean size of the loss's gradient at examples with right and with wrong labels, over training; make it inside `style.drawing()`.

    Thin lines: the part of cross-entropy alone, where the loss has another one.

    Parameters
    ----------
    gradients : dict of DataFrame
        Of each method, by the name to be shown, the table of `curves.gradients`.
    iterations : bool
        As in `memorization_figure`.
    """
    drawn, panels = grid(list(gradients), n_rows=1)
    for (method, table), axes in zip(gradients.items(), panels[0], strict=True):
        for group, words, colour, dash in GROUPS:
            rows = table[table["group"] == group]
            axes.plot(rows["epoch"], rows["gradient"], color=colour, linestyle=dash, label=words)
            if (rows["regularizer"] > 0).any():
                axes.plot(
                    rows["epoch"],
                    rows["entropy"],
                    color=colour,
                    linestyle=dash,
                    linewidth=0.7,
                    alpha=0.6,
                    label=f"{words}, cross-entropy's part",
                )
        axes.set_title(method)
        time_axis(axes, iterations=iterations)
    panels[0, 0].set_ylim(bottom=0)
    panels[0, 0].set_ylabel("mean size of the gradient\n(with respect to the logits)")
    legend(drawn, panels[0, -1], *panels[0])
    return drawn


def time_axis(axes: Axes, *, iterations: bool) -> None:
    """The horizontal axis."""
    axes.set_xlabel("iteration" if iterations else "epoch")
    if iterations:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no epoch 1.5


def grid(methods: Sequence[str], *, n_rows: int) -> tuple[Figure, np.ndarray]:
    """A figure and its panels (n_rows, n_methods), which share their axes' ranges by column and by row."""
    drawn = style.figure(max(6.2, 1.2 + 2.5 * len(methods)), 0.6 + 2.1 * n_rows)
    return drawn, drawn.subplots(n_rows, len(methods), sharex="col", sharey="row", squeeze=False)


def legend(drawn: Figure, *panels: Axes) -> None:
    """One legend above all panels, of what is drawn in some of them."""
    named = {}
    for axes in panels:
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, line)
    n_columns = max(1, int(drawn.get_figwidth() / 2.3))
    drawn.legend(named.values(), named, loc="outside upper center", ncols=n_columns, handlelength=2.6)


def _note_if_empty(axes: Axes, n: int) -> None:
    """Say in a panel that it stands for no example."""
    if not n:
        axes.text(0.5, 0.5, "no such example", transform=axes.transAxes, ha="center", color=style.QUIET)


def scores_figure(results: pd.DataFrame, metric: str, seeds: pd.DataFrame | None = None) -> Figure:
    """A score on unseen scans with its interval, by share of wrong labels and method; make it inside `style.drawing()`.

    Shares stand side by side, methods within each: a method's place within a share means nothing.

    Parameters
    ----------
    results : DataFrame
        share, model, cohort, split, metric, value, low, high (shares of 1).
    seeds : DataFrame or None
        share, method, cohort, split and the score of single seeds, which become faint points where a method has several.
    """
    own = results[results["metric"] == metric]
    groups, models = list(own.groupby(["cohort", "split"], sort=False)), list(dict.fromkeys(own["model"]))
    shares = sorted(set(own["share"]))
    places = {share: place for place, share in enumerate(shares)}
    step = WIDTH / max(len(models), 3)
    panel = max(2.2, 0.6 + len(shares) * max(0.55, 0.22 * len(models)))
    drawn = style.figure(1.0 + panel * len(groups), 2.9)
    panels = drawn.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, ((cohort, split), rows) in zip(panels, groups, strict=True):
        for number, model in enumerate(models):
            line = rows[rows["model"] == model].sort_values("share")
            aside = step * (number - (len(models) - 1) / 2)
            spans = 100 * np.stack([line["value"] - line["low"], line["high"] - line["value"]])
            look = style.model_style(models, model)
            across = line["share"].map(places) + aside
            axes.errorbar(across, 100 * line["value"], yerr=spans.clip(0), capsize=2, label=model, markersize=5, **look)
            single = _of_seeds(seeds, model, cohort, split)
            axes.scatter(single["share"].map(places) + aside + step / 3, 100 * single[metric], s=7, color=look["color"], alpha=0.6, linewidths=0)  # fmt: skip
        axes.axhline(100 / 3, color=style.QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_title(style.group_title(cohort, split))
        axes.set_xticks(range(len(shares)), [f"{100 * share:g}" for share in shares])
        axes.set_xlim(-0.5, len(shares) - 0.5)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("labels drawn to be wrong, percent")
    panels[0].set_ylabel(f"{metric.replace('_', ' ')}, percent")
    legend(drawn, panels[0])
    return drawn


def _of_seeds(seeds: pd.DataFrame | None, model: str, cohort: str, split: str) -> pd.DataFrame:
    """The lines of a method's single seeds on one group of scans, at the shares where it has several; none where none are given."""
    if seeds is None:
        return pd.DataFrame(columns=["share", *METRICS], dtype=float)
    own = seeds[(seeds["method"] == model) & (seeds["cohort"] == cohort) & (seeds["split"] == split)]
    return own[own.groupby("share")["share"].transform("size") > 1]
