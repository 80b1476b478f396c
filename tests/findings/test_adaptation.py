"""Shares of the classes are found without labels, and alignment takes out a shift without taking out health."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from elr_mri.findings import adaptation

MEANS = np.array([[0.0, 0.0], [1.5, 0.0], [3.0, 0.0]])
BEFORE = np.array([0.3, 0.4, 0.3])


def logits(features):
    """The true posterior of unit normals about `MEANS` at the shares `BEFORE`: calibrated by construction."""
    squares = ((features[:, None, :] - MEANS) ** 2).sum(axis=2)
    return log_softmax(np.log(BEFORE) - squares / 2, axis=1)


def draw(shares, n=4000, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=n, p=shares)
    return MEANS[labels] + rng.normal(size=(n, 2)), labels


@pytest.mark.parametrize("shares", [(0.3, 0.4, 0.3), (0.7, 0.2, 0.1), (0.1, 0.1, 0.8)])
def test_em_finds_the_shares_of_unlabelled_scans(shares):
    features, labels = draw(shares)
    found = adaptation.class_shares(softmax(logits(features), axis=1), BEFORE)
    np.testing.assert_allclose(found, np.bincount(labels) / len(labels), atol=0.04)
    likelihood = [
        np.log((softmax(logits(features), axis=1) * (np.asarray(s) / BEFORE)).sum(axis=1)).mean()
        for s in (found, BEFORE, np.roll(found, 1))
    ]
    assert likelihood[0] >= max(likelihood)


def test_moved_probabilities_are_those_of_the_other_shares():
    features, labels = draw((0.7, 0.2, 0.1))
    other = np.array([0.7, 0.2, 0.1])
    said = softmax(adaptation.moved(logits(features), BEFORE, other), axis=1)
    np.testing.assert_allclose(said.mean(axis=0), other, atol=0.03)
    own = np.log(said[np.arange(len(labels)), labels]).mean()
    assert own > np.log(softmax(logits(features), axis=1)[np.arange(len(labels)), labels]).mean()
    np.testing.assert_allclose(
        softmax(adaptation.moved(logits(features), BEFORE, BEFORE), axis=1), softmax(logits(features), axis=1)
    )


def test_a_shift_beside_the_classes_is_taken_out_and_health_is_not():
    features, _ = draw((0.7, 0.2, 0.1))
    scanner = features + [0.0, 2.0]
    args = (MEANS, BEFORE, logits)
    assert adaptation.aligned(scanner, *args, "none") is scanner
    for how in ("location", "mixture"):
        assert adaptation.aligned(scanner, *args, how)[:, 1].mean() == pytest.approx(0, abs=0.05)
    healthy = {how: adaptation.aligned(features, *args, how)[:, 0].mean() for how in ("location", "mixture")}
    assert healthy["mixture"] == pytest.approx(features[:, 0].mean(), abs=0.1)
    assert healthy["location"] == pytest.approx(BEFORE @ MEANS[:, 0])
