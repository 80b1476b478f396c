"""Scores against scikit-learn, and by the properties that define them."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    recall_score,
    roc_auc_score,
)

from elr_mri.errors import BadInput
from elr_mri.findings.metrics import ECE_BINS, ERRORS, METRICS, confusion, score, weighted_scores


def _draw(seed: int, n: int = 150, ties: bool = False):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1, 2], rng.integers(0, 3, n - 3)])
    probabilities = rng.dirichlet(np.ones(3), n)
    return labels, np.round(probabilities, 1) if ties else probabilities


def calibration_error(labels, probabilities, weights) -> float:
    """The expected calibration error by its definition, a bin and a scan at a time."""
    error = 0.0
    for b in range(ECE_BINS):
        confident, right, held = 0.0, 0.0, 0.0
        for label, row, weight in zip(labels, probabilities, weights, strict=True):
            if b / ECE_BINS < max(row) <= (b + 1) / ECE_BINS:
                held += weight
                confident += weight * max(row)
                right += weight * (list(row).index(max(row)) == label)
        if held:
            error += held / weights.sum() * abs(confident / held - right / held)
    return error


def test_a_draw_without_a_scan_has_no_score_and_warns_of_nothing():
    """So it is where the one subject of a group is left out."""
    labels, probabilities = _draw(4)
    with warnings.catch_warnings(action="error"):
        found = weighted_scores(labels, probabilities, np.zeros((2, len(labels))))
    assert set(found) == set(METRICS) and all(np.isnan(values).all() for values in found.values())


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_are_those_of_scikit_learn(ties, weighted):
    labels, probabilities = _draw(3, ties=ties)
    weights = np.random.default_rng(9).integers(0, 4, len(labels)) if weighted else np.ones(len(labels))
    found = {
        name: values[0] for name, values in weighted_scores(labels, probabilities, weights[None].astype(float)).items()
    }
    one_hot, predicted = np.eye(3)[labels], probabilities.argmax(axis=1)
    probabilities_of_one = probabilities / probabilities.sum(axis=1, keepdims=True)
    logits = np.log(np.maximum(probabilities, np.finfo(float).tiny))
    logits = (logits - logits.mean(axis=1, keepdims=True)).round(9)
    kept = {"sample_weight": weights, "labels": [0, 1, 2]}
    expected = {
        "macro_f1": f1_score(labels, predicted, average="macro", **kept),
        "micro_auc_logits": roc_auc_score(one_hot.ravel(), logits.ravel(), sample_weight=np.repeat(weights, 3)),
        "ece": calibration_error(labels, probabilities, weights),
        "accuracy": accuracy_score(labels, predicted, sample_weight=weights),
        "balanced_accuracy": balanced_accuracy_score(labels, predicted, sample_weight=weights),
        "micro_auc": roc_auc_score(one_hot.ravel(), probabilities.ravel(), sample_weight=np.repeat(weights, 3)),
        "macro_auc": roc_auc_score(one_hot, probabilities, average="macro", sample_weight=weights),
    } | {
        f"auc_{name}": roc_auc_score(one_hot[:, c], probabilities[:, c], sample_weight=weights)
        for c, name in enumerate(("cn", "mci", "ad"))
    }
    for c, name in enumerate(("cn", "mci", "ad")):
        others = recall_score(labels != c, predicted != c, sample_weight=weights)
        expected |= {
            f"sensitivity_{name}": recall_score(labels, predicted, average=None, **kept)[c],
            f"f1_{name}": f1_score(labels, predicted, average=None, **kept)[c],
            f"specificity_{name}": others,
        }
    proper = weighted_scores(labels, probabilities_of_one, weights[None].astype(float))
    found |= {name: proper[name][0] for name in ("brier", "log_loss")}
    # scikit-learn's multi-class Brier score is the sum over classes, of probabilities that sum to one
    expected["brier"] = brier_score_loss(
        labels, probabilities_of_one, sample_weight=weights, labels=[0, 1, 2], scale_by_half=False
    )
    expected["log_loss"] = log_loss(labels, probabilities_of_one, sample_weight=weights, labels=[0, 1, 2])
    assert set(found) == set(METRICS) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_a_weight_of_two_is_the_scan_twice():
    labels, probabilities = _draw(4, n=40)
    weights = np.ones((1, 40))
    weights[0, 7] = 2
    twice = score(np.append(labels, labels[7]), np.vstack([probabilities, probabilities[7]]))
    assert {k: v[0] for k, v in weighted_scores(labels, probabilities, weights).items()} == pytest.approx(twice)


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(float, (30, 3), elements=st.integers(0, 100).map(lambda k: k / 100)), st.randoms(use_true_random=False)
)
def test_auc_of_a_class_is_invariant_to_monotone_maps(probabilities, random):
    labels = np.array([0, 1, 2] + [random.randint(0, 2) for _ in range(27)])
    before, after = score(labels, probabilities), score(labels, np.exp(3 * probabilities) - 7)
    for name in ("auc_cn", "auc_mci", "auc_ad", "macro_auc", "micro_auc", "accuracy"):
        assert before[name] == pytest.approx(after[name])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_auc_turns_over_when_scores_do(seed):
    labels, probabilities = _draw(seed, n=40)
    assert score(labels, probabilities)["auc_ad"] == pytest.approx(1 - score(labels, -probabilities)["auc_ad"])


def test_perfect_predictions_score_one_and_uniform_ones_score_chance():
    labels = np.array([0, 1, 2, 2, 1, 0, 0])
    assert score(labels, np.eye(3)[labels]) == {name: 0.0 if name in ERRORS else 1.0 for name in METRICS}
    uniform = score(labels, np.full((7, 3), 1 / 3))
    assert all(uniform[name] == 0.5 for name in METRICS if "auc" in name)
    assert uniform["balanced_accuracy"] == pytest.approx(1 / 3)
    assert uniform["brier"] == pytest.approx(2 / 3) and uniform["log_loss"] == pytest.approx(np.log(3))
    always_wrong = score(labels, np.eye(3)[(labels + 1) % 3])
    assert (always_wrong["brier"], always_wrong["ece"]) == (2.0, 1.0)
    assert 36 < always_wrong["log_loss"] < 37


def test_an_absent_class_leaves_its_auc_undefined_and_the_means_over_the_others():
    labels, probabilities = _draw(5)
    kept = labels != 1
    found = score(labels[kept], probabilities[kept])
    assert np.isnan(found["auc_mci"])
    assert found["macro_auc"] == pytest.approx((found["auc_cn"] + found["auc_ad"]) / 2)
    predicted = probabilities[kept].argmax(axis=1)
    recalls = [(predicted[labels[kept] == c] == c).mean() for c in (0, 2)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    alone = score(np.zeros(5, int), probabilities[:5])
    assert np.isnan(alone["macro_auc"]) and np.isfinite(alone["accuracy"])


def test_scores_of_a_class_that_is_nowhere_are_undefined():
    """Two classes are there, and the third is not even predicted: its sensitivity and F1 say nothing, its specificity is whole."""
    labels = np.array([0, 0, 2, 2])
    found = score(labels, np.array([[0.8, 0, 0.2], [0.1, 0, 0.9], [0.2, 0, 0.8], [0.1, 0, 0.9]]))
    assert np.isnan(found["sensitivity_mci"]) and np.isnan(found["f1_mci"])
    assert found["specificity_mci"] == 1.0
    assert found["macro_f1"] == pytest.approx((found["f1_cn"] + found["f1_ad"]) / 2)
    assert np.isnan(score(np.zeros(3, int), np.eye(3))["specificity_cn"])


def test_the_micro_auc_on_logits_pools_what_the_network_said_before_the_softmax():
    """A shift of all three logits of a scan leaves its probabilities as they are, and moves this score only."""
    labels, probabilities = _draw(8)
    logits = np.log(probabilities)
    shifted = logits + np.random.default_rng(0).normal(0, 2, (len(labels), 1))
    plain, moved = score(labels, probabilities, logits), score(labels, probabilities, shifted)
    expected = roc_auc_score(np.eye(3)[labels].ravel(), shifted.ravel())
    assert (
        moved["micro_auc_logits"] == pytest.approx(expected) and moved["micro_auc_logits"] != plain["micro_auc_logits"]
    )
    assert {k: v for k, v in moved.items() if k != "micro_auc_logits"} == {
        k: v for k, v in plain.items() if k != "micro_auc_logits"
    }


def test_confusion_counts_true_by_row():
    labels, probabilities = _draw(6)
    np.testing.assert_array_equal(
        confusion(labels, probabilities), confusion_matrix(labels, probabilities.argmax(axis=1), labels=[0, 1, 2])
    )


@pytest.mark.parametrize(
    ("labels", "probabilities", "told"),
    [
        ([0, 3], np.full((2, 3), 1 / 3), "labels 0 (CN)"),
        ([0, 1], np.full((2, 2), 0.5), "(n, 3) probabilities"),
        ([0, 1], np.full((3, 3), 1 / 3), "(n, 3) probabilities"),
        ([], np.empty((0, 3)), "n >= 1"),
        ([0, 1], np.array([[1, 0, 0], [np.nan, 0, 0]]), "finite"),
    ],
)
def test_wrong_input_is_refused_with_what_was_expected(labels, probabilities, told):
    with pytest.raises(BadInput) as refusal:
        score(np.array(labels), probabilities)
    assert told in str(refusal.value)
