"""Every odd file of the test data through a plain table and conversion: right, or failed for the reason that is true."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from elr_mri.config import Cohort, Convert, Ingest
from elr_mri.imaging.convert import convert
from elr_mri.provenance import read_json
from elr_mri.scans.ingest import ingest
from elr_mri.scans.table import EXCLUSIONS, SCANS

DATA = os.environ.get("ELR_MRI_TEST_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="ELR_MRI_TEST_DATA is not set")

ORIENTATIONS = ("RAS", "LAS", "LPI", "PIR", "ASR", "SPL")
#: What is true of the others, seen with nibabel and dcm2niix: no one of them is a usable head.
REASONS = {
    "0.dcm": "covers only 64.7 mm; a head needs 100 mm",  # a mosaic of a diffusion series, 36 x 36 x 48
    "anatomical.nii": "covers only 50 mm; a head needs 100 mm",  # 33 x 41 x 25 voxels of 2 mm, big-endian
    "complex.nii.gz": "voxels are complex64, not real numbers",
    "example4d.nii.gz": "not one 3-D volume: shape 128 x 96 x 24 x 2",
    "example_nifti2.nii.gz": "not one 3-D volume: shape 32 x 20 x 12 x 2",
    "functional.nii": "not one 3-D volume: shape 17 x 21 x 3 x 20",
    "philips_mprage.dcm.gz": "every voxel has the same value",  # 176 x 256 x 256, blanked
    "shear.nii.gz": "sheared: the voxel axes are not at right angles",
    "slicethickness_empty_string.dcm": "dcm2niix made no image: Error: OpenJPEG failed to read the header scan.dcm",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Name of the file -> what `convert` wrote of it; every file is a subject of its own in one plain table."""
    folder = tmp_path_factory.mktemp("edge")
    files = sorted(path for path in (Path(DATA) / "edge").iterdir() if path.is_file())
    rows = [f"{path}\tE{k}\t70\tCN" for k, path in enumerate(files)]
    table = folder / "edge.tsv"
    table.write_text("\n".join(["image_path\tsubject_id\tage_years\tdiagnosis", *rows]) + "\n")
    ingest([Cohort(name="E", format="tsv", path=str(table))], Ingest(), folder / "ingest")
    scans = SCANS.read(folder / "ingest" / "scans.tsv")
    assert len(scans) + len(EXCLUSIONS.read(folder / "ingest" / "exclusions.tsv")) == len(files) == len(scans)
    convert(folder / "ingest" / "scans.tsv", "000", 1, Convert(), folder / "convert")
    return {
        Path(row.image_path).name: read_json(folder / "convert" / row.scan_id / f"{row.scan_id}_convert.json")
        | {"folder": folder / "convert" / row.scan_id}
        for row in scans.itertuples()
    }


def test_every_file_is_known(told):
    assert set(told) == {f"{name}.nii.gz" for name in ORIENTATIONS} | set(REASONS)


def test_six_orientations_are_one_head(told):
    made = [told[f"{name}.nii.gz"] for name in ORIENTATIONS]
    assert [one["source_axes"] for one in made] == list(ORIENTATIONS)
    assert {one["status"] for one in made} == {"pass"} and len({one["sha256"] for one in made}) == 1
    images = [nib.load(one["folder"] / f"{one['scan_id']}_T1w.nii.gz") for one in made]
    source = nib.load(Path(DATA) / "edge" / "RAS.nii.gz")
    for image in images:
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S") and image.get_data_dtype() == np.float32
        assert np.allclose(image.get_fdata(), source.get_fdata()) and np.allclose(image.affine, source.affine)


@pytest.mark.parametrize("name", REASONS)
def test_what_is_no_head_fails_for_the_true_reason(told, name):
    assert told[name]["status"] == "fail" and told[name]["reason"].startswith(REASONS[name])
    assert "sha256" not in told[name] and not list(told[name]["folder"].glob("*.nii.gz"))
