"""What an external cohort changes, found without its labels: how common each class is, and where its features lie.

class prior   the classes' shares are estimated from the probabilities alone, by the EM algorithm of Saerens, Latinne and
              Decaestecker (Neural Computation 14, 2002), and the probabilities moved to them. It needs calibrated probabilities,
              and supposes that within a class the cohort looks as the training scans do.
location      the cohort's features moved so that their mean is the training scans' (`location`), or what the training scans'
              class means predict at the estimated shares (`mixture`): the first takes a healthier cohort's health for a scanner.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import softmax

#: EM stops where no share changes by more.
CLOSE = 1e-7
#: No share is estimated below this: a class that is not seen may still be there.
LEAST = 1e-4


def class_shares(probabilities: np.ndarray, before: np.ndarray, *, rounds: int = 10_000) -> np.ndarray:
    """Shares of the classes among unlabelled scans, by EM.

    Parameters
    ----------
    probabilities : (n_scans, n_classes) float
        Calibrated, of a model trained where the shares were `before`.
    before : (n_classes,) float

    Returns
    -------
    (n_classes,) float
        The shares of the highest likelihood (Saerens et al. 2002, equation 2.4).
    """
    shares = before = np.asarray(before, dtype=float)
    for _ in range(rounds):
        moved = probabilities * (shares / before)
        new = np.maximum((moved / moved.sum(axis=1, keepdims=True)).mean(axis=0), LEAST)
        new /= new.sum()
        if np.abs(new - shares).max() < CLOSE:
            return new
        shares = new
    return shares


def moved(logits: np.ndarray, before: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Logits of a model trained at shares `before`, as they are at `shares`: (n_scans, n_classes)."""
    return logits + np.log(np.asarray(shares) / np.asarray(before))


def aligned(
    features: np.ndarray,
    class_means: np.ndarray,
    before: np.ndarray,
    logits: Callable[[np.ndarray], np.ndarray],
    how: str,
    *,
    rounds: int = 5,
) -> np.ndarray:
    """A cohort's features moved to where the training scans lie: (n_scans, n_features).

    Parameters
    ----------
    class_means : (n_classes, n_features) float
        Of the training scans.
    before : (n_classes,) float
        Shares of the classes among them.
    logits : callable
        The model that was trained on them.
    how : "none", "location" or "mixture"
    """
    if how == "none":
        return features
    centre = features.mean(axis=0)
    if how == "location":
        return features - centre + before @ class_means
    at = features
    for _ in range(rounds):
        at = features - centre + class_shares(softmax(logits(at), axis=1), before) @ class_means
    return at
