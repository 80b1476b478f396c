"""W-scores: how many deviations a region lies from what healthy people of the same age and head size have.

Per region a line is fitted among cognitively normal training scans (Jack et al., Neurology 49, 1997; La Joie et al., J. Neurosci. 32, 2012):

    log(1 + mm³)    on  log intracranial volume and age         volumes: head size acts as a power of it
    mm              on  age                                     thicknesses, which hardly depend on head size

and a scan's score is its residual over the residuals' deviation. So age is taken out, not given: it cannot serve to guess the
class, which it does in one cohort by the way its people were enrolled and in another by another way. Ages beyond those of the
middle 90 % of the controls count as their ends, because nobody there tells how the line goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from elr_mri.findings.normalise import ICV, MIN_CONTROLS

#: Scores are cut here: an implausible region is no more than very small or very large.
FARTHEST = 6.0
#: The share of the controls' ages that is left out at each end.
OUTER = 0.05
#: What `lines` of the facts says where every region has its line.
FITTED = "fitted"


def fit(train: pd.DataFrame, regions: Sequence[str], *, head: bool, age: bool) -> dict[str, Any]:
    """The lines of all regions, as plain numbers.

    Parameters
    ----------
    train : DataFrame
        Training scans: diagnosis, age_years, `intracranial` (mm³) and a column per region, mm³ or mm (thickness); blanks allowed.
    head, age : bool
        What is taken out.

    With fewer than `MIN_CONTROLS` controls there are no lines: volumes are divided by the intracranial volume (`head`), age
    stays in, and the deviation is that of all training scans.
    """
    controls = train[train["diagnosis"] == "CN"]
    enough = len(controls) >= MIN_CONTROLS
    of = controls if enough else train
    ages = of["age_years"].dropna()
    low, high = ages.quantile([OUTER, 1 - OUTER]) if len(ages) else (0.0, 0.0)
    how = {
        "of": f"{len(of)} {'CN ' if enough else ''}training scans",
        "lines": FITTED if enough else f"fewer than {MIN_CONTROLS} controls: a share of head size, age left in",
        "regions": list(regions),
        "head": head,
        "age": age and enough,
        "age_years": [float(low), float(high)],
        "usual_age_years": float(ages.clip(low, high).mean()) if len(ages) else 0.0,
        "usual_log_icv": float(np.log(of[ICV]).median()) if head else 0.0,
    }
    design, values = _design(of, how), _values(of, regions)
    slopes = np.zeros((len(regions), 3))
    for place, region in enumerate(regions):
        known = np.isfinite(values[:, place])
        used = _used(region, how)
        if enough and known.sum() >= MIN_CONTROLS:
            slopes[place, used] = np.linalg.lstsq(design[known][:, used], values[known, place], rcond=None)[0]
        else:
            slopes[place, 1] = float(head and not _is_thickness(region))
            slopes[place, 0] = (values[known, place] - design[known, 1:] @ slopes[place, 1:]).mean()
    with np.errstate(invalid="ignore"):
        deviation = np.nanstd(values - design @ slopes.T, axis=0)
    how |= {"slopes": slopes.tolist(), "deviation": np.where(deviation > 0, deviation, 1.0).tolist()}
    typical = np.nanmedian(_scores(train, how), axis=0)
    return how | {"blank": np.where(np.isfinite(typical), typical, 0.0).tolist()}


def apply(table: pd.DataFrame, how: Mapping[str, Any]) -> np.ndarray:
    """W-scores of scans: (n_scans, n_regions) float; a blank region is the training scans' median."""
    scores = _scores(table, how)
    return np.where(np.isfinite(scores), scores, np.asarray(how["blank"]))


def _scores(table: pd.DataFrame, how: Mapping[str, Any]) -> np.ndarray:
    residuals = _values(table, how["regions"]) - _design(table, how) @ np.asarray(how["slopes"]).T
    return np.clip(residuals / np.asarray(how["deviation"]), -FARTHEST, FARTHEST)


def _values(table: pd.DataFrame, regions: Sequence[str]) -> np.ndarray:
    """Log volumes and thicknesses as they are: (n_scans, n_regions)."""
    values = table[list(regions)].to_numpy(dtype=float)
    thick = np.array([_is_thickness(region) for region in regions])
    return np.where(thick, values, np.log1p(values))


def _design(table: pd.DataFrame, how: Mapping[str, Any]) -> np.ndarray:
    """One, log head size and age, the last two from their usual values, where a blank lies as well: (n_scans, 3)."""
    head, age = np.zeros(len(table)), np.zeros(len(table))
    if how["head"]:
        head = np.log(table[ICV].to_numpy(dtype=float)) - how["usual_log_icv"]
    if how["age"]:
        age = table["age_years"].to_numpy(dtype=float).clip(*how["age_years"]) - how["usual_age_years"]
    return np.column_stack([np.ones(len(table)), np.nan_to_num(head), np.nan_to_num(age)])


def _used(region: str, how: Mapping[str, Any]) -> list[int]:
    """The columns of the design that a region's line has."""
    return [0] + [1] * (how["head"] and not _is_thickness(region)) + [2] * how["age"]


def _is_thickness(region: str) -> bool:
    return region.endswith("_thickness")
