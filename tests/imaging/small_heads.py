"""Small heads with a known deformation, made from the shipped Colin27 head."""

import os

os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from elr_mri.config import Convert, Register
from elr_mri.imaging import convert, register
from elr_mri.imaging.grids import Grid, at, box
from elr_mri.imaging.template import head_template

FAST = Register(recipe="fast", spacing_mm=3.0, n4_iterations=(10, 10), detail_iterations=18)


@dataclass
class Head:
    """A synthetic scan: `image` (X, Y, Z) on `grid`; `origin` (3, X, Y, Z), each voxel's place in Colin27, RAS+ mm."""

    image: np.ndarray
    grid: Grid
    origin: np.ndarray

    def save(self, path: Path) -> Path:
        nib.save(nib.Nifti1Image(self.image, self.grid.affine), path)
        return path


def make_head(
    *,
    seed=0,
    spacing_mm=3.0,
    warp_mm=0.0,
    turn_degrees=(0.0, 0.0, 0.0),
    shift_mm=(0.0, 0.0, 0.0),
    shrink=0.0,
    noise=0.02,
):
    """Colin27 at a pose, under a smooth random warp, tissue drawn together at the hippocampi, with bias and noise."""
    rng = np.random.default_rng(seed)
    head = head_template()
    grid = box((-96, -132, -84), (96, 100, 112), spacing_mm)
    points = grid.points()
    turn = Rotation.from_euler("xyz", turn_degrees, degrees=True).as_matrix()
    centre = np.array([0.0, -18.0, 10.0])[:, None]
    origin = turn @ (points.reshape(3, -1) - centre) + centre + np.array(shift_mm)[:, None]
    origin = origin.reshape(points.shape)
    coarse = box((-120, -160, -120), (120, 130, 140), 6.0)
    field = np.stack([ndimage.gaussian_filter(rng.normal(size=coarse.shape), 3.0) for _ in range(3)])
    field *= warp_mm / np.sqrt((field**2).mean())
    origin = origin + np.stack([at(part, coarse.affine, origin) for part in field])
    for side in (-1, 1):
        away = origin - np.array([side * 27.0, -22.0, -12.0])[:, None, None, None]
        weight = np.exp(-(((away[0] / 11) ** 2 + (away[1] / 24) ** 2 + (away[2] / 11) ** 2) ** 2))
        away[1] = 0
        origin = origin + away * weight * ((1 - shrink) ** -0.5 - 1)
    image = at(head.image, head.affine, origin, mode="constant")
    image *= np.exp(0.1 * np.sin(points[0] / 60) + 0.1 * np.cos(points[1] / 70))
    image = np.abs(image + rng.normal(0, noise, grid.shape)).astype(np.float32) * 900
    return Head(image, grid, origin.astype(np.float32))


def run(head: Head, folder: Path, scan_id: str, settings: Register = FAST) -> dict:
    """Convert and register a synthetic head into `folder`."""
    source = head.save(folder / f"{scan_id}.nii")
    convert.convert_scan(str(source), folder / "convert" / scan_id, scan_id, Convert())
    return register.register_converted(folder / "convert" / scan_id, folder / "register" / scan_id, scan_id, settings)
