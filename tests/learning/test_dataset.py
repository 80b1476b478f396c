from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter
from toy_study import Study, write_study

from elr_mri.errors import BadInput
from elr_mri.learning.dataset import ScanSet, Standardise, Views, centred, draw_epoch, look, read_scan_set
from elr_mri.scans.table import SPLIT, UNUSED

DRAW = {"batch_size": 4, "crop": 35, "shift_max": 1, "blur_sigma_max": 1.0}


def test_a_view_without_blur_is_the_crop() -> None:
    volumes = torch.rand(2, 3, 11, 12, 13)
    seen = look(volumes, Views(np.array([[0, 3, 5], [4, 1, 0]]), np.zeros(2)), 7)
    assert torch.equal(seen[0], volumes[0, :, 0:7, 3:10, 5:12])
    assert torch.equal(seen[1], volumes[1, :, 4:11, 1:8, 0:7])


def test_a_blurred_view_is_the_crop_of_the_blurred_volume() -> None:
    volume = np.random.default_rng(0).random((26, 27, 28)).astype(np.float32)
    seen = look(torch.from_numpy(volume)[None, None], Views(np.array([[7, 8, 6]]), np.array([0.8])), 12)
    expected = gaussian_filter(volume, 0.8, truncate=4.0)[7:19, 8:20, 6:18]
    np.testing.assert_allclose(seen[0, 0].numpy(), expected, atol=1e-5)


def test_evaluation_looks_at_the_centre() -> None:
    assert centred(1, (61, 73, 61), 48).offsets.tolist() == [[6, 12, 6]]


def test_an_epoch_holds_every_scan_once_and_depends_on_seed_and_epoch_only() -> None:
    def epoch(seed: int, number: int) -> list[tuple[list[int], list[float]]]:
        return [
            (p.tolist(), v.sigmas.tolist()) for p, v in draw_epoch(10, (38, 40, 37), seed=seed, epoch=number, **DRAW)
        ]

    first = epoch(0, 3)
    assert sorted(p for places, _ in first for p in places) == list(range(10))
    assert [len(places) for places, _ in first] == [4, 3, 3]
    assert first == epoch(0, 3)
    assert first != epoch(0, 4) and first != epoch(1, 3)


@pytest.mark.parametrize("shift_max, low, high", [(1, 12, 14), (None, 0, 26), (99, 0, 26)])
def test_crops_stay_in_the_grid_and_near_the_centre(shift_max: int | None, low: int, high: int) -> None:
    drawing = DRAW | {"shift_max": shift_max, "crop": 34}
    seen = np.concatenate([v.offsets for _, v in draw_epoch(400, (60, 60, 60), seed=0, epoch=0, **drawing)])
    assert (seen.min(), seen.max()) == (low, high)


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


def test_scans_keep_the_order_of_the_scan_table_and_the_split_of_their_subject(study: Study) -> None:
    scans = read_scan_set(*study.paths)
    assert scans.table["row"].tolist() == list(range(18))
    assert scans.of("external").table["cohort"].unique().tolist() == ["FAR"]
    assert torch.equal(scans.labels, torch.arange(18) % 3)


def test_a_scan_that_takes_no_part_is_not_read(study: Study, tmp_path: Path) -> None:
    splits = SPLIT.read(study.splits)
    splits["sessions"] = ["ses-M012" if i == 4 else "ses-M000" if i == 5 else None for i in range(len(splits))]
    splits.loc[7, "split"] = UNUSED
    SPLIT.write(splits, tmp_path / "splits.tsv")
    scans = read_scan_set(study.cache, study.scans, tmp_path / "splits.tsv")
    assert scans.table["row"].tolist() == [i for i in range(18) if i not in (4, 7)]
    assert torch.equal(scans.read(np.array([4])), read_scan_set(*study.paths).read(np.array([5])))


def test_a_missing_cache_is_named(study: Study) -> None:
    with pytest.raises(BadInput, match=r"volumes\.npy"):
        read_scan_set(study.cache.parent, study.scans, study.splits)
