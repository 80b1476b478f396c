import numpy as np
import pytest
import torch

from elr_mri.config import Augment
from elr_mri.learning.augment import TERMS, Changes, change, draw_changes, rotation
from elr_mri.learning.views import View, cut

SHAPE = (9, 10, 9)
WHOLE = tuple(np.arange(n) for n in SHAPE)
UNIT = (160.0, 255.0)
EVERYTHING = Augment(flip=0.5, rotate_deg=10, scale=0.1, translate_mm=6, gamma=0.3, noise=0.1, bias_field=0.2)


def scan(channels: int = 1) -> torch.Tensor:
    values = torch.from_numpy(np.random.default_rng(0).integers(1, 250, size=(channels, *SHAPE))).float()
    values[:, 0] = 0  # background
    return values


def changed(values: torch.Tensor, changes: Changes) -> torch.Tensor:
    return change(values, changes, WHOLE, SHAPE, UNIT)


def test_nothing_asked_for_is_nothing_drawn() -> None:
    assert draw_changes(np.random.default_rng(0), Augment(), 1.5) is None
    assert torch.equal(changed(scan(), Changes()), scan())


def test_the_draw_is_a_function_of_the_generator_and_so_is_what_is_applied() -> None:
    one, two, other = (draw_changes(np.random.default_rng(s), EVERYTHING, 1.5) for s in (1, 1, 2))
    assert torch.equal(changed(scan(), one), changed(scan(), two))
    assert not torch.equal(changed(scan(), one), changed(scan(), other))


def test_changes_are_drawn_within_their_ranges_and_reach_them() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_changes(rng, EVERYTHING, 1.5) for _ in range(2000)]
    assert np.mean([c.mirrored for c in drawn]) == pytest.approx(0.5, abs=0.05)
    matrices = np.stack([c.affine for c in drawn])
    scales = np.linalg.norm(matrices[:, :, :3], axis=1)
    for values, low, high in (
        (scales, 0.9, 1.1),
        (matrices[:, :, 3], -4.0, 4.0),  # 6 mm of 1.5 mm
        (np.log([c.gamma for c in drawn]), -0.3, 0.3),
        ([c.noise for c in drawn], 0.0, 0.1),
        (np.stack([c.bias for c in drawn]), -0.2, 0.2),
    ):
        span = high - low
        assert low <= np.min(values) < low + 0.02 * span and high - 0.02 * span < np.max(values) <= high


def test_each_change_is_drawn_alone_where_it_alone_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    for key in ("rotate_deg", "scale", "translate_mm"):
        only = draw_changes(rng, Augment(**{key: 0.5}), 1.5)
        assert only.affine is not None and (only.mirrored, only.gamma, only.bias, only.noise) == (False, 1.0, None, 0.0)
    only = draw_changes(rng, Augment(noise=0.1), 1.5)
    assert only.affine is None and only.bias is None and only.gamma == 1.0 and only.noise > 0
    assert draw_changes(rng, Augment(flip=1), 1.5).mirrored


def test_a_mirror_exchanges_left_and_right_only() -> None:
    assert torch.equal(changed(scan(2), Changes(mirrored=True)), scan(2).flip(1))


def test_a_mirror_of_a_window_is_the_window_of_the_mirrored_scan() -> None:
    view = View((1, 2, 3), sigma=0.3, changes=Changes(mirrored=True))
    piece = cut(scan(), view, 4)
    places = tuple(np.arange(o - 1, o + 5) for o in view.offset)
    assert torch.equal(change(piece, view.changes, places, SHAPE, UNIT), scan().flip(1)[:, 0:6, 1:7, 2:8])


def test_a_quarter_turn_is_a_transpose() -> None:
    """About the second axis, whose other two are equally long: right goes where superior was."""
    turn = Changes(affine=np.column_stack([rotation(np.array([0, np.pi / 2, 0])), np.zeros(3)]))
    expected = scan().transpose(1, 3).flip(1)
    torch.testing.assert_close(changed(scan(), turn), expected, atol=1e-3, rtol=0)
    mirrored = changed(scan(), Changes(mirrored=True, affine=turn.affine))
    torch.testing.assert_close(mirrored, scan().flip(1).transpose(1, 3).flip(1), atol=1e-3, rtol=0)


def test_a_shift_by_whole_voxels_moves_the_scan_and_background_comes_in() -> None:
    shift = Changes(affine=np.column_stack([np.eye(3), [0, 2, -3]]))
    values = scan()
    values[:, 0, 0, 0] = 7  # what lies beyond the grid
    moved = changed(values, shift)
    torch.testing.assert_close(moved[:, :, :8, 3:], values[:, :, 2:, :-3], atol=1e-3, rtol=0)
    torch.testing.assert_close(moved[:, :, 8:], torch.full_like(moved[:, :, 8:], 7), atol=1e-3, rtol=0)


def test_a_window_of_a_turned_scan_is_that_part_of_it() -> None:
    turn = Changes(affine=np.column_stack([rotation(np.array([0.1, 0.2, -0.1])) * 1.05, [0.3, 0, 1]]))
    places = (np.arange(2, 7), np.arange(3, 9), np.arange(1, 8))
    part = change(scan(), turn, places, SHAPE, UNIT)
    torch.testing.assert_close(part, changed(scan(), turn)[:, 2:7, 3:9, 1:8], atol=1e-4, rtol=0)


def test_gamma_keeps_white_matter_and_background() -> None:
    values = scan()
    values[0, 1, 0, :2] = torch.tensor([160.0, 80.0])
    seen = changed(values, Changes(gamma=2.0))
    assert seen[0, 1, 0, :2].tolist() == pytest.approx([160, 40], abs=1e-3)
    assert (seen[:, 0] == 0).all() and seen.max() <= 255


def test_noise_is_as_strong_as_drawn_and_spares_the_background() -> None:
    values = torch.full((1, 30, 30, 30), 128.0)
    values[:, :5] = 0
    places = (np.arange(30),) * 3
    seen = change(values, Changes(noise=0.02, noise_seed=3), places, (30, 30, 30), UNIT)
    assert (seen[:, :5] == 0).all()
    assert (seen - values)[:, 5:].std().item() == pytest.approx(0.02 * 255, rel=0.03)


def test_a_bias_field_is_smooth_and_its_logarithm_the_polynomial() -> None:
    bias = np.zeros(len(TERMS))
    bias[TERMS.index((1, 0, 0))], bias[TERMS.index((0, 1, 2))] = 0.3, -0.2
    seen = changed(torch.full((1, *SHAPE), 100.0), Changes(bias=bias))
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    np.testing.assert_allclose(np.log(seen[0].numpy() / 100), 0.3 * x - 0.2 * y * z**2, atol=1e-5)


def test_intensities_change_in_the_scan_and_not_in_the_log_jacobian() -> None:
    bias = np.full(len(TERMS), 0.1)
    seen = changed(scan(2), Changes(gamma=1.2, bias=bias, noise=0.05, noise_seed=1))
    assert torch.equal(seen[1], scan(2)[1]) and not torch.equal(seen[0], scan(2)[0])
    assert seen.shape == (2, *SHAPE)
