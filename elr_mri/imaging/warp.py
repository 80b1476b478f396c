"""The deformable registration of a brain to the template, coarse to fine, and finer again in the medial temporal lobe.

Two engines. `demons` (ours, `demons.py`) is the default; `syn` is ANTs' symmetric normalization (Avants et al., Med
Image Anal 12, 2008) on the same images. Either is followed by demons in a box around the medial temporal lobes at
`detail_spacing_mm`, where the regions that matter lie and fine voxels are few.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from elr_mri.config import Register
from elr_mri.imaging.demons import demons, invert
from elr_mri.imaging.grids import Grid, box, pull
from elr_mri.imaging.template import Corners, Template
from elr_mri.imaging.transforms import Warp, read_warp

#: The box around both medial temporal lobes, MNI mm, and how wide the detail fades out inside its faces.
DETAIL_BOX_MM = ((-48.0, -52.0, -46.0), (48.0, 22.0, 14.0))
FADE_MM = 8.0

#: Demons: smoothing of each step and of the whole field, in voxels. The whole brain wants a stiff field (least error on
#: a known smooth warp); in the detail box it must follow atrophy: after 25 iterations at 2 mm the slope of measured on
#: planted hippocampal volumes was 0.93 with the field smoothed by 0.5 voxels, 1.01 with 0.4 (20 phantoms).
WHOLE_SIGMAS, DETAIL_SIGMAS = (1.4, 0.5), (1.0, 0.4)
#: Half-width of the normalising cube, voxels.
WINDOW_RADIUS = 2


def deform(template: Template, brain: np.ndarray, affine: np.ndarray, matrix: np.ndarray, settings: Register) -> Warp:
    """The warp of template space that, before the affine `matrix`, lays the native `brain` on the template.

    Parameters
    ----------
    brain : (X, Y, Z) float32, native, brain-extracted; `affine` (4, 4) its voxels to RAS+ mm.
    """
    if settings.warp == "none":
        grid = template.brain_grid(settings.field_spacing_mm)
        warp = Warp(grid, np.zeros((3, *grid.shape), dtype=np.float32))
    elif settings.warp == "syn":
        warp = _syn(template, brain, affine, matrix, settings)
    else:
        warp = pyramid(
            template,
            brain,
            affine,
            matrix,
            template.brain_grid,
            spacing_mm=settings.syn_spacing_mm,
            iterations=settings.syn_iterations,
        )
    kept = warp.onto(template.brain_grid(settings.field_spacing_mm))
    if settings.detail_iterations == 0:
        return kept
    corners = template.carried(DETAIL_BOX_MM)
    grid = box(*corners, settings.detail_spacing_mm)
    detail = _level(template, brain, affine, matrix, warp.onto(grid), settings.detail_iterations, DETAIL_SIGMAS)
    points = kept.grid.points()
    share = fade(points, corners)
    return Warp(kept.grid, share * detail.displacement(points) + (1 - share) * kept.field)


def pyramid(
    template: Template,
    moving: np.ndarray,
    affine: np.ndarray,
    matrix: np.ndarray,
    grid_at: Callable[[float], Grid],
    *,
    spacing_mm: float,
    iterations: tuple[int, ...],
) -> Warp:
    """Demons over levels of halved spacing, the last of them `spacing_mm`; `grid_at(mm)` gives the grid of a level."""
    warp = None
    for k, n in enumerate(iterations):
        grid = grid_at(spacing_mm * 2 ** (len(iterations) - 1 - k))
        start = Warp(grid, np.zeros((3, *grid.shape), dtype=np.float32)) if warp is None else warp.onto(grid)
        warp = _level(template, moving, affine, matrix, start, n, WHOLE_SIGMAS)
    return warp


def _level(
    template: Template,
    moving: np.ndarray,
    affine: np.ndarray,
    matrix: np.ndarray,
    start: Warp,
    n: int,
    sigmas: tuple[float, float],
) -> Warp:
    """`n` iterations of demons on the grid of `start`."""
    found = demons(
        template.image_on(start.grid),
        pull(moving, affine, start.grid, matrix),
        start.voxels(),
        iterations=n,
        update_sigma=sigmas[0],
        total_sigma=sigmas[1],
        window_radius=WINDOW_RADIUS,
    )
    return Warp(start.grid, found * np.float32(start.grid.spacing_mm.mean()))


def fade(points: np.ndarray, corners: Corners) -> np.ndarray:
    """1 in the middle of the detail box `corners`, 0 on its faces and outside, linear over `FADE_MM` between; (X, Y, Z)
    float32."""
    low, high = (np.asarray(corner, dtype=np.float32)[:, None, None, None] for corner in corners)
    inside = np.minimum(points - low, high - points).min(axis=0)
    return np.clip(inside / np.float32(FADE_MM), 0, 1)


def inverse(warp: Warp) -> Warp:
    """The inverse deformation, on the same grid."""
    return Warp(warp.grid, invert(warp.voxels()) * np.float32(warp.grid.spacing_mm.mean()))


def _syn(template: Template, brain: np.ndarray, affine: np.ndarray, matrix: np.ndarray, settings: Register) -> Warp:
    """ANTs SyN (mutual information) between the template and the affine-aligned brain, on one grid."""
    import ants  # seconds: only where it is used

    from elr_mri.imaging.bias import to_ants

    grid = template.brain_grid(settings.syn_spacing_mm)
    fixed, moving = (to_ants(volume, grid) for volume in (template.image_on(grid), pull(brain, affine, grid, matrix)))
    with tempfile.TemporaryDirectory() as scratch:
        ants.registration(
            fixed,
            moving,
            type_of_transform="SyNOnly",
            initial_transform="Identity",
            outprefix=f"{scratch}/",
            syn_metric="mattes",
            reg_iterations=settings.syn_iterations,
        )
        return read_warp(next(Path(scratch).glob("*[0-9]Warp.nii.gz")))
