"""Intervals hold the truth about as often as they say, in simulated studies; those of scans drawn one by one do not."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from elr_mri import config
from elr_mri.findings.bootstrap import draw, scoring, without_each
from elr_mri.findings.evaluate import compare

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "scores.py"
spec = importlib.util.spec_from_file_location("scores_benchmark", PATH)
scores = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scores)

NAMES = ("balanced_accuracy", "micro_auc", "macro_auc")


def _coverage(**how):
    return scores.coverage(120, n_subjects=60, draws=150, seed=3, names=NAMES, population=15_000, **how)


@pytest.fixture(scope="module")
def by_subject():
    return _coverage()


def test_intervals_over_subjects_cover(by_subject):
    """120 studies, nominal 95 %: below 87 % would be a fault (four deviations)."""
    assert (by_subject[["better", "worse", "difference"]] >= 0.87).all(axis=None), by_subject
    assert by_subject[["better", "worse", "difference"]].to_numpy().mean() < 0.99, by_subject


def test_intervals_over_scans_would_not(by_subject):
    by_scan = _coverage(by_scan=True)
    assert (by_scan[["better", "worse"]] < 0.85).all(axis=None), by_scan
    assert (by_scan["difference"] <= by_subject["difference"]).all(), by_scan


def test_the_plain_loop_and_the_draws_agree(capsys):
    scores.tell_speed(
        scores.arguments().parse_args(["speed", "--scans", "120", "--draws", "30", "--plain", "3", "--no-whole"])
    )
    told = capsys.readouterr().out
    assert float(told.split("largest difference ")[1].split()[0]) < 1e-9


def test_sums_over_subjects_tell_every_score():
    """Those of `metrics.py`, on the draws of `bootstrap.py`, with equal probabilities among them; and so the lines are those of `compare`."""
    group = scores.simulate(np.random.default_rng(5), 30, scores.POPULATIONS["sure"])
    said = {name: values.round(2) for name, values in group.predictions.items()}
    group = replace(group, predictions=said)
    measure = scoring(group.labels, list(said.values()), list(group.logits.values()))
    points, drawn, without = scores._scored(group, draws=130, seed=7)
    np.testing.assert_allclose(points, measure(np.ones((1, len(group.labels))))[..., 0], atol=1e-12)
    np.testing.assert_allclose(drawn, draw(measure, group.subjects, draws=130, seed=7), atol=1e-12)
    np.testing.assert_allclose(without, without_each(measure, group.subjects), atol=1e-12)
    told = scores.lines(group, points, drawn, without, level=0.95)
    for ours, own in zip(told, compare(group, config.Evaluate(draws=130, seed=7)), strict=True):
        pd.testing.assert_frame_equal(pd.DataFrame(ours), pd.DataFrame(own), atol=1e-9)


def test_the_methods_compared_are_those_of_evaluate_and_their_textbooks():
    """The widened percentiles are `evaluate`'s own on the same studies; of normal draws all ways agree."""
    size = {"n_subjects": 30, "draws": 100, "seed": 4, "names": ("balanced_accuracy", "ece"), "population": 5000}
    table, own = scores.compared(8, **size), scores.coverage(8, **size)
    pd.testing.assert_frame_equal(table.xs("widened", level="method"), own, check_names=False)
    assert list(table.index.get_level_values("method").unique()) == list(scores.METHODS)
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    means = rng.choice(values, (4000, 400)).mean(axis=1)
    without = (values.sum() - values) / 399
    spans = np.array(scores.spans_of(values.mean(), means, without, means, level=0.95))
    expected = values.mean() + 1.96 * values.std() / 20 * np.array([-1, 1])
    np.testing.assert_allclose(spans, np.tile(expected, (len(scores.METHODS), 1)), atol=0.01)


def test_a_score_that_few_subjects_move_is_covered_better_than_by_expanded_percentiles():
    """Log-loss of models that are far too sure, 160 studies of 30 subjects: the same draws, ends further out."""
    size = {"n_subjects": 30, "draws": 300, "seed": 11, "names": ("log_loss",), "population": 15_000}
    table = scores.compared(160, **size, like=scores.POPULATIONS["sure"])[["better", "worse", "difference"]]
    plain, expanded, widened = (table.loc["log_loss", name] for name in ("percentiles", "expanded", "widened"))
    assert (plain <= expanded).all() and (expanded <= widened).all(), table
    assert widened.mean() > expanded.mean() + 0.01, table
