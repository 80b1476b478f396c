"""Displacements: the algebra is exact, and a known deformation is found whatever contrast and bias."""

import numpy as np
import pytest
from scipy import ndimage

from elr_mri.imaging.demons import compose, demons, identity, invert, jacobian, normalise_locally, sample

SHAPE = (36, 40, 34)
INNER = (slice(None), *(slice(6, -6),) * 3)


def smooth_field(seed, size, sigma=5.0):
    rng = np.random.default_rng(seed)
    field = np.stack([ndimage.gaussian_filter(rng.normal(size=SHAPE), sigma) for _ in range(3)])
    return (size * field / np.abs(field).max()).astype(np.float32)


def texture(seed=0):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.5).astype(np.float32)


def test_inverse_undoes_the_displacement():
    u = smooth_field(1, 2.0)
    there_and_back = compose(u, invert(u), identity(SHAPE))
    assert np.abs(there_and_back[INNER]).max() < 0.02


def test_jacobian_of_a_scaling_is_its_volume_ratio():
    index = identity(SHAPE)
    assert np.allclose(jacobian(0.1 * index), 1.1**3, rtol=1e-4)
    assert np.allclose(jacobian(np.zeros_like(index)), 1)


def test_jacobian_of_an_inverse_is_the_reciprocal():
    u = smooth_field(2, 1.5)
    product = jacobian(invert(u)) * sample(jacobian(u), identity(SHAPE) + invert(u))
    assert np.abs(product[INNER[1:]] - 1).max() < 0.05


def test_equal_images_do_not_move():
    image = texture()
    u = demons(
        image, image, np.zeros((3, *SHAPE), np.float32), iterations=3, update_sigma=1, total_sigma=0.5, window_radius=2
    )
    assert np.abs(u).max() < 1e-5


@pytest.mark.parametrize("change", ["none", "contrast", "bias"])
def test_a_known_displacement_is_found(change):
    fixed, true = texture(), smooth_field(3, 2.0)
    moving = sample(fixed, identity(SHAPE) + invert(true))
    ramp = np.linspace(0.5, 2, SHAPE[0], dtype=np.float32)[:, None, None]
    moving = {"none": moving, "contrast": 300 * moving + 50, "bias": moving * ramp}[change]
    start = np.zeros((3, *SHAPE), np.float32)
    found = demons(fixed, moving, start, iterations=25, update_sigma=1.4, total_sigma=0.5, window_radius=2)
    error = np.linalg.norm((found - true)[INNER], axis=0)
    assert np.median(error) < 0.25 < 0.5 * np.median(np.linalg.norm(true[INNER], axis=0))


def test_local_normalisation_ignores_gain_and_offset():
    image = texture()
    assert np.allclose(normalise_locally(image, radius=2), normalise_locally(7 * image + 3, radius=2), atol=2e-3)
