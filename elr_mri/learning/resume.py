"""The training state on disk: what a killed run needs to end with the same bits as an uninterrupted one.

One safetensors file holds weights, optimizer, ELR targets and, in its header, the epochs done, the
history and the run's fingerprint; one `os.replace` makes it whole. Random numbers need no state: they
are functions of (seed, epoch).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn
from torch.optim import Optimizer

from elr_mri.errors import BadInput
from elr_mri.learning.checkpoint import save_tensors


def save_state(
    path: Path,
    *,
    fingerprint: dict[str, Any],
    history: list[dict[str, Any]],
    optimizer: Optimizer,
    **modules: nn.Module,
) -> None:
    """Write the state after an epoch, atomically."""
    tensors = {
        f"{name}.{key}": tensor for name, module in modules.items() for key, tensor in module.state_dict().items()
    }
    for number, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{slot}": tensor for slot, tensor in slots.items() if tensor is not None}
    save_tensors(path, tensors, {"fingerprint": json.dumps(fingerprint), "history": json.dumps(history)})


def load_state(
    path: Path, *, fingerprint: dict[str, Any], restart_if_changed: bool, optimizer: Optimizer, **modules: nn.Module
) -> list[dict[str, Any]]:
    """Take up the state at `path` and return its history; an empty one where the run starts anew.

    A state of another run (settings, data, order, version) is refused with the first difference named, or
    left aside where `restart_if_changed`.
    """
    if not path.is_file():
        return []
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            if (told := json.loads(header["fingerprint"])) != fingerprint:
                if restart_if_changed:
                    return []
                key, was, now = _difference(told, fingerprint)
                raise BadInput(
                    expected=f"the training state of this run ({key} {now})",
                    got=f"one with {key} {was}",
                    where=str(path),
                    fix="Pass --restart to train anew, or another output folder.",
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as problem:
        raise BadInput(
            expected="a training state", got=str(problem), where=str(path), fix="Delete it to train anew."
        ) from problem
    for name, module in modules.items():
        module.load_state_dict({k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")})
    slots: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, number, slot = key.split(".")
            slots.setdefault(int(number), {})[slot] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    return json.loads(header["history"])


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
