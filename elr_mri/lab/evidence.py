"""Small pictures for a page of many scans: what was said of a scan over training, and three slices of it."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from elr_mri.findings import style
from elr_mri.imaging.packed import Cache, by_channel
from elr_mri.scans.table import CLASSES

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
