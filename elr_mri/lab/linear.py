"""`lab linear`: both phases of training with wrong labels in the simplest model that has them, what theory says of them, and what ELR changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from elr_mri import provenance
from elr_mri.config import Linear, Loss
from elr_mri.errors import BadInput
from elr_mri.findings import style
from elr_mri.lab.curves import gradients, has_gradients, memorization
from elr_mri.lab.descent import Descent, Sample, autograd_difference, descend, expected_cosine, sample
from elr_mri.lab.figures import GROUPS, gradient_figure, grid, legend, memorization_figure, time_axis
from elr_mri.scans.cells import write_tsv

VERSION = 1

#: How the methods are called in figures; another name is shown as it is.
TITLES = {"ce": "Cross-entropy", "elr": "ELR"}
#: Of a descent: its first iteration, the one where early learning is at its height, and the last.
MOMENTS = ("start", "peak", "end")


def linear(settings: Linear, methods: Mapping[str, Loss], *, out_dir: Path) -> dict[str, Any]:
    """Descend with each method on the same examples; write tables, figures and `findings.json`, and say in a line what each did.

    ELR's targets are not aligned here: the two classes are equally many, and nothing lies between them to be forgotten.
    """
    methods = {name: _unaligned(loss) for name, loss in methods.items()}
    if bad := [name for name, loss in methods.items() if not has_gradients(loss)]:
        raise BadInput(
            expected="methods whose gradient has a closed form: cross-entropy, label smoothing, elr with its own outputs as targets",
            got=bad[0],
            where="lab.linear.methods",
            fix="Leave it out.",
        )
    if stops := [name for name, loss in methods.items() if loss.patience is not None]:
        raise BadInput(
            expected="methods that follow the whole descent, which has no validation to stop by",
            got=f"{stops[0]}, with patience",
            where="lab.linear.methods",
            fix="Leave it out.",
        )
    data = sample(settings, settings.sigma)
    descents = {name: descend(data, settings, loss) for name, loss in methods.items()}
    shares = {name: memorization(told.said, data.true, data.given) for name, told in descents.items()}
    slopes = {name: gradients(told.said, data.true, data.given, methods[name]) for name, told in descents.items()}
    paths = {name: follow(data, told) for name, told in descents.items()}
    ends = sweep(settings, methods)
    findings = {
        "examples": len(data.true),
        "wrong": int((data.true != data.given).sum()),
        "cosine_expected": round(expected_cosine(settings, settings.sigma), 4),
        "methods": {
            name: outcome(data, told, methods[name], shares[name], slopes[name], paths[name])
            for name, told in descents.items()
        },
    }
    for name, tables in {"shares": shares, "gradients": slopes, "direction": paths}.items():
        _write(pd.concat([table.assign(method=method) for method, table in tables.items()]), out_dir / f"{name}.tsv")
    _write(ends, out_dir / "sigmas.tsv")
    shown = {name: TITLES.get(name, name) for name in methods}
    with style.drawing():
        for stem, drawn in {
            "shares": memorization_figure({shown[k]: t for k, t in shares.items()}, iterations=True),
            "gradients": gradient_figure({shown[k]: binned(t) for k, t in slopes.items()}, iterations=True),
            "direction": direction_figure({shown[k]: binned(t) for k, t in paths.items()}),
            "sigmas": sigma_figure(ends.replace({"method": shown}), settings.sigma),
        }.items():
            style.save(drawn, out_dir / stem)
    provenance.write_json(out_dir / "findings.json", findings)
    provenance.record(out_dir / "findings.json", step="lab linear", version=VERSION, inputs={}, settings=settings)
    for line in told_in_words(findings, shown):
        print(line)
    return findings


def follow(data: Sample, told: Descent) -> pd.DataFrame:
    """How the descent stands to the true direction v, by iteration (from 1).

    Returns
    -------
    DataFrame
        epoch, pull_clean and pull_wrong (the part of the step that either group makes, along the unit vector (−v, v)/√2 of both classes' weights),
        step_cosine and weights_cosine (with v), new_accuracy (share of new examples that are predicted right).
    """
    step = told.steps.sum(axis=1)
    direction = told.weights[:, 1] - told.weights[:, 0]
    guesses = direction @ data.new_x.T > 0
    return pd.DataFrame(
        {
            "epoch": np.arange(1, len(step) + 1),
            "pull_clean": told.steps[:, 0] @ data.v * np.sqrt(2),
            "pull_wrong": told.steps[:, 1] @ data.v * np.sqrt(2),
            "step_cosine": step @ data.v / np.linalg.norm(step, axis=1),
            "weights_cosine": direction @ data.v / np.linalg.norm(direction, axis=1),
            "new_accuracy": (guesses == data.new_true).mean(axis=1),
        }
    )


def _unaligned(loss: Loss) -> Loss:
    """The same loss with targets as they are."""
    if loss.elr is None or not loss.elr.align:
        return loss
    return loss.model_copy(update={"elr": loss.elr.model_copy(update={"align": False})})


def outcome(
    data: Sample, told: Descent, loss: Loss, shares: pd.DataFrame, slopes: pd.DataFrame, path: pd.DataFrame
) -> dict[str, Any]:
    """Start, height of early learning and end of one descent (the end's gradients: mean over the last tenth of the iterations), and how far its closed
    form is from torch's gradient."""
    wrong = shares[shares["group"] == "wrong"].reset_index(drop=True)
    by_group = slopes.pivot(index="epoch", columns="group", values="gradient").reset_index(drop=True)
    by_group.iloc[-1] = by_group.iloc[-max(1, len(by_group) // 10) :].mean()
    peak = int(wrong["true"].fillna(0).argmax())
    moments = dict(zip(MOMENTS, (0, peak, len(wrong) - 1), strict=True))
    found = {
        moment: {
            "wrong_predicted_true": wrong.loc[i, "true"],
            "wrong_memorized": wrong.loc[i, "given"],
            "gradient_clean": by_group.loc[i, "clean"],
            "gradient_wrong": by_group.loc[i, "wrong"],
            "new_accuracy": path.loc[i, "new_accuracy"],
            "autograd_difference": autograd_difference(data, told, loss, i),
        }
        for moment, i in moments.items()
    }
    plain = {m: {k: None if np.isnan(v) else float(f"{v:.4g}") for k, v in facts.items()} for m, facts in found.items()}
    for moment, i in moments.items():
        plain[moment]["iteration"] = i + 1
    return plain | {"first_step_cosine": round(float(path.loc[0, "step_cosine"]), 4)}


def sweep(settings: Linear, methods: Mapping[str, Loss]) -> pd.DataFrame:
    """The end of the descent at other spreads sigma of the examples: what early learning can reach decides what ELR can keep."""
    rows = []
    for sigma in settings.sigmas:
        data = sample(settings, sigma)
        for name, loss in methods.items():
            told = descend(data, settings, loss)
            wrong = memorization(told.said, data.true, data.given).query("group == 'wrong'")["true"]
            accuracy = follow(data, told)["new_accuracy"]
            rows.append((sigma, name, wrong.max(), wrong.iloc[-1], accuracy.max(), accuracy.iloc[-1]))
    names = ["sigma", "method", "wrong_true_peak", "wrong_true_end", "new_accuracy_peak", "new_accuracy_end"]
    return pd.DataFrame(rows, columns=names)


def told_in_words(findings: dict[str, Any], shown: Mapping[str, str]) -> list[str]:
    """A line for each method, and one of the checks."""
    lines = []
    for name, found in findings["methods"].items():
        start, peak, end = (found[moment] for moment in MOMENTS)
        if end["wrong_predicted_true"] is None:
            lines.append(
                f"{shown[name]}: no label is wrong; {end['new_accuracy']:.0%} of new examples right at the end."
            )
            continue
        lines.append(
            f"{shown[name]}: of {findings['wrong']} examples with a wrong label, {start['wrong_predicted_true']:.0%} are predicted as their true class "
            f"at the start, {peak['wrong_predicted_true']:.0%} after {peak['iteration']} iterations (early learning) and {end['wrong_predicted_true']:.0%} at the end, "
            f"where {end['wrong_memorized']:.0%} repeat the wrong label (memorization); new examples right: {peak['new_accuracy']:.0%}, at the end {end['new_accuracy']:.0%}."
        )
    told = [found[moment]["autograd_difference"] for found in findings["methods"].values() for moment in MOMENTS]
    worst = max(difference for difference in told if difference is not None)
    cosine = next(iter(findings["methods"].values()))["first_step_cosine"]
    lines.append(
        f"Checks: closed form and computed gradients differ by {worst:.1g} of their size at most; the first step's cosine with the true direction is "
        f"{cosine:.2f} (theory: {findings['cosine_expected']:.2f})."
    )
    return lines


def direction_figure(paths: Mapping[str, pd.DataFrame]) -> Figure:
    """Which examples pull the weights towards the true direction v, and how close to it they come; make it inside `style.drawing()`."""
    drawn, panels = grid(list(paths), n_rows=2)
    for (method, path), (above, below) in zip(paths.items(), panels.T, strict=True):
        for (_, words, colour, dash), column in zip(GROUPS, ("pull_clean", "pull_wrong"), strict=True):
            above.plot(
                path["epoch"], path[column], color=colour, linestyle=dash, label=f"pull of examples with a {words}"
            )
        above.axhline(0, color=style.QUIET, linewidth=0.7)
        for column, label, (colour, _, dash) in zip(
            ("weights_cosine", "new_accuracy"), ("cosine of the weights with v", "share of new examples right"),
            (style.MODEL_STYLES[4], style.MODEL_STYLES[2]), strict=True,
        ):  # fmt: skip
            below.plot(path["epoch"], path[column], color=colour, linestyle=dash, label=label)
        above.set_title(method)
        below.set_ylim(-0.02, 1.02)
        time_axis(below, iterations=True)
    panels[0, 0].set_ylabel("pull along the\ntrue direction v")
    panels[1, 0].set_ylabel("how well v is found")
    legend(drawn, *panels[:, 0])
    return drawn


def sigma_figure(ends: pd.DataFrame, sigma: float) -> Figure:
    """What is right at the end at each spread of the examples: wrongly labelled training examples, and new ones; make it inside `style.drawing()`."""
    drawn = style.figure(7.2, 3.0)
    panels = drawn.subplots(1, 2, sharey=True)
    models = list(dict.fromkeys(ends["method"]))
    titles = ("training examples with a wrong label", "new examples")
    for axes, kind, title in zip(panels, ("wrong_true", "new_accuracy"), titles, strict=True):
        for method, rows in ends.groupby("method", sort=False):
            look = style.model_style(models, method)
            axes.plot(rows["sigma"], 100 * rows[f"{kind}_end"], **look, markersize=5, label=method)
        axes.axvline(sigma, color=style.QUIET, linewidth=0.9, linestyle=(0, (3, 3)))
        axes.set(title=title, xlabel="spread σ of the examples (|v| = 1)", ylim=(-3, 103))
    panels[0].set_ylabel("percent predicted as the\ntrue class at the end")
    legend(drawn, panels[0])
    return drawn


def binned(table: pd.DataFrame) -> pd.DataFrame:
    """Means over bins of iterations, each a tenth longer than the one before, for figures: late gradients flicker (see `descent.py`)."""
    bins = np.log(table["epoch"]) // np.log(1.1)
    groups = ["group"] if "group" in table else []
    return table.groupby([*groups, bins.rename("bin")], sort=False).mean().reset_index()


def _write(table: pd.DataFrame, path: Path) -> None:
    """Write a table atomically; an epoch is an iteration here."""
    table = table.rename(columns={"epoch": "iteration"}).round(6)
    first = [name for name in ("method", "iteration") if name in table]
    with provenance.atomic(path) as draft:
        write_tsv(table[[*first, *(name for name in table if name not in first)]], draft)
