"""Classifiers of many features, chosen and calibrated on validation: logistic regression, random forest, gradient boosting, and their mean.

Each kind is fitted with a few settings on the training scans; its probabilities are calibrated by one temperature, fitted on the validation
scans (Guo et al., ICML 2017), where the lowest log-loss decides between settings and between kinds. What is chosen is plain numbers: `facts`
for JSON, and the trees as arrays (`trees.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from elr_mri.findings import trees
from elr_mri.findings.calibration import best_temperature
from elr_mri.findings.metrics import score

#: Inverse regularisation strengths of the logistic regression; smallest leaves of the forest; depths and rounds of boosting.
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)
LEAVES, N_TREES = (2, 6, 15), 300
DEPTHS, ROUNDS, RATE = (2, 3), (50, 100, 200, 300), 0.05
#: No class is said to be less likely than this before calibration: a forest's trees can agree on none.
LEAST = 1e-3
#: Temperatures that are looked among.
TEMPERATURES = (0.2, 10.0)


@dataclass(frozen=True)
class Fitted:
    """A classifier as plain numbers: `facts` go into JSON, `arrays` into npz."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def raw(self, features: np.ndarray) -> np.ndarray:
        """Log-probabilities before calibration: (n_scans, n_features) to (n_scans, n_classes)."""
        facts = self.facts
        if facts["kind"] == "logistic":
            standard = (features - np.array(facts["mean"])) / np.array(facts["deviation"])
            scores = standard @ np.array(facts["coefficients"]).T + np.array(facts["intercepts"])
        elif facts["kind"] == "forest":
            scores = np.log(np.maximum(trees.forest_probabilities(self.arrays, features), LEAST))
        else:
            scores = trees.boosted_scores(self.arrays, features, start=facts["start"], rate=facts["rate"])
        return log_softmax(scores, axis=1)


@dataclass(frozen=True)
class Classifier:
    """One or several fitted classifiers, each with its temperature; several speak as the mean of their probabilities."""

    kind: str
    temperature: float
    members: tuple[tuple[Fitted, float], ...]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Calibrated log-probabilities: (n_scans, n_features) to (n_scans, n_classes)."""
        said = [log_softmax(fitted.raw(features) / warmth, axis=1) for fitted, warmth in self.members]
        return log_softmax(_mean(said) / self.temperature, axis=1)

    def facts(self) -> dict[str, Any]:
        """Everything but the trees, for JSON."""
        members = [fitted.facts | {"temperature": warmth} for fitted, warmth in self.members]
        return {"kind": self.kind, "temperature": self.temperature, "members": members}

    def arrays(self) -> dict[str, np.ndarray]:
        """The trees, for npz: `<kind>.<array>`."""
        return {f"{f.facts['kind']}.{name}": a for f, _ in self.members for name, a in f.arrays.items()}


def read(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Classifier:
    """A classifier from what `facts` and `arrays` told."""
    members = []
    for told in facts["members"]:
        names = [] if told["kind"] == "logistic" else trees.ARRAYS
        own = {name: arrays[f"{told['kind']}.{name}"] for name in names}
        members.append((Fitted({k: v for k, v in told.items() if k != "temperature"}, own), told["temperature"]))
    return Classifier(facts["kind"], facts["temperature"], tuple(members))


def choose(
    train: tuple[np.ndarray, np.ndarray], val: tuple[np.ndarray, np.ndarray], kinds: Sequence[str], *, seed: int
) -> tuple[Classifier, list[dict[str, Any]]]:
    """The classifier of lowest validation log-loss, and every trial: kind, setting, log-loss and balanced accuracy on validation.

    Parameters
    ----------
    train, val : features (n, n_features) float, labels (n,) int
    kinds : among "logistic", "forest", "boosting" and "mean"
        The mean is that of the kinds before it, each at its best setting.
    """
    trials, best = [], {}
    for kind in (kind for kind in kinds if kind != "mean"):
        for fitted in _FITTERS[kind](*train, seed):
            one = calibrated(kind, [(fitted, 1.0)], *val)
            trials.append(_trial(one, fitted.facts["setting"], *val))
            if kind not in best or trials[-1]["val_log_loss"] < best[kind][0]:
                best[kind] = trials[-1]["val_log_loss"], one, len(trials) - 1
    if "mean" in kinds and len(best) > 1:
        members = [(one.members[0][0], one.temperature) for _, one, _ in best.values()]
        one = calibrated("mean", members, *val)
        trials.append(_trial(one, "of " + ", ".join(best), *val))
        best["mean"] = trials[-1]["val_log_loss"], one, len(trials) - 1
    _, chosen, place = min(best.values(), key=lambda found: found[0])
    return chosen, [trial | {"chosen": number == place} for number, trial in enumerate(trials)]


def calibrated(kind: str, members: list[tuple[Fitted, float]], features: np.ndarray, labels: np.ndarray) -> Classifier:
    """A classifier with the temperature of lowest log-loss on these (validation) scans."""
    said = [log_softmax(fitted.raw(features) / warmth, axis=1) for fitted, warmth in members]
    return Classifier(kind, best_temperature(labels, _mean(said), bounds=TEMPERATURES), tuple(members))


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-probability of the labels, in nats."""
    return -float(log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def _mean(logs: Sequence[np.ndarray]) -> np.ndarray:
    """Logarithm of the mean of probabilities."""
    return logs[0] if len(logs) == 1 else logsumexp(np.stack(logs), axis=0) - np.log(len(logs))


def _trial(one: Classifier, setting: str, features: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    logits = one.logits(features)
    return {
        "kind": one.kind,
        "setting": setting,
        "temperature": one.temperature,
        "val_log_loss": log_loss(logits, labels),
        "val_balanced_accuracy": score(labels, np.exp(logits))["balanced_accuracy"],
    }


def _logistic(features: np.ndarray, labels: np.ndarray, seed: int) -> Iterator[Fitted]:
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=2000, random_state=seed)
        model.fit((features - mean) / deviation, labels)
        facts = {"coefficients": model.coef_.tolist(), "intercepts": model.intercept_.tolist()}
        facts |= {"mean": mean.tolist(), "deviation": deviation.tolist()}
        yield Fitted({"kind": "logistic", "setting": f"C {strength:g}"} | facts, {})


def _forest(features: np.ndarray, labels: np.ndarray, seed: int) -> Iterator[Fitted]:
    for leaf in LEAVES:
        model = RandomForestClassifier(N_TREES, min_samples_leaf=leaf, random_state=seed).fit(features, labels)
        facts = {"kind": "forest", "setting": f"{N_TREES} trees, leaves of {leaf} scans or more"}
        yield Fitted(facts, trees.pack([tree.tree_ for tree in model.estimators_]))


def _boosting(features: np.ndarray, labels: np.ndarray, seed: int) -> Iterator[Fitted]:
    """Stochastic gradient boosting (Friedman 2002): half the scans and √n features at a time; fewer rounds are the first of them."""
    for depth in DEPTHS:
        model = GradientBoostingClassifier(
            n_estimators=max(ROUNDS), learning_rate=RATE, max_depth=depth, subsample=0.5, max_features="sqrt",
            min_samples_leaf=5, random_state=seed,
        ).fit(features, labels)  # fmt: skip
        start = np.log(np.bincount(labels) / len(labels))
        for rounds in ROUNDS:
            own = trees.pack([tree.tree_ for tree in model.estimators_[:rounds].ravel()])
            facts = {"setting": f"{rounds} rounds of depth {depth}", "start": start.tolist(), "rate": RATE}
            yield Fitted({"kind": "boosting"} | facts, own)


_FITTERS = {"logistic": _logistic, "forest": _forest, "boosting": _boosting}
