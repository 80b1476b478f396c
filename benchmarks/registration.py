"""The default registration beside plain `antsRegistrationSyNQuick[s]` at 1 mm: time, memory and hippocampal Dice, one run.

    python benchmarks/registration.py LABELLED --brains 1000,1012,1122        brains with manual labels
    python benchmarks/registration.py --heads head.nii.gz other.nii.gz        whole heads: from NIfTI to volumes
    python benchmarks/registration.py LABELLED --recipes affine,fast,standard,accurate --no-ants

Ours includes bias correction and brain extraction; ANTs gets the brain as it is, and nothing else is counted. Both carry
the same shipped hippocampus labels to the scan. ANTs may use all cores that this process may use; ours uses one. Every
measurement is a process of its own, one after the other, so that times and peak memory are its own.

Limits: ours at least 5 times faster at a Dice at most 0.01 lower; a whole head in 60 s; 2 GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from elr_mri.imaging.labels import REGIONS, SHIPPED

MALF = '{"hippocampus_left": 48, "hippocampus_right": 47}'
RATIO, DICE_LOSS, SECONDS, GIB = 5.0, 0.01, 60.0, 2.0


def main() -> None:
    """Measure every brain with every method and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", type=Path, nargs="?", help="a folder of NAME_T1.nii.gz and NAME_labels.nii.gz")
    parser.add_argument("--brains", default="", help="names, by comma; all by default")
    parser.add_argument("--heads", type=Path, nargs="*", default=[])
    parser.add_argument("--numbers", default=MALF, help="region to number in the labels, as JSON")
    parser.add_argument("--recipes", default="standard")
    parser.add_argument("--no-ants", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "IMAGE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(_one(*chosen.one, json.loads(chosen.numbers))))
        return
    methods = chosen.recipes.split(",") + ([] if chosen.no_ants else ["syn-quick"])
    rows = []
    for image in _brains(chosen) if chosen.labelled else ():
        rows += [_measured(method, image, chosen.numbers) for method in methods]
    for image in chosen.heads:
        rows += [_measured(method, image, chosen.numbers) for method in chosen.recipes.split(",")]
    table = pd.DataFrame(rows)
    mean = table.groupby("method", sort=False)[["seconds", "cpu_seconds", "peak_gib", "dice"]]
    print("\nmean\n" + mean.mean().round(3).to_string() + "\n\nworst (most seconds and memory, least Dice)")
    print(mean.agg({"seconds": "max", "cpu_seconds": "max", "peak_gib": "max", "dice": "min"}).round(3).to_string())
    if "syn-quick" in methods:
        ours, theirs = (mean.mean().loc[name] for name in (methods[0], "syn-quick"))
        ratio, loss = theirs["seconds"] / ours["seconds"], theirs["dice"] - ours["dice"]
        print(f"\n{methods[0]}: {ratio:.1f} times faster (limit {RATIO}), Dice {-loss:+.3f} (limit {-DICE_LOSS})")


def _brains(chosen: argparse.Namespace) -> list[Path]:
    found = sorted(chosen.labelled.glob("*_T1.nii.gz"))
    names = chosen.brains.split(",") if chosen.brains else [path.name.removesuffix("_T1.nii.gz") for path in found]
    return [chosen.labelled / f"{name}_T1.nii.gz" for name in names]


def _measured(method: str, image: Path, numbers: str) -> dict:
    """One measurement in a process of its own."""
    threads = len(os.sched_getaffinity(0)) if method == "syn-quick" else 1
    environment = os.environ | dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), str(threads)
    )
    command = [sys.executable, __file__, "--numbers", numbers, "--one", method, str(image)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if told.returncode:
        raise SystemExit(told.stderr)
    row = json.loads(told.stdout.splitlines()[-1])
    print(
        f"{row['image']}  {method:10} {row['seconds']:6.1f} s  {row['peak_gib']:.2f} GiB  Dice {row['dice']:.3f}",
        flush=True,
    )
    return row


def _one(method: str, image: str, numbers: dict[str, int]) -> dict:
    """Register one scan in this process; imports are not counted."""
    path = Path(image)
    with tempfile.TemporaryDirectory() as folder:
        seconds, segmented = (_syn_quick if method == "syn-quick" else _ours)(path, Path(folder), method)
    used = resource.getrusage(resource.RUSAGE_SELF)
    row = {"image": path.name, "method": method, "seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime}
    row |= {"peak_gib": used.ru_maxrss / 2**20, "dice": float("nan")}
    labels = path.with_name(path.name.replace("_T1", "_labels"))
    if labels != path and labels.exists():
        manual = np.asarray(nib.as_closest_canonical(nib.load(labels)).dataobj)
        overlaps = []
        for region, number in numbers.items():
            a, b = segmented == REGIONS[region], manual == number
            overlaps.append(2 * (a & b).sum() / (a.sum() + b.sum()))
        row["dice"] = float(np.mean(overlaps))
    return row


def _ours(path: Path, folder: Path, recipe: str) -> tuple[float, np.ndarray]:
    """From the NIfTI to registered volume, QC with picture and one-atlas volumes, as the pipeline does it."""
    import ants  # noqa: F401

    from elr_mri.config import Convert, Measure, Register
    from elr_mri.imaging.convert import convert_scan
    from elr_mri.imaging.measure import measure_scan
    from elr_mri.imaging.register import register_converted

    began = time.perf_counter()
    convert_scan(str(path), folder / "convert", "scan", Convert())
    register_converted(folder / "convert", folder / "register", "scan", Register(recipe=recipe))
    measure_scan(folder / "register", folder / "measure", "scan", Measure())
    seconds = time.perf_counter() - began
    return seconds, np.asarray(nib.load(next((folder / "measure").glob("*dseg.nii.gz"))).dataobj)


def _syn_quick(path: Path, folder: Path, method: str) -> tuple[float, np.ndarray]:
    """`antsRegistrationSyNQuick[s]` of the brain to the default template at 1 mm, and the labels carried back."""
    import ants

    from elr_mri.imaging.bias import to_ants
    from elr_mri.imaging.grids import Grid
    from elr_mri.imaging.template import MNI, brain_template

    template = brain_template(MNI)
    scan = nib.as_closest_canonical(nib.load(path))
    began = time.perf_counter()
    fixed = to_ants(template.image * template.mask, Grid(template.image.shape, template.affine))
    moving = to_ants(np.asarray(scan.dataobj, dtype=np.float32), Grid(scan.shape, np.asarray(scan.affine)))
    found = ants.registration(fixed, moving, type_of_transform="antsRegistrationSyNQuick[s]", outprefix=f"{folder}/")
    labels = nib.load(SHIPPED)
    carried = ants.apply_transforms(
        moving,
        to_ants(np.asarray(labels.dataobj, dtype=np.float32), Grid(labels.shape, np.asarray(labels.affine))),
        found["invtransforms"],
        interpolator="nearestNeighbor",
        whichtoinvert=[True, False],
    )
    return time.perf_counter() - began, np.rint(carried.numpy()).astype(np.uint8)


if __name__ == "__main__":
    main()
