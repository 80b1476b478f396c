"""One scan to the template: brain, bias field, affine, warp; every output in one interpolation from the native scan.

The chain: the head is laid on a head template, whose brain mask comes back (`brain`); N4 inside the brain (`bias`);
affine to the brain template (`affine`), white matter set to 1; warp (`warp`); numbers, verdict and picture (`qc`,
`picture`). With `register.longitudinal`, see `longitudinal.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from elr_mri.config import Register
from elr_mri.imaging import batch as batches_
from elr_mri.imaging import brain, names, picture, qc
from elr_mri.imaging.affine import polish, register_affine
from elr_mri.imaging.demons import jacobian
from elr_mri.imaging.grids import Grid, antialias, at, pull
from elr_mri.imaging.packed import MAX_INTENSITY, MAX_LOG_JACOBIAN
from elr_mri.imaging.template import Template, brain_template, head_template
from elr_mri.imaging.transforms import Warp, to_native, write_affine, write_warp
from elr_mri.imaging.warp import deform, inverse
from elr_mri.provenance import atomic, is_current, outdate, read_json, record, write_json
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["register"]

#: How far from the template's brain a brain may reach under the affine map.
NEAR_MM = 9.0


@dataclass(frozen=True)
class Registered:
    """A registered scan in memory: native arrays (X, Y, Z), `volume` as scanned, and the map (4, 4) and warp from template
    to native mm."""

    volume: np.ndarray
    brain: np.ndarray
    mask: np.ndarray
    affine: np.ndarray
    matrix: np.ndarray
    warp: Warp


def register(
    scans_path: Path | str,
    convert_dir: Path | str,
    batch: str,
    batches: int,
    settings: Register,
    out_dir: Path | str,
) -> None:
    """Register every scan of a batch; writes `out_dir/<scan_id>/…` and `out_dir/batches/<batch>.tsv`."""
    scans, convert_dir, out_dir = batches_.members(scans_path, batch, batches), Path(convert_dir), Path(out_dir)

    def one(row) -> dict:
        return register_converted(convert_dir / row.scan_id, out_dir / row.scan_id, row.scan_id, settings)

    if settings.longitudinal:
        from elr_mri.imaging.longitudinal import by_subject  # which builds on this module

        one = by_subject(scans, convert_dir, out_dir, settings)
    batches_.run(scans, "register", one, out_dir / "batches" / f"{batch}.tsv")


def register_converted(convert_dir: Path | str, out_dir: Path | str, scan_id: str, settings: Register) -> dict:
    """Register what `convert` wrote in `convert_dir`; a scan that could not be converted fails here too, with that
    reason."""
    told = read_json(Path(convert_dir) / f"{scan_id}_convert.json")
    if told["status"] == "fail":
        return refuse(Path(out_dir), scan_id, f"not converted: {told['reason']}", settings)
    image = Path(convert_dir) / f"{scan_id}_T1w.nii.gz"
    placed = {key: told[key] for key in ("space", "native_per_space_volume", "native_note") if key in told}
    return register_scan(image, out_dir, scan_id, settings, sha256=told["sha256"], placed=placed)


def register_scan(
    image_path: Path | str,
    out_dir: Path | str,
    scan_id: str,
    settings: Register,
    *,
    sha256: str,
    placed: dict | None = None,
) -> dict:
    """Register one RAS+ scan and write everything about it.

    Parameters
    ----------
    image_path : path
        A converted scan, 3-D RAS+ NIfTI.
    sha256 : str
        Digest of its array, as `convert` told it.
    placed : dict
        For a scan that already lies in MNI space: `space`, `native_per_space_volume` and `native_note`, as `convert` told them. It is
        resampled to the study's grid, not registered again.

    Returns
    -------
    dict
        As written to `<scan_id>_space-<template>_qc.json`: scan_id, status, reason, reasons, numbers, files.
    """
    out_dir = Path(out_dir)
    names.forget_others(out_dir, scan_id, template_of(settings).id)
    provenance = origin({"T1w": sha256} | (placed or {}), settings)
    kept = kept_verdict(out_dir, scan_id, settings, provenance)
    if kept:
        return kept
    try:
        found = align_file(image_path, settings, placed)
    except (NoBrain, np.linalg.LinAlgError) as problem:
        return refuse(out_dir, scan_id, str(problem), settings)
    return publish(out_dir, scan_id, found, settings, provenance, placed or {})


def template_of(settings: Register) -> Template:
    """The template that scans are registered to."""
    return brain_template(settings.template, settings.template_mask)


def files_of(scan_id: str, settings: Register) -> dict[str, str]:
    """The names of what is written of a scan."""
    return names.registered(scan_id, template_of(settings).id, warped=settings.write_warped)


def origin(inputs: Mapping[str, Any], settings: Register) -> dict[str, Any]:
    """What a registered scan is made from, as `is_current` and `record` take it."""
    inputs = {**inputs, "template": template_of(settings).digest}
    return {"step": "register", "version": VERSION, "inputs": inputs, "settings": settings}


def kept_verdict(out_dir: Path, scan_id: str, settings: Register, provenance: Mapping[str, Any]) -> dict | None:
    """The verdict of a scan that is registered and still stands for its inputs; otherwise None."""
    files = files_of(scan_id, settings)
    if (out_dir / files["qc"]).exists() and is_current(out_dir / files["affine_image"], **provenance):
        return read_json(out_dir / files["qc"])
    return None


def align_file(image_path: Path | str, settings: Register, placed: Mapping[str, Any] | None = None) -> Registered:
    """Read a converted scan and register it by itself."""
    image = nib.load(image_path)
    volume = np.asarray(image.dataobj, dtype=np.float32)
    way = place if placed else align
    return way(volume, np.asarray(image.affine), template_of(settings), settings)


def numbers_of(template: Template, found: Registered) -> dict[str, float]:
    """Quality control's numbers of a registered scan."""
    return qc.numbers(template, found.volume, found.brain, found.mask, found.affine, found.matrix, found.warp)


def publish(
    out_dir: Path,
    scan_id: str,
    found: Registered,
    settings: Register,
    provenance: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> dict:
    """Judge a registered scan and write everything about it; `facts` go into its `qc.json`."""
    template, files = template_of(settings), files_of(scan_id, settings)
    numbers = numbers_of(template, found)
    status, reasons = qc.verdict(numbers)
    if "space" in facts and facts["native_per_space_volume"] is None:
        reasons.append(f"volumes are those in {facts['space']}: {facts['native_note']}")
        status = "review" if status == "pass" else status
    told = {
        "scan_id": scan_id,
        "status": status,
        "reason": "; ".join(reasons),
        "reasons": reasons,
        "numbers": {name: round(value, 4) for name, value in numbers.items()},
        "template": template.id,
        "template_source": settings.template,
        "template_mask": settings.template_mask,
        "files": files,
        **facts,
    }
    outdate(out_dir / files["affine_image"])
    _write(out_dir, files, found, template, settings)
    picture.draw(
        out_dir / files["picture"],
        template,
        found.volume,
        found.brain,
        found.affine,
        found.matrix,
        found.warp,
        caption=f"{scan_id}: {status}",
    )
    write_json(out_dir / files["qc"], told)
    record(
        out_dir / files["affine_image"], **provenance, template=template.id, intensity="1 is the median of white matter"
    )
    return told


class NoBrain(ValueError):
    """No brain was found in a scan; the message is the reason in its status."""


def align(volume: np.ndarray, affine: np.ndarray, template: Template, settings: Register) -> Registered:
    """The registration itself: no files.

    Parameters
    ----------
    volume : (X, Y, Z) float32, native RAS+, any units; `affine` (4, 4) its voxels to RAS+ mm.
    """
    scanned, volume = volume, np.clip(volume, 0, np.percentile(volume[::2, ::2, ::2], 99.9))
    grid = template.brain_grid(settings.affine_spacing_mm)
    still = template.image_on(grid)
    mask = brain.bare_brain(volume, affine)
    if mask is None:
        head = head_template()
        start = brain.head_affine(head, volume, affine)
        mask = brain.extract(head, volume, affine, start)
    else:
        start = register_affine(still, grid, volume * mask, affine)
    if mask.sum() * abs(np.linalg.det(affine[:3, :3])) < 2e5:
        raise NoBrain("no brain found: the head template's brain falls outside the scan")
    corrected = _unbiased(volume, affine, mask, settings)
    matrix = polish(still, grid, corrected, affine, start, spacing_mm=settings.affine_spacing_mm)
    mask &= _near_brain(template, volume.shape, affine, matrix)
    corrected = np.where(mask, corrected, 0)
    corrected = np.clip(corrected / white_level(template, corrected, affine, matrix), 0, MAX_INTENSITY)
    return Registered(scanned, corrected, mask, affine, matrix, deform(template, corrected, affine, matrix, settings))


def place(volume: np.ndarray, affine: np.ndarray, template: Template, settings: Register) -> Registered:
    """`align` for a scan that already lies in MNI space: the affine is the template's to MNI, and its bias field is gone.

    The MNI152 templates share one space in mm; the head template's Colin27 was laid there too.
    """
    scanned, volume = volume, np.clip(volume, 0, np.percentile(volume[::2, ::2, ::2], 99.9))
    matrix = np.linalg.inv(template.from_mni)
    mask = brain.bare_brain(volume, affine)
    if mask is None:
        mask = brain.extract(head_template(), volume, affine, np.eye(4))
    if mask.sum() * abs(np.linalg.det(affine[:3, :3])) < 2e5:
        raise NoBrain("no brain found: the scan does not lie where its space says")
    mask &= _near_brain(template, volume.shape, affine, matrix)
    bare = np.where(mask, volume, 0)
    bare = np.clip(bare / white_level(template, bare, affine, matrix), 0, MAX_INTENSITY)
    return Registered(scanned, bare, mask, affine, matrix, deform(template, bare, affine, matrix, settings))


def _unbiased(volume: np.ndarray, affine: np.ndarray, mask: np.ndarray, settings: Register) -> np.ndarray:
    """The brain with its bias field divided out, 0 outside the mask."""
    from elr_mri.imaging.bias import bias_field  # loads ANTs, which takes seconds

    field = bias_field(volume, affine, mask, spacing_mm=settings.n4_spacing_mm, iterations=settings.n4_iterations)
    return np.where(mask, volume / field, np.float32(0))


def _near_brain(template: Template, shape: tuple[int, ...], affine: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Native voxels within about `NEAR_MM` of the template's brain under the affine map, (X, Y, Z) bool.

    What a brain mask holds beyond (bits of neck or orbit, an over-generous mask of others) is not brain.
    """
    grid = template.brain_grid(4.0)
    inside = template.mask_on(grid) > 0.5
    near = ndimage.distance_transform_edt(~inside, sampling=grid.spacing_mm) < NEAR_MM
    step = np.linalg.inv(grid.affine) @ np.linalg.inv(matrix) @ affine
    return (
        ndimage.affine_transform(near.astype(np.float32), step[:3, :3], step[:3, 3], output_shape=shape, order=1) > 0.5
    )


def white_level(template: Template, brain_volume: np.ndarray, affine: np.ndarray, matrix: np.ndarray) -> float:
    """Median intensity where the template is brightest (its top fifth: deep white matter); atrophy and CSF do not move
    it."""
    grid = template.brain_grid(4.0)
    still = template.image_on(grid)
    inside = template.mask_on(grid) > 0.5
    moved = pull(brain_volume, affine, grid, matrix)
    white = inside & (still > np.percentile(still[inside], 80)) & (moved > 0)
    return max(float(np.median(moved[white])), 1e-6) if white.any() else 1.0


def _write(out_dir: Path, files: dict[str, str], found: Registered, template: Template, settings: Register) -> None:
    """Write images and transforms of a registered scan."""
    grid = template.study_grid(settings.spacing_mm)
    _save(out_dir / files["mask"], found.mask.astype(np.uint8), found.affine)
    write_affine(out_dir / files["affine"], found.matrix)
    write_warp(out_dir / files["warp"], found.warp)
    write_warp(out_dir / files["inverse_warp"], inverse(found.warp))
    _save(out_dir / files["affine_image"], pull(found.brain, found.affine, grid, found.matrix), grid.affine)
    if settings.write_warped:
        _save(out_dir / files["warped_image"], warped(found, grid), grid.affine)
        _save(
            out_dir / files["log_jacobian"],
            log_jacobian(found.warp, template, grid),
            grid.affine,
        )


def warped(found: Registered, grid: Grid) -> np.ndarray:
    """The brain on a grid of template space through warp and affine, in one interpolation; (X, Y, Z) float32."""
    spacing = np.sqrt((found.affine[:3, :3] ** 2).sum(axis=0))
    smooth = antialias(found.brain, spacing, float(grid.spacing_mm.mean()))
    return at(smooth, found.affine, to_native(grid.points(), found.matrix, found.warp), mode="constant")


def log_jacobian(warp: Warp, template: Template, grid: Grid) -> np.ndarray:
    """Natural logarithm of the warp's local volume ratio on a grid of template space, (X, Y, Z) float32; 0 outside the brain.

    Positive where the scan's tissue is larger than the template's, given the same head size: the affine's ratio, one
    number per scan, is left out, as `measure` divides by an intracranial volume that follows the affine. Clipped at ±
    `MAX_LOG_JACOBIAN`, folds at its lower end. Taken on the warp's own grid, where the field is not interpolated.
    """
    ends = np.exp([-MAX_LOG_JACOBIAN, MAX_LOG_JACOBIAN])
    ratio = np.log(np.clip(jacobian(warp.voxels()), *ends)).astype(np.float32)
    return np.where(template.mask_on(grid) > 0.5, at(ratio, warp.grid.affine, grid.points()), np.float32(0))


def _save(path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    with atomic(path) as draft:
        nib.save(image, draft)


def refuse(out_dir: Path, scan_id: str, reason: str, settings: Register) -> dict:
    """Write and return the verdict of a scan that could not be registered at all."""
    told = {"scan_id": scan_id, "status": "fail", "reason": reason, "reasons": [reason], "numbers": {}}
    template = template_of(settings)
    told["template"] = template.id
    names.forget_others(out_dir, scan_id, template.id)
    outdate(out_dir / names.registered(scan_id, template.id)["affine_image"])
    write_json(out_dir / names.registered(scan_id, template.id)["qc"], told)
    return told
