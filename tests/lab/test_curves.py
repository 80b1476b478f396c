"""The curves of memorization: shares that can be counted by hand, and gradients that are those of the loss that is trained with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from elr_mri.config import Elr, Gce, Loss, Sop
from elr_mri.lab.curves import gradients, has_gradients, memorization
from elr_mri.learning.objective import Objective

N_EPOCHS, N, N_CLASSES = 4, 12, 3


def examples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits (4, 12, 3), some so large that probabilities saturate, with true and given classes (12,)."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=[[[0.5]], [[2.0]], [[6.0]], [[15.0]]], size=(N_EPOCHS, N, N_CLASSES))
    true = np.arange(N) % N_CLASSES
    given = np.where(np.arange(N) < 5, (true + 1) % N_CLASSES, true)
    return logits, true, given


def softmax(logits: np.ndarray) -> np.ndarray:
    return torch.softmax(torch.from_numpy(logits), dim=-1).numpy()


@pytest.mark.parametrize(
    "loss",
    [
        Loss(),
        Loss(label_smoothing=0.2),
        Loss(elr=Elr(weight=3, beta=0.7)),
        Loss(elr=Elr(weight=7, beta=0.9), label_smoothing=0.1),
        Loss(elr=Elr(weight=0)),
    ],
)
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.25)])
def test_gradients_are_those_of_the_loss_that_is_trained_with(loss: Loss, weights: tuple | None) -> None:
    logits, true, given = examples()
    own = None if weights is None else np.array(weights)
    told = gradients(softmax(logits), true, given, loss, class_weights=own).set_index(["epoch", "group"])["gradient"]
    weighed = None if own is None else torch.from_numpy(own).float()
    objective = Objective(torch.from_numpy(given), N_CLASSES, loss, nn.Linear(1, 1), class_weights=weighed)
    rows = torch.arange(N)
    for epoch, values in enumerate(logits, 1):
        z = torch.from_numpy(values[:, None]).requires_grad_()
        objective.observe(rows, z.detach())
        objective(z, rows, step=0).backward()
        lengths = (N * z.grad[:, 0]).norm(dim=1).numpy()  # the loss is a mean over examples
        for group, of in (("clean", true == given), ("wrong", true != given)):
            assert told[epoch, group] == pytest.approx(lengths[of].mean(), rel=1e-5, abs=1e-6), (epoch, group)


@pytest.mark.parametrize(
    "loss",
    [
        Loss(sop=Sop()),
        Loss(gce=Gce()),
        Loss(elr=Elr(targets="both", mixup=1.0)),
        Loss(elr=Elr(targets="weights")),
        Loss(elr=Elr(ramp_steps=9)),
    ],
)
def test_a_loss_whose_gradient_does_not_follow_from_what_was_said_is_refused(loss: Loss) -> None:
    assert not has_gradients(loss)
    logits, true, given = examples()
    with pytest.raises(ValueError, match="gradient"):
        gradients(softmax(logits), true, given, loss)


def test_parts_of_the_gradient_add_up() -> None:
    logits, true, given = examples()
    elr = gradients(softmax(logits), true, given, Loss(elr=Elr()))
    plain = gradients(softmax(logits), true, given, Loss())
    np.testing.assert_allclose(elr["entropy"], plain["gradient"])
    assert (elr["regularizer"] > 0).all() and (plain["regularizer"] == 0).all()
    assert (elr["gradient"] <= elr["entropy"] + elr["regularizer"] + 1e-9).all()


def test_shares_are_counted_in_each_group() -> None:
    true, given = np.array([0, 1, 2, 0, 1]), np.array([0, 1, 1, 1, 2])
    guesses = np.array([[0, 2, 2, 1, 0], [0, 1, 1, 1, 2]])
    told = memorization(np.eye(3)[guesses], true, given)
    assert list(told["epoch"]) == [1, 2, 1, 2] and list(told["n"]) == [2, 2, 3, 3]
    clean, wrong = told[told["group"] == "clean"], told[told["group"] == "wrong"]
    np.testing.assert_allclose(clean[["true", "given", "other"]], [[0.5, 0, 0.5], [1, 0, 0]])
    np.testing.assert_allclose(wrong[["true", "given", "other"]], [[1 / 3, 1 / 3, 1 / 3], [0, 1, 0]], atol=1e-12)


def test_a_group_without_examples_has_no_shares() -> None:
    true = np.array([0, 1])
    told = memorization(np.eye(2)[[[0, 1]]], true, true).set_index("group")
    assert told.loc["wrong", "n"] == 0 and np.isnan(told.loc["wrong", "true"]) and told.loc["clean", "true"] == 1
    bare = gradients(softmax(np.zeros((1, 2, 2))), true, true, Loss()).set_index("group")
    assert np.isnan(bare.loc["wrong", "gradient"]) and bare.loc["clean", "gradient"] == pytest.approx(np.sqrt(0.5))
