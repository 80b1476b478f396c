from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toy_study import Study, write_study

from elr_mri.learning.dataset import ScanSet, read_scan_set
from elr_mri.learning.standardise import Standardise, extremes, take


@pytest.mark.parametrize("channels", [1, 2])
def test_voxel_standardisation_is_by_the_training_scans(tmp_path: Path, channels: int) -> None:
    train = read_scan_set(*write_study(tmp_path, channels=channels).paths).of("train")
    step = Standardise("voxel", train.row_shape)
    step.fit(train)
    seen = step(train.read(np.arange(len(train))))
    assert seen.shape == (len(train), channels, *train.row_shape[-3:])
    informative = step.informative().view(seen.shape[1:])
    torch.testing.assert_close(seen.mean(dim=0), torch.zeros(seen.shape[1:]), atol=1e-4, rtol=0)
    spread = seen.std(dim=0, correction=0)
    torch.testing.assert_close(spread[informative], torch.ones(int(informative.sum())), atol=1e-3, rtol=0)
    assert not informative[0, :4].any() and informative[1:].all() and (spread[~informative] == 0).all()


def test_a_channel_is_as_informative_whatever_the_spread_of_the_other() -> None:
    """Left to one threshold, a channel of small numbers would be blanked beside one of large ones."""
    rng = np.random.default_rng(0)
    volumes = (
        rng.normal(0, 1, size=(6, 2, 4, 4, 4)).astype(np.float16) * np.array([1, 0.01], np.float16)[:, None, None, None]
    )
    scans = ScanSet(pd.DataFrame({"row": range(6)}), volumes, {})
    step = Standardise("voxel", scans.row_shape)
    step.fit(scans)
    assert step.informative().all()


def test_scan_standardisation_maps_each_volume_to_unit_range(study: Study) -> None:
    scans = read_scan_set(*study.paths)
    seen = Standardise("scan", scans.row_shape)(scans.read(np.array([3, 5])))
    assert seen.amin(dim=(2, 3, 4)).tolist() == [[0], [0]] and seen.amax(dim=(2, 3, 4)).tolist() == [[1], [1]]


@pytest.mark.parametrize("kind", ["scan", "voxel"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_window_is_standardised_as_in_the_whole_scan(tmp_path: Path, kind: str, channels: int) -> None:
    """Also where a window runs backwards or stands still, as beyond a reflecting border."""
    train = read_scan_set(*write_study(tmp_path, channels=channels).paths).of("train")
    step = Standardise(kind, train.row_shape)
    step.fit(train)
    scans = train.read(np.array([0, 4]))
    places = (np.arange(3, 20), np.array([1, 0, 0, 1, 2]), np.arange(20, 37))
    seen = step.window(take(scans, places).float(), places, extremes(scans))
    assert torch.equal(seen, step(scans)[:, :, 3:20][:, :, :, [1, 0, 0, 1, 2], 20:37])
