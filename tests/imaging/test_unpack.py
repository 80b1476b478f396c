"""Zips and DICOM series become images; what is no image, or too large for one, and whose head it is, does not get out."""

from __future__ import annotations

import csv
import gzip
import struct
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from small_dicom import PERSON, series, volume

from elr_mri.config import Cohort, Convert, Ingest
from elr_mri.imaging.convert import convert_scan
from elr_mri.scans.ingest import ingest


def go(source, tmp_path, scan_id="sub-x_ses-M000"):
    return convert_scan(str(source), tmp_path / "out", scan_id, Convert())


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def folder_of(description: str, folder: str, uid: str) -> dict[str, bytes]:
    return {f"{folder}/{uid}.{k}.dcm": content for k, content in enumerate(series(description, uid))}


def write_table(path: Path, row: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)


@pytest.fixture
def download(tmp_path):
    """A NACC download of one person whose session is one zip; returns what `ingest` makes of it."""

    def made(members: dict[str, bytes], name: str = "mri7.zip") -> dict[str, pd.DataFrame]:
        root = tmp_path / "nacc"
        day = {"YR": 2012, "MO": 3, "DAY": 1}
        visit = {"NACCID": "NACC000007", "NACCAGE": 71, "SEX": 2, "NACCUDSD": 1}
        write_table(root / "investigator_nacc75.csv", visit | {f"VISIT{k}": v for k, v in day.items()})
        session = {"NACCID": "NACC000007", "MRIYR": 2012, "MRIMO": 3, "MRIDY": 2, "NACCMRFI": name}
        write_table(root / "investigator_mri_nacc75.csv", session)
        zipped(root / "images" / name, members)
        ingest([Cohort(name="NACC", format="nacc", path=str(root))], Ingest(), tmp_path / "tables")
        return {name: pd.read_csv(tmp_path / "tables" / f"{name}.tsv", sep="\t") for name in ("scans", "exclusions")}

    return made


def test_a_dicom_series_in_a_zip_goes_from_ingest_to_an_image(download, tmp_path):
    members = folder_of("AX FLAIR", "mri7/DICOM/1.9", "1.9") | folder_of("SAG MPRAGE", "mri7/DICOM/1.8", "1.8")
    tables = download(members | {"mri7/DICOMDIR": b"index", "mri7/readme.txt": b"text"})
    source = tables["scans"]["image_path"].item()
    assert source.endswith("mri7.zip!mri7/DICOM/1.8/")
    assert tables["exclusions"][["reason", "detail"]].to_numpy().tolist() == [["not-t1", "AX FLAIR 3D"]]
    told = go(source, tmp_path)
    assert told["status"] == "pass", told["reason"]
    image = nib.load(tmp_path / "out" / "sub-x_ses-M000_T1w.nii.gz")
    assert image.header.get_zooms() == pytest.approx((5, 5, 5))
    assert np.array_equal(image.get_fdata(), volume()[::-1, ::-1])  # DICOM's axes run to the left and to the back
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir()) == []


def test_the_nifti_twin_is_preferred_to_the_dicom_series(download):
    twin = nib.Nifti1Image(volume().astype(np.int16), np.diag([5.0, 5, 5, 1])).to_bytes()
    members = folder_of("SAG MPRAGE", "mri7/DICOM/1.8", "1.8") | {"mri7ni/SAG MPRAGE/1.8/1.8.nii": twin[:900]}
    tables = download(members)
    assert tables["scans"]["image_path"].item().endswith("1.8.nii")  # although it is the smaller one
    assert tables["exclusions"]["reason"].tolist() == ["other-scan-of-visit"]


def test_nothing_of_the_person_leaves_a_dicom_file(tmp_path):
    """Neither in the image, unpacked, nor in a sidecar; dcm2niix itself does write a date and a comment."""
    archive = zipped(tmp_path / "a.zip", folder_of("SAG MPRAGE", "s", "1.8"))
    folder = tmp_path / PERSON["name"]
    folder.mkdir()
    for k, content in enumerate(series()):
        (folder / f"{PERSON['id']}_{k}").write_bytes(content)
    assert go(f"{archive}!s/", tmp_path)["status"] == "pass"
    assert go(folder, tmp_path, "sub-y_ses-M000")["status"] == "pass"
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / f"{PERSON['name']}.dcm").write_bytes(series()[0][:1500])  # dcm2niix names the file in its message
    told = go(broken, tmp_path, "sub-z_ses-M000")
    assert told["status"] == "fail" and "dcm2niix made no image" in told["reason"]
    for path in (tmp_path / "out").rglob("*"):
        raw = path.read_bytes().replace(str(folder).encode(), b"")  # where the user keeps it is the user's name for it
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
        for secret in PERSON.values():
            assert secret.encode() not in content, (path.name, secret)
    header = nib.load(tmp_path / "out" / "sub-x_ses-M000_T1w.nii.gz").header
    assert not any(bytes(header[key]).strip(b"\0") for key in ("descrip", "aux_file", "intent_name", "db_name"))
    assert not header.extensions


def test_a_bomb_is_refused_by_its_ratio(tmp_path):
    """64 MiB of zeros deflate to 64 kB: below the limit of size, above that of the ratio."""
    archive = zipped(tmp_path / "a.zip", {"s/a.nii": bytes(1 << 26)})
    told = go(f"{archive}!s/a.nii", tmp_path)
    assert told["status"] == "fail" and "oversized-member" in told["reason"]
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".partial")]


def test_a_directory_that_lies_is_not_believed(tmp_path):
    """64 MiB of zeros that the zip's directory and header call 1,000 bytes: no more than those are ever written."""
    archive = zipped(tmp_path / "a.zip", {"s/a.nii": bytes(1 << 26)})
    raw = archive.read_bytes().replace(struct.pack("<I", 1 << 26), struct.pack("<I", 1000))
    archive.write_bytes(raw)
    told = go(f"{archive}!s/a.nii", tmp_path)
    assert told["status"] == "fail" and "unreadable in the archive" in told["reason"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(method, tmp_path):
    """Python unpacks these whole, however much comes out of a piece."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("s/a.nii", bytes(1000))
    assert f"method {method}" in go(f"{tmp_path / 'a.zip'}!s/a.nii", tmp_path)["reason"]


def test_dicom_members_land_under_names_of_ours(tmp_path):
    members = {f"../../up/{k}.dcm": content for k, content in enumerate(series())}
    archive = zipped(tmp_path / "deep" / "er" / "a.zip", members)
    assert go(f"{archive}!../../up/", tmp_path)["status"] == "pass"
    assert not list(tmp_path.parent.rglob("up"))
    assert go(f"{archive}!nowhere/", tmp_path)["status"] == "fail"


def several(folder: str, *, localizer: bool = True) -> dict[str, bytes]:
    """One folder with a T1 of 30 slices among a larger FLAIR and, first by name, a localizer, as in NACC's flat `DICOM/`."""
    wanted = [("AX FLAIR", "1.2.4", 36), ("SAG MPRAGE", "1.2.5", 30)]
    wanted = [("3 Plane Localizer", "1.2.3", 3)] * localizer + wanted
    return {
        f"{folder}/IM{uid[-1]}{k:03d}": raw for text, uid, n in wanted for k, raw in enumerate(series(text, uid)[:n])
    }


def on_disk(root: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def n_slices(tmp_path) -> int:
    return nib.load(tmp_path / "out" / "sub-x_ses-M000_T1w.nii.gz").shape[2]


@pytest.mark.parametrize("localizer", [False, True])
def test_of_several_series_in_one_folder_of_a_zip_the_t1_is_the_scan(download, tmp_path, localizer):
    tables = download(several("mri7/DICOM", localizer=localizer))
    row = tables["scans"].iloc[0]
    assert row["image_path"].endswith("mri7.zip!mri7/DICOM/IM5000") and row["image_uid"] == "1.2.5"
    assert set(tables["exclusions"]["reason"]) == {"not-t1"} and len(tables["exclusions"]) == 1 + localizer
    told = go(row["image_path"], tmp_path)
    assert told["status"] == "pass", told["reason"]
    assert n_slices(tmp_path) == 30


def test_of_several_series_in_one_unpacked_folder_too(download, tmp_path):
    tables = download({"readme.txt": b"text"} | folder_of("SAG MPRAGE", "mri7/DICOM/1.8", "1.8"))
    assert len(tables["scans"]) == 1
    (tmp_path / "nacc" / "images" / "mri7.zip").unlink()
    on_disk(tmp_path / "nacc" / "images", several("mri7/DICOM"))
    ingest([Cohort(name="NACC", format="nacc", path=str(tmp_path / "nacc"))], Ingest(), tmp_path / "tables")
    (source,) = pd.read_csv(tmp_path / "tables" / "scans.tsv", sep="\t")["image_path"]
    assert source.endswith("mri7/DICOM/IM5000")
    assert go(source, tmp_path)["status"] == "pass" and n_slices(tmp_path) == 30


def test_a_series_in_a_folder_above_another_is_taken_alone(download, tmp_path):
    """The converter looks into the folders within: there it would find the larger FLAIR."""
    members = {n: c for n, c in several("mri7/DICOM").items() if "/IM5" in n}
    members |= folder_of("AX FLAIR", "mri7/DICOM/other", "1.2.4")
    download(members)
    (tmp_path / "nacc" / "images" / "mri7.zip").unlink()
    on_disk(tmp_path / "nacc" / "images", members)
    ingest([Cohort(name="NACC", format="nacc", path=str(tmp_path / "nacc"))], Ingest(), tmp_path / "tables")
    (source,) = pd.read_csv(tmp_path / "tables" / "scans.tsv", sep="\t")["image_path"]
    assert go(source, tmp_path)["status"] == "pass" and n_slices(tmp_path) == 30


@pytest.mark.parametrize("form", ["zip", "folder"])
def test_a_folder_of_several_series_that_is_named_as_a_scan_gives_its_t1_or_nothing(form, tmp_path):
    whole = several("s")
    for members, passes in ((whole, True), ({n: c for n, c in whole.items() if "/IM5" not in n}, False)):
        where = tmp_path / str(passes)
        source = f"{zipped(where / 'a.zip', members)}!s/" if form == "zip" else on_disk(where, members) / "s"
        told = go(source, tmp_path)
        assert told["status"] == ("pass" if passes else "fail"), told
        assert n_slices(tmp_path) == 30 if passes else "none of which says that it is T1-weighted" in told["reason"]


def test_a_file_stands_for_its_series_and_no_other_file(tmp_path):
    folder = on_disk(tmp_path, several("s")) / "s"
    assert go(folder / "IM4007", tmp_path)["status"] == "pass" and n_slices(tmp_path) == 36
    first = go(folder / "IM5029", tmp_path)["sha256"]
    assert n_slices(tmp_path) == 30
    (folder / "IM5000").write_bytes(series("SAG MPRAGE", "1.2.5")[30])  # another slice of it has changed: made anew
    assert go(folder / "IM5029", tmp_path).get("sha256") != first
    (folder / "IM9").symlink_to("nowhere")
    (folder / "IM5029").touch()
    assert "No such file" in go(folder / "IM5029", tmp_path)["reason"]
    assert "No such file" in go(folder, tmp_path)["reason"]
