"""Scores against scikit-learn, and by the properties that define them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, roc_auc_score

from elr_mri.errors import BadInput
from elr_mri.findings.metrics import METRICS, confusion, score, weighted_scores


def _draw(seed: int, n: int = 150, ties: bool = False):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1, 2], rng.integers(0, 3, n - 3)])
    probabilities = rng.dirichlet(np.ones(3), n)
    return labels, np.round(probabilities, 1) if ties else probabilities


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_are_those_of_scikit_learn(ties, weighted):
    labels, probabilities = _draw(3, ties=ties)
    weights = np.random.default_rng(9).integers(0, 4, len(labels)) if weighted else np.ones(len(labels))
    found = {
        name: values[0] for name, values in weighted_scores(labels, probabilities, weights[None].astype(float)).items()
    }
    one_hot, predicted = np.eye(3)[labels], probabilities.argmax(axis=1)
    expected = {
        "accuracy": accuracy_score(labels, predicted, sample_weight=weights),
        "balanced_accuracy": balanced_accuracy_score(labels, predicted, sample_weight=weights),
        "micro_auc": roc_auc_score(one_hot.ravel(), probabilities.ravel(), sample_weight=np.repeat(weights, 3)),
        "macro_auc": roc_auc_score(one_hot, probabilities, average="macro", sample_weight=weights),
    } | {
        f"auc_{name}": roc_auc_score(one_hot[:, c], probabilities[:, c], sample_weight=weights)
        for c, name in enumerate(("cn", "mci", "ad"))
    }
    assert set(found) == set(METRICS)
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
    assert score(labels, np.eye(3)[labels]) == dict.fromkeys(METRICS, 1.0)
    uniform = score(labels, np.full((7, 3), 1 / 3))
    assert all(uniform[name] == 0.5 for name in METRICS if "auc" in name)
    assert uniform["balanced_accuracy"] == pytest.approx(1 / 3)


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
