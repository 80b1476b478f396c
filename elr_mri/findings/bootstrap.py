"""Subject-clustered bootstrap: how sure a score is, when a subject's scans stand or fall together.

Visits of one subject are alike, so resampling scans would promise too narrow an interval.
Each draw takes as many subjects as there are, with replacement, and with each all of its
scans (the cluster bootstrap, Davison & Hinkley 1997, §3.8). Intervals are percentiles of the draws, further
out the fewer the subjects that a score hangs on, which its values without each subject tell (docs/decisions/0015-intervals.md).
All models are scored on the same draws, so that their differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.stats import norm, t

from elr_mri.findings.metrics import checked, weighted_scores

#: Draws that are scored at once: bounds the memory at about 100 × n_scans × 8 numbers of 8 bytes.
CHUNK = 100


def draw_scores(
    labels: np.ndarray,
    predictions: Sequence[np.ndarray],
    subjects: Sequence[str],
    *,
    draws: int,
    seed: int,
    logits: Sequence[np.ndarray] | None = None,
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
    logits : sequence of (n_scans, 3) float, optional
        Of each model, for the micro-AUC on logits.

    Returns
    -------
    (n_models, n_metrics, draws) float, metrics in the order of `METRICS`; NaN where a draw leaves a score undefined
    """
    return draw(scoring(labels, predictions, logits), subjects, draws=draws, seed=seed)


def scoring(
    labels: np.ndarray, predictions: Sequence[np.ndarray], logits: Sequence[np.ndarray] | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """What makes of (n_draws, n_scans) weights every score of every set of predictions, (n_models, n_metrics, n_draws); arguments as `draw_scores`."""
    said = [checked(labels, probabilities) for probabilities in predictions]
    logits = [None] * len(said) if logits is None else logits

    def scores(weights: np.ndarray) -> np.ndarray:
        found = [weighted_scores(*one, weights, z) for one, z in zip(said, logits, strict=True)]
        return np.array([list(one.values()) for one in found])

    return scores


def draw(measure: Callable[[np.ndarray], np.ndarray], subjects: Sequence[str], *, draws: int, seed: int) -> np.ndarray:
    """What `measure` makes of each draw: it takes (n_draws, n_scans) weights and returns (…, n_draws); so does this, of all draws."""
    return np.concatenate([measure(weights) for weights in weight_chunks(subjects, draws=draws, seed=seed)], axis=-1)


def weight_chunks(subjects: Sequence[str], *, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each draw holds each scan, in chunks of draws: (up to CHUNK, n_scans) float.

    The scans of a subject always carry the same weight, and the weights of the subjects of one
    draw sum to the number of subjects.
    """
    names, subject_of_scan = np.unique(np.asarray(subjects), return_inverse=True)
    for counts in count_chunks(len(names), draws=draws, seed=seed):
        yield counts[:, subject_of_scan].astype(float)


def count_chunks(n_subjects: int, *, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each draw holds each subject, in chunks of draws: (up to CHUNK, n_subjects) int, rows sum to n_subjects."""
    rng = np.random.default_rng(seed)
    for start in range(0, draws, CHUNK):
        yield rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), size=min(CHUNK, draws - start))


def without_each(measure: Callable[[np.ndarray], np.ndarray], subjects: Sequence[str]) -> np.ndarray:
    """What `measure` makes of all scans but one subject's, for each subject: (…, n_subjects); `measure` as in `draw`."""
    names, subject_of_scan = np.unique(np.asarray(subjects), return_inverse=True)
    parts = np.array_split(np.arange(len(names)), -(-len(names) // CHUNK))
    return np.concatenate([measure((part[:, None] != subject_of_scan).astype(float)) for part in parts], axis=-1)


def interval(values: np.ndarray, *, level: float, without: np.ndarray | None = None) -> tuple[float, float]:
    """Percentile interval of one score's draws, (draws,) float; (NaN, NaN) where fewer than half define it.

    With the score's values `without` each subject, (n_subjects,), the percentiles are those of few subjects (`_few`), and one subject has no interval.
    """
    defined = values[np.isfinite(values)]
    if len(defined) * 2 < len(values) or _alone(without):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    if without is not None:
        widening, freedom = _few(defined, without)
        tail = float(norm.cdf(t.ppf(tail, freedom) * widening))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def _alone(without: np.ndarray | None) -> bool:
    """Whether fewer than two subjects can be left out."""
    return without is not None and np.isfinite(without).sum() < 2


def _few(draws: np.ndarray, without: np.ndarray) -> tuple[float, float]:
    """By what factor the draws tell too small a deviation, and with how many degrees of freedom the deviation is known.

    The factor is the jackknife's standard error over the draws' deviation, and no less than √(n / (n − 1)): the mean of n subjects drawn with
    replacement varies with (n − 1)/n of what n others would (Hesterberg, The American Statistician 69, 2015). The degrees of freedom are those of the
    variance of what each subject moves the score by (Hinkley, Biometrika 64, 1977): that variance's own is 2 / (n − 1) + kurtosis / n times its
    square, so n − 1 where none moves it much, fewer where a few do. A subject without whom the score is undefined tells nothing.
    """
    moved = without[np.isfinite(without)]
    n, squares = len(moved), (moved - moved.mean()) ** 2
    least, deviation = np.sqrt(n / (n - 1)), draws.std()
    if squares.sum() == 0 or deviation == 0:
        return float(least), n - 1
    excess = n * (squares**2).sum() / squares.sum() ** 2 - 3
    jackknife = np.sqrt((n - 1) / n * squares.sum())
    return float(max(least, jackknife / deviation)), float(2 / (2 / (n - 1) + max(excess, 0) / n))


def centred(points: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Draws of an error that resampling itself makes larger, moved so that their mean is the point value; none below zero.

    A draw repeats scans and so looks further from calibrated than the scans do, by about as much as these look further than their
    population. points (…,), draws (…, n_draws).
    """
    defined = np.isfinite(draws)
    with np.errstate(invalid="ignore"):
        middle = np.where(defined, draws, 0).sum(axis=-1) / defined.sum(axis=-1)
    return np.maximum(draws + (points - middle)[..., None], 0)


def p_value(values: np.ndarray, *, without: np.ndarray | None = None) -> float:
    """Two-sided p-value of a difference from its draws, (draws,) float; NaN where fewer than half define it, or of one subject.

    2 (k + 1) / (B + 1), with k of B draws on the rarer side of zero (Davison & Hinkley 1997, §4.2: the data themselves count as one draw);
    with the differences `without` each subject, (n_subjects,), the level at which `interval` would just reach zero.
    """
    defined = values[np.isfinite(values)]
    if len(defined) * 2 < len(values) or _alone(without):
        return float("nan")
    rarer = min((defined <= 0).sum(), (defined >= 0).sum())
    p = float(min(1.0, 2 * (rarer + 1) / (len(defined) + 1)))
    if without is None:
        return p
    widening, freedom = _few(defined, without)
    return float(2 * t.cdf(norm.ppf(p / 2) / widening, freedom))


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values of a family of comparisons, (n,): Holm's step-down (Scand. J. Statist. 6, 1979)."""
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(1, np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))))
    out = np.empty_like(adjusted)
    out[order] = adjusted
    return out
