"""A model as one file that runs without this package: ONNX here, a MONAI bundle in `bundle.py`.

Both take packed volumes and ages and give logits and probabilities, preprocessing included. What was written is run again and
compared with the model before it is published.
"""

from __future__ import annotations

import copy
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from elr_mri.errors import BadInput
from elr_mri.imaging.packed import row_shape
from elr_mri.learning.blocks import Blocks, NormReluPool
from elr_mri.learning.checkpoint import Model, load_model, read_facts
from elr_mri.learning.networks import VolumeNet
from elr_mri.learning.twins import Twins
from elr_mri.provenance import atomic, digest_file, record

#: Of what the command writes.
VERSION = 1

#: The largest difference of a logit or probability between the model and its export.
TOLERANCE = 1e-4

INPUTS, OUTPUTS = ("volumes", "ages_years"), ("logits", "probabilities")

#: What ONNX needs, of the extra `export`.
LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


def export(model_dir: Path | str, *, form: Literal["onnx", "bundle"] = "onnx", output: Path | str) -> None:
    """Write the model of a folder as an ONNX file or a MONAI bundle (a folder), once it says the same as the model."""
    facts = read_facts(model_dir)
    if form == "onnx" and (absent := [name for name in LIBRARIES if find_spec(name) is None]):
        raise BadInput(
            expected="the libraries of the extra `export`",
            got=f"no {', '.join(absent)}",
            where="this Python environment",
            fix="Run `pip install --editable '.[export]'` in the folder of elr_mri.",
        )
    _check_place(Path(output), form)
    model = load_model(model_dir)
    plain, examples = Exported(model), example_inputs(facts)
    with atomic(output) as draft:
        if form == "onnx":
            write_onnx(plain, examples, draft)
            check_same(model, examples, run_onnx(draft, examples), str(output))
        else:
            from elr_mri.learning.bundle import run_bundle, write_bundle

            write_bundle(plain, examples, facts, draft)
            check_same(model, examples, run_bundle(draft, examples), str(output))
    inputs = {"model": digest_file(Path(model_dir) / "model.safetensors")}
    record(output, step="export", version=VERSION, inputs=inputs, settings={"format": form})


class Exported(nn.Module):
    """A model of plain layers for other runtimes: packed volumes and ages in, logits and probabilities out."""

    def __init__(self, model: Model):
        super().__init__()
        self.standardise, self.crop = model.standardise, model.crop
        members = model.network.members if isinstance(model.network, Twins) else [model.network]
        self.members = nn.ModuleList(PlainNetwork(member) for member in members)
        self.eval().requires_grad_(False)

    def forward(self, volumes: Tensor, ages_years: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the central crop.

        Parameters
        ----------
        volumes : (batch, n_channels, X, Y, Z) float32, packed values
            Where one is missing (NaN) it counts as 0.
        ages_years : (batch,) float32
            NaN leaves age out. A network without age does not look at them.

        Returns
        -------
        logits, probabilities : (batch, n_classes) float32
        """
        seen = self.standardise(torch.where(torch.isnan(volumes), 0.0, volumes))
        for axis in (2, 3, 4):
            seen = seen.narrow(axis, (volumes.shape[axis] - self.crop) // 2, self.crop)
        logits = torch.stack([member(seen, ages_years) for member in self.members]).mean(dim=0)
        return logits, torch.softmax(logits, dim=1)


class PlainNetwork(nn.Module):
    """One network of plain layers, which takes an age of NaN for none."""

    def __init__(self, network: VolumeNet):
        super().__init__()
        self.blocks, self.embed = plain_layers(network.blocks), network.embed
        self.age, self.classifier = network.age, network.classifier

    def forward(self, volumes: Tensor, ages_years: Tensor) -> Tensor:
        """(batch, n_channels, crop, crop, crop) standardised, (batch,) years → (batch, n_classes) logits."""
        features = self.embed(self.blocks(volumes).flatten(1))
        known = torch.isfinite(ages_years)
        ages = torch.where(known, ages_years, 0.0)
        features = features + (0.0 * ages[:, None] if self.age is None else self.age(ages) * known[:, None])
        return self.classifier(features)


class StagedInstanceNorm(nn.Module):
    """Instance norm with means taken axis by axis.

    Runtimes sum a whole map in one float32: onnxruntime's instance norm of 35³ maps is off by 1e-4 of their spread.
    """

    def __init__(self, norm: nn.InstanceNorm3d):
        super().__init__()
        self.eps, self.weight, self.bias = norm.eps, norm.weight, norm.bias

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, channels, X, Y, Z) → the same, of mean 0 and deviation 1 in each scan and channel."""
        maps = maps - staged_mean(maps)
        maps = maps * torch.rsqrt(staged_mean(maps * maps) + self.eps)
        if self.weight is None:
            return maps
        return maps * self.weight.view(1, -1, 1, 1, 1) + self.bias.view(1, -1, 1, 1, 1)


def staged_mean(maps: Tensor) -> Tensor:
    """(batch, channels, X, Y, Z) → (batch, channels, 1, 1, 1)."""
    for axis in (4, 3, 2):
        maps = maps.mean(dim=axis, keepdim=True)
    return maps


def plain_layers(layers: nn.Module) -> nn.Module:
    """A copy of a network's layers that any exporter knows: norm, ReLU and pool one by one instead of our fused step."""
    return _plain(copy.deepcopy(layers))


def _plain(layer: nn.Module) -> nn.Module:
    if isinstance(layer, NormReluPool):
        pool = [] if layer.pool is None else [nn.MaxPool3d(layer.pool, stride=2)]
        return nn.Sequential(_plain(layer.norm), nn.ReLU(), *pool)
    if isinstance(layer, nn.InstanceNorm3d):
        return StagedInstanceNorm(layer)
    if isinstance(layer, Blocks):  # whose first block is computed in closed form
        return nn.Sequential(*map(_plain, layer))
    for name, part in list(layer.named_children()):
        setattr(layer, name, _plain(part))
    return layer


def example_inputs(facts: dict[str, Any], n: int = 3) -> tuple[Tensor, Tensor]:
    """(n, n_channels, X, Y, Z) random packed values and (n,) ages, the last unknown: what an export is compared on."""
    preprocessing = facts["preprocessing"]
    shape = row_shape(preprocessing["shape"], preprocessing["channels"])
    rng = np.random.default_rng(0)
    volumes = rng.integers(0, 256, size=(n, len(preprocessing["channels"]), *shape[-3:])).astype(np.float32)
    if preprocessing.get("dtype") == "float16":
        volumes *= np.float32(1.6 / 255)
    return torch.from_numpy(volumes), torch.tensor([72.0, 55.3, *[torch.nan] * (n - 2)])


def write_onnx(plain: Exported, examples: tuple[Tensor, Tensor], path: Path) -> None:
    """Write an ONNX file with inputs `volumes`, `ages_years` and outputs `logits`, `probabilities`; any batch size."""
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            plain,
            examples,
            path,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: batch}, {0: batch}),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def run_onnx(path: Path, examples: tuple[Tensor, Tensor]) -> list[np.ndarray]:
    """Outputs of an ONNX file under onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(list(OUTPUTS), {name: part.numpy() for name, part in zip(INPUTS, examples, strict=True)})


def check_same(model: Model, examples: tuple[Tensor, Tensor], found: list[np.ndarray], where: str) -> None:
    """Refuse outputs that differ from the model's own by more than `TOLERANCE`."""
    expected = model_outputs(model, examples)
    off = max(float(np.abs(a - b).max()) for a, b in zip(expected, found, strict=True))
    if not off <= TOLERANCE:
        raise BadInput(
            expected=f"an export within {TOLERANCE:g} of the model",
            got=f"a difference of {off:.3g}",
            where=where,
            fix="It was not written. Export with the pinned versions of torch and onnxruntime.",
        )


@torch.inference_mode()
def model_outputs(model: Model, examples: tuple[Tensor, Tensor]) -> list[np.ndarray]:
    """Logits and probabilities of the model itself, scan by scan; an unknown age is left out."""
    scans = zip(*examples, strict=True)
    logits = torch.cat([model(volume[None], None if age.isnan() else age[None]) for volume, age in scans])
    return [logits.numpy(), torch.softmax(logits, dim=1).numpy()]


def _check_place(output: Path, form: str) -> None:
    """Refuse to replace anything but an earlier export."""
    if output.is_dir() and not (form == "bundle" and (output / "configs" / "metadata.json").is_file()):
        raise BadInput(
            expected="a new file" if form == "onnx" else "a new folder, or an earlier bundle",
            got="another folder",
            where=str(output),
            fix="Choose another --output; nothing was written.",
        )
    if form == "bundle" and output.is_file():
        raise BadInput(expected="a folder", got="a file", where=str(output), fix="Choose another --output.")
