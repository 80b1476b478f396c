"""A model folder: `model.safetensors` (weights and preprocessing statistics) and `model.json` (everything else).

The folder is all that a prediction needs. Nothing in it is unpickled, what `model.json` says is checked (`facts.py`), and memory is taken
for a network only once the weights are known to be its own.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from elr_mri.errors import BadInput
from elr_mri.imaging.packed import row_shape
from elr_mri.learning import facts as facts_
from elr_mri.learning.networks import build
from elr_mri.learning.reference import load_reference_weights as load_reference_weights
from elr_mri.learning.standardise import Standardise, extremes, take
from elr_mri.learning.views import centred, window
from elr_mri.provenance import atomic, versions, write_json
from elr_mri.scans.cells import one_line
from elr_mri.scans.table import CLASSES

#: Of the model folder's layout.
VERSION = 1

LICENCE = (
    "The code is MIT. The weights derive from the cohorts in `trained_on` and follow those cohorts' data use terms."
)


class Model(nn.Module):
    """A network with its preprocessing: packed values and ages in, class scores out.

    Parameters
    ----------
    network : dict
        Keyword arguments of `networks.build`, with `name` and `crop`.
    standardise : "scan" or "voxel"
    shape : (X, Y, Z) or (n_channels, X, Y, Z) of a packed scan
    """

    def __init__(self, network: dict[str, Any], standardise: Literal["scan", "voxel"], shape: tuple[int, ...]):
        super().__init__()
        self.crop: int = network["crop"]
        if min(shape[-3:]) < self.crop:
            raise BadInput(
                expected=f"a packed grid of at least {self.crop} voxels a side",
                got="x".join(map(str, shape[-3:])),
                where="the cache",
                fix="Lower train.crop or register.spacing_mm.",
            )
        self.standardise = Standardise(standardise, shape)
        self.network = build(**network)

    def centre(self, volumes: Tensor, shift: tuple[int, int, int] = (0, 0, 0)) -> Tensor:
        """(batch, n_channels, X, Y, Z) packed values → (batch, n_channels, crop, crop, crop), standardised, as evaluated.

        `shift` moves the central crop by so many voxels, as far as there is room.
        """
        if volumes.is_floating_point():  # a missing value counts as 0, as in the released code
            volumes = volumes.nan_to_num(0.0, posinf=math.inf, neginf=-math.inf)
        shape = volumes.shape[2:]
        places = window(centred(shape, self.crop, shift), shape, self.crop)
        return self.standardise.window(take(volumes, places).float(), places, extremes(volumes))

    def forward(
        self, volumes: Tensor, ages_years: Tensor | None = None, shift: tuple[int, int, int] = (0, 0, 0)
    ) -> Tensor:
        """(batch, n_channels, X, Y, Z) packed values, (batch,) years → (batch, n_classes) logits of the central crop."""
        return self.network(self.centre(volumes, shift), ages_years)


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically, readable by others (the library itself makes it private)."""
    with atomic(path) as draft:
        try:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, draft, metadata)
        except SafetensorError as problem:  # the library tells of a full disk in its own words
            raise OSError(
                int(found[1]) if (found := re.search(r"os error (\d+)", str(problem))) else 0, str(problem), str(path)
            ) from problem
        draft.chmod(0o644)


def save_model(folder: Path | str, model: Model, facts: dict[str, Any]) -> None:
    """Write `model.safetensors`, then `model.json` with `facts`, versions and licence (ours where `facts` has none)."""
    folder = Path(folder)
    save_tensors(folder / "model.safetensors", model.state_dict())
    content = {"version": VERSION, "classes": list(CLASSES), "licence": LICENCE, **facts, "versions": versions()}
    write_json(folder / "model.json", content)


def read_facts(folder: Path | str) -> dict[str, Any]:
    """`model.json` of a model folder; refuses a folder without one, of another layout, or with what no model of ours says."""
    path = Path(folder) / "model.json"
    if not path.is_file():
        raise BadInput(
            expected="a model folder with model.json", got="no such file", where=str(folder), fix="Run `elr-mri train`."
        )
    return facts_.read(path, VERSION)


def load_model(folder: Path | str, device: torch.device | str = "cpu") -> Model:
    """The model in a folder, in evaluation mode."""
    facts = read_facts(folder)
    path = Path(folder) / "model.safetensors"
    try:
        _check_weights(path, facts)
        model = empty_model(facts)
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as problem:
        raise _not_its_own(path, str(problem).splitlines()[0]) from problem
    if broken := [name for name, held in model.state_dict().items() if not held.isfinite().all()]:
        raise _not_its_own(path, f"NaN or infinity in {broken[0]}")
    return model.eval().to(device)


def _check_weights(path: Path, facts: dict[str, Any]) -> None:
    """Refuse tensors of other names, shapes or types than `model.json` describes, by the file's header alone."""
    with torch.device("meta"):
        wanted = {name: (list(t.shape), t.dtype) for name, t in empty_model(facts).state_dict().items()}
    with safe_open(path, "pt") as file:
        names = set(file.keys())
        if odd := names ^ set(wanted):
            raise _not_its_own(path, f"{min(odd)} in one of them alone")
        for name, (shape, dtype) in wanted.items():
            held = file.get_slice(name)
            if held.get_shape() != shape or held.get_dtype() != _TYPES[dtype]:
                raise _not_its_own(
                    path, f"{name} of {held.get_shape()} {held.get_dtype()}, not {shape} {_TYPES[dtype]}"
                )


#: Types of a model's tensors, by the names that safetensors has for them.
_TYPES = {torch.float32: "F32", torch.int64: "I64"}


def _not_its_own(path: Path, got: str) -> BadInput:
    return BadInput(
        expected="the weights that model.json describes", got=one_line(got), where=str(path), fix="Train again."
    )


def empty_model(facts: dict[str, Any]) -> Model:
    """A model of the same make with fresh weights, drawn from torch's global generator."""
    preprocessing = facts["preprocessing"]
    shape = row_shape(preprocessing["shape"], preprocessing["channels"])
    return Model(facts["network"], preprocessing["standardise"], shape)


def check_grid(facts: dict[str, Any], meta: dict[str, Any], where: str) -> None:
    """Refuse a cache on another grid, space or intensity mapping than the model was trained on, as far as it tells them.

    A trained model tells them all; an imported one its grid.
    """
    for key in GRID_KEYS:
        if key in facts["preprocessing"] and facts["preprocessing"][key] != meta.get(key):
            raise BadInput(
                expected=f"{key} {facts['preprocessing'].get(key)}, as the model was trained on",
                got=f"{meta.get(key)}",
                where=where,
                fix="Register and pack with the model's settings, or train a model on this cache.",
            )


#: What of a cache's `meta.json` must be the same for a model to mean anything on it.
GRID_KEYS = ("space", "channels", "template", "shape", "affine", "intensity", "log_jacobian")
