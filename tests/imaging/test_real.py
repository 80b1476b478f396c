"""Real scans with manual labels, where `ELR_MRI_TEST_DATA` names the folder of test data."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from elr_mri.config import Convert, Measure, Register
from elr_mri.imaging import names
from elr_mri.imaging.convert import convert_scan
from elr_mri.imaging.measure import measure_scan
from elr_mri.imaging.qc import dice
from elr_mri.imaging.register import register_converted

DATA = os.environ.get("ELR_MRI_TEST_DATA")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not DATA, reason="ELR_MRI_TEST_DATA is not set")]


def go(source, folder):
    scan_id = "sub-x_ses-M000"
    convert_scan(str(source), folder / "c", scan_id, Convert())
    told = register_converted(folder / "c", folder / "r", scan_id, Register())
    return (
        told,
        measure_scan(folder / "r", folder / "m", scan_id, Measure()),
        folder / "m" / names.measured(scan_id, told["template"])["labels"],
    )


@pytest.mark.parametrize("name", ["1000", "1006", "1010", "1036", "1116", "1122"])
def test_hippocampi_agree_with_manual_labels(name, tmp_path):
    told, _, native = go(Path(DATA) / "malf" / f"{name}_T1.nii.gz", tmp_path)
    manual = np.asarray(nib.as_closest_canonical(nib.load(Path(DATA) / "malf" / f"{name}_labels.nii.gz")).dataobj)
    found = np.asarray(nib.load(native).dataobj)
    assert told["status"] == "pass"
    assert dice(found == 1, manual == 48) >= 0.6 and dice(found == 2, manual == 47) >= 0.6


@pytest.mark.parametrize(
    "name",
    [
        "colin27_head.nii.gz",
        "hippodeep_head.nii.gz",
        "pumi_head_2mm.nii.gz",
        "coregqa_brain.nii.gz",
        "freesurferformats_brain.mgz",
    ],
)
def test_real_scans_pass_with_plausible_hippocampi(name, tmp_path):
    told, measured, _ = go(Path(DATA) / "t1" / name, tmp_path)
    assert told["status"] == "pass"
    for side in ("left", "right"):
        assert 2000 < measured["volumes_mm3"][f"hippocampus_{side}"] < 6000
