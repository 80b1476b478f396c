"""Whatever a zip holds, each image in it is found once, and what cannot be used has the true reason."""

from __future__ import annotations

import io
import json
import struct
import time
import warnings
import zipfile

import pytest

from elr_mri.scans import archives, imagepath
from elr_mri.scans.archives import in_zip
from elr_mri.scans.dicom import Part, by_series, header_text, preferred_t1, series_uid
from elr_mri.scans.nacc import list_images
from elr_mri.scans.series import sidecar_text

LINK = 0o120777 << 16


def write(path, members, method=zipfile.ZIP_DEFLATED, attributes=0):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # members of one name are what is tested
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = attributes, method
            archive.writestr(info, content)
    return path


def outcome(path):
    return [(one.image_path.partition("!")[2], one.reason) for one in in_zip(path)]


def element(group, number, text, kind=b"LO", *, explicit=True):
    raw = text.encode() + b" " * (len(text) % 2)
    length = struct.pack("<2sH", kind, len(raw)) if explicit else struct.pack("<I", len(raw))
    return struct.pack("<HH", group, number) + length + raw


def dicom(description, *, explicit=True, uid="", refers_to=""):
    """The head of a file; `refers_to` is the UID of another series, named in a sequence before the file's own."""
    body = element(0x0008, 0x103E, description, explicit=explicit)
    body += element(0x0020, 0x000E, refers_to, b"UI", explicit=explicit) if refers_to else b""
    if uid:
        body += element(0x0020, 0x000D, "1.2.826.9", b"UI", explicit=explicit)
        body += element(0x0020, 0x000E, uid, b"UI", explicit=explicit)
    return bytes(128) + b"DICM" + bytes(40) + body + bytes(100)


@pytest.mark.parametrize(
    "name",
    ["../T1.nii", "/T1.nii", "a/../../T1.nii", "a\\T1.nii", "C:/T1.nii", "..\\T1.nii", "../T1/1.dcm", "/T1/1.dcm"],
)
def test_members_that_lead_out_of_the_zip_are_refused(name, tmp_path):
    assert [reason for _, reason in outcome(write(tmp_path / "a.zip", [(name, dicom("T1"))]))] == ["unsafe-path"]


def test_links_passwords_nested_zips_and_other_compressions_are_told_apart(tmp_path):
    assert outcome(write(tmp_path / "a.zip", [("s/T1.nii", "/etc/passwd")], attributes=LINK)) == [
        ("s/T1.nii", "unsafe-path")
    ]
    assert outcome(write(tmp_path / "b.zip", [("s/T1.nii", b"x")], zipfile.ZIP_LZMA)) == [
        ("s/T1.nii", "unreadable-archive")
    ]
    assert outcome(write(tmp_path / "c.zip", [("s/in.zip", b"PK"), ("s/T1.nii", b"x"), ("s/T1.mgz", b"x")])) == [
        ("s/in.zip", "nested-archive"),
        ("s/T1.nii", None),
        ("s/T1.mgz", "unsupported-format"),
    ]
    for members in ([("s/T1.nii", b"x")], [("s/T1.dcm", dicom("T1"))]):
        raw = bytearray(write(tmp_path / "d.zip", members).read_bytes())
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            raw[raw.index(signature) + offset] |= 1  # the bit that says: encrypted
        (tmp_path / "d.zip").write_bytes(raw)
        assert [reason for _, reason in outcome(tmp_path / "d.zip")] == ["encrypted-archive"]


def test_a_bomb_is_told_from_the_directory_alone(tmp_path, monkeypatch):
    path = write(
        tmp_path / "a.zip", [("s/T1.nii", bytes(1 << 25)), ("d/1.dcm", bytes(1 << 25)), ("s/b.nii", b"x" * 99)]
    )
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("opened"))
    assert outcome(path) == [("s/T1.nii", "oversized-member"), ("s/b.nii", None), ("d/", "oversized-member")]
    monkeypatch.setattr(imagepath, "MAX_BYTES", 50)
    assert outcome(path)[1] == ("s/b.nii", "oversized-member")


def test_members_of_one_name_are_all_accounted_for(tmp_path):
    same = write(tmp_path / "same.zip", [("s/T1.nii", b"x"), ("s/T1.nii", b"x")])
    assert outcome(same) == [("s/T1.nii", "duplicate-image"), ("s/T1.nii", None)]
    other = write(tmp_path / "other.zip", [("s/T1.nii", b"x"), ("s/T1.nii", b"y")])
    assert outcome(other) == [("s/T1.nii", "ambiguous-member")] * 2
    assert len({one.uid for one in in_zip(other)}) == 2  # so that both can stand in exclusions.tsv


@pytest.mark.parametrize(
    ("sidecar", "described"),
    [
        (b'{"SeriesDescription": "SAG MPRAGE"}', "SAG MPRAGE"),
        (b'{"ProtocolName": "t1_mprage", "MRAcquisitionType": "3D"}', "t1_mprage 3D"),
        (b'{"SeriesDescription": ["MPRAGE"]}', "T1w / scan"),
        (b"[" * 100_000, "T1w / scan"),
        (b'{"SeriesDescription": "' + b"T2" * 2**20 + b'"}', "T1w / scan"),  # no sidecar is so long
        (b"\xff\xfe", "T1w / scan"),
        (b"null", "T1w / scan"),
    ],
)
def test_a_sidecar_is_read_up_to_a_limit_or_not_at_all(sidecar, described, tmp_path):
    path = write(tmp_path / "a.zip", [("T1w/scan.json", sidecar), ("T1w/scan.nii", b"x")])
    assert [one.description for one in in_zip(path)] == [described]


@pytest.mark.parametrize("explicit", [True, False])
def test_a_dicom_header_tells_its_series_however_it_is_written(explicit, tmp_path):
    assert header_text(dicom("SAG MPRAGE", explicit=explicit)) == "SAG MPRAGE"
    path = write(tmp_path / "a.zip", [(f"s/1.2.840.{k}", dicom("SAG MPRAGE", explicit=explicit)) for k in range(3)])
    assert [(one.image_path[-3:], one.description) for one in in_zip(path)] == [("!s/", "SAG MPRAGE")]
    assert header_text(dicom("x" * 2000)) == header_text(dicom("MPRAGE")[:180]) == header_text(b"") == ""


def test_a_series_that_nothing_names_is_not_called_another_sequence(tmp_path):
    path = write(tmp_path / "mri7.zip", [("mri7/DICOM/1.2.840.1/1.dcm", bytes(200)), ("mri7/1.2.3/1.2.3.nii", b"x")])
    images = list_images([path], root=tmp_path)
    assert images["reason"].tolist() == ["unknown-series", "unknown-series"]


def test_dicom_files_at_the_top_of_a_zip_are_one_image(tmp_path):
    path = write(tmp_path / "a.zip", [(f"{k}.dcm", dicom("MPRAGE")) for k in range(3)])
    (one,) = in_zip(path)
    assert one.image_path == f"{path}!./" and one.reason is None
    assert len(imagepath.sizes(one.image_path)) == 3


def test_broken_archives_have_one_row_each(tmp_path):
    whole = write(tmp_path / "a.zip", [("s/T1.nii", b"x" * 5000)]).read_bytes()
    for k, raw in enumerate((b"", b"PK", whole[:-10], whole[: len(whole) // 2], whole[:-30] + bytes(30), bytes(5000))):
        (tmp_path / f"{k}.zip").write_bytes(raw)
        assert [reason for _, reason in outcome(tmp_path / f"{k}.zip")] == ["unreadable-archive"]
    (tmp_path / "none.zip").write_bytes(write(tmp_path / "b.zip", [("notes.txt", b"x")]).read_bytes())
    assert [reason for _, reason in outcome(tmp_path / "none.zip")] == ["no-nifti-in-archive"]


def test_zip64_is_read(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "a.zip", "w") as archive,
        archive.open("s/T1.nii", "w", force_zip64=True) as file,
    ):
        file.write(b"x")
    assert outcome(tmp_path / "a.zip") == [("s/T1.nii", None)]


def test_a_zip_of_100_000_members_is_listed_in_seconds(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for k in range(50_000):
            archive.writestr(f"s/{k}/{k}.nii", b"")
            archive.writestr(f"s/{k}/{k}.json", b"")
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    began = time.perf_counter()
    assert len(in_zip(tmp_path / "a.zip")) == 50_000
    assert time.perf_counter() - began < 60


def test_of_a_dicom_file_only_the_head_is_read_and_that_once(tmp_path, monkeypatch):
    read = []
    whole = archives._read
    monkeypatch.setattr(archives, "_read", lambda *a, **k: read.append(whole(*a, **k)) or read[-1])
    in_zip(
        write(tmp_path / "a.zip", [(f"s/{k}.dcm", dicom("T1") + bytes(2**20)) for k in range(20)], zipfile.ZIP_STORED)
    )
    assert [len(raw) for raw in read] == [2**16] * 20


def test_a_folder_of_5_000_dicom_files_is_listed_in_seconds(tmp_path):
    content = dicom("MPRAGE", uid="1.2.3") + bytes(2**16)
    path = write(tmp_path / "a.zip", [(f"s/{k}", content) for k in range(5000)])
    began = time.perf_counter()
    (one,) = in_zip(path)
    assert time.perf_counter() - began < 30
    assert one.image_path.endswith("!s/") and one.uid is None and one.size == 5000 * len(content)


@pytest.mark.parametrize("explicit", [True, False])
def test_a_files_own_series_is_told_from_one_that_it_refers_to(explicit):
    assert series_uid(dicom("T1", explicit=explicit, uid="1.2.3", refers_to="1.2.9")) == "1.2.3"
    assert series_uid(dicom("T1", explicit=explicit, refers_to="1.2.9")) == "1.2.9"
    assert series_uid(dicom("T1", uid="no uid")) == series_uid(dicom("T1")) == series_uid(b"") == ""


def test_each_series_of_a_flat_folder_is_an_image(tmp_path):
    texts = {"1.2.1": "3 Plane Localizer", "1.2.2": "AX FLAIR", "1.2.3": "SAG MPRAGE"}
    members = [(f"mri9/DICOM/{k}{uid[-1]}", dicom(text, uid=uid)) for k in range(2) for uid, text in texts.items()]
    found = in_zip(write(tmp_path / "mri9.zip", [("mri9/DICOM/00", b"no DICOM"), *members]))
    assert [(one.image_path[-3:], one.uid, one.description) for one in found] == [
        (f"/0{uid[-1]}", uid, text) for uid, text in texts.items()
    ]
    assert sum(one.size for one in found) == sum(len(content) for _, content in members)


def test_a_file_that_names_no_series_belongs_to_the_only_one():
    known, other, bare = dicom("MPRAGE", uid="1.2.3"), dicom("FLAIR", uid="1.2.4"), dicom("")
    parts = [Part(k, f"{k}.dcm", 10, head) for k, head in enumerate((bare, known, b"", other))]
    (one,) = by_series(parts[:3])
    assert (one.uid, one.told, one.files, one.n_bytes) == ("1.2.3", "MPRAGE", [0, 2, 1], 30)
    assert [(one.uid, one.files) for one in by_series(parts)] == [("", [0, 2]), ("1.2.3", [1]), ("1.2.4", [3])]


def test_of_several_t1_series_the_usual_one_is_preferred():
    texts = ["FLAIR", "MPRAGE post gad", "T1 SE", "MPRAGE repeat", "MPRAGE", "MPRAGE"]
    found = by_series(Part(k, "x", 10 + k, dicom(t, uid=f"1.2.{k}")) for k, t in enumerate(texts))
    assert [preferred_t1(found[:n]) and preferred_t1(found[:n]).files[0] for n in range(1, 7)] == [None, 1, 2, 3, 4, 5]
    assert preferred_t1(found[::-1]) == preferred_t1(found)


def test_sidecars_of_all_kinds_are_no_crash():
    for content in (1, "x", [], {}, {"SeriesDescription": None}, {"SeriesDescription": 3, "ProtocolName": {}}):
        assert sidecar_text(json.dumps(content).encode()) == ""
