"""The figures of memorization show the tables: every method's column, every line with its values, nothing invented."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from elr_mri.config import METHODS
from elr_mri.findings import style
from elr_mri.lab.curves import gradients, memorization
from elr_mri.lab.figures import gradient_figure, memorization_figure, scores_figure

rng = np.random.default_rng(0)
SAID = rng.dirichlet(np.ones(3), size=(6, 20))
TRUE = np.arange(20) % 3
GIVEN = np.where(np.arange(20) < 8, (TRUE + 1) % 3, TRUE)


def drawn_lines(axes: Axes) -> dict[str, np.ndarray]:
    return {line.get_label(): line.get_ydata() for line in axes.get_lines()}


def test_every_share_is_drawn_as_it_is_in_the_table() -> None:
    tables = {"Cross-entropy": memorization(SAID, TRUE, GIVEN), "ELR": memorization(SAID[::-1], TRUE, GIVEN)}
    with style.drawing():
        figure = memorization_figure(tables)
    axes = np.array(figure.axes).reshape(2, 2)
    assert [a.get_title(loc="left") for a in axes[0]] == list(tables)
    for column, table in zip(axes.T, tables.values(), strict=True):
        clean, wrong = (table[table["group"] == group] for group in ("clean", "wrong"))
        assert len(drawn_lines(column[0])) == 2 and len(drawn_lines(column[1])) == 3
        np.testing.assert_allclose(drawn_lines(column[0])["the true class"], 100 * clean["true"])
        np.testing.assert_allclose(drawn_lines(column[1])["the true class"], 100 * wrong["true"])
        np.testing.assert_allclose(drawn_lines(column[1])["the given wrong class (memorized)"], 100 * wrong["given"])
        np.testing.assert_allclose(drawn_lines(column[1])["another class"], 100 * wrong["other"])


def test_every_gradient_is_drawn_and_the_part_of_cross_entropy_where_there_is_another() -> None:
    tables = {name: gradients(SAID, TRUE, GIVEN, METHODS[name]) for name in ("ce", "elr")}
    with style.drawing():
        figure = gradient_figure(tables)
    plain, held = figure.axes
    assert set(drawn_lines(plain)) == {"right label", "wrong label"}
    table = tables["elr"][tables["elr"]["group"] == "wrong"]
    np.testing.assert_allclose(drawn_lines(held)["wrong label"], table["gradient"])
    np.testing.assert_allclose(drawn_lines(held)["wrong label, cross-entropy's part"], table["entropy"])
    assert len(figure.legends[0].get_texts()) == 4


def test_a_group_without_examples_is_told() -> None:
    with style.drawing():
        figure = memorization_figure({"CE": memorization(SAID, TRUE, TRUE)})
    assert [text.get_text() for text in figure.axes[1].texts] == ["no such example"] and not figure.axes[0].texts


@pytest.mark.parametrize(("iterations", "scale"), [(False, "linear"), (True, "log")])
def test_iterations_have_a_logarithmic_axis(iterations: bool, scale: str) -> None:
    table = memorization(SAID, TRUE, GIVEN)
    with style.drawing():
        axes = memorization_figure({"CE": table}, iterations=iterations).axes[-1]
    assert iterations or all(tick == round(tick) for tick in axes.get_xticks())
    assert axes.get_xscale() == scale and axes.get_xlabel() == ("iteration" if iterations else "epoch")


def scored(shares: list[float], n_seeds: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = [(share, model, seed) for share in shares for model in ("ce", "elr", "sop") for seed in range(n_seeds)]
    seeds = pd.DataFrame(rows, columns=["share", "method", "seed"]).assign(cohort="ADNI", split="test")
    seeds["balanced_accuracy"] = 0.4 + 0.01 * np.arange(len(seeds))
    means = seeds.groupby(["share", "method"], sort=False)["balanced_accuracy"].mean().rename("value").reset_index()
    means = means.rename(columns={"method": "model"}).assign(cohort="ADNI", split="test", metric="balanced_accuracy")
    return means.assign(low=means["value"] - 0.1, high=means["value"] + 0.1), seeds


@pytest.mark.parametrize("shares", [[0.4], [0.0, 0.05, 0.4]])
def test_scores_stand_at_the_shares_that_there_are(shares: list[float]) -> None:
    """The axis names the shares and nothing between them; every method is nearer to its own share than to another."""
    results, seeds = scored(shares, 3)
    with style.drawing():
        (axes,) = scores_figure(results, "balanced_accuracy", seeds).axes
    assert list(axes.get_xticks()) == list(range(len(shares))) and axes.get_xlim() == (-0.5, len(shares) - 0.5)
    assert [text.get_text() for text in axes.get_xticklabels()] == [f"{100 * share:g}" for share in shares]
    lines = [box.lines[0] for box in axes.containers]
    assert len(lines) == 3
    for line, model in zip(lines, ("ce", "elr", "sop"), strict=True):
        assert np.abs(line.get_xdata() - np.arange(len(shares))).max() < 0.4
        heights = 100 * results.loc[results["model"] == model, "value"].to_numpy()
        np.testing.assert_allclose(np.asarray(line.get_ydata(), dtype=float), heights)
    assert len({tuple(line.get_xdata()) for line in lines}) == 3
    np.testing.assert_allclose(single_points(axes), np.sort(100 * seeds["balanced_accuracy"]))


def single_points(axes: Axes) -> np.ndarray:
    """Heights of the points of single seeds."""
    clouds = [cloud for cloud in axes.collections if isinstance(cloud, PathCollection)]
    return np.sort(np.concatenate([np.asarray(cloud.get_offsets())[:, 1] for cloud in clouds]).astype(float))


def test_one_seed_is_not_drawn_twice() -> None:
    results, seeds = scored([0.4], 1)
    with style.drawing():
        (axes,) = scores_figure(results, "balanced_accuracy", seeds).axes
    assert len(single_points(axes)) == 0
