"""How much of the brain a scan holds: what its field of view cuts off, and what was filled with zeros.

A slice is empty where all its voxels are alike (padding, lost slices); the field of view is what is left. Two numbers
see what is missing, because registration may hide it by pulling the template onto the part that is there: the share of
the template's brain that lies outside, and the area of the brain mask that touches the edge.
"""

from __future__ import annotations

import numpy as np

from elr_mri.imaging.grids import Grid, through
from elr_mri.imaging.template import Template

#: The template's brain is looked up at this spacing.
SPACING_MM = 3.0

#: A slice whose values differ by less than this share of the scan's 99th percentile holds nothing.
EMPTY = 1e-3


def coverage(
    template: Template, volume: np.ndarray, mask: np.ndarray, affine: np.ndarray, matrix: np.ndarray
) -> dict[str, float]:
    """`covered`, the share of the template's brain that lies in the field of view, and `cut_cm2`, the largest flat face
    of the brain mask on an edge of it.

    Parameters
    ----------
    volume, mask : (X, Y, Z) float32 and bool, native; `affine` (4, 4) their voxels to RAS+ mm
    matrix : (4, 4) template mm to native mm
    """
    filled = [filled_slices(volume, axis) for axis in range(3)]
    grid = template.brain_grid(SPACING_MM)
    brain = grid.points()[:, template.mask_on(grid) > 0.5]
    seen = np.ones(brain.shape[1], dtype=bool)
    index = np.rint(through(np.linalg.inv(affine) @ matrix, brain)).astype(int)
    for place, some in zip(index, filled, strict=True):
        inside = (place >= 0) & (place < some.size)
        seen &= inside & some[np.clip(place, 0, some.size - 1)]
    faces = [face_cm2(mask, axis, some, Grid(volume.shape, affine).spacing_mm) for axis, some in enumerate(filled)]
    return {"covered": float(seen.mean()), "cut_cm2": max(faces)}


def filled_slices(volume: np.ndarray, axis: int) -> np.ndarray:
    """Which slices along `axis` hold anything, (n,) bool."""
    others = tuple(k for k in range(3) if k != axis)
    spread = volume.max(axis=others) - volume.min(axis=others)
    return spread > EMPTY * np.percentile(volume[::2, ::2, ::2], 99)


def face_cm2(mask: np.ndarray, axis: int, filled: np.ndarray, spacing_mm: np.ndarray) -> float:
    """The largest area of the mask in a slice that has nothing beside it, cm²."""
    padded = np.pad(filled, 1)
    edge = filled & ~(padded[:-2] & padded[2:])
    if not edge.any():
        return 0.0
    others = tuple(k for k in range(3) if k != axis)
    voxels = np.compress(edge, mask, axis=axis).sum(axis=others)
    return float(voxels.max() * np.prod(spacing_mm[list(others)]) / 100)
