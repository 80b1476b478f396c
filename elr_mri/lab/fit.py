"""Train a network on examples that lie in memory, some with wrong labels, and record what it says of each while it learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from elr_mri.config import Fit, Loss
from elr_mri.lab.watch import Watch
from elr_mri.learning import recipe
from elr_mri.learning.objective import Objective
from elr_mri.learning.resume import Begun, load_state, save_state
from elr_mri.learning.trajectory import Trajectory
from elr_mri.learning.twins import Twins, each


@dataclass(frozen=True)
class Trained:
    """A network after its last epoch, and the way there.

    Attributes
    ----------
    network : Module, in evaluation mode
    history : list of dict, one per epoch
        epoch, learning_rate, train_loss, train_accuracy (by given labels), and NAME_accuracy and NAME_ce of each judged set.
    said : (n_epochs, n_examples, n_classes) float32, or None
        Probabilities of each training example, at the step that it was trained on; None where a `watch` has summed them.
    targets : (n_examples, n_classes) float32
    best : int
        Index of the epoch of the lowest cross-entropy of `judged["val"]`, the last one where there is no such set.
    judged : dict of (n, n_classes) float32
        Logits of each judged set after the last epoch; where the loss stops early, after the best one.
    judged_best : dict of (n, n_classes) float32
        The same after the best epoch.
    """

    network: nn.Module
    history: list[dict[str, Any]]
    said: np.ndarray | None
    targets: np.ndarray
    best: int
    judged: dict[str, np.ndarray]
    judged_best: dict[str, np.ndarray]


def fit(
    build: Callable[[], nn.Module],
    inputs: Tensor,
    given: Tensor,
    n_classes: int,
    settings: Fit,
    loss: Loss,
    *,
    seed: int,
    judged: dict[str, tuple[Tensor, Tensor]],
    change: Callable[[Tensor, np.random.Generator], Tensor] | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
    watch: Watch | None = None,
    state_path: Path | None = None,
    fingerprint: dict[str, Any] | None = None,
    progress: Callable[[str], None] = print,
) -> Trained:
    """Train with given labels; where `state_path` is set, a killed run continues after its last whole epoch.

    Parameters
    ----------
    build : callable
        A network with fresh weights from torch's global generator: inputs (batch, ...) → logits (batch, n_classes).
    inputs : (n_examples, ...) float32, or of any type that `prepare` makes float32 of
        Where they do not fit on the device they stay where they are, and batches are moved.
    given : (n_examples,) int
    judged : dict
        Inputs and labels that are looked at after every epoch; "val" by its given labels, and patience and the best epoch go by it.
    change : callable or None
        Random change of a batch of inputs, from a generator of numpy.
    prepare : callable or None
        What makes a batch of inputs, changed or judged, into what the network takes.
    watch : Watch or None
        Sums what is said of the training examples in place of keeping all of it.
    """
    on, n = recipe.device(settings.device), len(inputs)
    torch.manual_seed(seed)
    network = _networks(build, loss).to(on)
    weights = recipe.class_weights(given, n_classes, settings.class_weights)
    objective = Objective(given, n_classes, loss, network, class_weights=weights).to(on)
    optimizer = _optimizer(network, settings)
    trajectory = (watch or Trajectory(settings.epochs, n, n_classes)).to(on)
    outcome = _Outcome({name: len(x) for name, (x, _) in judged.items()}, n_classes)
    parts = {
        "model": network,
        "objective": objective,
        "trajectory": trajectory,
        "outcome": outcome,
        "optimizer": optimizer,
    }
    mark = {
        "seed": seed,
        "settings": settings.model_dump(mode="json", exclude={"device"}),
        "loss": loss.model_dump(mode="json"),
        **(fingerprint or {}),
    }
    history: list[dict[str, Any]] = []
    if state_path is not None:
        history, _ = load_state(state_path, fingerprint=mark, restart_if_changed=True, tell=progress, **parts)
    inputs, labels = _placed(inputs, on), objective.labels
    n_batches = math.ceil(n / settings.batch_size)
    while len(history) < settings.epochs and not _stopped(history, loss.patience):
        epoch = len(history)
        order = np.random.default_rng([seed, epoch]).permutation(n)
        network.train()
        sums = torch.zeros(2, dtype=torch.float64, device=on)
        for number, places in enumerate(np.array_split(order, n_batches)):
            step = epoch * n_batches + number
            drawn = recipe.step_seed(seed, epoch, number)
            _seed(drawn, on)
            rows = torch.from_numpy(places).to(on)
            views = inputs[rows.to(inputs.device)].to(on)
            if change is not None:
                views = change(views, np.random.default_rng([seed, epoch, number]))
            if prepare is not None:
                views = prepare(views)
            for group in optimizer.param_groups:
                group["lr"] = rate = _rate(step, n_batches, settings)
            mixtures = objective.mixtures(len(rows), drawn)
            with _autocast(on, settings):
                logits = each(network, views, mixtures=mixtures)
                seen = objective.unmixed(logits, views).float()
            objective.observe(rows, seen)
            cost = objective(logits, rows, step, mixtures)
            optimizer.zero_grad()
            cost.backward()
            optimizer.step()
            said = objective.voice(logits, seen)
            if watch is None:
                trajectory.add(epoch, rows, said)
            else:  # before the examples' own parameters move
                watch.add(epoch, rows, objective.voices(logits, seen), objective, step)
            objective.settle(rows, seen, network)
            sums += torch.stack([cost.detach() * len(rows), (said.argmax(dim=1) == labels[rows]).sum()]).double()
        line = {
            "epoch": epoch + 1,
            "learning_rate": rate,
            "train_loss": sums[0].item() / n,
            "train_accuracy": sums[1].item() / n,
        }
        for name, (x, y) in judged.items():
            logits = outcome.last[name].copy_(say(network, x, settings, prepare))
            line[f"{name}_accuracy"] = (logits.argmax(dim=1) == y).float().mean().item()
            line[f"{name}_ce"] = functional.cross_entropy(logits, y).item()
        history.append(line)
        if _best(history) == epoch:
            outcome.keep()
        if state_path is not None:
            save_state(state_path, fingerprint=mark, history=history, begun=Begun(), **parts)
        progress("  ".join(f"{k} {v:.4g}" for k, v in line.items()))
    ends = outcome.best if loss.patience is not None else outcome.last  # who stops early keeps the best
    return Trained(
        network.eval(),
        history,
        trajectory.said[: len(history)].cpu().numpy() if watch is None else None,
        objective.estimates().cpu().numpy(),
        _best(history),
        {name: logits.numpy() for name, logits in ends.items()},
        {name: logits.numpy() for name, logits in outcome.best.items()},
    )


def _seed(seed: int, on: torch.device) -> None:
    """Seed what a step draws; on a CPU its generator alone: torch.manual_seed keeps a stack trace of every call for a GPU that may come."""
    (torch.default_generator.manual_seed if on.type == "cpu" else torch.manual_seed)(seed)


class _Outcome(nn.Module):
    """Logits of each judged set after the last epoch and after the best one; on the CPU, and part of the state dict."""

    def __init__(self, sizes: dict[str, int], n_classes: int):
        super().__init__()
        self.last, self.best = {}, {}
        for kind in ("last", "best"):
            for name, n in sizes.items():
                self.register_buffer(f"{kind}_{name}", torch.zeros(n, n_classes))
                getattr(self, kind)[name] = self.get_buffer(f"{kind}_{name}")

    def keep(self) -> None:
        """Take the last epoch for the best."""
        for name, logits in self.last.items():
            self.best[name].copy_(logits)


@torch.no_grad()
def say(network: nn.Module, inputs: Tensor, settings: Fit, prepare: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """(n, n_classes) float32 logits of a set, on the CPU; the mean of those of two networks."""
    network.eval()
    on = next(network.parameters()).device
    parts = [torch.empty(0)]
    for part in inputs.split(4 * settings.batch_size):
        part = part.to(on) if prepare is None else prepare(part.to(on))
        with _autocast(on, settings):
            parts.append(network(part).float().cpu())
    return torch.cat(parts[1:]) if len(inputs) else parts[0]


def _autocast(on: torch.device, settings: Fit) -> torch.autocast:
    """The context in which the network computes."""
    return torch.autocast(on.type, torch.bfloat16, enabled=recipe.precision(settings.precision, on) is torch.bfloat16)


def _placed(inputs: Tensor, on: torch.device) -> Tensor:
    """All inputs on the device; where they are if they would fill more than half of what a GPU has left."""
    if on.type == "cuda" and 2 * inputs.nbytes > torch.cuda.mem_get_info(on)[0]:
        return inputs
    return inputs.to(on)


def _networks(build: Callable[[], nn.Module], loss: Loss) -> nn.Module:
    """One network, or two of a make where the loss asks for them."""
    n = loss.elr.n_networks if loss.elr else 1
    return build() if n == 1 else Twins([build() for _ in range(n)])


def _optimizer(network: nn.Module, settings: Fit) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW."""
    common = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), **common)
    return torch.optim.SGD(network.parameters(), momentum=settings.momentum, **common)


def _rate(step: int, n_batches: int, settings: Fit) -> float:
    """Step size of optimizer step `step`; it changes with the epoch, as in the authors' code."""
    epoch = step // n_batches
    if settings.schedule == "cosine":
        return settings.learning_rate * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
    passed = sum(epoch >= milestone for milestone in settings.milestones) if settings.schedule == "steps" else 0
    return settings.learning_rate * settings.gamma**passed


def _best(history: list[dict[str, Any]]) -> int:
    """Index of the epoch of the lowest validation cross-entropy; the last one where nothing is validated."""
    if "val_ce" not in history[0]:
        return len(history) - 1
    return int(np.argmin([line["val_ce"] for line in history]))


def _stopped(history: list[dict[str, Any]], patience: int | None) -> bool:
    """Whether `patience` epochs have passed without a better one."""
    return patience is not None and bool(history) and len(history) - 1 - _best(history) >= patience
