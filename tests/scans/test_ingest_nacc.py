"""A NACC download becomes a scan table without unpacking a zip."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_downloads import Nacc

from elr_mri.config import Cohort, Ingest
from elr_mri.errors import BadInput
from elr_mri.scans import duplicates
from elr_mri.scans.ingest import ingest
from elr_mri.scans.nacc_tables import archive_stem, freezes
from elr_mri.scans.scan_tables import scan_tables


def one(nacc, **cells):
    nacc.visit(12345, "2012-03-01", 1, **cells)
    nacc.session(12345, "2012-03-11", "mri3374.zip")
    nacc.archive("mri3374.zip", {"3_Plane_Localizer": b"loc", "SAG MPRAGE": b"t1 image", "AX FLAIR": b"flair"})
    return nacc


def test_the_t1_of_a_session_is_named_inside_its_zip(nacc, run):
    tables = run(("nacc", one(nacc).write()))
    row = tables["scans"].iloc[0]
    assert row["scan_id"] == "sub-NACC012345_ses-M000"
    assert row["image_path"].endswith("images/mri3374.zip!mri3374ni/DICOM/1.2.1/1.2.1.nii")
    assert sorted(tables["exclusions"]["reason"]) == ["not-t1", "not-t1"]
    assert row["age_years"] == pytest.approx(71 + 10 / 365.25)
    assert (row["sex"], row["diagnosis"], row["field_strength_t"], row["manufacturer"]) == ("F", "CN", 3.0, "GE")
    assert (row["cdr_global"], row["mmse"]) == (0.5, 28)
    assert tables["scans"]["apoe4"].isna().all()  # 9 is a missing code


def test_volumes_are_in_mm3_and_their_missing_codes_blank(nacc, run):
    one(nacc)
    row = run(("nacc", nacc.write()))["scans"].iloc[0]
    assert row["hippocampus_mm3"] == pytest.approx(6123.4)
    assert row["entorhinal_mm3"] == pytest.approx(3200)
    assert row["icv_mm3"] == pytest.approx(1400500)
    nacc.mri[0] |= {"HIPPOVOL": "88.8888", "LENT": "8.8888", "NACCICV": "9999.999"}
    scans = run(("nacc", nacc.write()))["scans"]
    assert scans[["hippocampus_mm3", "entorhinal_mm3", "icv_mm3"]].isna().all(axis=None)


ALZHEIMER_CODES = {"NACCALZD": 1, "NACCALZP": 1, "NACCETPR": 1}
CONTRIBUTING = {"NACCALZD": 1, "NACCALZP": 2, "NACCETPR": 8}
LEWY = {"NACCALZD": 0, "NACCALZP": 7, "NACCETPR": 2}


@pytest.mark.parametrize(
    ("level", "cells", "settings", "outcome"),
    [
        (1, {}, {}, "CN"),
        (2, {}, {}, "impaired-not-mci"),
        (2, {}, {"nacc_impaired_not_mci": "MCI"}, "MCI"),
        (2, {}, {"nacc_impaired_not_mci": "CN"}, "CN"),
        (3, {}, {}, "MCI"),
        (4, ALZHEIMER_CODES, {}, "AD"),
        (4, CONTRIBUTING, {}, "dementia-not-ad"),
        (4, CONTRIBUTING, {"nacc_ad": "any"}, "AD"),
        (4, LEWY, {"nacc_ad": "any"}, "dementia-not-ad"),
        (4, LEWY, {"nacc_ad": "dementia"}, "AD"),
        (9, {}, {}, "no-diagnosis"),
        ("", {}, {}, "no-diagnosis"),
    ],
)
def test_the_diagnosis_follows_the_configured_definition(nacc, run, level, cells, settings, outcome):
    one(nacc).uds[0] |= {"NACCUDSD": level, **cells}
    nacc.visit(7, "2012-03-01", 1)
    nacc.session(7, "2012-03-01", "mri7.zip")
    nacc.archive("mri7.zip", {"T1": b"another"})
    tables = run(("nacc", nacc.write()), **settings)
    subject = "sub-NACC012345"
    told = tables["scans"].set_index("subject_id")["diagnosis"].to_dict()
    told |= tables["exclusions"].query("reason != 'not-t1'").set_index("subject_id")["reason"].to_dict()
    assert told == {subject: outcome, "sub-NACC000007": "CN"}


@pytest.mark.parametrize(
    ("named", "on_disk"),
    [
        ("mri3374.zip", "mri3374.zip"),
        ("mri3374.zip", "mri3374ni.zip"),
        ("MRI3374.ZIP", "mri3374.zip"),
        ("NACC012345_114080.zip", "NACC012345_114080ni.zip"),
        ("other.zip", "1234_NACC012345_20120311.zip"),
    ],
)
def test_archives_are_found_under_several_naming_styles(nacc, run, named, on_disk):
    nacc.visit(12345, "2012-03-01", 1)
    nacc.session(12345, "2012-03-11", named)
    nacc.archive(on_disk, {"T1": b"x"})
    assert len(run(("nacc", nacc.write()))["scans"]) == 1


def test_a_stem_loses_zip_and_the_nifti_mark_and_no_more():
    assert [archive_stem(n) for n in ("mri12.zip", "MRI12ni.ZIP", "mri12ni", "sub/mri12.zip", "omni.zip")] == [
        "mri12"
    ] * 4 + ["omni"]


def test_series_are_picked_by_folder_where_there_is_no_sidecar(nacc, run):
    nacc.visit(1, "2012-03-01", 1)
    nacc.session(1, "2012-03-11", "mri1.zip")
    nacc.archive(
        "mri1.zip",
        {
            "T1_post_gad": b"post, which is larger",
            "T1_SE_2D": b"flat",
            "Sag_IR-SPGR_repeat": b"again",
            "Sag_IR-SPGR": b"first",
        },
        sidecars=False,
    )
    tables = run(("nacc", nacc.write()))
    assert "/Sag_IR-SPGR/" in tables["scans"]["image_path"].item()
    assert set(tables["exclusions"]["reason"]) == {"other-scan-of-visit"}


def test_unpacked_sessions_are_read_too(nacc, run):
    nacc.visit(1, "2012-03-01", 1)
    nacc.session(1, "2012-03-11", "mri55.zip")
    series = nacc.root / "images" / "mri55ni" / "MPRAGE" / "1.2.3"
    series.mkdir(parents=True)
    (series / "1.2.3.nii").write_bytes(b"x")
    (series / "1.2.3.json").write_text('{"SeriesDescription": "MPRAGE"}')
    assert len(run(("nacc", nacc.write()))["scans"]) == 1


def test_bad_archives_are_excluded_with_the_reason(nacc, run):
    one(nacc)
    (nacc.root / "images" / "broken.zip").write_bytes(b"PK not a zip")
    with zipfile.ZipFile(nacc.root / "images" / "mri9.zip", "w") as archive:
        archive.writestr("mri9/001.dcm", b"dicom")
    with zipfile.ZipFile(nacc.root / "images" / "mri8.zip", "w") as archive:
        archive.writestr("../../T1.nii", b"out")
    nacc.archive("mri77.zip", {"T1": b"no row in the table"})
    reasons = sorted(run(("nacc", nacc.write()))["exclusions"]["reason"])
    assert reasons == ["no-table-row", "not-t1", "not-t1", "unknown-series", "unreadable-archive", "unsafe-path"]


def test_the_commercial_mirror_and_the_newest_freeze(nacc, run):
    one(nacc).write(freeze=57)
    nacc.uds[0]["NACCUDSD"] = 3
    assert run(("nacc", nacc.write(freeze=71, who="commercial")))["scans"]["diagnosis"].tolist() == ["MCI"]


@pytest.mark.parametrize("mark", [" (1)", "(2)", " (12)"])
def test_a_table_that_was_downloaded_twice_keeps_its_name(nacc, run, mark):
    root = one(nacc).write(freeze=71)
    for path in root.glob("investigator_*.csv"):
        path.rename(path.with_name(path.stem + mark + ".csv"))
    assert len(run(("nacc", root))["scans"]) == 1
    nacc.uds[0]["NACCUDSD"] = 3
    nacc.write(freeze=71)  # of one freeze, as with ADNI's releases, the last by name: the one without a mark
    assert run(("nacc", root))["scans"]["diagnosis"].tolist() == ["MCI"]
    assert freezes(sorted(root.iterdir()), mri=True)[-1][1].name == "investigator_mri_nacc71.csv"
    nacc.uds[0]["NACCUDSD"] = 1
    nacc.write(freeze=72)
    for path in root.glob("investigator_*72.csv"):
        path.rename(path.with_name(path.stem + mark + ".csv"))
    assert run(("nacc", root))["scans"]["diagnosis"].tolist() == ["CN"]  # the newest freeze counts, marked or not


@pytest.mark.parametrize("name", ["mrisbm", "mriqc"])
def test_scans_tables_may_carry_the_mark_of_a_second_download(name):
    older, copy, plain = (Path(f"investigator_scan_{name}_nacc{n}.csv") for n in ("74", "75 (1)", "75"))
    found = scan_tables([older, copy, plain])
    assert list(found.values())[name == "mriqc"] == [plain, copy, older]


def test_months_are_counted_from_the_first_visit_and_the_window_holds(nacc, run):
    one(nacc).visit(12345, "2013-03-05", 3)
    nacc.session(12345, "2013-02-20", "mri3375.zip")
    nacc.archive("mri3375.zip", {"T1": b"year later"})
    tables = run(("nacc", nacc.write()))
    assert tables["scans"]["session_id"].tolist() == ["ses-M000", "ses-M012"]
    assert tables["scans"]["diagnosis"].tolist() == ["CN", "MCI"]
    assert run(("nacc", nacc.root), max_days=12)["exclusions"]["reason"].tolist().count("no-visit-near") == 1


def test_age_at_mri_stands_in_for_a_missing_visit_age(nacc, run):
    one(nacc, NACCAGE=888)
    assert run(("nacc", nacc.write()))["scans"]["age_years"].tolist() == [71.0]
    nacc.mri[0]["NACCMRIA"] = 888
    with pytest.raises(BadInput, match="1 no-age"):
        run(("nacc", nacc.write()))


def test_missing_tables_and_columns_are_named(nacc, run):
    one(nacc).write()
    (nacc.root / "investigator_nacc71.csv").rename(nacc.root / "uds.csv")
    with pytest.raises(BadInput, match="investigator_nacc<NN>.csv or commercial_nacc<NN>.csv"):
        run(("nacc", nacc.root))
    for row in nacc.uds:
        del row["NACCUDSD"]
    with pytest.raises(BadInput, match="NACCUDSD"):
        run(("nacc", nacc.write()))


def test_overlapping_releases_keep_one_image_of_each_scan(nacc, run):
    """The same zip in two releases, and the same series in the zips of two sessions of one person."""
    one(nacc).visit(12345, "2013-03-05", 1)
    nacc.session(12345, "2013-03-06", "mri4000.zip")
    nacc.archive("release2/mri3374ni.zip", {"SAG MPRAGE": b"t1 image"})
    nacc.archive("mri4000.zip", {"SAG MPRAGE": b"t1 image"})
    tables = run(("nacc", nacc.write()))
    assert len(tables["scans"]) == 1
    told = tables["exclusions"]["reason"].value_counts().to_dict()
    assert told == {"not-t1": 2, "other-scan-of-visit": 1, "duplicate-image": 1}


def test_images_of_one_size_are_told_apart_without_being_read(nacc, run, monkeypatch):
    for k in (1, 2, 3):
        nacc.visit(k, "2012-03-01", 1)
        nacc.session(k, "2012-03-11", f"mri{k}.zip")
        nacc.archive(f"mri{k}.zip", {"T1": b"%d" % k * 100_000})
    monkeypatch.setattr(duplicates, "_middle", lambda path: pytest.fail("read"))
    assert len(run(("nacc", nacc.write()))["scans"]) == 3


def test_the_ftldlbd_table_and_uds_4_columns_are_read(nacc, run):
    """Lower-case headers in another order, BIRTHSEX for SEX, no MMSE: as later forms have it."""
    one(nacc, BIRTHSEX=1).write()
    for row in nacc.uds:
        del row["SEX"], row["NACCMMSE"]
    nacc.uds = [{name.lower(): row[name] for name in reversed(row)} for row in nacc.uds]
    nacc.write()
    (nacc.root / "investigator_nacc71.csv").rename(nacc.root / "investigator_ftldlbd_nacc75.csv")
    row = run(("nacc", nacc.root))["scans"].iloc[0]
    assert (row["sex"], row["diagnosis"]) == ("M", "CN")


def test_ids_of_other_digits_and_paths_are_no_ids(nacc, run):
    """An Arabic or superscript digit, a path, a formula: such a row is about nobody, and stops nothing."""
    one(nacc)
    for k, naccid in enumerate(("NACC٠١٢٣٤٥", "NACC0000²2", "../NACC000003", "=NACC000004", "NACC0000005")):
        nacc.visit(90, "2012-03-01", 1, NACCID=naccid)
        nacc.session(90, "2012-03-11", f"mri{90 + k}.zip", NACCID=naccid)
        nacc.archive(f"mri{90 + k}.zip", {"T1": b"%d" % k})
    tables = run(("nacc", nacc.write()))
    assert tables["scans"]["subject_id"].tolist() == ["sub-NACC012345"]
    assert tables["exclusions"]["reason"].tolist().count("no-table-row") == 5


MISSING = st.sampled_from(["", " ", "-4", "8", "88", "99", "888", "995", "998", "8888", "9999", "NA", ".", "-4.4"])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_shuffled_columns_any_case_blanks_and_missing_codes(data, tmp_path_factory):
    """The tables say the same however their columns are ordered and spelled; a missing code is never a value."""
    nacc = Nacc(tmp_path_factory.mktemp("nacc"))
    for k in (1, 2):
        nacc.visit(k, "2012-03-01", 1)
        nacc.session(k, "2012-03-11", f"mri{k}.zip")
        nacc.archive(f"mri{k}.zip", {"T1": b"%d" % k})
    blank = data.draw(st.sets(st.sampled_from(["SEX", "CDRGLOB", "NACCMMSE", "NACCNE4S", "NACCAGE", "NACCMRIA"])))
    volumes = data.draw(st.sets(st.sampled_from(["HIPPOVOL", "LENT", "NACCICV"])))
    code = {name: data.draw(MISSING, label=name) for name in sorted(blank)}
    code |= {name: data.draw(st.sampled_from(["", "8.8888", "88.8888", "9999.999", "-4"])) for name in sorted(volumes)}
    for rows in (nacc.uds, nacc.mri):
        rows[0] |= {name: cell for name, cell in code.items() if name in rows[0]}
        order = data.draw(st.permutations(list(rows[0])))
        spell = {name: data.draw(st.sampled_from([str.lower, str.upper, str.title]))(name) for name in order}
        pad = data.draw(st.sampled_from(["", " "]))
        rows[:] = [{pad + spell[name] + pad: row[name] for name in order} for row in rows]
    ingest([Cohort(name="N", format="nacc", path=str(nacc.write()))], Ingest(), nacc.root / "out")
    scans = pd.read_csv(nacc.root / "out" / "scans.tsv", sep="\t").set_index("subject_id")
    whole = scans.loc["sub-NACC000002"]
    assert (whole["sex"], whole["cdr_global"], whole["mmse"]) == ("F", 0.5, 28)
    assert whole["hippocampus_mm3"] == pytest.approx(6123.4)
    excluded = pd.read_csv(nacc.root / "out" / "exclusions.tsv", sep="\t")
    assert len(scans) + len(excluded) == 2
    if {"NACCAGE", "NACCMRIA"} <= blank and not {code["NACCAGE"], code["NACCMRIA"]} & {"88", "99"}:
        assert excluded["reason"].tolist() == ["no-age"]
        return
    broken = scans.loc["sub-NACC000001"]
    told = {"SEX": "sex", "CDRGLOB": "cdr_global", "NACCMMSE": "mmse", "NACCNE4S": "apoe4"}
    told |= {"HIPPOVOL": "hippocampus_mm3", "LENT": "entorhinal_mm3", "NACCICV": "icv_mm3"}
    for name in blank | volumes:
        if name in told and not (name == "NACCMMSE" and code[name] == "8"):  # 8 points are a score
            assert pd.isna(broken[told[name]]), (name, code[name])


def test_a_carried_diagnosis_is_noted(nacc, run):
    nacc.visit(1, "2010-05-06", 1)
    nacc.visit(1, "2011-05-06", -4)
    nacc.session(1, "2011-05-10", "mri1.zip")
    nacc.archive("mri1ni.zip", {"MPRAGE": b"image"})
    tables = run(("nacc", nacc.write()), carry_forward_days=400)
    assert tables["scans"]["diagnosis"].tolist() == ["CN"]
    assert tables["notes"]["note"].tolist() == ["CN carried forward from month 0, 369 days before the scan"]
