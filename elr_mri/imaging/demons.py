"""Diffeomorphic demons on locally normalised intensities: the fast deformable registration.

Each image is first brought to zero mean and unit deviation in a small window around every voxel,
so that the squared difference of two images is one minus their local correlation (up to a factor
of two) and neither contrast nor bias field matters. The displacement then follows the symmetric
demons force, composed and smoothed:

Vercauteren, Pennec, Perchant, Ayache. Diffeomorphic demons: efficient non-parametric image
registration. NeuroImage 45, 2009: eq. 6 (force with the mean of both gradients), algorithm 1.
Lorenzi et al. LCC-Demons. NeuroImage 81, 2013: local correlation as the similarity.

Arrays are (X, Y, Z) on an isotropic grid; displacements are (3, X, Y, Z) in voxels of that grid:
the point at index i of the fixed image corresponds to index i + u(i) of the moving image.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

#: Longest step of one iteration, in voxels (Vercauteren 2009, section 2.3: keeps each step invertible).
MAX_STEP_VOXELS = 0.5


def normalise_locally(volume: np.ndarray, *, radius: int, floor: float = 0.1) -> np.ndarray:
    """Zero mean and unit deviation in the cube of side 2 radius + 1 around each voxel.

    Parameters
    ----------
    volume : (X, Y, Z) float
    floor : float
        Added to the local deviation, as a share of the 95th percentile of all local deviations, so that
        empty and flat places stay near zero.
    """
    volume = np.asarray(volume, dtype=np.float32)
    size = 2 * radius + 1
    mean = ndimage.uniform_filter(volume, size, mode="nearest")
    variance = ndimage.uniform_filter(volume * volume, size, mode="nearest") - mean * mean
    deviation = np.sqrt(np.maximum(variance, 0))
    return (volume - mean) / (deviation + floor * np.percentile(deviation, 95) + 1e-6)


def demons(
    fixed: np.ndarray,
    moving: np.ndarray,
    start: np.ndarray,
    *,
    iterations: int,
    update_sigma: float,
    total_sigma: float,
    window_radius: int,
) -> np.ndarray:
    """The displacement that carries `moving` onto `fixed`.

    Parameters
    ----------
    fixed, moving : (X, Y, Z) float32
        Two images on one grid; any intensity units.
    start : (3, X, Y, Z) float32
        Displacement in voxels to begin from.
    update_sigma, total_sigma : float
        Gaussian smoothing in voxels of each step (fluid) and of the whole displacement (elastic).

    Returns
    -------
    (3, X, Y, Z) float32, voxels.
    """
    still = normalise_locally(fixed, radius=window_radius)
    mover = normalise_locally(moving, radius=window_radius)
    still_slope = np.stack(np.gradient(still))
    u = start.astype(np.float32)
    index = identity(still.shape)
    for _ in range(iterations):
        warped = sample(mover, index + u)
        difference = still - warped
        slope = (np.stack(np.gradient(warped)) + still_slope) / 2
        force = slope * (difference / ((slope**2).sum(axis=0) + difference**2 / (4 * MAX_STEP_VOXELS**2) + 1e-3))
        u = compose(u, smooth(force, update_sigma), index)
        u = smooth(u, total_sigma)
    return u


def identity(shape: tuple[int, ...]) -> np.ndarray:
    """The index of every voxel, (3, X, Y, Z) float32."""
    return np.indices(shape, dtype=np.float32)


def sample(volume: np.ndarray, index: np.ndarray) -> np.ndarray:
    """`volume` (X, Y, Z) at fractional indices (3, …), trilinear; outside, the nearest edge value."""
    return ndimage.map_coordinates(volume, index, order=1, mode="nearest", prefilter=False, output=np.float32)


def smooth(field: np.ndarray, sigma: float) -> np.ndarray:
    """Each component of `field` (3, X, Y, Z) smoothed by a Gaussian of `sigma` voxels; 0 leaves it."""
    if sigma == 0:
        return field
    return np.stack([ndimage.gaussian_filter(part, sigma, mode="nearest", truncate=3.0) for part in field])


def compose(u: np.ndarray, step: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Displacement of `step` followed by `u`: x → x + step(x) + u(x + step(x))."""
    there = index + step
    return step + np.stack([sample(part, there) for part in u])


def invert(u: np.ndarray, *, iterations: int = 8) -> np.ndarray:
    """The displacement v with v(x) = −u(x + v(x)), by fixed-point iteration (Chen et al., Med Phys 35, 2008)."""
    index = identity(u.shape[1:])
    v = -u
    for _ in range(iterations):
        there = index + v
        v = -np.stack([sample(part, there) for part in u])
    return v


def jacobian(u: np.ndarray) -> np.ndarray:
    """Determinant of the gradient of x + u(x): local volume ratio moving / fixed, (X, Y, Z)."""
    rows = [np.gradient(part) for part in u]
    a, b, c = ([row[k] + (1.0 if j == k else 0.0) for k in range(3)] for j, row in enumerate(rows))
    return (
        a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0])
    ).astype(np.float32)
