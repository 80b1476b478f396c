"""What is said of the training examples, summed as it is said: for sets too large to keep every probability of every epoch.

CIFAR-100's would be 3 GB; the sums are some kilobytes, and `memorization` and `gradients` are the tables of `curves.py` from them. The gradient
is that of the loss itself, whatever it is, at the unmixed example: of ELR+ at what the averaged weights say of it, the mean over both networks.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from elr_mri.learning.objective import Objective

#: As in `curves.py`: examples with a right label, and with a wrong one.
GROUPS = ("clean", "wrong")
PREDICTED = ("true", "given", "other")
PARTS = ("gradient", "entropy", "regularizer")


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
    def add(self, epoch: int, rows: Tensor, said: Tensor, seen: Tensor, objective: Objective, step: int) -> None:
        """Add a batch: rows (batch,), logits by who predicts (batch, n_classes) and as the loss saw them unmixed (batch, n_networks, n_classes), and the
        loss of step `step` with its updated targets."""
        true, given = self.true[rows], self.given[rows]
        wrong, guess = true != given, said.argmax(dim=1)
        right, fooled = guess == true, (guess == given) & wrong
        kinds = torch.stack([right, fooled, ~(right | fooled)], dim=1).double()
        group = functional.one_hot(wrong.long(), 2).double().T
        self.predicted[epoch] += group @ kinds
        self.slopes[epoch] += group @ _slopes(objective, seen, rows, step).double()

    def memorization(self, n_epochs: int) -> pd.DataFrame:
        """Shares of the predictions, as `curves.memorization` has them."""
        rows = []
        for group, sums in zip(GROUPS, self.predicted[:n_epochs].cpu().unbind(1)):
            n = sums.sum(dim=1, keepdim=True)
            shares = sums / n  # of no example: NaN
            rows += [(e, group, int(n[0]), *line.tolist()) for e, line in enumerate(shares, 1)]
        return pd.DataFrame(rows, columns=["epoch", "group", "n", *PREDICTED])

    def gradients(self, n_epochs: int) -> pd.DataFrame:
        """Mean sizes of the gradients, as `curves.gradients` has them."""
        n, rows = self.predicted[:n_epochs].sum(dim=2, keepdim=True), []
        means = (self.slopes[:n_epochs] / n).cpu()
        for e, both in enumerate(means, 1):
            rows += [(e, group, *line.tolist()) for group, line in zip(GROUPS, both)]
        return pd.DataFrame(rows, columns=["epoch", "group", *PARTS])


def _slopes(objective: Objective, seen: Tensor, rows: Tensor, step: int) -> Tensor:
    """(batch, 3) lengths of each example's gradient, of its part of cross-entropy and of its regularizer; the mean over networks."""
    with torch.enable_grad():
        said = seen.detach().float().requires_grad_()
        whole = torch.autograd.grad(objective(said, rows, step), said)[0] * len(
            rows
        )  # the loss is a mean over the batch
    entropy = whole
    if objective.elr:
        labels, n_classes = objective.labels[rows], seen.shape[-1]
        wanted = (1 - objective.smoothing) * functional.one_hot(labels, n_classes) + objective.smoothing / n_classes
        entropy = functional.softmax(said.detach(), dim=-1) - wanted[:, None]
        if objective.class_weights is not None:
            entropy = entropy * objective.class_weights[labels][:, None, None]
    return torch.stack([part.norm(dim=-1).mean(dim=1) for part in (whole, entropy, whole - entropy)], dim=1)
