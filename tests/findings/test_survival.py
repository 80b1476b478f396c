"""Survival statistics against a published worked example, closed forms and simulated cohorts whose hazard is known."""

import numpy as np
import pytest

from elr_mri.findings.survival import concordance, hazard_ratio, kaplan_meier

#: Weeks of remission of 21 leukemia patients on 6-mercaptopurine and 21 on placebo (Freireich et al., Blood 1963); `+` censored.
TREATED = [
    "6",
    "6",
    "6",
    "7",
    "10",
    "13",
    "16",
    "22",
    "23",
    "6+",
    "9+",
    "10+",
    "11+",
    "17+",
    "19+",
    "20+",
    "25+",
    "32+",
    "32+",
    "34+",
    "35+",
]
PLACEBO = [
    "1",
    "1",
    "2",
    "2",
    "3",
    "4",
    "4",
    "5",
    "5",
    "8",
    "8",
    "8",
    "8",
    "11",
    "11",
    "12",
    "12",
    "15",
    "17",
    "22",
    "23",
]


def _read(told):
    return np.array([float(t.rstrip("+")) for t in told]), np.array([not t.endswith("+") for t in told])


def _simulated(rng, n, slope, censoring=0.5):
    """Exponential times whose log hazard rises by `slope` per unit of risk, censored at exponential times and at 5."""
    risk = rng.normal(size=n)
    times = rng.exponential(1 / (0.3 * np.exp(slope * risk)))
    ends = np.minimum(rng.exponential(1 / (0.3 * censoring), n), 5)
    return np.minimum(times, ends), times <= ends, risk


def test_the_curve_is_the_textbook_s():
    curve = kaplan_meier(*_read(TREATED), level=0.95)
    assert list(curve["years"]) == [0, 6, 7, 10, 13, 16, 22, 23, 35]
    assert curve["survival"] == pytest.approx([1, 0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448, 0.448], abs=5e-4)
    assert list(curve["at_risk"]) == [21, 21, 17, 15, 12, 11, 7, 6, 1]
    greenwood = 0.857143 * np.sqrt(3 / (21 * 18))
    factor = np.exp(1.959964 * greenwood / (0.857143 * abs(np.log(0.857143))))
    bounds = 0.857143**factor, 0.857143 ** (1 / factor)
    assert (curve["low"][1], curve["high"][1]) == pytest.approx(bounds, abs=1e-5)


def test_the_hazard_ratio_is_the_published_one_with_efron_s_ties():
    """Cox (1972) analysed these data; with Efron's ties the coefficient is 1.572 with standard error 0.412 (R survival, coxph)."""
    (years, event), placebo = _read(TREATED + PLACEBO), np.repeat([0.0, 1.0], 21)
    found, spread = hazard_ratio(years, event, placebo, level=0.95), placebo.std(ddof=1)
    assert np.log(found.value) / spread == pytest.approx(1.5721, abs=5e-4)
    assert np.log(found.high / found.low) / (2 * 1.959964) / spread == pytest.approx(0.4124, abs=5e-4)


def test_the_hazard_ratio_covers_the_truth_as_often_as_it_says():
    """200 cohorts of 100 with about a third censored: a true 95 % gives 89.5 to 99.5 % of hits in 998 of 1,000 such tests."""
    rng, truth, hits, slopes = np.random.default_rng(0), np.log(2), 0, []
    for _ in range(200):
        years, event, risk = _simulated(rng, 100, truth)
        found = hazard_ratio(years, event, risk, level=0.95)
        low, high = (np.log(x) / risk.std(ddof=1) for x in (found.low, found.high))
        hits += low <= truth <= high
        slopes.append(np.log(found.value) / risk.std(ddof=1))
    assert 0.895 <= hits / 200 <= 0.995
    assert np.mean(slopes) == pytest.approx(truth, abs=0.05)


def test_who_is_censored_counts_while_at_risk_and_not_after():
    """Of exponential times with as many censored as not the curve stays at the truth; taking the censored for healthy, or leaving them out, would not."""
    years, event, _ = _simulated(np.random.default_rng(1), 4000, 0.0, censoring=1.0)
    curve = kaplan_meier(years, event, level=0.95)
    at_3 = curve["survival"][np.searchsorted(curve["years"], 3.0) - 1]
    truth, healthy, left_out = np.exp(-0.9), 1 - (event & (years <= 3)).mean(), (years[event] > 3).mean()
    assert at_3 == pytest.approx(truth, abs=0.03)
    assert healthy > truth + 0.1 and left_out < truth - 0.1


def test_age_is_held_fixed():
    rng = np.random.default_rng(2)
    age = rng.normal(size=2000)
    risk = age + rng.normal(size=2000)  # tells of nothing but age
    times = rng.exponential(1 / np.exp(age))
    event = np.ones(2000, bool)
    assert hazard_ratio(times, event, risk, level=0.95).low > 1.3
    given_age = hazard_ratio(times, event, risk, age, level=0.95)
    assert given_age.low < 1 < given_age.high or given_age.value == pytest.approx(1, abs=0.1)


def test_no_ratio_where_the_likelihood_has_no_maximum():
    years, event = np.arange(1.0, 13), np.arange(12) < 6
    assert np.isnan(hazard_ratio(years, event, event.astype(float), level=0.95)).all()
    assert np.isnan(hazard_ratio(years, event, np.ones(12), level=0.95)).all()


def test_concordance_counts_the_pairs_whose_order_is_known():
    years, event = np.array([1.0, 2, 2, 3]), np.array([True, True, False, False])
    once = np.ones((1, 4))
    # pairs known: 1 before each of the three others; the event at 2 before the censored at 2 and the one at 3
    for risk, right in (([4, 3, 2, 1], 5), ([1, 2, 3, 4], 0), ([1, 4, 2, 3], 2), ([1, 1, 1, 1], 2.5)):
        assert concordance(years, event, np.array(risk), once)[0] == pytest.approx(right / 5)
    assert np.isnan(concordance(years, np.zeros(4, bool), years, once)[0])


def test_weights_are_copies_of_subjects():
    rng = np.random.default_rng(3)
    years, event, risk = _simulated(rng, 30, 1.0)
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=5).astype(float)
    for drawn, weight in zip(concordance(years, event, risk, weights), weights, strict=True):
        rows = np.repeat(np.arange(30), weight.astype(int))
        again = concordance(years[rows], event[rows], risk[rows], np.ones((1, 30)))[0]
        assert drawn == pytest.approx(again)
    auc_like = concordance(years, event, risk, np.ones((1, 30)))[0]
    assert auc_like > 0.6 and concordance(years, event, -risk, np.ones((1, 30)))[0] == pytest.approx(1 - auc_like)
