"""What `lab images` found: the table of results, the ranking of doubtful labels, the figures and the findings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from elr_mri.findings import style
from elr_mri.lab.audit import found
from elr_mri.lab.figures import gradient_figure, legend, memorization_figure, time_axis
from elr_mri.lab.image_recipes import Recipe
from elr_mri.lab.image_runs import Run
from elr_mri.lab.image_sets import ImageSet
from elr_mri.lab.linear import TITLES as LINEAR_TITLES
from elr_mri.lab.noise import Noisy

#: How the methods are called in figures; another name is shown as it is.
TITLES = {**LINEAR_TITLES, "elr-plus": "ELR+", "sop": "SOP", "gce": "Generalised cross-entropy"}


def results(runs: Sequence[Run], data: ImageSet, noisy: dict[int, dict[str, Noisy]]) -> pd.DataFrame:
    """A line for each run, by the true labels of the test images; accuracies and shares from 0 to 1.

    `test_accuracy` and what is called `end` are of the epoch that counts: the last one, and of a method that stops early the selected one. `selected_accuracy` is that of the epoch that the given labels of validation images favour; `highest_accuracy` is chosen by the
    test labels themselves, and is there because papers report it. `audit_*`: how well the ranking finds the wrong labels.
    """
    rows = []
    for run in runs:
        tested, told = run.history["test_accuracy"], noisy[run.seed]["train"]
        wrong = told.given != data.labels["train"]
        by_group = {name: rows.reset_index(drop=True) for name, rows in run.shares.groupby("group")}
        peak = int(by_group["wrong"]["true"].fillna(0).argmax())
        ranked = found(wrong, run.disagreement)
        rows.append(
            {
                "method": run.method,
                "seed": run.seed,
                "epochs": len(tested),
                "wrong_share": wrong.mean(),
                "counted_epoch": run.counted,
                "test_accuracy": tested[run.counted - 1],
                "selected_epoch": run.selected if "val" in data.labels else np.nan,
                "selected_accuracy": tested[run.selected - 1] if "val" in data.labels else np.nan,
                "highest_epoch": int(tested.argmax()) + 1,
                "highest_accuracy": tested.max(),
                "clean_true_end": by_group["clean"]["true"][run.counted - 1],
                "wrong_true_peak": by_group["wrong"]["true"].max(),
                "wrong_true_peak_epoch": peak + 1 if wrong.any() else np.nan,
                "wrong_true_end": by_group["wrong"]["true"][run.counted - 1],
                "wrong_memorized_end": by_group["wrong"]["given"][run.counted - 1],
                "audit_average_precision": ranked["average_precision"],
                "audit_precision_at_10_percent": ranked["precision_at_10_percent"] if wrong.any() else np.nan,
            }
        )
    return pd.DataFrame(rows)


def audit_table(run: Run, data: ImageSet, told: Noisy) -> pd.DataFrame:
    """The training images of a run by how strongly its targets disagree with the given label; with the true one where labels were made wrong."""
    classes = np.array(data.classes)
    table = pd.DataFrame(
        {
            "image": data.names["train"],
            "given": classes[told.given],
            "suggested": classes[run.suggested],
            "disagreement": run.disagreement.round(6),
        }
    )
    if told.drawn.any():
        table["true"] = classes[data.labels["train"]]
    table = table.iloc[np.argsort(-run.disagreement, kind="stable")].reset_index(drop=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def findings(
    table: pd.DataFrame,
    runs: Sequence[Run],
    data: ImageSet,
    noisy: dict[int, dict[str, Noisy]],
    audited: Run,
    recipe: Recipe,
) -> dict[str, Any]:
    """What a report needs; means over the seeds."""
    drawn = {
        s: np.mean([told[s].drawn.mean() for told in noisy.values()]) for s in ("train", "val") if s in data.labels
    }
    wrong = {s: np.mean([(told[s].given != data.labels[s]).mean() for told in noisy.values()]) for s in drawn}
    means, spreads = (table.drop(columns="seed").groupby("method", sort=False).agg(how) for how in ("mean", "std"))
    methods = {}
    for method, line in means.iterrows():
        methods[method] = {name: _plain(value) for name, value in line.items() if name not in ("epochs", "wrong_share")}
        methods[method]["test_accuracy_spread"] = _plain(spreads.loc[method, "test_accuracy"])
        p = line["test_accuracy"]
        methods[method]["test_accuracy_standard_error"] = _plain(np.sqrt(p * (1 - p) / len(data.labels["test"])))
        own = [run for run in runs if run.method == method]
        methods[method]["counted"] = "selected epoch" if own[0].stops_early else "last epoch"
        slopes = [run.slopes[run.slopes["epoch"] == run.counted] for run in own]
        by_group = pd.concat(slopes).groupby("group")["gradient"].mean()
        methods[method]["gradient_end"] = {group: _plain(value) for group, value in by_group.items()}
    return {
        "dataset": data.name,
        "n_classes": len(data.classes),
        "image_shape": list(data.images["train"].shape[1:]),
        "n": {split: len(labels) for split, labels in sorted(data.labels.items())},
        "network": recipe.network,
        "epochs": recipe.fit.epochs,
        "seeds": list(noisy),
        "drawn_share": {split: _plain(share) for split, share in drawn.items()},
        "wrong_share": {split: _plain(share) for split, share in wrong.items()},
        "methods": methods,
        "audit": {
            "method": audited.method,
            "seed": audited.seed,
            **{k: _plain(v) for k, v in found(noisy[audited.seed]["train"].given != data.labels["train"], audited.disagreement).items()},
        },
    }  # fmt: skip


def _plain(value: float) -> float | None:
    """A number for JSON, which has no NaN; whole ones stay whole."""
    if value is None or np.isnan(value):
        return None
    return int(value) if isinstance(value, (int, np.integer)) else round(float(value), 6)


def told_in_words(facts: dict[str, Any]) -> list[str]:
    """A line on the labels, and one for each method."""
    labels = (
        f"{facts['drawn_share']['train']:.1%} of the labels of {facts['n']['train']} training images drawn anew, {facts['wrong_share']['train']:.1%} are wrong"
        if facts["drawn_share"]["train"]
        else f"the labels of {facts['n']['train']} training images as they came, of which nobody knows how many are wrong"
    )
    lines = [f"images: {facts['dataset']}: {labels}"]
    for method, told in facts["methods"].items():
        line = f"{TITLES.get(method, method)}: {told['test_accuracy']:.1%} of {facts['n']['test']} test images right after the {told['counted']}"
        if told["wrong_true_end"] is not None:
            line += (
                f"; of the wrongly labelled training images {told['wrong_true_peak']:.0%} were predicted as their true class at best, {told['wrong_true_end']:.0%} at the end, "
                f"and {told['wrong_memorized_end']:.0%} as the wrong label; finding them by the targets: average precision {told['audit_average_precision']:.3f}"
            )
        lines.append(line)
    return lines


def draw(runs: Sequence[Run], out_dir: Path) -> None:
    """The figures: memorization and gradients of the first seed, accuracy on test images of all."""
    first = [run for run in runs if run.seed == runs[0].seed]
    shown = {run.method: TITLES.get(run.method, run.method) for run in first}
    with style.drawing():
        for stem, drawn in {
            "memorization": memorization_figure({shown[run.method]: run.shares for run in first}),
            "gradients": gradient_figure({shown[run.method]: run.slopes for run in first}),
            "accuracy": accuracy_figure({shown[m]: [r.history for r in runs if r.method == m] for m in shown}),
        }.items():
            style.save(drawn, out_dir / stem)


def accuracy_figure(histories: dict[str, Sequence[pd.DataFrame]]) -> Figure:
    """Accuracy on test images over training, a line for each seed; make it inside `style.drawing()`.

    Parameters
    ----------
    histories : dict of list of DataFrame
        Of each method, by the name to be shown, the table with epoch and test_accuracy of each seed.
    """
    drawn = style.figure(7.0, 3.2)
    axes, names = drawn.subplots(), list(histories)
    for name, tables in histories.items():
        look = {k: v for k, v in style.model_style(names, name).items() if k != "marker"}
        for place, table in enumerate(tables):
            axes.plot(table["epoch"], 100 * table["test_accuracy"], **look, label=None if place else name)
    axes.set_ylabel("percent of test images right")
    time_axis(axes, iterations=False)
    legend(drawn, axes)
    return drawn
