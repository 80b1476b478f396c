"""What lies in a download and cannot be read: folders, links to nothing, hostile sidecars, tables downloaded twice."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from elr_mri.config import Cohort, Ingest
from elr_mri.errors import BadInput
from elr_mri.scans import adni_lists, nacc_tables, scan_tables, series
from elr_mri.scans.download import files_under
from elr_mri.scans.ingest import ingest
from elr_mri.scans.table import EXCLUSIONS, SCANS


def test_a_folder_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its scans would be missing without a word, of a network disk that was away for a moment as well."""
    closed = tmp_path / "ADNI" / "002_S_0001"
    closed.mkdir(parents=True)
    (tmp_path / "ADNI" / "a.nii").touch()
    assert len(files_under(tmp_path / "ADNI")) == 1
    listed = os.scandir

    def scandir(path):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(
        BadInput, match=r"002_S_0001: expected a download whose folders can all be read, got Permission"
    ):
        files_under(tmp_path / "ADNI")


def test_links_to_nothing_are_no_fault_of_ours(tmp_path: Path):
    for name in ("T1/MPRAGE.nii.gz", "D/1.dcm", "x_I777.xml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to("/nowhere/at/all")
    files = sorted(path for path in tmp_path.rglob("*") if path.is_symlink())
    found = series.unpacked(files, root=tmp_path)
    assert sorted(Path(one.image_path).name for one in found) == ["D", "MPRAGE.nii.gz"] and {
        one.size for one in found
    } == {0}
    assert adni_lists.read_image_lists(files).by_uid.empty


@pytest.mark.parametrize("tag", ["Manufacturer", "Field Strength"])
def test_a_sidecar_of_blanks_takes_no_time(tmp_path: Path, tag: str):
    (tmp_path / "x_I777.xml").write_text(f'<protocol term="{tag}">' + " " * 500_000)
    began = time.perf_counter()
    adni_lists.read_image_lists([tmp_path / "x_I777.xml"])
    assert time.perf_counter() - began < 5


def test_a_sidecar_s_manufacturer_is_read_without_the_blanks_about_it(tmp_path: Path):
    (tmp_path / "x_I777.xml").write_text('<protocol term="Manufacturer">\n  SIEMENS </protocol>')
    assert adni_lists.read_image_lists([tmp_path / "x_I777.xml"]).by_uid.loc["777", "manufacturer"] == "SIEMENS"


def test_tables_of_nacc_that_were_downloaded_twice_count():
    files = [Path(f"investigator_nacc{n}.csv") for n in ("71", "75 (1)", "9(2)")]
    assert nacc_tables.newest(files, mri=False, where="x").name == "investigator_nacc75 (1).csv"
    assert nacc_tables.freezes([Path("commercial_mri_nacc71 (1).csv")], mri=True)[0][0] == 71
    named = [Path("investigator_scan_mrisbm_nacc71 (1).csv")]
    assert scan_tables.scan_tables(named)["SCAN volumes"] == named


def test_a_cohort_at_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "one.csv").write_text("subject_id,image_path,age_years,sex,diagnosis\nsub-1,a.nii,70,F,CN\n")
    (tmp_path / "a.nii").touch()
    assert Cohort(name="A", format="bids", path="~/x", tables="~/y").tables == str(tmp_path / "y")
    ingest([Cohort(name="A", format="tsv", path="~/one.csv")], Ingest(), tmp_path / "out")
    kept, left = SCANS.read(tmp_path / "out" / "scans.tsv"), EXCLUSIONS.read(tmp_path / "out" / "exclusions.tsv")
    assert len(kept) + len(left) == 1
