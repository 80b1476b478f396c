from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from toy_study import Study, write_study

from elr_mri.config import Augment
from elr_mri.learning.checkpoint import Model
from elr_mri.learning.dataset import read_scan_set
from elr_mri.learning.standardise import Standardise, extremes
from elr_mri.learning.views import Scratch, View, _by_matrices, _by_shifts, centred, cut, draw, gaussian, look

SHAPE = (26, 27, 28)
DRAWING = {"crop": 34, "shift_max": 1, "blur_sigma_max": 1.0, "augment": Augment(), "spacing_mm": 1.5}


def see(stored: np.ndarray, view: View, crop: int) -> torch.Tensor:
    """A view of a scan (n_channels, X, Y, Z) that is standardised by its extremes."""
    volume = torch.from_numpy(stored)
    plain = Standardise("scan", stored.shape)
    piece = cut(volume, view, crop)
    return look(piece, view, crop, plain, shape=stored.shape[1:], extremes=extremes(volume))


def bytes_of_a_scan(channels: int = 1) -> np.ndarray:
    stored = np.random.default_rng(0).integers(0, 256, size=(channels, *SHAPE), dtype=np.uint8)
    stored[:, 0, 0, :2] = 0, 255
    return stored


def test_a_view_without_blur_is_the_crop() -> None:
    stored = bytes_of_a_scan(channels=2)
    seen = see(stored, View((0, 3, 5)), 7)
    assert torch.equal(seen, torch.from_numpy(stored[:, 0:7, 3:10, 5:12] / np.float32(255)))


@pytest.mark.parametrize("offset", [(7, 8, 6), (0, 0, 0), (14, 15, 16), (1, 15, 3)])
@pytest.mark.parametrize("sigma", [0.1, 0.2, 0.8, 1.0, 1.7])
def test_a_blurred_view_is_the_crop_of_scipys_blurred_volume(offset: tuple[int, int, int], sigma: float) -> None:
    """Reference: min-max, `gaussian_filter`, crop; also where the blur reaches beyond the border."""
    stored = bytes_of_a_scan(channels=2)
    expected = [gaussian_filter(channel / np.float32(255), sigma) for channel in stored]
    box = tuple(slice(start, start + 12) for start in offset)
    seen = see(stored, View(offset, sigma), 12)
    np.testing.assert_allclose(seen.numpy(), np.stack(expected)[(slice(None), *box)], atol=1e-6)


def test_both_ways_to_blur_agree() -> None:
    values, weights = torch.rand(2, 15, 16, 17), gaussian(0.9, 4)
    one, other = _by_shifts(values, weights, Scratch()), _by_matrices(values, weights)
    assert one.shape == (2, 7, 8, 9) and other.is_contiguous()
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_evaluation_looks_at_the_centre() -> None:
    assert centred((61, 73, 61), 48) == View((6, 12, 6))


@pytest.mark.parametrize("kind", ["scan", "voxel"])
def test_a_model_evaluates_the_centre_of_the_standardised_scan(study: Study, kind: str) -> None:
    scans = read_scan_set(*study.paths)
    model = Model({"name": "wide", "width": 1, "crop": 35, "first_pool": False}, kind, scans.row_shape)
    model.standardise.fit(scans)
    volumes = scans.read(np.array([3, 8]))
    assert torch.equal(model.centre(volumes), model.standardise(volumes)[:, :, 1:36, 2:37, 1:36])


@pytest.mark.parametrize("shift_max, low, high", [(1, 12, 14), (None, 0, 26), (99, 0, 26)])
def test_crops_stay_in_the_grid_and_near_the_centre(shift_max: int | None, low: int, high: int) -> None:
    views = draw(np.random.default_rng(0), 400, (60, 60, 60), **DRAWING | {"shift_max": shift_max})
    seen = np.array([view.offset for view in views])
    assert (seen.min(), seen.max()) == (low, high)
    assert 0 <= min(v.sigma for v in views) < 0.02 and 0.98 < max(v.sigma for v in views) <= 1


def test_crops_and_blurs_are_the_same_whatever_is_augmented() -> None:
    plain, augmented = (
        draw(np.random.default_rng(5), 9, (60, 60, 60), **DRAWING | {"augment": Augment(gamma=gamma)})
        for gamma in (0.0, 0.3)
    )
    assert [(v.offset, v.sigma) for v in plain] == [(v.offset, v.sigma) for v in augmented]
    assert all(v.changes is None for v in plain) and all(v.changes is not None for v in augmented)


def test_the_class_is_still_to_be_seen_in_an_augmented_view(tmp_path: Path) -> None:
    """The toy study's cube is brighter by 30 of 120 from class to class; the changes are those of a usual recipe."""
    scans = read_scan_set(*write_study(tmp_path).paths)
    plain = Standardise("voxel", scans.row_shape)
    plain.fit(scans)
    usual = Augment(flip=0.5, rotate_deg=5, scale=0.05, translate_mm=3, gamma=0.1, noise=0.02, bias_field=0.05)
    views = draw(np.random.default_rng(0), len(scans), scans.row_shape, **DRAWING | {"augment": usual})
    means = []
    for place, view in enumerate(views):
        piece = cut(scans.read(np.array([place]))[0], view, 34)
        seen = look(piece, view, 34, plain, shape=scans.row_shape, unit=(159.4, 255.0))
        means.append(seen[0, 12:22, 12:22, 12:22].mean().item())
    by_class = [np.array(means)[scans.labels.numpy() == label] for label in range(3)]
    assert by_class[0].max() < by_class[1].min() and by_class[1].max() < by_class[2].min()
