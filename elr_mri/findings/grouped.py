"""Scores of every group of people and of all others, for many draws at once, in about the time of scoring everyone.

Recalls are sums over scans, and an AUC is a sum over pairs of scans. So the others' come from everyone's by subtraction: of the pairs those
with one scan in the group are taken away, and those with both, taken away twice, are given back. A hundred sites cost
what a few do. The scores are those of `metrics.py` that do not follow how common each class is; the tests hold them against it.
"""

from __future__ import annotations

import numpy as np

from elr_mri.scans.table import CLASSES

#: The scores, in the order of the arrays.
GROUPED = ("balanced_accuracy", "macro_auc", "auc_cn", "auc_mci", "auc_ad")


def grouped_scores(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The scores within each group and among all others.

    Parameters
    ----------
    labels : (n_scans,) int
    probabilities : (n_scans, 3) float
    weights : (n_draws, n_scans) float
        How often each draw holds each scan.
    groups : (n_scans, n_groups) bool

    Returns
    -------
    two (n_scores, n_groups, n_draws) float, NaN where undefined
    """
    right = labels == probabilities.argmax(axis=1)
    recalls, aucs = [], []
    with np.errstate(invalid="ignore", divide="ignore"):
        for number in range(len(CLASSES)):
            own = labels == number
            hit, of = (
                weights[:, part] @ groups[part].astype(float) for part in (own & right, own)
            )  # (n_draws, n_groups)
            all_hit, all_of = (weights[:, part].sum(axis=1, keepdims=True) for part in (own & right, own))
            recalls.append((hit / of, (all_hit - hit) / (all_of - of)))
            aucs.append(_aucs(own, probabilities[:, number], weights, groups))
        scores = []
        for side in range(2):
            of_classes = np.stack([pair[side] for pair in aucs])
            balanced = _mean_of_defined(np.stack([pair[side] for pair in recalls]))
            scores.append(np.stack([balanced, _mean_of_defined(of_classes), *of_classes]).transpose(0, 2, 1))
    return scores[0], scores[1]


def _aucs(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """AUC within each group and among all others, two (n_draws, n_groups)."""
    of_positives, of_negatives = weights[:, positive], weights[:, ~positive]
    in_positives, in_negatives = (groups[part].astype(float) for part in (positive, ~positive))
    below = _below(scores[positive], scores[~positive], of_negatives)
    above = of_positives.sum(axis=1, keepdims=True) - _below(scores[~positive], scores[positive], of_positives)
    ordered = (of_positives * below).sum(axis=1, keepdims=True)
    with_one = (of_positives * below) @ in_positives + (of_negatives * above) @ in_negatives
    inside = np.empty((len(weights), groups.shape[1]))
    for number, group in enumerate(groups.T):
        here, there = positive & group, ~positive & group
        inside[:, number] = (weights[:, here] * _below(scores[here], scores[there], weights[:, there])).sum(axis=1)
    n_positive, n_negative = of_positives @ in_positives, of_negatives @ in_negatives
    rest = (of_positives.sum(axis=1, keepdims=True) - n_positive) * (of_negatives.sum(axis=1, keepdims=True) - n_negative)  # fmt: skip
    return inside / (n_positive * n_negative), (ordered - with_one + inside) / rest


def _below(scores: np.ndarray, others: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weight of the `others` (m,) below each of the scores (n,), ties half; weights (n_draws, m), result (n_draws, n)."""
    order = np.argsort(others, kind="stable")
    cumulative = np.zeros((len(weights), len(others) + 1))
    np.cumsum(weights[:, order], axis=1, out=cumulative[:, 1:])
    left, right = (np.searchsorted(others[order], scores, side=side) for side in ("left", "right"))
    if (left == right).all():
        return cumulative[:, left]
    return (cumulative[:, left] + cumulative[:, right]) / 2


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is not NaN; NaN where all is."""
    defined = ~np.isnan(values)
    return np.where(defined, values, 0).sum(axis=0) / defined.sum(axis=0)
