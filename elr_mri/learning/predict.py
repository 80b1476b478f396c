"""What a trained model says: of every packed scan, or of one volume."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from elr_mri.config import Predict
from elr_mri.errors import BadInput
from elr_mri.imaging.packed import Cache, by_channel, row_shape
from elr_mri.learning.checkpoint import Model, check_grid, load_model, read_facts
from elr_mri.learning.dataset import ScanSet, read_scan_set
from elr_mri.learning.recipe import device
from elr_mri.provenance import digest_file, record
from elr_mri.scans.predictions import PREDICTIONS, prediction_table
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["predict"]


def predict(
    model_dir: Path | str,
    cache_dir: Path | str,
    scans_path: Path | str,
    splits_path: Path | str,
    settings: Predict,
    *,
    output: Path | str,
) -> None:
    """Write the prediction table of one model for every packed scan, from its central crop in float32."""
    facts = read_facts(model_dir)
    scans = read_scan_set(cache_dir, scans_path, splits_path)
    check_grid(facts, scans.meta, str(cache_dir))
    logits = scan_logits(load_model(model_dir, device(settings.device)), scans, batch_size=settings.batch_size)
    PREDICTIONS.write(prediction_table(scans.table, logits.numpy(), model=facts["slug"], seed=facts["seed"]), output)
    inputs = {
        "model": digest_file(Path(model_dir) / "model.safetensors"),
        "cache": Cache.read(cache_dir).digest(),
        "scans": digest_file(scans_path),
        "splits": digest_file(splits_path),
    }
    record(output, step="predict", version=VERSION, inputs=inputs, settings=settings)


def predict_volume(model_dir: Path | str, volume: np.ndarray, age_years: float | None = None) -> np.ndarray:
    """Class probabilities of one packed volume.

    Parameters
    ----------
    volume : (X, Y, Z) or (n_channels, X, Y, Z), RAS+, packed values on the model's grid
    age_years : float or None
        None leaves age out.

    Returns
    -------
    (3,) float: CN, MCI, AD
    """
    preprocessing = read_facts(model_dir)["preprocessing"]
    shape = row_shape(preprocessing["shape"], preprocessing["channels"])
    if volume.shape != shape:
        raise BadInput(
            expected=f"a volume of {shape} voxels, the model's grid",
            got=f"{volume.shape}",
            where=str(model_dir),
            fix="Register and pack the scan with the model's settings.",
        )
    ages = None if age_years is None else torch.tensor([age_years], dtype=torch.float32)
    with torch.inference_mode():
        logits = load_model(model_dir)(torch.from_numpy(np.ascontiguousarray(by_channel(volume)))[None], ages)
    return torch.softmax(logits.double(), dim=1)[0].numpy()


@torch.inference_mode()
def scan_logits(model: Model, scans: ScanSet, *, batch_size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n_scans, n_classes) float32 logits of the central crops, on the CPU."""
    model.eval()
    on = next(model.parameters()).device
    parts = []
    for places in np.array_split(np.arange(len(scans)), max(1, math.ceil(len(scans) / batch_size))):
        with torch.autocast(on.type, dtype, enabled=dtype != torch.float32):
            logits = model(scans.read(places).to(on), scans.ages_years[places].to(on))
        parts.append(logits.float().cpu())
    return torch.cat(parts)
