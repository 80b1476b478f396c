"""The phantom study: seeded to the byte, in the real download formats, with a truth that is true."""

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from elr_mri.config import Phantom
from elr_mri.errors import BadInput
from elr_mri.phantom import heads
from elr_mri.phantom.effects import EFFECTS, log_volume_change
from elr_mri.phantom.scanner import anatomy_index, bias_field, draw_warp, render, true_volumes
from elr_mri.phantom.study import phantom
from elr_mri.phantom.subjects import draw_subjects
from elr_mri.provenance import digest_file

TINY = Phantom(n_subjects=6, n_external=2, spacing_mm=6.0, workers=1, visits_per_subject=1, n_broken=1)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    phantom(TINY, folder)
    return folder


def test_a_real_download_is_never_taken_for_an_earlier_phantom(study, tmp_path):
    for folder in ("downloads", "phantom"):
        (tmp_path / folder / "ADNI").mkdir(parents=True)
        (tmp_path / folder / "ADNI" / "a.nii").write_bytes(b"months of work")
    with pytest.raises(BadInput, match="no phantom study made"):
        phantom(TINY, tmp_path / "downloads")
    assert (tmp_path / "downloads" / "ADNI" / "a.nii").read_bytes() == b"months of work"

    (tmp_path / "phantom" / "truth").mkdir()
    shutil.copy(study / "truth" / "begun.json", tmp_path / "phantom" / "truth")
    few = TINY.model_copy(update={"n_subjects": 1, "n_external": 0, "n_broken": 0})
    phantom(few, tmp_path / "phantom")
    assert not (tmp_path / "phantom" / "ADNI" / "a.nii").exists()  # another phantom's, which the config no longer has


@pytest.fixture(scope="module")
def anatomy():
    return heads.load("colin27")


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(study, tmp_path):
    phantom(TINY, tmp_path / "again")
    phantom(TINY.model_copy(update={"seed": 1}), tmp_path / "other")

    def digests(folder):
        files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("study.json"))
        return {p.relative_to(folder).as_posix(): digest_file(p) for p in files}

    assert digests(study) == digests(tmp_path / "again")
    assert set(digests(study).values()).isdisjoint(
        {v for k, v in digests(tmp_path / "other").items() if k.endswith(".nii")}
    )


def test_a_second_run_touches_nothing(study):
    before = {p: p.stat().st_mtime_ns for p in study.rglob("*")}
    phantom(TINY, study)
    assert before == {p: p.stat().st_mtime_ns for p in study.rglob("*")}


def test_every_scan_of_the_truth_exists_where_it_says(study):
    truth = pd.read_csv(study / "truth" / "visits.tsv", sep="\t")
    for name in truth.loc[truth["scanned"], "image"]:
        archive, _, member = name.partition("!")
        if member:
            with zipfile.ZipFile(study / archive) as opened:
                assert member in opened.namelist()
        else:
            assert nib.load(study / archive).ndim == 3


def test_the_adni_tree_looks_like_ida(study):
    images = sorted((study / "ADNI").rglob("*.nii"))
    assert len(images) == 6
    for image in images:
        subject, _, day, leaf = image.parts[-5:-1]
        assert image.name.startswith(f"ADNI_{subject}_MR_") and image.stem.rsplit("_", 1)[1].startswith("I")
        assert leaf[0] in "SI" and day.endswith(".0")
    assert len(list((study / "ADNI").glob("ADNIMERGE_*.csv"))) == 1


def test_adding_subjects_moves_nobody():
    few, many = draw_subjects(TINY), draw_subjects(TINY.model_copy(update={"n_subjects": 9}))
    assert [s for s in many if s.index < 6] == [s for s in few if s.index < 6]


def test_the_broken_scan_is_noise_and_the_truth_says_so(study):
    truth = pd.read_csv(study / "truth" / "visits.tsv", sep="\t")
    broken = truth[truth["broken"] == True]  # noqa: E712  blank where there was no scan
    assert len(broken) == 1
    image = nib.load(study / broken["image"].iloc[0]).get_fdata()
    assert abs(np.corrcoef(image[1:].ravel(), image[:-1].ravel())[0, 1]) < 0.02


def test_wrong_labels_are_neighbours_in_the_configured_share():
    order = ["CN", "MCI", "AD"]
    visits = [v for s in draw_subjects(Phantom(n_subjects=600, n_external=0, wrong_label_share=0.2)) for v in s.visits]
    steps = [abs(order.index(v.true_label) - order.index(v.given_label)) for v in visits]
    assert max(steps) == 1 and np.mean(steps) == pytest.approx(0.2, abs=0.03)


def test_severity_shrinks_and_widens_by_the_literature():
    nobody = dict.fromkeys(EFFECTS, 0.0)
    change = log_volume_change(1.0, 72.0, nobody, effect_scale=1.0, spread_scale=1.0)
    assert np.exp(change["hippocampus"]) == pytest.approx(0.76) and np.exp(change["ventricles"]) == pytest.approx(1.65)
    assert log_volume_change(1.0, 72.0, nobody, effect_scale=0.0, spread_scale=1.0) == dict.fromkeys(EFFECTS, 0.0)


def test_true_volumes_equal_the_warped_regions_counted_on_a_fine_grid(anatomy):
    settings = Phantom(n_external=0, n_subjects=6)
    subject = draw_subjects(settings)[0]
    warp = draw_warp(settings, subject, subject.visits[0], anatomy)
    shape, affine = (150, 130, 110), np.eye(4)
    affine[:3, 3] = (-75, -85, -70)
    index = anatomy_index(anatomy, warp, shape, affine)
    nearest = np.clip(np.round(index).astype(int), 0, np.reshape(anatomy.image.shape, (3, 1, 1, 1)) - 1)
    told = true_volumes(warp, anatomy)
    for region in ("hippocampus_left", "hippocampus_right"):
        counted = anatomy.regions[region][tuple(nearest)].sum()
        assert told[region] == pytest.approx(counted, rel=0.025), region


def test_more_severe_means_smaller_hippocampi_and_larger_ventricles(anatomy):
    settings = Phantom(n_external=0, n_subjects=6)
    subject = draw_subjects(settings)[0]
    volumes = []
    for severity in (0.0, 1.0):
        visit = subject.visits[0].__class__(**{**subject.visits[0].__dict__, "severity": severity})
        volumes.append(true_volumes(draw_warp(settings, subject, visit, anatomy), anatomy))
    ratio = {name: volumes[1][name] / volumes[0][name] for name in volumes[0]}
    assert 0.70 < ratio["hippocampus_left"] < 0.82 and 0.55 < ratio["entorhinal_right"] < 0.75
    assert ratio["ventricles"] > 1.4 and ratio["intracranial"] == pytest.approx(1, abs=0.03)


def test_scans_come_in_the_site_s_axes(anatomy):
    settings = Phantom(n_subjects=6, n_external=3, spacing_mm=8.0)
    for subject in draw_subjects(settings):
        image, _, _ = render(settings, subject, subject.visits[0], anatomy)
        assert "".join(nib.aff2axcodes(image.affine)) == subject.site.axes


def test_the_bias_field_is_smooth_and_positive():
    field = bias_field(np.random.default_rng(0), (20, 20, 20), 0.2)
    assert field.min() > 0 and np.abs(np.diff(np.log(field), axis=0)).max() < 0.2


def test_a_brain_extracted_anatomy_stays_brain_extracted(anatomy):
    bare = replace(anatomy, image=anatomy.image * anatomy.brain)
    settings = Phantom(n_subjects=6, n_external=0, spacing_mm=8.0)
    subject = draw_subjects(settings)[0]
    assert bare.bare and not anatomy.bare
    empty = [(render(settings, subject, subject.visits[0], a)[0].get_fdata() == 0).mean() for a in (bare, anatomy)]
    assert empty[0] > 0.5 and empty[1] < 0.05


def test_a_brain_cut_close_gets_room_and_stays_where_it_is():
    volume = np.arange(2, 62, dtype=np.float32).reshape(3, 4, 5)
    affine = np.array([[2, 0, 0, -10], [0, 1, 0, 5], [0, 0, 1, 7], [0, 0, 0, 1]], dtype=float)
    roomy = heads._with_room(nib.Nifti1Image(volume, affine))
    grown = np.asarray(roomy.dataobj)
    kept = np.argwhere(grown > 0)
    margins_mm = np.minimum(kept.min(axis=0), np.array(grown.shape) - 1 - kept.max(axis=0)) * [2, 1, 1]
    assert (margins_mm >= heads.ROOM_MM).all()
    np.testing.assert_array_equal(grown[grown > 0], volume.ravel())
    np.testing.assert_allclose(nib.affines.apply_affine(roomy.affine, kept[0]), affine[:3, 3])
