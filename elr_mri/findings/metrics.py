"""Scores of three-class predictions: accuracy, balanced accuracy and areas under the ROC curve.

One definition serves the point value and every bootstrap draw: `weighted_scores` takes a
weight per scan (how often a draw holds it) for many draws at once, and `score` is the same
with every weight 1. The tests hold both against scikit-learn.

Absent classes: balanced accuracy is the mean recall over the classes that are present (as in
scikit-learn); the AUC of a class without a scan, or without a scan of any other class, is NaN,
and the macro-AUC is the mean over the classes whose AUC is defined. The predicted class is the
one of highest probability, the first in the order CN, MCI, AD where two tie; tied scores count
half in an AUC.
"""

from __future__ import annotations

import numpy as np

from elr_mri.errors import BadInput
from elr_mri.scans.table import CLASSES

#: The scores, in the order of every table. The micro-AUC pools the three one-vs-rest problems (n × 3 decisions).
METRICS = ("accuracy", "balanced_accuracy", "micro_auc", "macro_auc", "auc_cn", "auc_mci", "auc_ad")
#: What guessing without looking would score (three classes).
CHANCE = {name: 0.5 if "auc" in name else 1 / 3 for name in METRICS}


def score(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """The scores of one set of predictions.

    Parameters
    ----------
    labels : (n_scans,) int
        True class, 0, 1 or 2 in the order CN, MCI, AD.
    probabilities : (n_scans, 3) float
        One column per class, in the same order.

    Returns
    -------
    dict of str to float
        The names in `METRICS`, as shares (0 to 1); NaN where undefined (see the module).
    """
    labels, probabilities = checked(labels, probabilities)
    scores = weighted_scores(labels, probabilities, np.ones((1, len(labels))))
    return {name: float(values[0]) for name, values in scores.items()}


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Counts of scans, (3, 3) int: true class by row, predicted class by column, in the order CN, MCI, AD."""
    labels, probabilities = checked(labels, probabilities)
    counts = np.zeros((len(CLASSES), len(CLASSES)), dtype=int)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    return counts


def weighted_scores(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The scores of the same predictions under many weightings of the scans.

    Parameters
    ----------
    labels : (n_scans,) int
    probabilities : (n_scans, 3) float
    weights : (n_draws, n_scans) float
        How often each draw holds each scan.

    Returns
    -------
    dict of str to (n_draws,) float
    """
    right = labels == probabilities.argmax(axis=1)
    one_hot = labels[:, None] == np.arange(len(CLASSES))
    with np.errstate(invalid="ignore", divide="ignore"):
        aucs = np.stack([_auc(one_hot[:, c], probabilities[:, c], weights) for c in range(len(CLASSES))])
        return {
            "accuracy": weights[:, right].sum(axis=1) / weights.sum(axis=1),
            "balanced_accuracy": weighted_balanced_accuracy(labels, probabilities, weights),
            "micro_auc": _auc(one_hot.ravel(), probabilities.ravel(), np.repeat(weights, len(CLASSES), axis=1)),
            "macro_auc": _mean_of_defined(aucs),
            "auc_cn": aucs[0],
            "auc_mci": aucs[1],
            "auc_ad": aucs[2],
        }


def weighted_balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Balanced accuracy of the same predictions under many weightings of the scans, (n_draws,); arguments as `weighted_scores`."""
    right = labels == probabilities.argmax(axis=1)
    one_hot = labels[:, None] == np.arange(len(CLASSES))
    with np.errstate(invalid="ignore", divide="ignore"):
        recalls = (weights[:, right] @ one_hot[right]) / (weights @ one_hot)
        return _mean_of_defined(recalls.T)


def checked(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels as int and probabilities as float; raises `BadInput` where shapes, classes or numbers are wrong."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=float)
    if probabilities.shape != (len(labels), len(CLASSES)) or not len(labels):
        raise BadInput(
            expected=f"(n, {len(CLASSES)}) probabilities for n >= 1 labels",
            got=f"{probabilities.shape} for {len(labels)}",
            where="score",
            fix="Give one row of CN, MCI, AD per label.",
        )
    if not np.isin(labels, range(len(CLASSES))).all():
        raise BadInput(
            expected="labels 0 (CN), 1 (MCI), 2 (AD)",
            got=str(sorted(set(labels.tolist()))),
            where="score",
            fix="Map the diagnoses in this order.",
        )
    if not np.isfinite(probabilities).all():
        raise BadInput(
            expected="finite probabilities",
            got="NaN or infinity",
            where=f"score, row {np.argwhere(~np.isfinite(probabilities))[0][0]}",
            fix="Predict those scans again, or leave them out.",
        )
    return labels.astype(int), probabilities


def _auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted Mann–Whitney AUC: the share of (positive, negative) pairs in the right order, ties counted half.

    Parameters
    ----------
    positive : (n,) bool
    scores : (n,) float
    weights : (n_draws, n) float

    Returns
    -------
    (n_draws,) float, NaN for a draw without a positive or without a negative
    """
    negatives = np.flatnonzero(~positive)[np.argsort(scores[~positive], kind="stable")]
    below = np.searchsorted(scores[negatives], scores[positive], side="left")
    not_above = np.searchsorted(scores[negatives], scores[positive], side="right")
    cumulative = np.zeros((len(weights), len(negatives) + 1))
    np.cumsum(weights[:, negatives], axis=1, out=cumulative[:, 1:])
    of_positives = weights[:, positive]
    ordered = np.einsum("dp,dp->d", of_positives, cumulative[:, below] + cumulative[:, not_above]) / 2
    return ordered / (of_positives.sum(axis=1) * cumulative[:, -1])


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of the values that are not NaN; NaN where all are. (k, n_draws) to (n_draws,)."""
    defined = ~np.isnan(values)
    return np.where(defined, values, 0).sum(axis=0) / defined.sum(axis=0)
