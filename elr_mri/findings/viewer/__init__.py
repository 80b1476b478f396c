"""The built viewer (`viewer.min.js`, made by `make viewer` from `viewer/` at the root), its record and licences, and what the page gives it.

Volumes go into the page as gzipped NIfTI of one byte a voxel, cropped to the brain and no finer than 2 mm, so that the page stays small.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from elr_mri.findings import style
from elr_mri.findings.brains import Anatomy, Volume, relative

HERE = Path(__file__).parent
SPACING_MM = 2.0
#: One step of a stored byte of saliency, in multiples of the brain's mean; what is below `LEAST` of it, and so far from what is shown, is left out.
STEP, LEAST = 0.1, 0.5
#: Saliency below this is drawn the more transparent the lower it is.
SHOWN = 2.0


def script() -> str:
    """The viewer's script."""
    return (HERE / "viewer.min.js").read_text(encoding="utf-8")


def record() -> dict[str, Any]:
    """How the script was made: digests of its sources, packages and their versions."""
    return json.loads((HERE / "viewer.json").read_text(encoding="utf-8"))


def for_page(anatomy: Anatomy, people: Mapping[str, Volume], maps: Mapping[str, Volume]) -> dict[str, Any]:
    """The page's part: the data, the packed script, and what is said of them.

    Parameters
    ----------
    people : title -> a scan in the template's space; none where they may not leave the house
    maps : title -> a saliency map in the template's space
    """
    images = [{"name": "template", "nifti": _grey(anatomy.template)}]
    images += [{"name": title, "nifti": _grey(scan)} for title, scan in people.items()]
    told = {title: relative(found, anatomy.template).data for title, found in maps.items()}
    top = max([3.0, *(float(np.percentile(data, 99.9)) for data in told.values())])
    heat = [
        {
            "name": title,
            "kind": "heat",
            "low": SHOWN,
            "high": round(top, 1),
            "nifti": _heat(told[title], maps[title].affine),
        }
        for title in maps
    ]
    labels = {"name": "regions", "kind": "labels", "nifti": _labels(anatomy.labels)}
    colours = [
        [name.replace("_", " "), number, next(c for key, c in style.REGION_COLOURS.items() if name.startswith(key))]
        for name, number in anatomy.numbers.items()
    ]
    data = {
        "images": images,
        "overlays": [*heat, labels],
        "first": 1,
        "regions": colours,
        "centre_mm": [round(float(mm), 1) for mm in anatomy.centre("hippocampus_left")],
    }
    code = base64.b64encode(gzip.compress(script().encode(), 9, mtime=0)).decode()
    size = len(json.dumps(data)) + len(code)
    return {
        "data": data,
        "code": code,
        "images": [image["name"] for image in images],
        "n_maps": len(heat),
        "people": bool(people),
        "megabytes": f"{size / 1e6:.1f}",
        "version": record()["packages"]["@niivue/niivue"]["version"],
    }


def _grey(volume: Volume) -> str:
    """A scan or template: the 99.8th percentile of its brain is white."""
    data = np.asarray(volume.data, np.float32)
    coarse, affine = _coarse(data, volume.affine)
    top = max(float(np.percentile(coarse[coarse > 0], 99.8)) if (coarse > 0).any() else 1.0, 1e-6)
    return _packed(np.clip(np.rint(255 * coarse / top), 0, 255), affine)


def _heat(data: np.ndarray, affine: np.ndarray) -> str:
    """A saliency map in multiples of the brain's mean."""
    coarse, affine = _coarse(np.asarray(data, np.float32), affine)
    return _packed(np.where(coarse < LEAST, 0, np.clip(np.rint(coarse / STEP), 0, 255)), affine, slope=STEP)


def _labels(labels: Volume) -> str:
    """Region numbers, at their own spacing: a small box."""
    return _packed(labels.data, labels.affine)


def _coarse(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A volume at 2 mm or its own spacing, whichever is coarser.

    data : (X, Y, Z); affine : (4, 4) voxels to mm, diagonal but for the origin
    """
    spacing = np.abs(np.diag(affine)[:3])
    factor = np.minimum(spacing / SPACING_MM, 1.0)
    if (factor > 0.99).all():
        return data, affine
    smooth = ndimage.gaussian_filter(data, np.where(factor < 0.99, 0.5 / factor - 0.25, 0))
    step = 1 / factor
    shape = tuple(int(n) for n in np.floor((np.array(data.shape) - 1) * factor) + 1)
    coarse = ndimage.affine_transform(smooth, np.diag(step), output_shape=shape, order=1)
    out = affine.copy()
    out[:3, :3] = affine[:3, :3] @ np.diag(step)
    return coarse, out


def _packed(data: np.ndarray, affine: np.ndarray, *, slope: float = 1.0) -> str:
    """Base64 of a gzipped NIfTI of bytes, cropped to what is not 0; the same bytes for the same volume."""
    filled = np.argwhere(data)
    low, high = (filled.min(axis=0), filled.max(axis=0) + 1) if len(filled) else (np.zeros(3, int), np.ones(3, int))
    cropped = np.ascontiguousarray(data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], np.uint8)
    placed = affine.copy()
    placed[:3, 3] = affine[:3, :3] @ low + affine[:3, 3]
    image = nib.Nifti1Image(cropped, placed)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(slope, 0)
    content = _bytes(image, cropped, slope)
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _bytes(image: nib.Nifti1Image, stored: np.ndarray, slope: float) -> bytes:
    """The file as it is stored, with the header's slope but without scaling what is stored again."""
    header = image.header.copy()
    header.set_data_dtype(np.uint8)
    header["scl_slope"], header["scl_inter"], header["vox_offset"], header["magic"] = slope, 0, 352, b"n+1"
    return header.binaryblock + bytes(4) + stored.tobytes(order="F")
