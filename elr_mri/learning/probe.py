"""What torch sees on this machine, and how large a study's networks are, as JSON on standard output.

`doctor` runs this in a process of its own (`python -m elr_mri.learning.probe '<train section>' '<train section with the ablations as its models>'`), because nothing
outside this zone loads torch. The networks are built without memory for their weights (torch's `meta` device).
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

from elr_mri.config import Train, parse
from elr_mri.errors import BadInput
from elr_mri.learning import networks, recipe
from elr_mri.scans.table import CLASSES


def probe(settings: Train, ablations: Train) -> dict[str, Any]:
    """Version, device and precision that `train` would take, the GPUs with their memory in bytes, parameters by model, and
    why an ablation cannot be built, where one cannot."""
    on = recipe.named_device(settings.device)
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "torch": torch.__version__,
        "device": str(on),
        "usable": on.type != "cuda" or (torch.cuda.is_available() and (on.index or 0) < len(gpus)),
        "precision": str(recipe.precision(settings.precision, on)).removeprefix("torch."),
        "gpus": [{"name": gpu.name, "memory": gpu.total_memory} for gpu in gpus],
        "parameters": {slug: _parameters(slug, settings) for slug in settings.models},
        "faults": {slug: fault for slug in ablations.models if (fault := _fault(slug, ablations))},
    }


def _parameters(slug: str, settings: Train) -> int:
    """Number of parameters of a model of the study."""
    network = networks.arguments(settings.models[slug], crop=settings.crop, n_classes=len(CLASSES), channels=1)
    with torch.device("meta"):
        return networks.n_parameters(networks.build(**network))


def _fault(slug: str, settings: Train) -> str | None:
    """Why a network cannot be built, or None."""
    try:
        _parameters(slug, settings)
    except BadInput as problem:
        return str(problem)
    return None


if __name__ == "__main__":
    print(json.dumps(probe(*(parse(Train, json.loads(told), where="train") for told in sys.argv[1:3]))))
