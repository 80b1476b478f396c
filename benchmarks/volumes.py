"""How right the hippocampal and entorhinal volumes are, against manual labels of real brains.

    python benchmarks/volumes.py leave-one-out LABELLED --work WORK
    python benchmarks/volumes.py atrophy LABELLED --work WORK
    python benchmarks/volumes.py repeat LABELLED --work WORK

LABELLED holds pairs of NAME_T1.nii.gz and NAME_labels.nii.gz; their numbers are given by --numbers. Every brain is
registered by a recipe of the package and measured in both ways: one propagated atlas (the shipped labels) and multi-atlas
fusion, in which neither the brain itself nor another scan of the same person votes. Scans of one person are found
by their correlation on the template, above `SAME_PERSON`.

* leave-one-out: Dice overlap and volume against the manual label; table and Bland-Altman picture.
* atrophy: the hippocampi are shrunk by a known smooth warp (2 to 20 %); slope of the measured on the true change.
* repeat: the same brain turned by 5 degrees, resampled and with noise added; change of the measured volume.

Results go to WORK as TSV and PNG; what is there already is not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial.transform import Rotation

from elr_mri.config import Atlases, Register
from elr_mri.imaging.atlases import atlases as prepare_atlases
from elr_mri.imaging.atlases import find, read_atlases, renumber
from elr_mri.imaging.fusion import fuse, label_map
from elr_mri.imaging.grids import Grid, at, pull
from elr_mri.imaging.labels import REGIONS, read_labels
from elr_mri.imaging.measure import native_labels, region_volumes
from elr_mri.imaging.qc import dice
from elr_mri.imaging.register import align
from elr_mri.imaging.template import brain_template
from elr_mri.imaging.transforms import to_native
from elr_mri.imaging.warp import inverse
from elr_mri.phantom import warps

MALF = '{"hippocampus_left": 48, "hippocampus_right": 47, "entorhinal_left": 117, "entorhinal_right": 116}'
SAME_PERSON = 0.97
SHRINKAGES = (0.0, 0.02, 0.05, 0.10, 0.15, 0.20)
#: Millimetres: spacing of the grid of planted warps, and how softly a planted region ends.
PLANT_SPACING_MM, PLANT_SOFT_MM = 2.0, 3.0
REPEATS = ("turned 5°", "resampled 1.2 mm", "noise")


def main() -> None:
    """Run one of the three comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("leave-one-out", "atrophy", "repeat"))
    parser.add_argument("labelled", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--numbers", default=MALF, help="region to number, as JSON")
    parser.add_argument("--recipe", default="standard")
    parser.add_argument("--brains", default="", help="names, by comma; all by default")
    parser.add_argument("--n-atlases", type=int, default=0, help="at most so many atlases vote; 0 is all")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1")  # of the workers
    settings = Atlases(path=str(chosen.labelled), numbers=json.loads(chosen.numbers))
    register = Register(recipe=chosen.recipe)
    prepare_atlases(settings, register, chosen.work / "atlases")
    same = _same_person(chosen.work, sorted(find(settings)), register)
    names = chosen.brains.split(",") if chosen.brains else sorted(find(settings))
    one = {"leave-one-out": _leave_one_out, "atrophy": _atrophy, "repeat": _repeat}[chosen.what]
    jobs = [(one, name, settings, register, chosen.work, same[name], chosen.n_atlases) for name in names]
    began, rows = time.perf_counter(), []
    with get_context("spawn").Pool(chosen.processes) as pool:
        for k, found in enumerate(pool.imap(_run, jobs), start=1):
            rows += found
            print(f"{chosen.what} {k}/{len(jobs)} {found[0]['brain']}, {time.perf_counter() - began:.0f} s", flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(chosen.work / f"{chosen.what}.tsv", sep="\t", index=False)
    {"leave-one-out": _tell_accuracy, "atrophy": _tell_atrophy, "repeat": _tell_repeat}[chosen.what](table, chosen.work)


def _run(job: tuple) -> list[dict]:
    one, name, settings, register, work, same, n_atlases = job
    voters = [atlas for atlas in _all_atlases(work) if atlas.name not in same]
    image, labels = find(settings)[name]
    scan, manual = (nib.as_closest_canonical(nib.load(path)) for path in (image, labels))
    regions = renumber(np.asarray(manual.dataobj), settings.numbers, where=str(labels))
    voters = voters[:n_atlases] if n_atlases else voters
    return one(name, np.asarray(scan.dataobj, dtype=np.float32), np.asarray(scan.affine), regions, voters, register)


@lru_cache(maxsize=1)
def _all_atlases(work: Path) -> tuple:
    return read_atlases(work / "atlases")


def _same_person(work: Path, names: list[str], register: Register) -> dict[str, set[str]]:
    """For each brain the atlases that show the same person, itself included."""
    grid = Grid((30, 30, 25), np.array([[3.0, 0, 0, -44], [0, 3, 0, -60], [0, 0, 3, -48], [0, 0, 0, 1]]))
    views = [
        at(a.brain, a.affine, to_native(grid.points(), a.matrix, None)).ravel() for a in read_atlases(work / "atlases")
    ]
    likeness = np.corrcoef(views)
    return {name: {names[j] for j in np.flatnonzero(likeness[k] > SAME_PERSON)} for k, name in enumerate(names)}


def _measure(volume, affine, voters, register) -> tuple[dict, np.ndarray, dict, np.ndarray, dict]:
    """Volumes by one atlas and by fusion, both label maps, and the seconds they took."""
    template, labels = brain_template(register.template), read_labels()
    began = time.perf_counter()
    found = align(volume, affine, template, register)
    native = Grid(volume.shape, affine)
    single = region_volumes(labels, found.matrix, found.warp)
    single_map = native_labels(labels, native, found.matrix, inverse(found.warp))
    seconds = {"one_atlas": time.perf_counter() - began}
    began = time.perf_counter()
    fused = fuse(np.where(found.mask, volume, 0), affine, found.matrix, found.warp, voters)
    fused_map = label_map(fused, native)
    seconds["fusion"] = time.perf_counter() - began
    return single, single_map, {region: one.volume_mm3 for region, one in fused.items()}, fused_map, seconds


def _leave_one_out(name, volume, affine, regions, voters, register) -> list[dict]:
    single, single_map, fused, fused_map, seconds = _measure(volume, affine, voters, register)
    voxel = abs(np.linalg.det(affine[:3, :3]))
    rows = []
    for region, number in REGIONS.items():
        manual = regions == number
        for method, volumes, segmented in (("one_atlas", single, single_map), ("fusion", fused, fused_map)):
            rows.append(
                {
                    "brain": name,
                    "region": region,
                    "method": method,
                    "n_atlases": len(voters) if method == "fusion" else 1,
                    "dice": dice(segmented == number, manual),
                    "volume_mm3": volumes[region],
                    "manual_mm3": manual.sum() * voxel,
                    "seconds": seconds[method],
                }
            )
    return rows


def shrink(volume: np.ndarray, affine: np.ndarray, regions: np.ndarray, share: float) -> tuple[np.ndarray, dict]:
    """A brain whose hippocampi are smaller by about `share`, and the true volume of each, mm³."""
    spacing = Grid(volume.shape, affine).spacing_mm
    inside = np.isin(regions, [REGIONS["hippocampus_left"], REGIONS["hippocampus_right"]])
    field = warps.Grid.over(np.diag([*spacing, 1.0]), volume.shape, PLANT_SPACING_MM)
    source = ndimage.gaussian_filter(inside.astype(np.float32), PLANT_SOFT_MM / spacing)
    source = source / source[inside].mean()
    points = field.points()
    dense = at(source.astype(np.float32), np.diag([*spacing, 1.0]), points, mode="constant")
    # Pulled images move against the flow: where the pulled label shall shrink the map must expand.
    velocity = warps.velocity_of_divergence(dense * -np.log1p(-share), field)
    displacement = warps.exponential(velocity, field)
    index = np.indices(volume.shape, dtype=np.float32)
    here = index * spacing.astype(np.float32)[:, None, None, None]
    there = (here + field.sample(displacement, here)) / spacing.astype(np.float32)[:, None, None, None]
    shrunk = ndimage.map_coordinates(volume, there, order=3, mode="nearest", output=np.float32)
    shrunk = np.where(volume > 0, np.maximum(shrunk, 0), 0)
    voxel = float(np.prod(spacing))
    true = {
        region: voxel
        * float(ndimage.map_coordinates((regions == REGIONS[region]).astype(np.float32), there, order=1).sum())
        for region in ("hippocampus_left", "hippocampus_right")
    }
    return shrunk, true


def _atrophy(name, volume, affine, regions, voters, register) -> list[dict]:
    rows = []
    for share in SHRINKAGES:
        shrunk, true = shrink(volume, affine, regions, share)
        single, _, fused, _, _ = _measure(shrunk, affine, voters, register)
        for method, volumes in (("one_atlas", single), ("fusion", fused)):
            for region in true:
                rows.append(
                    {
                        "brain": name,
                        "region": region,
                        "method": method,
                        "share": share,
                        "true_mm3": true[region],
                        "volume_mm3": volumes[region],
                    }
                )
    return rows


def repeat(volume: np.ndarray, affine: np.ndarray, how: str) -> tuple[np.ndarray, np.ndarray]:
    """The same brain scanned again: turned, on another grid, or noisier."""
    if how == "turned 5°":
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler("xyz", (3, -3, 2.6), degrees=True).as_matrix()
        centre = affine @ np.array([*(np.array(volume.shape) / 2), 1.0])
        turn[:3, 3] = centre[:3] - turn[:3, :3] @ centre[:3]
        return np.maximum(pull(volume, affine, Grid(volume.shape, affine), turn, order=3), 0), affine
    if how == "resampled 1.2 mm":
        spacing = np.array([1.0, 1.0, 1.2])
        old = Grid(volume.shape, affine)
        moved = affine @ np.diag([*(spacing / old.spacing_mm), 1.0])
        moved[:3, 3] += affine[:3, :3] @ np.array([0.37, 0.21, 0.43])
        shape = tuple(int(n * s / t) - 1 for n, s, t in zip(volume.shape, old.spacing_mm, spacing, strict=True))
        return np.maximum(pull(volume, affine, Grid(shape, moved), order=3), 0), moved
    rng = np.random.default_rng(0)
    noise = 0.03 * np.percentile(volume[volume > 0], 95) * rng.standard_normal(volume.shape, dtype=np.float32)
    return np.where(volume > 0, np.maximum(volume + noise, 1e-3), 0), affine


def _repeat(name, volume, affine, regions, voters, register) -> list[dict]:
    first = _measure(volume, affine, voters, register)
    rows = []
    for how in REPEATS:
        again = _measure(*repeat(volume, affine, how), voters, register)
        for method, k in (("one_atlas", 0), ("fusion", 2)):
            for side in ("left", "right"):
                region = f"hippocampus_{side}"
                rows.append(
                    {
                        "brain": name,
                        "region": region,
                        "method": method,
                        "repeat": how,
                        "change_percent": 100 * (again[k][region] / first[k][region] - 1),
                    }
                )
    return rows


def _tell_accuracy(table: pd.DataFrame, work: Path) -> None:
    table = table.assign(structure=table["region"].str.rsplit("_", n=1).str[0])
    rows = []
    for (method, structure), part in table.groupby(["method", "structure"], sort=False):
        error = 100 * (part["volume_mm3"] - part["manual_mm3"]) / part["manual_mm3"]
        rows.append(
            {
                "method": method,
                "structure": structure,
                "dice_mean": part["dice"].mean(),
                "dice_worst": part["dice"].min(),
                "volume_r": np.corrcoef(part["volume_mm3"], part["manual_mm3"])[0, 1],
                "bias_percent": error.mean(),
                "sd_percent": error.std(),
                "seconds_per_scan": part["seconds"].mean(),
            }
        )
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    _bland_altman(table, work / "bland-altman.png")


def _bland_altman(table: pd.DataFrame, path: Path) -> None:
    """Difference against mean of measured and manual volume, with the limits of agreement (Bland, Altman, Lancet 1986)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col")
    for row, method in enumerate(("one_atlas", "fusion")):
        for column, structure in enumerate(("hippocampus", "entorhinal")):
            part = table[(table["method"] == method) & (table["structure"] == structure)]
            mean, difference = (part["volume_mm3"] + part["manual_mm3"]) / 2, part["volume_mm3"] - part["manual_mm3"]
            panel = axes[row, column]
            for side, marker in (("left", "o"), ("right", "s")):
                mine = part["region"].str.endswith(side)
                panel.scatter(mean[mine], difference[mine], s=22, marker=marker, alpha=0.7, label=side)
            middle, spread = difference.mean(), 1.96 * difference.std()
            for level, style in ((middle, "-"), (middle - spread, "--"), (middle + spread, "--")):
                panel.axhline(level, color="0.3", linestyle=style, linewidth=1)
                panel.annotate(f"{level:+.0f}", (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom")
            panel.axhline(0, color="0.7", linewidth=0.8)
            panel.set_title(f"{structure}, {method.replace('_', ' ')}")
            panel.set_ylabel("measured − manual, mm³")
            panel.set_xlabel("mean of measured and manual, mm³")
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=130)


def _tell_atrophy(table: pd.DataFrame, work: Path) -> None:
    rows = []
    for method, part in table.groupby("method", sort=False):
        true, found = [], []
        for _, mine in part.groupby(["brain", "region"]):
            first = mine[mine["share"] == 0].iloc[0]
            rest = mine[mine["share"] > 0]
            true += list(100 * (1 - rest["true_mm3"] / first["true_mm3"]))
            found += list(100 * (1 - rest["volume_mm3"] / first["volume_mm3"]))
        slope = float(np.dot(true, found) / np.dot(true, true))
        free = np.polyfit(true, found, 1)
        scatter = float(np.std(np.array(found) - slope * np.array(true)))
        rows.append(
            {"method": method, "n": len(true), "slope": slope, "slope_free": free[0], "scatter_percent": scatter}
        )
    print(pd.DataFrame(rows).round(3).to_string(index=False))


def _tell_repeat(table: pd.DataFrame, work: Path) -> None:
    told = table.assign(size=table["change_percent"].abs()).groupby(["method", "repeat"], sort=False)
    print(
        told.agg(mean=("change_percent", "mean"), mean_size=("size", "mean"), worst=("size", "max"))
        .round(2)
        .to_string()
    )


if __name__ == "__main__":
    main()
