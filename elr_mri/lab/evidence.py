"""The evidence for a doubtful label: who the scan is of, its volumes, what was said of it over training, three slices."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from elr_mri.findings import baseline, style
from elr_mri.imaging.labels import VOLUMES
from elr_mri.imaging.packed import Cache, by_channel
from elr_mri.provenance import read_json
from elr_mri.scans.table import CLASSES, read_scans

#: Where the slices lie, in mm of the template: through the hippocampi, where atrophy shows first.
PLACES_MM = {"coronal": (1, -20.0), "axial": (2, -12.0), "sagittal": (0, 26.0)}
#: Height of the slices in the page's pixels.
HEIGHT = 150


def history_strip(said: np.ndarray, *, width: int = 220, height: int = 70) -> str:
    """An SVG of each class's probability over the epochs, (n_epochs, 3) float."""
    across = np.linspace(2, width - 2, len(said)) if len(said) > 1 else np.array([2.0, width - 2.0])
    said = said if len(said) > 1 else np.repeat(said, 2, axis=0)
    lines = []
    for name, shares in zip(CLASSES, said.T, strict=True):
        points = " ".join(f"{x:.1f},{height - 2 - (height - 4) * y:.1f}" for x, y in zip(across, shares, strict=True))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{style.CLASS_COLOURS[name]}" stroke-width="2"/>')
    frame = f'<rect width="{width}" height="{height}" fill="#fff" stroke="{style.FAINT}"/>'
    drawn = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{frame}{"".join(lines)}</svg>'
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode()


def slices(cache: Cache, row: int) -> str:
    """Coronal, axial and sagittal slice of a packed scan side by side, as a JPEG in a `data:` address; left is left."""
    volume = by_channel(cache.volumes[row])[0].astype(np.float32)
    affine, top = np.array(cache.meta["affine"]), np.percentile(volume[volume > 0], 99.5) if volume.any() else 1.0
    parts = []
    for axis, mm in PLACES_MM.values():
        at = int(np.clip(round((mm - affine[axis, 3]) / affine[axis, axis]), 0, volume.shape[axis] - 1))
        grey = (255 * (np.take(volume, at, axis=axis).T[::-1] / top).clip(0, 1)).astype(np.uint8)
        width = round(HEIGHT * grey.shape[1] / grey.shape[0])
        parts.append(np.asarray(Image.fromarray(grey).resize((width, HEIGHT), Image.Resampling.BICUBIC)))
    content = io.BytesIO()
    Image.fromarray(np.hstack(parts)).save(content, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def evidence(
    table: pd.DataFrame, said: Mapping[str, np.ndarray], scans_path: Path, cache_dir: Path, baseline_path: Path | None
) -> list[dict[str, Any]]:
    """What the page shows of some scans.

    Parameters
    ----------
    table : DataFrame
        Lines of the audit table.
    said : mapping of scan_id to (n_epochs, 3) float
    baseline_path : path or None
        `model.json` of the volume baseline, for percentiles of the hippocampi; none where it is of another version or source.
    """
    scans = read_scans(scans_path).set_index("scan_id")
    cache, measured = Cache.read(cache_dir), baseline.read_volumes(cache_dir / "roi_volumes.tsv").set_index("scan_id")
    rows = cache.index.set_index("scan_id")["row"]
    model = None if baseline_path is None else read_json(baseline_path)
    lines = []
    for line in table.to_dict("records"):
        scan, own = scans.loc[line["scan_id"]], measured.reindex([line["scan_id"]]).iloc[0]
        lines.append(
            line
            | {
                "age_years": float(scan["age_years"]),
                "sex": scan["sex"] if isinstance(scan["sex"], str) else None,
                "mmse": None if pd.isna(scan["mmse"]) else float(scan["mmse"]),
                "cdr_global": None if pd.isna(scan["cdr_global"]) else float(scan["cdr_global"]),
                "hippocampus_mm3": None if pd.isna(own["hippocampus"]) else float(own["hippocampus"]),
                "percentiles": percentiles(model, own, float(scan["age_years"])),
                "history": history_strip(said[line["scan_id"]]),
                "picture": slices(cache, int(rows[line["scan_id"]])),
            }
        )
    return lines


def percentiles(model: Mapping[str, Any] | None, measured: pd.Series, age_years: float) -> dict[str, float]:
    """The hippocampi among controls of this age, where the baseline can tell; blank volumes and ages outside its reference have none."""
    if model is None or model.get("version") != baseline.VERSION or model["source"] != measured["source"]:
        return {}
    youngest, oldest = model["reference"]["age_years"] or (np.inf, -np.inf)
    if not youngest <= age_years <= oldest:
        return {}
    volumes = {region: float(measured[region]) for region in VOLUMES}
    ranks = baseline.percentile(model, volumes, age_years=age_years, source=measured["source"])
    return {region: rank for region, rank in ranks.items() if np.isfinite(rank)}
