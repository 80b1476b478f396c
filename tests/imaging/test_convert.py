"""Every way to store a head gives one canonical array; what is no head is refused with a reason."""

import itertools
import multiprocessing
import os
import shutil
import signal
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from elr_mri.config import Convert
from elr_mri.imaging.convert import convert_scan, digest_array

DATA = os.environ.get("ELR_MRI_TEST_DATA")
SHAPE = (40, 50, 45)


def volume():
    return np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)


def image(array=None, affine=None):
    return nib.Nifti1Image(volume() if array is None else array, np.diag([4.0, 4, 4, 1]) if affine is None else affine)


def go(source, tmp_path, name="sub-x_ses-M000", **settings):
    return convert_scan(str(source), tmp_path / "out", name, Convert(**settings))


@pytest.mark.parametrize(
    "axes", ["".join(p) for p in itertools.product("LR", "AP", "IS")] + ["PIR", "ASR", "SPL", "ILP"]
)
def test_orientations_give_one_array(axes, tmp_path):
    nib.save(image(), tmp_path / "ras.nii")
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(axes))
    )
    nib.save(image().as_reoriented(turn), tmp_path / f"{axes}.nii.gz")
    one, other = (
        go(tmp_path / "ras.nii", tmp_path, "sub-a_ses-M000"),
        go(tmp_path / f"{axes}.nii.gz", tmp_path, "sub-b_ses-M000"),
    )
    assert one["sha256"] == other["sha256"] and other["source_axes"] == axes
    back = nib.load(tmp_path / "out" / "sub-b_ses-M000_T1w.nii.gz")
    assert nib.aff2axcodes(back.affine) == ("R", "A", "S")
    assert np.allclose(back.affine, image().affine) and np.array_equal(back.get_fdata(), volume())


def test_a_scale_and_a_data_type_do_not_change_the_digest(tmp_path):
    """The same intensities as int16, as float32 and as int16 behind a slope of −1, which makes zeros negative."""
    content = volume() - 500
    content[0] = 0
    turned = nib.Nifti1Image(-content, np.diag([4.0, 4, 4, 1]))
    turned.header.set_slope_inter(-1.0, 0.0)
    for name, stored in (("a", image(content)), ("b", image(content.astype(np.float32)))):
        nib.save(stored, tmp_path / f"{name}.nii")
    raw = bytearray(turned.to_bytes())
    struct.pack_into("<2f", raw, 112, -1.0, 0.0)
    (tmp_path / "c.nii").write_bytes(raw)
    told = [go(tmp_path / f"{name}.nii", tmp_path, f"sub-{name}_ses-M000") for name in "abc"]
    assert len({t["sha256"] for t in told}) == 1


def test_another_array_has_another_digest(tmp_path):
    changed = volume()
    changed[3, 4, 5] += 1
    nib.save(image(), tmp_path / "a.nii")
    nib.save(image(changed), tmp_path / "b.nii")
    assert (
        go(tmp_path / "a.nii", tmp_path, "sub-a_ses-M000")["sha256"]
        != go(tmp_path / "b.nii", tmp_path, "sub-b_ses-M000")["sha256"]
    )


def nan():
    array = volume().astype(np.float32)
    array[0, 0, 0] = np.nan
    return array


SHEAR = np.array([[4.0, 1, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]])
BAD = {
    "shape": image(np.stack([volume()] * 2, axis=-1)),
    "complex": image(volume().astype(np.complex64)),
    "finite": image(nan()),
    "sheared": image(affine=SHEAR),
    "covers only": image(affine=np.diag([2.0, 2, 2, 1])),
    "voxels of 7 mm": image(affine=np.diag([7.0, 4, 4, 1])),
    "same value": image(np.ones(SHAPE, dtype=np.int16)),
}


@pytest.mark.parametrize("words", BAD)
def test_unusable_scans_fail_with_a_reason(words, tmp_path):
    nib.save(BAD[words], tmp_path / "x.nii")
    told = go(tmp_path / "x.nii", tmp_path)
    assert told["status"] == "fail" and words in told["reason"]
    assert not list((tmp_path / "out").glob("*.nii.gz"))


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_unreadable_files_fail_with_a_reason(content, tmp_path):
    path = tmp_path / "x.nii.gz"
    if content is None:  # cut short
        nib.save(image(), path)
        content = path.read_bytes()[:2000]
    path.write_bytes(content)
    told = go(path, tmp_path)
    assert told["status"] == "fail" and "unreadable" in told["reason"]
    assert go(tmp_path / "absent.nii", tmp_path)["reason"] == "no such file"


def test_a_fourth_axis_of_one_is_dropped(tmp_path):
    nib.save(image(volume()[..., None]), tmp_path / "x.nii")
    assert go(tmp_path / "x.nii", tmp_path)["shape"] == list(SHAPE)


def test_zip_member(tmp_path):
    nib.save(image(), tmp_path / "plain.nii")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "plain.nii", "ni/T1/scan.nii")
        archive.write(tmp_path / "plain.nii", "../../escaped.nii")
    plain = go(tmp_path / "plain.nii", tmp_path, "sub-a_ses-M000")
    for k, member in enumerate(("ni/T1/scan.nii", "../../escaped.nii")):
        assert go(f"{tmp_path}/a.zip!{member}", tmp_path, f"sub-z{k}_ses-M000")["sha256"] == plain["sha256"]
    assert not list(Path(tmp_path).parent.rglob("escaped.nii"))
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".partial")]
    assert go(f"{tmp_path}/a.zip!gone.nii", tmp_path, "sub-g_ses-M000")["status"] == "fail"


def test_current_outputs_are_kept_and_changed_sources_are_not(tmp_path):
    nib.save(image(), tmp_path / "x.nii")
    go(tmp_path / "x.nii", tmp_path)
    made = tmp_path / "out" / "sub-x_ses-M000_T1w.nii.gz"
    before = made.stat().st_mtime_ns
    go(tmp_path / "x.nii", tmp_path)
    assert made.stat().st_mtime_ns == before
    nib.save(BAD["finite"], tmp_path / "x.nii")
    assert go(tmp_path / "x.nii", tmp_path)["status"] == "fail" and not made.exists()


@pytest.mark.skipif(not DATA, reason="ELR_MRI_TEST_DATA is not set")
def test_real_orientations_give_one_array(tmp_path):
    names = ("RAS", "LAS", "LPI", "PIR", "ASR", "SPL")
    told = [go(Path(DATA) / "edge" / f"{name}.nii.gz", tmp_path, f"sub-{name}_ses-M000") for name in names]
    assert len({t["sha256"] for t in told}) == 1


def killed_at(replaced, source, tmp_path):
    """Convert in a process that dies when it is about to put its file number `replaced` in place; whether it died."""

    def work():
        left, put = [replaced], os.replace

        def dying(*names):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            put(*names)

        os.replace = dying
        go(source, tmp_path)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def test_a_scan_that_changes_and_changes_back_is_never_told_of_by_the_other_s_facts(tmp_path):
    """Killed at each of its writes while it takes over a changed scan; then the earlier scan comes back with its old time."""
    nib.save(image(), tmp_path / "a.nii")
    nib.save(image(volume()[::-1]), tmp_path / "b.nii")
    source, n_killed = tmp_path / "x.nii", 0
    for replaced in range(10):
        for name in ("a", "b", "a"):
            shutil.copyfile(tmp_path / f"{name}.nii", source)
            os.utime(source, ns=(0, 10**18 + ord(name)))
            if name == "b":
                killed = killed_at(replaced, source, tmp_path)
                n_killed += killed
            else:
                told = go(source, tmp_path)
                held = nib.load(tmp_path / "out" / "sub-x_ses-M000_T1w.nii.gz")
                assert np.array_equal(held.get_fdata(), volume()) and told["sha256"] == digest_array(volume())
        if not killed:
            break
    assert n_killed == 3 and not killed


@pytest.mark.parametrize("name", ["a.zip!scan.nii", "plain.nii"])
def test_a_disk_without_room_is_no_fault_of_the_scan(tmp_path, name):
    """Neither told as `fail` nor half-written; there being room again, the scan is converted."""
    nib.save(image(), tmp_path / "plain.nii")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "plain.nii", "scan.nii")
    code = f"""
import resource, sys
from elr_mri.cli import _refuse
from elr_mri.config import Convert
from elr_mri.errors import disk_fault
from elr_mri.imaging.convert import convert_scan
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    convert_scan({str(tmp_path / name)!r}, {str(tmp_path / "out")!r}, "sub-x_ses-M000", Convert())
except OSError as problem:
    _refuse(disk_fault(problem))
"""
    full = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert full.returncode == 2 and "got File too large" in full.stderr and full.stderr.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []
    assert go(tmp_path / name, tmp_path)["status"] == "pass"
