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
from elr_mri.imaging.demons import normalise_locally
from elr_mri.imaging.grids import Grid, box, pull, regrid, through
from elr_mri.imaging.template import Template, brain_grid
from elr_mri.imaging.transforms import Warp
from elr_mri.imaging.warp import deform

#: Rounds of "mean, then every visit to the mean": spacing and half-width of the normalising cube (mm), iterations.
ROUNDS = ((4.0, 16.0, 6), (3.0, 12.0, 6), (2.0, 8.0, 5), (2.0, 8.0, 4))

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
    own = deformations(visits, matrices, settings)
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
    still = brain_grid(spacing)
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


def deformations(visits: Sequence[Visit], matrices: Sequence[np.ndarray], settings: Register) -> list[Warp]:
    """What is left of every visit's difference from the mean of all, as warps before `matrices`, template space.

    Their mean is taken off: what all visits share (the mean is smoother than any of them) belongs to none, and two
    visits differ by plus and minus the same field whichever comes first.
    """
    mean = Mean(visits, matrices)
    found = [deform(mean, v.brain, v.affine, m, settings) for v, m in zip(visits, matrices, strict=True)]
    shared = np.mean([warp.field for warp in found], axis=0)
    return [Warp(warp.grid, warp.field - shared) for warp in found]


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
