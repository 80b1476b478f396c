"""Volumes of regions in a scan's own space, mm³.

A region's volume is the integral over its template label of the local volume ratio (the Jacobian determinant of warp
and affine): fractional voxels count as fractions, so that 2 mm scans are measured as finely as 1 mm ones (Davatzikos
et al., RAVENS, NeuroImage 14, 2001; here summed over a label). The native label map is the same label carried back by
the inverse.

The intracranial volume is the shipped template's mask volume times the determinant of the affine: the atlas scaling factor
(Buckner et al., NeuroImage 23, 2004), which depends on head size and little on atrophy.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from elr_mri.config import Measure
from elr_mri.imaging import batch as batches_
from elr_mri.imaging import names
from elr_mri.imaging.bridge import from_labels, head_size
from elr_mri.imaging.convert import digest_array
from elr_mri.imaging.demons import jacobian
from elr_mri.imaging.grids import Grid, at
from elr_mri.imaging.labels import REGIONS, VOLUMES, Labels, label_box, native_labels, read_labels
from elr_mri.imaging.template import Template, brain_template
from elr_mri.imaging.transforms import Warp, read_affine, read_warp
from elr_mri.provenance import atomic, digest_file, digest_json, is_current, record
from elr_mri.scans.schema import Column, Schema
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["measure"]

ROI = Schema(
    name="volume",
    version=1,
    key=("region",),
    columns=(Column("region", allowed=VOLUMES), Column("volume_mm3", "number", low=0)),
)

#: Spacing in mm at which labels are integrated.
INTEGRAL_SPACING_MM = 1.0


def measure(
    scans_path: Path | str,
    register_dir: Path | str,
    batch: str,
    batches: int,
    settings: Measure,
    out_dir: Path | str,
) -> None:
    """Measure every registered scan of a batch; writes `out_dir/<scan_id>/…` and `out_dir/batches/<batch>.tsv`."""
    scans, register_dir, out_dir = batches_.members(scans_path, batch, batches), Path(register_dir), Path(out_dir)

    def one(row) -> dict:
        return measure_scan(register_dir / row.scan_id, out_dir / row.scan_id, row.scan_id, settings)

    batches_.run(scans, "measure", one, out_dir / "batches" / f"{batch}.tsv")


def measure_scan(register_dir: Path | str, out_dir: Path | str, scan_id: str, settings: Measure) -> dict:
    """Measure one registered scan.

    Writes `<scan_id>_tpl-<template>_volumes.tsv` (region, volume_mm3) and `…_dseg.nii.gz` (native label map, numbers of
    `labels.REGIONS`).

    Returns
    -------
    dict
        scan_id, status, reason, and `volumes_mm3` by region. A scan that failed registration fails here with that
        reason.
    """
    register_dir, out_dir = Path(register_dir), Path(out_dir)
    told = names.read_verdict(register_dir, scan_id)
    names.forget_others(out_dir, scan_id, told["template"])
    if told["status"] == "fail":
        return {"scan_id": scan_id, "status": "fail", "reason": told["reason"]}
    files = {name: register_dir / file for name, file in told["files"].items()}
    own = {name: out_dir / file for name, file in names.measured(scan_id, told["template"]).items()}
    table = own["volumes"]
    template = brain_template(told["template_source"], told["template_mask"])
    labels = _labels(settings.labels)
    inputs = {name: digest_file(files[name]) for name in ("affine", "warp", "inverse_warp")} | {
        "labels": _digest(settings.labels),
        "template": template.digest,
    }
    if "space" in told:
        inputs["native_per_space_volume"] = str(told["native_per_space_volume"])
    provenance = {"step": "measure", "version": VERSION, "inputs": inputs, "settings": settings}
    done = {"scan_id": scan_id, "status": told["status"], "reason": told["reason"]}
    if is_current(table, **provenance):
        frame = ROI.read(table)
        return done | {"volumes_mm3": dict(zip(frame["region"], frame["volume_mm3"], strict=True))}
    to_scan = read_affine(files["affine"]), read_warp(files["warp"]), read_warp(files["inverse_warp"])
    matrix, warp, back = from_labels(template, settings.labels, *to_scan)
    volumes = region_volumes(labels, matrix, warp)
    volumes["intracranial"] = intracranial(template, to_scan[0])
    if "space" in told:  # measured where the scan was laid; see convert.py
        volumes = {name: volume * (told["native_per_space_volume"] or 1.0) for name, volume in volumes.items()}
    native = nib.load(files["mask"])
    segmented = native_labels(labels, Grid(native.shape, native.affine), matrix, back)
    with atomic(own["labels"]) as draft:
        nib.save(nib.Nifti1Image(segmented, native.affine), draft)
    ROI.write(pd.DataFrame({"region": list(volumes), "volume_mm3": [round(v, 2) for v in volumes.values()]}), table)
    record(table, **provenance)
    return done | {"volumes_mm3": volumes}


def region_volumes(labels: Labels, matrix: np.ndarray, warp: Warp) -> dict[str, float]:
    """Native volume of every region, mm³.

    Parameters
    ----------
    matrix, warp : template to native mm: (4, 4), and the displacement before it.
    """
    grid = label_box(labels, INTEGRAL_SPACING_MM)
    growth = jacobian(warp.onto(grid).voxels()) * abs(np.linalg.det(matrix[:3, :3])) * grid.voxel_mm3
    points = grid.points()
    return {
        region: float((at(labels.share(region), labels.affine, points, mode="constant") * growth).sum())
        for region in REGIONS
    }


def intracranial(template: Template, matrix: np.ndarray) -> float:
    """Intracranial volume, mm³: the shipped template's mask times the affine's volume ratio, over the study's template
    where that is another (whose mask may be drawn wider or closer)."""
    return head_size(template) * float(abs(np.linalg.det(matrix[:3, :3])))


@lru_cache(maxsize=2)
def _labels(name: str) -> Labels:
    return read_labels(name)


@lru_cache(maxsize=2)
def _digest(name: str) -> str:
    """Digest of the label map's content."""
    labels = _labels(name)
    return digest_json([digest_array(labels.volume), labels.affine.tolist()])
