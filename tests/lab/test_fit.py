"""The lab's loop on a few blobs: every method trains, memorization is recorded, a killed run continues to the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from elr_mri.config import METHODS, Fit
from elr_mri.lab.fit import Trained, fit

SETTINGS = Fit(epochs=4, batch_size=8, learning_rate=0.05, device="cpu")


def blobs() -> tuple[Tensor, Tensor]:
    """(30, 5) points about three centres, and their classes."""
    rng = np.random.default_rng(0)
    classes = np.arange(30) % 3
    return torch.from_numpy(np.eye(3, 5)[classes] * 3 + rng.normal(size=(30, 5))).float(), torch.from_numpy(classes)


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))


def trained(method: str, settings: Fit = SETTINGS, **more) -> Trained:
    x, y = blobs()
    return fit(
        build, x, y, 3, settings, METHODS[method], seed=1, judged={"val": (x, y)}, progress=lambda line: None, **more
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns(method: str) -> None:
    told = trained(method, SETTINGS.model_copy(update={"epochs": 12}))
    assert told.history[-1]["val_accuracy"] > 0.9
    assert told.said.shape == (len(told.history), 30, 3) and told.targets.shape == (30, 3)
    np.testing.assert_allclose(told.said.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("method", ["ce", "elr-plus", "sop"])
def test_a_killed_run_continues_to_the_same_bits(method: str, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(line: str) -> None:
        if line.startswith("epoch 2"):
            raise Killed

    x, y = blobs()
    whole = trained(method)
    with pytest.raises(Killed):
        fit(
            build, x, y, 3, SETTINGS, METHODS[method], seed=1, judged={"val": (x, y)}, progress=kill,
            state_path=tmp_path / "state.safetensors",
        )  # fmt: skip
    again = trained(method, state_path=tmp_path / "state.safetensors")
    assert again.history == whole.history
    for name in ("said", "targets"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    np.testing.assert_array_equal(again.judged["val"], whole.judged["val"])
    np.testing.assert_array_equal(again.judged_best["val"], whole.judged_best["val"])
