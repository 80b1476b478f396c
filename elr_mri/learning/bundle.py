"""A model as a MONAI bundle: a folder that `monai.bundle` runs without this package.

configs/metadata.json    what goes in and comes out, after MONAI's schema of 2024-07-25
configs/inference.json   from registered scans (NIfTI) to predictions.json
models/model.ts          TorchScript: preprocessing of packed values, network, softmax
docs/README.md           the model card and how to run
LICENSE
"""

from __future__ import annotations

import json
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from elr_mri import __version__
from elr_mri.imaging.packed import MAPPINGS, RANGES
from elr_mri.learning.card import card

SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"

MIT = """MIT License

Copyright (c) 2026 The elr_mri developers

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def write_bundle(plain: nn.Module, examples: tuple[Tensor, Tensor], facts: dict[str, Any], folder: Path) -> None:
    """Write the bundle of an `export.Exported` model with the facts of its model folder."""
    texts = {
        "configs/metadata.json": json.dumps(metadata_of(facts), indent=2) + "\n",
        "configs/inference.json": json.dumps(inference_of(facts), indent=2) + "\n",
        "docs/README.md": card(facts) + how_to_run(facts),
        "LICENSE": f"{facts['licence']}\n\nCode:\n\n{MIT}",
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    (folder / "models").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing tells that sizes become constants; they are: the model's grid
        traced = torch.jit.trace(plain, examples, check_trace=False)
        torch.jit.save(traced, folder / "models" / "model.ts")


@torch.inference_mode()
def run_bundle(folder: Path, examples: tuple[Tensor, Tensor]) -> list[np.ndarray]:
    """Outputs of the bundle's network by its own configuration, on the CPU."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    parser.update({"bundle_root": str(folder), "device": "$torch.device('cpu')"})
    network, inferer = (parser.get_parsed_content(name) for name in ("network_def", "inferer"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [part.numpy() for part in inferer(examples[0], network, examples[1])]


def inference_of(facts: dict[str, Any]) -> dict[str, Any]:
    """`configs/inference.json`: which scans, how they become packed values, and where their predictions go."""
    preprocessing = facts["preprocessing"]
    channels = preprocessing["channels"]
    transforms = [
        {"_target_": "LoadImaged", "keys": channels},
        {"_target_": "EnsureChannelFirstd", "keys": channels},
        {"_target_": "Orientationd", "keys": channels, "axcodes": "RAS"},
        *(
            {"_target_": "Lambdad", "keys": channel, "func": _packing(channel, preprocessing["dtype"])}
            for channel in channels
            if "dtype" in preprocessing
        ),
        {"_target_": "ConcatItemsd", "keys": channels, "name": "volumes"},
    ]
    paths = "**{name: str(Path(@dataset_dir) / scan[name]) for name in @channels}"
    return {
        "imports": ["$import json", "$import torch", "$from pathlib import Path"],
        "bundle_root": ".",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "dataset_dir": ".",
        "scans": "$str(Path(@dataset_dir) / 'scans.json')",
        "output": "$str(Path(@dataset_dir) / 'predictions.json')",
        "classes": facts["classes"],
        "channels": channels,
        "shape": [1, len(channels), *preprocessing["shape"]],
        "network_def": "$torch.jit.load(str(Path(@bundle_root) / 'models' / 'model.ts'), map_location=@device).eval()",
        "listed": "$json.loads(Path(@scans).read_text(encoding='utf-8'))",
        "preprocessing": {"_target_": "Compose", "transforms": transforms},
        "dataset": {
            "_target_": "Dataset",
            "data": f"$[{{**scan, {paths}}} for scan in @listed]",
            "transform": "@preprocessing",
        },
        "inferer": {"_target_": "SimpleInferer"},
        "ages": "$[float('nan') if scan.get('age_years') is None else float(scan['age_years']) for scan in @listed]",
        "outputs": "$[@inferer(item['volumes'].as_tensor().float().reshape(@shape).to(@device), @network_def, "
        "torch.tensor([age], device=@device)) for item, age in zip(@dataset, @ages)]",
        "predictions": "$[{**scan, 'logits': logits[0].tolist(), 'probabilities': dict(zip(@classes, p[0].tolist()))}"
        " for scan, (logits, p) in zip(@listed, @outputs)]",
        "run": ["$Path(@output).write_text(json.dumps(@predictions, indent=1) + '\\n', encoding='utf-8')"],
    }


def _packing(channel: str, dtype: str) -> str:
    """The expression that stores a channel's values as the cache does."""
    low, high = RANGES[channel]
    told = MAPPINGS[channel][dtype]
    scaled = f"torch.clamp(x, {low!r}, {high!r}) * {told['scale']!r} + {told['zero']!r}"
    return f"$lambda x: torch.round({scaled})" if dtype == "uint8" else f"$lambda x: ({scaled}).half().float()"


def metadata_of(facts: dict[str, Any]) -> dict[str, Any]:
    """`configs/metadata.json`, after MONAI's schema."""
    preprocessing, classes = facts["preprocessing"], facts["classes"]
    volumes = _tensor("image", "magnitude", preprocessing["shape"], len(preprocessing["channels"]))
    volumes["channel_def"] = dict(enumerate(preprocessing["channels"]))
    ages = _tensor("array", "age in years, NaN where unknown", [], 1)
    scores = {"channel_def": dict(enumerate(classes)), "is_patch_data": False}
    logits = _tensor("array", "logits", [], len(classes)) | scores
    probabilities = _tensor("probabilities", "classes", [], len(classes)) | scores | {"value_range": [0, 1]}
    return {
        "schema": SCHEMA,
        "version": __version__,
        "changelog": {__version__: "exported"},
        "monai_version": metadata.version("monai"),
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"nibabel": metadata.version("nibabel")},
        "name": facts["slug"],
        "task": f"Classification of T1-weighted brain MRI as {', '.join(classes)}",
        "description": "A 3-D convolutional network; see docs/README.md",
        "authors": "The elr_mri developers",
        "copyright": facts["licence"],
        "intended_use": "Research only. Not a medical device; not for diagnosis or treatment.",
        "data_type": "nibabel",
        "image_classes": f"T1-weighted brain on the grid {preprocessing['shape']}, packed values",
        "pred_classes": ", ".join(classes),
        "eval_metrics": {k: v for k, v in facts.get("selected", {}).items() if k.startswith("val_")},
        "references": [
            "Liu, Yadav, Fernandez-Granda, Razavian. On the design of convolutional neural networks for automatic"
            " detection of Alzheimer's disease. ML4H 2019, PMLR 116:184-201",
            "Liu, Niles-Weed, Razavian, Fernandez-Granda. Early-learning regularization prevents memorization of noisy"
            " labels. NeurIPS 2020",
        ],
        "network_data_format": {
            "inputs": {"volumes": volumes, "ages_years": ages},
            "outputs": {"logits": logits, "probabilities": probabilities},
        },
    }


def _tensor(kind: str, form: str, shape: list[int], channels: int) -> dict[str, Any]:
    """A tensor as the schema tells it."""
    return {
        "type": kind,
        "format": form,
        "num_channels": channels,
        "spatial_shape": shape,
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
    }


def how_to_run(facts: dict[str, Any]) -> str:
    """The last section of the bundle's README."""
    files = ", ".join(f'"{channel}": "scan_{channel}.nii.gz"' for channel in facts["preprocessing"]["channels"])
    return f"""
## Running this bundle

It needs MONAI and nibabel, not the package that it was exported from. In DATA, list registered scans (NIfTI on the grid above) in
`scans.json`, with paths from DATA; an age may be left out:

    [{{{files}, "age_years": 72}}]

In this folder, either of

    python -m monai.bundle run --config_file configs/inference.json --dataset_dir DATA        # needs the package fire
    python -c "from monai.bundle import run; run(config_file='configs/inference.json', dataset_dir='DATA')"

writes `DATA/predictions.json`: the same list with logits and probabilities.
"""
