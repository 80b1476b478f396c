"""The statistics of `evaluate`: how long they take, and whether their intervals cover what they promise.

    python benchmarks/scores.py speed                     2,600 scans, one model, every score, beside a plain loop over scikit-learn;
                                                          then `evaluate` as a whole: 5,000 scans × 6 models
    python benchmarks/scores.py coverage --studies 2000   simulated studies of the published test set's size: 96 subjects, about 380 scans
    python benchmarks/scores.py coverage --methods        the same by five ways to make an interval, from the same draws (decision 0015)
    python benchmarks/scores.py coverage --population sure --subjects 48      another population, other models

Limits (issue on findings): 5 s for 2,600 scans and 2,000 draws; about a minute for the whole; coverage of 93 to 97 % for nominal 95 %.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm, t
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    recall_score,
    roc_auc_score,
)

from elr_mri import config
from elr_mri.findings.bootstrap import (
    centred,
    count_chunks,
    draw_scores,
    interval,
    scoring,
    weight_chunks,
    without_each,
)
from elr_mri.findings.evaluate import ECE, evaluate, lines
from elr_mri.findings.metrics import METRICS, score
from elr_mri.findings.predicted import Group
from elr_mri.scans.predictions import PREDICTIONS, prediction_table
from elr_mri.scans.table import CLASSES

sys.path.insert(0, str(Path(__file__).resolve().parent))
from simulated import POPULATIONS, Population, quick_scores, simulate

LIMIT_S, LIMIT_WHOLE_S = 5.0, 60.0
LEVEL = 0.95
WHO = ("better", "worse")
#: What is told by default: the scores that the issue names, and the others of the main tables.
TOLD = (
    "balanced_accuracy",
    "micro_auc",
    "macro_auc",
    "accuracy",
    "auc_mci",
    "sensitivity_mci",
    "macro_f1",
    "brier",
    "log_loss",
    "ece",
)


def clock() -> float:
    """Seconds of this process on a core: on a machine that is shared, the rest is the others'. Nothing here uses more than one core."""
    return time.process_time()


def truth(like: Population, n_subjects: int) -> np.ndarray:
    """Every score over a population, of both models and the difference: (3, n_metrics)."""
    group = simulate(np.random.default_rng(10**6), n_subjects, like)
    pairs = zip(group.predictions.values(), group.logits.values(), strict=True)
    return _with_difference(np.array([list(score(group.labels, p, z).values()) for p, z in pairs]))


def coverage(
    n_studies: int,
    *,
    n_subjects: int,
    draws: int,
    seed: int,
    names: Sequence[str] = TOLD,
    like: Population = POPULATIONS["published"],
    population: int = 40_000,
    by_scan: bool = False,
) -> pd.DataFrame:
    """By score: the share of studies whose interval holds the truth, of each model and of the paired difference.

    `beyond` and `short of` are the shares of studies whose whole interval of the difference lies above, or below, the truth. With `by_scan` the
    scans are drawn as if each were of another subject: what that would promise.
    """
    real, rng = truth(like, population), np.random.default_rng(seed)
    places = [METRICS.index(name) for name in names]
    ends = []
    for study in range(n_studies):
        group = simulate(rng, n_subjects, like)
        group = replace(group, subjects=np.arange(len(group.labels)).astype(str)) if by_scan else group
        found, paired = lines(group, *_scored(group, draws=draws, seed=study), level=LEVEL)
        spans = np.array([[row["low"], row["high"]] for row in (*found, *paired)])
        ends.append(spans.reshape(3, len(METRICS), 2)[:, places])
    return _told(np.array(ends), real[:, places], pd.Index(names))


def _told(ends: np.ndarray, real: np.ndarray, index: pd.Index) -> pd.DataFrame:
    """Coverage of each model and of the difference, and on which side the difference's misses are; an interval that there is not holds nothing.

    ends (n_studies, 3, n_lines, 2), real (3, n_lines).
    """
    above, below = ends[..., 0] > real, ends[..., 1] < real
    held = (ends[..., 0] <= real) & (real <= ends[..., 1])
    columns = {who: held[:, k].mean(axis=0) for k, who in enumerate((*WHO, "difference"))}
    columns |= {"beyond": above[:, 2].mean(axis=0), "short of": below[:, 2].mean(axis=0)}
    return pd.DataFrame(columns, index=index)


#: Ways to make an interval of a score's point value, its draws, and its values without each subject.
METHODS = ("percentiles", "expanded", "widened", "BCa", "jackknife t")


def compared(
    n_studies: int,
    *,
    n_subjects: int,
    draws: int,
    seed: int,
    names: Sequence[str] = TOLD,
    like: Population = POPULATIONS["published"],
    population: int = 40_000,
) -> pd.DataFrame:
    """By score and method: the share of studies whose interval holds the truth, of each model and of the difference, and on which side the
    difference's misses; every method sees the same studies and draws. Only the percentiles' calibration errors are moved (`bootstrap.centred`).
    """
    real, rng = truth(like, population), np.random.default_rng(seed)
    places = [METRICS.index(name) for name in names]
    ends = []
    for study in range(n_studies):
        group = simulate(rng, n_subjects, like)
        points, drawn, without = (_with_difference(part) for part in _scored(group, draws=draws, seed=study))
        moved = drawn.copy()
        moved[:2, ECE] = centred(points[:2, ECE], drawn[:2, ECE])
        moved[2, ECE] = moved[1, ECE] - moved[0, ECE]
        parts = points, drawn, without, moved
        spans = [spans_of(*(part[who, place] for part in parts), level=LEVEL) for who in range(3) for place in places]
        ends.append(np.array(spans).reshape(3, len(names) * len(METHODS), 2))
    index = pd.MultiIndex.from_product([names, METHODS], names=["score", "method"])
    return _told(np.array(ends), real[:, np.repeat(places, len(METHODS))], index)


def _scored(group: Group, *, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of both models every score: (2, n_metrics), of the draws of `bootstrap` (2, n_metrics, draws), and without each subject (2, n_metrics, n_subjects)."""
    n_subjects, scores = quick_scores(group)
    counts = np.concatenate(list(count_chunks(n_subjects, draws=draws, seed=seed)))
    return scores(np.ones((1, n_subjects)))[..., 0], scores(counts), scores(1 - np.eye(n_subjects))


def _with_difference(values: np.ndarray) -> np.ndarray:
    """Two models' values (2, …) and the second less the first: (3, …)."""
    return np.concatenate([values, values[1:] - values[:1]])


def spans_of(
    point: float, drawn: np.ndarray, without: np.ndarray, moved: np.ndarray, *, level: float
) -> list[tuple[float, float]]:
    """The interval by each of `METHODS`; the first three of the draws as `evaluate` moves them, the third its own.

    Expanded: Hesterberg, The American Statistician 69, 2015. BCa: Efron, JASA 82, 1987, with the acceleration of the jackknife over subjects.
    Jackknife: point ± t · its standard error.
    """
    off, n_subjects = without.mean() - without, len(without)
    tails, reach = norm.ppf([(1 - level) / 2, (1 + level) / 2]), t.ppf((1 + level) / 2, n_subjects - 1)
    with np.errstate(invalid="ignore"):
        acceleration = (off**3).sum() / (6 * (off**2).sum() ** 1.5)  # NaN where nobody moves the score
    below = ((drawn < point).sum() + 0.5 * (drawn == point).sum()) / len(drawn)
    bias = norm.ppf(np.clip(below, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))
    corrected = norm.cdf(bias + (bias + tails) / (1 - acceleration * (bias + tails)))
    error = np.sqrt((n_subjects - 1) / n_subjects * (off**2).sum())
    further = norm.cdf(reach * np.sqrt(n_subjects / (n_subjects - 1)))
    return [
        interval(moved, level=level),
        interval(moved, level=2 * further - 1),
        interval(moved, level=level, without=without),
        tuple(np.quantile(drawn, corrected)) if np.isfinite(corrected).all() else (np.nan, np.nan),
        (point - reach * error, point + reach * error),
    ]


def false_alarms(
    n_studies: int,
    *,
    n_subjects: int,
    draws: int,
    seed: int,
    names: Sequence[str] = TOLD,
    like: Population = POPULATIONS["published"],
) -> pd.Series:
    """By score: the share of studies in which two equally good models differ by p < 0.05."""
    rng, alarms = np.random.default_rng(seed), []
    twins = replace(like, worse=like.better)
    for study in range(n_studies):
        group = simulate(rng, n_subjects, twins)
        _, paired = lines(group, *_scored(group, draws=draws, seed=study), level=LEVEL)
        p = {row["metric"]: row["p"] for row in paired}
        alarms.append([p[name] < 0.05 for name in names])
    return pd.Series(np.mean(alarms, axis=0), index=list(names))


def tell_coverage(options: argparse.Namespace) -> None:
    """Print the coverage, and how often equals are told apart."""
    size = {"n_subjects": options.subjects, "draws": options.draws, "seed": options.seed}
    size["like"] = POPULATIONS[options.population]
    began = clock()
    found = compared(options.studies, **size) if options.methods else coverage(options.studies, **size)
    error = 100 * np.sqrt(0.95 * 0.05 / options.studies)
    print(
        f"{options.studies} studies of {options.subjects} subjects, {options.draws} draws each; nominal 95 %, ± {error:.1f} by simulation"
    )
    print(f"{'percent':32s}" + "".join(f"{name:>12s}" for name in found.columns))
    for name, row in found.iterrows():
        title = f"{name[0]:<20s}{name[1]}" if options.methods else name
        print(f"{title:32s}" + "".join(f"{100 * value:12.1f}" for value in row))
    if options.alarms:
        alarms = false_alarms(options.alarms, **size)
        print(
            f"p < 0.05 between equals, {options.alarms} studies: "
            + ", ".join(f"{name} {100 * share:.1f} %" for name, share in alarms.items())
        )
    print(f"{clock() - began:.0f} s")


def tell_speed(options: argparse.Namespace) -> None:
    """Print how long the draws of one model take, beside scikit-learn's, and how long the whole of `evaluate` takes."""
    group = simulate(np.random.default_rng(0), options.scans // 4)
    (probabilities, *_), labels = group.predictions.values(), group.labels
    began = clock()
    drawn = draw_scores(labels, [probabilities], group.subjects, draws=options.draws, seed=0)[0]
    of_draws = clock() - began
    without_each(scoring(labels, [probabilities]), group.subjects)
    ours = clock() - began
    weights = next(weight_chunks(group.subjects, draws=options.draws, seed=0))[: options.plain]
    began = clock()
    plain = [by_scikit_learn(labels, probabilities, one) for one in weights]
    theirs = (clock() - began) / len(plain) * options.draws
    off = max(abs(drawn[METRICS.index(name), i] - value) for i, one in enumerate(plain) for name, value in one.items())
    print(
        f"{len(labels)} scans, {options.draws} draws, {len(METRICS)} scores: {of_draws:.2f} s, and without each of {group.n_subjects} subjects: {ours:.2f} s ({ours / LIMIT_S:.2f} of the limit)"
    )
    print(
        f"a plain loop over scikit-learn, {len(plain[0])} of these scores: {theirs:.0f} s ({theirs / of_draws:.0f} times as long as the draws, from {len(plain)} draws); largest difference {off:.1e}"
    )
    if options.no_whole:
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = write_predictions(Path(folder))
        began = clock()
        evaluate(prediction_paths=paths, settings=config.Evaluate(draws=options.draws), out_dir=Path(folder))
        whole = clock() - began
    print(f"evaluate, 5,000 scans × {len(paths)} models: {whole:.1f} s ({whole / LIMIT_WHOLE_S:.2f} of the limit)")


def by_scikit_learn(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """One draw's scores."""
    predicted, one_hot, held = probabilities.argmax(axis=1), np.eye(3)[labels], {"sample_weight": weights}
    classes = {"labels": [0, 1, 2], "average": None} | held
    told = {
        "accuracy": accuracy_score(labels, predicted, **held),
        "balanced_accuracy": balanced_accuracy_score(labels, predicted, **held),
        "micro_auc": roc_auc_score(one_hot, probabilities, average="micro", **held),
        "macro_f1": f1_score(labels, predicted, average="macro", **held),
        "log_loss": log_loss(labels, probabilities, labels=[0, 1, 2], **held),
    }
    aucs = roc_auc_score(one_hot, probabilities, average=None, **held)
    for kind, values in (
        ("auc", aucs),
        ("sensitivity", recall_score(labels, predicted, **classes)),
        ("f1", f1_score(labels, predicted, **classes)),
    ):
        told |= {f"{kind}_{name.lower()}": value for name, value in zip(CLASSES, values, strict=True)}
    return told | {"macro_auc": float(np.mean(aucs))}


def write_predictions(folder: Path, n_models: int = 6) -> list[Path]:
    """Prediction tables of a study of 5,000 scans: 2,090 for training, 390 for validation, 380 for the test, 2,140 external."""
    rng, parts = np.random.default_rng(1), []
    for split, n_subjects in (("train", 522), ("val", 97), ("test", 95), ("external", 536)):
        group = simulate(rng, n_subjects, models={f"model-{k}": (0.3 + 0.1 * k, 0.3) for k in range(n_models)})
        cohort = "NACC" if split == "external" else "ADNI"
        facts = pd.DataFrame(
            {"subject_id": [f"{split}{name}" for name in group.subjects], "cohort": cohort, "split": split}
        )
        facts["scan_id"] = [f"{split}{i}" for i in range(len(facts))]
        parts.append((facts.assign(diagnosis=[CLASSES[c] for c in group.labels]), group.logits))
    paths = []
    for name, seed in parts[0][1]:
        scans = pd.concat([facts for facts, _ in parts], ignore_index=True)
        logits = np.concatenate([logits[name, seed] for _, logits in parts])
        paths.append(folder / f"{name}.tsv")
        PREDICTIONS.write(prediction_table(scans, logits, model=name, seed=seed), paths[-1])
    return paths


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(required=True)
    speed = steps.add_parser("speed")
    speed.add_argument("--scans", type=int, default=2600)
    speed.add_argument("--draws", type=int, default=2000)
    speed.add_argument("--plain", type=int, default=20, help="draws that the plain loop makes")
    speed.add_argument("--no-whole", action="store_true", help="leave out `evaluate` as a whole")
    speed.set_defaults(tell=tell_speed)
    covers = steps.add_parser("coverage")
    covers.add_argument("--studies", type=int, default=2000)
    covers.add_argument("--subjects", type=int, default=96)
    covers.add_argument("--draws", type=int, default=2000)
    covers.add_argument("--seed", type=int, default=0)
    covers.add_argument("--population", choices=POPULATIONS, default="published")
    covers.add_argument("--methods", action="store_true", help="compare the ways to make an interval")
    covers.add_argument("--alarms", type=int, default=0, help="studies of two equally good models")
    covers.set_defaults(tell=tell_coverage)
    return parser


def main() -> None:
    options = arguments().parse_args()
    options.tell(options)


if __name__ == "__main__":
    main()
