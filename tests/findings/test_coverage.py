"""Intervals hold the truth about as often as they say, in simulated studies; those of scans drawn one by one do not."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

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


def test_the_methods_compared_are_those_of_evaluate_and_their_textbooks():
    """The expanded percentiles are `evaluate`'s own on the same studies; of normal draws all four ways agree."""
    size = {"n_subjects": 30, "draws": 100, "seed": 4, "names": ("balanced_accuracy", "ece"), "population": 5000}
    table, own = scores.compared(8, **size), scores.coverage(8, **size)
    pd.testing.assert_frame_equal(table.xs("expanded", level="method"), own, check_names=False)
    assert list(table.index.get_level_values("method").unique()) == list(scores.METHODS)
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    means = rng.choice(values, (4000, 400)).mean(axis=1)
    without = (values.sum() - values) / 399
    spans = np.array(scores.spans_of(values.mean(), means, without, means, level=0.95, n_subjects=400))
    expected = values.mean() + 1.96 * values.std() / 20 * np.array([-1, 1])
    np.testing.assert_allclose(spans, np.tile(expected, (4, 1)), atol=0.01)
