"""The training state on disk: what a killed run needs to end with the same bits as an uninterrupted one.

One safetensors file holds weights, their average, optimizer, ELR targets, the sums of a begun epoch and, in its header, the
history, the batches done since and the run's fingerprint; one `os.replace` makes it whole. Random numbers need no
state: they are functions of (seed, epoch, batch).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from elr_mri.errors import BadInput
from elr_mri.learning.checkpoint import save_tensors


@dataclass(frozen=True)
class Begun:
    """What is done of an epoch: so many batches, in so many seconds."""

    batches: int = 0
    seconds: float = 0.0


def save_state(
    path: Path,
    *,
    fingerprint: dict[str, Any],
    history: list[dict[str, Any]],
    begun: Begun,
    optimizer: Optimizer,
    **modules: nn.Module,
) -> None:
    """Write the state after a step, atomically: `history` of the whole epochs, and what is done of the next one."""
    tensors = {
        f"{name}.{key}": tensor for name, module in modules.items() for key, tensor in module.state_dict().items()
    }
    for number, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{slot}": tensor for slot, tensor in slots.items() if tensor is not None}
    header = {"fingerprint": fingerprint, "history": history, "begun": asdict(begun)}
    save_tensors(path, tensors, {name: json.dumps(content) for name, content in header.items()})


def load_state(
    path: Path,
    *,
    fingerprint: dict[str, Any],
    restart_if_changed: bool,
    tell: Callable[[str], None],
    optimizer: Optimizer,
    **modules: nn.Module,
) -> tuple[list[dict[str, Any]], Begun]:
    """Take up the state at `path`; returns the history of whole epochs and what is done of the next one, both empty for a new run.

    A state of another run (settings, data, order, version) is refused with the first difference named, or
    left aside, and `tell` told of it, where `restart_if_changed`.
    """
    if not path.is_file():
        return [], Begun()
    tensors, header = _read(path)
    if header["fingerprint"] != fingerprint:
        key, was, now = _difference(header["fingerprint"], fingerprint)
        if restart_if_changed:
            tell(f"training anew: the state found has {key} {was}, this run {now}")
            return [], Begun()
        raise BadInput(
            expected=f"the training state of this run ({key} {now})",
            got=f"one with {key} {was}",
            where=str(path),
            fix="Pass --restart to train anew, or another output folder.",
        )
    for name, module in modules.items():
        module.load_state_dict({k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")})
    slots: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, number, slot = key.split(".")
            slots.setdefault(int(number), {})[slot] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    for (
        weights,
        held,
    ) in optimizer.state.items():  # laid out in memory as the weights: the fused step goes by the order there
        for slot, tensor in held.items():
            if tensor.shape == weights.shape:
                held[slot] = torch.empty_like(weights).copy_(tensor)
    return header["history"], Begun(**header["begun"])


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a state, and its header: fingerprint, history, begun."""
    try:
        with safe_open(path, "pt") as file:
            told = {"begun": "{}", **file.metadata()}  # states of earlier versions know no begun epoch
            header = {name: json.loads(told[name]) for name in ("fingerprint", "history", "begun")}
            return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118 (not a mapping)
    except (SafetensorError, KeyError, TypeError, ValueError) as problem:
        raise BadInput(
            expected="a training state", got=str(problem), where=str(path), fix="Delete it to train anew."
        ) from problem


def _difference(told: dict[str, Any], wanted: dict[str, Any], path: str = "") -> tuple[str, Any, Any]:
    """Dotted key, old and new value of the first difference between two nested mappings."""
    for key in sorted(told.keys() | wanted.keys()):
        was, now = told.get(key), wanted.get(key)
        if was != now:
            name = f"{path}{key}"
            return (
                _difference(was, now, f"{name}.")
                if isinstance(was, dict) and isinstance(now, dict)
                else (name, was, now)
            )
    raise ValueError("the mappings are equal")
