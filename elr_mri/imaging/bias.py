"""Bias-field correction inside the brain: N4 of ANTs on a coarse image, its field applied to the full one.

Tustison et al. N4ITK: improved N3 bias correction. IEEE Trans Med Imaging 29, 2010.
"""

from __future__ import annotations

import os

# Before ANTs loads: one thread gives the same bits every time.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import ants
import numpy as np
from scipy import ndimage

from elr_mri.imaging.grids import Grid, coarsen
from elr_mri.imaging.transforms import LPS


def to_ants(volume: np.ndarray, grid: Grid) -> ants.ANTsImage:
    """An ANTs image (LPS+) of a volume on a RAS+ grid."""
    lps = LPS @ grid.affine
    return ants.from_numpy(
        np.ascontiguousarray(volume, dtype=np.float32),
        origin=list(lps[:3, 3]),
        spacing=list(grid.spacing_mm),
        direction=lps[:3, :3] / grid.spacing_mm,
    )


def bias_field(
    volume: np.ndarray,
    affine: np.ndarray,
    mask: np.ndarray,
    *,
    spacing_mm: float,
    iterations: tuple[int, ...],
) -> np.ndarray:
    """The multiplicative field of `volume`, (X, Y, Z) float32, with mean log 0 in `mask`.

    Parameters
    ----------
    volume : (X, Y, Z) float32, native intensities
    mask : (X, Y, Z) bool, where the field is estimated
    spacing_mm : float
        Of the coarse image; the field itself is smooth over centimetres.
    iterations : tuple of int
        At each fitting level; each halves the distance of the spline's knots.
    """
    corner, stop = _bounds(mask)
    cut = tuple(slice(a, b) for a, b in zip(corner, stop, strict=True))
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ corner
    inside = mask[cut].astype(np.float32)
    share, coarse_affine = coarsen(inside, moved, spacing_mm)
    mean, _ = coarsen(volume[cut] * inside, moved, spacing_mm)
    coarse = np.where(share > 0.5, mean / np.maximum(share, 0.5), 0)
    coarse = coarse / max(float(np.median(coarse[share > 0.5])), 1e-6)
    grid = Grid(coarse.shape, coarse_affine)
    field = ants.n4_bias_field_correction(
        to_ants(coarse, grid),
        mask=to_ants((share > 0.5).astype(np.float32), grid),
        shrink_factor=1,
        convergence={"iters": list(iterations), "tol": 1e-6},
        return_bias_field=True,
    ).numpy()
    log_field = np.log(np.clip(field, 0.2, 5))
    log_field -= log_field[share > 0.5].mean()
    step = np.linalg.inv(coarse_affine) @ affine
    return np.exp(
        ndimage.affine_transform(
            log_field.astype(np.float32),
            step[:3, :3],
            step[:3, 3],
            output_shape=volume.shape,
            order=1,
            mode="nearest",
        )
    )


def _bounds(mask: np.ndarray, margin: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """First and past-the-last index of a mask on each axis, with a margin, (3,) each."""
    lines = [np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != j))) for j in range(3)]
    low = np.array([max(int(line[0]) - margin, 0) for line in lines])
    high = np.array([min(int(line[-1]) + 1 + margin, n) for line, n in zip(lines, mask.shape, strict=True)])
    return low, high
