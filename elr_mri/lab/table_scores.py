"""Balanced accuracy of methods over seeds, with intervals over subjects and seeds, and paired differences.

Each bootstrap draw takes subjects with all their scans (`findings/bootstrap.py`) and, independently of it, seeds with replacement; all methods are
scored on the same draws, and seed k has the same wrong labels for all, so that differences are paired by subject and by seed. The p-value of a
difference is two-sided, 2 (k + 1) / (B + 1) with k of B draws on the rarer side of zero (Davison & Hinkley 1997, §4.2: the data themselves count as one draw). What is asked
is fixed in advance: does a method that was tuned do better with wrong labels than the first method, tuned or as it is? Holm's step-down (Scand.
J. Statist. 6, 1979) makes the p-values hold over these differences of one reading: the last epoch and the selected one ask two questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.findings.bootstrap import holm, interval, p_value, weight_chunks
from elr_mri.lab.seeds import covers
from elr_mri.lab.seeds import over_seeds as _over_seeds
from elr_mri.lab.seeds import seed_shares as seed_shares
from elr_mri.scans.table import CLASSES

READINGS = ("last", "selected")
PLACE = ["share", "split", "reading"]


#: Below this a p-value of Holm's shows a difference.
SHOWN = 0.05
#: Added to the name of a method for its untuned runs.
UNTUNED = " untuned"


def pairs_of(methods: Sequence[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(method, reference) of the differences that are asked in advance, and of those that are only told: tuning itself, and untuned methods."""
    first, *others = methods
    asked = [(method, reference) for method in others for reference in (first, first + UNTUNED)]
    told = [(first, first + UNTUNED), *((method + UNTUNED, first + UNTUNED) for method in others)]
    return asked, told


def check_draws(methods: Sequence[str], shares: Sequence[float], n_splits: int, draws: int) -> None:
    """Refuse so few draws that the smallest p-value there can be would show nothing after Holm's correction."""
    family = len(pairs_of(methods)[0]) * sum(share > 0 for share in shares) * n_splits
    if 2 * family / (draws + 1) >= SHOWN:
        raise BadInput(
            expected=f"draws enough for a p-value below {SHOWN:g} of {family} differences: {math.ceil(round(2 * family / SHOWN, 6))} or more",
            got=str(draws),
            where="lab.tables.draws",
            fix="Draw more, or compare fewer methods or shares.",
        )


def draw_accuracies(
    labels: np.ndarray, said: Sequence[np.ndarray], subjects: np.ndarray, *, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Balanced accuracies of several runs on the scans, and on draws of their subjects, as `weighted_balanced_accuracy`; of all runs together, for speed.

    Parameters
    ----------
    labels : (n_scans,) int, true
    said : sequence of (n_scans, 3) float
        Logits of each run.

    Returns
    -------
    (n_runs,) and (n_runs, draws) float
    """
    of_class = labels[:, None] == np.arange(len(CLASSES))
    right = np.stack([logits.argmax(axis=1) for logits in said], axis=1) == labels[:, None]
    hits = (right[:, :, None] & of_class[:, None, :]).reshape(len(labels), -1).astype(float)

    def scored(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            recalls = (weights @ hits).reshape(len(weights), len(said), -1) / (weights @ of_class)[:, None]
        return np.nanmean(recalls, axis=2)

    drawn = np.concatenate([scored(weights) for weights in weight_chunks(subjects, draws=draws, seed=seed)])
    return scored(np.ones((1, len(labels))))[0], drawn.T


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
        rows.append(
            (
                method,
                share,
                split,
                reading,
                points.mean(),
                low,
                high,
                deviation,
                len(points),
                level,
                covers(len(points)),
            )
        )
    names = ["method", *PLACE, "balanced_accuracy", "low", "high", "seed_deviation", "n_seeds", "level", "covers"]
    return pd.DataFrame(rows, columns=names)


def differences(
    scored: dict[tuple, tuple[np.ndarray, np.ndarray]], methods: Sequence[str], *, seed: int, level: float
) -> pd.DataFrame:
    """Each pair's method minus its reference, paired: difference, interval, p-value, and Holm's of those that are asked in advance (else blank)."""
    asked, told = pairs_of(methods)
    rows = []
    for (method, *place), (points, draws) in scored.items():
        for reference in (against for name, against in (*asked, *told) if name == method):
            base_points, base_draws = scored[(reference, *place)]
            moved = _over_seeds(draws - base_draws, seed)
            low, high = interval(moved, level=level)
            p = p_value(moved)
            n, family = len(points), (method, reference) in asked and place[0] > 0
            found = (points - base_points).mean(), low, high, p, family, n, level, covers(n)
            rows.append((method, reference, *place, *found))
    names = ["difference", "low", "high", "p", "p_holm", "n_seeds", "level", "covers"]
    table = pd.DataFrame(rows, columns=["method", "reference", *PLACE, *names])
    family = table["p_holm"].astype(bool)
    adjusted = table[family].groupby("reading")["p"].transform(lambda p: holm(p.to_numpy()))
    return table.assign(p_holm=adjusted.reindex(table.index).astype(float))
