"""Subjects shared out so that every class, age and sex is shared out alike.

A first draw walks along the subjects in an order: by diagnosis at the first scan, then age band, then sex, and within
such a stratum by a hash of seed and subject. Each goes to the part that is furthest behind its share, so every stretch
of the order (a class, a class and age band …) holds each part within about one subject of its share.

A later draw leaves earlier subjects where they are. Each new one, in the same order, goes to the part that is furthest
behind in its stratum, of those that in its class are within half a subject of the one furthest behind. So a class
stays within about one subject of its shares however often subjects are added, and its ages and sexes follow as far as
that allows (compare minimisation: Pocock and Simon, Biometrics 1975).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from elr_mri.scans.table import CLASSES

#: Age bands for stratification, in years.
AGE_EDGES = (65.0, 70.0, 75.0, 80.0, 85.0)
#: How much further behind in its class, in subjects, another part may be than the one that is chosen.
SLACK = 0.5
_STRATUM = ["_class", "_age", "_sex"]


def in_order(people: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Subjects (subject_id, diagnosis, age_years, sex) by class, age band and sex, and by hash within these."""
    keyed = people.assign(
        _class=people["diagnosis"].map({name: place for place, name in enumerate(CLASSES)}),
        _age=np.digitize(people["age_years"], AGE_EDGES),
        _sex=people["sex"].fillna(""),
        _hash=[_hash(seed, s) for s in people["subject_id"]],
    )
    return keyed.sort_values([*_STRATUM, "_hash"], kind="stable")


def draw(ordered: pd.DataFrame, shares: Mapping[object, float], earlier: Mapping[str, object]) -> pd.Series:
    """The part of each subject, by subject_id.

    Parameters
    ----------
    ordered : subjects as `in_order` gives them
    shares : part -> its share of the subjects
    earlier : subject -> its part, for those who have one; they keep it
    """
    names, subjects = list(shares), ordered["subject_id"].tolist()
    kept = [names.index(earlier[s]) if s in earlier else None for s in subjects]
    if any(place is not None for place in kept):
        places = _fill(list(ordered[_STRATUM].itertuples(index=False, name=None)), list(shares.values()), kept)
    else:
        places = _spread(len(subjects), list(shares.values()))
    return pd.Series([names[place] for place in places], index=pd.Index(subjects, dtype=object), dtype=object)


def _hash(seed: int, subject: str) -> str:
    return hashlib.sha256(f"{seed}:{subject}".encode()).hexdigest()


def _spread(n: int, shares: Sequence[float]) -> list[int]:
    """For n places in a row, which share each goes to: always the one furthest behind, ties to the smaller share."""
    counts, out = np.zeros(len(shares)), []
    for i in range(n):
        behind = np.asarray(shares) * (i + 1) - counts
        best = max(range(len(shares)), key=lambda k: (round(behind[k], 9), -shares[k]))
        counts[best] += 1
        out.append(best)
    return out


def _fill(strata: Sequence[tuple], shares: Sequence[float], kept: Sequence[int | None]) -> list[int]:
    """Which share each place goes to, where some are taken; a stratum's first entry is its class."""
    counts = {group: np.zeros(len(shares)) for stratum in strata for group in (stratum, stratum[:1])}
    for stratum, place in zip(strata, kept, strict=True):
        if place is not None:
            counts[stratum][place] += 1
            counts[stratum[:1]][place] += 1
    out = []
    for stratum, place in zip(strata, kept, strict=True):
        if place is None:
            place = _furthest_behind(counts[stratum[:1]], counts[stratum], np.asarray(shares))
            counts[stratum][place] += 1
            counts[stratum[:1]][place] += 1
        out.append(place)
    return out


def _furthest_behind(in_class: np.ndarray, in_stratum: np.ndarray, shares: np.ndarray) -> int:
    """The place of one more subject; ties to the one further behind in the class, then to the smaller share."""
    behind_class, behind = (shares * (counts.sum() + 1) - counts for counts in (in_class, in_stratum))
    near = [k for k in range(len(shares)) if shares[k] > 0 and behind_class[k] > behind_class.max() - SLACK - 1e-9]
    return max(near, key=lambda k: (round(behind[k], 9), round(behind_class[k], 9), -shares[k]))
