"""One scan in, one page out, with a model of the mini study; what is no head is refused."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from studies import truth

pytestmark = pytest.mark.xdist_group("mini")


def predict_scan(mini: Path, scan: Path, out: Path, *options: str) -> subprocess.CompletedProcess:
    model = mini / "results" / "learning" / "wide-age-elr" / "seed-0"
    command = [sys.executable, "-m", "elr_mri", "predict-scan", scan, "--model", model, "--out", out, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def phantom_scan(mini) -> Path:
    scans = truth(mini / "results")
    sound = scans[(scans["cohort"] == "ADNI") & (scans["broken"] != True)]  # noqa: E712  a blank is not True
    return mini / "results" / "phantom" / sound["image"].iloc[0]


def test_a_scan_gives_probabilities_volumes_a_picture_and_a_page(mini, phantom_scan, tmp_path):
    done = predict_scan(mini, phantom_scan, tmp_path, "--age", "72")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "prediction.json").read_text())
    assert sum(told["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert 1000 < told["volumes_mm3"]["hippocampus_left"] < 6000
    page = (tmp_path / "report.html").read_text()
    assert (
        "Research only, not a diagnosis" in page
        and "computed phantoms, not on people" in page
        and "ADNI" in page
        and "data:image/" in page
    )


def test_the_same_scan_predicts_as_it_did_in_the_study(mini, phantom_scan, tmp_path):
    import pandas as pd

    results = mini / "results"
    scans = pd.read_csv(results / "scans" / "ingest" / "scans.tsv", sep="\t")
    row = scans[scans["image_path"].str.endswith(phantom_scan.name)].iloc[0]
    assert predict_scan(mini, phantom_scan, tmp_path, "--age", str(row["age_years"])).returncode == 0
    told = json.loads((tmp_path / "prediction.json").read_text())
    predictions = pd.read_csv(results / "learning" / "wide-age-elr" / "seed-0" / "predictions.tsv", sep="\t")
    study = predictions.set_index("scan_id").loc[row["scan_id"], ["p_cn", "p_mci", "p_ad"]].astype(float)
    assert list(told["probabilities"].values()) == pytest.approx(list(study), abs=2e-3)


def test_noise_is_refused_in_one_line_and_written_down(mini, phantom_scan, tmp_path):
    image = nib.load(phantom_scan)
    noise = np.random.default_rng(0).rayleigh(300, image.shape).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, image.affine), tmp_path / "noise.nii.gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("the page of an earlier scan")
    refused = predict_scan(mini, tmp_path / "noise.nii.gz", tmp_path / "out", "--age", "72")
    assert refused.returncode == 2 and len(refused.stderr.strip().splitlines()) == 1
    assert json.loads((tmp_path / "out" / "prediction.json").read_text())["status"] == "fail"
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("age", [[], ["--age", "-4"]])
def test_a_missing_or_impossible_age_is_refused(mini, phantom_scan, tmp_path, age):
    refused = predict_scan(mini, phantom_scan, tmp_path, *age)
    assert refused.returncode == 2 and "--age" in refused.stderr


def test_a_missing_scan_is_refused(mini, tmp_path):
    refused = predict_scan(mini, tmp_path / "nowhere.nii.gz", tmp_path / "out", "--age", "72")
    assert refused.returncode == 2 and "nowhere.nii.gz" in refused.stderr


def test_volumes_of_another_source_give_no_percentiles_and_the_reason(mini, phantom_scan, tmp_path):
    baseline = json.loads((mini / "results" / "findings" / "baseline" / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(baseline | {"source": "freesurfer"}))
    done = predict_scan(mini, phantom_scan, tmp_path, "--age", "72", "--baseline", tmp_path / "model.json")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "prediction.json").read_text())
    assert told["percentiles"] == {} and told["volumes_source"] == "registered"
    assert "trained on freesurfer volumes" in told["percentiles_missing"]
    assert told["percentiles_missing"] in (tmp_path / "report.html").read_text().replace("&#39;", "'")


def test_a_scan_is_measured_by_registration_where_the_study_read_its_volumes_from_tables():
    from elr_mri.config import Measure
    from elr_mri.onescan import _measuring

    def measured(**settings):
        return Measure.model_validate(_measuring(settings))

    assert measured(source="synthseg", path="vol.csv", labels="own.nii") == Measure(labels="own.nii")
    assert measured(labels="shipped") == Measure()
