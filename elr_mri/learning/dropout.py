"""Dropout whose mask is drawn for the whole batch, so that dividing the batch among processes does not change it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zero each feature with chance `p` in training, and scale the others by 1 / (1 − p) (Srivastava et al. 2014).

    `part` is this process's share of the batch and `n_scans` the whole batch's size; None is the whole.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p
        self.part: slice | None = None
        self.n_scans: int | None = None

    def forward(self, features: Tensor) -> Tensor:
        """(batch, n_features) float → the same shape."""
        if not self.training or self.p == 0:
            return features
        n_scans = self.n_scans or len(features)
        drawn = torch.rand(n_scans, *features.shape[1:], device=features.device)
        kept = drawn[self.part or slice(None)] >= self.p
        return features * kept / (1 - self.p)


def divide_dropout(network: nn.Module, part: slice, n_scans: int) -> None:
    """Tell every dropout of a network which scans of a batch of `n_scans` this process holds."""
    for layer in network.modules():
        if isinstance(layer, Dropout):
            layer.part, layer.n_scans = part, n_scans
