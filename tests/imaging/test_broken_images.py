"""Images that came broken, and the odd ones of the edge collection: converted right, or failed with the true reason."""

import gzip
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from elr_mri.config import Convert
from elr_mri.imaging import convert, unpack
from elr_mri.imaging.convert import convert_scan
from elr_mri.scans import imagepath

DATA = os.environ.get("ELR_MRI_TEST_DATA")


def good(**changes) -> bytes:
    """A small NIfTI file; `changes` are (offset, struct format, values) by name, written into its header."""
    volume = np.random.default_rng(0).integers(1, 900, (30, 32, 34)).astype(np.int16)
    raw = bytearray(nib.Nifti1Image(volume, np.diag([5.0, 5, 5, 1])).to_bytes())
    for offset, form, *values in changes.values():
        struct.pack_into(form, raw, offset, *values)
    return bytes(raw)


def of_volume(volume: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    return nib.Nifti1Image(volume, np.diag([5.0, 5, 5, 1]) if affine is None else affine).to_bytes()


def filled(value: float, share: float = 1.0) -> np.ndarray:
    volume = np.random.default_rng(0).random((30, 32, 34)).astype(np.float32)
    volume[: max(1, round(30 * share))] = value
    return volume


SHEAR = np.array([[5, 2, 0, 0], [0, 5, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]], dtype=float)

#: name -> (file name, bytes, a word of the reason)
BROKEN = {
    "empty": ("a.nii", b"", "unreadable"),
    "empty, compressed": ("a.nii.gz", gzip.compress(b""), "unreadable"),
    "text": ("a.nii", b"this is not an image\n" * 50, "unreadable"),
    "a login page, compressed name": ("a.nii.gz", b"<html>log in</html>" * 50, "unreadable"),
    "header cut": ("a.nii", good()[:200], "unreadable"),
    "voxels cut": ("a.nii", good()[:5000], "unreadable"),
    "gzip cut": ("a.nii.gz", gzip.compress(good())[:9000], "unreadable"),
    "gzip with a wrong byte": (
        "a.nii.gz",
        gzip.compress(good())[:9000] + b"\xff" * 9 + gzip.compress(good())[9009:],
        "unreadable",
    ),
    "gzip under the name of a plain file": ("a.nii", gzip.compress(good()), "unreadable"),
    "wrong magic": ("a.nii", good(magic=(344, "4s", b"xyz\0")), "unreadable"),
    "random bytes": ("a.nii", np.random.default_rng(0).bytes(20_000), "unreadable"),
    "no dimensions": ("a.nii", good(dim=(40, "8h", 0, 0, 0, 0, 0, 0, 0, 0)), "3-D"),
    "a dimension of zero": ("a.nii", good(dim=(40, "8h", 3, 30, 0, 34, 1, 1, 1, 1)), "3-D"),
    "a negative dimension": ("a.nii", good(dim=(40, "8h", 3, 30, -32, 34, 1, 1, 1, 1)), ""),
    "a header of 30,000³ voxels": (
        "a.nii",
        good(dim=(40, "8h", 3, 30000, 30000, 30000, 1, 1, 1, 1)),
        "more than any scanner",
    ),
    "four volumes": ("a.nii", of_volume(np.ones((30, 32, 34, 4), np.int16)), "3-D"),
    "one slice": ("a.nii", of_volume(np.ones((30, 32, 1), np.int16)), "3-D"),
    "colours": ("a.nii", good(datatype=(70, "2h", 128, 24)), "real numbers"),
    "complex numbers": ("a.nii", of_volume(np.ones((30, 32, 34), np.complex64)), "real numbers"),
    "an unknown data type": ("a.nii", good(datatype=(70, "2h", 4321, 16)), "unreadable"),
    "voxels that begin behind the end": ("a.nii", good(offset=(108, "f", 1e7)), "unreadable"),
    "voxels that begin at infinity": ("a.nii", good(offset=(108, "f", float("inf"))), "unreadable"),
    "voxels that begin beyond any file": ("a.nii", good(offset=(108, "f", 1e30)), "unreadable"),
    "the same, compressed": ("a.nii.gz", gzip.compress(good(offset=(108, "f", 1e30))), "unreadable"),
    "NaN in the affine": ("a.nii", good(srow=(280, "4f", float("nan"), 0, 0, 0)), "affine"),
    "an affine of zeros": ("a.nii", good(srow=(280, "12f", *[0.0] * 12)), "affine"),
    "sheared axes": ("a.nii", of_volume(filled(0.5, 0.1), SHEAR), "sheared"),
    "voxels of a centimetre": ("a.nii", of_volume(filled(0.5, 0.1), np.diag([10.0, 10, 10, 1])), "10 mm"),
    "a slab": ("a.nii", of_volume(filled(0.5, 0.1), np.diag([1.0, 5, 5, 1])), "covers only"),
    "NaN voxels": ("a.nii", of_volume(filled(np.nan, 0.1)), "finite"),
    "infinite voxels": ("a.nii", of_volume(filled(np.inf, 0.1)), "finite"),
    "one value everywhere": ("a.nii", of_volume(np.full((30, 32, 34), 7, np.int16)), "same value"),
    "text as MGZ": ("a.mgz", gzip.compress(b"no image" * 100), "unreadable"),
    "a suffix of no image": ("a.txt", good(), "unreadable"),
}


def go(source: Path, tmp_path: Path, name: str = "sub-x_ses-M000", **settings) -> dict:
    return convert_scan(str(source), tmp_path / "out", name, Convert(**settings))


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_image_fails_with_its_reason(fault: str, tmp_path: Path) -> None:
    name, raw, word = BROKEN[fault]
    (tmp_path / name).write_bytes(raw)
    told = go(tmp_path / name, tmp_path)
    assert told["status"] == "fail" and word in told["reason"] and "\n" not in told["reason"], told
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_a_file_that_opens_but_cannot_be_read_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nii").write_bytes(good())
    monkeypatch.setattr(
        "builtins.open", lambda *a, **k: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with (
        pytest.raises(unpack.Unusable, match="Permission denied"),
        unpack.local_file(str(tmp_path / "a.nii"), tmp_path),
    ):
        pass


def test_a_good_image_passes(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(good())
    assert go(tmp_path / "a.nii", tmp_path)["status"] == "pass"


def test_what_is_no_file_fails_too(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop.nii").symlink_to(tmp_path / "loop.nii")
    (tmp_path / "gone.nii").symlink_to(tmp_path / "nothing.nii")
    for name in ("empty", "loop.nii", "gone.nii", "nothing.nii"):
        told = go(tmp_path / name, tmp_path)
        assert told["status"] == "fail" and told["reason"], name


@pytest.mark.parametrize("fault", ["cut", "no member", "a text member", "no archive", "a lying size"])
def test_broken_archives(fault: str, tmp_path: Path) -> None:
    path, member = tmp_path / "a.zip", "s/a.nii"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("s/a.nii", b"text" * 500 if fault == "a text member" else good())
    raw = path.read_bytes()
    if fault == "cut":
        path.write_bytes(raw[: len(raw) // 2])
    elif fault == "no archive":
        path.write_bytes(b"not a zip")
    elif fault == "no member":
        member = "s/b.nii"
    elif fault == "a lying size":
        place = raw.rindex(b"PK\x01\x02")
        path.write_bytes(raw[: place + 24] + struct.pack("<I", 100) + raw[place + 28 :])
    told = go(Path(f"{path}!{member}"), tmp_path)
    assert told["status"] == "fail" and told["reason"]


def test_bombs_are_refused_before_they_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip member and a gzip stream of far more bytes than any scan; the limit is lowered, not 2 GiB written."""
    for module in (convert, imagepath, unpack):
        monkeypatch.setattr(module, "MAX_BYTES", 1 << 16)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("s/a.nii", good() + bytes(1 << 22))
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(good() + bytes(1 << 22)))
    for source in (Path(f"{tmp_path / 'a.zip'}!s/a.nii"), tmp_path / "a.nii.gz"):
        told = go(source, tmp_path)
        assert told["status"] == "fail" and ("oversized" in told["reason"] or "GiB" in told["reason"])


def test_encrypted_members_and_links_in_archives_fail(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("s/link.nii")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("s/a.nii", good())
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    assert go(Path(f"{tmp_path / 'a.zip'}!s/link.nii"), tmp_path)["reason"].startswith("unreadable")
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.rindex(signature) + offset] |= 1  # the bit that says: encrypted
    (tmp_path / "b.zip").write_bytes(raw)
    assert "encrypted" in go(Path(f"{tmp_path / 'b.zip'}!s/a.nii"), tmp_path)["reason"]


@pytest.mark.skipif(DATA is None, reason="ELR_MRI_TEST_DATA is not set: no real scans")
def test_nothing_of_a_dicom_header_but_geometry_is_written(tmp_path: Path) -> None:
    """The NIfTI header has no free text left, and there is no sidecar of DICOM fields."""
    with tarfile.open(Path(DATA or "") / "t1" / "studyforrest_dicom.tar.gz") as archive:
        files = [m for m in archive.getmembers() if m.isfile() and "dicom" in m.name.lower()]
        archive.extractall(tmp_path / "in", files)  # Python 3.11.2 knows no filter
    folder = next(p.parent for p in (tmp_path / "in").rglob("*") if p.is_file() and p.stat().st_size > 10_000)
    told = go(folder, tmp_path)
    assert told["status"] == "pass"
    image = nib.load(tmp_path / "out" / "sub-x_ses-M000_T1w.nii.gz")
    text = [bytes(image.header[key]).strip(b"\0") for key in ("descrip", "aux_file", "intent_name", "db_name")]
    assert not any(text) and not image.header.extensions
    assert {p.suffix for p in (tmp_path / "out").iterdir()} <= {".gz", ".json"}
    assert set(told) == {"scan_id", "status", "reason", "source", "sha256", "shape", "source_axes", "spacing_mm"}


@pytest.mark.skipif(DATA is None, reason="ELR_MRI_TEST_DATA is not set: no real scans")
def test_six_orientations_of_one_brain_are_one_array(tmp_path: Path) -> None:
    edge = Path(DATA or "") / "edge"
    told = {
        axes: go(edge / f"{axes}.nii.gz", tmp_path, f"sub-{axes}_ses-M000", min_extent_mm=1)
        for axes in ("RAS", "LAS", "LPI", "PIR", "ASR", "SPL")
    }
    assert {t["status"] for t in told.values()} == {"pass"}
    assert all(t["source_axes"] == axes for axes, t in told.items())
    assert len({t["sha256"] for t in told.values()}) == 1


#: File of the edge collection -> why it is no T1 scan of a head.
EDGE = {
    "anatomical.nii": "covers only 50 mm",
    "complex.nii.gz": "not real numbers",
    "example4d.nii.gz": "128 x 96 x 24 x 2",
    "example_nifti2.nii.gz": "32 x 20 x 12 x 2",
    "functional.nii": "17 x 21 x 3 x 20",
    "shear.nii.gz": "sheared",
    "0.dcm": "covers only 64.7 mm",
    "philips_mprage.dcm.gz": "unreadable",
    "slicethickness_empty_string.dcm": "dcm2niix made no image",
}


@pytest.mark.skipif(DATA is None, reason="ELR_MRI_TEST_DATA is not set: no real scans")
@pytest.mark.parametrize("name", EDGE)
def test_the_odd_files_of_the_edge_collection(name: str, tmp_path: Path) -> None:
    told = go(Path(DATA or "") / "edge" / name, tmp_path)
    assert told["status"] == "fail" and EDGE[name] in told["reason"], told
