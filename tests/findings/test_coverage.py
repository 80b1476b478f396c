"""Intervals hold the truth about as often as they say, in simulated studies; those of scans drawn one by one do not."""

import importlib.util
from pathlib import Path

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
