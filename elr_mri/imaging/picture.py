"""The picture by which a person judges a registration: three planes, the template's contours on the scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from elr_mri.imaging.grids import Grid, antialias, at, box, through
from elr_mri.imaging.template import Template
from elr_mri.imaging.transforms import Warp, to_native
from elr_mri.provenance import atomic

#: Where the slices lie, MNI mm: sagittal x, coronal y, axial z; each meets the medial temporal lobe or the ventricles.
PLANES_MM = ((0, (-26, 0, 26)), (1, (-60, -18, 14)), (2, (-22, 0, 24)))
PIXEL_MM = 1.0
PICTURE_BOX_MM = ((-84.0, -118.0, -76.0), (84.0, 86.0, 92.0))
#: The middle of the brain, MNI mm: the slices of a template elsewhere lie where their points on its axes are carried to.
MIDDLE_MM = (0.0, -18.0, 10.0)
OUTLINE, TISSUE, QUIET = (255, 170, 40), (70, 200, 255), (150, 160, 170)
#: Template intensity (white matter is about 0.9, grey about 0.65) whose contour is drawn.
TISSUE_LEVEL = 0.78
CAPTION_PIXELS = 22
#: Width and height of the picture: three slices of each plane in a row, two rows, the caption.
SHEET_PIXELS = (1665, 432)


def draw(
    path: Path,
    template: Template,
    volume: np.ndarray,
    brain: np.ndarray,
    affine: np.ndarray,
    matrix: np.ndarray,
    warp: Warp,
    *,
    caption: str,
) -> None:
    """Write a PNG: above the whole scan after the affine, so that what the brain mask lost or kept is seen, below the
    brain after the warp, with the template's outline and white matter edge.

    Parameters
    ----------
    volume, brain : (X, Y, Z) float32, native; of the brain white matter is about 1; `affine` (4, 4) voxels to RAS+ mm
    matrix, warp : template to native
    """
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    rows = [
        [_panel(plane, template, smooth, affine, matrix, used) for plane in _planes(template)]
        for smooth, used in (
            (antialias(volume / level(volume, brain), spacing, PIXEL_MM), None),
            (antialias(brain, spacing, PIXEL_MM), warp),
        )
    ]
    height = max(panel.shape[0] for panel in rows[0])
    sheet = np.concatenate([np.concatenate([_centred(panel, height) for panel in row], axis=1) for row in rows])
    picture = Image.fromarray(np.pad(sheet, ((CAPTION_PIXELS, 0), (0, 0), (0, 0))))
    _write_words(picture, f"{caption}   top: scan, affine; bottom: brain, warped; lines: {template.id}", height)
    with atomic(path) as draft:
        picture.save(draft, compress_level=2)


def level(volume: np.ndarray, brain: np.ndarray) -> float:
    """White matter of a scan in its own intensities: the median where the brain, in units of white matter, is about 1."""
    values = volume[(brain > 0.9) & (brain < 1.1)]
    return max(float(np.median(values)), 1e-6) if values.size else max(float(volume.max()), 1e-6)


def _write_words(picture: Image.Image, words: str, height: int) -> None:
    """Write the caption, and over each column where its slice lies and which side is left."""
    pen, x = ImageDraw.Draw(picture), 0
    pen.text((6, 5), words, fill=(255, 255, 255))
    for axis, places in PLANES_MM:
        across = 1 if axis == 0 else 0
        width = int(PICTURE_BOX_MM[1][across] - PICTURE_BOX_MM[0][across]) + 5
        for place in places:
            for top in (CAPTION_PIXELS, CAPTION_PIXELS + height):
                pen.text((x + 4, top + 2), f"{'xyz'[axis]} {place:+d}", fill=QUIET)
            pen.text((x + 4, CAPTION_PIXELS + height * 3 // 2), "PLL"[axis], fill=QUIET)
            x += width


def _planes(template: Template) -> list[Grid]:
    """The slices as grids one voxel thick."""
    planes = []
    for axis, places in PLANES_MM:
        for place in places:
            point = np.array(MIDDLE_MM)
            point[axis] = place
            low, high = (np.array(corner) for corner in template.carried(PICTURE_BOX_MM))
            low[axis] = high[axis] = through(template.from_mni, point[:, None])[axis, 0]
            planes.append(box(tuple(low), tuple(high), PIXEL_MM))
    return planes


def _panel(
    plane: Grid, template: Template, brain: np.ndarray, affine: np.ndarray, matrix: np.ndarray, warp: Warp | None
) -> np.ndarray:
    """One slice with contours, (rows, columns, 3) uint8; rows run downwards, columns from left (or back) to right."""
    scan = at(brain, affine, to_native(plane.points(), matrix, warp), mode="constant")
    flat = [part.squeeze().T[::-1] for part in (scan, template.image_on(plane), template.mask_on(plane))]
    rgb = np.repeat((np.clip(flat[0] / 1.25, 0, 1)[:, :, None] * 255).astype(np.uint8), 3, axis=2)
    rgb[_edge(flat[1] > TISSUE_LEVEL)] = TISSUE
    rgb[_edge(flat[2] > 0.5)] = OUTLINE
    return rgb


def _edge(inside: np.ndarray) -> np.ndarray:
    """The inner border of a region."""
    return inside & ~ndimage.binary_erosion(inside)


def _centred(panel: np.ndarray, height: int) -> np.ndarray:
    """A panel padded to `height`."""
    above = (height - panel.shape[0]) // 2
    return np.pad(panel, ((above, height - panel.shape[0] - above), (2, 2), (0, 0)))
