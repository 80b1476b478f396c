"""Volumes of other programs: read as they write them, matched to the right scan, and never silently dropped."""

import json
from pathlib import Path

import given_files as files
import numpy as np
import pandas as pd
import pytest

from elr_mri.config import Measure
from elr_mri.errors import BadInput
from elr_mri.imaging.given import read_given
from elr_mri.imaging.labels import ROI, VOLUMES
from elr_mri.imaging.measure import measure
from elr_mri.scans.table import SCANS

A, B, C = "sub-ADNI001S0001_ses-M000", "sub-ADNI001S0001_ses-M012", "sub-ADNI002S0002_ses-M000"
EXPECTED = {
    "hippocampus_left": 3900.1,
    "hippocampus_right": 4100.2,
    "entorhinal_left": 1700,
    "entorhinal_right": 1650,
    "hippocampus": 8000.3,
    "entorhinal": 3350,
    "intracranial": 1_523_456.7,
}


def scan_table(**changed) -> pd.DataFrame:
    """Two scans of one subject and one of another."""
    ids = [A, B, C]
    table = pd.DataFrame({"scan_id": ids, "cohort": "ADNI", "subject_id": [i.partition("_")[0] for i in ids]})
    table["session_id"] = [i.partition("_")[2] for i in ids]
    table = table.assign(months=0, age_years=70, diagnosis="CN", image_uid=["45108", "45109", "957990"])
    table["image_path"] = ["d/a/ADNI_1_I45108.nii.gz", "d/b/T1w.nii", "d/c.zip!x/T1w.nii"]
    return table.reindex(columns=[c.name for c in SCANS.columns]).assign(**changed)


def give(source: str, path: Path | None, scans: pd.DataFrame | None = None) -> dict:
    """scan_id -> volumes, status, reason."""
    scans = scan_table() if scans is None else scans
    given = read_given(scans, Measure(source=source, path=path and str(path)))
    return {scan_id: given.of(scan_id) for scan_id in scans["scan_id"]}


@pytest.mark.parametrize("version", [5, 6])
def test_a_subjects_dir_of_either_naming_of_the_intracranial_volume(tmp_path, version):
    for scan_id in (A, B, C):
        files.run(tmp_path, scan_id, version=version)
    (tmp_path / "fsaverage" / "stats").mkdir(parents=True)
    for volumes, status, reason in give("freesurfer", tmp_path).values():
        assert (volumes, status, reason) == (pytest.approx(EXPECTED), "pass", "")
        assert tuple(volumes) == VOLUMES


@pytest.mark.parametrize("sep", ["\t", ","])
def test_the_tables_of_asegstats2table_and_aparcstats2table(tmp_path, sep):
    folder = files.freesurfer_tables(tmp_path / "tables", [A, f"/data/freesurfer/{B}/", C], sep=sep)
    assert all(told == (pytest.approx(EXPECTED), "pass", "") for told in give("freesurfer", folder).values())
    volumes, status, _ = give("freesurfer", folder / "aseg_stats.txt")[A]
    assert status == "pass" and volumes["entorhinal_left"] is None and volumes["hippocampus"] == pytest.approx(8000.3)


def test_a_published_table_with_participants_and_sessions(tmp_path):
    table = pd.DataFrame({"participant_id": ["sub-ADNI001S0001"] * 2, "session_id": ["ses-M000", "ses-M012"]})
    table = table.assign(**{"Left-Hippocampus": [3900.1, 3700], "Right-Hippocampus": 4100.2, "eTIV": 1.5e6})
    table.to_csv(tmp_path / "volumes.tsv", index=False)
    told = give("freesurfer", tmp_path / "volumes.tsv")
    assert [told[s][0]["hippocampus_left"] for s in (A, B)] == [3900.1, 3700]
    assert told[C][1:] == ("fail", "no row or folder names this scan")


def test_ucsf_tables_are_matched_by_image_and_their_failures_told(tmp_path):
    table = pd.DataFrame({"RID": 1, "IMAGEUID": [45108, 45109], "OVERALLQC": ["Pass", "Fail"], "ST10CV": 1.5e6})
    table.assign(ST29SV=3900, ST88SV=4100, ST24CV=1700, ST83CV=1650).to_csv(tmp_path / "UCSFFSX51.csv", index=False)
    told = give("freesurfer", tmp_path / "UCSFFSX51.csv")
    assert told[A][0]["entorhinal"] == 3350 and told[A][1] == "pass"
    assert told[B][1] == "review" and "OVERALLQC" in told[B][2]


@pytest.mark.parametrize("parc", [True, False])
def test_synthseg_by_image_name_with_and_without_the_cortex(tmp_path, parc):
    path = files.synthseg_csv(tmp_path / "vol.csv", ["ADNI_1_I45108", f"{B}_T1w", "c.nii"], parc=parc)
    scans = scan_table()
    scans.loc[scans["scan_id"] == B, "image_path"] = f"bids/{B}_T1w.nii.gz"
    scans.loc[scans["scan_id"] == C, "image_path"] = "other/c.nii"
    for volumes, status, reason in give("synthseg", path, scans).values():
        expected = EXPECTED if parc else EXPECTED | dict.fromkeys([n for n in VOLUMES if "entorhinal" in n])
        assert {n: v for n, v in volumes.items() if v} == pytest.approx({n: v for n, v in expected.items() if v})
        assert (status, reason) == ("pass", "")


def test_cohort_tables_tell_no_sides(tmp_path):
    del tmp_path
    scans = scan_table(hippocampus_mm3=[6500, np.nan, 7100], entorhinal_mm3=[3400, np.nan, np.nan], icv_mm3=1.5e6)
    scans.loc[1, "icv_mm3"] = np.nan
    told = give("cohort", None, scans)
    assert told[A] == (
        {**dict.fromkeys(VOLUMES), "hippocampus": 6500, "entorhinal": 3400, "intracranial": 1.5e6},
        "pass",
        "",
    )
    assert told[B][0] == dict.fromkeys(VOLUMES) and told[B][1] == "fail" and "no volumes" in told[B][2]
    assert told[C][1:] == ("review", "blank: entorhinal")
    with pytest.raises(BadInput, match="hippocampus_mm3"):
        give("cohort", None, scan_table())


def test_a_failed_run_is_told(tmp_path):
    for scan_id in (A, B, C):
        files.run(tmp_path, scan_id)
    for path in (tmp_path / A / "stats").iterdir():
        path.unlink()
    (tmp_path / B / "stats" / "rh.aparc.stats").unlink()
    cut = (tmp_path / C / "stats" / "aseg.stats").read_text().partition(" 53 ")[0]
    (tmp_path / C / "stats" / "aseg.stats").write_text(cut)
    (tmp_path / C / "scripts" / "recon-all.error").write_text("FAILED")
    told = give("freesurfer", tmp_path)
    assert told[A][1] == "fail" and "aseg.stats" in told[A][2] and not any(told[A][0].values())
    assert told[B][1] == "review" and told[B][2] == "the FreeSurfer run left no stats/rh.aparc.stats"
    assert told[B][0]["entorhinal"] is None and told[B][0]["entorhinal_left"] == 1700
    assert told[C][1] == "review" and "recon-all.error" in told[C][2] and "no Right-Hippocampus" in told[C][2]
    assert told[C][0]["hippocampus"] is None and told[C][0]["hippocampus_left"] == 3900.1


def test_longitudinal_runs_go_before_cross_sectional_ones_and_the_mixture_is_told(tmp_path):
    base = "sub-ADNI001S0001"
    files.run(tmp_path, base, lh=9999)  # the within-subject template, called as the subject is
    for scan_id in (A, B):
        files.run(tmp_path, scan_id, lh=5000)
        files.run(tmp_path, f"{scan_id}.long.{base}", lh=3900.1)
    files.run(tmp_path, "002_S_0002", lh=4000)
    told = give("freesurfer", tmp_path)
    assert [told[s][0]["hippocampus_left"] for s in (A, B, C)] == [3900.1, 3900.1, 4000]
    assert [told[s][1] for s in (A, B, C)] == ["pass", "pass", "review"] and "cross-sectional" in told[C][2]


def test_the_template_of_a_longitudinal_run_is_no_scan_even_where_the_subject_has_one(tmp_path):
    files.run(tmp_path, A)
    files.run(tmp_path, "sub-ADNI002S0002")
    assert give("freesurfer", tmp_path)[C][1] == "pass"
    files.run(tmp_path, "sub-ADNI002S0002_ses-M024.long.sub-ADNI002S0002")  # a visit that is not in the study
    assert give("freesurfer", tmp_path)[C][1:] == ("fail", "no row or folder names this scan")


def test_a_name_of_two_scans_and_two_rows_of_one_are_refused(tmp_path):
    path = files.synthseg_csv(tmp_path / "vol.csv", ["sub-ADNI001S0001", C, "I957990", "T1w"])
    with pytest.raises(BadInput, match="rows named after scans"):
        give("synthseg", path)
    told = give("synthseg", files.synthseg_csv(tmp_path / "vol.csv", [A, "sub-ADNI001S0001", C, "I957990", "T1w"]))
    assert told[A][1] == "pass"
    assert told[B][1] == "fail" and "other scans" in told[B][2]
    assert told[C][1] == "fail" and "2 rows name this scan" in told[C][2]


def test_two_values_of_one_volume_count_as_none(tmp_path):
    folder = files.freesurfer_tables(tmp_path / "tables", [A, B])
    again = pd.read_csv(folder / "aseg_stats.txt", sep="\t").assign(**{"Left-Hippocampus": [3900.1, 3500.0]})
    again.to_csv(folder / "aseg_again.txt", sep="\t", index=False)
    told = give("freesurfer", folder)
    assert told[A] == (pytest.approx(EXPECTED), "pass", "")
    assert told[B][0]["hippocampus_left"] is None and "two values of hippocampus_left" in told[B][2]


def test_volumes_in_other_units_are_not_taken(tmp_path):
    table = pd.DataFrame({"subject": [A], "left hippocampus": 3.9, "right hippocampus": 4100, "total intracranial": 0})
    table.to_csv(tmp_path / "vol.csv", index=False)
    volumes, status, reason = give("synthseg", tmp_path / "vol.csv")[A]
    assert volumes["hippocampus_left"] is None and volumes["intracranial"] is None and status == "review"
    assert "hippocampus_left of 3.9 is no volume of a person in mm³" in reason


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"subject": ["x"], "left hippocampus": [3900]}, "rows named after scans"),
        ({"subject": [A], "left amygdala": [1500]}, "a table with a column"),
        ({"who": [A], "left hippocampus": [3900]}, "first column that names the scan"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, content, told):
    pd.DataFrame(content).to_csv(tmp_path / "vol.csv", index=False)
    with pytest.raises(BadInput, match=told):
        give("synthseg", tmp_path / "vol.csv")


def test_the_step_writes_every_scan_with_its_source_and_reason(tmp_path):
    SCANS.write(scan_table(), tmp_path / "scans.tsv")
    files.run(tmp_path / "fs", A)
    settings = Measure(source="freesurfer", path=str(tmp_path / "fs"))
    for batch in scan_table()["subject_id"]:
        measure(tmp_path / "scans.tsv", tmp_path / "register", batch, 0, settings, tmp_path / "measure")
    frame = ROI.read(tmp_path / "measure" / A / f"{A}_volumes.tsv")
    assert dict(zip(frame["region"], frame["volume_mm3"], strict=True)) == pytest.approx(EXPECTED)
    told = json.loads((tmp_path / "measure" / B / f"{B}_volumes.tsv.json").read_text())
    assert told["settings"]["source"] == "freesurfer" and told["reason"] == "no row or folder names this scan"
    assert str(tmp_path) not in json.dumps(told["settings"])
    assert ROI.read(tmp_path / "measure" / B / f"{B}_volumes.tsv")["volume_mm3"].isna().all()
    told = pd.concat(pd.read_csv(path, sep="\t") for path in (tmp_path / "measure" / "batches").iterdir())
    told = told.set_index("scan_id")["status"]
    assert told[A] == "pass" and (told.drop(A) == "fail").all() and B in told.index
