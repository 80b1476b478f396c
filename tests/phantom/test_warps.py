"""Planted volume changes and random shapes: invertible, and of the size that was asked for."""

import numpy as np
import pytest

from elr_mri.phantom.warps import Grid, exponential, log_jacobian, random_velocity, velocity_of_divergence

GRID = Grid(shape=(32, 32, 32), origin_mm=(-48.0, -48.0, -48.0), spacing_mm=3.0)


@pytest.fixture(scope="module")
def ball() -> np.ndarray:
    return (np.linalg.norm(GRID.points(), axis=0) < 15).astype(np.float32)


def test_a_shrinking_source_shrinks_the_region_by_the_amount_asked_for(ball):
    velocity = velocity_of_divergence(-0.2 * ball, GRID, spread_mm=30)
    change = log_jacobian(exponential(velocity, GRID), GRID)
    assert change[ball > 0].mean() == pytest.approx(-0.2, abs=0.03)


def test_the_field_of_a_source_is_local(ball):
    velocity = velocity_of_divergence(-0.2 * ball, GRID)
    far = np.linalg.norm(GRID.points(), axis=0) > 45
    assert np.abs(velocity[far]).max() < 0.1 * np.abs(velocity).max()


def test_the_exponentials_of_a_field_and_of_its_negative_undo_each_other():
    velocity = random_velocity(np.random.default_rng(0), GRID, rms_mm=3.0, smooth_mm=15.0)
    there, back = exponential(velocity, GRID), exponential(-velocity, GRID)
    points = GRID.points()
    inner = points[:, 8:-8, 8:-8, 8:-8]
    moved = inner + GRID.sample(there, inner)
    returned = moved + GRID.sample(back, moved)
    assert np.abs(returned - inner).max() < 0.25


def test_random_shapes_have_the_asked_size_and_do_not_fold():
    velocity = random_velocity(np.random.default_rng(1), GRID, rms_mm=2.5, smooth_mm=18.0)
    assert np.sqrt((velocity**2).sum(-1).mean()) == pytest.approx(2.5, rel=1e-5)
    log_jacobian(exponential(velocity, GRID), GRID)


def test_a_folding_warp_is_refused():
    folding = np.zeros((*GRID.shape, 3), dtype=np.float32)
    folding[..., 0] = -2 * GRID.points()[0]
    with pytest.raises(ValueError, match="folds"):
        log_jacobian(folding, GRID)
