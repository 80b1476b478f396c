"""Volumes: exact where the answer is known, and following a planted change."""

import nibabel as nib
import numpy as np
import pytest

from elr_mri.config import Measure
from elr_mri.errors import BadInput
from elr_mri.imaging.grids import Grid, at, box
from elr_mri.imaging.labels import REGIONS, ROI, read_labels
from elr_mri.imaging.measure import intracranial, measure_scan, native_labels, region_volumes
from elr_mri.imaging.template import MNI, brain_grid, brain_template
from elr_mri.imaging.transforms import Warp

LABELS = read_labels()
STILL = Warp(brain_grid(5.0), np.zeros((3, *brain_grid(5.0).shape), np.float32))


def test_identity_gives_the_label_volumes():
    volumes = region_volumes(LABELS, np.eye(4), STILL)
    for region, number in REGIONS.items():
        assert volumes[region] == pytest.approx((LABELS.volume == number).sum(), rel=1e-3)


def test_an_affine_scales_every_volume_by_its_determinant():
    matrix = np.diag([1.1, 0.9, 1.2, 1.0])
    matrix[:3, 3] = (3, 4, 5)
    one, other = region_volumes(LABELS, np.eye(4), STILL), region_volumes(LABELS, matrix, STILL)
    for region in REGIONS:
        assert other[region] / one[region] == pytest.approx(1.1 * 0.9 * 1.2)
    assert intracranial(brain_template(MNI), matrix) == pytest.approx(brain_template(MNI).mask.sum() * 1.1 * 0.9 * 1.2)


def test_native_labels_of_the_identity_are_the_labels():
    grid = Grid(LABELS.volume.shape, LABELS.affine)
    assert np.array_equal(native_labels(LABELS, grid, np.eye(4), STILL), LABELS.volume)


def test_a_scan_without_the_temporal_lobe_gets_no_labels():
    assert not native_labels(LABELS, box((200, 200, 200), (240, 240, 240), 4.0), np.eye(4), STILL).any()


def true_mass(head, side):
    """How much of the hippocampus a synthetic head holds; its template label lies on Colin27 by common coordinates."""
    return at(LABELS.share(f"hippocampus_{side}"), LABELS.affine, head.origin, mode="constant").sum()


def test_both_ways_of_measuring_agree_and_shrinkage_is_seen(study, tmp_path):
    folder, heads, _ = study
    told = {}
    for scan_id, head in heads.items():
        told[scan_id] = measure_scan(folder / "register" / scan_id, tmp_path / scan_id, scan_id, Measure())[
            "volumes_mm3"
        ]
        frame = ROI.read(tmp_path / scan_id / f"{scan_id}_tpl-{MNI}_volumes.tsv")
        assert dict(zip(frame["region"], frame["volume_mm3"], strict=True)) == pytest.approx(told[scan_id], abs=0.01)
        native = nib.load(tmp_path / scan_id / f"{scan_id}_tpl-{MNI}_dseg.nii.gz")
        counted = (np.asarray(native.dataobj) == 1).sum() * head.grid.voxel_mm3
        assert counted == pytest.approx(told[scan_id]["hippocampus_left"], rel=0.08)
    plain, shrunk = told["sub-plain_ses-M000"], told["sub-shrunk_ses-M000"]
    for side in ("left", "right"):
        planted = true_mass(heads["sub-shrunk_ses-M000"], side) / true_mass(heads["sub-plain_ses-M000"], side)
        found = shrunk[f"hippocampus_{side}"] / plain[f"hippocampus_{side}"]
        assert planted < 0.9 and 0.5 < (1 - found) / (1 - planted) < 1.2  # 3 mm voxels see two thirds of it
        assert 3000 < plain[f"hippocampus_{side}"] < 7000
    assert shrunk["intracranial"] / plain["intracranial"] == pytest.approx(1, abs=0.01)


def test_shipped_labels_are_symmetric_and_on_their_sides():
    volume = LABELS.volume
    assert np.array_equal(volume == 1, np.flip(volume == 2, axis=0)) and np.array_equal(
        volume == 3, np.flip(volume == 4, axis=0)
    )
    for number, sign in ((1, -1), (2, 1), (3, -1), (4, 1)):
        x = np.argwhere(volume == number)[:, 0] * LABELS.affine[0, 0] + LABELS.affine[0, 3]
        assert (np.sign(x) == sign).all()
    template = brain_template(MNI)
    assert volume.shape == template.image.shape and np.allclose(LABELS.affine, template.affine)
    assert (template.mask[volume > 0]).mean() > 0.99


def test_another_label_map_must_have_the_regions(tmp_path):
    nib.save(nib.Nifti1Image((LABELS.volume == 1).astype(np.uint8), LABELS.affine), tmp_path / "few.nii.gz")
    with pytest.raises(BadInput, match="hippocampus_right"):
        read_labels(str(tmp_path / "few.nii.gz"))
    with pytest.raises(BadInput, match=r"measure\.labels"):
        read_labels(str(tmp_path / "absent.nii.gz"))
