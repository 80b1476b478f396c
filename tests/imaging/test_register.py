"""Registration of synthetic heads: the known warp comes back, poses do not matter, files are complete and kept."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from small_heads import FAST, run

from elr_mri.config import Convert
from elr_mri.imaging import register
from elr_mri.imaging.affine import similarity
from elr_mri.imaging.convert import convert
from elr_mri.imaging.grids import at, box
from elr_mri.imaging.template import MNI, brain_template, head_template, study_grid
from elr_mri.imaging.transforms import Warp, read_affine, read_warp, to_native
from elr_mri.scans.table import SCANS

PLAIN, WARPED, TURNED = ("sub-plain_ses-M000", "sub-warped_ses-M000", "sub-turned_ses-M000")


def where(study, scan_id, points):
    """The Colin27 mm that registration assigns to template points."""
    folder, heads, told = study
    files = told[scan_id]["files"]
    native = to_native(
        points,
        *(
            reader(folder / "register" / scan_id / files[name])
            for reader, name in ((read_affine, "affine"), (read_warp, "warp"))
        ),
    )
    head = heads[scan_id]
    return np.stack([at(part, head.grid.affine, native) for part in head.origin])


def volume(study, scan_id):
    folder, _, told = study
    return nib.load(folder / "register" / scan_id / told[scan_id]["files"]["affine_image"])


def test_all_pass(study):
    assert {told["status"] for told in study[2].values()} == {"pass"}


def test_the_known_warp_is_recovered(study):
    grid = box((-72, -108, -60), (72, 76, 84), 4.0)
    points, inside = grid.points(), brain_template(MNI).mask_on(grid) > 0.5
    error = np.linalg.norm(where(study, WARPED, points) - where(study, PLAIN, points), axis=0)[inside]
    assert np.median(error) <= 1.2


def test_a_pose_changes_nothing(study):
    one, other = (volume(study, scan_id).get_fdata() for scan_id in (PLAIN, TURNED))
    inside = one > 0.1
    assert similarity(one, other, inside) > 0.94  # 3 mm voxels and a second sampling of them; unaligned it is 0.75
    grid = box((-72, -108, -60), (72, 76, 84), 4.0)
    points, mask = grid.points(), brain_template(MNI).mask_on(grid) > 0.5
    moved = np.linalg.norm(where(study, TURNED, points) - where(study, PLAIN, points), axis=0)[mask]
    assert np.median(moved) < 0.4


def test_the_brain_mask_is_the_brain(study):
    folder, heads, told = study
    for scan_id, head in heads.items():
        found = nib.load(folder / "register" / scan_id / told[scan_id]["files"]["mask"]).get_fdata() > 0
        source = head_template()
        true = at(source.mask.astype(np.float32), source.affine, head.origin, mode="constant") > 0.5
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.95


def test_outputs(study):
    folder, _, told = study
    for name in told[PLAIN]["files"].values():
        assert (folder / "register" / PLAIN / name).is_file()
    image = volume(study, PLAIN)
    assert np.allclose(image.header.get_zooms(), 3.0) and nib.aff2axcodes(image.affine) == ("R", "A", "S")
    values = image.get_fdata()
    white = brain_template(MNI).image_on(study_grid(3.0)) > 0.92
    assert 0.9 < np.median(values[white]) < 1.1 and values.min() == 0 and values.max() <= register.MAX_INTENSITY


def test_a_current_scan_is_not_done_again_and_a_changed_setting_is(study, tmp_path, monkeypatch):
    folder, _, told = study
    calls = []
    monkeypatch.setattr(
        register, "align", lambda *a, **k: calls.append(a) or (_ for _ in ()).throw(register.NoBrain("called"))
    )
    args = (folder / "convert" / PLAIN, folder / "register" / PLAIN, PLAIN)
    assert register.register_converted(*args, FAST) == told[PLAIN] and not calls
    changed = register.register_converted(args[0], tmp_path, PLAIN, FAST.model_copy(update={"syn_spacing_mm": 5.0}))
    assert calls and changed["status"] == "fail" and changed["reason"] == "called"


def test_a_batch_with_a_broken_scan_goes_on(study, tmp_path, capsys):
    heads = study[1]
    heads[PLAIN].save(tmp_path / "good.nii")
    (tmp_path / "bad.nii").write_bytes(b"no image")
    ids = ["sub-bad_ses-M000", PLAIN]
    pd.DataFrame(
        {
            "scan_id": ids,
            "cohort": "X",
            "subject_id": ["sub-bad", "sub-plain"],
            "session_id": "ses-M000",
            "months": 0,
            "age_years": 70,
            "diagnosis": "CN",
            "image_path": [str(tmp_path / "bad.nii"), str(tmp_path / "good.nii")],
        }
        | {column.name: "" for column in SCANS.columns if not column.required}
        | {"sex": "F"}
    ).to_csv(tmp_path / "scans.tsv", sep="\t", index=False)
    convert(tmp_path / "scans.tsv", "000", 1, Convert(), tmp_path / "c")
    register.register(tmp_path / "scans.tsv", tmp_path / "c", "000", 1, FAST, tmp_path / "r")
    states = pd.read_csv(tmp_path / "r" / "batches" / "000.tsv", sep="\t").set_index("scan_id")["status"]
    assert states.to_dict() == {"sub-bad_ses-M000": "fail", PLAIN: "pass"}
    assert "register 2/2" in capsys.readouterr().out


def test_bits_are_the_same_each_time(study, tmp_path):
    _, heads, told = study
    again = run(heads[PLAIN], tmp_path, PLAIN)
    assert again["numbers"] == told[PLAIN]["numbers"]
    assert np.array_equal(
        nib.load(tmp_path / "register" / PLAIN / again["files"]["affine_image"]).get_fdata(),
        volume(study, PLAIN).get_fdata(),
    )


@pytest.mark.slow
def test_syn_of_ants_is_the_other_engine(study, tmp_path):
    settings = FAST.model_copy(
        update={"warp": "syn", "syn_spacing_mm": 5.0, "syn_iterations": (10, 6), "write_warped": True}
    )
    told = run(study[1][PLAIN], tmp_path, PLAIN, settings)
    folder = tmp_path / "register" / PLAIN
    assert told["status"] == "pass" and told["numbers"]["correlation_warped"] > told["numbers"]["correlation_affine"]
    warped = nib.load(folder / told["files"]["warped_image"]).get_fdata()
    grid = study_grid(3.0)
    inside = brain_template(MNI).mask_on(grid) > 0.5
    still = brain_template(MNI).image_on(grid)
    affine = nib.load(folder / told["files"]["affine_image"]).get_fdata()
    assert similarity(warped, still, inside) > similarity(affine, still, inside) + 0.05


def test_the_log_jacobian_is_the_volume_ratio_of_the_warp(study):
    """Inside a region its mean is near the log of the region's volume relative to the template's, the affine left out."""
    folder, _, told = study
    files = told[WARPED]["files"]
    warp = read_warp(folder / "register" / WARPED / files["warp"])
    template = brain_template(MNI)
    grid = study_grid(FAST.spacing_mm)
    found = register.log_jacobian(warp, template, grid)
    inside = template.mask_on(grid) > 0.5
    assert found.shape == grid.shape and found.dtype == np.float32
    assert not found[~inside].any() and found[inside].std() > 0.01
    shift = 0.05
    scaled = Warp(warp.grid, warp.grid.points() * np.float32(shift))
    np.testing.assert_allclose(register.log_jacobian(scaled, template, grid)[inside], 3 * np.log(1 + shift), atol=1e-4)
    folded = Warp(warp.grid, warp.grid.points() * np.float32(-2))
    assert register.log_jacobian(folded, template, grid)[inside].max() == pytest.approx(-np.log(4), abs=1e-5)
