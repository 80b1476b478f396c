"""The parts of the training recipe that are choices, not machinery: optimizer, step size, precision, device."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from elr_mri.config import Model as ModelSettings
from elr_mri.config import Train
from elr_mri.errors import BadInput
from elr_mri.learning.twins import Twins

#: One-cycle: the first quarter of all steps rises from 1/25 of the peak, the rest falls to zero, both as half cosines.
WARM_UP, START = 0.25, 1 / 25

#: Below about this size a gradient is rounding; torch's 1e-8 lets AdamW follow it at full step size, and how a batch is divided among
#: processes, or the order of a sum, then grows to 1e-3 of the loss in twenty steps (measured; 6e-7 with this).
ADAM_EPS = 1e-6


def optimizer(net: nn.Module, settings: Train, model: ModelSettings) -> Optimizer:
    """AdamW, or SGD with momentum, over the weights that can be trained."""
    if model.network != "resnet18" and model.norm == "instance":
        _freeze_scale_free(net, first_too=settings.recipe != "reference")
    weights = [p for p in net.parameters() if p.requires_grad]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(
            weights, lr=settings.learning_rate, weight_decay=settings.weight_decay, eps=ADAM_EPS, fused=True
        )
    return torch.optim.SGD(
        weights, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )


def _freeze_scale_free(net: nn.Module, *, first_too: bool) -> None:
    """Keep as drawn what instance norm takes out again, and whose gradient vanishes: it would follow rounding alone.

    That is every bias before it; and the first convolution where it is 1³ of one channel, w·x + b: the norm takes out the size
    of w, too, but for its epsilon, by which the reference trains it. A larger kernel, or the mixture of two channels, is learnt. Not
    asking saves a sixth of `wide`'s step on a CPU.
    """
    if isinstance(net, Twins):
        for member in net.members:
            _freeze_scale_free(member, first_too=first_too)
        return
    convolutions = [layer for layer in net.blocks if isinstance(layer, nn.Conv3d)]
    for layer in convolutions:
        layer.bias.requires_grad_(False)
    first = convolutions[0]
    if first_too and first.in_channels == 1 and first.kernel_size == (1, 1, 1):
        first.weight.requires_grad_(False)


def class_weights(labels: Tensor, n_classes: int, kind: str) -> Tensor | None:
    """(n_classes,) float32: n / (n_classes · n of the class) for `balanced`, so that their mean over the scans is 1; None for `none`."""
    if kind == "none":
        return None
    return len(labels) / (n_classes * torch.bincount(labels, minlength=n_classes).float())


def step_seed(seed: int, epoch: int, batch: int) -> int:
    """The seed of everything that torch draws in one step: a run that continues in mid-epoch needs no generator's state."""
    return int(np.random.SeedSequence([seed, epoch, batch]).generate_state(1, np.uint64)[0] >> 1)


def learning_rate(step: int, n_steps: int, settings: Train) -> float:
    """Step size of optimizer step `step` (from 0) of `n_steps`."""
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (step + 1) / n_steps
    if done <= WARM_UP:
        low, high, phase = START, 1.0, done / WARM_UP
    else:
        low, high, phase = 1.0, 0.0, (done - WARM_UP) / (1 - WARM_UP)
    return settings.learning_rate * (low + (high - low) * (1 - math.cos(math.pi * phase)) / 2)


def named_device(name: str) -> torch.device:
    """The device of a name, whether or not this machine has it; `auto` is the first GPU where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError as problem:
        raise BadInput(
            expected="auto, cpu or cuda", got=repr(name), where="train.device", fix="Choose one."
        ) from problem


def device(name: str) -> torch.device:
    """The device of a name, which this machine must have. On a GPU float32 means float32, not its 19-bit stand-in."""
    torch.backends.cudnn.allow_tf32 = False
    found, n_gpus = named_device(name), torch.cuda.device_count()
    if found.type == "cuda" and (found.index or 0) >= n_gpus:
        raise BadInput(
            expected=f"one of {n_gpus} GPUs" if n_gpus else "cpu or auto, on a machine without a GPU that torch sees",
            got=repr(name),
            where="device",
            fix="Choose another, or see what `elr-mri doctor` says of torch.",
        )
    return found


def precision(name: str, on: torch.device) -> torch.dtype:
    """Type of the convolutions: `auto` is bfloat16 on a GPU that computes in it, else float32.

    Never bfloat16 by itself on a CPU: oneDNN's weight gradient of small 3-D maps then reads memory that nobody wrote (torch
    2.13, now and then NaN; docs/decisions/0005), and a study would depend on the processor it ran on.
    """
    if name != "auto":
        return getattr(torch, name)
    return torch.bfloat16 if on.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32


def place(network: nn.Module, on: torch.device) -> nn.Module:
    """The network on its device; on a GPU with channels last in memory, as its convolutions are fastest."""
    return network.to(on, memory_format=torch.channels_last_3d if on.type == "cuda" else torch.preserve_format)


def compiled(network: nn.Module, settings: Train, on: torch.device) -> nn.Module:
    """The network as it is called in training: compiled where that is asked for, by default on a GPU."""
    wanted = on.type == "cuda" if settings.compile == "auto" else settings.compile
    return torch.compile(network) if wanted else network


def be_deterministic(wanted: bool | str, on: torch.device) -> None:
    """Let torch choose operations that give the same bits every time; on a GPU it warns of those that it has none for."""
    exact = on.type == "cpu" if wanted == "auto" else wanted
    torch.use_deterministic_algorithms(exact, warn_only=on.type != "cpu")
    torch.backends.cudnn.benchmark = not exact
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs a third of a step
