"""Where voxels lie: axis-aligned grids in millimetres and the resampling of images onto them.

World coordinates are RAS+ millimetres everywhere (NIfTI's convention); only the transform files that
`transforms.py` writes for ANTs are LPS. A "map" is a 4 × 4 matrix that carries template millimetres
to native millimetres, the direction in which images are pulled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

#: A Gaussian of this many *coarse* voxels (σ, less the fine image's own) before sampling coarsely keeps aliasing
#: below the noise (σ = FWHM / 2.355 for an FWHM of one voxel).
ANTIALIAS = 0.42


@dataclass(frozen=True)
class Grid:
    """A box of voxels: `shape` (X, Y, Z) and `affine` (4, 4), voxel index to RAS+ mm."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def spacing_mm(self) -> np.ndarray:
        """Edge lengths of a voxel, (3,) mm."""
        return np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def points(self) -> np.ndarray:
        """World coordinates of every voxel, (3, X, Y, Z) float32, RAS+ mm."""
        index = np.indices(self.shape, dtype=np.float32).reshape(3, -1)
        moved = self.affine[:3, :3].astype(np.float32) @ index + self.affine[:3, 3:].astype(np.float32)
        return moved.reshape(3, *self.shape)


def box(low_mm: tuple[float, ...], high_mm: tuple[float, ...], spacing_mm: float) -> Grid:
    """The isotropic grid from the corner `low_mm` up to `high_mm`, RAS+ mm, both corners voxel centres (the upper
    rounded down)."""
    shape = np.floor((np.asarray(high_mm) - np.asarray(low_mm)) / spacing_mm + 1e-6).astype(int) + 1
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = low_mm
    return Grid(tuple(int(n) for n in shape), affine)


def regrid(grid: Grid, spacing_mm: float) -> Grid:
    """The isotropic grid of another spacing over the box of an axis-aligned grid."""
    low = grid.affine[:3, 3]
    return box(tuple(low), tuple(low + (np.asarray(grid.shape) - 1) * grid.spacing_mm), spacing_mm)


def pull(
    volume: np.ndarray,
    affine: np.ndarray,
    grid: Grid,
    matrix: np.ndarray | None = None,
    *,
    order: int = 1,
    soft: bool = True,
) -> np.ndarray:
    """`volume` on `grid` through a linear map, in one interpolation.

    Parameters
    ----------
    volume : (X, Y, Z) float
    affine : (4, 4)
        Voxel of `volume` to RAS+ mm.
    matrix : (4, 4), optional
        Millimetres of `grid` to millimetres of `volume`; none is the identity.
    soft : bool
        Smooth before sampling where the grid is coarser than the volume (see `ANTIALIAS`).

    Returns
    -------
    (X', Y', Z') float32; 0 outside the volume.
    """
    matrix = np.eye(4) if matrix is None else matrix
    if soft:
        volume = antialias(volume, Grid(volume.shape, affine).spacing_mm, float(grid.spacing_mm.mean()))
    step = np.linalg.inv(affine) @ matrix @ grid.affine
    return ndimage.affine_transform(
        volume,
        step[:3, :3],
        step[:3, 3],
        output_shape=grid.shape,
        order=order,
        mode="constant",
        output=np.float32,
    )


def coarsen(volume: np.ndarray, affine: np.ndarray, target_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """`volume` averaged over blocks of whole voxels of about `target_mm`, and its affine; unchanged where it is that
    coarse."""
    spacing = Grid(volume.shape, affine).spacing_mm
    factor = np.maximum(np.floor(target_mm / spacing + 0.3).astype(int), 1)
    shape = np.asarray(volume.shape) // factor
    cut = volume[tuple(slice(0, n * f) for n, f in zip(shape, factor, strict=True))]
    blocks = cut.reshape(shape[0], factor[0], shape[1], factor[1], shape[2], factor[2]).astype(np.float32, copy=False)
    moved = affine.copy()
    moved[:3, :3] = affine[:3, :3] * factor
    moved[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((factor - 1) / 2)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32), moved


def antialias(volume: np.ndarray, spacing_mm: np.ndarray, target_mm: float) -> np.ndarray:
    """`volume` smoothed so that sampling it every `target_mm` loses no more than it must; unchanged where that is
    finer."""
    ratio = target_mm / np.asarray(spacing_mm)
    sigma = ANTIALIAS * np.sqrt(np.maximum(ratio**2 - 1, 0))
    if (sigma < 0.1).all():
        return volume
    return ndimage.gaussian_filter(np.asarray(volume, dtype=np.float32), sigma, truncate=3.0)


def at(volume: np.ndarray, affine: np.ndarray, points: np.ndarray, *, mode: str = "nearest") -> np.ndarray:
    """`volume` (X, Y, Z) at world points (3, …) in RAS+ mm, trilinear."""
    step = np.linalg.inv(affine)
    index = step[:3, :3].astype(np.float32) @ points.reshape(3, -1) + step[:3, 3:].astype(np.float32)
    found = ndimage.map_coordinates(volume, index, order=1, mode=mode, prefilter=False, output=np.float32)
    return found.reshape(points.shape[1:])


def through(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """World points (3, …) carried by a 4 × 4 matrix."""
    moved = matrix[:3, :3].astype(np.float32) @ points.reshape(3, -1) + matrix[:3, 3:].astype(np.float32)
    return moved.reshape(points.shape)
