"""Scores on ROI tables: draws of all runs at once are those of each, and what is asked in advance can be shown."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from elr_mri.config import METHODS, Lab, RoiPhantom, Tables
from elr_mri.errors import BadInput
from elr_mri.findings.bootstrap import weight_chunks
from elr_mri.findings.metrics import weighted_balanced_accuracy
from elr_mri.lab.table_scores import SHOWN, check_draws, differences, draw_accuracies, pairs_of
from elr_mri.lab.tables import tables
from elr_mri.phantom.roi_tables import roi_tables

PLACES = [(share, split, "last") for share in (0.0, 0.2, 0.4) for split in ("test", "external")]


def apart(methods: list[str], draws: int) -> dict:
    """Every method but the first, tuned or not, is better on every draw."""
    first, better = (np.full(3, 0.5), np.full((3, draws), 0.5)), (np.full(3, 0.6), np.full((3, draws), 0.6))
    names = [*methods, *(f"{m} untuned" for m in methods)]
    return {(m, *place): first if m in (methods[0], f"{methods[0]} untuned") else better for m in names for place in PLACES}  # fmt: skip


def test_all_runs_at_once_are_scored_as_each_by_itself() -> None:
    rng = np.random.default_rng(0)
    labels = np.array([0, 0, 1, 1, 1, 2, 2, 2, 0, 2])  # some draws lack a class
    subjects = np.array(list("aabbccddef"))
    said = [rng.normal(size=(10, 3)) for _ in range(4)]
    points, drawn = draw_accuracies(labels, said, subjects, draws=250, seed=3)
    weights = np.concatenate(list(weight_chunks(subjects, draws=250, seed=3)))
    assert ((weights @ (labels[:, None] == np.arange(3))) == 0).any()
    for one, point, draws in zip(said, points, drawn, strict=True):
        np.testing.assert_allclose(draws, weighted_balanced_accuracy(labels, one, weights))
        np.testing.assert_allclose(point, weighted_balanced_accuracy(labels, one, np.ones((1, 10)))[0])


@pytest.mark.parametrize("n_methods", [2, 3, len(METHODS)])
def test_what_is_better_on_every_draw_is_shown_with_the_default_draws(n_methods: int) -> None:
    methods, draws = list(METHODS)[:n_methods], Tables().draws
    told = differences(apart(methods, draws), methods, seed=0, level=0.95)
    asked = told["p_holm"].notna()
    assert (told.loc[asked, "p_holm"] < SHOWN).all()
    assert asked.sum() == 2 * (n_methods - 1) * 4  # two references, two shares above 0, two splits
    assert (told.loc[asked, "share"] > 0).all() and not told.loc[asked, "method"].str.endswith("untuned").any()
    check_draws(methods, (0.0, 0.2, 0.4), 2, draws)


def test_too_few_draws_are_refused_and_those_named_will_do() -> None:
    methods = list(METHODS)
    with pytest.raises(BadInput, match="lab.tables.draws") as caught:
        check_draws(methods, (0.0, 0.2, 0.4), 2, 1000)
    enough = int(re.search(r": (\d+) or more", str(caught.value))[1])
    for draws, shown in ((enough, True), (enough - 1, False)):
        told = differences(apart(methods, draws), methods, seed=0, level=0.95)
        assert (told["p_holm"].min() < SHOWN) == shown
    check_draws(methods, (0.0, 0.2, 0.4), 2, enough)
    check_draws(methods, (0.0,), 2, 100)  # nothing is asked


def test_too_few_draws_are_refused_before_any_training(tmp_path: Path) -> None:
    path = roi_tables(RoiPhantom(n_train=40, n_val=20, n_test=20, n_external=20), tmp_path / "phantom")
    own = Tables(path=str(path), normalise="none", draws=100)
    with pytest.raises(BadInput, match="lab.tables.draws"):
        tables(Lab(tables=own), tmp_path / "out", tell=lambda line: None)
    assert not (tmp_path / "out" / "runs").exists()


def test_the_first_method_is_the_only_reference() -> None:
    asked, told = pairs_of(["ce", "elr"])
    assert asked == [("elr", "ce"), ("elr", "ce untuned")]
    assert told == [("ce", "ce untuned"), ("elr untuned", "ce untuned")]
