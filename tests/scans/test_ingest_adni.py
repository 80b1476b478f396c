"""An ADNI download becomes a scan table: diagnosis and age at the scan, one T1 a visit, every image accounted for."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elr_mri.errors import BadInput
from elr_mri.scans.adni_columns import tables_named
from elr_mri.scans.adni_tables import read_clinic


def test_age_and_diagnosis_are_those_at_the_scan(adni, run):
    adni.visit(12, "bl", "2006-01-10", "CN")
    adni.visit(12, "m24", "2008-01-10", "MCI")
    adni.image(12, "2006-01-20", 1)
    adni.image(12, "2008-02-09", 2)
    scans = run(("adni", adni.write()))["scans"].set_index("scan_id")
    assert list(scans.index) == ["sub-ADNI011S0012_ses-M000", "sub-ADNI011S0012_ses-M024"]
    assert list(scans["diagnosis"]) == ["CN", "MCI"]  # never DX_bl, which says AD
    assert scans["age_years"].tolist() == pytest.approx([70 + 10 / 365.25, 70 + 760 / 365.25])
    row = scans.iloc[0]
    assert (row["sex"], row["mmse"], row["apoe4"], row["field_strength_t"], row["site"]) == ("F", 27, 1, 1.5, 11)
    assert (row["hippocampus_mm3"], row["entorhinal_mm3"], row["icv_mm3"]) == (6500, 3400, 1500000)


def test_only_visits_within_the_window_count(adni, run):
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.image(1, "2006-01-20", 1)
    adni.image(1, "2006-09-20", 2)
    root = adni.write()
    assert run(("adni", root))["exclusions"]["reason"].tolist() == ["no-visit-near"]
    assert run(("adni", root), max_days=5 * 365)["exclusions"]["reason"].tolist() == ["other-scan-of-visit"]


def test_a_blank_diagnosis_excludes_or_is_carried_forward_visibly(adni, run):
    adni.visit(1, "bl", "2006-01-10", "MCI")
    adni.visit(1, "m06", "2006-07-10", "")
    adni.image(1, "2006-01-10", 1)
    adni.image(1, "2006-07-12", 2)
    root = adni.write()
    tables = run(("adni", root))
    assert tables["exclusions"][["image_uid", "reason"]].values.tolist() == [[2, "no-diagnosis"]]
    carried = run(("adni", root), carry_forward_days=200)["scans"].set_index("session_id")
    assert carried.loc["ses-M006", "diagnosis"] == "MCI"
    assert len(run(("adni", root), carry_forward_days=100)["scans"]) == 1


def test_a_later_diagnosis_is_never_carried_backward(adni, run):
    adni.visit(1, "bl", "2006-01-10", "")
    adni.visit(1, "m06", "2006-07-10", "AD")
    adni.image(1, "2006-01-12", 1)
    adni.image(1, "2006-07-12", 2)
    assert run(("adni", adni.write()), carry_forward_days=1000)["scans"]["session_id"].tolist() == ["ses-M006"]


@pytest.mark.parametrize(
    ("column", "code", "expected"),
    [
        ("DXCURREN", 1, "CN"),
        ("DXCURREN", 2, "MCI"),
        ("DXCURREN", 3, "AD"),
        ("DXCHANGE", 1, "CN"),
        ("DXCHANGE", 7, "CN"),
        ("DXCHANGE", 9, "CN"),
        ("DXCHANGE", 2, "MCI"),
        ("DXCHANGE", 4, "MCI"),
        ("DXCHANGE", 8, "MCI"),
        ("DXCHANGE", 3, "AD"),
        ("DXCHANGE", 5, "AD"),
        ("DXCHANGE", 6, "AD"),
        ("DIAGNOSIS", 1, "CN"),
        ("DIAGNOSIS", 2, "MCI"),
        ("DIAGNOSIS", 3, "AD"),
    ],
)
def test_dxsum_fills_blanks_in_all_its_codings(adni, run, column, code, expected):
    adni.visit(1, "bl", "2006-01-10", "")
    adni.image(1, "2006-01-20", 1)
    adni.dxsum.append({"RID": 1, "VISCODE": "bl", "VISCODE2": "bl", "EXAMDATE": "", column: code})
    assert run(("adni", adni.write()))["scans"]["diagnosis"].tolist() == [expected]


@pytest.mark.parametrize(
    ("dx", "expected"), [("NL", "CN"), ("NL to MCI", "MCI"), ("MCI to Dementia", "AD"), ("Dementia", "AD")]
)
def test_the_older_words_of_adnimerge_name_the_state_arrived_at(adni, run, dx, expected):
    adni.visit(1, "bl", "2006-01-10", dx)
    adni.image(1, "2006-01-20", 1)
    assert run(("adni", adni.write()))["scans"]["diagnosis"].tolist() == [expected]


def test_tables_that_disagree_are_noted_and_adnimerge_is_taken(adni, run):
    adni.visit(1, "bl", "2006-01-10", "MCI")
    adni.image(1, "2006-01-20", 1)
    adni.dxsum.append({"RID": 1, "VISCODE2": "bl", "DIAGNOSIS": 3})
    tables = run(("adni", adni.write()))
    assert tables["scans"]["diagnosis"].tolist() == ["MCI"]
    assert tables["notes"]["note"].tolist() == ["ADNIMERGE says MCI, DXSUM says AD; ADNIMERGE is taken"]


def test_dxsum_alone_will_do_with_the_age_of_an_image_list(adni, run, table_writer):
    adni.dxsum.append(
        {"RID": 1, "PTID": "011_S_0001", "VISCODE2": "m12", "EXAMDATE": "2012-03-01", "DIAGNOSIS": 2, "PHASE": "ADNI3"}
    )
    adni.image(1, "2012-03-05", 7, description="Accelerated_Sagittal_MPRAGE")
    table_writer(
        adni.root / "idaSearch_5_19_2026.csv",
        [
            {
                "Image ID": "I7",
                "Study Date": "3/05/2012",
                "Sex": "M",
                "Age": "74.3",
                "Imaging Protocol": "Field Strength=3.0;Manufacturer=SIEMENS",
            }
        ],
    )
    row = run(("adni", adni.write()))["scans"].iloc[0]
    assert (row["diagnosis"], row["age_years"], row["sex"]) == ("MCI", 74.3, "M")
    assert (row["field_strength_t"], row["manufacturer"], row["session_id"]) == (3.0, "SIEMENS", "ses-M012")


@pytest.mark.parametrize(
    "cells",
    [{"PTDOB": "09/1941"}, {"PTDOB": "1941-09"}, {"PTDOBYY": "1941", "PTDOBMM": "9"}, {"ptdob": "9/15/1941"}],
    ids=["month/year", "ISO", "two columns", "whole date"],
)
def test_a_subject_of_adni4_has_age_and_sex_from_ptdemog(adni, run, table_writer, cells):
    """No ADNIMERGE row, no image list: months and age count from the first visit in DXSUM."""
    ptid, visit = "011_S_10001", {"RID": 10001, "PTID": "011_S_10001", "PHASE": "ADNI4"}
    adni.dxsum = [
        {**visit, "VISCODE": "4_sc", "VISCODE2": "sc", "EXAMDATE": "2023-10-01", "DIAGNOSIS": 1},
        {**visit, "VISCODE": "4_m12", "VISCODE2": "", "EXAMDATE": "2024-10-03", "DIAGNOSIS": 2},
    ]
    table_writer(
        adni.root / "All_Subjects_PTDEMOG_19May2026.csv", [{"RID": 10001, "PTID": ptid, "PTGENDER": 2, **cells}]
    )
    adni.image(10001, "2024-10-13", 9, description="Accelerated_Sagittal_MPRAGE")
    row = run(("adni", adni.write()))["scans"].iloc[0]
    assert (row["diagnosis"], row["sex"], row["session_id"]) == ("MCI", "F", "ses-M012")
    assert row["subject_id"] == "sub-ADNI011S10001" and row["age_years"] == pytest.approx(83.08, abs=0.01)


def test_the_group_at_enrolment_is_never_a_diagnosis(adni, run, table_writer):
    adni.visit(1, "bl", "2006-01-10", "", DX_bl="AD")
    adni.image(1, "2006-01-12", 1)
    adni.visit(2, "bl", "2006-01-10", "CN", DX_bl="LMCI")
    adni.image(2, "2006-01-12", 2)
    listed = {"Group": "AD", "Sex": "F", "Age": 70, "Visit": "bl", "Acq Date": "1/12/2006"}
    table_writer(adni.root / "collection.csv", [{"Image Data ID": f"I{k}", **listed} for k in (1, 2)])
    told = run(("adni", adni.write()))
    assert told["scans"]["diagnosis"].tolist() == ["CN"]
    assert told["exclusions"]["reason"].tolist() == ["no-diagnosis"]


PROCESSED = "MPR__GradWarp__B1_Correction__N3__Scaled"


@pytest.mark.parametrize(
    ("phase", "descriptions", "kept"),
    [
        ("ADNI1", ["MP-RAGE", "MPR__GradWarp", PROCESSED, "MPR__GradWarp__B1_Correction__N3"], PROCESSED),
        ("ADNI1", ["MPR-R__GradWarp__B1_Correction__N3__Scaled", PROCESSED], PROCESSED),
        ("ADNI2", ["Accelerated_SAG_IR-SPGR", "MT1__GradWarp__N3m", "SAG_IR-SPGR"], "MT1__GradWarp__N3m"),
        (
            "ADNI3",
            ["MT1__GradWarp__N3m", "Sagittal_3D_MPRAGE", "Accelerated_Sagittal_MPRAGE"],
            "Accelerated_Sagittal_MPRAGE",
        ),
        ("ADNI3", ["Accelerated_Sagittal_MPRAGE_ND", "Accelerated_Sagittal_MPRAGE"], "Accelerated_Sagittal_MPRAGE"),
    ],
)
def test_which_t1_of_a_visit_is_kept(adni, run, phase, descriptions, kept):
    adni.visit(1, "bl", "2006-01-10", "CN", COLPROT=phase)
    for i, description in enumerate(descriptions):
        adni.image(1, "2006-01-20", 100 + i, description=description)
    tables = run(("adni", adni.write()))
    assert kept in tables["scans"]["image_path"].item().split("/")
    assert len(tables["exclusions"]) == len(descriptions) - 1


@pytest.mark.parametrize(
    "description",
    [
        "Axial_T2_FLAIR",
        "localizer",
        "MIDAS_Whole_Brain_Mask",
        "HarP_135_final_release",
        "Axial_DTI",
        "MPR_Range",
        "Field_Mapping",
    ],
)
def test_other_series_are_excluded(adni, run, description):
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.image(1, "2006-01-20", 1)
    adni.image(1, "2006-01-20", 2, description=description)
    assert run(("adni", adni.write()))["exclusions"]["reason"].tolist() == ["not-t1"]


def test_1p5_tesla_in_adni1_and_3_tesla_later(adni, run, table_writer):
    for rid, phase in ((1, "ADNI1"), (2, "ADNI2")):
        adni.visit(rid, "bl", "2006-01-10", "CN", COLPROT=phase)
        adni.image(rid, "2006-01-20", 10 * rid)
        adni.image(rid, "2006-01-21", 10 * rid + 1)
    table_writer(
        adni.root / "MPRAGEMETA.csv",
        [
            {"ImageUID": 10 * rid + i, "ScanDate": "2006-01-20", "MagStrength": field}
            for rid in (1, 2)
            for i, field in enumerate((3.0, 1.5) if rid == 1 else (1.5, 3.0))
        ],
    )
    assert run(("adni", adni.write()))["scans"]["image_uid"].tolist() == [11, 21]


def test_old_and_new_leaves_two_images_in_one_leaf_gz_and_dicom(adni, run):
    for rid in (1, 2, 3, 4):
        adni.visit(rid, "bl", "2006-01-10", "CN")
    adni.image(1, "2006-01-20", 1, leaf="S99")
    adni.image(1, "2006-01-20", 2, leaf="S99")
    adni.image(2, "2006-01-20", 3, suffix=".nii.gz")
    for i in range(3):
        adni.image(3, "2006-01-20", 4).with_name(f"ADNI_011_S_0003_MR_MP-RAGE_br_raw_2012_{i}_S15_I4.dcm").write_bytes(
            b"%d" % i
        )
    next(adni.root.rglob("*_I4.nii")).unlink()
    adni.image(4, "2006-01-20", 5, suffix=".img")
    tables = run(("adni", adni.write()))
    assert tables["scans"]["image_uid"].tolist() == [1, 3, 4]
    assert tables["scans"]["image_path"].iloc[2].endswith("/I4")
    assert sorted(tables["exclusions"]["reason"]) == ["other-scan-of-visit", "unsupported-format"]


def test_a_five_digit_subject_and_a_file_without_ids(adni, run):
    adni.visit(10345, "bl", "2006-01-10", "CN")
    adni.image(10345, "2006-01-20", 1)
    (adni.root / "ADNI" / "stray_MPRAGE.nii").write_bytes(b"stray")
    tables = run(("adni", adni.write()))
    assert tables["scans"]["subject_id"].tolist() == ["sub-ADNI011S10345"]
    assert tables["exclusions"]["reason"].tolist() == ["no-image-id"]


def test_withdrawn_scans_are_excluded(adni, run, table_writer):
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.image(1, "2006-01-20", 1)
    adni.image(1, "2006-01-20", 2)
    table_writer(
        adni.root / "DELMRSCANS_22Jan2026.csv", [{"SUBJECTID": "011_S_0001", "SCANDATE": "2006-01-20", "IMAGEID": "I1"}]
    )
    tables = run(("adni", adni.write()))
    assert tables["scans"]["image_uid"].tolist() == [2]
    assert tables["exclusions"]["reason"].tolist() == ["withdrawn"]


def test_a_date_that_the_path_lacks_comes_from_the_collection_table(adni, run, table_writer):
    adni.visit(1, "bl", "2006-01-10", "CN")
    folder = adni.root / "ADNI" / "011_S_0001" / "I5"
    folder.mkdir(parents=True)
    (folder / "ADNI_011_S_0001_MR_MPRAGE_Br_20070319_S1_I5.nii").write_bytes(b"x")
    root = adni.write()
    with pytest.raises(BadInput, match="1 no-date"):
        run(("adni", root))
    table_writer(root / "my_study_5_19_2026.csv", [{"Image Data ID": "I5", "Acq Date": "1/20/2006", "Group": "AD"}])
    assert run(("adni", root))["scans"]["diagnosis"].tolist() == ["CN"]


def test_missing_codes_of_age_exclude_the_scan(adni, run):
    adni.visit(1, "bl", "2006-01-10", "CN", age=-4)
    adni.visit(2, "bl", "2006-01-10", "CN", MMSE=-1)
    adni.image(1, "2006-01-20", 1)
    adni.image(2, "2006-01-20", 2)
    tables = run(("adni", adni.write()))
    assert tables["exclusions"]["reason"].tolist() == ["no-age"]
    assert tables["scans"]["mmse"].isna().all()


def test_a_subject_without_rows_is_excluded_not_lost(adni, run):
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.image(1, "2006-01-20", 1)
    adni.image(9, "2006-01-20", 2)
    assert run(("adni", adni.write()))["exclusions"]["reason"].tolist() == ["no-table-row"]


def test_tables_are_found_whatever_their_prefix_and_date(tmp_path):
    names = [
        "ADNIMERGE.csv",
        "ADNIMERGE_23Dec2025.csv",
        "All_Subjects_ADNIMERGE_1Jan2024.csv",
        "ADNIMERGE_dict.csv",
        "my_adnimerge.csv",
    ]
    paths = [tmp_path / name for name in names]
    found = [p.name for p in tables_named(paths, "ADNIMERGE")]
    assert found == [
        "ADNIMERGE.csv",
        "my_adnimerge.csv",
        "All_Subjects_ADNIMERGE_1Jan2024.csv",
        "ADNIMERGE_23Dec2025.csv",
    ]


def test_the_newest_release_of_a_table_wins(adni, run):
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.write(merge="ADNIMERGE_1Jan2020.csv")
    adni.merge[0]["DX"] = "MCI"
    adni.image(1, "2006-01-20", 1)
    assert run(("adni", adni.write(merge="ADNIMERGE_1Jan2024.csv")))["scans"]["diagnosis"].tolist() == ["MCI"]


def test_missing_tables_and_columns_are_named(adni, run, table_writer):
    adni.image(1, "2006-01-20", 1)
    with pytest.raises(BadInput, match="ADNIMERGE.csv or DXSUM"):
        run(("adni", adni.root))
    table_writer(adni.root / "ADNIMERGE.csv", [{"RID": 1, "DX": "CN", "VISCODE": "bl"}])
    with pytest.raises(BadInput, match="EXAMDATE"):
        run(("adni", adni.root))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_order_and_case_of_columns_and_order_of_rows_do_not_matter(adni, table_writer, data):
    adni.merge.clear()
    for rid in (1, 2):
        adni.visit(rid, "bl", "2006-01-10", "CN", MMSE=data.draw(st.sampled_from(["", "-1", "-4", "27", "NA"])))
        adni.visit(rid, "m12", "1/12/2007", data.draw(st.sampled_from(["", "MCI", "Dementia"])))
    table_writer(adni.root / "a" / "ADNIMERGE.csv", adni.merge)
    names = data.draw(st.permutations(list(adni.merge[0])))
    case = data.draw(st.sampled_from([str.lower, str.upper, str.title]))
    rows = [{case(name): f" {row[name]} " for name in names} for row in data.draw(st.permutations(adni.merge))]
    table_writer(adni.root / "b" / "ADNIMERGE.csv", rows, delimiter=data.draw(st.sampled_from(",;\t")))
    one, other = (read_clinic([adni.root / f / "ADNIMERGE.csv"], where="") for f in "ab")
    assert one.visits.equals(other.visits) and one.ptids == other.ptids
