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
    return {scan_id: given.of(scan_id)[:3] for scan_id in scans["scan_id"]}


def give_more(source: str, path: Path, scans: pd.DataFrame | None = None) -> dict:
    """scan_id -> further regions, reason."""
    scans = scan_table() if scans is None else scans
    given = read_given(scans, Measure(source=source, path=str(path)))
    return {scan_id: given.of(scan_id)[:1:-1] for scan_id in scans["scan_id"]}


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


def test_every_further_region_of_a_run_is_passed_on_and_no_sum_of_regions(tmp_path):
    for scan_id in (A, B, C):
        files.run(tmp_path, scan_id)
    (tmp_path / B / "stats" / "rh.aparc.stats").unlink()
    both = {f"{side}_{name}": x for side in ("lh", "rh") for name, x in files.FURTHER.items()}
    told = give_more("freesurfer", tmp_path)
    assert told[A] == ({"left-lateral-ventricle": 12345.6, **both}, "")
    assert told[B][0] == {name: x for name, x in told[A][0].items() if not name.startswith("rh_")}


def test_further_regions_of_tables_with_thicknesses_are_as_those_of_the_runs(tmp_path):
    folder = files.freesurfer_tables(tmp_path / "tables", [A, B, C], thickness=True)
    runs = tmp_path / "runs"
    for scan_id in (A, B, C):
        files.run(runs, scan_id)
    assert give_more("freesurfer", folder) == give_more("freesurfer", runs)


def test_further_regions_by_the_codes_of_ucsf(tmp_path):
    table = pd.DataFrame({"IMAGEUID": [45108, 45109], "ST29SV": 3900, "ST88SV": 4100, "ST10CV": 1.5e6, "RID": 1})
    codes = {"ST12SV": 1450, "ST71SV": 1500, "ST24TA": 3.1, "ST83TA": 3.2, "ST130CV": 6400, "ST127SV": 1600, "ST8SV": 0}
    strange = {"ST13SA": 900, "ST13TS": 0.5, "ST19SV": 200_000, "ST124SV": [np.nan, 3700]}
    table.assign(**codes, **strange).to_csv(tmp_path / "UCSFFSX51.csv", index=False)
    told = give_more("freesurfer", tmp_path / "UCSFFSX51.csv")
    names = ["left-amygdala", "right-amygdala", "lh_entorhinal_thickness", "rh_entorhinal_thickness"]
    names += ["rh_insula_volume", "3rd-ventricle", "5th-ventricle"]
    first = dict(zip(names, codes.values(), strict=True))
    assert told[A][0] == first and told[B][0] == first | {"right-ventraldc": 3700}


def test_scan_s_table_is_matched_by_the_image_of_loni(tmp_path):
    scans = scan_table(image_uid=[None, None, None])
    scans["image_path"] = [f"NACC/NACC000001/MPRAGE/2022-0{k}-03/I90000{k}/x.nii" for k in (1, 2, 3)]
    table = pd.DataFrame({"NACCID": "NACC000001", "SCANDT": "2022-01-03", "LONI_IMAGE_T1": [900001, 900002, 900003]})
    ours = {"LEFT_HIPPOCAMPUS": [3900, 3800, 3.7], "RIGHT_HIPPOCAMPUS": 4000, "ESTIMATEDTOTALINTRACRANIALVOL": 1.5e6}
    more = {"LH_ENTORHINAL_GVOL": 1700, "RH_ENTORHINAL_GVOL": 1800, "LEFT_AMYGDALA": 1500, "LH_CUNEUS_AVGTH": 1.9}
    path = tmp_path / "investigator_scan_mrisbm_nacc75.csv"
    table.assign(**ours, **more, LEFT_AMYGDALA_SUVR=1.2, LH_CUNEUS_GVOL=2700).to_csv(path, index=False)
    told = give("freesurfer", path, scans)
    assert [told[s][0]["hippocampus_left"] for s in (A, B, C)] == [3900, 3800, None]
    assert told[A][0]["entorhinal"] == 3500 and "hippocampus_left of 3.7" in told[C][2]
    expected = {"left-amygdala": 1500, "lh_cuneus_thickness": 1.9, "lh_cuneus_volume": 2700}
    assert give_more("freesurfer", path, scans)[B] == (expected, "")


def test_further_regions_of_synthseg(tmp_path):
    path = files.synthseg_csv(tmp_path / "vol.csv", [A, B, C])
    assert give_more("synthseg", path)[A] == (
        {"left-cerebral-white-matter": 2.2e5, "lh_bankssts_volume": 2300},
        "",
    )


def test_further_regions_told_twice_or_of_no_person_are_blank_and_told(tmp_path):
    folder = files.freesurfer_tables(tmp_path / "tables", [A, B, C], thickness=True)
    again = pd.DataFrame({"lh.aparc.DKTatlas.thickness": [A], "lh_bankssts_thickness": 2.9, "eTIV": 1523456.7})
    again.to_csv(folder / "dkt.txt", sep="\t", index=False)
    odd = pd.DataFrame({"subject": [B], "Left-Amygdala": 3.0e6, "lh_cuneus_thickness": 1900.0, "lh_lingual_volume": -4})
    odd.to_csv(folder / "odd.csv", index=False)
    pd.DataFrame({"RID": [1], "CSF": [7.0]}).to_csv(folder / "puncture.csv", index=False)  # no table of regions
    told = give_more("freesurfer", folder)
    assert "lh_bankssts_thickness" not in told[A][0] and told[A][1] == "two values of lh_bankssts_thickness"
    assert told[B][0] == told[C][0] and told[C][1] == ""
    assert "left-amygdala of 3e+06 and 1 more: no person's" in told[B][1]


def test_the_step_writes_every_scan_with_its_source_and_reason(tmp_path):
    SCANS.write(scan_table(), tmp_path / "scans.tsv")
    files.run(tmp_path / "fs", A)
    settings = Measure(source="freesurfer", path=str(tmp_path / "fs"))
    for batch in scan_table()["subject_id"]:
        measure(tmp_path / "scans.tsv", tmp_path / "register", batch, 0, settings, tmp_path / "measure")
    frame = ROI.read(tmp_path / "measure" / A / f"{A}_volumes.tsv")
    ours, more = frame[: len(VOLUMES)], frame[len(VOLUMES) :].set_index("region")
    assert dict(zip(ours["region"], ours["volume_mm3"], strict=True)) == pytest.approx(EXPECTED)
    assert more.loc["lh_bankssts_thickness", "thickness_mm"] == 2.501 and ours["thickness_mm"].isna().all()
    assert (
        pd.isna(more.loc["lh_bankssts_thickness", "volume_mm3"])
        and more.loc["lh_bankssts_volume", "volume_mm3"] == 2297
    )
    told = json.loads((tmp_path / "measure" / B / f"{B}_volumes.tsv.json").read_text())
    assert told["settings"]["source"] == "freesurfer" and told["reason"] == "no row or folder names this scan"
    assert str(tmp_path) not in json.dumps(told["settings"])
    assert ROI.read(tmp_path / "measure" / B / f"{B}_volumes.tsv")["volume_mm3"].isna().all()
    told = pd.concat(pd.read_csv(path, sep="\t") for path in (tmp_path / "measure" / "batches").glob("*.tsv"))
    told = told.set_index("scan_id")["status"]
    assert told[A] == "pass" and (told.drop(A) == "fail").all() and B in told.index
