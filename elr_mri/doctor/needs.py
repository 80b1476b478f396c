"""Disk and memory that a run will take, from the sizes of its grids.

A file is voxels × bytes per voxel × what gzip leaves of them. The shares that gzip leaves were measured: on the 223 scans of the
default study, 3 mm (converted 0.45, registered 0.30, mask and labels 0.03, warps 0.48), and on two real heads at 1.5 mm (0.21-0.26, 0.26, 0.03,
0.49-0.52); the larger one is taken. Of the 1.15 GB that the default study's imaging folder takes, the estimate is within 5 %.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from elr_mri.config import Study
from elr_mri.scans.imagepath import READ_ERRORS, open_bytes, split_member
from elr_mri.stages import MEMORY_MB

GZIP = {"converted": 0.45, "registered": 0.30, "mask": 0.035, "warp": 0.50}

#: A picture of the registration, and eleven small files of a disk block each, in bytes.
SMALL_FILES = 440_000 + 11 * 4096
#: A scan of an adult head where there is none to look at: ADNI's MPRAGE, 256 × 256 × 170.
NATIVE_VOXELS = 256 * 256 * 170
#: Report, tables, figures, saliency maps.
FINDINGS = 20_000_000
#: The phantom's true warp of a scan.
PHANTOM_TRUTH = 1_400_000
_SAMPLE = 20


@dataclass(frozen=True)
class Need:
    """Disk for one kind of file: `each` bytes, how many of them, and the formula in words."""

    what: str
    each: float
    n: int
    formula: str

    @property
    def total(self) -> float:
        """Bytes for all of them."""
        return self.each * self.n


def disk(study: Study, *, n_scans: int, n_phantoms: int, native_voxels: int, parameters: dict[str, int]) -> list[Need]:
    """Disk by kind of file.

    Parameters
    ----------
    n_scans : scans that the run takes in
    n_phantoms : scans that the phantom has still to make
    native_voxels : voxels of a scan as downloaded
    parameters : by model, empty where torch is not there to tell
    """
    from elr_mri.imaging.template import brain_grid, study_grid

    register, mega = study.register, 1e6
    grid = study_grid(register.spacing_mm).shape
    field = brain_grid(register.field_spacing_mm).shape
    size, native = prod(grid), native_voxels / mega
    copies, item = 3 if register.write_warped else 1, 1 if study.pack.dtype == "uint8" else 2
    channels = 2 if study.pack.space == "warped-jacobian" else 1
    box = " x ".join(map(str, grid))
    needs = [
        Need(
            "converted scan",
            4 * native_voxels * GZIP["converted"],
            n_scans,
            f"{native:.1f} M voxels x 4 B x 0.45 (gzip)",
        ),
        Need(
            "registered scan" + ("s" if copies == 3 else ""),
            copies * 4 * size * GZIP["registered"],
            n_scans,
            f"{box} x 4 B x 0.30 (gzip)" + (" x 3 (write_warped)" if copies == 3 else ""),
        ),
        Need(
            "brain mask, labels", native_voxels * GZIP["mask"], n_scans, f"{native:.1f} M voxels x 1 B x 0.035 (gzip)"
        ),
        Need(
            "warp and inverse",
            24 * prod(field) * GZIP["warp"],
            n_scans,
            f"{' x '.join(map(str, field))} x 3 x 4 B x 2 x 0.5 (gzip)",
        ),
        Need("picture, small files", SMALL_FILES, n_scans, "0.44 MB + 11 disk blocks"),
        Need(
            "cache",
            channels * size * item,
            n_scans,
            (f"{channels} x " if channels > 1 else "") + f"{box} x {item} B ({study.pack.dtype})",
        ),
    ]
    if n_phantoms:
        needs.insert(
            0,
            Need(
                "phantom scan",
                2 * native_voxels + PHANTOM_TRUTH,
                n_phantoms,
                f"{native:.1f} M voxels x 2 B + true warp 1.4 MB",
            ),
        )
    if parameters:
        needs.append(_models(study, parameters, size))
    needs.append(Need("tables and report", FINDINGS, 1, "as measured on the built-in study"))
    return needs


def _models(study: Study, parameters: dict[str, int], size: int) -> Need:
    """Model folders: the weights are kept three times (the model, the best epoch, the state to resume from), with the
    voxel-wise standardisation beside them, and the optimizer's slots once."""
    train = study.train
    slots = 2 if train.optimizer == "adamw" else int(train.momentum > 0)
    maps = 2 * size if train.standardise == "voxel" else 0
    n = len(parameters) * len(study.seeds)
    mean = sum(parameters.values()) / len(parameters)
    return Need(
        "model", 4 * ((3 + slots) * mean + 3 * maps), n, f"{mean / 1e6:.1f} M parameters x 4 B x {3 + slots} copies"
    )


def native_voxels(images: Sequence[str]) -> int | None:
    """The mean number of voxels of a few of the images, from their headers; None where none tells."""
    step = max(1, len(images) // _SAMPLE)
    told = [n for path in images[::step][:_SAMPLE] if (n := _voxels(path))]
    return round(sum(told) / len(told)) if told else None


def _voxels(image_path: str) -> int | None:
    """Voxels of a NIfTI image by its header, of a DICOM folder by its size (two bytes each)."""
    on_disk, member = split_member(image_path)
    if member is None and on_disk.is_dir():
        return sum(entry.stat().st_size for entry in os.scandir(on_disk) if entry.is_file()) // 2 or None
    try:
        with open_bytes(image_path) as file:
            raw = file.read(348) if not image_path.lower().endswith(".gz") else gzip.GzipFile(fileobj=file).read(348)
    except (*READ_ERRORS, zlib.error):
        return None
    if len(raw) < 348:
        return None
    order = "<" if struct.unpack("<i", raw[:4])[0] in (348, 540) else ">"
    if struct.unpack(order + "i", raw[:4])[0] == 540:  # NIfTI-2
        shape = struct.unpack(order + "8q", raw[16:80])
    else:
        shape = struct.unpack(order + "8h", raw[40:56])
    return prod(shape[1:4]) if 3 <= shape[0] <= 7 and min(shape[1:4]) > 0 else None


def jobs(cores: int, memory: int | None) -> list[tuple[str, int, int]]:
    """Stage, MB reserved by one of its jobs, and how many fit side by side into the cores and the memory."""
    room = memory / 1e6 if memory else float("inf")
    return [(stage, mb, int(max(1, min(cores, room // mb)))) for stage, mb in MEMORY_MB.items()]


def size_under(folder: Path) -> int:
    """Bytes of the files below a folder that need not be there."""
    return sum(os.lstat(os.path.join(root, name)).st_size for root, _, names in os.walk(folder) for name in names)
