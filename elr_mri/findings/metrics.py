"""Scores of three-class predictions: shares of right answers, areas under the ROC curve, and how right the probabilities are.

One definition serves the point value and every bootstrap draw: `weighted_scores` takes a
weight per scan (how often a draw holds it) for many draws at once, and `score` is the same
with every weight 1. The tests hold both against scikit-learn.

The predicted class is the one of highest probability, the first in the order CN, MCI, AD where two tie; tied scores count
half in an AUC. Sensitivity, specificity, F1 and AUC of a class are of that class against the other two.

Absent classes: a share whose denominator is empty is NaN (the sensitivity and the AUC of a class without a scan, the F1 of
a class that no scan has and no prediction names), and balanced accuracy, macro-AUC and macro-F1 are means over the
classes where theirs is defined (as scikit-learn's over the classes that occur).

Brier score (Brier 1950): the squared distance of the probabilities from the true class, summed over the classes; 0 is
best, 2 worst. Log-loss: minus the natural logarithm of the true class's probability. Expected calibration error
(Naeini et al. 2015; Guo et al. 2017): how far the predicted class's probability lies from the share of right
predictions, as mean over `ECE_BINS` bins of equal width, each weighed by its scans.

`micro_auc_logits` pools the one-vs-rest problems by logits, as the code of the published network does, in place
of probabilities. Of a network they are its own, as they left its last layer. What only has probabilities (baselines, fusions, ensembles, subjects' means) is
scored by their centred logarithms, which are what `prediction_table` stores of such a model. Logits alike to nine decimals are tied, so that one and the same model scores alike by either.
"""

from __future__ import annotations

import numpy as np

from elr_mri.errors import BadInput
from elr_mri.scans.predictions import centred_logarithms
from elr_mri.scans.table import CLASSES

_OF_CLASS = tuple(name.lower() for name in CLASSES)
#: The scores, in the order of every table. The micro-AUC pools the three one-vs-rest problems (n × 3 decisions).
METRICS = (
    *("accuracy", "balanced_accuracy", "micro_auc", "macro_auc"),
    *(f"{kind}_{name}" for kind in ("auc", "sensitivity", "specificity", "f1") for name in _OF_CLASS),
    *("macro_f1", "micro_auc_logits", "brier", "log_loss", "ece"),
)
#: Scores of the probabilities themselves: the lower the better.
ERRORS = ("brier", "log_loss", "ece")
#: What guessing without looking would score (three classes); F1 and accuracy beyond 1/3 follow how common a class is.
CHANCE = {
    name: 0.5 if "auc" in name else 2 / 3 if "specificity" in name else 1 / 3 for name in METRICS if name not in ERRORS
}
#: Bins of equal width, from 0 to 1, closed above, of the expected calibration error and of reliability curves.
ECE_BINS = 10
#: The smallest probability that a log-loss reads, as in scikit-learn: one certain and wrong answer costs 36 nats, not infinity.
SMALLEST = np.finfo(float).eps


def score(labels: np.ndarray, probabilities: np.ndarray, logits: np.ndarray | None = None) -> dict[str, float]:
    """The scores of one set of predictions.

    Parameters
    ----------
    labels : (n_scans,) int
        True class, 0, 1 or 2 in the order CN, MCI, AD.
    probabilities : (n_scans, 3) float
        One column per class, in the same order.
    logits : (n_scans, 3) float, optional
        For `micro_auc_logits`.

    Returns
    -------
    dict of str to float
        The names in `METRICS`, as shares (0 to 1; log-loss in nats); NaN where undefined (see the module).
    """
    labels, probabilities = checked(labels, probabilities)
    scores = weighted_scores(labels, probabilities, np.ones((1, len(labels))), logits)
    return {name: float(values[0]) for name, values in scores.items()}


def confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Counts of scans, (3, 3) int: true class by row, predicted class by column, in the order CN, MCI, AD."""
    labels, probabilities = checked(labels, probabilities)
    counts = np.zeros((len(CLASSES), len(CLASSES)), dtype=int)
    np.add.at(counts, (labels, probabilities.argmax(axis=1)), 1)
    return counts


def weighted_scores(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, logits: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The scores of the same predictions under many weightings of the scans.

    Parameters
    ----------
    labels : (n_scans,) int
    probabilities : (n_scans, 3) float
    weights : (n_draws, n_scans) float
        How often each draw holds each scan.
    logits : (n_scans, 3) float, optional

    Returns
    -------
    dict of str to (n_draws,) float, in the order of `METRICS`
    """
    one_hot = labels[:, None] == np.arange(len(CLASSES))
    logits = (centred_logarithms(probabilities) if logits is None else logits).round(9)
    of_scan = np.ascontiguousarray(weights.T)
    with np.errstate(invalid="ignore", divide="ignore"):
        aucs = np.stack([_auc(one_hot[:, c], probabilities[:, c], of_scan) for c in range(len(CLASSES))])
        found = {
            **_of_predicted_class(labels, probabilities, weights),
            "micro_auc": _auc(one_hot.ravel(), probabilities.ravel(), of_scan),
            "macro_auc": _mean_of_defined(aucs),
            "micro_auc_logits": _auc(one_hot.ravel(), logits.ravel(), of_scan),
            **{f"auc_{name}": aucs[c] for c, name in enumerate(_OF_CLASS)},
        }
    found |= weighted_errors(labels, probabilities, weights)
    return {name: found[name] for name in METRICS}


def weighted_errors(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Brier score, log-loss and expected calibration error under many weightings of the scans, (n_draws,) each; arguments as `weighted_scores`."""
    one_hot = labels[:, None] == np.arange(len(CLASSES))
    of_truth = probabilities[np.arange(len(labels)), labels]
    losses = np.stack([((probabilities - one_hot) ** 2).sum(axis=1), -np.log(np.maximum(of_truth, SMALLEST))], axis=1)
    confidence = probabilities.max(axis=1)
    gaps = np.zeros(
        (len(labels), ECE_BINS)
    )  # a bin's own: confidence minus rightness, summed, is what its scans are off by
    gaps[np.arange(len(labels)), bins_of(confidence)] = confidence - (labels == probabilities.argmax(axis=1))
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # without the one subject of a group no scan is left
        brier, log_loss = (weights @ losses).T / total
        return {"brier": brier, "log_loss": log_loss, "ece": np.abs(weights @ gaps).sum(axis=1) / total}


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """The reliability bin, 0 to `ECE_BINS` − 1, of each confidence; bin b is (b / n, (b + 1) / n]."""
    return np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)


def weighted_balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Balanced accuracy of the same predictions under many weightings of the scans, (n_draws,); arguments as `weighted_scores`."""
    right = labels == probabilities.argmax(axis=1)
    one_hot = labels[:, None] == np.arange(len(CLASSES))
    with np.errstate(invalid="ignore", divide="ignore"):
        recalls = (weights[:, right] @ one_hot[right]) / (weights @ one_hot)
        return _mean_of_defined(recalls.T)


def _of_predicted_class(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The scores that only ask which class is predicted; arguments as `weighted_scores`."""
    n = len(CLASSES)
    cell = labels * n + probabilities.argmax(axis=1)
    counts = (weights @ (cell[:, None] == np.arange(n * n)).astype(float)).reshape(-1, n, n)  # true by row
    hits = np.diagonal(counts, axis1=1, axis2=2).T  # (n, n_draws), as all below
    of_class, named, total = counts.sum(axis=2).T, counts.sum(axis=1).T, counts.sum(axis=(1, 2))
    recalls, f1 = hits / of_class, 2 * hits / (of_class + named)
    specificities = (total - of_class - named + hits) / (total - of_class)
    return {
        "accuracy": hits.sum(axis=0) / total,
        "balanced_accuracy": _mean_of_defined(recalls),
        "macro_f1": _mean_of_defined(f1),
        **{f"sensitivity_{name}": recalls[c] for c, name in enumerate(_OF_CLASS)},
        **{f"specificity_{name}": specificities[c] for c, name in enumerate(_OF_CLASS)},
        **{f"f1_{name}": f1[c] for c, name in enumerate(_OF_CLASS)},
    }


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
        Of decisions: one for each scan, or k for each, one scan's beside one another.
    scores : (n,) float
    weights : (n / k scans, n_draws) float, contiguous
        A row for each scan, so that a scan's draws are moved together.

    Returns
    -------
    (n_draws,) float, NaN for a draw without a positive or without a negative
    """
    scan = np.arange(len(positive)) // (len(positive) // len(weights))
    negatives = np.flatnonzero(~positive)[np.argsort(scores[~positive], kind="stable")]
    below, not_above = (np.searchsorted(scores[negatives], scores[positive], side=side) for side in ("left", "right"))
    cumulative = np.zeros((len(negatives) + 1, weights.shape[1]))
    np.cumsum(weights[scan[negatives]], axis=0, out=cumulative[1:])
    of_positives, lower = weights[scan[positive]], cumulative[below]
    tied = below != not_above
    lower[tied] = (lower[tied] + cumulative[not_above[tied]]) / 2
    return np.einsum("pd,pd->d", of_positives, lower) / (of_positives.sum(axis=0) * cumulative[-1])


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of the values that are not NaN; NaN where all are. (k, n_draws) to (n_draws,)."""
    defined = ~np.isnan(values)
    return np.where(defined, values, 0).sum(axis=0) / defined.sum(axis=0)
