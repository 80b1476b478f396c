"""Balanced accuracy of methods over seeds, with intervals over subjects and seeds, and paired differences.

Each bootstrap draw takes subjects with all their scans (`findings/bootstrap.py`) and, independently of it, seeds with replacement; all methods are
scored on the same draws, and seed k has the same wrong labels for all, so that differences are paired by subject and by seed. The p-value of a
difference is twice the smaller share of draws on one side of zero, and no less than one draw; Holm's step-down (Scand. J. Statist. 6, 1979) makes it hold
over all differences of one reading: the last epoch and the selected one ask two questions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from elr_mri.findings.bootstrap import interval, weight_chunks
from elr_mri.findings.metrics import weighted_balanced_accuracy
from elr_mri.lab.seeds import over_seeds as _over_seeds
from elr_mri.lab.seeds import seed_shares as seed_shares

READINGS = ("last", "selected")
PLACE = ["share", "split", "reading"]


def draw_accuracies(
    labels: np.ndarray, said: Sequence[np.ndarray], subjects: np.ndarray, *, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Balanced accuracies of several runs on the scans, and on draws of their subjects.

    Parameters
    ----------
    labels : (n_scans,) int, true
    said : sequence of (n_scans, 3) float
        Logits of each run.

    Returns
    -------
    (n_runs,) and (n_runs, draws) float
    """
    weights = np.concatenate(list(weight_chunks(subjects, draws=draws, seed=seed)))
    once = np.ones((1, len(labels)))
    points = [weighted_balanced_accuracy(labels, logits, once)[0] for logits in said]
    return np.array(points), np.stack([weighted_balanced_accuracy(labels, logits, weights) for logits in said])


def results(scored: dict[tuple, tuple[np.ndarray, np.ndarray]], *, seed: int, level: float) -> pd.DataFrame:
    """One line per method, share, split and reading: mean over seeds, its interval and the deviation over seeds.

    Parameters
    ----------
    scored : dict
        (method, share, split, reading) -> what `draw_accuracies` gave for its runs, one per seed.
    """
    rows = []
    for (method, share, split, reading), (points, draws) in scored.items():
        low, high = interval(_over_seeds(draws, seed), level=level)
        deviation = points.std(ddof=1) if len(points) > 1 else np.nan
        rows.append((method, share, split, reading, points.mean(), low, high, deviation, len(points), level))
    names = ["method", *PLACE, "balanced_accuracy", "low", "high", "seed_deviation", "n_seeds", "level"]
    return pd.DataFrame(rows, columns=names)


def differences(
    scored: dict[tuple, tuple[np.ndarray, np.ndarray]], pairs: Sequence[tuple[str, str]], *, seed: int, level: float
) -> pd.DataFrame:
    """Each pair's method minus its reference, paired: difference, interval, p-value and Holm's."""
    rows = []
    for (method, *place), (points, draws) in scored.items():
        for reference in (against for name, against in pairs if name == method):
            base_points, base_draws = scored[(reference, *place)]
            moved = _over_seeds(draws - base_draws, seed)
            low, high = interval(moved, level=level)
            side = min((moved <= 0).mean(), (moved >= 0).mean())
            p = min(1.0, max(2 * side, 1 / len(moved)))
            rows.append((method, reference, *place, (points - base_points).mean(), low, high, p, len(points), level))
    table = pd.DataFrame(
        rows, columns=["method", "reference", *PLACE, "difference", "low", "high", "p", "n_seeds", "level"]
    )
    table.insert(9, "p_holm", table.groupby("reading")["p"].transform(lambda p: holm(p.to_numpy())))
    return table


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values of a family, (n,)."""
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(1, np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))))
    out = np.empty_like(adjusted)
    out[order] = adjusted
    return out
