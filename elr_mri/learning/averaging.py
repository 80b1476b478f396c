"""A running average of a model's weights, which wanders less than the weights themselves.

Polyak & Juditsky 1992; with the warm-up of the decay that TensorFlow's `ExponentialMovingAverage` documents, so that the first
steps, from random weights, are soon forgotten.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from elr_mri.learning.checkpoint import Model


def weight_average(model: Model, decay: float) -> AveragedModel:
    """The average of `model`, whose `module` is a model like it; `update_parameters(model)` after every step.

    Step n (from 0) has decay min(`decay`, (1 + n) / (10 + n)). Statistics of batch norm are averaged, too.
    """
    return AveragedModel(model, multi_avg_fn=_towards(decay), use_buffers=True)


def _towards(decay: float) -> Callable:
    """How a list of averaged tensors moves towards the current ones; counters are taken over."""

    @torch.no_grad()
    def move(averaged: list[Tensor], current: list[Tensor], n_averaged: Tensor) -> None:
        step = 1 - min(decay, float((1 + n_averaged) / (10 + n_averaged)))
        for mean, now in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(now.to(mean.dtype), step)
            else:
                mean.copy_(now)

    return move
