"""Which labels are wrong, by an ordinal model that reckons with wrong ones.

A linear score of the features, severity, is cut into the ordered classes CN, MCI, AD (proportional odds: McCullagh, JRSS B 42, 1980, equation 2.1), and
what is given is the true class, or with a chance η a neighbour of it (label noise as a latent class: Lawrence & Schölkopf, ICML 2001; Frénay &
Verleysen, IEEE TNNLS 25, 2014, section V):

    P(true ≤ k | x) = σ(c_k − w·x)        P(given = g | x) = Σ_k P(true = k | x) T_kg        T: adjacent noise, share η

Fitted by the most likely parameters given w ~ N(0, 1) on standardised features and η ~ Beta(2, 8), whose mean is 0.2, below 0.5. So few parameters that a
hundred scans tell them, and a wrong label does not pull them as far as it pulls a cross-entropy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

#: Parameters of the Beta prior of the share of wrong labels, and the most that it can be.
PRIOR, MOST = (2.0, 8.0), 0.5
TINY = 1e-12


@dataclass(frozen=True)
class Ordinal:
    """A fitted model.

    Attributes
    ----------
    weights : (n_features,) float
    cuts : (n_classes − 1,) float, ascending
    noise : float
        The share of wrong labels, η.
    mean, spread : (n_features,) float
        Of the features it was fitted on; blanks take the mean.
    """

    weights: np.ndarray
    cuts: np.ndarray
    noise: float
    mean: np.ndarray
    spread: np.ndarray

    def severity(self, features: np.ndarray) -> np.ndarray:
        """(n,) the linear score; higher is iller."""
        return np.nan_to_num((features - self.mean) / self.spread) @ self.weights

    def likely(self, features: np.ndarray) -> np.ndarray:
        """(n, n_classes) probability of each true class, the label that was given left aside."""
        return _classes(self.severity(features), self.cuts)

    def posterior(self, features: np.ndarray, given: np.ndarray) -> np.ndarray:
        """(n, n_classes) probability of each true class, the label that was given taken into account."""
        joint = self.likely(features) * adjacent(self.noise, len(self.cuts) + 1)[:, given].T
        return joint / joint.sum(axis=1, keepdims=True).clip(TINY)


def fit_ordinal(features: np.ndarray, given: np.ndarray, n_classes: int) -> Ordinal:
    """Fit to given labels.

    Parameters
    ----------
    features : (n, n_features) float
        Blanks (NaN) take the mean of the column.
    given : (n,) int, 0 … n_classes − 1 in the order of severity
    """
    mean, spread = np.nanmean(features, axis=0), np.nanstd(features, axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    x, d = np.nan_to_num((features - mean) / spread), features.shape[1]
    shares = np.bincount(given, minlength=n_classes).cumsum()[:-1] / len(given)
    odds = np.log(shares.clip(0.02, 0.98) / (1 - shares.clip(0.02, 0.98)))
    start = np.concatenate([np.zeros(d), odds[:1], np.log(np.diff(odds).clip(0.1)), [-0.5]])

    def unpack(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        cuts = p[d] + np.concatenate([[0.0], np.exp(p[d + 1 : -1].clip(-10, 10)).cumsum()])
        return p[:d], cuts, MOST * float(expit(p[-1]))

    def cost(p: np.ndarray) -> float:
        weights, cuts, noise = unpack(p)
        told = (_classes(x @ weights, cuts) * adjacent(noise, n_classes)[:, given].T).sum(axis=1)
        prior = (PRIOR[0] - 1) * np.log(noise + TINY) + (PRIOR[1] - 1) * np.log1p(-noise)
        return float(-np.log(told.clip(TINY)).sum() + (weights @ weights) / 2 - prior)

    found = minimize(cost, start, method="L-BFGS-B", options={"maxiter": 500})
    weights, cuts, noise = unpack(found.x)
    return Ordinal(weights, cuts, noise, mean, spread)


def adjacent(noise: float, n_classes: int) -> np.ndarray:
    """(n_classes, n_classes) chance of each given label, a row per true class: a share `noise` to its neighbours, alike."""
    table = np.diag(np.full(n_classes, 1 - noise))
    for k in range(n_classes):
        near = [j for j in (k - 1, k + 1) if 0 <= j < n_classes]
        table[k, near] = noise / len(near)
    return table


def _classes(severity: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """(n, n_classes) chance of each class at a severity (n,)."""
    below = expit(cuts[None, :] - severity[:, None])
    edges = np.column_stack([np.zeros(len(severity)), below, np.ones(len(severity))])
    return np.diff(edges, axis=1).clip(TINY)
