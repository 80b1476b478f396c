"""From a head, a severity and a site to a scan: the subject's warp, the pose on the table, and what the scanner adds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from elr_mri.config import Phantom
from elr_mri.phantom.anatomy import Anatomy
from elr_mri.phantom.effects import log_volume_change
from elr_mri.phantom.subjects import Site, Subject, Visit
from elr_mri.phantom.warps import exponential, random_velocity

#: Mean size of a head relative to the anatomy (MNI space is larger than most heads), and the spread of the three axes.
HEAD_SCALE, HEAD_SCALE_SD = 0.93, 0.03
POSE_ROTATION_DEG, POSE_SHIFT_MM = 5.0, 6.0
VARIABILITY_SMOOTH_MM = 18.0
WHITE_MATTER = 1000.0


@dataclass(frozen=True)
class Warp:
    """How a scan was made from its anatomy.

    pull : (X, Y, Z, 3) float32, mm
        Displacement on the anatomy's warp grid; the anatomy is read at x + pull(x).
    pose : (4, 4)
        Scanner mm to (warped) anatomy mm: rotation, shift and head size.
    """

    pull: np.ndarray
    pose: np.ndarray


def draw_warp(settings: Phantom, subject: Subject, visit: Visit, anatomy: Anatomy) -> Warp:
    """The warp of one visit: the subject's own shape, the disease so far, and this session's pose."""
    own = np.random.default_rng([settings.seed, subject.index, 1])
    session = np.random.default_rng([settings.seed, subject.index, 2, visit.months])
    velocity = random_velocity(own, anatomy.grid, rms_mm=settings.variability_mm, smooth_mm=VARIABILITY_SMOOTH_MM)
    change = log_volume_change(
        visit.severity,
        visit.age_years,
        subject.individual,
        effect_scale=settings.effect_scale,
        spread_scale=settings.spread_scale,
    )
    for region, amount in change.items():
        velocity += np.float32(amount) * anatomy.basis[region]
    size = HEAD_SCALE + HEAD_SCALE_SD * own.standard_normal(3)
    rotation = Rotation.from_euler("xyz", session.normal(0, POSE_ROTATION_DEG, 3), degrees=True)
    pose = np.eye(4)
    pose[:3, :3] = np.diag(1 / size) @ rotation.as_matrix()
    pose[:3, 3] = session.normal(0, POSE_SHIFT_MM, 3)
    return Warp(exponential(-velocity, anatomy.grid), pose)


def true_volumes(warp: Warp, anatomy: Anatomy) -> dict[str, float]:
    """True volume in mm3 of every planted region and of the intracranial space.

    The regions are read through the warp and summed: on a 1 mm grid around the small ones, on the warp's
    own grid for the rest.
    """
    size = 1 / np.linalg.det(warp.pose[:3, :3])
    volumes = {}
    for names, points, spacing_mm in anatomy.counting_grids:
        pull = (
            np.moveaxis(warp.pull, -1, 0)
            if points.shape[1:] == anatomy.grid.shape
            else anatomy.grid.sample(warp.pull, points)
        )
        index = anatomy.index(points + pull)
        for name in names:
            share = ndimage.map_coordinates(anatomy.masks[name], index, order=1, mode="constant", output=np.float32)
            volumes[name] = float(share.sum(dtype=np.float64) * spacing_mm**3 * size)
    return volumes


def render(
    settings: Phantom, subject: Subject, visit: Visit, anatomy: Anatomy
) -> tuple[nib.Nifti1Image, Warp, dict[str, float]]:
    """One scan as the site's scanner would store it (int16, the site's axes), with its warp and true volumes."""
    warp = draw_warp(settings, subject, visit, anatomy)
    rng = np.random.default_rng([settings.seed, subject.index, 3, visit.months])
    shape, affine = scan_grid(anatomy, settings.spacing_mm, subject.site)
    signal = _signal(anatomy, subject.site, settings.spacing_mm)
    index = anatomy_index(anatomy, warp, shape, affine)
    image = ndimage.map_coordinates(signal, index, order=1, mode="constant", output=np.float32)
    image *= bias_field(rng, shape, subject.site.bias)
    noise = subject.site.noise * WHITE_MATTER
    image = np.hypot(image + rng.normal(0, noise, shape), rng.normal(0, noise, shape))
    if anatomy.bare:  # a brain-extracted anatomy stays one: nothing around the brain, noise neither
        image *= ndimage.map_coordinates(anatomy.masks["intracranial"], index, order=1, mode="constant") > 0.5
    scan = nib.Nifti1Image(np.clip(np.round(image), 0, 32767).astype(np.int16), affine)
    scan.header.set_xyzt_units("mm", "sec")
    turned = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(subject.site.axes))
    )
    return scan.as_reoriented(turned), warp, true_volumes(warp, anatomy)


def scan_grid(anatomy: Anatomy, spacing_mm: float, site: Site) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape and RAS+ affine of a scan: the anatomy's field of view in the site's voxels."""
    spacing = spacing_mm * np.asarray(site.relative_spacing)
    extent = np.asarray(anatomy.image.shape) * np.diag(anatomy.affine)[:3]
    shape = tuple(int(n) for n in np.ceil(extent / spacing))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = anatomy.affine[:3, 3]
    return shape, affine


def anatomy_index(anatomy: Anatomy, warp: Warp, shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """(3, X, Y, Z) anatomy voxel coordinates of every voxel of a scan grid (RAS+ affine)."""
    to_anatomy = warp.pose @ affine
    voxels = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij"))
    points = np.tensordot(to_anatomy[:3, :3].astype(np.float32), voxels, axes=1)
    points += to_anatomy[:3, 3].astype(np.float32).reshape(3, 1, 1, 1)
    return anatomy.index(points + anatomy.grid.sample(warp.pull, points))


@lru_cache(maxsize=8)
def _signal(anatomy: Anatomy, site: Site, spacing_mm: float) -> np.ndarray:
    """The anatomy's image in the site's contrast, blurred to the site's resolution; white matter about 1000."""
    white = np.percentile(anatomy.image[anatomy.brain], 90)
    contrast = WHITE_MATTER * np.clip(anatomy.image / white, 0, None) ** site.gamma
    voxels = spacing_mm * np.asarray(site.relative_spacing) / np.diag(anatomy.affine)[:3]
    sigma = np.sqrt(np.clip(voxels**2 - 1, 0, None)) / 2.355
    return ndimage.gaussian_filter(contrast.astype(np.float32), sigma)


def bias_field(rng: np.random.Generator, shape: tuple[int, int, int], strength: float) -> np.ndarray:
    """Smooth multiplicative field (X, Y, Z) of a receive coil: the exponential of a few random cosines."""
    axes = np.meshgrid(*[np.linspace(0, 1, n, dtype=np.float32) for n in shape], indexing="ij", sparse=True)
    field = np.zeros(shape, dtype=np.float32)
    for axis in axes:
        for order in (1, 2):
            field = field + np.float32(rng.normal(0, strength / 2)) * np.cos(
                np.pi * order * axis + rng.uniform(0, 2 * np.pi)
            )
    return np.exp(field)


def carried_labels(warp: Warp, anatomy: Anatomy, scan: nib.Nifti1Image) -> nib.Nifti1Image:
    """The anatomy's label map on the grid of its scan, nearest neighbour."""
    straight = nib.as_closest_canonical(scan)
    index = anatomy_index(anatomy, warp, straight.shape, straight.affine)
    labels = ndimage.map_coordinates(anatomy.labels, index, order=0, mode="constant")
    back = nib.orientations.ornt_transform(nib.io_orientation(straight.affine), nib.io_orientation(scan.affine))
    return nib.Nifti1Image(labels.astype(np.int16), straight.affine).as_reoriented(back)
