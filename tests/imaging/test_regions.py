"""The regions of the study grid: those of the label map, those of an atlas, the rest of the brain, and nothing outside it."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from elr_mri.config import Measure, Regions, Register
from elr_mri.errors import BadInput
from elr_mri.imaging.labels import REGIONS, read_labels
from elr_mri.imaging.regions import regions
from elr_mri.imaging.template import study_grid
from elr_mri.scans.saliency import REST, SEGMENTS

COARSE = Register(spacing_mm=3.0)


def test_the_shipped_regions_keep_their_volume_and_the_rest_is_brain(tmp_path: Path) -> None:
    regions(Regions(), COARSE, Measure(), tmp_path)
    image, table = nib.load(tmp_path / "regions.nii.gz"), SEGMENTS.read(tmp_path / "regions.tsv")
    grid = study_grid(3.0)
    assert image.shape == grid.shape and np.allclose(image.affine, grid.affine)
    assert table["region"].tolist() == [*REGIONS, REST]
    labels = read_labels()
    fine = abs(np.linalg.det(labels.affine[:3, :3]))
    told = table.set_index("region")["volume_mm3"]
    for name, number in REGIONS.items():
        assert told[name] == pytest.approx((labels.volume == number).sum() * fine, rel=0.2)
    assert 1.2e6 < told.sum() < 2.2e6
    assert np.asarray(image.dataobj)[0].max() == 0


def test_an_atlas_adds_regions_but_takes_none(tmp_path: Path) -> None:
    grid = study_grid(3.0)
    halves = np.where(np.arange(grid.shape[0])[:, None, None] < 30, 7, 9) * np.ones(grid.shape, dtype=int)
    nib.save(nib.Nifti1Image(halves.astype(np.int16), grid.affine), tmp_path / "atlas.nii.gz")
    told = Regions(atlas=str(tmp_path / "atlas.nii.gz"), numbers={"left half": 7, "all": (7, 9)})
    regions(told, COARSE, Measure(), tmp_path / "with")
    regions(Regions(), COARSE, Measure(), tmp_path / "without")
    first, second = (np.asarray(nib.load(tmp_path / f / "regions.nii.gz").dataobj) for f in ("with", "without"))
    assert SEGMENTS.read(tmp_path / "with" / "regions.tsv")["region"].tolist() == [*REGIONS, "left half", "all", REST]
    for number in REGIONS.values():
        np.testing.assert_array_equal(first == number, second == number)
    assert (first[:29] == 5).any() and not (first[31:] == 5).any()


def test_numbers_that_the_atlas_does_not_have_are_refused(tmp_path: Path) -> None:
    grid = study_grid(3.0)
    nib.save(nib.Nifti1Image(np.ones(grid.shape, dtype=np.int16), grid.affine), tmp_path / "atlas.nii.gz")
    with pytest.raises(BadInput, match="voxels of insula, number 41"):
        regions(Regions(atlas=str(tmp_path / "atlas.nii.gz"), numbers={"insula": 41}), COARSE, Measure(), tmp_path)
    with pytest.raises(BadInput, match="no such file"):
        regions(Regions(atlas=str(tmp_path / "none.nii.gz"), numbers={"insula": 41}), COARSE, Measure(), tmp_path)
    with pytest.raises(ValueError, match="go together"):
        Regions(numbers={"insula": 41})
