"""A running average of a model's weights, which wanders less than the weights themselves.

Polyak & Juditsky 1992; with the warm-up of the decay that TensorFlow's `ExponentialMovingAverage` documents, so that the first
steps, from random weights, are soon forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def weight_average(model: nn.Module, decay: float, ramp_steps: int = 0) -> AveragedModel:
    """The average of `model`, whose `module` is a model like it; `update_parameters(model)` after every step.

    It starts at the model's own. Step n (from 0) has decay min(`decay`, (1 + n) / (10 + n)); with `ramp_steps` S it has
    `decay` · exp(−5 (1 − (n + 2)/S)²) instead, as the authors' ELR+, which counts one step more. Statistics of batch norm are averaged, too.
    """
    average = AveragedModel(model, multi_avg_fn=_towards(decay, ramp_steps), use_buffers=True)
    average.n_averaged += 1  # of its first average torch takes the weights whole, whatever the decay
    return average


def _towards(decay: float, ramp_steps: int) -> Callable:
    """How a list of averaged tensors moves towards the current ones; counters are taken over."""

    @torch.no_grad()
    def move(averaged: list[Tensor], current: list[Tensor], n_averaged: Tensor) -> None:
        n = int(n_averaged) - 1
        step = 1 - (decay * ramp(n + 2, ramp_steps) if ramp_steps else min(decay, (1 + n) / (10 + n)))
        for mean, now in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(now.to(mean.dtype), step)
            else:
                mean.copy_(now)

    return move


def ramp(step: int, n_steps: int) -> float:
    """exp(−5 (1 − s/S)²): near 0 at the first step, 1 from step S on (Laine & Aila, ICLR 2017); always 1 where S is 0."""
    return math.exp(-5 * (1 - min(1.0, step / n_steps)) ** 2) if n_steps else 1.0
