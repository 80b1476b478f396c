"""Transforms as files that ANTs reads: an affine `.mat`, and displacement fields as NIfTI.

In memory a map is a 4 × 4 matrix from template to native mm, and a warp a displacement in mm of template points, both
RAS+. On disk they are LPS+, as ITK has it: `antsApplyTransforms -t warp -t affine` carries a native scan to the
template.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import io

from elr_mri.errors import BadInput
from elr_mri.imaging.demons import identity, sample
from elr_mri.imaging.grids import Grid, at, through
from elr_mri.provenance import atomic

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

#: Displacements are stored in steps of 1/256 mm: far below their accuracy, and the files are half as long.
STEP_PER_MM = 256


@dataclass(frozen=True)
class Warp:
    """A smooth invertible deformation of template space: `field` (3, X, Y, Z) float32 RAS+ mm on `grid`."""

    grid: Grid
    field: np.ndarray

    def displacement(self, points: np.ndarray) -> np.ndarray:
        """The displacement in mm at world points (3, …); beyond the grid, that of its border."""
        return np.stack([at(part, self.grid.affine, points) for part in self.field])

    def voxels(self) -> np.ndarray:
        """The displacement in voxels of the (isotropic) grid."""
        return self.field / np.float32(self.grid.spacing_mm.mean())

    def onto(self, grid: Grid) -> Warp:
        """The same deformation sampled on another grid."""
        return Warp(grid, self.displacement(grid.points()))

    def carry(self, volume: np.ndarray) -> np.ndarray:
        """A volume (X, Y, Z) on the warp's own grid, pulled through the warp."""
        return sample(volume, identity(self.grid.shape) + self.voxels())


def to_native(points: np.ndarray, matrix: np.ndarray, warp: Warp | None) -> np.ndarray:
    """Template points (3, …) in RAS+ mm, carried to the native scan: warp, then affine."""
    return through(matrix, points if warp is None else points + warp.displacement(points))


def to_template(points: np.ndarray, matrix: np.ndarray, inverse: Warp | None) -> np.ndarray:
    """Native points (3, …) in RAS+ mm, carried to the template: inverse affine, then inverse warp."""
    moved = through(np.linalg.inv(matrix), points)
    return moved if inverse is None else moved + inverse.displacement(moved)


def write_affine(path: Path, matrix: np.ndarray) -> None:
    """Write a map as ITK's binary affine (MATLAB level 4), LPS+."""
    lps = LPS @ matrix @ LPS
    content = {
        "AffineTransform_double_3_3": np.concatenate([lps[:3, :3].ravel(), lps[:3, 3]])[:, None],
        "fixed": np.zeros((3, 1)),
    }
    with atomic(path) as draft:
        io.savemat(draft, content, format="4")


def read_affine(path: Path) -> np.ndarray:
    """Read a map (4, 4) that `write_affine` or ANTs wrote."""
    try:
        content = io.loadmat(path)
        numbers = content[next(key for key in content if key.startswith(("AffineTransform", "MatrixOffset")))].ravel()
        centre = content["fixed"].ravel()
    except (
        OSError,
        ValueError,
        StopIteration,
        LookupError,
        TypeError,
        NotImplementedError,
        io.matlab.MatReadError,
    ) as problem:
        raise BadInput(
            expected="an affine transform of ITK",
            got=str(problem),
            where=str(path),
            fix="Run `elr-mri register` again.",
        ) from problem
    lps = np.eye(4)
    lps[:3, :3] = numbers[:9].reshape(3, 3)
    lps[:3, 3] = numbers[9:12] + centre - lps[:3, :3] @ centre
    return LPS @ lps @ LPS


def write_warp(path: Path, warp: Warp) -> None:
    """Write a displacement field as NIfTI: shape (X, Y, Z, 1, 3), intent vector, components LPS+ mm."""
    lps = np.moveaxis(warp.field * np.array([-1, -1, 1], dtype=np.float32)[:, None, None, None], 0, -1)[
        :, :, :, None, :
    ]
    image = nib.Nifti1Image(np.round(lps * STEP_PER_MM) / np.float32(STEP_PER_MM), warp.grid.affine)
    image.header.set_intent("vector")
    image.header.set_xyzt_units("mm")
    with atomic(path) as draft:
        nib.save(image, draft)


def read_warp(path: Path) -> Warp:
    """Read a displacement field that `write_warp` or ANTs wrote."""
    image = nib.load(path)
    lps = np.asarray(image.dataobj, dtype=np.float32).reshape(*image.shape[:3], 3)
    field = np.moveaxis(lps, -1, 0) * np.array([-1, -1, 1], dtype=np.float32)[:, None, None, None]
    return Warp(Grid(tuple(int(n) for n in image.shape[:3]), np.asarray(image.affine)), np.ascontiguousarray(field))
