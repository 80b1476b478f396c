"""Where the brain is in a scan of a head: the head template's brain mask, carried over by registration.

A scan that is already brain-extracted (next to nothing around a brain-sized volume) keeps its own mask.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from elr_mri.imaging.affine import register_affine
from elr_mri.imaging.grids import Grid, box, coarsen
from elr_mri.imaging.template import Template
from elr_mri.imaging.warp import inverse, pyramid

#: Litres of voxels well above zero that a bare brain has; a head has more (3 to 6).
BARE_BRAIN_LITRES = (0.7, 2.4)
#: Ripples of so small a share of the brightest tissue are no air around a head: an extracted brain that was resampled by splines has
#: them everywhere, and was taken for a head (its size came out by up to 37 % too small, and quality control sent it to review).
RINGING = 0.002
#: Head registration: the box in RAS+ mm on the head template, levels and iterations.
HEAD_BOX_MM = ((-88.0, -122.0, -72.0), (88.0, 90.0, 104.0))
HEAD_SPACING_MM, HEAD_ITERATIONS = 5.0, (12, 7)


def bare_brain(volume: np.ndarray, affine: np.ndarray) -> np.ndarray | None:
    """The mask (X, Y, Z) bool of a scan that is already brain-extracted; None for a head."""
    above = volume > 0.02 * np.percentile(volume, 99.5)
    litres = above.sum() * Grid(volume.shape, affine).voxel_mm3 / 1e6
    edges = np.concatenate([volume[k].ravel() for k in (0, -1)] + [volume[:, k].ravel() for k in (0, -1)])
    flat = edges <= edges.min() + RINGING * np.percentile(volume, 99.5)
    if not (BARE_BRAIN_LITRES[0] <= litres <= BARE_BRAIN_LITRES[1]) or np.mean(flat) < 0.9:
        return None
    return ndimage.binary_fill_holes(largest(above))


def head_affine(head: Template, volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The map (4, 4) from the head template's mm to native mm."""
    grid = box(*HEAD_BOX_MM, 4.0)
    return register_affine(head.image_on(grid), grid, volume, affine)


def extract(head: Template, volume: np.ndarray, affine: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The brain mask (X, Y, Z) bool of a head whose map from the head template is `matrix`."""
    small, small_affine = coarsen(volume, affine, HEAD_SPACING_MM / 2)
    warp = pyramid(
        head,
        small,
        small_affine,
        matrix,
        lambda mm: box(*HEAD_BOX_MM, mm),
        spacing_mm=HEAD_SPACING_MM,
        iterations=HEAD_ITERATIONS,
    )
    grid = box(*HEAD_BOX_MM, 2.5)
    fine = inverse(warp).onto(grid)
    mask = fine.carry(head.mask_on(grid))
    step = np.linalg.inv(grid.affine) @ np.linalg.inv(matrix) @ affine
    native = ndimage.affine_transform(
        mask, step[:3, :3], step[:3, 3], output_shape=volume.shape, order=1, output=np.float32
    )
    return largest(native > 0.5)


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask."""
    pieces, n = ndimage.label(mask)
    if n < 2:
        return mask
    return pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
