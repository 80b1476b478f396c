"""Scans that already lie in MNI space are resampled, not registered again; their volumes are brought back to native size."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from elr_mri.config import Convert, Measure, Register
from elr_mri.imaging.affine import similarity
from elr_mri.imaging.convert import convert_scan
from elr_mri.imaging.grids import Grid
from elr_mri.imaging.measure import measure_scan
from elr_mri.imaging.register import register_converted
from elr_mri.imaging.template import MNI, brain_template, study_grid
from elr_mri.imaging.transforms import read_affine, write_affine

SETTINGS = Register(recipe="fast", spacing_mm=3.0, syn_spacing_mm=6.0, syn_iterations=(4,), detail_iterations=0)
NAME = "sub-a_ses-M000_space-MNI152NLin2009cSym_desc-Crop_res-1x1x1_T1w.nii.gz"


def go(folder: Path, scan_id: str) -> tuple[dict, dict]:
    """Convert, register and measure the scan in `folder`; the verdicts of register and measure."""
    convert_scan(str(folder / NAME), folder / "convert", scan_id, Convert())
    told = register_converted(folder / "convert", folder / "register", scan_id, SETTINGS)
    return told, measure_scan(folder / "register", folder / "measure", scan_id, Measure())


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template itself, on another grid than the study's, as if `t1-linear` had made it, with and without its affine."""
    folder = tmp_path_factory.mktemp("caps")
    grid = Grid((90, 110, 90), np.array([[2.0, 0, 0, -91], [0, 2, 0, -125], [0, 0, 2, -71], [0, 0, 0, 1]]))
    nib.save(nib.Nifti1Image(800 * brain_template(MNI).image_on(grid), grid.affine), folder / NAME)
    return folder


def test_a_placed_scan_is_not_moved(placed: Path) -> None:
    told, _ = go(placed, "sub-a_ses-M000")
    assert told["status"] == "review" and told["reason"].startswith("volumes are those in"), told["reason"]
    folder = placed / "register"
    np.testing.assert_allclose(read_affine(folder / told["files"]["affine"]), np.eye(4), atol=1e-6)
    grid = study_grid(SETTINGS.spacing_mm)
    seen = np.asarray(nib.load(folder / told["files"]["affine_image"]).dataobj)
    template = brain_template(MNI).image_on(grid)
    assert seen.shape == grid.shape and similarity(seen, template, template > 0) > 0.99


def test_volumes_without_the_affine_are_those_of_the_space_and_marked(placed: Path) -> None:
    told, measured = go(placed, "sub-b_ses-M000")
    assert told["native_per_space_volume"] is None
    assert measured["status"] == "review" and "MNI152NLin2009cSym" in measured["reason"]


def test_the_affine_beside_a_scan_gives_native_volumes(placed: Path) -> None:
    """ITK's affine carries points of the registered image to the native one: a native head of 0.9 the size in each axis."""
    _, unknown = go(placed, "sub-c_ses-M000")
    write_affine(placed / "sub-a_ses-M000_space-MNI152NLin2009cSym_res-1x1x1_affine.mat", np.diag([0.9, 0.9, 0.9, 1]))
    try:
        _, native = go(placed, "sub-d_ses-M000")
    finally:
        next(placed.glob("*_affine.mat")).unlink()
    assert native["status"] == "pass" and native["reason"] == ""
    for region, volume in unknown["volumes_mm3"].items():
        assert native["volumes_mm3"][region] == pytest.approx(0.729 * volume, rel=1e-4)


def test_an_affine_that_cannot_be_read_is_as_good_as_none(placed: Path) -> None:
    broken = placed / "sub-a_ses-M000_space-MNI152NLin2009cSym_res-1x1x1_affine.mat"
    broken.write_bytes(b"no transform")
    try:
        told = convert_scan(str(placed / NAME), placed / "convert", "sub-e_ses-M000", Convert())
    finally:
        broken.unlink()
    assert told["status"] == "pass" and told["native_per_space_volume"] is None
