"""Subject-clustered bootstrap: how sure a score is, when a subject's scans stand or fall together.

Visits of one subject are alike, so resampling scans would promise too narrow an interval.
Each draw takes as many subjects as there are, with replacement, and with each all of its
scans (the cluster bootstrap, Davison & Hinkley 1997, §3.8); intervals are the percentiles of the draws.
All models are scored on the same draws, so that their differences are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from elr_mri.findings.metrics import METRICS, checked, weighted_scores

#: Draws that are scored at once: bounds the memory at about 100 × n_scans × 8 numbers of 8 bytes.
CHUNK = 100


def draw_scores(
    labels: np.ndarray,
    predictions: Sequence[np.ndarray],
    subjects: Sequence[str],
    *,
    draws: int,
    seed: int,
) -> np.ndarray:
    """Scores of several sets of predictions of the same scans, on the same draws of subjects.

    Parameters
    ----------
    labels : (n_scans,) int
        0, 1, 2 in the order CN, MCI, AD.
    predictions : sequence of (n_scans, 3) float
        Probabilities of each model.
    subjects : (n_scans,) str
        Whose scan it is.
    draws, seed : int

    Returns
    -------
    (n_models, n_metrics, draws) float, metrics in the order of `METRICS`; NaN where a draw leaves a score undefined
    """
    pairs = [checked(labels, probabilities) for probabilities in predictions]
    scores = np.empty((len(pairs), len(METRICS), draws))
    start = 0
    for weights in weight_chunks(subjects, draws=draws, seed=seed):
        stop = start + len(weights)
        for model, (numbers, probabilities) in enumerate(pairs):
            found = weighted_scores(numbers, probabilities, weights)
            scores[model, :, start:stop] = [found[name] for name in METRICS]
        start = stop
    return scores


def weight_chunks(subjects: Sequence[str], *, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each draw holds each scan, in chunks of draws: (up to CHUNK, n_scans) float.

    The scans of a subject always carry the same weight, and the weights of the subjects of one
    draw sum to the number of subjects.
    """
    names, subject_of_scan = np.unique(np.asarray(subjects), return_inverse=True)
    rng = np.random.default_rng(seed)
    for start in range(0, draws, CHUNK):
        n_draws = min(CHUNK, draws - start)
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_draws)
        yield counts[:, subject_of_scan].astype(float)


def interval(values: np.ndarray, *, level: float) -> tuple[float, float]:
    """Percentile interval of one score's draws, (draws,) float; (NaN, NaN) where fewer than half define it."""
    defined = values[np.isfinite(values)]
    if len(defined) * 2 < len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
