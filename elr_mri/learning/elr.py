"""Early-learning regularization (ELR): a network's own early predictions hold it back from memorizing wrong labels.

Liu, Niles-Weed, Razavian, Fernandez-Granda, "Early-Learning Regularization Prevents Memorization of
Noisy Labels", NeurIPS 2020, equations 6 and 9. Every training scan has a target t, a running
average of the network's predictions p for it; the loss is

    CE(z, y) + λ · mean log(1 − ⟨t, p⟩).

The second term is negative and grows in size as p agrees with t: a training loss far below zero is
right, and no model may be selected by it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Probabilities are kept this far from 0 and 1 in the regularizer, as in the authors' code, so that
#: 1 − ⟨t, p⟩ stays above zero.
MARGIN = 1e-4
#: Alignment multiplies a class's targets by no more than this, and by no less than its inverse.
MOST = 20.0


class EarlyLearningTargets(nn.Module):
    """The targets of all training scans, in training order.

    Parameters
    ----------
    n_scans, n_classes : int
        Training scans and classes.
    beta : float
        Momentum of the running average, in [0, 1).
    clamped : bool
        Whether probabilities are kept `MARGIN` off 0 and 1 before they are averaged: ELR does, ELR+ does not.

    Attributes
    ----------
    targets : (n_scans, n_classes) float32
        Starts at zero; part of the state dict, because a resumed run needs it.
    """

    def __init__(self, n_scans: int, n_classes: int, beta: float, *, clamped: bool = True):
        super().__init__()
        self.beta, self.clamped = beta, clamped
        self.register_buffer("targets", torch.zeros(n_scans, n_classes))

    @torch.no_grad()
    def update(self, rows: Tensor, probabilities: Tensor) -> None:
        """t ← β t + (1 − β) p̂ for the scans in `rows` (batch,), from their probabilities (batch, n_classes)."""
        p = probabilities.detach().float()
        p = _clamped(p) if self.clamped else p
        normalised = p / p.sum(dim=1, keepdim=True)
        self.targets[rows] = self.beta * self.targets[rows] + (1 - self.beta) * normalised

    def aligned(self, rows: Tensor, shares: Tensor) -> Tensor:
        """The targets of `rows`, (batch, n_classes), moved so that over all training scans the classes are as common as `shares` (n_classes,) says.

        Distribution alignment (Berthelot et al., "ReMixMatch", ICLR 2020) of ELR's targets: t ∘ shares / mean t, with the sum that t had. Without it
        the regularizer of a hesitating network rewards only the classes that it prefers early, and one between two others is never said again.
        """
        tiny = torch.finfo(self.targets.dtype).tiny
        mean, own = self.targets.mean(dim=0), self.targets[rows]
        moved = own * (shares * mean.sum() / mean.clamp_min(tiny)).clamp(1 / MOST, MOST)
        return moved * own.sum(dim=1, keepdim=True) / moved.sum(dim=1, keepdim=True).clamp_min(tiny)

    def penalty(self, rows: Tensor, probabilities: Tensor) -> Tensor:
        """Mean of log(1 − ⟨t, p⟩) over the batch; differentiable in the probabilities, not in the targets."""
        return penalty(self.targets[rows], probabilities)


def penalty(targets: Tensor, probabilities: Tensor) -> Tensor:
    """Mean of log(1 − ⟨t, p⟩) of targets and probabilities, both (batch, n_classes)."""
    return torch.log(1 - (targets * _clamped(probabilities.float())).sum(dim=1)).mean()


def elr_loss(logits: Tensor, labels: Tensor, rows: Tensor, targets: EarlyLearningTargets, weight: float) -> Tensor:
    """Update the targets, then cross-entropy plus `weight` times their penalty.

    Parameters
    ----------
    logits : (batch, n_classes) float
    labels, rows : (batch,) int
        Given classes, and each scan's row in the targets.
    weight : float
        λ; at 0 this is cross-entropy.
    """
    targets.update(rows, functional.softmax(logits.float(), dim=1))
    return regularized_loss(logits, labels, rows, targets, weight)


def regularized_loss(
    logits: Tensor,
    labels: Tensor,
    rows: Tensor,
    targets: EarlyLearningTargets,
    weight: float,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    shares: Tensor | None = None,
) -> Tensor:
    """Cross-entropy plus `weight` times the penalty of targets that were updated before.

    Parameters
    ----------
    class_weights : (n_classes,) float or None
        Factor of the cross-entropy of each given class. The mean is over scans, not over weights, so that the loss of a
        batch is the mean of its parts' losses.
    label_smoothing : float
        Share of each label that is spread over all classes (Szegedy et al. 2016).
    shares : (n_classes,) float or None
        How common the classes are to be among the targets; None leaves them as they are.
    """
    entropy = mean_entropy(logits, labels, class_weights=class_weights, label_smoothing=label_smoothing)
    probabilities = functional.softmax(logits.float(), dim=1)
    if shares is None:
        return entropy + weight * targets.penalty(rows, probabilities)
    return entropy + weight * penalty(targets.aligned(rows, shares), probabilities)


def mean_entropy(
    logits: Tensor, labels: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """The part of `regularized_loss` that is cross-entropy."""
    reduction = "mean" if class_weights is None else "none"  # torch's weighted mean divides by the batch's weights
    return functional.cross_entropy(
        logits.float(), labels, weight=class_weights, label_smoothing=label_smoothing, reduction=reduction
    ).mean()


def _clamped(probabilities: Tensor) -> Tensor:
    """Probabilities kept off 0 and 1 by `MARGIN`."""
    return probabilities.clamp(MARGIN, 1 - MARGIN)
