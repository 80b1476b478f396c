"""Decision trees as plain arrays: what a forest or a boosted model of scikit-learn becomes, so that none is ever a pickle.

All trees lie one after the other in the same arrays; `left` and `right` are places in them, −1 in a leaf. A scan goes left where its
feature, as float32, is at most the threshold: scikit-learn's own rule, so that the same leaf is reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from elr_mri.errors import BadInput

#: What a packed set of trees consists of.
ARRAYS = ("first", "feature", "threshold", "left", "right", "value")


def pack(trees: Sequence[Any]) -> dict[str, np.ndarray]:
    """Fitted trees (`tree_` of scikit-learn's estimators) as arrays.

    Returns
    -------
    dict
        first (n_trees,) int32, feature (n_nodes,) int32, threshold (n_nodes,) float64, left and right (n_nodes,) int32,
        value (n_nodes, n_outputs) float64.
    """
    counts = np.array([tree.node_count for tree in trees])
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])

    def joined(name: str) -> np.ndarray:
        return np.concatenate([np.asarray(getattr(tree, name)) for tree in trees])

    moved = {
        side: np.concatenate(
            [np.where(child >= 0, child + at, -1) for tree, at in zip(trees, first) for child in [getattr(tree, name)]]
        ).astype(np.int32)
        for side, name in (("left", "children_left"), ("right", "children_right"))
    }
    value = joined("value")
    return {
        "first": first.astype(np.int32),
        "feature": joined("feature").astype(np.int32),
        "threshold": joined("threshold").astype(np.float64),
        "value": value.reshape(len(value), -1).astype(np.float64),
        **moved,
    }


def check(arrays: Mapping[str, np.ndarray], n_features: int, where: str) -> None:
    """Refuse arrays that are no trees: a walk from each root must end, at places and features that there are."""
    n = len(arrays["left"])
    inner = arrays["left"] >= 0
    place = np.arange(n)[inner]
    sides = (arrays["left"][inner], arrays["right"][inner])
    sound = (
        n > 0
        and all(len(arrays[name]) == n for name in ("feature", "threshold", "right", "value"))
        and all(np.issubdtype(arrays[name].dtype, np.integer) for name in ("first", "feature", "left", "right"))
        and all(((side > place) & (side < n)).all() for side in sides)  # children lie behind: every walk ends
        and ((arrays["feature"][inner] >= 0) & (arrays["feature"][inner] < n_features)).all()
        and ((arrays["first"] >= 0) & (arrays["first"] < n)).all()
        and all(np.isfinite(arrays[name]).all() for name in ("threshold", "value"))
    )
    if not sound:
        raise BadInput(
            expected="decision trees as arrays", got="others", where=where, fix="Run `elr-mri baseline` again."
        )


def reached(arrays: Mapping[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """Values of the leaves that scans reach: (n_scans, n_features) to (n_trees, n_scans, n_outputs)."""
    seen = np.asarray(features, dtype=np.float32)
    rows = np.arange(len(seen))
    nodes = np.repeat(arrays["first"][:, None], len(seen), axis=1)
    while (inner := arrays["left"][nodes] >= 0).any():
        held = seen[rows, np.where(inner, arrays["feature"][nodes], 0)]
        on = np.where(held <= arrays["threshold"][nodes], arrays["left"][nodes], arrays["right"][nodes])
        nodes = np.where(inner, on, nodes)
    return arrays["value"][nodes]


def forest_probabilities(arrays: Mapping[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """What a random forest says: the mean of its trees' class shares, (n_scans, n_classes)."""
    shares = reached(arrays, features)
    return (shares / shares.sum(axis=2, keepdims=True)).mean(axis=0)


def boosted_scores(
    arrays: Mapping[str, np.ndarray], features: np.ndarray, *, start: Sequence[float], rate: float
) -> np.ndarray:
    """Scores of a boosted model before the softmax: (n_scans, n_classes).

    Parameters
    ----------
    arrays : mapping
        Trees of one output, in the order of the rounds and, within a round, of the classes.
    start : (n_classes,) float
        Score of each class before the first round.
    rate : float
        The learning rate.
    """
    steps = reached(arrays, features)[:, :, 0]
    rounds = steps.reshape(-1, len(start), steps.shape[1])
    return np.asarray(start) + rate * rounds.sum(axis=0).T
