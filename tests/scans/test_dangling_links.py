"""A link that leads to nothing is an image that is not there, and is told so; a sidecar that is one tells nothing."""

from __future__ import annotations

import pytest
from small_downloads import Adni, Nacc


def dangling(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to("nowhere")
    return path


def reasons(tables):
    return dict(zip(tables["exclusions"]["image_path"], tables["exclusions"]["reason"], strict=True))


def two_sessions(nacc: Nacc) -> Nacc:
    for number, name in ((1, "mri1.zip"), (2, "mri2.zip")):
        nacc.visit(number, "2012-03-01", 1)
        nacc.session(number, "2012-03-11", name)
    nacc.archive("mri2.zip", {"SAG MPRAGE": b"t1"})
    return nacc


@pytest.mark.parametrize("name", ["T1.nii.gz", "T1.nii"])
def test_of_nacc_a_nifti(nacc, run, name):
    gone = dangling(nacc.root / "images" / "mri1" / name)
    tables = run(("nacc", two_sessions(nacc).write()))
    assert len(tables["scans"]) == 1 and reasons(tables) == {str(gone): "missing-file"}


@pytest.mark.parametrize("lost", ["1.dcm", "2.dcm", "3.dcm"])
def test_of_nacc_one_file_of_a_series(nacc, run, lost):
    folder = nacc.root / "images" / "mri1" / "MPRAGE"
    folder.mkdir(parents=True)
    for k in (1, 2, 3):
        (folder / f"{k}.dcm").write_bytes(bytes(128) + b"DICM" + bytes([k]))
    dangling(folder / lost)
    tables = run(("nacc", two_sessions(nacc).write()))
    assert len(tables["scans"]) == 1 and reasons(tables) == {str(folder): "missing-file"}


def test_of_adni_an_image_which_takes_no_others_place(adni: Adni, run):
    adni.visit(1, "bl", "2006-01-10", "CN")
    gone = dangling(adni.image(1, "2006-01-10", 1))
    adni.image(1, "2006-01-11", 2)
    tables = run(("adni", adni.write()))
    assert tables["scans"]["image_uid"].tolist() == [2] and reasons(tables) == {str(gone): "missing-file"}


def test_of_adni_a_sidecar(adni: Adni, run):
    adni.visit(1, "bl", "2006-01-10", "CN")
    dangling(adni.image(1, "2006-01-10", 1).with_suffix(".xml"))
    assert len(run(("adni", adni.write()))["scans"]) == 1
