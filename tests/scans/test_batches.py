"""What the workflow asks of the scan table and of downloads while it parses."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from elr_mri.scans import batches


def test_a_replaced_archive_is_noticed_whatever_the_case_of_its_ending(tmp_path: Path):
    for name in ("a.zip", "b.ZIP"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("T1/1.dcm", name)
        size, changed = batches.image_stamp(f"{tmp_path / name}!T1/")
        assert size == (tmp_path / name).stat().st_size and changed > 0
    assert batches.image_stamp(f"{tmp_path}/absent.zip!T1/") == (0, 0)


def test_a_link_to_nothing_stops_no_plan(tmp_path: Path):
    (tmp_path / "ADNI").mkdir()
    (tmp_path / "ADNI" / "table.csv").write_text("a")
    (tmp_path / "ADNI" / "gone.csv").symlink_to("/nowhere/gone.csv")
    found = {Path(name).name: size for name, size, _ in batches.tree_stamp(str(tmp_path / "ADNI"))}
    assert found == {"table.csv": 1, "gone.csv": 0}


def test_a_download_at_home_is_stamped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ADNI").mkdir()
    (tmp_path / "ADNI" / "table.csv").write_text("a")
    assert batches.tree_stamp("~/ADNI") == batches.tree_stamp(str(tmp_path / "ADNI")) != []


def test_a_batch_looks_at_its_own_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every job of a cluster parses the workflow: looking at all DICOM files of a study there would be a storm."""
    table = tmp_path / "scans.tsv"
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"12")
    table.write_text(f"scan_id\tsubject_id\timage_path\ns1\tsub-1\t{tmp_path / 'a'}\ns2\tsub-2\t{tmp_path / 'b'}\n")
    looked, stamp = [], batches.image_stamp
    monkeypatch.setattr(batches, "image_stamp", lambda path: (looked.append(Path(path).name), stamp(path))[1])
    rows = batches.rows_by_batch(str(table), 0, modified_ns=1)
    assert sorted(rows) == ["sub-1", "sub-2"] and looked == []
    ((scan_id, _, size, _),) = batches.stamped(rows["sub-2"])
    assert (scan_id, size, looked) == ("s2", 2, ["b"])
