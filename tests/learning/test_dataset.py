import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_study import Study

from elr_mri.errors import BadInput
from elr_mri.learning.dataset import read_scan_set
from elr_mri.scans.table import SPLIT, UNUSED


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


def test_a_damaged_cache_is_refused_and_its_scans_are_named(study: Study, tmp_path: Path) -> None:
    shutil.copytree(study.cache, tmp_path / "pack")
    held = np.load(tmp_path / "pack" / "volumes.npy", mmap_mode="r+")
    held[5].flat[3] += 1
    held.flush()
    name = read_scan_set(*study.paths).table["scan_id"][5]
    with pytest.raises(BadInput, match=f"other bytes in the rows of {name}.*pack.verify"):
        read_scan_set(tmp_path / "pack", study.scans, study.splits)
