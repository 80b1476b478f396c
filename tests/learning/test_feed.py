from pathlib import Path

import numpy as np
import pytest
import torch
from toy_study import Study, write_study

from elr_mri.config import Augment
from elr_mri.errors import BadInput
from elr_mri.learning.dataset import read_scan_set
from elr_mri.learning.feed import Feed
from elr_mri.learning.standardise import Standardise

USUAL = Augment(flip=0.5, rotate_deg=5, scale=0.05, translate_mm=3, gamma=0.1, noise=0.02, bias_field=0.05)
ROUTINE = {"batch_size": 4, "crop": 30, "shift_max": None, "blur_sigma_max": 1.0, "device": "cpu", "augment": Augment()}


def feed(study: Study, kind: str = "voxel", **changes: object) -> Feed:
    """The 9 training scans of the toy study, or all 18."""
    scans = read_scan_set(*study.paths).of("train")
    step = Standardise(kind, scans.row_shape)
    step.fit(scans)
    return Feed(scans, step, **ROUTINE | changes)


def equal(one: object, other: object) -> bool:
    return all(torch.equal(getattr(one, key), getattr(other, key)) for key in ("rows", "volumes", "ages", "labels"))


@pytest.mark.parametrize("augment", [Augment(), USUAL])
@pytest.mark.parametrize("kind", ["voxel", "scan"])
def test_an_epoch_holds_every_scan_once_and_depends_on_seed_and_epoch_only(
    study: Study, kind: str, augment: Augment
) -> None:
    source = feed(study, kind, augment=augment)
    first, again = (list(source.epoch(seed=0, epoch=3)) for _ in range(2))
    assert len(source) == 3 == len(first)
    assert sorted(torch.cat([b.rows for b in first]).tolist()) == list(range(9))
    assert all(b.volumes.shape == (3, 1, 30, 30, 30) and b.volumes.dtype == torch.float32 for b in first)
    assert all(map(equal, first, again))
    scans = read_scan_set(*study.paths).of("train")
    assert all(
        torch.equal(b.labels, scans.labels[b.rows]) and torch.equal(b.ages, scans.ages_years[b.rows]) for b in first
    )
    for other in (source.epoch(seed=0, epoch=4), source.epoch(seed=1, epoch=3)):
        assert not any(torch.equal(a.volumes, b.volumes) for a, b in zip(first, other))


def test_batches_are_within_one_scan_of_each_other(study: Study) -> None:
    assert [len(b.rows) for b in feed(study, batch_size=5).epoch(seed=0, epoch=0)] == [5, 4]


@pytest.mark.parametrize("start", [1, 2, 3])
def test_an_epoch_can_start_anywhere_with_the_same_later_batches(study: Study, start: int) -> None:
    source = feed(study, augment=USUAL)
    whole, rest = list(source.epoch(seed=0, epoch=1)), list(source.epoch(seed=0, epoch=1, start=start))
    assert len(rest) == 3 - start and all(map(equal, whole[start:], rest))


@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_of_all_processes_are_the_batch_of_one(study: Study, world: int) -> None:
    source = feed(study, augment=USUAL, batch_size=5)
    shares = [list(source.epoch(seed=0, epoch=1, rank=rank, world=world)) for rank in range(world)]
    for number, batch in enumerate(source.epoch(seed=0, epoch=1)):
        for key in ("rows", "volumes", "ages", "labels"):
            assert torch.equal(torch.cat([getattr(s[number], key) for s in shares]), getattr(batch, key))


def test_more_processes_than_scans_in_a_batch_are_refused(study: Study) -> None:
    with pytest.raises(BadInput, match=r"batch_size of at least 4 scans.*got batches of 3"):
        next(feed(study).epoch(seed=0, epoch=0, rank=0, world=4))


@pytest.mark.parametrize("augment", [Augment(), USUAL])
@pytest.mark.parametrize("channels", [1, 2])
def test_scans_held_on_the_device_are_seen_as_those_on_disk(tmp_path: Path, channels: int, augment: Augment) -> None:
    packed = write_study(tmp_path, channels=channels, packed_order=np.random.default_rng(1).permutation(18))
    held, read = (feed(packed, "scan", augment=augment, resident=resident) for resident in (True, "auto"))
    assert held.held is not None and read.held is None
    assert all(map(equal, held.epoch(seed=0, epoch=0), read.epoch(seed=0, epoch=0)))
    assert next(held.epoch(seed=0, epoch=0)).volumes.shape == (3, channels, 30, 30, 30)


def test_an_epoch_may_be_left_early(study: Study) -> None:
    batches = feed(study).epoch(seed=0, epoch=0)
    next(batches)
    batches.close()


def test_a_fault_of_the_reader_reaches_the_loop(study: Study) -> None:
    source = feed(study)
    source.places = np.array([0, 1, 10**9])
    with pytest.raises(IndexError):
        list(source.epoch(seed=0, epoch=0))
