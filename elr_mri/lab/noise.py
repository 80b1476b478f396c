"""Wrong labels, made on purpose: which examples get one, and which one.

Symmetric noise as in Liu et al., NeurIPS 2020 (the true class is among those drawn from, so that fewer labels are really
wrong than are drawn); noise to the other classes, to a given one or to a neighbour in the order of the classes; and
instance-dependent noise after Chen, Ye, Chen, Zhao & Heng, AAAI 2021: an example is as hard as a reference model finds its likeliest wrong class
likely, the wrong label is that class, and the chance of being drawn grows with the hardness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from elr_mri.config import Noise
from elr_mri.errors import BadInput


@dataclass(frozen=True)
class Noisy:
    """Labels of n examples with some made wrong.

    Attributes
    ----------
    given : (n,) int
    drawn : (n,) bool
        Examples whose label was drawn anew; the draw may give the true class again.
    """

    given: np.ndarray
    drawn: np.ndarray


def wrong_labels(
    true: np.ndarray,
    n_classes: int,
    settings: Noise,
    *,
    subjects: np.ndarray | None = None,
    reference: np.ndarray | None = None,
    stream: int = 0,
) -> Noisy:
    """Draw examples and give them other labels.

    The number drawn is within one of its expectation, in all and in each class; with `per: subject` this holds for subjects, counted
    in the class of their first example.

    Parameters
    ----------
    true : (n,) int, 0 … n_classes − 1
    settings : Noise
        Its `splits` is the caller's matter.
    subjects : (n,) or None
        Whose example each is; needed where all examples of a subject are flipped alike.
    reference : (n, n_classes) float or None
        Probabilities by a reference model that did not train on the example (out of fold); needed for `kind: instance`.
    stream : int
        Which of several independent draws with a seed this is: that of a split does not depend on whether others are drawn.
    """
    true = np.asarray(true)
    rng = np.random.default_rng([settings.seed, stream])
    units, firsts = _units(true, settings, subjects)
    if settings.kind == "instance":
        reference = _checked(reference, len(true), n_classes)
        hardness = _group_mean(_runner_up(reference, true)[1], units)
        chances = growing_chances(hardness, settings.share)
    else:
        chances = np.full(len(firsts), settings.share)
    drawn = draw(rng, chances, true[firsts])[units]
    turns = rng.random(len(firsts))[units]
    return Noisy(np.where(drawn, _other(true, n_classes, settings, turns, reference), true), drawn)


def draw(rng: np.random.Generator, chances: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """(n,) bool: a random sample in which unit i is with chance `chances[i]`, and of whose size luck moves less than one.

    Systematic sampling in a random order within strata (Madow, Ann Math Stat 1949), so that each stratum is within one
    of its expected number too.
    """
    order = np.lexsort((rng.random(len(chances)), strata))
    passed = np.floor(np.concatenate([[0.0], chances[order].cumsum()]).round(9) + rng.random())
    drawn = np.empty(len(chances), dtype=bool)
    drawn[order] = np.diff(passed) > 0
    return drawn


def growing_chances(hardness: np.ndarray, share: float) -> np.ndarray:
    """Chances in proportion to the hardness (n,), at most 1, whose mean is `share`."""
    possible = float((hardness > 0).mean()) if len(hardness) else 1.0
    if share > possible:
        raise BadInput(
            expected=f"reference probabilities that leave room for a share of {share:g}",
            got=f"no doubt at all about {1 - possible:.0%} of the examples",
            where="the noise's reference predictions",
            fix="Use out-of-fold predictions, or a smaller share.",
        )
    wanted, certain = share * len(hardness), np.zeros(len(hardness), dtype=bool)
    while True:  # the chance that an example cannot take, because it is certain already, goes to the others
        rest = hardness[~certain].sum()
        scale = (wanted - certain.sum()) / rest if rest > 0 else 0.0
        chances = np.where(certain, 1.0, scale * hardness)
        if not (over := chances > 1).any():
            return chances
        certain |= over


def _other(
    true: np.ndarray, n_classes: int, settings: Noise, turns: np.ndarray, reference: np.ndarray | None
) -> np.ndarray:
    """(n,) int: what each label would be if it were drawn, from a uniform number in [0, 1) of each example."""
    if settings.kind == "symmetric":
        return (true + np.floor(turns * n_classes).astype(int)) % n_classes
    if settings.kind == "others":
        return (true + 1 + np.floor(turns * (n_classes - 1)).astype(int)) % n_classes
    if settings.kind == "asymmetric":
        return _mapping(settings.map, n_classes)[true]
    if settings.kind == "instance":
        return _runner_up(reference, true)[0]
    step = np.where(turns < 0.5, -1, 1)
    step = np.where(true == 0, 1, np.where(true == n_classes - 1, -1, step))
    return true + step


def _mapping(changes: dict[int, int], n_classes: int) -> np.ndarray:
    """(n_classes,) int: the class that each becomes; one that is not named stays."""
    beyond = [k for k in (*changes, *changes.values()) if not 0 <= k < n_classes]
    if beyond or all(a == b for a, b in changes.items()):
        raise BadInput(
            expected=f"classes 0 to {n_classes - 1} and what they become",
            got=str(beyond[0]) if beyond else "no change",
            where="noise.map",
            fix="Write for instance {1: 0, 2: 1}.",
        )
    mapping = np.arange(n_classes)
    mapping[list(changes)] = list(changes.values())
    return mapping


def _units(true: np.ndarray, settings: Noise, subjects: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """What is drawn: each example's unit (n,), and the first example of each unit (n_units,)."""
    if settings.per == "scan":
        return np.arange(len(true)), np.arange(len(true))
    if subjects is None:
        raise BadInput(
            expected="examples with subjects", got="none", where="noise.per: subject", fix="Set noise.per to scan."
        )
    _, firsts, units = np.unique(np.asarray(subjects), return_index=True, return_inverse=True)
    return units, firsts


def _runner_up(reference: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each example the likeliest class beside the true one, and its probability."""
    wrong = reference.copy()
    wrong[np.arange(len(true)), true] = -1
    return wrong.argmax(axis=1), wrong.max(axis=1, initial=0)


def _group_mean(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Mean of the values of each unit."""
    return np.bincount(units, weights=values) / np.bincount(units)


def _checked(reference: np.ndarray | None, n: int, n_classes: int) -> np.ndarray:
    """Reference probabilities of the right shape, as float64."""
    shape = None if reference is None else np.shape(reference)
    if shape != (n, n_classes) or not np.isfinite(reference).all() or np.min(reference, initial=0) < 0:
        raise BadInput(
            expected=f"a probability of each of {n_classes} classes for each of {n} examples",
            got="none" if shape is None else f"shape {shape}, or what is no probability",
            where="noise.kind: instance",
            fix="Give the predictions of a reference model that cover the examples.",
        )
    return np.asarray(reference, dtype=np.float64)
