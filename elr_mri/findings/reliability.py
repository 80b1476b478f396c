"""The reliability curves: how often a model is right when it says that it is so sure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from elr_mri.findings import style

#: Name, colour, marker and fill of each state.
LOOKS = {
    "before": {"label": "as predicted", "color": "#D55E00", "marker": "o", "filled": False},
    "after": {"label": "after temperature scaling", "color": "#0072B2", "marker": "s", "filled": True},
}
#: Area of a marker, in square points: of one prediction in a hundred, and at least.
AREA_PER_PERCENT, LEAST_AREA = 1.6, 7.0
#: Panels side by side, and inches of each: of up to four, and of five.
COLUMNS, WIDE, NARROW = 5, 2.35, 1.95


def curves(reliability: pd.DataFrame) -> Figure:
    """Share of right predictions by confidence, a panel for each group and model, with intervals; larger marks hold more scans.

    Parameters
    ----------
    reliability : DataFrame
        The table `RELIABILITY`, with rows.
    """
    panels = list(reliability.groupby(["cohort", "split", "model"], sort=False))
    n_models = reliability["model"].nunique()
    n_columns = -(-n_models // -(-n_models // COLUMNS))  # as many in each row, but for the last
    per_group = [
        len(rows)
        for _, rows in reliability.drop_duplicates(["cohort", "split", "model"]).groupby(
            ["cohort", "split"], sort=False
        )
    ]
    n_rows = sum(-(-n // n_columns) for n in per_group)
    drawn = style.figure(max((NARROW if n_columns == COLUMNS else WIDE) * n_columns, 3.6), 2.15 * n_rows + 0.5)
    axes = drawn.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
    row, column, last = -1, n_columns, None
    for (cohort, split, model), rows in panels:
        if column == n_columns or (cohort, split) != last:
            row, column, last = row + 1, 0, (cohort, split)
        _panel(axes[row, column], rows)
        axes[row, column].set_title(f"{style.group_title(cohort, split)}:\n{model}", fontsize=8.5)
        column += 1
    for panel in axes.flat:
        panel.set_visible(panel.has_data())
    for panel in (panel for panel in axes.flat if panel.has_data()):
        panel.tick_params(labelbottom=True)
    drawn.supxlabel("probability of the predicted class, percent", fontsize=9)
    drawn.supylabel("predictions that are right, percent", fontsize=9)
    handles = {
        label: handle for panel in axes.flat for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    drawn.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles))
    return drawn


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    """The curves of one model on one group."""
    axes.plot([0, 100], [0, 100], color=style.QUIET, linewidth=0.9, linestyle=(0, (3, 3)))
    for state, curve in rows.groupby("state", sort=False):
        look = LOOKS[state]
        x, y, low, high = (100 * curve[name].to_numpy(dtype=float) for name in ("confidence", "right", "low", "high"))
        percents = 100 * curve["n_predictions"].to_numpy(dtype=float) / curve["n_predictions"].sum()
        axes.vlines(x, low, high, color=look["color"], linewidth=0.8, alpha=0.55)
        axes.plot(x, y, color=look["color"], linewidth=1.0, linestyle="-" if look["filled"] else (0, (3, 1.5)))
        axes.scatter(
            x,
            y,
            s=np.maximum(AREA_PER_PERCENT * percents, LEAST_AREA),
            marker=look["marker"],
            facecolor=look["color"] if look["filled"] else "white",
            edgecolor=look["color"],
            linewidth=1.0,
            zorder=3,
            label=look["label"],
        )
    axes.set(xlim=(28, 102), ylim=(-3, 103), xticks=(40, 60, 80, 100), yticks=(0, 25, 50, 75, 100))
