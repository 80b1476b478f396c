"""What is said of the training examples, summed as it is said: for sets too large to keep every probability of every epoch.

CIFAR-100's would be 3 GB; the sums are some kilobytes, and `memorization` and `gradients` are the tables of `curves.py` from them. The gradient
is that of the loss itself, whatever it is, at the unmixed example and where the predictions are taken from (`Objective.voices`): what the
network said, and where that sees mixtures only what its averaged weights say; the mean over two networks.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from elr_mri.lab.curves import shares_table, slopes_table
from elr_mri.learning.objective import Objective


class Watch(nn.Module):
    """Sums by epoch and group (clean, wrong); a part of the training state.

    Parameters
    ----------
    n_epochs : int
    true, given : (n_examples,) int

    Attributes
    ----------
    predicted : (n_epochs, 2, 3) float64
        Examples predicted as the true class, the given wrong one and another one.
    slopes : (n_epochs, 2, 3) float64
        Sizes of the gradient with respect to the logits: the loss's, and of ELR cross-entropy's part and the regularizer's.
    """

    def __init__(self, n_epochs: int, true: Tensor, given: Tensor):
        super().__init__()
        self.register_buffer("true", true, persistent=False)
        self.register_buffer("given", given, persistent=False)
        self.register_buffer("predicted", torch.zeros(n_epochs, 2, 3, dtype=torch.float64))
        self.register_buffer("slopes", torch.zeros(n_epochs, 2, 3, dtype=torch.float64))

    @torch.no_grad()
    def add(self, epoch: int, rows: Tensor, voices: Tensor, objective: Objective, step: int) -> None:
        """Add a batch: rows (batch,), logits of the unmixed examples (batch, n_networks, n_classes) by those who predict, and the loss of step `step`, whose
        targets were updated and whose other parameters were not."""
        said = voices.mean(dim=1)
        true, given = self.true[rows], self.given[rows]
        wrong, guess = true != given, said.argmax(dim=1)
        right, fooled = guess == true, (guess == given) & wrong
        kinds = torch.stack([right, fooled, ~(right | fooled)], dim=1).double()
        group = functional.one_hot(wrong.long(), 2).double().T
        self.predicted[epoch] += group @ kinds
        self.slopes[epoch] += group @ _slopes(objective, voices, rows, step).double()

    def memorization(self, n_epochs: int) -> pd.DataFrame:
        """Shares of the predictions, as `curves.memorization` has them."""
        return shares_table(self.predicted[:n_epochs].cpu().numpy())

    def gradients(self, n_epochs: int) -> pd.DataFrame:
        """Mean sizes of the gradients, as `curves.gradients` has them."""
        return slopes_table(self.slopes[:n_epochs].cpu().numpy(), self.predicted[0].sum(dim=1).cpu().numpy())


def _slopes(objective: Objective, voices: Tensor, rows: Tensor, step: int) -> Tensor:
    """(batch, 3) lengths of each example's gradient, of its part of cross-entropy and of its regularizer; the mean over networks."""
    with torch.enable_grad():
        said = voices.detach().float().requires_grad_()
        # the losses are means over the batch
        whole, entropy = (
            torch.autograd.grad(loss, said)[0] * len(rows)
            for loss in (objective(said, rows, step), objective.entropy(said, rows))
        )
    return torch.stack([part.norm(dim=-1).mean(dim=1) for part in (whole, entropy, whole - entropy)], dim=1)
