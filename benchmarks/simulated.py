"""Simulated studies for `scores.py`, and every score of them from sums over subjects: several times as fast as scan by scan.

An AUC is a sum over pairs of scans, so over pairs of subjects: of a table (n_subjects, n_subjects) of how many pairs of their scans are in the right
order, every draw needs its counts of subjects, twice. All other scores are made of sums over scans. The tests hold both against `metrics.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from elr_mri.findings.metrics import METRICS, SMALLEST, bins_of
from elr_mri.findings.predicted import Group
from elr_mri.scans.table import CLASSES

#: Where the classes lie on the latent severity.
CENTRES = np.array([-1.0, 0.0, 1.0])


@dataclass(frozen=True)
class Population:
    """How sure models are of what they see, what all get wrong about a subject, and of each model what it gets wrong about a subject, at all visits
    alike, and about a single visit (deviations)."""

    sharpness: float = 1.6
    shared: float = 0.6
    better: tuple[float, float] = (0.35, 0.30)
    worse: tuple[float, float] = (0.60, 0.45)

    @property
    def models(self) -> dict[str, tuple[float, float]]:
        return {"better": self.better, "worse": self.worse}


#: `sure`: far too sure, one model errs by visit and the other by subject. `unsure`: what the models share is most of what is wrong.
POPULATIONS = {
    "published": Population(),
    "sure": Population(sharpness=4.0, shared=0.3, better=(0.2, 0.6), worse=(0.7, 0.2)),
    "unsure": Population(sharpness=0.7, shared=0.9, better=(0.3, 0.9), worse=(0.8, 0.1)),
}


def simulate(
    rng: np.random.Generator,
    n_subjects: int,
    like: Population = POPULATIONS["published"],
    models: dict[str, tuple[float, float]] | None = None,
) -> Group:
    """A study: subjects with 1 to 7 visits, who grow worse and may change class, seen by models that err alike at a subject's visits."""
    visits = rng.integers(1, 8, n_subjects)
    who = np.repeat(np.arange(n_subjects), visits)
    order = np.arange(len(who)) - np.repeat(np.cumsum(visits) - visits, visits)
    severity = rng.normal(size=n_subjects)[who] + np.abs(rng.normal(0, 0.06, n_subjects))[who] * order
    seen = severity + rng.normal(0, like.shared, n_subjects)[who]
    logits = {}
    for name, (of_subject, of_visit) in (models or like.models).items():
        guess = seen + of_subject * rng.normal(size=n_subjects)[who] + of_visit * rng.normal(size=len(who))
        logits[name, 0] = -like.sharpness * (guess[:, None] - CENTRES) ** 2
    shares = {name: np.exp(z - z.max(axis=1, keepdims=True)) for name, z in logits.items()}
    said = {name: share / share.sum(axis=1, keepdims=True) for name, share in shares.items()}
    return Group("SIM", "test", who.astype(str), np.digitize(severity, [-0.45, 0.6]), said, logits)


def quick_scores(group: Group) -> tuple[int, Callable[[np.ndarray], np.ndarray]]:
    """The number of subjects, and what makes of (n_draws, n_subjects) counts every score, (n_predictions, n_metrics, n_draws).

    Subjects in the order of `bootstrap.weight_chunks`. Pairs are counted in 32 bits, to the last one in studies of up to 2,000 scans.
    """
    names, of_scan = np.unique(group.subjects, return_inverse=True)
    whose = (of_scan == np.arange(len(names))[:, None]).astype(np.float32)
    sums = [_sums(group.labels, *told, whose) for told in zip(group.predictions.values(), group.logits.values(), strict=True)]  # fmt: skip

    def scores(counts: np.ndarray) -> np.ndarray:
        return np.array([_scored(*one, counts) for one in sums])

    return len(names), scores


def _sums(labels: np.ndarray, p: np.ndarray, logits: np.ndarray, whose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of subjects by AUC (5, n_subjects, n_subjects): each class's, then the pooled ones by probability and by logit; and the sums (n_subjects, 21)."""
    one_hot, right = labels[:, None] == np.arange(len(CLASSES)), labels == p.argmax(axis=1)
    of_truth, confidence = p[np.arange(len(labels)), labels], p.max(axis=1)
    pairs = []
    for c in range(len(CLASSES)):
        own = one_hot[:, c]
        pairs.append(whose[:, own] @ _ordered(p[own, c], p[~own, c]) @ whose[:, ~own].T)
    for values in (p, logits.round(9)):
        own = values[np.arange(len(labels)), labels]
        against = [_ordered(own, values[~one_hot[:, c], c]) @ whose[:, ~one_hot[:, c]].T for c in range(len(CLASSES))]
        pairs.append(whose @ np.sum(against, axis=0))
    gaps = np.zeros((len(labels), 10))
    gaps[np.arange(len(labels)), bins_of(confidence)] = confidence - right
    cells = (labels * 3 + p.argmax(axis=1))[:, None] == np.arange(9)
    losses = ((p - one_hot) ** 2).sum(axis=1), -np.log(np.maximum(of_truth, SMALLEST))
    return np.array(pairs), whose.astype(float) @ np.column_stack([cells, *losses, gaps])


def _ordered(higher: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """1 where a pair is in the right order, a half where it is tied: (n, m)."""
    return np.heaviside(higher[:, None] - lower, 0.5).astype(np.float32)


def _scored(pairs: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Every score, (n_metrics, n_draws), in the order of `METRICS`."""
    found, single = (counts @ sums).T, counts.astype(np.float32)
    table = found[:9].reshape(3, 3, -1)  # true by row, predicted by column
    hits, total = np.stack([table[c, c] for c in range(3)]), table.sum(axis=(0, 1))
    of_class, named = table.sum(axis=1), table.sum(axis=0)
    ordered = [np.einsum("ds,ds->d", single @ one, single).astype(float) for one in pairs]
    with np.errstate(invalid="ignore", divide="ignore"):
        kinds = {
            "auc": np.stack(ordered[:3]) / (of_class * (total - of_class)),
            "sensitivity": hits / of_class,
            "specificity": (total - of_class - named + hits) / (total - of_class),
            "f1": 2 * hits / (of_class + named),
        }
        means = {kind: np.nanmean(values, axis=0) for kind, values in kinds.items()}
        told = {f"{kind}_{name.lower()}": row for kind, rows in kinds.items() for name, row in zip(CLASSES, rows, strict=True)}  # fmt: skip
        told |= {"accuracy": hits.sum(axis=0) / total, "balanced_accuracy": means["sensitivity"]}
        told |= {"macro_auc": means["auc"], "macro_f1": means["f1"]}
        told |= {"micro_auc": ordered[3] / (2 * total**2), "micro_auc_logits": ordered[4] / (2 * total**2)}
        told |= {"brier": found[9] / total, "log_loss": found[10] / total}
        told |= {"ece": np.abs(found[11:]).sum(axis=0) / total}
    return np.array([told[name] for name in METRICS])
