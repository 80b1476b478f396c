"""Where a model looks: gradient saliency, aggregated over scans and for one example of each class.

A scan's map is the gradient of its evidence for AD over CN, ∂(z_AD − z_CN)/∂x, at the standardised central crop
(Simonyan, Vedaldi, Zisserman 2014), put back on the packed grid and divided by the sum of its magnitudes, so that every
scan counts alike. With voxel standardisation x is in training standard deviations, and voxels that cannot reach the
network are 0. An example shows the magnitude of one scan's map. An aggregate is the magnitude of the scans' mean map: what
differs in sign from scan to scan cancels, what the model looks for in all of them stays. `aggregate_random` is the same
aggregate for fresh weights: what the architecture alone would show (Adebayo et al., NeurIPS 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from elr_mri.config import Explain
from elr_mri.errors import BadInput
from elr_mri.imaging.packed import Cache, by_channel
from elr_mri.learning.checkpoint import Model, check_grid, empty_model, load_model, read_facts
from elr_mri.learning.dataset import ScanSet, read_scan_set
from elr_mri.learning.recipe import device
from elr_mri.learning.slots import slot
from elr_mri.learning.views import centred
from elr_mri.provenance import atomic, digest_file, record
from elr_mri.scans.cells import write_tsv
from elr_mri.scans.table import CLASSES
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["explain"]

#: Offsets of the crops over which the gradient is averaged, voxels; the first is the evaluation's.
SHIFTS = ((0, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1))


def explain(
    model_dir: Path | str,
    cache_dir: Path | str,
    scans_path: Path | str,
    splits_path: Path | str,
    settings: Explain,
    *,
    output_dir: Path | str,
) -> None:
    """Write the aggregated maps, overall, per class and of random weights, and an example of each class.

    Writes `aggregate.nii.gz`, `aggregate_<class>.nii.gz`, `aggregate_random.nii.gz`, `example_<class>.nii.gz` (the
    scan that the model is surest of, see `_examples`) and `examples.tsv` (class, scan_id, p of the true class, right, row).
    """
    facts = read_facts(model_dir)
    every = read_scan_set(cache_dir, scans_path, splits_path)
    check_grid(facts, every.meta, str(cache_dir))
    scans = every.of(settings.split)
    if not len(scans):
        raise BadInput(
            expected=f"{settings.split} scans", got="none", where="splits.tsv", fix="Choose another explain.split."
        )
    output_dir = Path(output_dir)
    with slot(settings.device) as on:
        _write_maps(load_model(model_dir, device(on)), facts, scans, output_dir, np.array(every.meta["affine"]))
    inputs = {
        "model": digest_file(Path(model_dir) / "model.safetensors"),
        "cache": Cache.read(cache_dir).digest(),
    }
    record(
        output_dir / "aggregate.nii.gz",
        step="explain",
        version=VERSION,
        inputs=inputs,
        settings=settings,
        n_scans=len(scans),
    )


def _write_maps(model: Model, facts: dict, scans: ScanSet, output_dir: Path, affine: np.ndarray) -> None:
    """The maps and the table of examples; what an earlier run left there goes."""
    for stale in output_dir.glob("*.nii.gz"):
        stale.unlink()
    sums, logits = summed_maps(model, scans)
    for label, name in enumerate(CLASSES):
        if (scans.labels == label).any():
            write_map(magnitude(sums[label]), affine, output_dir / f"aggregate_{name}.nii.gz")
    random, _ = summed_maps(_fresh(model, facts), scans)
    write_map(magnitude(random.sum(axis=0)), affine, output_dir / "aggregate_random.nii.gz")
    examples = _examples(scans, logits)
    for line in examples.itertuples():
        own, _ = saliency(model, *_batch(model, scans, np.array([line.place])))
        write_map(magnitude(own[0].numpy()), affine, output_dir / f"example_{line.diagnosis}.nii.gz")
    with atomic(output_dir / "examples.tsv") as draft:
        write_tsv(examples.rename(columns={"diagnosis": "class"})[["class", "scan_id", "p", "right", "row"]], draft)
    write_map(magnitude(sums.sum(axis=0)), affine, output_dir / "aggregate.nii.gz")


def summed_maps(model: Model, scans: ScanSet, *, batch_size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Signed maps summed over the scans of each class; only the sums are held.

    Returns
    -------
    sums : (n_classes, n_channels, X, Y, Z) float64, packed grid; the magnitudes of every scan's map sum to 1
    logits : (n_scans, n_classes) float32
    """
    sums, logits = np.zeros((len(CLASSES), *by_channel(scans.volumes[0]).shape)), []
    for start in range(0, len(scans), batch_size):
        here = np.arange(start, min(start + batch_size, len(scans)))
        maps, told = saliency(model, *_batch(model, scans, here))
        np.add.at(sums, scans.labels[here].numpy(), maps.numpy())
        logits.append(told.numpy())
        print(f"explain: {here[-1] + 1} of {len(scans)} scans", flush=True)
    return sums, np.concatenate(logits)


def magnitude(values: np.ndarray) -> np.ndarray:
    """A map (n_channels, X, Y, Z) without its signs, summed over the channels and to 1: (X, Y, Z)."""
    size = np.abs(values).sum(axis=0)
    return size / max(size.sum(), np.finfo(np.float32).tiny)


def _batch(model: Model, scans: ScanSet, places: np.ndarray) -> tuple[Tensor, Tensor]:
    """Volumes and ages of some scans, on the model's device."""
    on = next(model.parameters()).device
    return scans.read(places).to(on), scans.ages_years[places].to(on)


def saliency(
    model: Model,
    volumes: Tensor,
    ages_years: Tensor | None,
    *,
    shifts: Sequence[tuple[int, int, int]] = SHIFTS,
) -> tuple[Tensor, Tensor]:
    """Gradient of the evidence for AD over CN, z_AD − z_CN, by the standardised values of every channel.

    The gradient is the mean over crops at some `shifts` in voxels: strides and dilations imprint a grid on that of one crop.

    Parameters
    ----------
    volumes : (batch, n_channels, X, Y, Z) packed values
    ages_years : (batch,) float or None

    Returns
    -------
    maps : (batch, n_channels, X, Y, Z) float32, signed, zero outside the crop, the magnitudes of each summing to 1
    logits : (batch, n_classes) float32
    """
    maps, logits = torch.zeros(volumes.shape, device=volumes.device), []
    standardised = model.standardise(volumes)
    centre = torch.tensor(centred(volumes.shape[2:], model.crop).offset)
    room = torch.tensor(volumes.shape[2:]) - model.crop
    for shift in torch.tensor(shifts):
        box = tuple(slice(start, start + model.crop) for start in torch.minimum(centre + shift, room).tolist())
        crops = standardised[(..., *box)].clone().requires_grad_()
        logits.append(model.network(crops, ages_years))
        evidence = (logits[-1][:, -1] - logits[-1][:, 0]).sum()
        maps[(..., *box)] += torch.autograd.grad(evidence, crops)[0]
    if (informative := model.standardise.informative()) is not None:
        maps *= informative
    maps = maps / maps.abs().sum(dim=(1, 2, 3, 4), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return maps.cpu(), logits[0].detach().cpu()


def _fresh(model: Model, facts: dict) -> Model:
    """The same preprocessing with a freshly drawn network."""
    torch.manual_seed(facts["seed"] + 1)
    fresh = empty_model(facts).eval().to(next(model.parameters()).device)
    fresh.standardise.load_state_dict(model.standardise.state_dict())
    return fresh


def _examples(scans: ScanSet, logits: np.ndarray) -> pd.DataFrame:
    """For each class the scan that the model is surest of, a correctly classified one (`right`) where there is one."""
    probabilities = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    table = scans.table.assign(
        place=np.arange(len(scans)),
        p=probabilities[np.arange(len(scans)), scans.labels.numpy()],
        right=probabilities.argmax(axis=1) == scans.labels.numpy(),
    )
    table = table.sort_values(["label", "right", "p"], ascending=[True, False, False])
    return table.groupby("diagnosis", sort=False).head(1)[["place", "diagnosis", "scan_id", "p", "right", "row"]]


def write_map(values: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write a map (X, Y, Z), RAS+, atomically as float32 NIfTI in template space."""
    image = nib.Nifti1Image(values.astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    with atomic(path) as draft:
        nib.save(image, draft)
