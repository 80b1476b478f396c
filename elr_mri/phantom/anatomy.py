"""The head that phantoms are deformed from, and the regions where the disease is planted.

The planted regions are drawn here from coordinates and tissue intensities (a tube along the
hippocampal axis, an ellipsoid for the entorhinal cortex, dark voxels for the ventricles, the
outer grey matter for the cortex). `measure` uses labels of another origin (an atlas), so the
pipeline is never graded against its own definitions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage, spatial

from elr_mri.phantom.effects import EFFECTS
from elr_mri.phantom.warps import Grid, velocity_of_divergence

#: Spacing in mm of the grid on which warps live.
WARP_SPACING_MM = 3.0

#: Points on the right hippocampal axis, tail to head, and the tube's radius; mm, MNI space. The left is its mirror image.
HIPPOCAMPAL_AXIS_MM = np.array(
    [
        (23, -38, 3),
        (24, -34, 0),
        (27, -30, -5),
        (28.5, -26, -9),
        (29.5, -22, -12),
        (29.5, -18, -14),
        (29, -14, -16),
        (27, -10, -17.5),
        (24, -6, -18),
    ],
    dtype=float,
)
HIPPOCAMPAL_RADIUS_MM = 5.8

#: Centre and half axes of the right entorhinal ellipsoid; mm, MNI space.
ENTORHINAL_CENTRE_MM = np.array([22.5, -5.0, -30.0])
ENTORHINAL_HALF_AXES_MM = np.array([9.0, 13.0, 8.5])

#: The box of the lateral ventricles; mm, MNI space, |x| counted from the midline.
VENTRICLE_BOX_MM = ((0, 38), (-50, 40), (-4, 32))
CORTEX_DEPTH_MM = 6.0

#: How far the disease reaches beyond a region's edge (standard deviation, mm): atrophy of the medial temporal lobe
#: does not stop at the border of a label.
SMOOTH_MM = {"hippocampus": 3.0, "entorhinal": 3.0, "ventricles": 1.5, "cortex": 1.5}

#: How far a small region may move: its true volume is summed in a box this much larger.
MARGIN_MM = 10.0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A head in RAS+ with its planted regions.

    image : (X, Y, Z) float32, the head; brain : (X, Y, Z) bool; regions : name -> (X, Y, Z) bool,
    by side where there are sides (`hippocampus_left` ...); affine : (4, 4) voxel to mm, axis-aligned;
    labels : (X, Y, Z) integer manual label map to carry along, or None.
    """

    name: str
    image: np.ndarray
    affine: np.ndarray
    brain: np.ndarray
    regions: dict[str, np.ndarray]
    labels: np.ndarray | None = None

    @cached_property
    def grid(self) -> Grid:
        """The coarse grid of this anatomy's warps."""
        return Grid.over(self.affine, self.image.shape, WARP_SPACING_MM)

    @cached_property
    def basis(self) -> dict[str, np.ndarray]:
        """Velocity field of each effect at a mean log volume change of 1, by region name without side."""
        fields = {}
        for effect in EFFECTS:
            names = [name for name in self.regions if name.startswith(effect)]
            density = self.density(names, smooth_mm=SMOOTH_MM[effect])
            field = velocity_of_divergence(density, self.grid)
            divergence = sum(np.gradient(field[..., k], self.grid.spacing_mm, axis=k) for k in range(3))
            # Smoothing and the halo weaken the field inside a small region: scale its mean back to 1.
            inside = self.density(names, smooth_mm=1.0)
            fields[effect] = field * np.float32(inside.sum() / (divergence * inside).sum())
        return fields

    @cached_property
    def bare(self) -> bool:
        """Whether the image is of a brain without its head: next to nothing around the mask."""
        return bool((self.image[~self.brain] > 0.05 * np.percentile(self.image[self.brain], 90)).mean() < 0.02)

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """Every region and the intracranial space as (X, Y, Z) float32, 0 or 1."""
        return {name: mask.astype(np.float32) for name, mask in {**self.regions, "intracranial": self.brain}.items()}

    @cached_property
    def counting_grids(self) -> list[tuple[list[str], np.ndarray, float]]:
        """Where true volumes are summed: names of regions, points (3, ...) in mm, spacing in mm."""
        grids = []
        for side in ("left", "right"):
            names = [name for name in self.regions if name.endswith(side)]
            where = np.argwhere(np.any([self.regions[name] for name in names], axis=0))
            corners = [
                self.affine[:3, :3] @ edge + self.affine[:3, 3] for edge in (where.min(axis=0), where.max(axis=0))
            ]
            axes = [np.arange(low - MARGIN_MM, high + MARGIN_MM, dtype=np.float32) for low, high in zip(*corners)]
            grids.append((names, np.stack(np.meshgrid(*axes, indexing="ij")), 1.0))
        rest = [name for name in self.masks if not name.endswith(("left", "right"))]
        return [*grids, (rest, self.grid.points(), self.grid.spacing_mm)]

    def index(self, points_mm: np.ndarray) -> np.ndarray:
        """Voxel coordinates (3, ...) of points (3, ...) in mm."""
        shape = (3,) + (1,) * (points_mm.ndim - 1)
        origin, spacing = (v.astype(np.float32).reshape(shape) for v in (self.affine[:3, 3], np.diag(self.affine)[:3]))
        return (points_mm - origin) / spacing

    def density(self, names: list[str], *, smooth_mm: float) -> np.ndarray:
        """(X, Y, Z) share of the named regions in every voxel of the warp grid, smoothed by a Gaussian."""
        mask = np.any([self.regions[name] for name in names], axis=0).astype(np.float32)
        smooth = ndimage.gaussian_filter(mask, smooth_mm / self.affine[0, 0])
        return ndimage.map_coordinates(smooth, self.index(self.grid.points()), order=1, mode="constant")


def planted_regions(image: np.ndarray, brain: np.ndarray, mni_mm: np.ndarray) -> dict[str, np.ndarray]:
    """Draw the planted regions on a head.

    Parameters
    ----------
    image : (X, Y, Z) float, T1-weighted
    brain : (X, Y, Z) bool
    mni_mm : (3, X, Y, Z) float
        MNI coordinates of every voxel.
    """
    dark, bright = np.percentile(ndimage.gaussian_filter(image, 1.0)[brain], [4, 85])
    grey_low, grey_high = dark + 0.35 * (bright - dark), dark + 0.90 * (bright - dark)
    grey = brain & (image > grey_low) & (image < grey_high)
    fluid = brain & (image < dark + 0.25 * (bright - dark))
    regions = {}
    axis = np.concatenate([np.linspace(p, q, 8) for p, q in zip(HIPPOCAMPAL_AXIS_MM[:-1], HIPPOCAMPAL_AXIS_MM[1:])])
    for side, sign in (("left", -1), ("right", 1)):
        mirrored = mni_mm * np.reshape([sign, 1, 1], (3, 1, 1, 1))
        candidates = grey & (abs(mirrored - np.reshape([25, -18, -15], (3, 1, 1, 1))) < 32).all(axis=0)
        points = mirrored[:, candidates].T
        near, _ = spatial.cKDTree(axis).query(points)
        ellipsoid = (((points - ENTORHINAL_CENTRE_MM) / ENTORHINAL_HALF_AXES_MM) ** 2).sum(axis=1)
        hippocampus, entorhinal = np.zeros((2, *brain.shape), dtype=bool)
        hippocampus[candidates] = near < HIPPOCAMPAL_RADIUS_MM
        entorhinal[candidates] = (ellipsoid < 1) & (near >= HIPPOCAMPAL_RADIUS_MM)
        regions[f"hippocampus_{side}"], regions[f"entorhinal_{side}"] = _rounded(hippocampus), _rounded(entorhinal)
    across, along, up = abs(mni_mm[0]), mni_mm[1], mni_mm[2]
    box = np.logical_and.reduce([(v > lo) & (v < hi) for v, (lo, hi) in zip((across, along, up), VENTRICLE_BOX_MM)])
    pieces, count = ndimage.label(fluid & box)
    sizes = ndimage.sum_labels(np.ones_like(pieces), pieces, range(1, count + 1))
    regions["ventricles"] = np.isin(pieces, 1 + np.flatnonzero(sizes > 0.2 * sizes.max()))
    depth = ndimage.distance_transform_edt(brain)
    regions["cortex"] = grey & (depth < CORTEX_DEPTH_MM) & (depth > 1)
    return regions


def _rounded(mask: np.ndarray) -> np.ndarray:
    """A mask without single-voxel spikes and holes."""
    return ndimage.gaussian_filter(mask.astype(np.float32), 1.0) > 0.5
