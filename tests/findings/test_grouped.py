"""Scores by group and of all others, against `metrics` on the scans themselves."""

import numpy as np
import pytest

from elr_mri.findings.grouped import GROUPED, grouped_scores
from elr_mri.findings.metrics import score, weighted_scores


@pytest.mark.parametrize("decimals", [1, 12])  # with many ties, and with none
def test_they_are_those_of_the_scans_themselves(decimals):
    rng = np.random.default_rng(decimals)
    labels, probabilities = rng.integers(0, 3, 120), rng.dirichlet(np.ones(3), 120).round(decimals)
    groups = np.column_stack([np.ones(120, bool), rng.random((120, 3)) < [0.5, 0.1, 0.9], np.arange(120) < 1])
    weights = rng.poisson(1.0, (7, 120)).astype(float)
    for side, told in enumerate(grouped_scores(labels, probabilities, weights, groups)):
        for number, mask in enumerate(groups.T if side == 0 else ~groups.T):
            if not mask.any():
                assert np.isnan(told[:, number]).all()
                continue
            direct = weighted_scores(labels[mask], probabilities[mask], weights[:, mask])
            for place, name in enumerate(GROUPED):
                np.testing.assert_allclose(told[place, number], direct[name], rtol=0, atol=1e-12)


def test_once_each_they_are_the_scores():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 3, 60), rng.dirichlet(np.ones(3), 60)
    half = np.arange(60) < 30
    told = grouped_scores(labels, probabilities, np.ones((1, 60)), half[:, None])
    for side, mask in zip(told, (half, ~half), strict=True):
        found = score(labels[mask], probabilities[mask])
        assert side[:, 0, 0] == pytest.approx([found[name] for name in GROUPED])
