"""What a trained model says: of every packed scan, or of one volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from elr_mri.config import Predict
from elr_mri.errors import BadInput
from elr_mri.imaging.packed import Cache, by_channel, row_shape
from elr_mri.learning.checkpoint import Model, check_grid, load_model, read_facts
from elr_mri.learning.dataset import ScanSet, read_scan_set
from elr_mri.learning.recipe import device
from elr_mri.learning.slots import slot
from elr_mri.provenance import digest_file, record
from elr_mri.scans.predictions import PREDICTIONS, ensembles, prediction_table
from elr_mri.scans.table import CLASSES
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["predict"]


def predict(
    model_dirs: Sequence[Path | str],
    cache_dir: Path | str,
    scans_path: Path | str,
    splits_path: Path | str,
    settings: Predict,
    *,
    output: Path | str,
) -> None:
    """Write the prediction table of one model for every packed scan, in float32; of several seeds of a model, that of their ensemble."""
    scans = read_scan_set(cache_dir, scans_path, splits_path)
    with slot(settings.device) as on:
        tables = [_table(folder, scans, settings, device(on), where=str(cache_dir)) for folder in model_dirs]
    together = pd.concat(tables, ignore_index=True)
    if len(tables) > 1:
        _check_seeds(together, model_dirs)
        together = ensembles(together)
    PREDICTIONS.write(together, output)
    inputs = {f"model {n}": digest_file(Path(folder) / "model.safetensors") for n, folder in enumerate(model_dirs)}
    inputs |= {
        "cache": Cache.read(cache_dir).digest(),
        "scans": digest_file(scans_path),
        "splits": digest_file(splits_path),
    }
    record(output, step="predict", version=VERSION, inputs=inputs, settings=settings)


def _table(folder: Path | str, scans: ScanSet, settings: Predict, on: torch.device, *, where: str) -> pd.DataFrame:
    """The prediction table of the model in a folder."""
    facts = read_facts(folder)
    check_grid(facts, scans.meta, where)
    model, shifts = load_model(folder, on), crop_shifts(settings.crops, settings.reach)
    logits = scan_logits(model, scans, batch_size=settings.batch_size, shifts=shifts)
    return prediction_table(scans.table, logits.numpy(), model=facts["slug"], seed=facts["seed"], raw=True)


def _check_seeds(predictions: pd.DataFrame, model_dirs: Sequence[Path | str]) -> None:
    """Refuse an ensemble of different models, or of one seed twice."""
    members = predictions[["model", "seed"]].drop_duplicates()
    if members["model"].nunique() > 1 or len(members) < len(model_dirs):
        raise BadInput(
            expected="folders of one model trained with different seeds",
            got=", ".join(f"{m.model} seed {m.seed}" for m in members.itertuples()),
            where=", ".join(map(str, model_dirs)),
            fix="Predict other models one by one.",
        )


def crop_shifts(n: int, reach: int) -> list[tuple[int, int, int]]:
    """Where the crops of a prediction lie off the centre, in voxels: the centre, then the corners, edges and faces of a cube."""
    cube = sorted(product((-1, 0, 1), repeat=3), key=lambda at: (any(at), -sum(map(abs, at)), at))
    return [tuple(reach * step for step in at) for at in cube[:n]]


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
def scan_logits(
    model: Model,
    scans: ScanSet,
    *,
    batch_size: int,
    dtype: torch.dtype = torch.float32,
    shifts: Sequence[tuple[int, int, int]] = ((0, 0, 0),),
) -> Tensor:
    """(n_scans, n_classes) float32 logits of the central crops, or their mean over crops at some `shifts`, on the CPU."""
    model.eval()
    if not len(scans):
        return torch.empty(0, len(CLASSES))
    on = next(model.parameters()).device
    parts = []
    for places in np.array_split(np.arange(len(scans)), max(1, math.ceil(len(scans) / batch_size))):
        with torch.autocast(on.type, dtype, enabled=dtype != torch.float32):
            volumes, ages = scans.read(places).to(on), scans.ages_years[places].to(on)
            logits = [model(volumes, ages, shift).float() for shift in shifts]
        parts.append((sum(logits) / len(logits)).cpu())
    return torch.cat(parts)
