"""Affine registration finds a known map from any usual pose."""

import numpy as np
from scipy.spatial.transform import Rotation

from elr_mri.imaging.affine import centre_of_mass, polish, register_affine
from elr_mri.imaging.grids import box, coarsen, pull, through
from elr_mri.imaging.template import MNI, brain_grid, brain_template


def true_map():
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", (18, -7, 9), degrees=True).as_matrix() @ np.diag([1.08, 0.95, 1.02])
    matrix[:3, 3] = (12, -20, 15)
    return matrix


def test_a_known_map_is_found():
    template, grid = brain_template(MNI), brain_grid(4.0)
    native = box((-110, -150, -110), (120, 110, 130), 3.0)
    moving = pull(template.image, template.affine, native, np.linalg.inv(true_map())) * 700
    found = register_affine(template.image_on(grid), grid, moving, native.affine)
    found = polish(template.image_on(grid), grid, moving, native.affine, found, spacing_mm=4.0)
    points = grid.points()
    error = np.linalg.norm(through(found, points) - through(true_map(), points), axis=0)[template.mask_on(grid) > 0.5]
    assert np.percentile(error, 95) < 0.6


def test_coarsening_keeps_places_and_means():
    grid = box((0, 0, 0), (30, 30, 30), 1.0)
    ramp = grid.points()[0].copy()
    small, affine = coarsen(ramp, grid.affine, 3.0)
    places = affine[0, 0] * np.arange(small.shape[0]) + affine[0, 3]
    assert np.allclose(small[:, 2, 2], places, atol=1e-4)


def test_centre_of_mass_is_in_millimetres():
    volume = np.zeros((10, 12, 14), np.float32)
    volume[4, 6, 8] = 2
    affine = np.diag([2.0, 3, 4, 1])
    affine[:3, 3] = (-5, 1, 2)
    assert np.allclose(centre_of_mass(volume, affine), (3, 19, 34))
