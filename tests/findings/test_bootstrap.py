"""The bootstrap resamples subjects, pairs the models, and its intervals cover what they claim."""

import numpy as np
import pytest
from scipy.stats import norm, t

from elr_mri.findings.bootstrap import (
    _few,
    draw_scores,
    interval,
    p_value,
    scoring,
    weight_chunks,
    without_each,
)
from elr_mri.findings.metrics import METRICS, score

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


def _sample(values, draws=20_000):
    """Draws of a mean, and the means without each value."""
    n = len(values)
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=draws) @ values / n
    return drawn, (values.sum() - values) / (n - 1)


def _normal(n):
    """n values as normal as they can be, of mean 0 and standard deviation 1."""
    values = norm.ppf((np.arange(n) + 0.5) / n)
    return values / values.std(ddof=1)


def test_few_subjects_have_wider_intervals():
    """Of a mean of normal values the ends are Student's own, to what the draws leave open."""
    for n in (12, 96):
        drawn, without = _sample(_normal(n))
        low, high = interval(drawn, level=0.95, without=without)
        assert (low, high) == pytest.approx(t.ppf([0.025, 0.975], n - 1) / np.sqrt(n), rel=0.05)
        plain = interval(drawn, level=0.95)
        assert low < plain[0] < plain[1] < high


def test_a_mean_is_widened_by_what_the_bootstrap_leaves_out():
    """√(n / (n − 1)) by theory; the degrees of freedom are those of the mean's variance: n − 1, fewer of values with long tails."""
    for n in (12, 96):
        widening, freedom = _few(*_sample(_normal(n)))
        assert widening == pytest.approx(np.sqrt(n / (n - 1)), abs=0.015) and freedom == n - 1
    rng = np.random.default_rng(1)
    tails = rng.standard_t(8, size=(20_000, 40))
    known = 2 * tails.var(axis=1, ddof=1).mean() ** 2 / tails.var(axis=1, ddof=1).var()
    told = np.median([_few(row, (row.sum() - row) / 39)[1] for row in tails[:400]])
    assert known < told < 39  # a sample shows its tails only in part
    one_counts = np.r_[np.zeros(39), 40.0]
    assert 2 < _few(*_sample(one_counts))[1] < 2.5


def test_a_score_that_nobody_moves_is_widened_as_a_mean():
    assert _few(np.ones(50), np.ones(10)) == pytest.approx((np.sqrt(10 / 9), 9))
    assert interval(np.ones(50), level=0.95, without=np.ones(10)) == (1, 1)


def test_ends_stay_within_what_the_draws_reach():
    right = np.r_[np.ones(28), 0, 0]
    drawn, without = _sample(right)
    low, high = interval(drawn, level=0.999, without=without)
    assert 0 <= low < right.mean() < high <= 1


def test_one_subject_or_none_to_leave_out_has_no_interval():
    drawn = np.random.default_rng(0).normal(size=200)
    for without in (np.array([np.nan]), np.array([1.0]), np.array([np.nan, 1, np.nan])):
        assert np.isnan([*interval(drawn, level=0.95, without=without), p_value(drawn, without=without)]).all()


def test_p_value_is_where_the_interval_reaches_zero():
    for n in (12, 96):
        for spread in (_normal(n), _normal(n) ** 3):
            drawn, without = _sample(spread + 2.05 * spread.std() / np.sqrt(n))
            p = p_value(drawn, without=without)
            assert p > p_value(drawn)
            assert interval(drawn, level=1 - p, without=without)[0] == pytest.approx(0, abs=0.02 * drawn.std())
            assert p_value(-drawn, without=-without) == p


def test_leaving_out_each_subject_is_scoring_the_others():
    rng = np.random.default_rng(6)
    labels, probabilities, subjects = (
        rng.integers(0, 3, 400),
        rng.dirichlet(np.ones(3), 400),
        rng.integers(0, 130, 400).astype(str),
    )
    without = without_each(scoring(labels, [probabilities]), subjects)[0]
    names = np.unique(subjects)
    assert without.shape == (len(METRICS), len(names))
    for place in (0, 57, len(names) - 1):
        others = subjects != names[place]
        expected = score(labels[others], probabilities[others])
        np.testing.assert_allclose(without[:, place], list(expected.values()))


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
