"""Where a model looks: saliency, aggregated over scans and for one example of each class, with what it says of regions and of itself.

A scan's map (`attribution.py`) tells what the evidence for AD over CN depends on. It is put back on the packed grid, which is the
template's whole study grid, divided by what the architecture answers to each voxel whatever it learnt (`reach.py`), smoothed by less than the network's stride, and divided
by the sum of its magnitudes, so that every scan counts alike. It is 0 outside the crop that the
network sees, and, with voxel standardisation, where voxels do not vary between the training scans.
An example shows the magnitude of one scan's map. An aggregate is the magnitude of the scans' mean map: what differs in sign from
scan to scan cancels, what the model looks for in all of them stays. `aggregate_random` is the same aggregate for fresh weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch import Tensor

from elr_mri.config import Explain
from elr_mri.errors import BadInput
from elr_mri.imaging.packed import Cache, by_channel
from elr_mri.learning import attended, sanity
from elr_mri.learning.attended import Parts
from elr_mri.learning.attribution import SHIFTS, Box, attributions, change, crop_box
from elr_mri.learning.checkpoint import Model, check_grid, load_model, read_facts
from elr_mri.learning.dataset import ScanSet, read_scan_set
from elr_mri.learning.reach import fresh, reach
from elr_mri.learning.recipe import device
from elr_mri.learning.slots import slot
from elr_mri.provenance import atomic, digest_file, record
from elr_mri.scans.cells import write_tsv
from elr_mri.scans.saliency import CASCADE, CHECKS, LOBES, MASSES, PERMUTED, RANDOM, SHARES, TRAINED
from elr_mri.scans.table import CLASSES
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["explain"]

TINY = np.finfo(np.float32).tiny
#: Scans that are mapped at a time have no more voxels of the packed grid together than this, and are no more than so many.
BATCH_VOXELS, BATCH_SCANS = 3_000_000, 8


def explain(
    model_dir: Path | str,
    cache_dir: Path | str,
    scans_path: Path | str,
    splits_path: Path | str,
    settings: Explain,
    *,
    output_dir: Path | str,
    regions_dir: Path | str | None = None,
    permuted_dir: Path | str | None = None,
) -> None:
    """Write maps, what they say of regions, and the checks of the maps.

    Writes `aggregate.nii.gz`, `aggregate_<class>.nii.gz`, `aggregate_random.nii.gz`, `example_<class>.nii.gz` (the scan that the model is
    surest of, see `_examples`) of the first method, those of every other in a folder of its name; `examples.tsv` (class, scan_id, p of the true
    class, right, row), `regions.tsv`, `shares.tsv`, `checks.tsv` and `cascade.tsv` (`scans/saliency.py`).

    Parameters
    ----------
    regions_dir : path
        The folder of `regions`; without it `regions.tsv` and `shares.tsv` are empty.
    permuted_dir : path
        A model of the same make that was trained on labels drawn at random.
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
        model = load_model(model_dir, device(on))
        parts = attended.read_parts(regions_dir, model, every.meta)
        starts = _starts(every, settings)
        box = crop_box(model, every.meta["shape"])
        models = {TRAINED: model, RANDOM: fresh(model, facts, facts["seed"] + 1)}
        even = reach(model, facts, every.meta["shape"], float(scans.ages_years.mean()))
        view = View(settings, parts, box, even.cpu().numpy(), starts)
        if permuted_dir is not None:
            models[PERMUTED] = load_model(permuted_dir, device(on))
        looked, singles, lines = {}, [], []
        for name, one in models.items():
            found = gather(one, scans, view, name)
            _count(found, name, scans, parts, singles, lines)
            looked[name] = found if name == TRAINED else found.together()
        _write_maps(looked, model, scans, view, output_dir, np.array(every.meta["affine"]))
        synthetic = bool((facts.get("trained_on") or {}).get("synthetic"))
        CHECKS.write(pd.DataFrame(_checks(looked, parts, settings, synthetic)), output_dir / "checks.tsv")
        looked.clear()  # before the next maps are held
        few = scans.at(np.unique(np.linspace(0, len(scans) - 1, min(settings.check_scans, len(scans))).astype(int)))
        steps = _cascade(model, models[RANDOM], few, view)
    CASCADE.write(steps, output_dir / "cascade.tsv")
    empty = pd.DataFrame(columns=[c.name for c in MASSES.columns])
    MASSES.write(pd.concat(singles, ignore_index=True) if singles else empty, output_dir / "regions.tsv")
    SHARES.write(pd.DataFrame(lines, columns=[c.name for c in SHARES.columns]), output_dir / "shares.tsv")
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


@dataclass(frozen=True)
class View:
    """How all models are looked at: by which methods, over which parts of the brain, in which box of the packed grid (the central crop), maps divided by which reach (X, Y, Z), paths from which scans."""

    settings: Explain
    parts: Parts
    box: Box
    reach: np.ndarray
    starts: Tensor | None

    def maps(
        self, model: Model, scans: ScanSet, places: np.ndarray
    ) -> tuple[dict[str, np.ndarray], Tensor | None, Tensor]:
        """Maps of some scans as counted and shown, by method, within the box; what those of `integrated` sum to and should (None without it); and logits."""
        volumes, ages = _batch(model, scans, places)
        raw, logits = attributions(model, volumes, ages, self.settings, starts=self.starts, seeds=places.tolist())
        sums = _sums(model, volumes, ages, raw["integrated"], self.starts) if "integrated" in raw else None
        maps = {}
        for method in list(raw):  # one at a time: each is as large as the scans
            maps[method] = normalised(self.shown(raw.pop(method).numpy()))
        return maps, sums, logits

    def shown(self, maps: np.ndarray) -> np.ndarray:
        """Maps (batch, n_channels, X, Y, Z) of the whole grid → (batch, n_channels, x, y, z) of the box: divided by the reach, smoothed with their signs, 0 where nothing reaches the network."""
        fine = self.settings.smooth_voxels
        maps = maps / self.reach
        maps = ndimage.gaussian_filter(maps, (0, 0, fine, fine, fine)) if fine else maps
        return maps[(..., *self.box)] * self.parts.reached

    def whole(self, values: np.ndarray) -> np.ndarray:
        """A map (x, y, z) of the box on the whole grid (X, Y, Z)."""
        grid = np.zeros(self.reach.shape, dtype=np.float32)
        grid[self.box] = values
        return grid


@dataclass(frozen=True)
class Looked:
    """What one model's maps came to, by method.

    sums : (n_groups, n_classes, n_channels, x, y, z) float32, normalised signed maps within the crop, summed by group of people and class
    masses : (n_scans, n_regions), each region's share of each scan's map
    missed : by what share integrated gradients missed the change of the evidence; None for other methods
    logits : (n_scans, n_classes) float32
    """

    sums: dict[str, np.ndarray]
    masses: dict[str, np.ndarray]
    missed: dict[str, float | None]
    logits: np.ndarray

    def together(self) -> Looked:
        """The same with all groups and classes summed: as many times smaller."""
        return replace(self, sums={method: sums.sum(axis=(0, 1), keepdims=True) for method, sums in self.sums.items()})


def gather(model: Model, scans: ScanSet, view: View, name: str = TRAINED) -> Looked:
    """Map every scan; only sums and shares are held."""
    methods, parts = view.settings.methods, view.parts
    groups, labels = attended.groups_of(attended.people(scans.table)), scans.labels.numpy()
    n_channels, *grid = by_channel(scans.volumes[0]).shape
    shape = (groups.max() + 1, len(CLASSES), n_channels, *parts.seen.shape)
    sums = {method: np.zeros(shape, dtype=np.float32) for method in methods}
    masses, told, logits = {method: [] for method in methods}, [], []
    batch_size = int(np.clip(BATCH_VOXELS // np.prod(grid), 1, BATCH_SCANS))
    for start in range(0, len(scans), batch_size):
        here = np.arange(start, min(start + batch_size, len(scans)))
        maps, one, scores = view.maps(model, scans, here)
        for method, found in maps.items():
            np.add.at(sums[method], (groups[here], labels[here]), found)
            if parts.regions:
                masses[method].append(parts.shares(parts.counted(found)))
        told.append(one)
        logits.append(scores.numpy())
        print(f"explain: {name}, {here[-1] + 1} of {len(scans)} scans", flush=True)
    found = {method: np.concatenate(masses[method]) for method in methods if parts.regions}
    lost = {method: sanity.missed(*torch.cat(told, dim=1)) if method == "integrated" else None for method in methods}
    return Looked(sums, found, lost, np.concatenate(logits))


def normalised(maps: np.ndarray) -> np.ndarray:
    """Maps (batch, n_channels, x, y, z) whose magnitudes each sum to 1; a map of zeros stays."""
    return maps / np.maximum(np.abs(maps).sum(axis=(1, 2, 3, 4), keepdims=True), TINY)


def magnitude(values: np.ndarray) -> np.ndarray:
    """A map (n_channels, x, y, z) without its signs, summed over the channels and to 1: (x, y, z)."""
    size = np.abs(values).sum(axis=0)
    return size / max(size.sum(), TINY)


def _starts(every: ScanSet, settings: Explain) -> Tensor | None:
    """Where paths begin: training scans of cognitively normal subjects, drawn by seed 0, (n, n_channels, X, Y, Z); None where no method asks."""
    if "integrated" not in settings.methods:
        return None
    train = every.of("train")
    normal = np.flatnonzero(train.labels.numpy() == 0)
    if not len(normal):
        raise BadInput(
            expected=f"training scans of class {CLASSES[0]}, where the paths of `integrated` begin",
            got="none",
            where="config, key explain.methods",
            fix="Leave out integrated.",
        )
    chosen = np.random.default_rng(0).permutation(normal)[: settings.baselines]
    return train.read(chosen)


def _sums(model: Model, volumes: Tensor, ages: Tensor, maps: Tensor, starts: Tensor) -> Tensor:
    """(2, batch): what the integrated gradients of some scans sum to, and the changes of the evidence, which they should."""
    boxes = [crop_box(model, volumes.shape[2:], shift) for shift in SHIFTS]
    asked = change(model, model.standardise(volumes), ages, boxes, model.standardise(starts.to(volumes.device)))
    return torch.stack([maps.flatten(1).sum(dim=1), asked.cpu()])


def _write_maps(
    looked: dict[str, Looked], model: Model, scans: ScanSet, view: View, output_dir: Path, affine: np.ndarray
) -> None:
    """The maps of every method and the table of examples; what an earlier run left there goes."""
    for stale in output_dir.rglob("*.nii.gz"):
        stale.unlink()
    examples = _examples(scans, looked[TRAINED].logits)
    shown = {line.diagnosis: view.maps(model, scans, np.array([line.place]))[0] for line in examples.itertuples()}
    for place, method in reversed(list(enumerate(view.settings.methods))):
        folder = output_dir / method if place else output_dir
        sums = looked[TRAINED].sums[method].sum(axis=0, dtype=np.float64)
        for label, name in enumerate(CLASSES):
            if (scans.labels == label).any():
                write_map(view.whole(magnitude(sums[label])), affine, folder / f"aggregate_{name}.nii.gz")
        for name in [name for name in looked if name != TRAINED]:
            total = looked[name].sums[method].sum(axis=(0, 1), dtype=np.float64)
            write_map(view.whole(magnitude(total)), affine, folder / f"aggregate_{name}.nii.gz")
        for name, maps in shown.items():
            write_map(view.whole(magnitude(maps[method][0])), affine, folder / f"example_{name}.nii.gz")
        write_map(view.whole(magnitude(sums.sum(axis=0))), affine, folder / "aggregate.nii.gz")
    with atomic(output_dir / "examples.tsv") as draft:
        write_tsv(examples.rename(columns={"diagnosis": "class"})[["class", "scan_id", "p", "right", "row"]], draft)


def _count(looked: Looked, name: str, scans: ScanSet, parts: Parts, singles: list, lines: list) -> None:
    """Add what one model's maps say of the regions: tables of `MASSES` and lines of `SHARES`; nothing without regions."""
    for method, masses in looked.masses.items():
        told = {"method": method, "model": name}
        singles.append(attended.single(masses, scans.table, parts, **told))
        lines += attended.rows(looked.sums[method], masses, scans.table, parts, **told)


def _cascade(model: Model, fresh_model: Model, few: ScanSet, view: View) -> pd.DataFrame:
    """Lines of `CASCADE`: some scans' aggregate while layers are randomised from the top, like the trained model's or not."""
    columns, settings = [c.name for c in CASCADE.columns], view.settings
    if not settings.check_scans:
        return pd.DataFrame(columns=columns)
    whole = _totals(gather(model, few, view, "for the cascade"))
    lines = [(method, 0, "none", 1.0) for method in settings.methods]
    for step, (layer, changed) in enumerate(sanity.cascade(model, fresh_model), start=1):
        found = _totals(gather(changed, few, view, f"fresh down to {layer}"))
        for method in settings.methods:
            lines.append((method, step, layer, sanity.rank_correlation(whole[method], found[method], view.parts)))
    return pd.DataFrame(lines, columns=columns)


def _totals(looked: Looked) -> dict[str, np.ndarray]:
    """The signed mean map by method, (n_channels, x, y, z), but for a factor."""
    return {method: sums.sum(axis=(0, 1)) for method, sums in looked.sums.items()}


def _checks(looked: dict[str, Looked], parts: Parts, settings: Explain, synthetic: bool) -> list[dict[str, Any]]:
    """Lines of `CHECKS` for every method."""
    lines = []
    for method in settings.methods:
        own = looked[TRAINED].sums[method]
        total = {name: one.sums[method].sum(axis=(0, 1)) for name, one in looked.items()}
        like = {name: sanity.rank_correlation(total[TRAINED], other, parts) for name, other in total.items()}
        ratio = {name: _lobes(one.sums[method], parts) for name, one in looked.items()}
        found = [
            sanity.judged(sanity.FRESH, like[RANDOM], "at most", sanity.LIKE),
            sanity.judged(sanity.LABELS, like.get(PERMUTED), "at most", sanity.LIKE),
            sanity.judged(sanity.HALVES, sanity.halves(own.sum(axis=1), parts), "at least", sanity.LIKE),
            sanity.judged(sanity.PREFERENCE, ratio[RANDOM], "at most", sanity.NO_PREFERENCE),
        ]
        if synthetic:
            found.append(sanity.judged(sanity.CONCENTRATION, ratio[TRAINED], "at least", sanity.PLANTED))
        if method == "integrated":
            missed = looked[TRAINED].missed[method]
            found.append(sanity.judged(sanity.COMPLETE, missed, "at most", sanity.INCOMPLETE))
        lines += [{"method": method, **line} for line in found]
    return lines


def _lobes(sums: np.ndarray, parts: Parts) -> float | None:
    """The medial temporal regions' ratio in the mean map; None where they are not known."""
    if LOBES not in parts.regions:
        return None
    place = list(parts.regions).index(LOBES)
    share = parts.shares(parts.counted(sums.sum(axis=(0, 1), dtype=np.float64)))[place]
    return float(share / parts.volumes[place])


def _batch(model: Model, scans: ScanSet, places: np.ndarray) -> tuple[Tensor, Tensor]:
    """Volumes and ages of some scans, on the model's device."""
    on = next(model.parameters()).device
    return scans.read(places).to(on), scans.ages_years[places].to(on)


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
