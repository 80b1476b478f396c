"""SCAN, NACC's standardised imaging: an IDA-like tree and tables matched by person and day."""

from __future__ import annotations

import struct
import zipfile

import pytest

from elr_mri.errors import BadInput

PROTOCOL = "Accelerated_Sagittal_MPRAGE"


@pytest.fixture
def scan(nacc, table_writer):
    """A download of SCAN alone: no MRI table, no archive. `scan.image`, `scan.volumes` and `scan.series` add to it."""

    class Scan:
        def __init__(self):
            self.volumes, self.series = [], []

        def image(self, number, day, uid, protocol=PROTOCOL, suffix=".nii", count=1):
            folder = nacc.root / "SCAN" / f"NACC{number:06d}" / protocol / f"{day}_10_20_30.0" / f"I{uid}"
            folder.mkdir(parents=True, exist_ok=True)
            for k in range(count):
                (folder / f"NACC{number:06d}_{protocol}_{k}_I{uid}{suffix}").write_bytes(b"image %d %d" % (uid, k))

        def write(self, freeze=75):
            folder = nacc.root / f"investigator_scan_mri_nacc{freeze}"
            table_writer(nacc.root / "investigator_nacc75.csv", nacc.uds)
            for name, rows in (("mrisbm", self.volumes), ("mriqc", self.series)):
                if rows:
                    table_writer(folder / f"investigator_scan_{name}_nacc{freeze}.csv", rows)
            return nacc.root

    made = Scan()
    for number, level in ((1, 1), (2, 3)):
        nacc.visit(number, "2022-03-01", level)
        nacc.visit(number, "2023-03-01", level)
    return made


def test_scan_images_are_matched_by_person_and_day(scan, run):
    scan.image(1, "2022-03-10", 11)
    scan.image(2, "2023-02-20", 21, suffix=".dcm", count=3)
    scan.volumes += [
        {"NACCID": "NACC000001", "SCANDT": "2022-03-10", "LEFT_HIPPO": 3.1, "RIGHT_HIPPO": 3.3, "CEREBRUMTCV": 1450},
        {"NACCID": "NACC000002", "SCANDT": "2023-02-20", "LEFT_HIPPO": 3000, "RIGHT_HIPPO": 3100, "CEREBRUMTCV": 1.5e6},
    ]
    scans = run(("nacc", scan.write()))["scans"].set_index("subject_id")
    assert scans["session_id"].tolist() == ["ses-M000", "ses-M012"]
    assert scans["diagnosis"].tolist() == ["CN", "MCI"]
    assert scans["hippocampus_mm3"].tolist() == pytest.approx([6400, 6100])
    assert scans["icv_mm3"].tolist() == pytest.approx([1.45e6, 1.5e6])
    assert scans.loc["sub-NACC000002", "image_path"].endswith("I21")  # the folder: its DICOM files are one image


def test_a_session_without_a_row_is_told_by_the_tree(scan, run):
    scan.image(1, "2022-03-10", 11)
    scan.image(2, "2022-03-10", 21)
    scan.volumes.append({"NACCID": "NACC000002", "SCANDT": "2022-03-10", "HIPPOCAMPUS": 6.1})
    scans = run(("nacc", scan.write()))["scans"]
    assert len(scans) == 2 and scans["hippocampus_mm3"].isna().tolist() == [True, False]


def test_refused_series_are_excluded_and_the_chosen_one_is_kept(scan, run):
    day = "2022-03-10"
    for uid, protocol in ((11, "MPRAGE_a"), (12, "MPRAGE_b"), (13, "MPRAGE_c")):
        scan.image(1, day, uid, protocol)
    scan.image(2, day, 21)
    for protocol, grade, chosen in (("MPRAGE a", "4", 1), ("MPRAGE b", "2", 0), ("MPRAGE_c", "1", 1)):
        row = {"NACCID": "NACC000001", "STUDYDATE": day, "SERIESDESCRIPTION": protocol}
        scan.series.append({**row, "SERIESQC": grade, "STUDYQC": "1", "SERIESCHOSEN": chosen})
    tables = run(("nacc", scan.write()))
    gone = tables["exclusions"].set_index("reason")["image_path"]
    assert "MPRAGE_a" in gone["failed-series-qc"]
    assert sorted(tables["exclusions"]["reason"]) == ["failed-series-qc", "other-scan-of-visit"]
    assert tables["scans"]["image_path"].str.contains("MPRAGE_c").tolist()[0]


def test_scan_and_mixed_protocol_in_one_download(scan, nacc, run):
    scan.image(1, "2023-03-05", 11)
    scan.volumes.append({"NACCID": "NACC000001", "SCANDT": "2023-03-05", "HIPPOCAMPUS": 6.1})
    nacc.session(2, "2022-03-04", "mri2.zip")
    nacc.archive("mri2ni.zip", {"MPRAGE": b"mixed"})
    scan.write()
    scans = run(("nacc", nacc.write(freeze=75)))["scans"].set_index("subject_id")
    assert scans["session_id"].to_dict() == {"sub-NACC000001": "ses-M012", "sub-NACC000002": "ses-M000"}
    assert scans["hippocampus_mm3"].to_dict() == pytest.approx({"sub-NACC000001": 6100, "sub-NACC000002": 6123.4})


def test_neither_mri_nor_scan_tables_is_refused(scan, run):
    scan.image(1, "2022-03-10", 11)
    with pytest.raises(BadInput, match="investigator_mri_nacc"):
        run(("nacc", scan.write()))


def test_a_refused_repeat_is_told_from_its_twin_by_the_image_number(scan, run):
    """Two series of one name on one day: only LONI's image number says which of them failed."""
    day = "2022-03-10"
    for uid, grade in ((1111, "1"), (2222, "Fail - motion")):
        scan.image(1, day, uid)
        row = {"NACCID": "nacc000001", "STUDYDATE": day, "SERIESDESCRIPTION": "Accelerated Sagittal MPRAGE"}
        scan.series.append(row | {"LONIIMAGE": uid, "SERIESQC": grade, "STUDYQC": 1, "MAGNETICFIELDSTRENGTH": "30000"})
    scan.series[0]["SCANNERMANUFACTURER"] = "SIEMENS Healthineers"
    scan.image(2, day, 21)
    tables = run(("nacc", scan.write()))
    row = tables["scans"].set_index("subject_id").loc["sub-NACC000001"]
    assert "I1111" in row["image_path"] and (row["field_strength_t"], row["manufacturer"]) == (3.0, "Siemens")
    gone = tables["exclusions"].iloc[0]
    assert (gone["reason"], gone["detail"]) == ("failed-series-qc", "SERIESQC Fail - motion")
    assert "I2222" in gone["image_path"]


def test_a_failed_session_refuses_a_series_that_no_row_names(scan, run):
    scan.image(1, "2022-03-10", 11)
    scan.image(2, "2022-03-10", 21)
    for series in ("AX FLAIR", "AX T2"):
        scan.series.append(
            {"NACCID": "NACC000001", "STUDYDATE": "20220310", "SERIESDESCRIPTION": series, "STUDYQC": "4.0"}
        )
    tables = run(("nacc", scan.write()))
    assert tables["exclusions"][["reason", "detail"]].to_numpy().tolist() == [["failed-series-qc", "STUDYQC 4.0"]]
    assert tables["scans"]["subject_id"].tolist() == ["sub-NACC000002"]


@pytest.mark.parametrize("grade", ["", "1", "2", "3", "-1", "14", "Pass", "pass, not a failure", "44"])
def test_a_grade_that_is_no_failure_refuses_nothing(scan, run, grade):
    scan.image(1, "2022-03-10", 11)
    row = {"NACCID": "NACC000001", "STUDYDATE": "2022-03-10", "SERIESDESCRIPTION": PROTOCOL, "STUDYQC": grade}
    scan.series.append(row | {"SERIESQC": grade})
    assert len(run(("nacc", scan.write()))["scans"]) == 1


def test_volumes_under_their_real_names_and_units_and_without_missing_codes(scan, run):
    """LEFT_HIPPO in cm³ and LH_ENTORHINAL_GVOL in mm³ stand side by side in SCAN's table."""
    for number in (1, 2):
        scan.image(number, "2022-03-10", number)
    row = {"NACCID": "NACC000001", "SCANDT": "3/10/2022", "LEFT_HIPPO": 3.1, "RIGHT_HIPPO": 3.3}
    row |= {"LH_ENTORHINAL_GVOL": 1700, "RH_ENTORHINAL_GVOL": 1600, "ESTIMATEDTOTALINTRACRANIALVOL": 1.45e6}
    codes = {"LEFT_HIPPO": "88.8888", "LH_ENTORHINAL_GVOL": "8888.888", "ESTIMATEDTOTALINTRACRANIALVOL": "9999.999"}
    scan.volumes += [row, row | codes | {"NACCID": "NACC000002"}]
    scans = run(("nacc", scan.write()))["scans"].set_index("subject_id")
    names = ["hippocampus_mm3", "entorhinal_mm3", "icv_mm3"]
    assert scans.loc["sub-NACC000001", names].tolist() == pytest.approx([6400, 3300, 1.45e6])
    assert scans.loc["sub-NACC000002", names].isna().all()


@pytest.mark.parametrize(
    "folders",
    [
        "NACC000001/v1/T1/MPRAGE/2022-03-10_10_20_30.0",
        "nacc000001/MPRAGE/2022-03-10",
        "x/NACC000001/MPRAGE/2022-03-10/I7",
    ],
)
@pytest.mark.parametrize("is_zipped", [False, True])
def test_scan_trees_of_several_depths_unpacked_or_in_one_zip(scan, nacc, run, folders, is_zipped):
    """LONI hands out a collection of many people as one zip."""
    scan.volumes.append({"NACCID": "NACC000001", "SCANDT": "2022-03-10", "HIPPOCAMPUS": 6.1})
    if is_zipped:
        nacc.root.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(nacc.root / "SCAN_collection.zip", "w") as archive:
            archive.writestr(f"{folders}/scan.nii", b"x")
    else:
        (nacc.root / folders).mkdir(parents=True)
        (nacc.root / folders / "scan.nii").write_bytes(b"x")
    scans = run(("nacc", scan.write()))["scans"]
    assert scans["subject_id"].tolist() == ["sub-NACC000001"] and scans["hippocampus_mm3"].tolist() == [6100]


def test_a_refused_series_among_others_in_its_folder_is_told_by_its_uid(scan, nacc, run):
    """Also where the table has rows without a UID: an image without one is none of those."""
    folder = nacc.root / "SCAN" / "NACC000001" / PROTOCOL / "2022-03-10_10_20_30.0" / "I11"
    folder.mkdir(parents=True)
    for uid in ("1.2.1", "1.2.2"):
        head = bytes(128) + b"DICM"
        for group, number, kind, text in (
            (0x0008, 0x103E, b"LO", PROTOCOL + " " * (len(PROTOCOL) % 2)),
            (0x0020, 0x000D, b"UI", "1.9.9\0"),
            (0x0020, 0x000E, b"UI", uid + "\0"),
        ):
            head += struct.pack("<HH2sH", group, number, kind, len(text)) + text.encode()
        (folder / uid[-1]).write_bytes(head)
    scan.image(2, "2022-03-10", 22)
    for number, uid, grade in ((1, "1.2.1", "Fail"), (1, "1.2.2", "1"), (1, "", "Fail"), (2, "", "Fail")):
        row = {"NACCID": f"NACC{number:06d}", "STUDYDATE": "2022-03-10", "SERIESDESCRIPTION": "other"}
        scan.series.append(row | {"SERIESINSTANCEUID": uid, "SERIESQC": grade, "STUDYQC": 1})
    tables = run(("nacc", scan.write()))
    assert [path[-2:] for path in tables["scans"]["image_path"]] == ["/2"]
    assert dict(zip(tables["exclusions"]["image_uid"], tables["exclusions"]["reason"], strict=True))["1.2.1"] == (
        "failed-series-qc"
    )
