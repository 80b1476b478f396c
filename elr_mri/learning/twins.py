"""Two networks of one make trained beside each other, and mixtures of the scans of a batch (for ELR+)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Mixture:
    """Scan i of a batch becomes `share` of itself and the rest of scan `partners[i]` (mixup; Zhang et al., ICLR 2018, equation 1)."""

    partners: Tensor
    share: float

    def of(self, values: Tensor) -> Tensor:
        """Mixed values (batch, …) of one number for each scan, or of an image."""
        return torch.lerp(values[self.partners], values, self.share)


def draw_mixture(rng: np.random.Generator, n: int, alpha: float, on: torch.device | str = "cpu") -> Mixture:
    """Partners by permutation and one share for the batch, Beta(α, α) and at least a half, as in the authors' ELR+."""
    share = rng.beta(alpha, alpha)
    return Mixture(torch.from_numpy(rng.permutation(n)).to(on), float(max(share, 1 - share)))


class Twins(nn.Module):
    """Networks of one make; what they say together is the mean of their logits."""

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, *inputs: Tensor | None, mixtures: Sequence[Mixture | None] | None = None) -> Tensor:
        """(batch, n_classes) logits together; (batch, n_networks, n_classes) each, where `mixtures` says what each sees."""
        if mixtures is None:
            return torch.stack([member(*inputs) for member in self.members]).mean(dim=0)
        return torch.stack([_seen(*pair, *inputs) for pair in zip(self.members, mixtures, strict=True)], dim=1)


def each(network: nn.Module, *inputs: Tensor | None, mixtures: Sequence[Mixture | None] = (None,)) -> Tensor:
    """(batch, n_networks, n_classes): the logits of each member of twins, or of one network alone; `mixtures` has one for each."""
    if len(mixtures) > 1:
        return network(*inputs, mixtures=mixtures)
    return _seen(network, mixtures[0], *inputs)[:, None]


def _seen(network: nn.Module, mixture: Mixture | None, *inputs: Tensor | None) -> Tensor:
    """What a network says of a mixed batch."""
    if mixture is None:
        return network(*inputs)
    return network(*(None if values is None else mixture.of(values) for values in inputs))
