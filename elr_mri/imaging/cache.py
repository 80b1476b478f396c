"""Packing: every registered volume into one memory-mapped array, so that training never opens a NIfTI.

    volumes.npy, index.tsv, meta.json   the cache, see `packed.py`
    roi_volumes.tsv                     scan_id and one column per region, mm³ (a thickness: mm)
    status.tsv                          scan_id, step, status, reason: the final state of every scan of the scan table

New scans are written behind those that are there. A changed or a removed scan makes a new file, into which the rows
that still stand are copied, so that nothing of a removed scan is left behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from elr_mri.config import Pack
from elr_mri.errors import BadInput
from elr_mri.imaging import growing, names
from elr_mri.imaging.batch import STATES
from elr_mri.imaging.labels import ROI, ROI_TABLE, roi_table
from elr_mri.imaging.packed import (
    CACHE_VERSION,
    CHANNELS,
    INDEX,
    MAPPINGS,
    MAX_INTENSITY,
    MAX_LOG_JACOBIAN,
    Cache,
    digest_row,
    encode,
    refuse,
    row_shape,
)
from elr_mri.imaging.review import REVIEW
from elr_mri.provenance import alone, digest_file, digest_json, read_json, record, sidecar, write_json
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["pack"]

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

#: Which registered image holds each channel, by `pack.space`: keys of `files` in a scan's QC file.
IMAGES = {
    "affine": ("affine_image",),
    "warped": ("warped_image",),
    "warped-jacobian": ("warped_image", "log_jacobian"),
}


def pack(
    scans_path: Path | str,
    review_path: Path | str,
    convert_dir: Path | str,
    register_dir: Path | str,
    measure_dir: Path | str,
    settings: Pack,
    out_dir: Path | str,
) -> None:
    """Gather what the per-scan steps wrote into a cache in `out_dir`; scans that `review.tsv` fails are left out and
    told in status.tsv."""
    folders = {"convert": Path(convert_dir), "register": Path(register_dir), "measure": Path(measure_dir)}
    with alone(Path(out_dir) / "volumes.npy"):
        _pack(Path(scans_path), Path(review_path), folders, settings, Path(out_dir))


def _pack(scans_path: Path, review_path: Path, folders: dict[str, Path], settings: Pack, out_dir: Path) -> None:
    """`pack`, by itself in `out_dir`."""
    scans = read_scans(scans_path)
    states = _states(scans, review_path)
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
            where=str(folders["register"]),
            fix=f"See {out_dir / 'status.tsv'} for the reason of every scan.",
        )
    rois = pd.DataFrame([_rois(folders, scan_id) for scan_id in kept])
    sources = {scan_id: _source(scan_id, folders) for scan_id in kept}
    growing.settle(out_dir)
    meta = _meta(kept[0], folders, settings)
    index = _store(sources, folders["register"], meta, settings, out_dir)
    roi_table(_further(rois)).write(rois, out_dir / "roi_volumes.tsv")
    inputs = {"scans": digest_file(scans_path), "sources": digest_json(sources)}
    rows = digest_json(dict(zip(index["scan_id"], index["sha256"], strict=True)))
    record(
        out_dir / "volumes.npy",
        step="pack",
        version=VERSION,
        inputs=inputs,
        settings=settings,
        n_scans=len(kept),
        rows_sha256=rows,
    )


def _meta(scan_id: str, folders: dict[str, Path], settings: Pack) -> dict[str, Any]:
    """What all scans share, taken from the first one; the same whatever the order of the rows."""
    image = nib.load(_paths(folders["register"], scan_id, settings.space)[0])
    channels, dtype = CHANNELS[settings.space], settings.dtype
    meta = {
        "version": CACHE_VERSION,
        "space": settings.space,
        "channels": list(channels),
        "template": names.read_verdict(folders["register"] / scan_id, scan_id)["template"],
        "affine": np.asarray(image.affine).tolist(),
        "spacing_mm": float(abs(image.affine[0, 0])),
        "shape": list(image.shape),
        "dtype": dtype,
        "intensity": {"white_matter": 1.0, "maximum": MAX_INTENSITY, **MAPPINGS["T1w"][dtype]},
    }
    if "log_jacobian" in channels:
        meta["log_jacobian"] = {"maximum": MAX_LOG_JACOBIAN, **MAPPINGS["log_jacobian"][dtype]}
    return meta | {"settings": _settings_of(scan_id, folders)}


def _source(scan_id: str, folders: dict[str, Path]) -> str:
    """Digest of what a scan's row is made from: the converted scan, and how it was registered."""
    told = names.read_verdict(folders["register"] / scan_id, scan_id)
    made = read_json(sidecar(folders["register"] / scan_id / told["files"]["affine_image"]))
    scan = read_json(folders["convert"] / scan_id / f"{scan_id}_convert.json")["sha256"]
    return digest_json([scan, told["template"], *(made.get(k) for k in ("step_version", "inputs", "settings"))])


def _store(
    sources: dict[str, str], register_dir: Path, meta: dict[str, Any], settings: Pack, out_dir: Path
) -> pd.DataFrame:
    """Bring the cache in `out_dir` to the scans of `sources` (scan_id to digest); returns its index."""
    old = _earlier(out_dir, meta, settings)
    known = {} if old is None else {line.scan_id: line for line in old.index.itertuples()}
    bad = set(old.damaged()) if old is not None and settings.verify else set()
    stands = {name for name, line in known.items() if line.source == sources.get(name) and name not in bad}
    new = [scan_id for scan_id in sources if scan_id not in stands]
    grows = old is not None and stands == set(known)
    print(
        f"pack: {len(stands)} rows stand, {len(new)} are written"
        + (" behind them" if grows else f" in a new file; {len(known) - len(stands)} earlier ones fall away")
        + (f"; damaged were {', '.join(sorted(bad))}" if bad else ""),
        flush=True,
    )
    lines: list[dict[str, Any]] = []

    def rows(names: list[str]) -> Iterator[np.ndarray]:
        for name in names:
            stored = np.asarray(old.volumes[known[name].row]) if name in stands else None
            if stored is None or digest_row(stored) != known[name].sha256:
                stored = stored_row(register_dir, name, settings.space, settings.dtype, meta)
            lines.append({"scan_id": name, "sha256": digest_row(stored), "source": sources[name]})
            yield stored

    def write(draft: Path) -> None:
        kept = [
            {key: getattr(line, key) for key in ("scan_id", "sha256", "source")} for line in known.values() if grows
        ]
        path, names = (out_dir / "volumes.npy", new) if grows else (draft / "volumes.npy", list(sources))
        shape = row_shape(meta["shape"], meta["channels"])
        growing.append(path, rows(names), n_kept=len(kept), shape=shape, dtype=settings.dtype)
        INDEX.write(pd.DataFrame([*kept, *lines]).reset_index(names="row"), draft / "index.tsv")
        write_json(draft / "meta.json", meta)

    growing.commit(out_dir, write)
    return INDEX.read(out_dir / "index.tsv")


def _earlier(out_dir: Path, meta: dict[str, Any], settings: Pack) -> Cache | None:
    """The cache that is there, where its rows are of the kind that is due."""
    if not growing.current(out_dir, "meta.json").is_file():
        return None
    try:
        old = Cache.read(out_dir)
    except BadInput as problem:
        print(f"pack: the earlier cache is not used: {problem}", flush=True)
        return None
    changed = [key for key in meta if key != "settings" and old.meta.get(key) != meta[key]]
    if changed:
        print(f"pack: the earlier cache is not used: other {', '.join(changed)}", flush=True)
        return None
    return old


def _settings_of(scan_id: str, folders: dict[str, Path]) -> dict[str, Any]:
    """How the scans were prepared: the sections of the three steps, so that one more scan can be prepared alike."""
    told = names.read_verdict(folders["register"] / scan_id, scan_id)
    files = {
        "convert": f"{scan_id}_T1w.nii.gz",
        "register": told["files"]["affine_image"],
        "measure": names.volumes_path(folders["measure"] / scan_id, scan_id).name,
    }
    return {step: read_json(sidecar(folders[step] / scan_id / name))["settings"] for step, name in files.items()}


def _paths(register_dir: Path, scan_id: str, space: str) -> list[Path]:
    """The registered images of a scan that make its channels in `space`; raises `BadInput` where register did not write
    them."""
    files = names.read_verdict(register_dir / scan_id, scan_id)["files"]
    if any(name not in files for name in IMAGES[space]):
        raise BadInput(
            expected=f"scans in {space} space",
            got="none written by register",
            where=str(register_dir),
            fix="Set `register.write_warped: true`, or `pack.space: affine`.",
        )
    return [register_dir / scan_id / files[name] for name in IMAGES[space]]


def stored_row(register_dir: Path, scan_id: str, space: str, dtype: str, grid: dict[str, Any]) -> np.ndarray:
    """A registered scan as the cache stores it, (X, Y, Z) or (n_channels, X, Y, Z) of `dtype`.

    Parameters
    ----------
    grid : dict
        `shape` and `affine` that the scan must have.
    """
    parts = []
    for path, channel in zip(_paths(Path(register_dir), scan_id, space), CHANNELS[space], strict=True):
        image = nib.load(path)
        if list(image.shape) != list(grid["shape"]) or not np.allclose(image.affine, grid["affine"], atol=1e-4):
            expected = f"the grid of the other scans, {' x '.join(map(str, grid['shape']))} voxels"
            refuse(path, expected, f"shape {image.shape}", "Remove the register folder and run it again.")
        parts.append(encode(np.asarray(image.dataobj, dtype=np.float32), dtype, channel))
    return parts[0] if len(parts) == 1 else np.stack(parts)


def _states(scans: pd.DataFrame, review_path: Path) -> pd.DataFrame:
    """The last word on every scan, as `review` wrote it, in the order of the scan table."""
    told = REVIEW.read(review_path).set_index("scan_id")
    if strange := set(told.index) ^ set(scans["scan_id"]):
        raise BadInput(
            expected="one row for every scan of the scan table",
            got=f"{len(strange)} scans in one table only, e.g. {min(strange)}",
            where=str(review_path),
            fix="Run `elr-mri review` again.",
        )
    told = told.loc[list(scans["scan_id"]), ["step", "verdict", "reasons"]].reset_index()
    return told.rename(columns={"verdict": "status", "reasons": "reason"})


def _rois(folders: dict[str, Path], scan_id: str) -> dict[str, Any]:
    """One row of roi_volumes.tsv."""
    table = names.volumes_path(folders["measure"] / scan_id, scan_id)
    frame, told = ROI.read(table), read_json(sidecar(table))
    facts = {"source": told["settings"].get("source", "registered"), "note": told.get("reason")}
    values = frame["volume_mm3"]
    values = values.fillna(frame["thickness_mm"]) if "thickness_mm" in frame else values
    return {"scan_id": scan_id, **dict(zip(frame["region"], values, strict=True)), **facts}


def _further(rois: pd.DataFrame) -> list[str]:
    """The regions beyond ours that some scan has, in one order whatever the order of the scans."""
    return sorted(set(rois.columns) - {column.name for column in ROI_TABLE.columns})
