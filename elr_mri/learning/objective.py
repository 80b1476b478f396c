"""What a step descends: cross-entropy with the given labels, and what a config word adds against the wrong ones among them.

One class for every network and every loop; where it differs from the authors' code of ELR+ stands in docs/decisions/0013-losses.md. A step is

    mixtures = objective.mixtures(n, seed)                  # what each network sees; without mixup the batch itself
    logits = each(network, *inputs, mixtures=mixtures)
    seen = objective.unmixed(logits, *inputs)
    objective.observe(rows, seen)
    loss = objective(logits, rows, step, mixtures)
    …                                                       # backward, optimizer
    objective.settle(rows, seen, network)

and `objective.voice(logits, seen)` is what the network that predicts said of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from elr_mri.config import Elr, Loss
from elr_mri.errors import BadInput
from elr_mri.learning.averaging import ramp, weight_average
from elr_mri.learning.elr import EarlyLearningTargets, mean_entropy, penalty, regularized_loss
from elr_mri.learning.gce import generalised_cross_entropy
from elr_mri.learning.sop import Overparameterization
from elr_mri.learning.twins import Mixture, draw_mixture, each


def averages_speak(elr: Elr) -> bool:
    """Whether what is recorded of a training scan is said by the averaged weights: where the network itself sees mixtures only."""
    return elr.mixup > 0


class Objective(nn.Module):
    """The loss of training examples by their rows, with all that it remembers of each.

    Parameters
    ----------
    labels : (n_scans,) int
        Given classes of all training scans, in training order.
    n_classes : int
    loss : Loss
        At most one of `elr`, `sop`, `gce`; cross-entropy without.
    network : Module
        What is trained: `Twins` where the loss asks for two networks. Averaged weights start at its own.
    class_weights : (n_classes,) float or None

    Attributes
    ----------
    targets : ModuleList of EarlyLearningTargets
        Those of each network; observed, whatever the loss.
    teacher : AveragedModel or None
        The averaged weights, where targets are taken from such.
    """

    def __init__(
        self, labels: Tensor, n_classes: int, loss: Loss, network: nn.Module, *, class_weights: Tensor | None = None
    ):
        super().__init__()
        self.elr, self.gce, self.smoothing = loss.elr, loss.gce, loss.label_smoothing or 0.0
        if self.smoothing and loss.takes_whole_labels:  # of a study and a model put together
            raise BadInput(
                expected="label smoothing with cross-entropy or elr",
                got="label_smoothing beside sop or gce, whose equations take whole labels",
                where="train",
                fix="Set label_smoothing to 0.",
            )
        n_networks, beta = (loss.elr.n_networks, loss.elr.beta) if loss.elr else (1, 0.0)
        clamped = not (loss.elr and loss.elr.targets == "both")  # the published ELR+ averages probabilities as they are
        self.targets = nn.ModuleList(
            EarlyLearningTargets(len(labels), n_classes, beta, clamped=clamped) for _ in range(n_networks)
        )
        self.sop = Overparameterization(len(labels), n_classes, loss.sop.u_rate, loss.sop.v_rate) if loss.sop else None
        averages = self.elr is not None and self.elr.averages_weights
        self.teacher = weight_average(network, self.elr.ema, self.elr.ema_ramp_steps) if averages else None
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("class_weights", class_weights, persistent=False)
        shares = _shares(labels, n_classes, class_weights) if loss.elr and loss.elr.align else None
        self.register_buffer("shares", shares, persistent=False)

    def mixtures(self, n: int, seed: int) -> list[Mixture | None]:
        """What each network sees of a batch of n; None is the batch itself."""
        if not (self.elr and self.elr.mixup):
            return [None] * len(self.targets)
        rng = np.random.default_rng(seed)
        return [draw_mixture(rng, n, self.elr.mixup, self.labels.device) for _ in self.targets]

    @torch.no_grad()
    def unmixed(self, logits: Tensor, *inputs: Tensor | None) -> Tensor:
        """(batch, n_networks, n_classes) that targets are taken from: the averaged weights' logits of the inputs where there are such, else `logits`."""
        if self.teacher is None:
            return logits.detach()
        self.teacher.eval()
        return each(self.teacher.module, *inputs, mixtures=[None] * len(self.targets))

    def voice(self, logits: Tensor, seen: Tensor) -> Tensor:
        """(batch, n_classes) logits of the batch's scans by the network that predicts, as it was at this step: of two the mean.

        Where scans are mixed that network sees none of them as they are; then it is the averaged weights' (`averages_speak`), which cost no further pass.

        Parameters
        ----------
        logits, seen : (batch, n_networks, n_classes) float
            What the step was taken from, and what `unmixed` gave.
        """
        return self.voices(logits, seen).mean(dim=1)

    def voices(self, logits: Tensor, seen: Tensor) -> Tensor:
        """(batch, n_networks, n_classes) float32: what each network said, of which `voice` is the mean."""
        return (seen if self.elr and averages_speak(self.elr) else logits.detach()).float()

    def observe(self, rows: Tensor, seen: Tensor) -> None:
        """Update the targets before the loss is taken, from logits (batch, n_networks, n_classes) of unmixed scans; of two networks each takes
        the other's."""
        said = functional.softmax(seen.detach().float(), dim=-1).flip(1)
        for k, targets in enumerate(self.targets):
            targets.update(rows, said[:, k])

    def forward(
        self, logits: Tensor, rows: Tensor, step: int, mixtures: Sequence[Mixture | None] = (None, None)
    ) -> Tensor:
        """Mean loss of a batch, summed over the networks.

        Parameters
        ----------
        logits : (batch, n_networks, n_classes) float
        rows : (batch,) int
            The scans' rows in the labels and targets.
        step : int
            Steps taken before, for the ramp of λ, which counts this one, too.
        mixtures : one for each network
            What it saw; None is the batch itself.
        """
        weight = self.elr.weight * ramp(step + 1, self.elr.ramp_steps) if self.elr else 0.0
        losses = [
            self._loss(said, rows, targets, weight)
            if mixture is None
            else self._mixed(said, rows, targets, weight, mixture)
            for said, targets, mixture in zip(logits.unbind(1), self.targets, mixtures)
        ]
        return sum(losses[1:], losses[0])

    def entropy(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Of the mean loss of an unmixed batch the part that is cross-entropy: all of it without a regularizer."""
        if not self.elr:
            return self(logits, rows, 0)
        how = {"class_weights": self.class_weights, "label_smoothing": self.smoothing}
        losses = [mean_entropy(said, self.labels[rows], **how) for said in logits.unbind(1)]
        return sum(losses[1:], losses[0])

    def estimates(self) -> Tensor:
        """(n_scans, n_classes): the targets, the mean of those of two networks."""
        return torch.stack([targets.targets for targets in self.targets]).mean(dim=0)

    def settle(self, rows: Tensor, seen: Tensor, network: nn.Module) -> None:
        """After the step: averaged weights follow the network's, and the examples' own parameters take theirs, at the logits
        (batch, n_networks, n_classes) that the step was taken at."""
        if self.teacher:
            self.teacher.update_parameters(network)
        if self.sop:
            self.sop.settle(seen[:, 0], self.labels[rows], rows)

    def _loss(self, logits: Tensor, rows: Tensor, targets: EarlyLearningTargets, weight: float) -> Tensor:
        """Mean loss of a batch as it is."""
        labels = self.labels[rows]
        if not (self.sop or self.gce):
            how = {"class_weights": self.class_weights, "label_smoothing": self.smoothing, "shares": self.shares}
            return regularized_loss(logits, labels, rows, targets, weight, **how)
        losses = self.sop(logits, labels, rows) if self.sop else generalised_cross_entropy(logits, labels, self.gce.q)
        return (losses if self.class_weights is None else losses * self.class_weights[labels]).mean()

    def _mixed(
        self, logits: Tensor, rows: Tensor, targets: EarlyLearningTargets, weight: float, mixture: Mixture
    ) -> Tensor:
        """Mean loss of a mixed batch: labels and targets are mixed as the scans are."""
        logits = logits.float()
        labels = mixture.of(functional.one_hot(self.labels[rows], logits.shape[1]).float())
        entropy = functional.cross_entropy(
            logits, labels, weight=self.class_weights, label_smoothing=self.smoothing, reduction="none"
        ).mean()
        known = targets.targets[rows] if self.shares is None else targets.aligned(rows, self.shares)
        return entropy + weight * penalty(mixture.of(known), functional.softmax(logits, dim=1))


def _shares(labels: Tensor, n_classes: int, class_weights: Tensor | None) -> Tensor:
    """(n_classes,) float32: how common each given class is, its weight counted; equal for `class_weights: balanced`."""
    counts = torch.bincount(labels, minlength=n_classes).float()
    weighed = counts if class_weights is None else (counts * class_weights.to(counts.device)).nan_to_num(0.0)
    return weighed / weighed.sum()
