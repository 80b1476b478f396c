"""The report's opening: what was found and how sure that is, in a few plain sentences made from the tables of `evaluate`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from elr_mri.findings.predicted import UNSEEN
from elr_mri.findings.style import group_title
from elr_mri.findings.words import LEAD, against, guessing, how_sure, percent
from elr_mri.scans.predictions import ENSEMBLE

#: Groups of unseen scans that the opening tells of; the rest stand in their section.
MAX_GROUPS = 3


def in_short(results: pd.DataFrame, differences: pd.DataFrame, reference: str) -> list[tuple[str, str]]:
    """(what it is about, sentence): who was scored, what the best method reaches in each unseen group and how sure, and a caution."""
    rows = results[(results["metric"] == LEAD) & results["split"].isin(UNSEEN)].dropna(subset=["value"])
    if rows.empty:
        return [("What was found", "No scan of an unseen subject was scored, so this study says nothing yet of how well any method works.")]  # fmt: skip
    pairs = differences[differences["metric"] == LEAD]
    said, open_, n_pairs = [], False, 0
    groups = list(rows.groupby(["cohort", "split"], sort=False))
    for (cohort, split), scores in groups[:MAX_GROUPS]:
        here = pairs[(pairs["cohort"] == cohort) & (pairs["split"] == split)]
        n_pairs += len(here)
        best = scores.loc[scores["value"].idxmax()]
        tied = _not_told_apart(str(best["model"]), here)
        open_ = open_ or bool(tied)
        said.append(
            (
                group_title(cohort, split),
                _best(best, scores, guessing(results, cohort, split)) + _rivals(best, scores, here, tied, reference),
            )
        )
    told = [("What was done", _scored(results, len(groups))), *said]
    return [*told, ("How sure", _caution(float(rows["level"].iloc[0]), n_pairs, open_))]


def _scored(results: pd.DataFrame, n_groups: int) -> str:
    """How many methods were scored, and on whom."""
    unseen = results[results["split"].isin(UNSEEN)].drop_duplicates(["cohort", "split"])
    n = sum(not str(model).endswith(ENSEMBLE) for model in results["model"].unique())  # which is no training of its own
    whom = "; ".join(
        f"{group_title(row.cohort, row.split)}, {row.n_scans:,} scans of {row.n_subjects:,} subjects"
        for row in unseen.head(MAX_GROUPS).itertuples()
    )
    more = f"; and {n_groups - MAX_GROUPS} more groups" if n_groups > MAX_GROUPS else ""
    methods = f"{n} methods were" if n > 1 else "One method was"
    return f"{methods} trained to tell CN, MCI and AD apart, and scored on people whom none had seen: {whom}{more}."


def _best(best: pd.Series, scores: pd.DataFrame, guess: float) -> str:
    """What the best method reaches, beside guessing."""
    beats = "" if best["low"] > guess else " That cannot be told from guessing."
    lead = f"the best of {len(scores)} methods, {best['model']}," if len(scores) > 1 else str(best["model"])
    sentence = f"{lead} reaches a balanced accuracy of {percent(best['value'])} %, {how_sure(best)}; guessing reaches {percent(guess)} %.{beats}"
    return sentence[0].upper() + sentence[1:]


def _not_told_apart(model: str, pairs: pd.DataFrame) -> list[str]:
    """The methods whose paired difference from `model` spans zero, or is unknown."""
    versus = against(pairs, model)
    told = (versus["low"] > 0) | (versus["high"] < 0)
    return list(versus.loc[~told, "model"])


def _rivals(best: pd.Series, scores: pd.DataFrame, pairs: pd.DataFrame, tied: list[str], reference: str) -> str:
    """Against the reference by points; then with how many others it shares the first place."""
    said, others = "", len(scores) - 1
    versus = against(pairs, reference)
    own = versus[versus["model"] == best["model"]]
    if len(own) and np.isfinite(float(own["difference"].iloc[0])):
        row = own.iloc[0]
        verdict = "better" if row["low"] > 0 else "worse" if row["high"] < 0 else "not told apart"
        said += (
            f" Against {reference}, on the same scans: {percent(row['difference'], '+')} points "
            f"({percent(row['low'], '+')} to {percent(row['high'], '+')}), {verdict}."
        )
    rest = [name for name in tied if name != reference]
    if others and rest:
        said += f" {_count(len(rest))} other method{'s' if len(rest) > 1 else ''} cannot be told from it ({', '.join(rest)}): which is best stays open."
    elif others and not tied:
        said += " It is better than every other method by the whole interval."
    return said


def _caution(level: float, n_pairs: int, open_: bool) -> str:
    """Why not to make much of the order of the methods."""
    width = f"Intervals are {100 * level:g} % intervals over subjects; they tell the luck of the draw of subjects, not that of another training run or another hospital."
    if not n_pairs:
        return width
    overlap = " Where intervals overlap or a paired difference spans zero, the order of the methods is not a finding." if open_ else ""  # fmt: skip
    return f"{width}{overlap} {n_pairs} pairs were compared: about one interval in {1 / (1 - level):.0f} misses by chance alone."


def _count(n: int) -> str:
    """A small number as a word."""
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
    return words[n] if n < len(words) else str(n)
