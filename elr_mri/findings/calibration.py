"""Are the probabilities to be believed? Temperature scaling, fitted on validation scans only, and what it changes on unseen ones.

Every logit of a training is divided by one number, its temperature (Guo et al., ICML 2017): above 1 it makes a model less sure of
itself, below 1 more. Which class is predicted stays the same, and so do all scores that only ask that. The number is the one of lowest
log-loss on the validation scans of all cohorts; unseen scans are then judged before and after, on the same draws of subjects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from scipy.stats import norm

from elr_mri import config
from elr_mri.findings.bootstrap import centred, draw, interval, without_each
from elr_mri.findings.metrics import ECE_BINS, ERRORS, bins_of, weighted_errors
from elr_mri.findings.predicted import UNSEEN, Group
from elr_mri.scans.table import CLASSES

#: Where a temperature is looked for. At an end of it the validation scans cannot tell the temperature.
BOUNDS = (0.05, 20.0)
#: As near to an end of `BOUNDS`, as a share of it, is at the end.
AT_END = 1e-3
#: The place of the calibration error among `ERRORS`.
ECE = ERRORS.index("ece")


@dataclass(frozen=True)
class Fit:
    """A training's temperature and the validation scans that it rests on; NaN and a note where there is none."""

    temperature: float
    n_scans: int
    n_subjects: int
    log_loss_before: float
    log_loss_after: float
    note: str


def calibrate(groups: Sequence[Group], settings: config.Evaluate) -> tuple[list[dict], list[dict], list[dict]]:
    """Lines of `TEMPERATURES` of every model and seed, and of `CALIBRATION` and `RELIABILITY` for every unseen group."""
    validation = [group for group in groups if group.split == "val"]
    fits = {name: fit(validation, name) for name in (groups[0].predictions if groups else ())}
    temperatures = [{"model": model, "seed": seed, **vars(found)} for (model, seed), found in fits.items()]
    scores, curves = [], []
    for group in (group for group in groups if group.split in UNSEEN):
        after = {name: scaled(z, fits[name].temperature) for name, z in group.logits.items()}
        scores += _scores(group, after, settings)
        curves += _curves(group, "before", group.predictions, settings.level)
        curves += _curves(group, "after", after, settings.level)
    return temperatures, scores, curves


def fit(validation: Sequence[Group], name: tuple[str, int]) -> Fit:
    """The temperature of one training (model, seed) from the groups of validation scans."""
    if not validation:
        return Fit(np.nan, 0, 0, np.nan, np.nan, "no validation scans: nothing to fit a temperature on")
    labels = np.concatenate([group.labels for group in validation])
    logits = np.concatenate([group.logits[name] for group in validation])
    temperature = best_temperature(labels, logits)
    notes = [f"no validation scan of {CLASSES[c]}" for c in range(len(CLASSES)) if not (labels == c).any()]
    if temperature < BOUNDS[0] * (1 + AT_END):
        notes.append(
            "as small as is looked for: every validation scan is told right, which says nothing of how sure to be"
        )
    if temperature > BOUNDS[1] * (1 - AT_END):
        notes.append("as large as is looked for: on the validation scans the logits tell no more than guessing")
    return Fit(
        temperature,
        len(labels),
        sum(group.n_subjects for group in validation),
        log_loss(labels, softmax(logits, axis=1)),
        log_loss(labels, softmax(logits / temperature, axis=1)),
        "; ".join(notes),
    )


def best_temperature(labels: np.ndarray, logits: np.ndarray, *, bounds: tuple[float, float] = BOUNDS) -> float:
    """The temperature within `bounds` of lowest log-loss; labels (n,) int, logits (n, 3).

    The log-loss is convex in 1 / temperature, so the bounded search along its logarithm has one valley to find.
    """
    low, high = np.log(bounds)
    found = minimize_scalar(
        lambda x: log_loss(labels, softmax(logits * np.exp(-x), axis=1)),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of minus the natural logarithm of the true class's probability."""
    return float(weighted_errors(labels, probabilities, np.ones((1, len(labels))))["log_loss"][0])


def scaled(logits: np.ndarray, temperature: float) -> np.ndarray | None:
    """Probabilities of (n, 3) logits divided by a temperature; None where there is none."""
    return None if np.isnan(temperature) else softmax(logits / temperature, axis=1)


def _scores(group: Group, after: dict[tuple[str, int], np.ndarray | None], settings: config.Evaluate) -> Iterator[dict]:
    """Lines of `CALIBRATION`: means over a model's seeds, before, after and the paired difference; blank where a seed has no temperature."""
    for model in group.models:
        names = [name for name in group.predictions if name[0] == model]
        pairs = [(group.predictions[name], after[name]) for name in names]

        def errors(weights: np.ndarray, pairs=pairs) -> np.ndarray:  # (3 states, 3 scores, n_draws)
            seeds = []
            for pair in pairs:
                nothing = dict.fromkeys(ERRORS, np.full(len(weights), np.nan))
                told = [nothing if p is None else weighted_errors(group.labels, p, weights) for p in pair]
                before, then = ([one[name] for name in ERRORS] for one in told)
                seeds.append([before, then, np.subtract(then, before)])
            return np.mean(seeds, axis=0)

        points = errors(np.ones((1, len(group.labels))))[..., 0]
        drawn = draw(errors, group.subjects, draws=settings.draws, seed=settings.seed)
        drawn[:2, ECE] = centred(points[:2, ECE], drawn[:2, ECE])
        drawn[2, ECE] = drawn[1, ECE] - drawn[0, ECE]
        fewer = without_each(errors, group.subjects)
        counts = {"n_scans": len(group.labels), "n_subjects": group.n_subjects, "n_seeds": len(names)}
        for place, metric in enumerate(ERRORS):
            for state, name in enumerate(("before", "after", "difference")):
                low, high = interval(drawn[state, place], level=settings.level, without=fewer[state, place])
                value = {"value": points[state, place], "low": low, "high": high}
                line = {"model": model, **group.place, "metric": metric, "state": name, **value}
                yield line | {"level": settings.level} | counts


def _curves(group: Group, state: str, said: dict[tuple[str, int], np.ndarray | None], level: float) -> Iterator[dict]:
    """Lines of `RELIABILITY`: of each model, over the predictions of all its seeds; none where a seed has no probabilities."""
    for model in group.models:
        tables = [probabilities for (name, _), probabilities in said.items() if name == model]
        if any(table is None for table in tables):
            continue
        probabilities = np.concatenate(tables)
        confidence = probabilities.max(axis=1)
        right = probabilities.argmax(axis=1) == np.tile(group.labels, len(tables))
        subjects, place = np.tile(group.subjects, len(tables)), bins_of(confidence)
        for number in range(ECE_BINS):
            if not (here := place == number).any():
                continue
            n_subjects, share = len(np.unique(subjects[here])), float(right[here].mean())
            low, high = share_interval(share, n_subjects, level=level)
            line = {"model": model, **group.place, "state": state, "bin": number}
            line |= {"n_predictions": int(here.sum()), "n_subjects": n_subjects}
            yield line | {
                "confidence": float(confidence[here].mean()),
                "right": share,
                "low": low,
                "high": high,
                "level": level,
            }


def share_interval(share: float, n_subjects: int, *, level: float) -> tuple[float, float]:
    """Wilson's interval of a share (1927) as if each subject had answered once.

    A bin may hold few subjects, all right or all wrong: a bootstrap would then promise certainty. Scans of one subject count
    as one answer, so that their likeness cannot narrow the interval.
    """
    z2 = float(norm.ppf((1 + level) / 2)) ** 2
    middle = (share + z2 / (2 * n_subjects)) / (1 + z2 / n_subjects)
    half = np.sqrt(z2 * (share * (1 - share) / n_subjects + z2 / (4 * n_subjects**2))) / (1 + z2 / n_subjects)
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))
