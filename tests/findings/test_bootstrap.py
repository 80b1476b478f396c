"""The bootstrap resamples subjects, pairs the models, and its intervals cover what they claim."""

import numpy as np
import pytest

from elr_mri.findings.bootstrap import draw_scores, interval, p_value, weight_chunks
from elr_mri.findings.metrics import METRICS

ACCURACY = METRICS.index("accuracy")


def _weights(subjects, draws=300, seed=0):
    return np.vstack(list(weight_chunks(subjects, draws=draws, seed=seed)))


def test_all_scans_of_a_subject_are_drawn_together():
    subjects = np.array(["a", "b", "a", "c", "b", "a", "d"])
    weights = _weights(subjects)
    assert weights.shape == (300, 7)
    for name in "abcd":
        own = weights[:, subjects == name]
        assert (own == own[:, :1]).all()
    first = [list(subjects).index(name) for name in "abcd"]
    assert (weights[:, first].sum(axis=1) == 4).all()
    assert weights[:, 0].std() > 0.5


def _clustered(rng, n_subjects, n_visits):
    """Subjects that are wholly right or wholly wrong: the scans of a subject tell one thing."""
    labels = np.repeat(np.arange(n_subjects) % 3, n_visits)
    right = np.repeat(rng.random(n_subjects) < 0.6, n_visits)
    probabilities = np.eye(3)[np.where(right, labels, (labels + 1) % 3)] * 0.9 + 0.03
    return labels, probabilities, np.repeat(np.arange(n_subjects), n_visits).astype(str), right.mean()


def test_alike_visits_do_not_narrow_the_interval():
    """Five copies of each visit carry no information; a bootstrap of scans would shrink the interval by √5."""
    rng = np.random.default_rng(1)
    labels, probabilities, subjects, _ = _clustered(rng, 60, 1)
    once = draw_scores(labels, [probabilities], subjects, draws=1500, seed=0)[0, ACCURACY]
    many = draw_scores(
        np.repeat(labels, 5),
        [np.repeat(probabilities, 5, axis=0)],
        np.repeat(subjects, 5),
        draws=1500,
        seed=0,
    )[0, ACCURACY]
    assert many.std() == pytest.approx(once.std(), rel=1e-9)
    as_scans = draw_scores(
        np.repeat(labels, 5),
        [np.repeat(probabilities, 5, axis=0)],
        np.arange(300).astype(str),
        draws=1500,
        seed=0,
    )[0, ACCURACY]
    assert as_scans.std() < 0.6 * many.std()


def test_models_are_paired_on_the_same_draws():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 90)
    one, other = rng.dirichlet(np.ones(3), (2, 90))
    subjects = rng.integers(0, 30, 90).astype(str)
    scores = draw_scores(labels, [one, one, other], subjects, draws=200, seed=3)
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] - scores[2]).std() > 0


def test_same_seed_same_draws_and_another_seed_others():
    rng = np.random.default_rng(4)
    labels, probabilities, subjects = (
        rng.integers(0, 3, 50),
        rng.dirichlet(np.ones(3), 50),
        rng.integers(0, 20, 50).astype(str),
    )
    first, again, other = (draw_scores(labels, [probabilities], subjects, draws=150, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_interval_is_the_percentiles_and_knows_when_it_knows_nothing():
    assert interval(np.arange(1001.0), level=0.9) == pytest.approx((50, 950))
    mostly_undefined = np.full(100, np.nan)
    mostly_undefined[:40] = 0.5
    assert np.isnan(interval(mostly_undefined, level=0.95)).all()


def test_few_subjects_have_wider_intervals_and_p_values_that_agree():
    draws = np.random.default_rng(0).normal(2.05, 1, 20_000)
    plain, many, few = (interval(draws, level=0.95, n_subjects=n) for n in (None, 10**6, 12))
    assert many == pytest.approx(plain, abs=1e-3) and few[0] < plain[0] < plain[1] < few[1]
    # of normal draws these are the limits of Student's t for the mean of 12
    assert few == pytest.approx(2.05 + np.array([-1, 1]) * 2.201 * np.sqrt(12 / 11), abs=0.06)
    assert p_value(draws) < 0.05 < p_value(draws, n_subjects=12)
    for n in (12, 96):
        level = 1 - p_value(draws, n_subjects=n)
        assert interval(draws, level=level, n_subjects=n)[0] == pytest.approx(0, abs=0.01)
    assert np.isnan([*interval(draws, level=0.95, n_subjects=1), p_value(draws, n_subjects=1)]).all()


def test_intervals_cover_the_truth():
    """Nominal 95 %; 200 simulated studies, so an observed share below 88 % would be a fault."""
    rng, hits = np.random.default_rng(5), 0
    for study in range(200):
        labels, probabilities, subjects, _ = _clustered(rng, 60, 3)
        low, high = interval(
            draw_scores(labels, [probabilities], subjects, draws=300, seed=study)[0, ACCURACY], level=0.95
        )
        hits += low <= 0.6 <= high
    assert 0.88 <= hits / 200 <= 0.995
