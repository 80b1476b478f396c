"""Sums made while training say the same as the tables that are made from every probability."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from elr_mri.config import METHODS, Elr, Fit, Loss
from elr_mri.lab.curves import gradients, memorization
from elr_mri.lab.fit import Trained, fit
from elr_mri.lab.watch import Watch

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


@pytest.mark.parametrize("loss", [Loss(), Loss(label_smoothing=0.1), Loss(elr=Elr(weight=3, beta=0.7))])
def test_the_sums_are_those_of_what_was_said(loss: Loss) -> None:
    kept, summed = trained(loss, None), watch()
    assert trained(loss, summed).said is None
    for found, wanted in (
        (summed.memorization(5), memorization(kept.said, TRUE, GIVEN)),
        (summed.gradients(5), gradients(kept.said, TRUE, GIVEN, loss)),
    ):
        pd.testing.assert_frame_equal(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["elr-plus", "elr-networks", "sop", "gce"])
def test_every_method_has_gradients_and_watching_changes_nothing(method: str) -> None:
    kept, summed = trained(METHODS[method], None), watch()
    seen = trained(METHODS[method], summed)
    np.testing.assert_array_equal(kept.targets, seen.targets)
    table = summed.gradients(5)
    assert (table["gradient"] > 0).all() and len(table) == 10
    assert (table["regularizer"] > 0).all() == (METHODS[method].elr is not None)
    pd.testing.assert_frame_equal(summed.memorization(5), memorization(kept.said, TRUE, GIVEN), atol=1e-9)


def test_the_gradient_of_balanced_classes_has_its_part_of_cross_entropy() -> None:
    balanced, summed = SETTINGS.model_copy(update={"class_weights": "balanced"}), watch()
    trained(Loss(elr=Elr(weight=0.0)), summed, balanced)
    table = summed.gradients(5)
    np.testing.assert_allclose(table["gradient"], table["entropy"], rtol=1e-5)
    np.testing.assert_allclose(table["regularizer"], 0, atol=1e-5)
