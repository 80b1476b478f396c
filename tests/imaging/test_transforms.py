"""Transform files: what we write, ANTs applies as we do."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from elr_mri.errors import BadInput
from elr_mri.imaging.grids import box
from elr_mri.imaging.transforms import Warp, read_affine, read_warp, to_native, to_template, write_affine, write_warp
from elr_mri.imaging.warp import inverse


def example():
    rng = np.random.default_rng(0)
    matrix = np.eye(4)
    matrix[:3, :3] += rng.normal(0, 0.1, (3, 3))
    matrix[:3, 3] = (5, -9, 14)
    grid = box((-50, -60, -40), (50, 60, 50), 5.0)
    field = np.stack([ndimage.gaussian_filter(rng.normal(size=grid.shape), 3) for _ in range(3)]) * 40
    return matrix, Warp(grid, field.astype(np.float32))


def points(n=40):
    return np.random.default_rng(1).uniform(-35, 35, (3, n)).astype(np.float32)


def test_files_come_back(tmp_path):
    matrix, warp = example()
    write_affine(tmp_path / "a.mat", matrix)
    write_warp(tmp_path / "w.nii.gz", warp)
    assert np.allclose(read_affine(tmp_path / "a.mat"), matrix)
    assert np.abs(read_warp(tmp_path / "w.nii.gz").field - warp.field).max() <= 1 / 512
    assert np.allclose(read_warp(tmp_path / "w.nii.gz").grid.affine, warp.grid.affine)


def test_ants_agrees(tmp_path):
    ants = pytest.importorskip("ants")
    matrix, warp = example()
    write_affine(tmp_path / "a.mat", matrix)
    write_warp(tmp_path / "w.nii.gz", warp)
    mine = to_native(points(), matrix, warp)
    flip = np.array([-1, -1, 1])[:, None]
    table = pd.DataFrame((points() * flip).T, columns=["x", "y", "z"])
    # Listed as for images, last applied first: a point of the template goes through the warp, then the affine.
    theirs = ants.apply_transforms_to_points(3, table, [str(tmp_path / "w.nii.gz"), str(tmp_path / "a.mat")])
    assert np.abs(theirs[["x", "y", "z"]].to_numpy().T * flip - mine).max() < 0.02


def test_there_and_back():
    matrix, warp = example()
    back = to_template(to_native(points(), matrix, warp), matrix, inverse(warp))
    assert np.abs(back - points()).max() < 0.15


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="register"):
        read_affine(tmp_path / "a.mat")
