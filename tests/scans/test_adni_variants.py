"""ADNI downloads as they vary: trees old and new, tables of every release, odd codes, and what two sources tell apart."""

from __future__ import annotations

import zipfile

import pandas as pd
import pytest

from elr_mri.errors import BadInput

ACCELERATED = "Accelerated_Sagittal_MPRAGE"


def outcome(tables) -> dict[str, str]:
    """Image id -> its session, or the reason why it is not kept."""
    kept, lost = (tables[name].assign(id=_ids(tables[name])) for name in ("scans", "exclusions"))
    told = dict(zip(kept["id"], kept["session_id"], strict=True)) | dict(zip(lost["id"], lost["reason"], strict=True))
    assert len(told) == len(kept) + len(lost)
    return told


def _ids(table) -> list[str]:
    return ["none" if pd.isna(uid) else str(uid).removesuffix(".0") for uid in table["image_uid"]]


def dxsum(adni, rid=1, **cells):
    adni.dxsum.append({"RID": rid, "PTID": f"011_S_{rid:04d}", "PHASE": "ADNI3", "DIAGNOSIS": 1, **cells})


# --- the tree ---------------------------------------------------------------------------------------------------------


def dicom(folder, name, content=b"x"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"\0" * 128 + b"DICM" + content)


@pytest.mark.parametrize(
    ("leaf", "names"),
    [
        ("I4", ["ADNI_011_S_0001_MR_MPRAGE_br_raw_2012_1_S15_I4.dcm", "ADNI_011_S_0001_MR_MPRAGE_br_raw_2012_2_S15_I4.DCM"]),
        ("S15", ["series/ADNI_011_S_0001_MR_MPRAGE_br_raw_2012_1_S15_I4.dcm"]),
        ("I4", ["a/1.dcm", "b/2.dcm"]),
        ("I4", ["IM_0001", "IM_0002"]),
        ("I4", ["1.2.840.113619.2.1", "MR.1.2.840.113619.2.2"]),
        ("I4", ["0001.ima", "scan.mr1"]),
    ],
    ids=["flat", "nested, old leaf", "two folders in a leaf", "no suffix", "UIDs for names", "odd suffixes"],
)  # fmt: skip
def test_a_dicom_series_is_one_image_whatever_its_files_are_called(adni, run, leaf, names):
    adni.visit(1, "bl", "2006-01-10", "CN")
    folder = adni.root / "ADNI" / "011_S_0001" / "MPRAGE" / "2006-01-12_08_20_30.0" / leaf
    for name in names:
        dicom((folder / name).parent, (folder / name).name, name.encode())
    tables = run(("adni", adni.write()))
    assert outcome(tables) == {"4": "ses-M000"}
    assert tables["scans"]["image_path"].item() == str(folder)


def test_several_dicom_series_in_one_leaf_are_told_apart_where_they_can_be(adni, run):
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.visit(2, "bl", "2006-01-10", "CN")
    for rid, apart in ((1, True), (2, False)):
        leaf = adni.root / "ADNI" / f"011_S_000{rid}" / "MPRAGE" / "2006-01-12_08_20_30.0" / "S15"
        for uid in (10 * rid, 10 * rid + 1):
            name = f"ADNI_011_S_000{rid}_MR_MPRAGE_br_raw_1_S15_I{uid}.dcm"
            dicom(leaf / str(uid) if apart else leaf, name, b"%d" % uid)
    told = outcome(run(("adni", adni.write())))
    assert told == {
        "10": "ses-M000",
        "11": "other-scan-of-visit",
        "20": "mixed-dicom-folder",
        "21": "mixed-dicom-folder",
    }


def test_two_nested_dicom_series_with_other_bytes_are_no_duplicates(adni, run):
    for rid in (1, 2, 3):
        adni.visit(rid, "bl", "2006-01-10", "CN")
        leaf = adni.root / "ADNI" / f"011_S_000{rid}" / "MPRAGE" / "2006-01-12_08_20_30.0" / f"I{rid}"
        dicom(leaf / "deep", "1.dcm", b"a" if rid < 3 else b"b")
    assert outcome(run(("adni", adni.write()))) == {"1": "ses-M000", "2": "duplicate-image", "3": "ses-M000"}


def test_what_is_no_scan_is_no_scan(adni, run):
    """Masks beside the scan in its own folder, `_ND` twins, sidecars, a zip that nobody unpacked, an unknown format."""
    adni.visit(1, "bl", "2006-01-10", "CN")
    scan = adni.image(1, "2006-01-12", 1)
    scan.with_name("ADNI_011_S_0001_MR_MPR__GradWarp__Mask_Br_2007_S1_I2.nii").write_bytes(b"mask")
    scan.with_name("ADNI_011_S_0001_I3_BrainMask_S1_I3.nii.gz").write_bytes(b"mask too")
    adni.image(1, "2006-01-12", 4, description="MPRAGE_ND")
    scan.with_name("ADNI_011_S_0001_MPR_S1_I1.xml").write_text("<a/>")
    scan.with_name("Thumbs.db").write_bytes(b"x")
    with zipfile.ZipFile(adni.root / "ADNI_2.zip", "w") as archive:
        archive.writestr("ADNI/011_S_0001/x_I9.nii", b"x")
    with zipfile.ZipFile(adni.root / "tables.zip", "w") as archive:
        archive.writestr("CDR.csv", b"x")
    leaf = adni.root / "ADNI" / "011_S_0001" / "MPRAGE" / "2006-01-13_08_20_30.0" / "I8"
    leaf.mkdir(parents=True)
    (leaf / "ADNI_011_S_0001_MR_MPRAGE_Br_1_S1_I8.v").write_bytes(b"ECAT")
    tables = run(("adni", adni.write()))
    told = outcome(tables)
    assert told.pop("none") == "unsupported-format"
    assert told == {"1": "ses-M000", "2": "not-t1", "3": "not-t1", "4": "not-t1", "8": "unsupported-format"}
    assert "not unpacked (1 images)" in " ".join(tables["exclusions"]["detail"].dropna())


def test_a_zip_that_cannot_be_read_is_told(adni, run):
    """A download that broke off: nobody knows what lies in it."""
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.image(1, "2006-01-12", 1)
    (adni.root / "ADNI_2.zip").write_bytes(b"PK\x03\x04 and then the line broke")
    tables = run(("adni", adni.write()))
    assert outcome(tables) == {"1": "ses-M000", "none": "unreadable-archive"}
    (told,) = tables["exclusions"]["detail"].dropna()
    assert told == "File is not a zip file"


def test_two_subjects_in_one_path_are_told(adni, run, table_writer):
    for rid in (1, 2):
        adni.visit(rid, "bl", "2006-01-10", "CN")
    path = adni.image(1, "2006-01-12", 1)
    path.rename(path.with_name(path.name.replace("011_S_0001", "011_S_0002")))
    adni.image(2, "2006-01-12", 2)
    adni.image(2, "2006-01-12", 3)
    table_writer(adni.root / "list.csv", [{"Image Data ID": "I3", "Subject": "011_S_0001", "Acq Date": "1/12/2006"}])
    tables = run(("adni", adni.write()))
    assert outcome(tables) == {"1": "conflicting-ids", "2": "ses-M000", "3": "conflicting-ids"}


def test_one_person_under_two_sites_stays_one_subject(adni, run):
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.visit(1, "m12", "2007-01-10", "CN")
    adni.image(1, "2006-01-12", 1)
    adni.image(1, "2007-01-12", 2, site=99)
    tables = run(("adni", adni.write()))
    assert tables["scans"]["subject_id"].tolist() == ["sub-ADNI011S0001"] * 2
    assert tables["notes"]["note"].tolist() == ["the image tree says 099_S_0001, the tables say 011_S_0001"]


# --- image lists ------------------------------------------------------------------------------------------------------


def adni4(adni, uid=7, ptid_rid=10001, description=ACCELERATED):
    """A subject of ADNI4: no ADNIMERGE row, so its age is only where an image list tells it."""
    adni.dxsum.append(
        {"RID": ptid_rid, "PTID": f"011_S_{ptid_rid}", "VISCODE2": "bl", "EXAMDATE": "2024-03-01", "DIAGNOSIS": 2}
    )
    adni.image(ptid_rid, "2024-03-05", uid, description=description)  # fmt: skip


@pytest.mark.parametrize("uid", ["I7", "7", "i7", "7.0", " I7 "])
@pytest.mark.parametrize("name", ["Image Data ID", "image_id", "IMAGEUID", "Image ID"])
def test_image_ids_of_a_list_are_read_with_and_without_their_letter(adni, run, table_writer, uid, name):
    adni4(adni)
    table_writer(
        adni.root / "ADNI4_Key_MRI_10Oct2025.csv", [{name: uid, "age": 74, "Acq Date": "3/05/2024", "SEX": "F"}]
    )
    row = run(("adni", adni.write()))["scans"].iloc[0]
    assert (row["age_years"], row["sex"]) == (74, "F")


def test_a_search_export_with_few_columns_gives_age_and_sex_by_description(adni, run, table_writer):
    adni4(adni)
    rows = [
        {"Subject ID": "011_S_10001", "Sex": "F", "Age": "74.3", "Description": "Accelerated Sagittal MPRAGE", "Type": "Original"},
        {"Subject ID": "011_S_10001", "Sex": "F", "Age": "70.3", "Description": "Axial T2", "Type": "Original"},
    ]  # fmt: skip
    table_writer(adni.root / "idaSearch_5_09_2026.csv", rows)
    row = run(("adni", adni.write()))["scans"].iloc[0]
    assert (row["age_years"], row["sex"]) == (74.3, "F")


def test_an_age_that_could_be_another_scans_is_not_taken(adni, run, table_writer):
    adni4(adni)
    """Two ages and one scan, or one age and scans of several years: which belongs to which, nobody can tell."""
    row = {"Subject ID": "011_S_10001", "Sex": "F", "Description": ACCELERATED}
    table_writer(adni.root / "idaSearch_5_09_2026.csv", [{**row, "Age": "74.3"}, {**row, "Age": "76.4"}])
    with pytest.raises(BadInput, match="1 no-age"):
        run(("adni", adni.write()))
    table_writer(adni.root / "idaSearch_5_09_2026.csv", [{**row, "Age": "74.3"}])
    assert run(("adni", adni.root))["scans"]["age_years"].tolist() == [74.3]
    adni.image(10001, "2026-03-05", 8, description=ACCELERATED)
    adni.dxsum.append(
        {"RID": 10001, "PTID": "011_S_10001", "VISCODE2": "m24", "EXAMDATE": "2026-03-01", "DIAGNOSIS": 2}
    )
    with pytest.raises(BadInput, match="2 no-age"):
        run(("adni", adni.write()))


def test_a_decimal_age_goes_before_a_whole_one(adni, run, table_writer):
    adni4(adni)
    for name, age in (("a.csv", "74"), ("b.csv", "74.6")):
        table_writer(adni.root / name, [{"Image ID": "I7", "Study Date": "3/05/2024", "Age": age}])
    assert run(("adni", adni.write()))["scans"]["age_years"].tolist() == [74.6]


def test_the_sidecar_xml_tells_what_no_table_tells(adni, run):
    adni4(adni)
    (adni.root / "ADNI_011_S_10001_MPRAGE_S1_I7.xml").write_text(
        "<idaxs><subjectIdentifier>011_S_10001</subjectIdentifier><subjectSex>M</subjectSex><researchGroup>AD</researchGroup>"
        '<subjectAge>74.2</subjectAge><dateAcquired>2024-03-05 08:20:30.0</dateAcquired><protocol term="Field Strength">3.0'
        '</protocol><protocol term="Manufacturer">SIEMENS</protocol></idaxs>'
    )
    row = run(("adni", adni.write()))["scans"].iloc[0]
    assert (row["age_years"], row["sex"], row["field_strength_t"], row["manufacturer"]) == (74.2, "M", 3.0, "SIEMENS")
    assert row["diagnosis"] == "MCI"


def test_adnimerges_baseline_age_is_not_the_age_of_its_image(adni, run, table_writer):
    """ADNIMERGE has an IMAGEUID and AGE: under another name it is no image list either."""
    adni4(adni)
    table_writer(adni.root / "mine.csv", [{"IMAGEUID": 7, "AGE": 60, "VISCODE": "m48", "EXAMDATE": "2024-03-05"}])
    with pytest.raises(BadInput, match="1 no-age"):
        run(("adni", adni.write()))


def test_ages_that_two_sources_tell_apart_are_noted(adni, run, table_writer):
    adni.visit(1, "bl", "2006-01-10", "CN", age=70)
    adni.image(1, "2006-01-10", 1)
    table_writer(adni.root / "list.csv", [{"Image Data ID": "I1", "Acq Date": "1/10/2006", "Age": 80, "Group": "AD"}])
    tables = run(("adni", adni.write()))
    assert tables["scans"]["age_years"].tolist() == [70]
    assert "age 70.0 by the tables, 80.0 in the image list" in tables["notes"]["note"].item()


@pytest.mark.parametrize("column", ["IMAGEUID", "ImageID", "Image Data ID", "LONI_IMAGE", "image_id"])
@pytest.mark.parametrize("cell", ["I1", "1", "S13408"])
def test_withdrawn_scans_whatever_their_column(adni, run, table_writer, column, cell):
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.visit(2, "bl", "2006-01-10", "CN")
    adni.image(1, "2006-01-10", 1)
    adni.image(2, "2006-01-10", 2).rename(adni.root / "ADNI_011_S_0002_MR_MPRAGE_Br_2006_S2_I2.nii")
    table_writer(adni.root / "list.csv", [{"Image ID": "I2", "Study Date": "1/10/2006"}])
    table_writer(adni.root / "DELMRSCANS_22Jan2026.csv", [{column: cell, "PTID": "x"}])
    assert outcome(run(("adni", adni.write()))) == {"1": "withdrawn", "2": "ses-M000"}


# --- clinical tables --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "harmonised", "day", "session"),
    [
        ("sc", "sc", "2006-01-02", "M000"),
        ("4_sc", "", "2006-01-02", "M000"),
        ("4_bl", "", "2006-01-10", "M000"),
        ("scmri", "scmri", "2006-01-12", "M000"),
        ("v02", "", "2006-01-12", "M000"),
        ("f", "f", "2006-01-12", "M000"),
        ("init", "m60", "2011-01-20", "M060"),
        ("init", "", "2011-01-12", "M060"),
        ("4_init", "m60", "2011-01-20", "M060"),
        ("y1", "", "2012-01-12", "M072"),
        ("4_m12", "", "2012-01-12", "M072"),
        ("uns1", "uns1", "2012-01-12", "M072"),
        ("m72", "", "2012-01-12", "M072"),
    ],
)
def test_visit_codes_old_and_odd(adni, run, raw, harmonised, day, session):
    adni.visit(1, "bl", "2006-01-10", "")
    dxsum(adni, VISCODE=raw, VISCODE2=harmonised, EXAMDATE=day, DIAGNOSIS=2)
    adni.image(1, day, 1)
    row = run(("adni", adni.write()))["scans"].iloc[0]
    assert (row["session_id"], row["diagnosis"]) == (f"ses-{session}", "MCI")


def test_a_code_without_a_month_is_the_adnimerge_visit_of_that_week(adni, run):
    """`y4` by date is month 49; ADNIMERGE calls that visit m48, and the two are compared."""
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.visit(1, "m48", "2010-02-09", "CN")
    dxsum(adni, VISCODE="y4", VISCODE2="", EXAMDATE="2010-02-10", DIAGNOSIS=2)
    adni.image(1, "2010-02-10", 1)
    tables = run(("adni", adni.write()))
    assert outcome(tables) == {"1": "ses-M048"}
    assert tables["notes"]["note"].tolist() == ["ADNIMERGE says CN, DXSUM says MCI; ADNIMERGE is taken"]


def test_viscode2_goes_before_viscode(adni, run):
    """In ADNI2 a newcomer's raw `m06` is VISCODE2's m06, a returner's raw code counts from elsewhere."""
    adni.visit(1, "bl", "2006-01-10", "")
    adni.visit(1, "m66", "2011-07-10", "")
    dxsum(adni, VISCODE="m06", VISCODE2="m66", EXAMDATE="", DIAGNOSIS=3)
    adni.image(1, "2011-07-12", 1)
    tables = run(("adni", adni.write()))
    assert outcome(tables) == {"1": "ses-M066"} and tables["scans"]["diagnosis"].tolist() == ["AD"]


def test_a_blank_exam_date_stands_at_its_nominal_month(adni, run):
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.visit(1, "m12", "", "MCI")
    adni.image(1, "2007-01-20", 1)
    assert outcome(run(("adni", adni.write()))) == {"1": "ses-M012"}


def test_a_baseline_day_that_no_row_tells_is_counted_back(adni, run):
    for code, day in (("m24", "2008-01-10"), ("m12", "2007-01-10")):
        adni.visit(1, code, day, "CN", baseline="", age=70)
    adni.image(1, "2008-01-10", 1)
    assert run(("adni", adni.write()))["scans"]["age_years"].item() == pytest.approx(72, abs=0.02)


def test_ids_in_lower_case_and_derived_images(adni, run, table_writer):
    adni.visit(1, "bl", "2006-01-10", "CN")
    folder = adni.root / "adni" / "011_s_0001" / "MPRAGE" / "2006-01-12"
    folder.mkdir(parents=True)
    (folder / "adni_011_s_0001_mr_mprage_br_2006_s1_d12.NII").write_bytes(b"x")
    table_writer(
        adni.root / "list.csv",
        [{"Image Data ID": "D12", "Acq Date": "1/12/2006 0:00", "Imaging Protocol": "Field Strength=1.5"}],
    )
    tables = run(("adni", adni.write()))
    assert outcome(tables) == {"D12": "ses-M000"} and tables["scans"]["subject_id"].tolist() == ["sub-ADNI011S0001"]


@pytest.mark.parametrize(
    "day", ["2006-01-12", "1/12/2006", "01/12/06", "1/12/2006 0:00", "2006-01-12T08:20:30", "2006-01-12 08:20:30.0"]
)
def test_dates_as_the_exports_write_them(adni, run, table_writer, day):
    adni.visit(1, "bl", "2006-01-10", "CN")
    (adni.root / "ADNI" / "011_S_0001").mkdir(parents=True)
    (adni.root / "ADNI" / "011_S_0001" / "MPRAGE_I5.nii").write_bytes(b"x")
    table_writer(adni.root / "list.csv", [{"Image ID": "5", "Study Date": day}])
    row = run(("adni", adni.write()))["scans"].iloc[0]
    assert row["age_years"] == pytest.approx(70 + 2 / 365.25)


def test_dxsum_that_contradicts_itself_is_noted(adni, run):
    adni.visit(1, "bl", "2006-01-10", "")
    adni.image(1, "2006-01-10", 1)
    dxsum(adni, VISCODE2="bl", DIAGNOSIS=1, DXCHANGE=5)
    dxsum(adni, VISCODE2="bl", DIAGNOSIS=2)
    tables = run(("adni", adni.write()))
    assert tables["scans"]["diagnosis"].tolist() == ["CN"]
    assert sorted(tables["notes"]["note"]) == [
        "DXSUM disagrees with itself: DIAGNOSIS CN, DXCHANGE AD",
        "DXSUM has several diagnoses of this visit; CN is taken",
    ]


@pytest.mark.parametrize("code", ["-1", "-4", "", "9", "0", "1.5", ">1700"])
def test_what_is_no_diagnosis_gives_none(adni, run, code):
    adni.image(1, "2006-01-10", 1)
    adni.visit(1, "bl", "2006-01-10", "")
    dxsum(adni, VISCODE2="bl", DIAGNOSIS=code)
    with pytest.raises(BadInput, match="1 no-diagnosis"):
        run(("adni", adni.write()))


def test_a_rid_with_anothers_ptid_is_left_out_and_noted(adni, run):
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.visit(2, "bl", "2006-01-10", "MCI", PTID="011_S_0003")
    for rid in (1, 2, 3):
        adni.image(rid, "2006-01-10", rid)
    tables = run(("adni", adni.write()))
    assert outcome(tables) == {"1": "ses-M000", "2": "no-table-row", "3": "no-table-row"}
    assert tables["notes"]["note"].tolist() == ["ADNIMERGE has RID 2 with PTID 011_S_0003: row left out"]


@pytest.mark.parametrize("age", ["-4", "0", "7", "250", "", "unknown", ">89"])
def test_an_impossible_baseline_age_falls_back_on_ptdemog(adni, run, table_writer, age):
    adni.visit(1, "bl", "2006-01-10", "CN", age=age, PTGENDER="")
    adni.image(1, "2006-07-15", 1)
    table_writer(adni.root / "PTDEMOG.csv", [{"RID": 1, "PTGENDER": "2", "PTDOBYY": "1930", "PTDOBMM": "7"}])
    row = run(("adni", adni.write()), max_days=400)["scans"].iloc[0]
    assert row["age_years"] == pytest.approx(76, abs=0.01) and row["sex"] == "F"


def test_the_newest_release_counts_whole_and_says_so(adni, run, capsys):
    """A diagnosis that the newest release has taken back does not return from an older one; rows only there do."""
    adni.visit(1, "bl", "2006-01-10", "CN")
    adni.visit(2, "bl", "2006-01-10", "CN")
    adni.image(1, "2006-01-10", 1)
    adni.image(2, "2006-01-10", 2)
    adni.write(merge="ADNIMERGE_1Jan2020.csv")
    adni.merge.pop()
    adni.merge[0]["DX"] = ""
    tables = run(("adni", adni.write(merge="ADNIMERGE_1Feb2024 (1).csv")))
    assert outcome(tables) == {"1": "no-diagnosis", "2": "ses-M000"}
    said = "2 files, ADNIMERGE_1Feb2024 (1).csv goes before ADNIMERGE_1Jan2020.csv, 1 rows of older ones give way"
    assert said in capsys.readouterr().out


def test_the_tables_of_two_cohorts_of_the_builder_are_one(adni, run, table_writer):
    for rid, name in ((1, "ADNI3_DXSUM_10Oct2025.csv"), (2, "ADNI4_DXSUM_10Oct2025.csv")):
        row = {"subject_id": f"011_S_{rid:04d}", "VISCODE2": "bl", "EXAMDATE": "2020-03-01", "DIAGNOSIS": "MCI"}
        table_writer(adni.root / name, [row])
        adni.image(rid, "2020-03-05", rid, description=ACCELERATED)
    table_writer(
        adni.root / "All_Subjects_PTDEMOG_19May2026.csv",
        [{"PTID": f"011_S_{rid:04d}", "PTGENDER": 1, "PTDOB": "1950"} for rid in (1, 2)],
    )
    table_writer(adni.root / "ADNI_My_Table_10Oct2025.csv", [{"subject_id": "011_S_0001", "entry_age": 40}])
    tables = run(("adni", adni.root))
    assert outcome(tables) == {"1": "ses-M000", "2": "ses-M000"}
    assert tables["scans"]["age_years"].between(69, 71).all() and set(tables["scans"]["sex"]) == {"M"}


def test_a_carried_diagnosis_is_noted(adni, run):
    adni.visit(1, "bl", "2006-01-10", "MCI")
    adni.visit(1, "m06", "2006-07-10", "")
    adni.image(1, "2006-07-12", 2)
    tables = run(("adni", adni.write()), carry_forward_days=200)
    assert tables["notes"][["months", "note"]].values.tolist() == [
        [6, "MCI carried forward from month 0, 183 days before the scan"]
    ]
    assert run(("adni", adni.root), carry_forward_days=183)["scans"]["diagnosis"].tolist() == ["MCI"]
    with pytest.raises(BadInput, match="1 no-diagnosis"):
        run(("adni", adni.root), carry_forward_days=182)


def test_adnimerge2_is_refused_with_what_to_download_instead(adni, run, table_writer):
    adni.image(1, "2006-01-10", 1)
    table_writer(adni.root / "ADSL.csv", [{"USUBJID": "ADNI-001-00001", "ENRLFL": "Y", "AGE": 70}])
    with pytest.raises(BadInput, match=r"ADSL\.csv of the R package ADNIMERGE2.*Download ADNIMERGE, or DXSUM"):
        run(("adni", adni.root))


def test_the_enrolment_group_alone_gives_no_diagnosis(adni, run, table_writer):
    adni.image(1, "2006-01-10", 1)
    table_writer(
        adni.root / "ADNIMERGE.csv", [{"RID": 1, "VISCODE": "bl", "EXAMDATE": "2006-01-10", "AGE": 70, "DX_bl": "AD"}]
    )
    table_writer(
        adni.root / "list.csv",
        [{"Image Data ID": "I1", "Group": "AD", "Research Group": "AD", "Acq Date": "1/10/2006"}],
    )
    with pytest.raises(BadInput, match="1 no-diagnosis"):
        run(("adni", adni.root))


@pytest.mark.parametrize(
    ("phase", "listed", "kept"),
    [("", "ADNI 3", ACCELERATED), ("", "ADNI 1", "MPRAGE_N3"), ("ADNI3", "ADNI 1", ACCELERATED), ("", "", "MPRAGE_N3")],
)
def test_the_phase_of_a_list_serves_where_the_visit_has_none(adni, run, table_writer, phase, listed, kept):
    adni.visit(1, "bl", "2006-01-10", "CN", COLPROT=phase)
    for uid, description in ((1, ACCELERATED), (2, "MPRAGE_N3")):
        adni.image(1, "2006-01-12", uid, description=description)
    table_writer(adni.root / "list.csv", [{"Image ID": u, "Study Date": "1/12/2006", "Phase": listed} for u in (1, 2)])
    assert kept in run(("adni", adni.write()))["scans"]["image_path"].item()
