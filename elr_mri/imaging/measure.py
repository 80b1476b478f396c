"""Volumes of regions in a scan's own space, mm³.

A region's volume is the integral over its template label of the local volume ratio (the Jacobian determinant of warp
and affine): fractional voxels count as fractions, so that 2 mm scans are measured as finely as 1 mm ones (Davatzikos
et al., RAVENS, NeuroImage 14, 2001; here summed over a label). The native label map is the same label carried back by
the inverse.

The intracranial volume is the template mask's volume times the determinant of the affine: the atlas scaling factor
(Buckner et al., NeuroImage 23, 2004), which depends on head size and little on atrophy.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from elr_mri.config import GIVEN, Measure
from elr_mri.imaging import batch as batches_
from elr_mri.imaging.convert import digest_array
from elr_mri.imaging.demons import jacobian
from elr_mri.imaging.given import give_scan, read_given
from elr_mri.imaging.grids import Grid, at, box
from elr_mri.imaging.labels import REGIONS, ROI, Labels, read_labels, with_totals
from elr_mri.imaging.template import brain_template
from elr_mri.imaging.transforms import Warp, read_affine, read_warp, to_native, to_template
from elr_mri.provenance import atomic, digest_file, digest_json, is_current, read_json, record
from elr_mri.scans.table import read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["measure"]

#: Spacing in mm at which labels are integrated, and the margin of their box.
INTEGRAL_SPACING_MM, MARGIN_MM = 1.0, 4.0


def measure(
    scans_path: Path | str,
    register_dir: Path | str,
    batch: str,
    batches: int,
    settings: Measure,
    out_dir: Path | str,
) -> None:
    """Measure every scan of a batch, or take its volumes from `settings.source`; writes `out_dir/<scan_id>/…` and `out_dir/batches/<batch>.tsv`."""
    scans, register_dir, out_dir = batches_.members(scans_path, batch, batches), Path(register_dir), Path(out_dir)
    given = read_given(read_scans(scans_path), settings) if settings.source in GIVEN else None

    def one(row) -> dict:
        if given:
            return give_scan(given, out_dir / row.scan_id, row.scan_id, settings)
        return measure_scan(register_dir / row.scan_id, out_dir / row.scan_id, row.scan_id, settings)

    batches_.run(scans, "measure", one, out_dir / "batches" / f"{batch}.tsv")


def measure_scan(register_dir: Path | str, out_dir: Path | str, scan_id: str, settings: Measure) -> dict:
    """Measure one registered scan.

    Writes `<scan_id>_volumes.tsv` (region, volume_mm3) and `<scan_id>_dseg.nii.gz` (native label map, numbers of
    `labels.REGIONS`).

    Returns
    -------
    dict
        scan_id, status and reason as `register` told them, and `volumes_mm3` by region; these are absent where nothing
        was registered.
    """
    register_dir, out_dir = Path(register_dir), Path(out_dir)
    told = read_json(register_dir / f"{scan_id}_qc.json")
    if "files" not in told:  # a scan that quality control failed is measured too: a person may overrule the verdict
        return {"scan_id": scan_id, "status": "fail", "reason": told["reason"]}
    files = {name: register_dir / file for name, file in told["files"].items()}
    table = out_dir / f"{scan_id}_volumes.tsv"
    inputs = {name: digest_file(files[name]) for name in ("affine", "warp", "inverse_warp")} | {
        "labels": _digest(settings.labels)
    }
    if "space" in told:
        inputs["native_per_space_volume"] = str(told["native_per_space_volume"])
    provenance = {"step": "measure", "version": VERSION, "inputs": inputs, "settings": settings}
    done = {"scan_id": scan_id, "status": told["status"], "reason": told["reason"]}
    if is_current(table, **provenance):
        frame = ROI.read(table)
        return done | {"volumes_mm3": dict(zip(frame["region"], frame["volume_mm3"], strict=True))}
    labels = _labels(settings.labels)
    matrix = read_affine(files["affine"])
    volumes = region_volumes(labels, matrix, read_warp(files["warp"]))
    volumes["intracranial"] = intracranial(told["template_source"], matrix)
    if "space" in told:  # measured where the scan was laid; see convert.py
        volumes = {name: volume * (told["native_per_space_volume"] or 1.0) for name, volume in volumes.items()}
    native = nib.load(files["mask"])
    segmented = native_labels(labels, Grid(native.shape, native.affine), matrix, read_warp(files["inverse_warp"]))
    with atomic(out_dir / f"{scan_id}_dseg.nii.gz") as draft:
        nib.save(nib.Nifti1Image(segmented, native.affine), draft)
    volumes = with_totals(volumes)
    ROI.write(pd.DataFrame({"region": list(volumes), "volume_mm3": [round(v, 2) for v in volumes.values()]}), table)
    record(table, **provenance)
    return done | {"volumes_mm3": volumes}


def region_volumes(labels: Labels, matrix: np.ndarray, warp: Warp) -> dict[str, float]:
    """Native volume of every region, mm³.

    Parameters
    ----------
    matrix, warp : template to native mm: (4, 4), and the displacement before it.
    """
    grid = _label_box(labels, INTEGRAL_SPACING_MM)
    unfolded = np.maximum(jacobian(warp.onto(grid).voxels()), 0)  # a folded place has no volume
    growth = unfolded * abs(np.linalg.det(matrix[:3, :3])) * grid.voxel_mm3
    points = grid.points()
    return {
        region: float((at(labels.share(region), labels.affine, points, mode="constant") * growth).sum())
        for region in REGIONS
    }


def intracranial(template_name: str, matrix: np.ndarray) -> float:
    """Intracranial volume, mm³: the template's mask times the affine's volume ratio."""
    template = brain_template(template_name)
    voxel = abs(np.linalg.det(template.affine[:3, :3]))
    return float(template.mask.sum() * voxel * abs(np.linalg.det(matrix[:3, :3])))


def native_labels(labels: Labels, native: Grid, matrix: np.ndarray, inverse: Warp) -> np.ndarray:
    """The label map on a native grid, (X, Y, Z) uint8: at each voxel the region with the largest share, if above one
    half."""
    out = np.zeros(native.shape, dtype=np.uint8)
    corner, cut = _native_box(labels, native, matrix)
    if min(cut) <= 0:
        return out
    moved = native.affine.copy()
    moved[:3, 3] += native.affine[:3, :3] @ corner
    points = to_template(Grid(cut, moved).points(), matrix, inverse)
    best = np.full(cut, 0.5, dtype=np.float32)
    part = np.zeros(cut, dtype=np.uint8)
    for region, number in REGIONS.items():
        share = at(labels.share(region), labels.affine, points, mode="constant")
        part[share >= best] = number
        best = np.maximum(best, share)
    out[tuple(slice(a, a + n) for a, n in zip(corner, cut, strict=True))] = part
    return out


def _label_box(labels: Labels, spacing_mm: float, margin_mm: float = MARGIN_MM) -> Grid:
    """The box of all labels with a margin, in template mm."""
    index = np.argwhere(labels.volume)
    ends = np.stack([index.min(axis=0), index.max(axis=0)]) @ labels.affine[:3, :3].T + labels.affine[:3, 3]
    return box(tuple(ends.min(axis=0) - margin_mm), tuple(ends.max(axis=0) + margin_mm), spacing_mm)


def _native_box(labels: Labels, native: Grid, matrix: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]]:
    """First index and shape of the part of a native grid that can hold labels: their box carried over, 25 mm wider."""
    around = _label_box(labels, 5.0, margin_mm=25.0)
    index = to_native(around.points(), np.linalg.inv(native.affine) @ matrix, None).reshape(3, -1)
    low = np.clip(np.floor(index.min(axis=1)).astype(int), 0, native.shape)
    high = np.clip(np.ceil(index.max(axis=1)).astype(int) + 1, 0, native.shape)
    return low, tuple(int(n) for n in high - low)


@lru_cache(maxsize=2)
def _labels(name: str) -> Labels:
    return read_labels(name)


@lru_cache(maxsize=2)
def _digest(name: str) -> str:
    """Digest of the label map's content."""
    labels = _labels(name)
    return digest_json([digest_array(labels.volume), labels.affine.tolist()])
