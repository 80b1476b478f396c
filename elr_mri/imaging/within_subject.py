"""The visits of one subject through a template of their own, so that what differs between them is the subject.

Registered one by one, the visits of a subject differ by the error of every registration; registered to one of them,
by the smoothing that all the others went through and it did not. So every visit is treated alike: all are moved to the
space halfway between them, their mean there (the median from three on) is the within-subject template, which alone is
registered to the brain template, and what is left of a visit's difference from the mean is a small deformation.

Reuter, Fischl. Avoiding asymmetry-induced bias in longitudinal image processing. NeuroImage 57, 2011.
Reuter, Schmansky, Rosas, Fischl. Within-subject template estimation for unbiased longitudinal image analysis.
NeuroImage 61, 2012: sections 2.2 and 2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.spatial.transform import Rotation

from elr_mri.config import Register
from elr_mri.imaging.affine import polish, refine, similarity
from elr_mri.imaging.demons import MAX_STEP_VOXELS, compose, identity, normalise_locally, sample, smooth
from elr_mri.imaging.grids import Grid, box, pull, regrid, through
from elr_mri.imaging.template import Template
from elr_mri.imaging.transforms import Warp
from elr_mri.imaging.warp import DETAIL_BOX_MM, deform, fade

#: Rounds of "mean, then every visit to the mean": spacing and half-width of the normalising cube (mm), iterations.
ROUNDS = ((4.0, 16.0, 6), (3.0, 12.0, 6), (2.0, 8.0, 5), (2.0, 8.0, 4))

#: The deformation of a visit: standard deviation of the neighbourhood and half-width of the normalising cube (voxels),
#: steps, and the ridge as a share of the mean strength of edges.
LOCAL_SIGMA, WINDOW_RADIUS, STEPS, RIDGE = 1.7, 4, 10, 0.05

#: The within-subject template is not made finer than this, and reaches this far beyond the brains, mm.
FINEST_MM, MARGIN_MM = 1.0, 8.0
CLOSENESS_SPACING_MM = 3.0


@dataclass(frozen=True)
class Visit:
    """A visit by itself: `brain` (X, Y, Z) float32, native, bias-corrected, white matter 1; its voxels to RAS+ mm
    (4, 4); the brain template's mm to native mm (4, 4) as found without the other visits."""

    brain: np.ndarray
    affine: np.ndarray
    matrix: np.ndarray


@dataclass(frozen=True)
class Shared:
    """A visit through the within-subject template: `matrix` (4, 4) and `warp` from the brain template to native mm;
    `pose` (4, 4) from the within-subject template's mm to native mm; `correlation` with the within-subject template."""

    matrix: np.ndarray
    warp: Warp
    pose: np.ndarray
    correlation: float


@dataclass(frozen=True)
class Mean:
    """The mean of several visits as a template: made anew on every grid, so that each visit is interpolated once."""

    visits: Sequence[Visit]
    matrices: Sequence[np.ndarray]

    def image_on(self, grid: Grid) -> np.ndarray:
        """The mean of two visits, the median of more, (X, Y, Z) float32."""
        there = np.stack([pull(v.brain, v.affine, grid, m) for v, m in zip(self.visits, self.matrices, strict=True)])
        return there.mean(axis=0) if len(there) == 2 else np.median(there, axis=0)


def share_template(visits: Sequence[Visit], template: Template, settings: Register) -> list[Shared]:
    """Register two or more visits of one subject to the brain template through their own.

    Only rigid motion and the small deformation differ between visits. A scale per visit would follow the scanner's
    drift, but also take a share of the atrophy, because the brain alone is seen and it shrinks.
    """
    poses = halfway(visits)
    grid = _around(visits, poses)
    poses = align_visits(visits, poses, grid)
    mean = Mean(visits, poses)
    image = mean.image_on(grid)
    affine = _affine(visits, poses, image, grid, template, settings)
    common = deform(template, image, grid.affine, affine, settings)
    matrices = [pose @ affine for pose in poses]
    own = deformations(visits, matrices, template, settings)
    return [
        Shared(matrix, followed_by(common, warp), pose, near)
        for matrix, warp, pose, near in zip(matrices, own, poses, _closeness(mean, grid), strict=True)
    ]


def _affine(
    visits: Sequence[Visit],
    poses: Sequence[np.ndarray],
    image: np.ndarray,
    grid: Grid,
    template: Template,
    settings: Register,
) -> np.ndarray:
    """The affine map from the brain template's mm to the within-subject template's, begun at the mean of the
    visits' own."""
    start = np.mean([np.linalg.inv(pose) @ visit.matrix for pose, visit in zip(poses, visits, strict=True)], axis=0)
    spacing = settings.affine_spacing_mm
    still = template.brain_grid(spacing)
    return polish(template.image_on(still), still, image, grid.affine, start, spacing_mm=spacing)


def halfway(visits: Sequence[Visit]) -> list[np.ndarray]:
    """Rigid maps (4, 4) from the halfway space to every visit's native mm, by the visits' own affine registrations."""
    poses = []
    for visit in visits:
        pose = visit.matrix.copy()
        pose[:3, :3] = linalg.polar(visit.matrix[:3, :3])[0]
        poses.append(pose)
    inside = np.mean([pose[:3, 3] for pose in poses], axis=0)  # the origin of MNI space lies in the brain
    return centred(poses, inside)


def centred(poses: Sequence[np.ndarray], centre: np.ndarray) -> list[np.ndarray]:
    """The same rigid maps from a space that lies halfway: on average they neither turn it nor move its `centre` (3,),
    mm."""
    mean = np.mean(poses, axis=0)
    turn = Rotation.from_matrix([pose[:3, :3] for pose in poses]).mean().as_matrix()
    back = np.eye(4)
    back[:3, :3] = turn.T
    back[:3, 3] = np.linalg.solve(mean[:3, :3], centre - mean[:3, 3]) - turn.T @ centre
    return [pose @ back for pose in poses]


def align_visits(visits: Sequence[Visit], poses: Sequence[np.ndarray], grid: Grid) -> list[np.ndarray]:
    """The rigid maps made exact: every visit to the mean of all, the mean made anew, and so on."""
    centre = grid.affine[:3, :3] @ ((np.asarray(grid.shape) - 1) / 2) + grid.affine[:3, 3]
    for spacing_mm, window_mm, iterations in ROUNDS:
        mean = Mean(visits, poses).image_on(grid)
        moved = [
            refine(
                mean,
                grid,
                visit.brain,
                visit.affine,
                pose,
                spacing_mm=spacing_mm,
                window_mm=window_mm,
                iterations=iterations,
                rigid=True,
            )
            for visit, pose in zip(visits, poses, strict=True)
        ]
        poses = centred(moved, centre)
    return list(poses)


def deformations(
    visits: Sequence[Visit], matrices: Sequence[np.ndarray], template: Template, settings: Register
) -> list[Warp]:
    """What is left of every visit's difference from the mean of all, as warps before `matrices`, template space.

    Their mean is taken off: what all visits share (the mean is smoother than any of them) belongs to none, and two
    visits differ by plus and minus the same field whichever comes first.
    """
    mean = Mean(visits, matrices)
    whole = template.brain_grid(settings.field_spacing_mm)
    found = _follow(mean, [Warp(whole, np.zeros((3, *whole.shape), dtype=np.float32))] * len(visits))
    if settings.detail_iterations:
        corners = template.carried(DETAIL_BOX_MM)
        detail = box(*corners, settings.detail_spacing_mm)
        points = whole.points()
        share = fade(points, corners)
        fine = _follow(mean, [warp.onto(detail) for warp in found])
        found = [
            Warp(whole, share * near.displacement(points) + (1 - share) * warp.field)
            for near, warp in zip(fine, found, strict=True)
        ]
    shared = np.mean([warp.field for warp in found], axis=0)
    return [Warp(whole, warp.field - shared) for warp in found]


def _follow(mean: Mean, starts: Sequence[Warp]) -> list[Warp]:
    """The warp of every visit from the mean of all, on the grid of `starts`."""
    grid = starts[0].grid
    still, spacing = mean.image_on(grid), np.float32(grid.spacing_mm.mean())
    moved = [pull(v.brain, v.affine, grid, m) for v, m in zip(mean.visits, mean.matrices, strict=True)]
    return [
        Warp(grid, least_squares(still, image, start.voxels()) * spacing)
        for image, start in zip(moved, starts, strict=True)
    ]


def least_squares(fixed: np.ndarray, moving: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The displacement that carries `moving` onto `fixed`, from `start`; arrays and units as in `demons`.

    Each step is the shift that, in a Gaussian neighbourhood, lowers the squared difference most: edges speak, and the
    noise of flat tissue does not, which between scans of one brain is most of what demons would follow (Lucas, Kanade,
    IJCAI 1981; Baker, Matthews, IJCV 56, 2004). A ridge on the whole displacement leaves places without edges where
    they were; nothing else pulls it back, so small changes are found nearly in full.
    """
    still, mover = (normalise_locally(volume, radius=WINDOW_RADIUS) for volume in (fixed, moving))
    still_slope, index, u = np.stack(np.gradient(still)), identity(still.shape), start.astype(np.float32)
    for _ in range(STEPS):
        warped = sample(mover, index + u)
        slope = (np.stack(np.gradient(warped)) + still_slope) / 2
        step = _local_shift(slope, still - warped, u)
        u = compose(u, np.clip(step, -MAX_STEP_VOXELS, MAX_STEP_VOXELS), index)
    return u


def _local_shift(slope: np.ndarray, difference: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The shift (3, X, Y, Z) that, added to `u`, solves the local normal equations with their ridge on the sum."""
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    products = smooth(np.stack([slope[i] * slope[j] for i, j in pairs]), LOCAL_SIGMA)
    normal = np.empty((*difference.shape, 3, 3), dtype=np.float32)
    for (i, j), product in zip(pairs, products, strict=True):
        normal[..., i, j] = normal[..., j, i] = product
    strength = normal[..., 0, 0] + normal[..., 1, 1] + normal[..., 2, 2]
    ridge = np.float32(RIDGE * strength[strength > 0].mean())
    normal += ridge * np.eye(3, dtype=np.float32)
    right = np.moveaxis(smooth(slope * difference, LOCAL_SIGMA) - ridge * u, 0, -1)
    return np.moveaxis(np.linalg.solve(normal, right[..., None])[..., 0], -1, 0)


def followed_by(first: Warp, second: Warp) -> Warp:
    """`first`, then `second`, as one warp on the grid of `first`."""
    return Warp(first.grid, first.field + second.displacement(first.grid.points() + first.field))


def _around(visits: Sequence[Visit], poses: Sequence[np.ndarray]) -> Grid:
    """The grid of the within-subject template: every brain in the halfway space, with a margin."""
    corners = []
    for visit, pose in zip(visits, poses, strict=True):
        index = np.argwhere(visit.brain[::4, ::4, ::4] > 0).T * 4.0
        points = through(np.linalg.inv(pose) @ visit.affine, index)
        corners += [points.min(axis=1), points.max(axis=1)]
    spacing = min(float(Grid(visit.brain.shape, visit.affine).spacing_mm.mean()) for visit in visits)
    low, high = np.min(corners, axis=0) - MARGIN_MM, np.max(corners, axis=0) + MARGIN_MM
    return box(tuple(low), tuple(high), max(spacing, FINEST_MM))


def _closeness(mean: Mean, grid: Grid) -> list[float]:
    """Local correlation of every visit with the mean of all, inside the brain."""
    coarse = regrid(grid, CLOSENESS_SPACING_MM)
    image = mean.image_on(coarse)
    inside = image > 0
    still = normalise_locally(image, radius=3)
    moved = [pull(v.brain, v.affine, coarse, pose) for v, pose in zip(mean.visits, mean.matrices, strict=True)]
    return [similarity(still, normalise_locally(volume, radius=3), inside) for volume in moved]
