"""Scans that came registered to MNI space are laid on the study's grid as they are, and their volumes told truly."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from small_heads import FAST, make_head

from elr_mri.config import Convert, Measure
from elr_mri.imaging import register
from elr_mri.imaging.affine import similarity
from elr_mri.imaging.convert import convert_scan
from elr_mri.imaging.linear import registered_to
from elr_mri.imaging.measure import measure_scan
from elr_mri.imaging.qc import dice
from elr_mri.imaging.template import MNI, brain_template, study_grid
from elr_mri.imaging.transforms import read_affine, write_affine

DATA = os.environ.get("ELR_MRI_TEST_DATA")
SPACE = "MNI152NLin2009cSym"
STEM = f"sub-1_ses-M000_space-{SPACE}"
ID = "sub-1_ses-M000"
SMALLER = np.diag([0.9, 0.9, 0.9, 1.0])  # template mm to native mm of a head of 0.729 times the volume


def prepare(source: Path, out: Path) -> dict:
    """Convert and register one scan."""
    convert_scan(str(source), out, ID, Convert())
    return register.register_converted(out, out, ID, FAST)


def measured(out: Path):
    """Volumes by region, and the verdict's reason."""
    told = measure_scan(out, out, ID, Measure())
    return pd.Series(told["volumes_mm3"]), told["reason"]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A head in MNI space under its CAPS name, registered; the folder, and what was told of it."""
    folder = tmp_path_factory.mktemp("caps")
    make_head().save(folder / f"{STEM}_desc-Crop_res-1x1x1_T1w.nii.gz")
    return folder, prepare(folder / f"{STEM}_desc-Crop_res-1x1x1_T1w.nii.gz", folder / "out")


def test_a_registered_scan_is_not_registered_again(head, monkeypatch, tmp_path):
    folder, told = head
    assert told["reasons"] == [f"volumes are those in {SPACE}: no affine.mat beside it"] and told["space"] == SPACE
    assert np.array_equal(read_affine(folder / "out" / told["files"]["affine"]), np.eye(4))
    for name in ("register_affine", "polish", "_unbiased"):
        monkeypatch.setattr(register, name, lambda *a, **k: pytest.fail("registered again"))
    source = folder / f"{STEM}_desc-Crop_res-1x1x1_T1w.nii.gz"
    assert prepare(source, tmp_path)["numbers"] == told["numbers"]


def test_a_scan_that_does_not_lie_where_its_name_says_fails(tmp_path):
    moved = make_head()
    moved.grid.affine[1, 3] += 45
    moved.save(tmp_path / f"{STEM}_T1w.nii.gz")
    assert prepare(tmp_path / f"{STEM}_T1w.nii.gz", tmp_path / "out")["status"] == "fail"


def test_the_same_scan_under_another_name_or_affine_is_done_again(head, tmp_path):
    source = head[0] / f"{STEM}_desc-Crop_res-1x1x1_T1w.nii.gz"
    plain = tmp_path / "sub-1_T1w.nii.gz"
    plain.write_bytes(source.read_bytes())
    caps = tmp_path / source.name
    caps.write_bytes(source.read_bytes())
    assert "space" in prepare(caps, tmp_path / "out") and "space" not in prepare(plain, tmp_path / "out")


def test_without_the_affine_volumes_are_not_called_native(head):
    volumes, reason = measured(head[0] / "out")
    assert SPACE in reason and (volumes > 0).all()


@pytest.mark.parametrize("writer", ["ours", "ants"])
def test_native_volumes_are_those_of_the_head_before_it_was_registered(head, tmp_path, writer):
    """The direction of the affine, by a head whose size is known and by the transform file of ANTs itself."""
    import ants

    source = make_head()
    native = ants.from_numpy(
        source.image, spacing=(2.7,) * 3, origin=tuple(0.9 * source.grid.affine[:3, 3] * [-1, -1, 1])
    )
    native.set_direction(np.diag([-1.0, -1.0, 1.0]))
    target = ants.from_numpy(
        source.image * 0, spacing=(3.0,) * 3, origin=tuple(source.grid.affine[:3, 3] * [-1, -1, 1])
    )
    target.set_direction(np.diag([-1.0, -1.0, 1.0]))
    path = tmp_path / f"{STEM}_res-1x1x1_affine.mat"
    if writer == "ours":
        write_affine(path, SMALLER)
    else:
        ants.write_transform(ants.create_ants_transform(matrix=SMALLER[:3, :3], translation=(0, 0, 0)), str(path))
    moved = ants.apply_transforms(target, native, [str(path)])  # as t1-linear does it: the native head to MNI space
    image = tmp_path / f"{STEM}_desc-Crop_res-1x1x1_T1w.nii.gz"
    nib.save(nib.Nifti1Image(moved.numpy(), source.grid.affine), image)
    assert np.abs(moved.numpy() - source.image)[2:-2, 2:-2, 2:-2].mean() < 0.01 * source.image.max()
    assert registered_to(str(image))["native_per_space_volume"] == pytest.approx(0.729)
    prepare(image, tmp_path / "out")
    volumes, reason = measured(tmp_path / "out")
    unscaled, _ = measured(head[0] / "out")
    assert reason == "" and np.allclose(volumes / unscaled, 0.729, rtol=0.02)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (f"{STEM}_res-1x1x1_affine.mat", b""),
        (f"{STEM}_res-1x1x1_affine.mat", b"no matrix" * 40),
        (f"{STEM}_res-1x1x1_affine.mat", np.diag([5.0, 5, 5, 1])),
        ("sub-2_ses-M000_affine.mat", SMALLER),
    ],
)
def test_an_affine_that_cannot_be_trusted_makes_nothing_native(tmp_path, name, content):
    image = tmp_path / f"{STEM}_res-1x1x1_T1w.nii.gz"
    image.touch()
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        write_affine(tmp_path / name, content)
    told = registered_to(str(image))
    assert told["native_per_space_volume"] is None and told["native_note"]


def test_an_affine_that_comes_later_is_noticed(tmp_path):
    image = make_head().save(tmp_path / f"{STEM}_res-1x1x1_T1w.nii")
    assert convert_scan(str(image), tmp_path / "out", ID, Convert())["native_per_space_volume"] is None
    write_affine(tmp_path / f"{STEM}_res-1x1x1_affine.mat", SMALLER)
    assert convert_scan(str(image), tmp_path / "out", ID, Convert())["native_per_space_volume"] == pytest.approx(0.729)


@pytest.mark.parametrize("name", ["sub-1_T1w.nii.gz", "sub-1_space-orig_T1w.nii.gz", "sub-1_space-Ixi549Space_T1w.nii"])
def test_other_scans_are_native(tmp_path, name):
    assert registered_to(str(tmp_path / name)) == {}


@pytest.mark.skipif(not DATA, reason="ELR_MRI_TEST_DATA is not set")
def test_the_mni152_head_overlays_the_template(tmp_path):
    source = Path(DATA) / "atlas" / "MNI152_T1_1mm.nii.gz"
    image = tmp_path / f"{STEM}_res-1x1x1_T1w.nii.gz"
    image.write_bytes(source.read_bytes())
    told = prepare(image, tmp_path / "out")
    assert len(told["reasons"]) == 1 and told["numbers"]["upright_margin"] > 0.3
    grid = study_grid(3.0)
    inside = brain_template(MNI).mask_on(grid) > 0.5
    found = nib.load(tmp_path / "out" / told["files"]["affine_image"])
    assert np.allclose(found.affine, grid.affine)
    volume = found.get_fdata()
    still = brain_template(MNI).image_on(grid)
    here = similarity(volume, still, inside)
    assert here > 0.78  # another average of other people; a voxel to any side it is worse
    assert all(similarity(np.roll(volume, step, axis), still, inside) < here for axis in range(3) for step in (-1, 1))
    assert dice(volume > 0.1, inside) > 0.93
    mask = nib.as_closest_canonical(nib.load(Path(DATA) / "atlas" / "MNI152_T1_1mm_brain_mask.nii.gz")).get_fdata() > 0
    assert dice(nib.load(tmp_path / "out" / told["files"]["mask"]).get_fdata() > 0, mask) > 0.93
