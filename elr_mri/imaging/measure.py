"""Volumes of regions in a scan's own space, mm³.

A region's volume is the integral over its template label of the local volume ratio (the Jacobian determinant of warp
and affine): fractional voxels count as fractions, so that 2 mm scans are measured as finely as 1 mm ones (Davatzikos
et al., RAVENS, NeuroImage 14, 2001; here summed over a label). The native label map is the same label carried back by
the inverse.

With `measure.source: fusion` the regions that the study's atlases label are fused from them instead (`fusion.py`), and
the table tells how far the atlases agree.

The intracranial volume is the shipped template's mask volume times the determinant of the affine: the atlas scaling factor
(Buckner et al., NeuroImage 23, 2004), which depends on head size and little on atrophy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from elr_mri.config import GIVEN, Measure
from elr_mri.errors import BadInput
from elr_mri.imaging import batch as batches_
from elr_mri.imaging import names
from elr_mri.imaging.atlases import digest_atlases, read_atlases
from elr_mri.imaging.bridge import from_labels, head_size
from elr_mri.imaging.convert import digest_array
from elr_mri.imaging.demons import jacobian
from elr_mri.imaging.fusion import Atlas, Fused, fuse, label_map
from elr_mri.imaging.grids import Grid, at
from elr_mri.imaging.labels import REGIONS, ROI, Labels, label_box, native_labels, read_labels, with_totals
from elr_mri.imaging.template import Template, brain_template
from elr_mri.imaging.transforms import Warp, read_affine, read_warp
from elr_mri.provenance import atomic, digest_file, digest_json, is_current, outdate, record
from elr_mri.scans.table import read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["measure"]

#: Spacing in mm at which labels are integrated.
INTEGRAL_SPACING_MM = 1.0


def measure(
    scans_path: Path | str,
    register_dir: Path | str,
    batch: str,
    batches: int,
    settings: Measure,
    out_dir: Path | str,
    *,
    convert_dir: Path | str | None = None,
    atlases_dir: Path | str | None = None,
) -> None:
    """Measure every scan of a batch, or take its volumes from `settings.source`; writes `out_dir/<scan_id>/…` and
    `out_dir/batches/<batch>.tsv`.

    `convert_dir` and `atlases_dir` are what `convert` and `atlases` wrote; only fusion needs them.
    """
    scans, register_dir, out_dir = batches_.members(scans_path, batch, batches), Path(register_dir), Path(out_dir)
    given = None
    if settings.source in GIVEN:
        from elr_mri.imaging.given import give_scan, read_given  # 0.01 s, and most studies measure

        given = read_given(read_scans(scans_path), settings)
    voters = Voters.read(atlases_dir, convert_dir) if settings.source == "fusion" else None

    def one(row) -> dict:
        if given:
            return give_scan(given, out_dir / row.scan_id, row.scan_id, settings)
        return measure_scan(register_dir / row.scan_id, out_dir / row.scan_id, row.scan_id, settings, voters=voters)

    batches_.run(scans, "measure", one, out_dir / "batches" / f"{batch}.tsv")


@dataclass(frozen=True, eq=False)
class Voters:
    """What fusion needs beside a registration: the prepared atlases, their digests, and the converted scans."""

    atlases: tuple[Atlas, ...]
    digests: dict[str, str]
    convert_dir: Path

    @classmethod
    def read(cls, atlases_dir: Path | str | None, convert_dir: Path | str | None) -> Voters:
        """Read what `atlases` wrote; raises `BadInput` where a folder was not named."""
        if atlases_dir is None or convert_dir is None:
            raise BadInput(
                expected="--atlases and --converted",
                got="one or none of them",
                where="measure.source fusion",
                fix="Name the folders that `atlases` and `convert` wrote.",
            )
        return cls(read_atlases(atlases_dir), digest_atlases(atlases_dir), Path(convert_dir))


def measure_scan(
    register_dir: Path | str, out_dir: Path | str, scan_id: str, settings: Measure, *, voters: Voters | None = None
) -> dict:
    """Measure one registered scan, by fusion where `voters` are given.

    Writes `<scan_id>_tpl-<template>_volumes.tsv` (region, volume_mm3) and `…_dseg.nii.gz` (native label map, numbers of
    `labels.REGIONS`).

    Returns
    -------
    dict
        scan_id, status and reason as `register` told them, and `volumes_mm3` by region; these are absent where nothing
        was registered.
    """
    register_dir, out_dir = Path(register_dir), Path(out_dir)
    told = names.read_verdict(register_dir, scan_id)
    names.forget_others(out_dir, scan_id, told["template"])
    if "files" not in told:  # a scan that quality control failed is measured too: a person may overrule the verdict
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
    inputs |= voters.digests if voters else {}
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
    mask = nib.load(files["mask"])
    native = Grid(mask.shape, np.asarray(mask.affine))
    segmented = native_labels(labels, native, matrix, back)
    fused = _fused(scan_id, np.asarray(mask.dataobj) > 0, to_scan, voters, settings) if voters else {}
    volumes |= {region: one.volume_mm3 for region, one in fused.items()}
    segmented = _merged(segmented, fused, native)
    ratio = (
        (told["native_per_space_volume"] or 1.0) if "space" in told else 1.0
    )  # measured where it was laid: convert.py
    volumes = with_totals({name: volume * ratio for name, volume in volumes.items()})
    outdate(table)
    with atomic(own["labels"]) as draft:
        nib.save(nib.Nifti1Image(segmented, native.affine), draft)
    ROI.write(_table(volumes, fused, ratio), table)
    record(table, **provenance)
    return done | {"volumes_mm3": volumes}


def _fused(
    scan_id: str, mask: np.ndarray, to_scan: tuple[np.ndarray, Warp, Warp], voters: Voters, settings: Measure
) -> dict[str, Fused]:
    """The regions that the atlases label, fused on the converted scan; its bias field does no harm."""
    image = nib.load(voters.convert_dir / scan_id / f"{scan_id}_T1w.nii.gz")
    brain = np.where(mask, np.asarray(image.dataobj, dtype=np.float32), np.float32(0))
    matrix, warp, _ = to_scan
    return fuse(brain, np.asarray(image.affine), matrix, warp, voters.atlases, mirror=settings.mirror)


def _merged(segmented: np.ndarray, fused: dict[str, Fused], native: Grid) -> np.ndarray:
    """The one-atlas label map (X, Y, Z) uint8 with the fused regions in place of its own."""
    if not fused:
        return segmented
    voted = label_map(fused, native)
    others = ~np.isin(segmented, [REGIONS[region] for region in fused])
    return np.where(voted > 0, voted, np.where(others, segmented, 0)).astype(np.uint8)


def _table(volumes: dict[str, float], fused: dict[str, Fused], ratio: float) -> pd.DataFrame:
    """One scan's volumes as `ROI` has them; the uncertainty where there was a vote."""
    frame = pd.DataFrame({"region": list(volumes), "volume_mm3": [round(v, 2) for v in volumes.values()]})
    if fused:
        frame["sd_mm3"] = [round(fused[r].sd_mm3 * ratio, 2) if r in fused else np.nan for r in volumes]
        frame["agreement"] = [round(fused[r].agreement, 4) if r in fused else np.nan for r in volumes]
    return frame


def region_volumes(labels: Labels, matrix: np.ndarray, warp: Warp) -> dict[str, float]:
    """Native volume of every region, mm³.

    Parameters
    ----------
    matrix, warp : template to native mm: (4, 4), and the displacement before it.
    """
    grid = label_box(labels, INTEGRAL_SPACING_MM)
    unfolded = np.maximum(jacobian(warp.onto(grid).voxels()), 0)  # a folded place has no volume
    growth = unfolded * abs(np.linalg.det(matrix[:3, :3])) * grid.voxel_mm3
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
