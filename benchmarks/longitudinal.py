"""Are follow-up volumes consistent? Visits registered one by one, and through a within-subject template.

    python benchmarks/longitudinal.py                                Colin27 with other shapes, 6 subjects, 10 minutes
    python benchmarks/longitudinal.py --brains DIR --subjects 12     real brains: DIR/<id>_T1.nii.gz, one subject each

Every subject is scanned four times, each time at another pose, with other noise and another bias field: at baseline,
once more on the same scanner, once more on another scanner (resolution, contrast), and after a planted atrophy. Each
later scan is paired with the baseline. Printed are the change that was not there (mean with its standard error, mean
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
from elr_mri.imaging.labels import REGIONS, read_labels
from elr_mri.imaging.measure import intracranial, region_volumes
from elr_mri.imaging.register import align
from elr_mri.imaging.template import brain_template
from elr_mri.imaging.within_subject import Visit, share_template
from elr_mri.phantom.anatomy import Anatomy
from elr_mri.phantom.heads import load as load_anatomy
from elr_mri.phantom.scanner import render
from elr_mri.phantom.subjects import ADNI_SITES, draw_subject

#: The later scans of a subject, each paired with the baseline.
PAIRS = ("same scanner", "other scanner", "atrophy")
#: Planted steps of severity (1 is a mild dementia), in turn over the subjects: hippocampi shrink by 3 to 15 %.
STEPS = (0.10, 0.22, 0.34, 0.46, 0.58)
#: Structures that are reported, left and right together.
STRUCTURES = ("hippocampus", "entorhinal", "intracranial")


def scans(anatomy: Anatomy, index: int, phantom: Phantom) -> list[tuple[nib.Nifti1Image, dict[str, float]]]:
    """The four scans of a subject, RAS+, with the true volumes in mm³: baseline, then one for each of `PAIRS`."""
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
    made = [render(phantom, who, visit, anatomy) for who, visit in taken]
    return [(nib.as_closest_canonical(image), volumes) for image, _, volumes in made]


def volumes(labels, settings: Register, matrix: np.ndarray, warp) -> dict[str, float]:
    """Left and right together, mm³."""
    sides = region_volumes(labels, matrix, warp)
    found = {name: sum(sides[r] for r in REGIONS if r.startswith(name)) for name in STRUCTURES[:2]}
    return found | {"intracranial": intracranial(settings.template, matrix)}


def compare(anatomy: Anatomy, index: int, phantom: Phantom, settings: Register) -> list[dict]:
    """Log volume changes of a subject's three pairs: true, one by one, through the template, and that in exchanged
    order."""
    template, labels = brain_template(settings.template), read_labels()
    made = scans(anatomy, index, phantom)
    alone = [align(np.asarray(i.dataobj, dtype=np.float32), i.affine, template, settings) for i, _ in made]
    single = [volumes(labels, settings, one.matrix, one.warp) for one in alone]
    visits = [Visit(one.brain, one.affine, one.matrix) for one in alone]
    rows = []
    for k, pair in enumerate(PAIRS, start=1):
        began = time.perf_counter()
        shared = share_template([visits[0], visits[k]], template, settings)
        seconds = time.perf_counter() - began
        back = share_template([visits[k], visits[0]], template, settings)[::-1] if pair == "atrophy" else shared
        both, turned = ([volumes(labels, settings, s.matrix, s.warp) for s in way] for way in (shared, back))
        for name in STRUCTURES:
            true = [sum(v for key, v in made[j][1].items() if key.startswith(name)) for j in (0, k)]
            rows.append(
                {
                    "subject": index,
                    "pair": pair,
                    "structure": name,
                    "true": np.log(true[1] / true[0]),
                    "one by one": np.log(single[k][name] / single[0][name]),
                    "through the template": np.log(both[1][name] / both[0][name]),
                    "exchanged": np.log(turned[1][name] / turned[0][name]),
                    "seconds": seconds,
                }
            )
    return rows


def table(rows: pd.DataFrame) -> str:
    """What a reader wants to know, in per cent of the volume."""
    lines = []
    for (pair, structure), group in rows.groupby(["pair", "structure"], sort=False):
        for way in ("one by one", "through the template"):
            error = 100 * (group[way] - group["true"])
            line = {"pair": pair, "structure": structure, "registered": way, "subjects": len(group)}
            line["mean error, %"] = f"{error.mean():+.2f} ± {error.std() / np.sqrt(len(error)):.2f}"
            line["mean |error|, %"] = f"{error.abs().mean():.2f}"
            line["slope"] = line["scatter, %"] = ""
            if group["true"].std() > 1e-3:
                slope, offset = np.polyfit(group["true"], group[way], 1)
                rest = 100 * (group[way] - slope * group["true"] - offset)
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
