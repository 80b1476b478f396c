"""Native scans to RAS+ NIfTI: orientation and header questions are settled here, once.

Reads NIfTI, MGZ and DICOM folders, also inside a zip (`unpack.py`). A scan that cannot be
used is a result: status `fail` and the reason.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np

from elr_mri.config import Convert
from elr_mri.errors import of_the_machine
from elr_mri.imaging import batch as batches_
from elr_mri.imaging.linear import registered_to
from elr_mri.imaging.unpack import SUFFIXES, UNREADABLE, Unusable, local_file
from elr_mri.provenance import atomic, digest_json, is_current, outdate, read_json, record, write_json
from elr_mri.scans.imagepath import MAX_BYTES, split_member
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["convert"]
#: No head scan is larger: 2^28 voxels are 645 a side.
MAX_VOXELS = 1 << 28


def convert(scans_path: Path | str, batch: str, batches: int, settings: Convert, out_dir: Path | str) -> None:
    """Convert every scan of a batch; writes `out_dir/<scan_id>/…` and `out_dir/batches/<batch>.tsv`."""
    scans, out_dir = batches_.members(scans_path, batch, batches), Path(out_dir)
    batches_.run(
        scans,
        "convert",
        lambda row: convert_scan(row.image_path, out_dir / row.scan_id, row.scan_id, settings),
        out_dir / "batches" / f"{batch}.tsv",
    )


def convert_scan(source: str, out_dir: Path | str, scan_id: str, settings: Convert) -> dict:
    """Bring one scan to RAS+ float32 NIfTI.

    Parameters
    ----------
    source : str
        A NIfTI or MGZ file, a DICOM folder or a file of a DICOM series, `archive.zip!member` or `archive.zip!folder/`
        (DICOM). Of a folder with several series the one that says it is a T1-weighted scan is taken.

    Returns
    -------
    dict
        As written to `<scan_id>_convert.json`: scan_id, status (pass | fail), reason, source, and for a usable scan
        `sha256` of the canonical array, shape, spacing_mm, source_axes. The image is `<scan_id>_T1w.nii.gz`.
    """
    out_dir = Path(out_dir)
    image_path, told_path = out_dir / f"{scan_id}_T1w.nii.gz", out_dir / f"{scan_id}_convert.json"
    placed = registered_to(source)
    inputs = {"source": _fingerprint(source)} | ({"placed": digest_json(placed)} if placed else {})
    provenance = {"step": "convert", "version": VERSION, "inputs": inputs, "settings": settings}
    if told_path.exists() and is_current(image_path, **provenance):
        return read_json(told_path)
    told = {"scan_id": scan_id, "status": "pass", "reason": "", "source": source}
    outdate(image_path)
    try:
        with local_file(source, out_dir) as path:
            image, axes = read_canonical(path, settings)
    except Unusable as problem:
        image_path.unlink(missing_ok=True)
        told |= {"status": "fail", "reason": str(problem)}
    else:
        with atomic(image_path) as draft:
            nib.save(image, draft)
        volume = np.asarray(image.dataobj)
        told |= {
            "sha256": digest_array(volume),
            "shape": list(volume.shape),
            "source_axes": "".join(axes),
            "spacing_mm": [round(float(mm), 4) for mm in image.header.get_zooms()],
            **placed,
        }
    write_json(told_path, told)
    if told["status"] == "pass":
        record(image_path, **provenance)
    return told


def read_canonical(path: Path, settings: Convert) -> tuple[nib.Nifti1Image, tuple[str, ...]]:
    """A file as a 3-D RAS+ float32 image, with the axes that it was stored in; raises `Unusable` with the reason.

    Only axes are swapped and flipped; no voxel is interpolated. An oblique scan keeps its rotation in the affine.
    """
    try:
        image = nib.load(path)
        _check_header(image, settings)
        _check_stream(path)
        volume = np.asarray(image.dataobj, dtype=np.float32)
    except Unusable:
        raise
    except UNREADABLE as problem:
        if of_the_machine(problem):
            raise
        raise Unusable(f"unreadable: {' '.join(str(problem).split())[:160]}") from problem
    volume = volume.reshape(volume.shape[:3])
    if not np.isfinite(volume).all():
        raise Unusable(f"{100 * np.mean(~np.isfinite(volume)):.3g} % of the voxels are not finite numbers")
    if volume.max() == volume.min():
        raise Unusable("every voxel has the same value")
    straight = nib.as_closest_canonical(nib.Nifti1Image(volume, image.affine))
    out = nib.Nifti1Image(np.ascontiguousarray(np.asarray(straight.dataobj)), straight.affine)
    out.header.set_xyzt_units("mm")
    return out, nib.aff2axcodes(image.affine)


def _check_header(image: nib.spatialimages.SpatialImage, settings: Convert) -> None:
    """Raise `Unusable` where the header already says that this is no usable T1 volume."""
    shape = image.shape
    if len(shape) < 3 or (len(shape) > 3 and np.prod(shape[3:]) != 1) or min(shape[:3]) < 2:
        raise Unusable(f"not one 3-D volume: shape {' x '.join(map(str, shape))}")
    if np.prod([float(n) for n in shape]) > MAX_VOXELS:
        raise Unusable(f"a header of {' x '.join(map(str, shape))} voxels, more than any scanner makes")
    if image.get_data_dtype().kind not in "iuf":
        raise Unusable(f"voxels are {image.get_data_dtype()}, not real numbers")
    axes = np.asarray(image.affine)[:3, :3]
    spacing = np.sqrt((axes**2).sum(axis=0))
    if not np.isfinite(image.affine).all() or (spacing <= 0).any():
        raise Unusable("the affine is not invertible")
    cosines = (axes / spacing).T @ (axes / spacing)
    if np.abs(cosines - np.eye(3)).max() > 0.02:  # 0.02: about one degree away from a right angle
        raise Unusable("sheared: the voxel axes are not at right angles")
    if spacing.max() > settings.max_spacing_mm:
        raise Unusable(f"voxels of {spacing.max():.3g} mm; at most {settings.max_spacing_mm:g} mm is usable")
    extent = spacing * shape[:3]
    if extent.min() < settings.min_extent_mm:
        raise Unusable(f"covers only {extent.min():.3g} mm; a head needs {settings.min_extent_mm:g} mm")


def _check_stream(path: Path) -> None:
    """Read a compressed file to its end: only there stands the checksum, and a damaged one may decompress to wrong voxels."""
    if path.suffix.lower() not in (".gz", ".mgz"):
        return
    n_bytes = 0
    with gzip.open(path) as stream:
        while chunk := stream.read(1 << 20):
            n_bytes += len(chunk)
            if n_bytes > MAX_BYTES:
                raise Unusable(f"decompresses to more than {MAX_BYTES >> 30} GiB")


def digest_array(volume: np.ndarray) -> str:
    """SHA-256 of shape and values (little-endian float32, C order): equal for equal canonical arrays."""
    content = np.ascontiguousarray(volume, dtype="<f4") + np.float32(0)  # −0, as a negative slope makes it, is 0
    return hashlib.sha256(str(content.shape).encode() + content.tobytes()).hexdigest()


def _fingerprint(source: str) -> str:
    """A digest that changes when the source does: names, sizes and times, not the bytes of a whole archive."""
    archive, member = split_member(source)
    path = Path(archive)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
    elif member is None and not path.name.lower().endswith(SUFFIXES):  # a DICOM file, perhaps one of a series
        member = path.name
        files = sorted(p for p in path.parent.glob("*") if p.is_file())
    else:
        files = [path] * path.exists()
    return digest_json([member, [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]])
