"""Smooth, invertible warps with a known volume change: stationary velocity fields on a coarse grid.

A planted atrophy is a velocity field v with a prescribed divergence: inside a region that
shrinks div v < 0, around it div v > 0 so that nothing moves far away. v is the gradient of the
solution of Poisson's equation, and the warp is its exponential, which is invertible by
construction (Arsigny et al., MICCAI 2006); log det of its Jacobian is about div v. Volume
change by a divergence source follows Karacali and Davatzikos, IEEE TMI 2006.

All fields are float32 arrays (X, Y, Z, 3) in mm, on a `Grid` of the anatomy's RAS+ space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage


@dataclass(frozen=True)
class Grid:
    """An axis-aligned RAS+ grid: `shape` voxels of `spacing_mm`, the first one centred at `origin_mm`."""

    shape: tuple[int, int, int]
    origin_mm: tuple[float, float, float]
    spacing_mm: float

    @classmethod
    def over(cls, affine: np.ndarray, shape: tuple[int, int, int], spacing_mm: float) -> Grid:
        """The grid that covers an axis-aligned RAS+ image."""
        extent = np.asarray(shape) * np.diag(affine)[:3]
        cells = np.ceil(extent / spacing_mm).astype(int) + 1
        return cls(tuple(int(n) for n in cells), tuple(float(o) for o in affine[:3, 3]), float(spacing_mm))

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel to mm."""
        affine = np.diag([self.spacing_mm] * 3 + [1.0])
        affine[:3, 3] = self.origin_mm
        return affine

    def points(self) -> np.ndarray:
        """(3, X, Y, Z) float32 coordinates in mm of every voxel centre."""
        axes = [o + self.spacing_mm * np.arange(n, dtype=np.float32) for o, n in zip(self.origin_mm, self.shape)]
        return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)

    def sample(self, field: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
        """Linear interpolation of `field` (X, Y, Z[, 3]) at points (3, ...) in mm; the edge value outside."""
        index = (points_mm - np.reshape(self.origin_mm, (3,) + (1,) * (points_mm.ndim - 1))) / self.spacing_mm
        if field.ndim == 3:
            return ndimage.map_coordinates(field, index, order=1, mode="nearest")
        parts = [ndimage.map_coordinates(field[..., k], index, order=1, mode="nearest") for k in range(3)]
        return np.stack(parts)


def velocity_of_divergence(source: np.ndarray, grid: Grid, *, spread_mm: float = 12.0) -> np.ndarray:
    """Velocity field (X, Y, Z, 3) in mm whose divergence is `source`, compensated in its surroundings.

    Parameters
    ----------
    source : (X, Y, Z) float
        Wanted log volume change per unit time; negative shrinks.
    spread_mm : float
        Standard deviation of the Gaussian halo that takes up what the source gives off, so that
        the total is zero and the field is local.
    """
    halo = ndimage.gaussian_filter(source, spread_mm / grid.spacing_mm, mode="constant")
    total = halo.sum()
    density = source - halo * (source.sum() / total if total else 0.0)
    pad = [(8, 8)] * 3
    spectrum = fft.rfftn(np.pad(density, pad))
    shape = tuple(n + 16 for n in grid.shape)
    waves = np.meshgrid(
        *[2 * np.pi * fft.fftfreq(n, grid.spacing_mm) for n in shape[:2]],
        2 * np.pi * fft.rfftfreq(shape[2], grid.spacing_mm),
        indexing="ij",
    )
    squared = sum(w**2 for w in waves)
    squared[0, 0, 0] = 1.0
    potential = spectrum / squared
    potential[0, 0, 0] = 0.0
    inside = (slice(8, -8),) * 3
    parts = [fft.irfftn(-1j * w * potential, s=shape)[inside] for w in waves]
    return np.stack(parts, axis=-1).astype(np.float32)


def random_velocity(rng: np.random.Generator, grid: Grid, *, rms_mm: float, smooth_mm: float) -> np.ndarray:
    """Smooth Gaussian random velocity (X, Y, Z, 3) in mm with root-mean-square length `rms_mm`."""
    noise = rng.standard_normal((3, *grid.shape), dtype=np.float32)
    smooth = np.stack([ndimage.gaussian_filter(n, smooth_mm / grid.spacing_mm, mode="wrap") for n in noise], axis=-1)
    length = np.sqrt((smooth**2).sum(axis=-1).mean())
    return smooth * np.float32(rms_mm / length)


def exponential(velocity: np.ndarray, grid: Grid, *, steps: int = 4) -> np.ndarray:
    """Displacement (X, Y, Z, 3) in mm of the flow of a stationary velocity field, by scaling and squaring."""
    displacement = velocity / np.float32(2**steps)
    points = grid.points()
    for _ in range(steps):
        moved = points + np.moveaxis(displacement, -1, 0)
        displacement = displacement + np.moveaxis(grid.sample(displacement, moved), 0, -1)
    return displacement


def log_jacobian(displacement: np.ndarray, grid: Grid) -> np.ndarray:
    """(X, Y, Z) natural logarithm of det(1 + du/dx); raises ValueError where the warp folds."""
    rows = [np.stack(np.gradient(displacement[..., k], grid.spacing_mm), axis=-1) for k in range(3)]
    determinant = np.linalg.det(np.stack(rows, axis=-2) + np.eye(3, dtype=np.float32))
    if determinant.min() <= 0:
        raise ValueError(f"the warp folds: its smallest Jacobian determinant is {determinant.min():.3f}")
    return np.log(determinant)
