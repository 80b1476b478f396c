"""The cache contract: every registered volume in one memory-mapped array, so that training never opens a NIfTI.

    volumes.npy      (N, X, Y, Z) uint8 or float16, RAS+, the study grid
    index.tsv        row, scan_id: which volume is which scan
    meta.json        version, space, template, affine, spacing, intensity mapping, hash of every source scan
    roi_volumes.tsv  scan_id and one column per region, mm³
    status.tsv       scan_id, step, status, reason: the final state of every scan of the scan table

`pack` writes it, `Cache` reads it; nothing else knows the files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from elr_mri.config import Pack
from elr_mri.errors import BadInput
from elr_mri.imaging import names
from elr_mri.imaging.batch import STATES
from elr_mri.imaging.labels import VOLUMES
from elr_mri.imaging.measure import ROI
from elr_mri.imaging.register import MAX_INTENSITY
from elr_mri.provenance import atomic, digest_file, digest_json, read_json, record, sidecar, write_json
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["pack"]

#: Version of the contract; a reader refuses another.
CACHE_VERSION = 1

INDEX = Schema(
    name="cache index", version=1, key=("scan_id",), columns=(Column("row", "integer", low=0), Column("scan_id"))
)
ROI_TABLE = Schema(
    name="ROI volume",
    version=1,
    key=("scan_id",),
    columns=(Column("scan_id"), *(Column(region, "number", low=0) for region in VOLUMES)),
)
STATUS = Schema(
    name="scan status",
    version=1,
    key=("scan_id",),
    columns=(
        Column("scan_id"),
        Column("step", required=False),
        Column("status", allowed=STATES),
        Column("reason", required=False),
    ),
)

#: What each stored type does to intensities in 0 … `MAX_INTENSITY` (white matter 1): stored = round(intensity × scale).
#: The error of a stored intensity is at most `error`: half a step of uint8, half a unit in the last place of float16.
MAPPINGS: dict[str, dict[str, float]] = {
    "uint8": {"scale": 255 / MAX_INTENSITY, "error": MAX_INTENSITY / 510},
    "float16": {"scale": 1.0, "error": 2.0**-11},
}


@dataclass(frozen=True, eq=False)
class Cache:
    """A packed cache: `volumes` (N, X, Y, Z) as stored, memory-mapped; `index` (row, scan_id); `meta` as in
    meta.json."""

    volumes: np.ndarray
    index: pd.DataFrame
    meta: dict[str, Any]

    @classmethod
    def read(cls, folder: Path | str) -> Cache:
        """Open a cache; raises `BadInput` where its version or its parts do not fit each other."""
        folder = Path(folder)
        missing = [name for name in ("volumes.npy", "index.tsv", "meta.json") if not (folder / name).is_file()]
        if missing:
            _refuse(folder, "volumes.npy, index.tsv and meta.json", f"no {', '.join(missing)}")
        meta, index = read_json(folder / "meta.json"), INDEX.read(folder / "index.tsv")
        if meta.get("version") != CACHE_VERSION:
            _refuse(folder, f"a cache of version {CACHE_VERSION}", f"version {meta.get('version')}")
        volumes = np.load(folder / "volumes.npy", mmap_mode="r")
        told = (len(index), *meta["shape"])
        if volumes.shape != told or str(volumes.dtype) != meta["dtype"]:
            _refuse(folder, f"volumes of shape {told}, {meta['dtype']}", f"{volumes.shape}, {volumes.dtype}")
        if list(index["row"]) != list(range(len(index))):
            _refuse(folder, "rows 0, 1, 2 … in index.tsv", "another order")
        return cls(volumes, index, meta)

    def __len__(self) -> int:
        return len(self.index)

    def row(self, scan_id: str) -> int:
        """The row of a scan; raises `KeyError` for one that is not packed."""
        found = self.index.loc[self.index["scan_id"] == scan_id, "row"]
        if found.empty:
            raise KeyError(scan_id)
        return int(found.iloc[0])

    def volume(self, scan_id: str) -> np.ndarray:
        """One scan's intensities, (X, Y, Z) float32, white matter about 1."""
        return decode(self.volumes[self.row(scan_id)])


def encode(volume: np.ndarray, dtype: str) -> np.ndarray:
    """Intensities (X, Y, Z) as stored in a cache of `dtype`; what is not in 0 … `MAX_INTENSITY` is clipped."""
    scaled = np.clip(volume, 0, MAX_INTENSITY) * MAPPINGS[dtype]["scale"]
    return (np.rint(scaled) if dtype == "uint8" else scaled).astype(dtype)


def decode(stored: np.ndarray) -> np.ndarray:
    """The intensities of stored volumes, float32."""
    return np.asarray(stored, dtype=np.float32) / np.float32(MAPPINGS[str(stored.dtype)]["scale"])


def pack(
    scans_path: Path | str,
    convert_dir: Path | str,
    register_dir: Path | str,
    measure_dir: Path | str,
    settings: Pack,
    out_dir: Path | str,
) -> None:
    """Gather what the per-scan steps wrote into a cache in `out_dir`; scans that failed are left out and told in
    status.tsv."""
    scans, out_dir = read_scans(scans_path), Path(out_dir)
    folders = {"convert": Path(convert_dir), "register": Path(register_dir), "measure": Path(measure_dir)}
    states = pd.DataFrame([_state(scan_id, folders) for scan_id in scans["scan_id"]])
    kept = list(states.loc[states["status"] != "fail", "scan_id"])
    print(
        f"pack {len(kept)} of {len(scans)} scans; {len(scans) - len(kept)} failed and are told in status.tsv",
        flush=True,
    )
    STATUS.write(states, out_dir / "status.tsv")
    if not kept:
        raise BadInput(
            expected="at least one registered scan",
            got="only failures",
            where=str(register_dir),
            fix=f"See {out_dir / 'status.tsv'} for the reason of every scan.",
        )
    paths = [volume_path(folders["register"], scan_id, settings.space) for scan_id in kept]
    rois = pd.DataFrame([_rois(folders, scan_id) for scan_id in kept])
    affine = _write_volumes(paths, settings, out_dir / "volumes.npy")
    INDEX.write(pd.DataFrame({"row": range(len(kept)), "scan_id": kept}), out_dir / "index.tsv")
    ROI_TABLE.write(rois, out_dir / "roi_volumes.tsv")
    first = names.read_verdict(folders["register"] / kept[0], kept[0])
    shape = nib.load(paths[0]).shape
    sources = {
        scan_id: read_json(folders["convert"] / scan_id / f"{scan_id}_convert.json")["sha256"] for scan_id in kept
    }
    write_json(
        out_dir / "meta.json",
        {
            "version": CACHE_VERSION,
            "space": settings.space,
            "template": first["template"],
            "affine": affine.tolist(),
            "spacing_mm": float(abs(affine[0, 0])),
            "shape": list(shape),
            "dtype": settings.dtype,
            "intensity": {"white_matter": 1.0, "maximum": MAX_INTENSITY, **MAPPINGS[settings.dtype]},
            "sources": sources,
            "volumes_sha256": digest_file(out_dir / "volumes.npy"),
            "settings": _settings_of(kept[0], folders),
        },
    )
    inputs = {"scans": digest_file(scans_path), "sources": digest_json(sources)}
    record(out_dir / "volumes.npy", step="pack", version=VERSION, inputs=inputs, settings=settings, n_scans=len(kept))


def _settings_of(scan_id: str, folders: dict[str, Path]) -> dict[str, Any]:
    """How the scans were prepared: the sections of the three steps, so that one more scan can be prepared alike."""
    told = names.read_verdict(folders["register"] / scan_id, scan_id)
    files = {
        "convert": f"{scan_id}_T1w.nii.gz",
        "register": told["files"]["affine_image"],
        "measure": names.measured(scan_id, told["template"])["volumes"],
    }
    return {step: read_json(sidecar(folders[step] / scan_id / name))["settings"] for step, name in files.items()}


def volume_path(register_dir: Path, scan_id: str, space: str) -> Path:
    """The registered volume of a scan in `space` (affine | syn); raises `BadInput` where register did not write it."""
    files = names.read_verdict(register_dir / scan_id, scan_id)["files"]
    name = files.get(f"{space}_image")
    if name is None:
        raise BadInput(
            expected=f"scans in {space} space",
            got="none written by register",
            where=str(register_dir),
            fix="Set `register.write_syn: true`, or `pack.space: affine`.",
        )
    return register_dir / scan_id / name


def _state(scan_id: str, folders: dict[str, Path]) -> dict[str, str]:
    """The last word on a scan: the first step that failed it, or QC's verdict."""
    told = read_json(folders["convert"] / scan_id / f"{scan_id}_convert.json")
    if told["status"] == "fail":
        return {"scan_id": scan_id, "step": "convert", "status": "fail", "reason": told["reason"]}
    told = names.read_verdict(folders["register"] / scan_id, scan_id)
    return {"scan_id": scan_id, "step": "register", "status": told["status"], "reason": told["reason"]}


def _rois(folders: dict[str, Path], scan_id: str) -> dict[str, Any]:
    """One row of roi_volumes.tsv."""
    template = names.read_verdict(folders["register"] / scan_id, scan_id)["template"]
    frame = ROI.read(folders["measure"] / scan_id / names.measured(scan_id, template)["volumes"])
    return {"scan_id": scan_id, **dict(zip(frame["region"], frame["volume_mm3"], strict=True))}


def _write_volumes(paths: Iterable[Path], settings: Pack, out: Path) -> np.ndarray:
    """Write volumes.npy one volume at a time; returns the affine (4, 4) that all share."""
    paths = list(paths)
    first = nib.load(paths[0])
    with atomic(out) as draft:
        array = np.lib.format.open_memmap(draft, mode="w+", dtype=settings.dtype, shape=(len(paths), *first.shape))
        for row, path in enumerate(paths):
            image = nib.load(path)
            if image.shape != first.shape or not np.allclose(image.affine, first.affine, atol=1e-4):
                _refuse(
                    path,
                    f"the grid of {paths[0].name}",
                    f"shape {image.shape}",
                    "Remove the register folder and run it again.",
                )
            array[row] = encode(np.asarray(image.dataobj, dtype=np.float32), settings.dtype)
        array.flush()
        del array
    return np.asarray(first.affine)


def _refuse(where: Path, expected: str, got: str, fix: str = "Run `elr-mri pack` again.") -> None:
    raise BadInput(expected=expected, got=got, where=str(where), fix=fix)
