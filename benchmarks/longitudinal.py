"""Are follow-up volumes consistent? Visits registered one by one, and through a within-subject template.

    python benchmarks/longitudinal.py                                Colin27 with other shapes, 6 subjects
    python benchmarks/longitudinal.py --brains DIR --subjects 12     real brains: DIR/<id>_T1.nii.gz, one subject each

Every subject is scanned four times, each time at another pose, with other noise and another bias field: at baseline,
once more on the same scanner, once more on another scanner (resolution, contrast), and after a planted atrophy. Each
later scan is paired with the baseline. Printed are the change where there was none (mean with its standard error, mean
absolute), the change that was (slope of measured on planted log volume, scatter about it), and what exchanging the two
visits alters. Rows are kept in --output as they come, and a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import nibabel as nib
import numpy as np
import pandas as pd

from elr_mri.config import Phantom, Register
from elr_mri.imaging.grids import box, through
from elr_mri.imaging.labels import REGIONS, Labels, read_labels
from elr_mri.imaging.measure import intracranial, region_volumes
from elr_mri.imaging.register import align
from elr_mri.imaging.template import Template, brain_template
from elr_mri.imaging.transforms import Warp, to_native
from elr_mri.imaging.warp import DETAIL_BOX_MM
from elr_mri.imaging.within_subject import Visit, share_template
from elr_mri.phantom import scanner
from elr_mri.phantom.anatomy import Anatomy
from elr_mri.phantom.heads import load as load_anatomy
from elr_mri.phantom.subjects import ADNI_SITES, draw_subject

#: The later scans of a subject, each paired with the baseline.
PAIRS = ("same scanner", "other scanner", "atrophy")
#: Planted steps of severity (1 is a mild dementia), in turn over the subjects: hippocampi shrink by 3 to 15 %.
STEPS = (0.10, 0.22, 0.34, 0.46, 0.58)
#: Structures that are reported, left and right together.
STRUCTURES = ("hippocampus", "entorhinal", "intracranial")
#: So many subjects are also registered with the two visits exchanged.
EXCHANGED = 2


def scans(anatomy: Anatomy, index: int, phantom: Phantom) -> list[tuple[nib.Nifti1Image, scanner.Warp]]:
    """The four scans of a subject, RAS+, with how each was made: baseline, then one for each of `PAIRS`."""
    subject = draw_subject(phantom, index, "ADNI")
    first = subject.visits[0]
    other = replace(subject, site=ADNI_SITES[(ADNI_SITES.index(subject.site) + 1) % len(ADNI_SITES)])
    severity = first.severity + STEPS[index % len(STEPS)]
    taken = [
        (subject, first),
        (subject, replace(first, months=6)),
        (other, replace(first, months=12)),
        (subject, replace(first, months=24, severity=severity)),
    ]
    made = [scanner.render(phantom, who, visit, anatomy) for who, visit in taken]
    return [(nib.as_closest_canonical(image), warp) for image, warp, _ in made]


def planted(labels: Labels, anatomy: Anatomy, made: list[scanner.Warp], matrix: np.ndarray, warp: Warp) -> dict:
    """The log volume change that was planted in the very voxels that are measured as a structure at baseline.

    The template's labels are no outline of the planted regions, so a region's own planted change is not theirs.
    `made`: how both scans were made; `matrix` and `warp`: template to the baseline scan.
    """
    grid = box(*DETAIL_BOX_MM, 1.0)
    points = grid.points()
    first = to_native(points, matrix, warp)
    on_table = through(made[0].pose, first)
    anatomical = on_table + anatomy.grid.sample(made[0].pull, on_table)
    for _ in range(20):  # the later scan's place of the same tissue, by fixed-point iteration
        on_table = anatomical - anatomy.grid.sample(made[1].pull, on_table)
    later = through(np.linalg.inv(made[1].pose), on_table.astype(np.float32))
    found = [together(region_volumes(labels, np.eye(4), Warp(grid, place - points))) for place in (first, later)]
    return {name: float(np.log(found[1][name] / found[0][name])) for name in found[0]} | {"intracranial": 0.0}


def together(sides: dict[str, float]) -> dict[str, float]:
    """Left and right together, mm³."""
    return {name: sum(sides[region] for region in REGIONS if region.startswith(name)) for name in STRUCTURES[:2]}


def volumes(labels: Labels, template: Template, matrix: np.ndarray, warp: Warp) -> dict[str, float]:
    """The structures of one registered scan, mm³."""
    return together(region_volumes(labels, matrix, warp)) | {"intracranial": intracranial(template, matrix)}


def compare(anatomy: Anatomy, index: int, phantom: Phantom, settings: Register) -> list[dict]:
    """Log volume changes of a subject's three pairs: planted, one by one, through the template, and that with the two
    visits exchanged."""
    template, labels = brain_template(settings.template), read_labels()
    made = scans(anatomy, index, phantom)
    alone = [align(np.asarray(i.dataobj, dtype=np.float32), i.affine, template, settings) for i, _ in made]
    visits = [Visit(one.brain, one.affine, one.matrix) for one in alone]
    rows = []
    for k, pair in enumerate(PAIRS, start=1):
        began = time.perf_counter()
        shared = share_template([visits[0], visits[k]], template, settings)
        seconds = time.perf_counter() - began
        ways = {"one by one": (alone[0], alone[k]), "through the template": shared}
        if pair == "atrophy" and index < EXCHANGED:
            ways["exchanged"] = share_template([visits[k], visits[0]], template, settings)[::-1]
        found = {way: [volumes(labels, template, v.matrix, v.warp) for v in two] for way, two in ways.items()}
        true = {
            way: planted(labels, anatomy, [made[0][1], made[k][1]], two[0].matrix, two[0].warp)
            for way, two in ways.items()
        }
        for name in STRUCTURES:
            row = {"subject": index, "pair": pair, "structure": name, "seconds": seconds}
            for way, (first, later) in found.items():
                row |= {way: np.log(later[name] / first[name]), f"planted, {way}": true[way][name]}
            rows.append(row)
    return rows


def table(rows: pd.DataFrame) -> str:
    """What a reader wants to know, in per cent of the volume."""
    lines = []
    for (pair, structure), group in rows.groupby(["pair", "structure"], sort=False):
        for way in ("one by one", "through the template"):
            true = group[f"planted, {way}"]
            error = 100 * (group[way] - true)
            line = {"pair": pair, "structure": structure, "registered": way, "subjects": len(group)}
            line["mean error, %"] = f"{error.mean():+.2f} ± {error.std() / np.sqrt(len(error)):.2f}"
            line["mean |error|, %"] = f"{error.abs().mean():.2f}"
            line["slope"] = line["scatter, %"] = ""
            if true.std() > 1e-3:
                slope, offset = np.polyfit(true, group[way], 1)
                rest = 100 * (group[way] - slope * true - offset)
                line["slope"] = f"{slope:.2f}"
                line["scatter, %"] = f"{np.sqrt((rest**2).sum() / max(len(rest) - 2, 1)):.2f}"
            lines.append(line)
    exchanged = 100 * (rows["exchanged"] - rows["through the template"]).abs().max()
    seconds = rows["seconds"].mean()
    return (
        f"{pd.DataFrame(lines).to_string(index=False)}\n\n"
        f"exchanged visits: the change alters by at most {exchanged:.1g} % of the volume, sign apart\n"
        f"the template of two visits, after both were registered by themselves: {seconds:.1f} s"
    )


def main() -> None:
    """Render, register, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brains", type=Path, help="folder of <id>_T1.nii.gz; without it the shipped Colin27")
    parser.add_argument("--subjects", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spacing-mm", type=float, default=1.0)
    parser.add_argument("--settings", default="{}", help="the register section as JSON")
    parser.add_argument("--output", type=Path, help="TSV of all rows, kept as they come")
    given = parser.parse_args()
    images = sorted(given.brains.glob("*_T1.nii.gz")) if given.brains else []
    heads = [{"image": str(path)} for path in images] or ["colin27"]
    phantom = Phantom(seed=given.seed, spacing_mm=given.spacing_mm, anatomies=heads)
    settings = Register.model_validate_json(given.settings)
    rows = pd.read_csv(given.output, sep="\t") if given.output and given.output.exists() else pd.DataFrame()
    for index in range(given.subjects):
        if len(rows) and (rows["subject"] == index).any():
            continue
        anatomy = load_anatomy(phantom.anatomies[index % len(heads)])
        rows = pd.concat([rows, pd.DataFrame(compare(anatomy, index, phantom, settings))], ignore_index=True)
        if given.output:
            rows.to_csv(given.output, sep="\t", index=False)
        print(f"subject {index + 1}/{given.subjects}", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
