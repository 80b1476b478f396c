"""The statistics of `evaluate`: how long they take, and whether their intervals cover what they promise.

    python benchmarks/scores.py speed                     2,600 scans, one model, every score, beside a plain loop over scikit-learn;
                                                          then `evaluate` as a whole: 5,000 scans × 6 models
    python benchmarks/scores.py coverage --studies 2000   simulated studies of the published test set's size: 96 subjects, about 380 scans
    python benchmarks/scores.py coverage --methods        the same by four ways to make an interval, from the same draws (decision 0015)

Limits (issue on findings): 5 s for 2,600 scans and 2,000 draws; about a minute for the whole; coverage of 93 to 97 % for nominal 95 %.
"""

from __future__ import annotations

import argparse
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
from elr_mri.findings.bootstrap import centred, draw_scores, interval, weight_chunks
from elr_mri.findings.evaluate import ECE, compare, evaluate
from elr_mri.findings.metrics import METRICS, score, weighted_scores
from elr_mri.findings.predicted import Group
from elr_mri.scans.predictions import PREDICTIONS, prediction_table
from elr_mri.scans.table import CLASSES

LIMIT_S, LIMIT_WHOLE_S = 5.0, 60.0
#: Where the classes lie on the latent severity, and how sure a model is of what it sees.
CENTRES, SHARPNESS = np.array([-1.0, 0.0, 1.0]), 1.6
#: Of each simulated model: deviation of what it gets wrong about a subject, at all visits alike, and about a single visit.
MODELS = {"better": (0.35, 0.30), "worse": (0.60, 0.45)}
#: Deviation of what both models get wrong about a subject.
SHARED = 0.6
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


def simulate(rng: np.random.Generator, n_subjects: int, models: dict[str, tuple[float, float]] = MODELS) -> Group:
    """A study: subjects with 1 to 7 visits, who grow worse and may change class, seen by models that err alike at a subject's visits."""
    visits = rng.integers(1, 8, n_subjects)
    who = np.repeat(np.arange(n_subjects), visits)
    order = np.arange(len(who)) - np.repeat(np.cumsum(visits) - visits, visits)
    severity = rng.normal(size=n_subjects)[who] + np.abs(rng.normal(0, 0.06, n_subjects))[who] * order
    seen = severity + rng.normal(0, SHARED, n_subjects)[who]
    logits = {}
    for name, (of_subject, of_visit) in models.items():
        guess = seen + of_subject * rng.normal(size=n_subjects)[who] + of_visit * rng.normal(size=len(who))
        logits[name, 0] = -SHARPNESS * (guess[:, None] - CENTRES) ** 2
    shares = {name: np.exp(z - z.max(axis=1, keepdims=True)) for name, z in logits.items()}
    said = {name: share / share.sum(axis=1, keepdims=True) for name, share in shares.items()}
    return Group("SIM", "test", who.astype(str), np.digitize(severity, [-0.45, 0.6]), said, logits)


def truth(models: dict[str, tuple[float, float]], n_subjects: int) -> dict[str, dict[str, float]]:
    """Every model's scores over a population."""
    group = simulate(np.random.default_rng(10**6), n_subjects, models)
    pairs = zip(group.predictions.items(), group.logits.values(), strict=True)
    return {name: score(group.labels, p, z) for ((name, _), p), z in pairs}


def coverage(
    n_studies: int,
    *,
    n_subjects: int,
    draws: int,
    seed: int,
    names: Sequence[str] = TOLD,
    population: int = 40_000,
    by_scan: bool = False,
) -> pd.DataFrame:
    """By score: the share of studies whose interval holds the truth, of each model and of the paired difference.

    `beyond` and `short of` are the shares of studies whose whole interval of the difference lies above, or below, the truth. With `by_scan` the
    scans are drawn as if each were of another subject: what that would promise.
    """
    real, rng = truth(MODELS, population), np.random.default_rng(seed)
    settings = config.Evaluate(draws=draws)
    held = {name: [] for name in names}
    for study in range(n_studies):
        group = simulate(rng, n_subjects)
        group = replace(group, subjects=np.arange(len(group.labels)).astype(str)) if by_scan else group
        found, paired = compare(group, settings.model_copy(update={"seed": study}))
        rows = {(row["model"], row["metric"]): row for row in found} | {
            ("difference", row["metric"]): row for row in paired
        }
        for name in names:
            values = {model: real[model][name] for model in MODELS}
            values["difference"] = values["worse"] - values["better"]
            held[name].append(
                [rows[who, name]["low"] <= value <= rows[who, name]["high"] for who, value in values.items()]
            )
            span = rows["difference", name]
            held[name][-1] += [values["difference"] < span["low"], values["difference"] > span["high"]]
    columns = [*MODELS, "difference", "beyond", "short of"]
    return pd.DataFrame({name: np.mean(held[name], axis=0) for name in names}, index=columns).T


#: Ways to make an interval of a score's point value, its draws, and its values without each subject.
METHODS = ("percentiles", "expanded", "BCa", "jackknife t")


def compared(
    n_studies: int,
    *,
    n_subjects: int,
    draws: int,
    seed: int,
    names: Sequence[str] = TOLD,
    population: int = 40_000,
    level: float = 0.95,
) -> pd.DataFrame:
    """By score and method: the share of studies whose interval holds the truth, of each model and of the difference, and on which side the
    difference's misses; every method sees the same studies and draws. Only the percentiles' calibration errors are moved (`bootstrap.centred`).
    """
    real, rng = truth(MODELS, population), np.random.default_rng(seed)
    values = np.array([[real[model][name] for name in METRICS] for model in MODELS])
    values = np.concatenate([values, values[1:] - values[:1]])
    places = [METRICS.index(name) for name in names]
    held = []
    for study in range(n_studies):
        group = simulate(rng, n_subjects)
        points, drawn, without = (_with_difference(part) for part in _scored(group, draws=draws, seed=study))
        moved = drawn.copy()
        moved[:2, ECE] = centred(points[:2, ECE], drawn[:2, ECE])
        moved[2, ECE] = moved[1, ECE] - moved[0, ECE]
        for who in range(len(values)):
            for place in places:
                told = (points[who, place], drawn[who, place], without[who, place])
                spans = spans_of(*told, moved[who, place], level=level, n_subjects=n_subjects)
                held.append([(low > values[who, place], high < values[who, place]) for low, high in spans])
    missed = np.array(held).reshape(n_studies, len(values), len(names), len(METHODS), 2).mean(axis=0)
    columns = {who: 1 - missed[k].sum(axis=-1) for k, who in enumerate((*MODELS, "difference"))}
    columns |= {"beyond": missed[2, ..., 0], "short of": missed[2, ..., 1]}
    index = pd.MultiIndex.from_product([names, METHODS], names=["score", "method"])
    return pd.DataFrame({name: column.ravel() for name, column in columns.items()}, index=index)


def _scored(group: Group, *, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of both models every score: (2, n_scores), of the draws (2, n_scores, draws), and without each subject (2, n_scores, n_subjects)."""
    said, logits = list(group.predictions.values()), list(group.logits.values())
    drawn = draw_scores(group.labels, said, group.subjects, draws=draws, seed=seed, logits=logits)
    names, of_scan = np.unique(group.subjects, return_inverse=True)
    all_but_one = (np.arange(len(names))[:, None] != of_scan).astype(float)
    pairs = list(zip(said, logits, strict=True))
    points = np.array([list(score(group.labels, p, z).values()) for p, z in pairs])
    without = np.array([list(weighted_scores(group.labels, p, all_but_one, z).values()) for p, z in pairs])
    return points, drawn, without


def _with_difference(values: np.ndarray) -> np.ndarray:
    """Two models' values (2, …) and the second less the first: (3, …)."""
    return np.concatenate([values, values[1:] - values[:1]])


def spans_of(
    point: float, drawn: np.ndarray, without: np.ndarray, moved: np.ndarray, *, level: float, n_subjects: int
) -> list[tuple[float, float]]:
    """The interval by each of `METHODS`; the first two of the draws as `evaluate` moves them.

    BCa: Efron, JASA 82, 1987, with the acceleration of the jackknife over subjects. Jackknife: point ± t · its standard error.
    """
    off = without.mean() - without
    tails = norm.ppf([(1 - level) / 2, (1 + level) / 2])
    acceleration = (off**3).sum() / (6 * (off**2).sum() ** 1.5)
    below = ((drawn < point).sum() + 0.5 * (drawn == point).sum()) / len(drawn)
    bias = norm.ppf(np.clip(below, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))
    corrected = norm.cdf(bias + (bias + tails) / (1 - acceleration * (bias + tails)))
    reach = t.ppf((1 + level) / 2, n_subjects - 1) * np.sqrt((n_subjects - 1) / n_subjects * (off**2).sum())
    return [
        interval(moved, level=level),
        interval(moved, level=level, n_subjects=n_subjects),
        tuple(np.quantile(drawn, corrected)),
        (point - reach, point + reach),
    ]


def false_alarms(n_studies: int, *, n_subjects: int, draws: int, seed: int, names: Sequence[str] = TOLD) -> pd.Series:
    """By score: the share of studies in which two equally good models differ by p < 0.05."""
    rng = np.random.default_rng(seed)
    twins = {"one": MODELS["better"], "other": MODELS["better"]}
    alarms = []
    for study in range(n_studies):
        _, paired = compare(simulate(rng, n_subjects, twins), config.Evaluate(draws=draws, seed=study))
        p = {row["metric"]: row["p"] for row in paired}
        alarms.append([p[name] < 0.05 for name in names])
    return pd.Series(np.mean(alarms, axis=0), index=list(names))


def tell_coverage(options: argparse.Namespace) -> None:
    """Print the coverage, and how often equals are told apart."""
    size = {"n_subjects": options.subjects, "draws": options.draws, "seed": options.seed}
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
    ours = clock() - began
    weights = next(weight_chunks(group.subjects, draws=options.draws, seed=0))[: options.plain]
    began = clock()
    plain = [by_scikit_learn(labels, probabilities, one) for one in weights]
    theirs = (clock() - began) / len(plain) * options.draws
    off = max(abs(drawn[METRICS.index(name), i] - value) for i, one in enumerate(plain) for name, value in one.items())
    print(
        f"{len(labels)} scans, {options.draws} draws, {len(METRICS)} scores: {ours:.2f} s ({ours / LIMIT_S:.2f} of the limit)"
    )
    print(
        f"a plain loop over scikit-learn, {len(plain[0])} of these scores: {theirs:.0f} s ({theirs / ours:.0f} times as long, from {len(plain)} draws); largest difference {off:.1e}"
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
        group = simulate(rng, n_subjects, {f"model-{k}": (0.3 + 0.1 * k, 0.3) for k in range(n_models)})
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
    covers.add_argument("--methods", action="store_true", help="compare the ways to make an interval")
    covers.add_argument("--alarms", type=int, default=0, help="studies of two equally good models")
    covers.set_defaults(tell=tell_coverage)
    return parser


def main() -> None:
    options = arguments().parse_args()
    options.tell(options)


if __name__ == "__main__":
    main()
