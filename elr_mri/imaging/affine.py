"""Affine registration: a coarse search over poses, then Gauss–Newton on locally normalised intensities.

Minimises the mean squared difference of two locally normalised images (`demons.normalise_locally`), which
is one minus their local correlation, over the 12 parameters of the map from template to native millimetres.
Baker, Matthews. Lucas–Kanade 20 years on. IJCV 56, 2004: Gauss–Newton with a compositional update, section 3.1.2.
Deterministic: no sampling, no random start.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.spatial.transform import Rotation

from elr_mri.imaging.demons import normalise_locally
from elr_mri.imaging.grids import Grid, antialias, coarsen, pull, regrid

#: The pitches (about the left–right axis), rolls and yaws that the search tries, in degrees: how heads lie in scanners.
PITCHES, ROLLS, YAWS = (-30, -15, 0, 15, 30), (-15, 0, 15), (-15, 0, 15)
#: Shifts along the body axis in mm: the centre of mass of a head moves with how much neck is in view.
SHIFTS_MM = (-40, -20, 0, 20, 40)
SEARCH_SPACING_MM = 10.0

#: How many poses of the search are refined, at least this far apart.
N_STARTS, APART_DEGREES, APART_MM = 4, 14.0, 19.0

#: The schedule of the refinement: spacing, half-width of the normalising cube (mm), iterations, rigid or not.
ROUGH = ((10.0, 40.0, 6, True), (10.0, 30.0, 6, False))
FINE = ((6.0, 24.0, 8, False),)


def register_affine(fixed: np.ndarray, grid: Grid, moving: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The affine map that lays `moving` on `fixed`, from any usual pose.

    Parameters
    ----------
    fixed : (X, Y, Z) float32, template on `grid`
    moving : (X', Y', Z') float32, native scan, `affine` (4, 4) its voxels to RAS+ mm

    Returns
    -------
    (4, 4) template mm to native mm.
    """
    moving, affine = coarsen(moving, affine, 4.0)
    rough = [_schedule(fixed, grid, moving, affine, start, ROUGH) for start in search(fixed, grid, moving, affine)]
    best = max(rough, key=lambda matrix: local_similarity(fixed, grid, moving, affine, matrix))
    return _schedule(fixed, grid, moving, affine, best, FINE)


def local_similarity(
    fixed: np.ndarray, grid: Grid, moving: np.ndarray, affine: np.ndarray, matrix: np.ndarray
) -> float:
    """Local correlation under a map, in cubes of 70 mm: unlike the global one it is not led by bright fat (measured on
    a head with large ventricles, where the global one preferred a pitch wrong by 30°)."""
    coarse = regrid(grid, SEARCH_SPACING_MM)
    pair = pull(fixed, grid.affine, coarse), pull(moving, affine, coarse, matrix)
    return similarity(*(normalise_locally(volume, radius=3) for volume in pair))


def polish(
    fixed: np.ndarray,
    grid: Grid,
    moving: np.ndarray,
    affine: np.ndarray,
    start: np.ndarray,
    *,
    spacing_mm: float,
) -> np.ndarray:
    """A near map made exact: Gauss–Newton at twice `spacing_mm`, then at `spacing_mm`."""
    schedule = ((2 * spacing_mm, 6 * spacing_mm, 6, False), (spacing_mm, 4 * spacing_mm, 6, False))
    moving, affine = coarsen(moving, affine, spacing_mm)
    return _schedule(fixed, grid, moving, affine, start, schedule)


def _schedule(
    fixed: np.ndarray,
    grid: Grid,
    moving: np.ndarray,
    affine: np.ndarray,
    matrix: np.ndarray,
    schedule: tuple,
) -> np.ndarray:
    for spacing_mm, window_mm, iterations, rigid in schedule:
        matrix = refine(
            fixed,
            grid,
            moving,
            affine,
            matrix,
            spacing_mm=spacing_mm,
            window_mm=window_mm,
            iterations=iterations,
            rigid=rigid,
        )
    return matrix


def similarity(fixed: np.ndarray, moving: np.ndarray, where: np.ndarray | None = None) -> float:
    """Pearson correlation of two volumes (X, Y, Z), within `where` if given; 0 where one is constant."""
    a, b = (fixed, moving) if where is None else (fixed[where], moving[where])
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / size) if size > 0 else 0.0


def centre_of_mass(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Intensity-weighted centre in RAS+ mm, (3,)."""
    sums = [volume.sum(axis=tuple(k for k in range(3) if k != j), dtype=np.float64) for j in range(3)]
    index = [(line * np.arange(line.size)).sum() / max(line.sum(), 1e-12) for line in sums]
    return affine[:3, :3] @ np.asarray(index) + affine[:3, 3]


def poses(fixed_centre: np.ndarray, moving_centre: np.ndarray) -> list[np.ndarray]:
    """Rigid maps, template to native mm, that carry one centre to the other, turned and shifted in every way of the
    search."""
    found = []
    for pitch, roll, yaw, shift in itertools.product(PITCHES, ROLLS, YAWS, SHIFTS_MM):
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_euler("xyz", (pitch, roll, yaw), degrees=True).as_matrix()
        matrix[:3, 3] = moving_centre - matrix[:3, :3] @ (fixed_centre + np.array([0, 0, shift]))
        found.append(matrix)
    return found


def search(fixed: np.ndarray, grid: Grid, moving: np.ndarray, affine: np.ndarray) -> list[np.ndarray]:
    """The `N_STARTS` best poses by correlation on a coarse grid, best first, no two alike.

    Square roots of intensities are compared, because scalp fat is brighter than brain.
    """
    fixed, moving = np.sqrt(np.maximum(fixed, 0)), np.sqrt(np.maximum(moving, 0))
    coarse = regrid(grid, SEARCH_SPACING_MM)
    still = pull(fixed, grid.affine, coarse)
    smooth = antialias(moving, Grid(moving.shape, affine).spacing_mm, SEARCH_SPACING_MM)
    candidates = poses(centre_of_mass(fixed, grid.affine), centre_of_mass(moving, affine))
    scores = [similarity(still, pull(smooth, affine, coarse, pose, soft=False)) for pose in candidates]
    kept: list[np.ndarray] = []
    for k in np.argsort(scores)[::-1]:
        if all(_apart(candidates[k], other) for other in kept):
            kept.append(candidates[k])
        if len(kept) == N_STARTS:
            break
    return kept


def _apart(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two rigid maps differ enough to be worth refining both."""
    between = np.linalg.inv(one) @ other
    degrees = np.degrees(Rotation.from_matrix(between[:3, :3]).magnitude())
    return degrees > APART_DEGREES or np.linalg.norm(between[:3, 3]) > APART_MM


def refine(
    fixed: np.ndarray,
    grid: Grid,
    moving: np.ndarray,
    affine: np.ndarray,
    start: np.ndarray,
    *,
    spacing_mm: float,
    window_mm: float,
    iterations: int,
    rigid: bool = False,
) -> np.ndarray:
    """Gauss–Newton from `start` on a grid of `spacing_mm`; the best map met, by local correlation.

    Both images are locally normalised in cubes of half-width `window_mm`: wide cubes catch far, narrow ones fit
    exactly.
    """
    coarse = regrid(grid, spacing_mm)
    radius = max(1, round(window_mm / spacing_mm))
    still = normalise_locally(pull(fixed, grid.affine, coarse), radius=radius)
    still_slope = np.stack(np.gradient(still))
    smooth = antialias(moving, Grid(moving.shape, affine).spacing_mm, spacing_mm)
    points = coarse.points().reshape(3, -1)
    centre = points.mean(axis=1, keepdims=True)
    basis = np.concatenate([(points - centre) / 100, np.ones((1, points.shape[1]), dtype=np.float32)])
    matrix, best = start, (-np.inf, start)
    for turn in range(iterations + 1):
        warped = normalise_locally(pull(smooth, affine, coarse, matrix, soft=False), radius=radius)
        score = similarity(still, warped)
        best = (score, matrix) if score > best[0] else best
        if turn < iterations:
            slope = ((np.stack(np.gradient(warped)) + still_slope) / (2 * spacing_mm)).reshape(3, -1)
            matrix = matrix @ _motion(slope, (still - warped).ravel(), basis, centre[:, 0], rigid=rigid)
    return best[1]


def _motion(
    slope: np.ndarray, difference: np.ndarray, basis: np.ndarray, centre: np.ndarray, *, rigid: bool
) -> np.ndarray:
    """The small motion of the template (4, 4) that lowers the squared difference most, to first order.

    slope : (3, n) per mm; basis : (4, n), template points about `centre` in units of 100 mm, and ones.
    """
    if rigid:
        rows = np.concatenate([np.cross(basis[:3], slope, axis=0), slope])
    else:
        rows = (slope[:, None, :] * basis[None, :, :]).reshape(12, -1)
    normal = rows @ rows.T
    found = np.linalg.solve(normal + 1e-4 * np.trace(normal) / len(normal) * np.eye(len(normal)), rows @ difference)
    if rigid:
        linear, shift = Rotation.from_rotvec(found[:3] / 100).as_matrix(), found[3:]
    else:
        linear, shift = np.eye(3) + found.reshape(3, 4)[:, :3] / 100, found.reshape(3, 4)[:, 3]
    motion = np.eye(4)
    motion[:3, :3] = linear
    motion[:3, 3] = centre + shift - linear @ centre
    return motion
