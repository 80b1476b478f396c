"""The released checkpoints of Liu et al. (NYUMedML/CNN_design_for_AD), read as our `wide` network.

A file from elsewhere is not trusted: `torch.load` reads it with `weights_only=True`, which builds tensors and plain
containers and runs no code; the few NumPy scalars that the released training loop stores beside the weights are
skipped unread. Every tensor must be known by name, shape and type, or the file is refused.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import safe_globals

from elr_mri.errors import BadInput
from elr_mri.learning.age import sinusoids
from elr_mri.learning.networks import VolumeNet, build

#: Layers of the released networks → ours; a name may stand behind any prefix, the same for a whole part.
IMAGE = {
    "conv.conv0_s1": "blocks.0",
    "conv.conv1_s1": "blocks.2",
    "conv.conv2_s1": "blocks.4",
    "conv.conv3_s1": "blocks.6",
    "fc6.fc6_s1": "embed",
}
AGE = {
    "age_encoder.fc6.fc6_s1": "age.layers.0",
    "age_encoder.fc6.lrn0_s1": "age.layers.1",
    "age_encoder.fc6.fc6_s3": "age.layers.2",
}
CLASSIFIER = {"classifier.LinearClassifier": "classifier.0", "classifier.LinearClassifier2": "classifier.1"}
SINUSOIDS = "age_encoder.pe"
#: The parts whose keys share one prefix: the image network, age encoder included, and the classifier.
PARTS = ({**IMAGE, **AGE, SINUSOIDS: SINUSOIDS}, CLASSIFIER)

#: The release computes its sinusoids in float32: at position 239 they are off by up to 2e-5.
SINUSOIDS_TOLERANCE = 1e-4

#: The largest width that is taken for one; 8 is the published.
WIDEST = 64

#: What else the released loop pickles: NumPy's scalars (`best_prec1`) and, in variants of it, the parsed arguments.
SKIPPED = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "argparse.Namespace")


class _Skipped:
    """Stands for a value that is not a weight: takes whatever the pickle gives it and keeps nothing."""

    def __new__(cls, *_: Any) -> _Skipped:
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        pass


def load_reference_weights(path: Path | str) -> VolumeNet:
    """The released network in a `.pth.tar` file as our `wide`, in evaluation mode; its width and age are read off the tensors.

    Logits equal the released code's to 1e-4 for 96³ crops of min-max scaled scans. An age goes to the nearest half year, as all
    2,708 lines of their tables are rounded.
    """
    network, weights = read_reference(path)
    net = build(**network)
    net.load_state_dict(weights)
    return net.eval()


def read_reference(path: Path | str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Keyword arguments of `networks.build` and float32 weights under our names, from a released checkpoint."""
    found = _by_layer(_state_dict(_load(Path(path)), path), path)
    age = "sinusoid" if any(name.startswith("age_encoder.") for name in found) else "none"
    layers = IMAGE | CLASSIFIER | (AGE if age == "sinusoid" else {})
    wanted = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    wanted += [SINUSOIDS] if age == "sinusoid" else []
    if missing := [name for name in wanted if name not in found]:
        _refuse(path, "all layers of the released network", f"no {', '.join(missing)}")
    width = len(found["conv.conv0_s1.bias"]) // 4 if found["conv.conv0_s1.bias"].ndim else 0
    if not 1 <= width <= WIDEST:
        _refuse(path, f"a width of 1 to {WIDEST} (4 channels each in conv.conv0_s1)", f"a width of {width}")
    network = {
        "name": "wide",
        "n_classes": 3,
        "width": width,
        "norm": "instance",
        "age": age,
        "crop": 96,
        "first_pool": True,
        "channels": 1,
    }
    if age == "sinusoid":
        _check_sinusoids(found.pop(SINUSOIDS), path)
    with torch.device("meta"):  # shapes alone: a file must not make us draw weights of any size
        shapes = {name: weight.shape for name, weight in build(**network).state_dict().items()}
    ours = {}
    for name, weight in found.items():
        layer, _, kind = name.rpartition(".")
        target = f"{layers[layer]}.{kind}"
        if weight.shape != shapes[target]:
            _refuse(path, f"{name} of {tuple(shapes[target])}", f"{tuple(weight.shape)}")
        ours[target] = _checked(name, weight, path)
    return network, ours


def never_learnt_age(weights: dict[str, Tensor]) -> bool:
    """Whether the age encoder is as it was drawn: the released network holds one also where it is trained without age.

    Its LayerNorm starts at weight 1 and bias 0, which the first step with age would change.
    """
    norm = [weights.get(f"age.layers.1.{kind}") for kind in ("weight", "bias")]
    return norm[0] is not None and bool((norm[0] == 1).all() and (norm[1] == 0).all())


def _load(path: Path) -> Any:
    """What the file holds, without running anything in it."""
    if not path.is_file():
        _refuse(
            path, "a checkpoint file", "no such file" if not path.exists() else "a folder", "Name the .pth.tar file."
        )
    if zipfile.is_zipfile(path):
        _check_archive(path)
    try:
        with safe_globals([(_Skipped, name) for name in SKIPPED] + [_Skipped]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # whatever an unknown file makes the reader stumble over is the file's fault
        told = " ".join(str(problem).split())
        if foreign := re.search(r"GLOBAL (\S+)", told):
            _refuse(
                path,
                "tensors and plain containers",
                f"a pickled {foreign[1]}, which is not loaded",
                "Save its `state_dict` alone.",
            )
        _refuse(path, "a checkpoint of torch.save", f"{type(problem).__name__}: {told[:120]}", "Download it again.")


def _check_archive(path: Path) -> None:
    """Refuse a zip file that unpacks to more than it is: torch.save stores, it never compresses."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.file_size > entry.compress_size]
            total = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError) as problem:
        _refuse(path, "a checkpoint of torch.save", f"a broken zip file: {problem}", "Download it again.")
    if packed:
        _refuse(
            path, "an archive of torch.save, which is not compressed", f"a compressed {packed[0]}", "Save it again."
        )
    if total > path.stat().st_size:
        _refuse(path, "an archive no larger than its file", f"{total} bytes in it", "Save it again.")


def _state_dict(content: Any, path: Path | str) -> dict[str, Tensor]:
    """The tensors by name, from a checkpoint or a bare state dict."""
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state:
        _refuse(path, "a `state_dict` of tensors", f"{type(state).__name__}" if state else "nothing")
    for name, weight in state.items():
        if not (isinstance(name, str) and isinstance(weight, Tensor)):
            _refuse(path, "a `state_dict` of tensors", f"{type(weight).__name__} under {name!r}")
    return state


def _by_layer(state: dict[str, Tensor], path: Path | str) -> dict[str, Tensor]:
    """Tensors under the released layers' names, without their prefixes; refuses leftovers."""
    found: dict[str, Tensor] = {}
    prefixes: dict[int, tuple[str, str]] = {}
    for key, weight in state.items():
        if re.search(r"(^|\.)conv\.lrn\d_s1\.", key):
            _refuse(
                path, "instance norm, which has no weights", f"{key}: the batch-norm variant", "It is not supported."
            )
        matched = [
            (part, name) for part, names in enumerate(_names()) for name in names if f".{key}".endswith(f".{name}")
        ]
        if not matched:
            _refuse(path, "only layers of the released network", f"{key} beside them")
        part, name = max(matched, key=lambda match: len(match[1]))  # the age encoder holds an fc6 of its own
        prefix = key[: len(key) - len(name)]
        earlier, seen = prefixes.setdefault(part, (prefix, key))
        if prefix != earlier or name in found:
            _refuse(path, "one network", f"{seen} and {key}")
        found[name] = weight
    return found


def _names() -> list[list[str]]:
    """Names of the tensors of each part."""
    return [
        [name for layer in part for name in ([layer] if layer == SINUSOIDS else [f"{layer}.weight", f"{layer}.bias"])]
        for part in PARTS
    ]


def _check_sinusoids(table: Tensor, path: Path | str) -> None:
    """Refuse another code of age than ours; the table itself is not taken over."""
    ours = sinusoids()
    if table.shape != ours.shape:
        _refuse(path, f"{SINUSOIDS} of {tuple(ours.shape)}", f"{tuple(table.shape)}")
    off = (_checked(SINUSOIDS, table, path) - ours).abs().max().item()
    # a half-precision table is as far off as half precision is
    if off > max(SINUSOIDS_TOLERANCE, torch.finfo(table.dtype).eps):
        _refuse(path, f"{SINUSOIDS} of sines and cosines of half years", f"values that are off by {off:.2g}")


def _checked(name: str, weight: Tensor, path: Path | str) -> Tensor:
    """A tensor as float32 of its own; refuses what is not finite numbers."""
    if not weight.is_floating_point() or weight.layout != torch.strided:
        _refuse(path, f"{name} in floating point", f"{weight.dtype}, {weight.layout}")
    weight = weight.detach().float().contiguous()
    if not weight.isfinite().all():
        _refuse(path, f"finite numbers in {name}", "NaN or infinity", "Take another epoch's checkpoint.")
    return weight


def _refuse(
    path: Path | str, expected: str, got: str, fix: str = "Only `wide` of the released code can be imported."
) -> None:
    raise BadInput(expected=expected, got=got, where=str(path), fix=fix)
