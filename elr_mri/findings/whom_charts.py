"""The figures of groups of people, of the shift and of the time to AD: each draws one from a tidy table."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from elr_mri.findings import style
from elr_mri.findings.metrics import CHANCE
from elr_mri.findings.subgroups import EVERYONE

#: Colour and dash of the groups of risk, from low to high; of two the outer ones.
RISK_STYLES = (("#0072B2", "-"), ("#66717e", (0, (4, 1.5))), ("#D55E00", (0, (1, 1.2))))
RISK_ORDER = ("lower", "lowest", "middle", "higher", "highest")


def subgroup_forest(table: pd.DataFrame) -> Figure:
    """One metric by group of people with intervals, a panel per test set; dotted: everyone; a ring: a gap that holds."""
    models = list(dict.fromkeys(table["model"]))
    scored = table[table["value"].notna() & ((table["factor"] == EVERYONE) | (table["note"] != "everyone"))]
    panels = [(place, rows) for place, rows in scored.groupby(["cohort", "split"], sort=False)]
    heights = [rows.groupby(["factor", "group"]).ngroups for _, rows in panels]
    drawn = style.figure(8.2, sum(0.75 + (0.14 + 0.15 * len(models)) * h for h in heights) + 0.3)
    axes_of = drawn.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=[h + 2 for h in heights])[:, 0]
    for axes, ((cohort, split), rows) in zip(axes_of, panels, strict=True):
        keys = list(dict.fromkeys(zip(rows["factor"], rows["group"], strict=True)))
        for number, model in enumerate(models):
            look = style.model_style(models, model)
            offset = 0.28 * (number - (len(models) - 1) / 2)
            for row in rows[rows["model"] == model].itertuples():
                place = keys.index((row.factor, row.group)) + offset
                _interval(axes, place, 100 * row.value, 100 * row.low, 100 * row.high, look)
                if row.flagged == "yes":
                    axes.plot(100 * row.value, place, "o", markersize=12, markerfacecolor="none", color=style.INK)
                if row.factor == EVERYONE:
                    axes.axvline(100 * row.value, color=look["color"], linewidth=0.9, linestyle=(0, (1, 2)), zorder=0)
            axes.plot([], [], **look | {"linestyle": "-"}, label=model)
        names = ["everyone" if f == EVERYONE else f"{f}: {g}" for f, g in keys]
        _rows(axes, names)
        axes.axvline(100 * CHANCE[rows["metric"].iloc[0]], color=style.QUIET, linewidth=0.9, linestyle=(0, (3, 3)))
        axes.set_title(style.group_title(cohort, split))
    axes_of[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(models), borderaxespad=0.2)
    axes_of[-1].set_xlabel("percent")
    return drawn


def love_plot(table: pd.DataFrame) -> Figure:
    """Standardised mean differences from training with intervals, each test set with a marker of its own."""
    known = table[table["low"].notna()]
    names = list(dict.fromkeys(known["quantity"]))
    groups = list(known.groupby(["cohort", "split"], sort=False))
    titles = [style.group_title(*place) for place, _ in groups]
    drawn = style.figure(7.6, 0.9 + (0.14 + 0.13 * len(groups)) * len(names))
    axes = drawn.subplots()
    for number, (title, (_, rows)) in enumerate(zip(titles, groups, strict=True)):
        colour, marker, _ = style.MODEL_STYLES[(3, 6, 2, 4)[number % 4]]
        look = {"color": colour, "marker": marker}
        for row in rows.itertuples():
            place = names.index(row.quantity) + 0.26 * (number - (len(groups) - 1) / 2)
            _interval(axes, place, row.difference, row.low, row.high, look)
        axes.plot([], [], **look, linestyle="-", label=title)
    axes.axvline(0, color=style.QUIET, linewidth=0.9)
    _rows(axes, names)
    axes.set_xlabel("standardised mean difference from the training scans")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(groups), borderaxespad=0.2)
    return drawn


def survival_curves(table: pd.DataFrame) -> Figure:
    """Share of people with MCI who have not come to AD, by group of risk: a row per test set, a column per model, people at risk below."""
    models = list(dict.fromkeys(table["model"]))
    places = list(dict.fromkeys(zip(table["cohort"], table["split"], strict=True)))
    risks = [name for name in RISK_ORDER if (table["risk"] == name).any()]
    drawn = style.figure(max(4.2 * len(models), 5), (2.9 + 0.2 * len(risks)) * len(places))
    panels = drawn.subplots(len(places), len(models), squeeze=False, sharey=True, sharex=True)
    for axes in panels.ravel():
        axes.tick_params(labelbottom=True)
    for row, (cohort, split) in zip(panels, places, strict=True):
        for axes, model in zip(row, models, strict=True):
            own = table[(table["cohort"] == cohort) & (table["split"] == split) & (table["model"] == model)]
            _curves(axes, own, risks, np.arange(int(table["years"].max()) + 1))
            axes.set_title(f"{style.group_title(cohort, split)}: {model}")
            axes.set_ylim(0, 102)
        row[0].set_ylabel("without AD, percent")
    panels[0, 0].legend(loc="lower left", title="predicted risk", alignment="left")
    return drawn


def _curves(axes: Axes, own: pd.DataFrame, risks: list[str], years: np.ndarray) -> None:
    """The curves of one model and test set, and how many are at risk at each whole year."""
    for number, risk in enumerate(risks):
        colour, dash = RISK_STYLES[number if len(risks) == 3 else 2 * number]
        steps = own[own["risk"] == risk].sort_values("step")
        at, share = steps["years"].to_numpy(float), 100 * steps["survival"].to_numpy(float)
        low, high = (100 * steps[name].to_numpy(float) for name in ("low", "high"))
        axes.step(at, share, where="post", color=colour, linestyle=dash, linewidth=1.8, label=risk)
        axes.fill_between(at, low, high, step="post", color=colour, alpha=0.13, linewidth=0)
        left = dict(zip(at, steps["at_risk"], strict=True))
        for year in (year for year in years if not pd.isna(left.get(float(year)))):
            below = (0, -24 - 10 * number)
            axes.annotate(str(left[float(year)]), (year, 0), below, xycoords=("data", "axes fraction"), textcoords="offset points", ha="center", fontsize=7.5, color=colour)  # fmt: skip
    axes.set_xticks(years)
    axes.set_xlabel("years since the first scan with MCI; above: still at risk", labelpad=6 + 10 * len(risks))


def _interval(axes: Axes, place: float, value: float, low: float, high: float, look: dict) -> None:
    """One value with its interval, on a line of its own."""
    axes.plot([low, high], [place, place], color=look["color"], linewidth=1.6, solid_capstyle="round")
    axes.plot(value, place, marker=look["marker"], color=look["color"], markersize=5.5, markeredgecolor="white", markeredgewidth=0.6)  # fmt: skip


def _rows(axes: Axes, names: list[str]) -> None:
    """Name the rows, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
