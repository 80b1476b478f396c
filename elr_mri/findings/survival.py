"""Time to an event with right censoring: Kaplan–Meier curve, Cox's hazard ratio, Harrell's concordance.

Curve and model are statsmodels' (`SurvfuncRight`; `PHReg` with Efron's ties); the concordance is counted here, for
many resamplings at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.duration.api import PHReg, SurvfuncRight

#: A log hazard ratio per standard deviation with a larger standard error says that the likelihood has no maximum: one group alone has events.
MAX_SE = 3.0


class Ratio(NamedTuple):
    """A hazard ratio with its interval and p-value; NaN where it cannot be estimated."""

    value: float
    low: float
    high: float
    p: float


def kaplan_meier(
    years: np.ndarray, event: np.ndarray, *, level: float, also: Sequence[float] = ()
) -> dict[str, np.ndarray]:
    """The share without an event over time, from 1 at 0, with Greenwood's interval on the log(−log) scale.

    Parameters
    ----------
    years : (n,) float
        Time to the event, or to the last time at which there was none.
    event : (n,) bool
        False: censored, that is at risk until then and not known after.
    also : times to tell of besides; those after the last one are left out

    Returns
    -------
    dict of (n_steps,) arrays: `years` (0, each time with an event, those of `also`, the last one), `survival`, `low`, `high`, and `at_risk` just before
    """
    years, event = np.asarray(years, float), np.asarray(event, bool)
    found = SurvfuncRight(years, event.astype(int))
    shares, spread = found.surv_prob, found.surv_prob_se
    z = stats.norm.isf((1 - level) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.exp(z * spread / (shares * np.abs(np.log(shares))))
        bounds = [
            np.where((shares > 0) & (shares < 1), bound, np.nan) for bound in (shares**factor, shares ** (1 / factor))
        ]
    told = np.unique([0.0, *years[event], *(t for t in also if t <= years.max()), years.max()])
    at = np.searchsorted(found.surv_times, told, side="right")  # 0: before the first time
    steps = {"survival": np.concatenate([[1.0], shares])[at]}
    steps |= {name: np.concatenate([[np.nan], bound])[at] for name, bound in zip(("low", "high"), bounds, strict=True)}
    return {"years": told, **steps, "at_risk": np.array([(years >= time).sum() for time in told])}


def hazard_ratio(years: np.ndarray, event: np.ndarray, risk: np.ndarray, *others: np.ndarray, level: float) -> Ratio:
    """Cox's hazard ratio for one standard deviation of `risk`, given the `others`, with Wald's interval.

    All (n,) arrays. NaN where the model has no finite estimate.
    """
    columns = np.column_stack([risk, *others]).astype(float)
    spread = columns.std(axis=0, ddof=1)
    if not (spread > 0).all():
        return Ratio(*[np.nan] * 4)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            scaled = (columns - columns.mean(axis=0)) / spread
            found = PHReg(np.asarray(years, float), scaled, np.asarray(event, int), ties="efron").fit(disp=0)
            slope, se = float(found.params[0]), float(found.bse[0])
    except np.linalg.LinAlgError:
        return Ratio(*[np.nan] * 4)
    if not np.isfinite([slope, se]).all() or se > MAX_SE or se <= 0:
        return Ratio(*[np.nan] * 4)
    half = stats.norm.isf((1 - level) / 2) * se
    return Ratio(*np.exp([slope, slope - half, slope + half]), float(2 * stats.norm.sf(abs(slope) / se)))


def concordance(years: np.ndarray, event: np.ndarray, risk: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Harrell's C under many weightings of the subjects: of the pairs of which it is known who came first, the share in which that one had the higher risk.

    A pair counts when the shorter time ended in an event; of equal times, when one ended so and the other was censored. Equal risks count half.

    Parameters
    ----------
    years, risk : (n,) float
    event : (n,) bool
    weights : (n_draws, n) float

    Returns
    -------
    (n_draws,) float, NaN where no pair counts
    """
    years, event, risk = np.asarray(years, float), np.asarray(event, bool), np.asarray(risk, float)
    first = event[:, None] & ((years[:, None] < years) | ((years[:, None] == years) & ~event))
    higher = (risk[:, None] > risk) + 0.5 * (risk[:, None] == risk)
    right, pairs = (((weights @ (first * part)) * weights).sum(axis=1) for part in (higher, 1.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return right / pairs
