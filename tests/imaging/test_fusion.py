"""Multi-atlas label fusion: the weights as published, the registration in the box, and what volumes and doubts come out."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from elr_mri.config import Atlases, Measure, Register
from elr_mri.errors import BadInput
from elr_mri.imaging import fusion, names
from elr_mri.imaging.atlases import as_atlas, atlases, digest_atlases, find, read_atlases, renumber
from elr_mri.imaging.grids import Grid, at
from elr_mri.imaging.labels import REGIONS, ROI, read_labels
from elr_mri.imaging.measure import Voters, measure_scan
from elr_mri.imaging.qc import dice
from elr_mri.imaging.template import MNI, brain_grid, brain_template
from elr_mri.imaging.transforms import Warp

TEMPLATE, LABELS = brain_template(MNI), read_labels()
STILL = Warp(brain_grid(5.0), np.zeros((3, *brain_grid(5.0).shape), np.float32))


def warped(seed, size_mm):
    """The template and its labels under a smooth random warp, on the template's grid."""
    rng = np.random.default_rng(seed)
    grid = Grid(TEMPLATE.image.shape, TEMPLATE.affine)
    field = np.stack([ndimage.gaussian_filter(rng.normal(size=grid.shape).astype(np.float32), 10.0) for _ in range(3)])
    field *= size_mm / np.sqrt((field**2).mean())
    points = grid.points() + field
    brain = at((TEMPLATE.image * TEMPLATE.mask).astype(np.float32), TEMPLATE.affine, points, mode="constant")
    shares = {r: at(LABELS.share(r), LABELS.affine, points, mode="constant") > 0.5 for r in REGIONS}
    labels = np.zeros(grid.shape, np.uint8)
    for region, inside in shares.items():
        labels[inside] = REGIONS[region]
    return brain, labels, grid.affine


@pytest.fixture(scope="module")
def voters():
    return [as_atlas(f"a{seed}", *warped(seed, 2.0), np.eye(4), STILL) for seed in (1, 2)]


def test_weights_minimise_the_expected_joint_error():
    rng = np.random.default_rng(0)
    error = np.abs(rng.normal(size=(5, 3, 125))).astype(np.float32) * np.array([0.2, 1.0, 1.0])[None, :, None]
    error[:, 2] = error[:, 1]  # two atlases that err alike
    error = error.astype(np.float32)
    found = fusion.joint_weights(error)
    for k in range(5):
        m = error[k] @ error[k].T / 125 + fusion.ALPHA * np.eye(3)
        wanted = np.maximum(np.linalg.inv(m) @ np.ones(3), 0)
        assert found[k] == pytest.approx(wanted / wanted.sum(), abs=1e-4)
    assert (found[:, 0] > 0.8).all() and found[:, 1] == pytest.approx(found[:, 2], abs=1e-4)


def test_one_right_atlas_outvotes_two_that_err_alike():
    rng = np.random.default_rng(1)
    target = ndimage.gaussian_filter(rng.normal(size=(20, 20, 20)), 1.0).astype(np.float32)
    other = ndimage.gaussian_filter(rng.normal(size=(20, 20, 20)), 1.0).astype(np.float32)
    right, wrong = np.zeros((2, 1, 20, 20, 20), np.float32)
    right[0, 6:14, 6:14, 6:14] = 1
    wrong[0, 8:17, 8:17, 8:17] = 1
    images, shares = np.stack([target, other, other]), np.stack([right, wrong, wrong])
    fused = fusion.joint_fusion(target, images, shares)[0] > 0.5
    majority = shares.mean(axis=0)[0] > 0.5
    assert dice(fused, right[0] > 0.5) == 1.0 and dice(majority, right[0] > 0.5) < 0.7


def test_the_target_takes_the_atlases_intensities_and_loses_its_bias():
    rng = np.random.default_rng(2)
    images = 1 + ndimage.gaussian_filter(rng.normal(size=(3, 16, 16, 16)), (0, 1, 1, 1)).astype(np.float32) / 9
    ramp = np.linspace(0.7, 1.3, 16, dtype=np.float32)[:, None, None]
    found = fusion.matched(900 * images.mean(axis=0) / ramp, images)
    assert np.abs(found - images.mean(axis=0)).max() < 0.02


def test_fluid_is_voted_out_of_a_label_whose_atlases_never_hold_it():
    images = np.full((2, 8, 8, 8), 0.7, np.float32)
    images[:, :, :, 4:] = 0.1
    shares = np.zeros((2, 1, 8, 8, 8), np.float32)
    shares[:, :, 2:6, 2:6, 1:4] = 1
    shares[1, :, 2:6, 2:6, 4] = 0.2
    target = images[0].copy()
    target[3, 3, 3] = 0.1
    posterior = np.full((1, 8, 8, 8), 0.6, np.float32)
    found = fusion.tempered(target, images, shares, posterior)[0]
    assert found[3, 3, 3] < 0.3 and found[3, 3, 2] > 0.6


def test_atlases_are_registered_to_the_scan_and_agree(voters):
    brain, labels, affine = warped(3, 2.0)
    found = fusion.fuse(brain, affine, np.eye(4), STILL, voters)
    segmented = fusion.label_map(found, Grid(brain.shape, affine))
    for region, number in REGIONS.items():
        before = np.mean([dice(atlas.labels == number, labels == number) for atlas in voters])
        after = dice(segmented == number, labels == number)
        assert after > 0.88 and after > before + 0.1
        one = found[region]
        assert one.volume_mm3 == pytest.approx((labels == number).sum(), rel=0.1)
        assert 0.8 < one.agreement <= 1 and 0 < one.sd_mm3 < 0.15 * one.volume_mm3
        assert one.grid.voxel_mm3 == pytest.approx(1.0)


def test_a_mirrored_atlas_votes_for_the_other_side(voters):
    atlas = voters[0]
    flipped = as_atlas(
        "m",
        np.flip(atlas.brain, 0),
        np.select([np.flip(atlas.labels, 0) == n for n in (1, 2, 3, 4)], [2, 1, 4, 3]).astype(np.uint8),
        atlas.affine,
        np.eye(4),
        STILL,
    )
    grid = fusion._box(Grid(atlas.brain.shape, atlas.affine), np.eye(4), STILL, voters, "left")
    target = at(atlas.brain, atlas.affine, grid.points(), mode="constant")
    image, share = fusion.carry(flipped, target, grid, grid.points(), ["hippocampus_left"], mirrored=True)
    wanted = at((atlas.labels == 1).astype(np.float32), atlas.affine, grid.points(), mode="constant")
    assert np.abs(image - target).max() < 0.05 and dice(share[0] > 0.5, wanted > 0.5) > 0.98


def test_thick_slices_are_fused_on_one_millimetre(voters):
    brain, labels, affine = warped(3, 2.0)
    thick = affine @ np.diag([1, 2, 1, 1.0])
    found = fusion.fuse(brain[:, ::2], thick, np.eye(4), STILL, voters[:1])
    assert found["hippocampus_left"].grid.spacing_mm == pytest.approx([1, 1, 1])
    assert found["hippocampus_left"].volume_mm3 == pytest.approx((labels == 1).sum(), rel=0.08)
    assert np.isnan(found["hippocampus_left"].sd_mm3)
    assert fusion.label_map(found, Grid(brain[:, ::2].shape, thick)).shape == brain[:, ::2].shape


FAST = Register(recipe="fast")
NUMBERS = {"hippocampus_left": 17, "hippocampus_right": 53}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one atlas of the hippocampi alone, in FreeSurfer's numbers."""
    root = tmp_path_factory.mktemp("labelled")
    brain, labels, affine = warped(1, 1.0)
    nib.save(nib.Nifti1Image(brain * 900, affine), root / "A_T1.nii.gz")
    theirs = np.select([labels == 1, labels == 2, labels == 3], [17, 53, 1006], 0).astype(np.int16)
    nib.save(nib.Nifti1Image(theirs, affine), root / "A_labels.nii.gz")
    return root


def test_atlases_are_prepared_once_and_read_back(folder, tmp_path):
    settings = Atlases(path=str(folder), numbers=NUMBERS)
    atlases(settings, FAST, tmp_path)
    (one,) = read_atlases(tmp_path)
    assert fusion.labelled_regions([one]) == ("hippocampus_left", "hippocampus_right")
    assert one.brain.size < 0.3 * TEMPLATE.image.size and (one.labels == 2).sum() > 1000
    assert (one.high_mm[0, 0] < 0) and (one.low_mm[1, 0] > 0)
    stamp = (tmp_path / "A" / "A_desc-brain_T1w.nii.gz").stat().st_mtime_ns
    before = digest_atlases(tmp_path)
    atlases(settings, FAST, tmp_path)
    assert (tmp_path / "A" / "A_desc-brain_T1w.nii.gz").stat().st_mtime_ns == stamp and digest_atlases(
        tmp_path
    ) == before
    atlases(settings, Register(recipe="fast", detail_iterations=5), tmp_path)
    assert digest_atlases(tmp_path) != before


def test_an_image_without_labels_is_named(folder, tmp_path):
    for name in ("A_T1.nii.gz", "B_T1.nii.gz"):
        (tmp_path / name).write_bytes((folder / "A_T1.nii.gz").read_bytes())
    (tmp_path / "A_labels.nii.gz").write_bytes((folder / "A_labels.nii.gz").read_bytes())
    with pytest.raises(BadInput, match="B without a partner"):
        find(Atlases(path=str(tmp_path)))
    with pytest.raises(BadInput, match="none"):
        find(Atlases(path=str(tmp_path / "nowhere")))


def test_a_region_missing_from_the_labels_is_named():
    with pytest.raises(BadInput, match="none of hippocampus_right"):
        renumber(np.full((2, 2, 2), 48), {"hippocampus_left": 48, "hippocampus_right": 47}, where="x")
    assert set(np.unique(renumber(np.array([[[5, 6, 7]]]), {"hippocampus_left": (5, 6)}, where="x"))) == {0, 1}


def test_a_scan_is_measured_by_its_atlases(folder, study, tmp_path):
    made, _, _ = study
    scan_id = "sub-plain_ses-M000"
    atlases(Atlases(path=str(folder), numbers=NUMBERS), FAST, tmp_path / "atlases")
    voters = Voters.read(tmp_path / "atlases", made / "convert")
    settings = Measure(source="fusion", mirror=True)
    one = measure_scan(made / "register" / scan_id, tmp_path / "one", scan_id, Measure())["volumes_mm3"]
    told = measure_scan(made / "register" / scan_id, tmp_path / "m", scan_id, settings, voters=voters)
    files = names.measured(scan_id, MNI)
    table = ROI.read(tmp_path / "m" / files["volumes"]).set_index("region")
    for side in ("left", "right"):
        fused = table.loc[f"hippocampus_{side}"]
        assert fused["volume_mm3"] == pytest.approx(one[f"hippocampus_{side}"], rel=0.25)
        assert fused["volume_mm3"] != pytest.approx(one[f"hippocampus_{side}"], rel=1e-4)
        assert fused["sd_mm3"] > 0 and 0.7 < fused["agreement"] <= 1
        assert told["volumes_mm3"][f"entorhinal_{side}"] == pytest.approx(
            one[f"entorhinal_{side}"]
        )  # no atlas labels it
        assert np.isnan(table.loc[f"entorhinal_{side}", "agreement"])
    assert set(np.unique(np.asarray(nib.load(tmp_path / "m" / files["labels"]).dataobj))) == {0, 1, 2, 3, 4}
    stamp = (tmp_path / "m" / files["volumes"]).stat().st_mtime_ns
    measure_scan(made / "register" / scan_id, tmp_path / "m", scan_id, settings, voters=voters)
    assert (tmp_path / "m" / files["volumes"]).stat().st_mtime_ns == stamp
    other = Voters(voters.atlases, {"A": "another"}, voters.convert_dir)
    measure_scan(made / "register" / scan_id, tmp_path / "m", scan_id, settings, voters=other)
    assert (tmp_path / "m" / files["volumes"]).stat().st_mtime_ns > stamp


def test_fusion_without_its_folders_is_told(tmp_path):
    with pytest.raises(BadInput, match="--atlases and --converted"):
        Voters.read(None, tmp_path)
    with pytest.raises(BadInput, match="elr-mri atlases"):
        Voters.read(tmp_path, tmp_path)
