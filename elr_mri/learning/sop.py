"""Sparse over-parameterization (SOP): every scan has its own few numbers that may explain its label away.

Liu, Zhu, Qu, You, "Robust Training under Label Noise by Over-parameterization", ICML 2022, equations 2 to 6. With the one-hot
label y, s = u² ∘ y − v² ∘ (1 − y) is what the noise of a label is thought to be; the network's weights descend the
cross-entropy of the probabilities p + s, v the squared error of the network's hard guess + s, and u both. In the paper u descends the
cross-entropy alone; in the authors' released code both, and this follows the code (docs/decisions/0013-losses.md). Plain gradient
steps from near zero keep s sparse: only labels that the network does not learn early get one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Lowest probability that the loss takes the logarithm of, and how far from 0 u and v are drawn; both as in the authors' code.
MARGIN, SPREAD = 1e-4, 1e-8


class Overparameterization(nn.Module):
    """u (n_scans, 1) and v (n_scans, n_classes) of all training scans, in training order; part of the state dict.

    Parameters
    ----------
    u_rate, v_rate : float
        Step sizes of plain gradient descent on the mean loss of a batch, as published: a scan's own step is its share of that, so larger
        batches want larger rates.
    """

    def __init__(self, n_scans: int, n_classes: int, u_rate: float, v_rate: float):
        super().__init__()
        self.u_rate, self.v_rate = u_rate, v_rate
        self.register_buffer("u", SPREAD * torch.randn(n_scans, 1))
        self.register_buffer("v", SPREAD * torch.randn(n_scans, n_classes))

    def forward(self, logits: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        """Loss of each scan, (batch,), from logits (batch, n_classes), given labels (batch,) and the scans' rows."""
        return _loss(logits, labels, self.u[rows], self.v[rows])

    @torch.enable_grad()
    def settle(self, logits: Tensor, labels: Tensor, rows: Tensor) -> None:
        """One step of u and v of a batch, at the logits that its weights' step was taken at."""
        u, v = self.u[rows].requires_grad_(), self.v[rows].requires_grad_()
        moves = torch.autograd.grad(_loss(logits.detach(), labels, u, v).mean(), (u, v))
        with torch.no_grad():
            self.u.index_add_(0, rows, -self.u_rate * moves[0])  # adds up where a scan stands twice in a batch
            self.v.index_add_(0, rows, -self.v_rate * moves[1])


def _loss(logits: Tensor, labels: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """(batch,): cross-entropy of p + s with gradients to the network and u, plus the squared error of the hard guess + s with gradients to u and v."""
    given = functional.one_hot(labels, logits.shape[1]).float()
    up, down = (u**2 * given).clamp(0, 1), (v**2 * (1 - given)).clamp(0, 1)
    shifted = (functional.softmax(logits.float(), dim=1) + up - down.detach()).clamp_min(MARGIN)
    shifted = functional.normalize(shifted, p=1, dim=1).clamp(MARGIN, 1.0)
    guess = functional.one_hot(logits.argmax(dim=1), logits.shape[1]).float()
    return -(given * shifted.log()).sum(dim=1) + ((guess + up - down - given) ** 2).sum(dim=1)
