"""Sums made while training say the same as the tables that are made from every probability."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from elr_mri.config import METHODS, Elr, Fit, Loss, Sop
from elr_mri.lab.curves import gradients, memorization
from elr_mri.lab.fit import Trained, fit
from elr_mri.lab.watch import Watch
from elr_mri.learning.objective import Objective
from elr_mri.learning.recipe import class_weights

SETTINGS = Fit(epochs=5, batch_size=16, learning_rate=0.05, device="cpu")
RNG = np.random.default_rng(0)
TRUE = np.arange(60) % 3
GIVEN = np.where(RNG.random(60) < 0.4, (TRUE + 1) % 3, TRUE)
X = (np.eye(3, 5)[TRUE] * 2 + RNG.normal(size=(60, 5))).astype(np.float32)


def trained(loss: Loss, watch: Watch | None, settings: Fit = SETTINGS, **more) -> Trained:
    return fit(
        lambda: nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3)),
        torch.from_numpy(X), torch.from_numpy(GIVEN), 3, settings, loss, seed=1, judged={}, watch=watch, progress=lambda line: None, **more,
    )  # fmt: skip


def watch() -> Watch:
    return Watch(SETTINGS.epochs, torch.from_numpy(TRUE), torch.from_numpy(GIVEN))


BALANCED = SETTINGS.model_copy(update={"class_weights": "balanced"})


@pytest.mark.parametrize("settings", [SETTINGS, BALANCED], ids=["equal", "balanced"])
@pytest.mark.parametrize(
    "loss",
    [
        Loss(),
        Loss(label_smoothing=0.3),
        Loss(elr=Elr(weight=3, beta=0.7)),
        Loss(elr=Elr(weight=7, beta=0.9), label_smoothing=0.3),
    ],
    ids=["ce", "smoothed", "elr", "elr-smoothed"],
)
def test_the_sums_are_those_of_what_was_said(loss: Loss, settings: Fit) -> None:
    kept, summed = trained(loss, None, settings), watch()
    assert trained(loss, summed, settings).said is None
    weights = class_weights(torch.from_numpy(GIVEN), 3, settings.class_weights)
    weights = None if weights is None else weights.numpy()
    for found, wanted in (
        (summed.memorization(5), memorization(kept.said, TRUE, GIVEN)),
        (summed.gradients(5), gradients(kept.said, TRUE, GIVEN, loss, class_weights=weights)),
    ):
        pd.testing.assert_frame_equal(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [Loss(elr=Elr(weight=0.0), label_smoothing=0.3), METHODS["elr-weights"]])
def test_cross_entropys_part_is_taken_where_the_predictions_are(loss: Loss) -> None:
    """With targets of averaged weights, too: what is memorized is the network's own voice, and so the gradient is at that."""
    kept, summed = trained(loss, None), watch()
    trained(loss, summed)
    wanted = gradients(kept.said, TRUE, GIVEN, Loss(label_smoothing=loss.label_smoothing))
    np.testing.assert_allclose(summed.gradients(5)["entropy"], wanted["entropy"], rtol=1e-4)
    pd.testing.assert_frame_equal(summed.memorization(5), memorization(kept.said, TRUE, GIVEN), atol=1e-9)


def test_a_regularizer_of_no_weight_has_no_gradient() -> None:
    """Torch weighs each class of a smoothed label by that class's weight."""
    summed = Watch(1, torch.from_numpy(TRUE), torch.from_numpy(GIVEN))
    objective = Objective(
        torch.from_numpy(GIVEN), 3, Loss(elr=Elr(weight=0.0), label_smoothing=0.3), nn.Linear(1, 1),
        class_weights=torch.tensor([0.5, 1.0, 3.0]),
    )  # fmt: skip
    rows, said = torch.arange(60), torch.from_numpy(RNG.normal(size=(60, 1, 3))).float()
    objective.observe(rows, said)
    summed.add(0, rows, said, objective, 0)
    table = summed.gradients(1)
    assert (table["regularizer"] == 0).all() and (table["gradient"] > 0.1).all()


def test_the_gradient_is_that_of_the_step_and_not_of_the_next_one() -> None:
    """SOP's first step: its own parameters are next to nothing, and the gradient is cross-entropy's, however far they move then."""
    loss, first = Loss(sop=Sop(u_rate=1e9, v_rate=1e9)), SETTINGS.model_copy(update={"epochs": 1, "batch_size": 60})
    kept, summed = trained(loss, None, first), watch()
    trained(loss, summed, first)
    wanted = gradients(kept.said, TRUE, GIVEN, Loss())
    np.testing.assert_allclose(summed.gradients(1)["gradient"], wanted["gradient"], rtol=1e-4)


@pytest.mark.parametrize("method", ["elr-plus", "elr-networks", "elr-weights", "sop", "gce"])
def test_every_method_has_gradients_and_watching_changes_nothing(method: str) -> None:
    kept, summed = trained(METHODS[method], None), watch()
    seen = trained(METHODS[method], summed)
    np.testing.assert_array_equal(kept.targets, seen.targets)
    table = summed.gradients(5)
    assert (table["gradient"] > 0).all() and len(table) == 10
    assert (table["regularizer"] > 0).all() == (METHODS[method].elr is not None)
    pd.testing.assert_frame_equal(summed.memorization(5), memorization(kept.said, TRUE, GIVEN), atol=1e-9)
