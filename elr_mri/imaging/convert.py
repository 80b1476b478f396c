"""Native scans to RAS+ NIfTI: orientation and header questions are settled here, once.

Reads NIfTI, MGZ, an image inside a zip (`archive.zip!member`) and DICOM, a folder or one file (by dcm2niix). A scan that cannot be
used is a result: status `fail` and the reason.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np

from elr_mri.config import Convert
from elr_mri.imaging import batch as batches_
from elr_mri.provenance import atomic, digest_json, is_current, read_json, record, write_json
from elr_mri.scans.imagepath import READ_ERRORS, split_member
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["convert"]
SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh", ".img", ".hdr")

#: A head at 0.25 mm has 5e8 voxels. No gzip file is smaller than its content by more than this factor.
MAX_VOXELS, DEFLATE_AT_MOST = 600_000_000, 1032

#: What readers raise on a broken file (seen on truncated, mislabelled and empty files).
UNREADABLE = (
    *READ_ERRORS,
    ValueError,
    TypeError,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.freesurfer.mghformat.MGHError,
)


class Unusable(ValueError):
    """A scan that this pipeline cannot use; the message is the reason in its status."""


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
        A NIfTI or MGZ file, a DICOM folder or file (`.dcm.gz` too), or `archive.zip!member`.

    Returns
    -------
    dict
        As written to `<scan_id>_convert.json`: scan_id, status (pass | fail), reason, source, and for a usable scan
        `sha256` of the canonical array, shape, spacing_mm, source_axes. The image is `<scan_id>_T1w.nii.gz`.
    """
    out_dir = Path(out_dir)
    image_path, told_path = out_dir / f"{scan_id}_T1w.nii.gz", out_dir / f"{scan_id}_convert.json"
    inputs = {"source": _fingerprint(source)}
    provenance = {"step": "convert", "version": VERSION, "inputs": inputs, "settings": settings}
    if told_path.exists() and is_current(image_path, **provenance):
        return read_json(told_path)
    told = {"scan_id": scan_id, "status": "pass", "reason": "", "source": source}
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
        }
        record(image_path, **provenance)
    write_json(told_path, told)
    return told


def read_canonical(path: Path, settings: Convert) -> tuple[nib.Nifti1Image, tuple[str, ...]]:
    """A file as a 3-D RAS+ float32 image, with the axes that it was stored in; raises `Unusable` with the reason.

    Only axes are swapped and flipped; no voxel is interpolated. An oblique scan keeps its rotation in the affine.
    """
    try:
        image = nib.load(path)
        _check_header(image, settings)
        _check_size(image)
        volume = np.asarray(image.dataobj, dtype=np.float32)
        _check_end(path)
    except Unusable:
        raise
    except UNREADABLE as problem:
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


def _check_size(image: nib.spatialimages.SpatialImage) -> None:
    """Raise `Unusable` before memory is taken for voxels that the file cannot hold, or that are too many for a head."""
    n, stored = math.prod(image.shape), Path(image.file_map["image"].filename)
    if n > MAX_VOXELS:
        raise Unusable(f"{' x '.join(map(str, image.shape))} voxels; at most {MAX_VOXELS:.2g} are read")
    room = stored.stat().st_size * (DEFLATE_AT_MOST if stored.suffix.lower() in (".gz", ".mgz") else 1)
    if n * image.get_data_dtype().itemsize > room:
        raise Unusable(f"unreadable: shorter than its header says, {' x '.join(map(str, image.shape))} voxels")


def _check_end(path: Path) -> None:
    """Read a gzip file to its end, where its checksum stands; an image is whole without it, and may be damaged."""
    if path.suffix.lower() in (".gz", ".mgz"):
        with gzip.open(path) as file:
            while file.read(2**22):
                pass


def digest_array(volume: np.ndarray) -> str:
    """SHA-256 of shape and values (little-endian float32, C order): equal for equal canonical arrays."""
    content = np.ascontiguousarray(volume, dtype="<f4")
    return hashlib.sha256(str(content.shape).encode() + content.tobytes()).hexdigest()


@contextmanager
def local_file(source: str, work_dir: Path) -> Iterator[Path]:
    """A readable image file for `source`; what had to be unpacked disappears when the block ends."""
    path, member = split_member(source)
    if not os.path.exists(path):
        raise Unusable("no such file")
    if not (path.is_file() or path.is_dir()):
        raise Unusable("neither a file nor a folder")
    alone = member is None and path.is_file()
    if alone and not _is_dicom(path):
        yield path
        return
    work_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=work_dir) as scratch:
        if member is not None:
            yield _unzip(path, member, Path(scratch))
        else:
            yield _dicom(_by_itself(path, Path(scratch)) if alone else path, Path(scratch))


def _is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM (`DICM` after 128 bytes); an enhanced one holds a whole head."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except UNREADABLE:
        return False  # the reader will say what is wrong with it


def _by_itself(path: Path, scratch: Path) -> Path:
    """A folder that holds one DICOM file and nothing of what lies beside it; unpacked, for dcm2niix reads no gzip."""
    folder = scratch / "dicom"
    folder.mkdir()
    try:
        packed = gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb")
        with packed, open(folder / "scan.dcm", "wb") as file:
            shutil.copyfileobj(packed, file, length=1 << 20)
    except UNREADABLE as problem:
        raise Unusable(f"unreadable: {' '.join(str(problem).split())[:160]}") from problem
    return folder


def _unzip(archive: Path, member: str, scratch: Path) -> Path:
    """Stream one member of a zip into `scratch`, under a name of ours, so that it cannot land elsewhere."""
    suffix = next((s for s in SUFFIXES if member.lower().endswith(s)), None)
    if suffix is None:
        raise Unusable(f"{member} is no NIfTI or MGZ file")
    target = scratch / f"scan{suffix}"
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as stream, open(target, "wb") as file:
            shutil.copyfileobj(stream, file, length=1 << 20)
    except UNREADABLE as problem:
        raise Unusable(f"unreadable in the archive: {' '.join(str(problem).split())[:160]}") from problem
    return target


def _dicom(folder: Path, scratch: Path) -> Path:
    """Convert a DICOM folder with dcm2niix; of several series the one with most voxels is the scan."""
    import dcm2niix  # carries the binary

    options = ["-b", "n", "-z", "n", "-m", "y", "-x", "n", "-f", "scan"]
    done = subprocess.run(
        [dcm2niix.bin, *options, "-o", str(scratch), str(folder.absolute())],  # so that `-x` is no option
        capture_output=True,
        text=True,
        check=False,
    )
    found = [path for path in sorted(scratch.glob("*.nii")) if not path.stem.endswith("_Eq")]
    straightened = sorted(scratch.glob("*_Eq*.nii"))
    if not found:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
        raise Unusable(f"dcm2niix made no image: {lines[-1].replace(f'{folder.absolute()}/', '')[:160]}")
    return max(straightened or found, key=lambda path: path.stat().st_size)


def _fingerprint(source: str) -> str:
    """A digest that changes when the source does: names, sizes and times, not the bytes of a whole archive."""
    archive, member = split_member(source)
    path = Path(archive)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] * path.exists()
    return digest_json([member, [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]])
