"""The cache: what goes in comes out within the stated error, failures are left out and told."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from elr_mri.config import Pack, Review
from elr_mri.errors import BadInput
from elr_mri.imaging import growing
from elr_mri.imaging.cache import pack, stored_row
from elr_mri.imaging.labels import VOLUMES
from elr_mri.imaging.packed import MAPPINGS, MAX_INTENSITY, MAX_LOG_JACOBIAN, RANGES, Cache, decode, digest_row, encode
from elr_mri.imaging.review import review
from elr_mri.imaging.template import study_grid

SHAPE = (5, 6, 4)
AFFINE = np.diag([3.0, 3, 3, 1])


@given(
    share=arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=16)),
    dtype=st.sampled_from(["uint8", "float16"]),
    channel=st.sampled_from(["T1w", "log_jacobian"]),
)
def test_round_trip_error_is_bounded(share, dtype, channel):
    low, high = RANGES[channel]
    volume = (low + share * (high - low)).astype(np.float32)
    stored = encode(volume, dtype, channel)
    assert np.abs(decode(stored, channel) - volume).max() <= MAPPINGS[channel][dtype]["error"] * 1.001
    assert np.array_equal(encode(decode(stored, channel), dtype, channel), stored)


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_an_unchanged_volume_is_stored_exactly(dtype):
    assert decode(encode(np.zeros(SHAPE), dtype, "log_jacobian"), "log_jacobian").any() == 0
    ends = decode(encode(np.array([-9.0, 9.0]), dtype, "log_jacobian"), "log_jacobian")
    np.testing.assert_allclose(ends, [-MAX_LOG_JACOBIAN, MAX_LOG_JACOBIAN], atol=1e-3)


def test_five_thousand_scans_take_less_than_12_gb(tmp_path):
    shape = study_grid(1.5).shape
    sizes = []
    for n_rows in (1, 3):
        path = tmp_path / f"{n_rows}.npy"
        growing.append(path, (np.zeros(shape, np.uint8) for _ in range(n_rows)), n_kept=0, shape=shape, dtype="uint8")
        sizes.append(path.stat().st_size)
    per_scan = (sizes[1] - sizes[0]) / 2
    assert Pack().dtype == "uint8" and per_scan == 121 * 145 * 121
    assert sizes[0] - per_scan + 5000 * per_scan < 12e9


def test_encoding_clips():
    assert list(encode(np.array([-1.0, 0, MAX_INTENSITY, 9]), "uint8")) == [0, 0, 255, 255]


def write_study(folder, states, *, changed=(), warped=False):
    """Folders as the three steps write them, with given states: pass, review, fail, unread (convert failed), or
    brainless (register found nothing).

    The images of `changed` scans differ from those of an earlier call; `warped` writes the warped ones, too.
    """
    volumes = {}
    for scan_id, state in states.items():
        rng = np.random.default_rng([scan_id in changed, *scan_id.encode()])
        for step in ("convert", "register", "measure"):
            (folder / step / scan_id).mkdir(parents=True, exist_ok=True)
        converted = {
            "status": "fail" if state == "unread" else "pass",
            "reason": "cut short" if state == "unread" else "",
            "sha256": scan_id + "!" * (scan_id in changed),
        }
        (folder / "convert" / scan_id / f"{scan_id}_convert.json").write_text(json.dumps(converted))
        if state == "unread":
            continue
        qc = folder / "register" / scan_id / f"{scan_id}_space-T_qc.json"
        if state == "brainless":
            qc.write_text(json.dumps({"status": "fail", "reason": "no brain found", "numbers": {}, "template": "T"}))
            continue
        files = {"affine_image": f"{scan_id}_space-T_T1w.nii.gz", "picture": f"{scan_id}_space-T_qc.png"}
        numbers = {"mask_dice": {"pass": 0.95, "review": 0.85, "fail": 0.5}[state]}
        if warped:
            files |= {name: f"{scan_id}_{name}.nii.gz" for name in ("warped_image", "log_jacobian")}
        told = {"status": state, "reason": "" if state == "pass" else "blurred", "template": "T", "files": files}
        qc.write_text(json.dumps(told | {"numbers": numbers}))
        (folder / "register" / scan_id / files["picture"]).write_bytes(b"")
        volumes[scan_id] = rng.uniform(0, MAX_INTENSITY, SHAPE).astype(np.float32)
        for name, file in files.items():
            if name == "picture":
                continue
            values = {"affine_image": volumes[scan_id], "warped_image": volumes[scan_id] / 2}.get(name)
            values = volumes[scan_id] - MAX_INTENSITY / 2 if values is None else values
            nib.save(nib.Nifti1Image(values.astype(np.float32), AFFINE), folder / "register" / scan_id / file)
        for step, name in (
            ("convert", f"{scan_id}_T1w.nii.gz"),
            ("register", files["affine_image"]),
            ("measure", f"{scan_id}_tpl-T_volumes.tsv"),
        ):
            (folder / step / scan_id / f"{name}.json").write_text(json.dumps({"settings": {"of": step}}))
        table = pd.DataFrame({"region": VOLUMES, "volume_mm3": np.arange(len(VOLUMES)) + 1000.0})
        table.to_csv(folder / "measure" / scan_id / f"{scan_id}_tpl-T_volumes.tsv", sep="\t", index=False)
    optional = (
        "sex",
        "image_uid",
        "field_strength_t",
        "manufacturer",
        "site",
        "mmse",
        "cdr_global",
        "apoe4",
        "hippocampus_mm3",
        "entorhinal_mm3",
        "icv_mm3",
    )
    pd.DataFrame(
        {
            "scan_id": list(states),
            "cohort": "X",
            "subject_id": [s.split("_")[0] for s in states],
            "session_id": "ses-M000",
            "months": 0,
            "age_years": 70,
            "diagnosis": "CN",
            "image_path": "x",
        }
        | dict.fromkeys(optional, "")
    ).to_csv(folder / "scans.tsv", sep="\t", index=False)
    return volumes


def go(folder, **settings):
    review(folder / "scans.tsv", folder / "convert", folder / "register", Review(), folder / "review")
    pack(
        folder / "scans.tsv",
        folder / "review" / "review.tsv",
        *(folder / step for step in ("convert", "register", "measure")),
        Pack(**settings),
        folder / "pack",
    )
    return Cache.read(folder / "pack")


STATES = {"sub-a_ses-M000": "pass", "sub-b_ses-M000": "fail", "sub-c_ses-M000": "review", "sub-d_ses-M000": "unread"}


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_pack(tmp_path, dtype):
    volumes = write_study(tmp_path, STATES)
    cache = go(tmp_path, dtype=dtype)
    assert list(cache.index["scan_id"]) == ["sub-a_ses-M000", "sub-c_ses-M000"] and len(cache) == 2
    for scan_id in cache.index["scan_id"]:
        assert np.abs(cache.volume(scan_id) - volumes[scan_id]).max() <= cache.meta["intensity"]["error"] * 1.001
    status = pd.read_csv(tmp_path / "pack" / "status.tsv", sep="\t").set_index("scan_id")
    assert list(status.index) == list(STATES)
    assert (
        list(status["status"]) == ["pass", "fail", "review", "fail"] and status["step"]["sub-d_ses-M000"] == "convert"
    )
    rois = pd.read_csv(tmp_path / "pack" / "roi_volumes.tsv", sep="\t")
    assert list(rois.columns) == ["scan_id", *VOLUMES, "source", "note"] and len(rois) == 2
    assert (
        cache.meta["affine"] == AFFINE.tolist()
        and cache.meta["shape"] == list(SHAPE)
        and list(cache.index["sha256"]) == [hashlib.sha256(stored.tobytes()).hexdigest() for stored in cache.volumes]
    )
    assert cache.meta["settings"]["register"] == {"of": "register"}
    with pytest.raises(KeyError):
        cache.row("sub-b_ses-M000")


def test_same_input_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_study(tmp_path / name, STATES)
        go(tmp_path / name)
    for file in ("volumes.npy", "index.tsv", "meta.json", "roi_volumes.tsv", "status.tsv"):
        assert (tmp_path / "one" / "pack" / file).read_bytes() == (tmp_path / "two" / "pack" / file).read_bytes()


def test_another_version_or_shape_is_refused(tmp_path):
    write_study(tmp_path, STATES)
    go(tmp_path)
    meta = tmp_path / "pack" / "meta.json"
    told = json.loads(meta.read_text())
    for change in ({"version": 99}, {"shape": [1, 2, 3]}, {"dtype": "float16"}):
        meta.write_text(json.dumps(told | change))
        with pytest.raises(BadInput):
            Cache.read(tmp_path / "pack")
    meta.unlink()
    with pytest.raises(BadInput, match=r"meta\.json"):
        Cache.read(tmp_path / "pack")


def test_only_failures_is_bad_input_that_names_the_table(tmp_path):
    write_study(tmp_path, {"sub-b_ses-M000": "fail"})
    with pytest.raises(BadInput, match=r"status\.tsv"):
        go(tmp_path)
    assert (tmp_path / "pack" / "status.tsv").is_file()


def test_warped_space_needs_warped_volumes(tmp_path):
    write_study(tmp_path, STATES)
    with pytest.raises(BadInput, match="write_warped"):
        go(tmp_path, space="warped")


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_the_log_jacobian_is_a_second_channel(tmp_path, dtype):
    volumes = write_study(tmp_path, STATES, warped=True)
    cache = go(tmp_path, space="warped-jacobian", dtype=dtype)
    assert cache.volumes.shape == (2, 2, *SHAPE) and cache.meta["channels"] == ["T1w", "log_jacobian"]
    for scan_id in cache.index["scan_id"]:
        for channel, due, told in (
            ("T1w", volumes[scan_id] / 2, cache.meta["intensity"]),
            ("log_jacobian", volumes[scan_id] - MAX_INTENSITY / 2, cache.meta["log_jacobian"]),
        ):
            assert np.abs(cache.volume(scan_id, channel) - due).max() <= told["error"] * 1.001
    assert go(tmp_path, space="warped").volumes.shape == (2, *SHAPE)


MORE = {"sub-0_ses-M000": "pass", **STATES, "sub-e_ses-M000": "pass"}  # one before, one behind


def blocks(folder):
    """What a run that rewrote nothing leaves as it was: the file itself, and the bytes of its first rows."""
    path = folder / "pack" / "volumes.npy"
    return path.stat().st_ino, path.read_bytes()[128 : 128 + 2 * int(np.prod(SHAPE))]


def same_content(one, two):
    """Whether two caches hold the same scans with the same bytes, whatever the order."""
    return one.digest() == two.digest() and all(
        np.array_equal(one.volumes[one.row(name)], two.volumes[two.row(name)]) for name in one.index["scan_id"]
    )


def test_added_scans_are_written_behind_the_others(tmp_path, monkeypatch):
    write_study(tmp_path / "study", STATES)
    first = go(tmp_path / "study")
    before, written = blocks(tmp_path / "study"), []
    write_study(tmp_path / "study", MORE)
    opened, kept = [], growing.append
    monkeypatch.setattr(
        "elr_mri.imaging.cache.stored_row",
        lambda folder, scan_id, *rest: opened.append(scan_id) or stored_row(folder, scan_id, *rest),
    )
    monkeypatch.setattr(
        growing, "append", lambda path, rows, **told: kept(path, (written.append(r) or r for r in rows), **told)
    )
    grown = go(tmp_path / "study")
    assert opened == ["sub-0_ses-M000", "sub-e_ses-M000"] and len(written) == 2
    assert blocks(tmp_path / "study") == before
    assert list(grown.index["scan_id"]) == [*first.index["scan_id"], "sub-0_ses-M000", "sub-e_ses-M000"]
    monkeypatch.undo()
    write_study(tmp_path / "fresh", MORE)
    fresh = go(tmp_path / "fresh")
    assert same_content(grown, fresh) and list(fresh.index["scan_id"]) != list(grown.index["scan_id"])
    rois = [(tmp_path / name / "pack" / "roi_volumes.tsv").read_bytes() for name in ("study", "fresh")]
    assert rois[0] == rois[1]


def test_nothing_new_writes_no_row(tmp_path):
    write_study(tmp_path, STATES)
    go(tmp_path)
    before = blocks(tmp_path)
    go(tmp_path)
    assert blocks(tmp_path) == before


@pytest.mark.parametrize("change", ["changed", "removed", "failed", "dtype", "broken meta"])
def test_a_changed_or_removed_scan_is_as_if_packed_afresh(tmp_path, change):
    write_study(tmp_path / "study", MORE)
    go(tmp_path / "study")
    scan_id, settings, states = "sub-c_ses-M000", {}, dict(MORE)
    if change == "removed":
        del states[scan_id]
    elif change == "failed":
        states[scan_id] = "fail"
    elif change == "dtype":
        settings = {"dtype": "float16"}
    elif change == "broken meta":
        meta = tmp_path / "study" / "pack" / "meta.json"
        meta.write_text(json.dumps(json.loads(meta.read_text()) | {"version": 1}))
    inode = blocks(tmp_path / "study")[0]
    for name in ("study", "fresh"):
        write_study(tmp_path / name, states, changed=[scan_id] if change == "changed" else ())
    again, fresh = go(tmp_path / "study", **settings), go(tmp_path / "fresh", **settings)
    assert same_content(again, fresh) and list(again.index["scan_id"]) == list(fresh.index["scan_id"])
    files = [(tmp_path / name / "pack" / "volumes.npy").read_bytes() for name in ("study", "fresh")]
    assert files[0] == files[1] and blocks(tmp_path / "study")[0] != inode


def test_a_damaged_row_is_named_and_made_anew(tmp_path):
    write_study(tmp_path, MORE)
    go(tmp_path).validate()
    path = tmp_path / "pack" / "volumes.npy"
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[128 + int(np.prod(SHAPE)) + 7] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BadInput, match=r"rows of sub-a_ses-M000\. .*verify"):
        Cache.read(tmp_path / "pack").validate()
    go(tmp_path, verify=True).validate()
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-3])
    with pytest.raises(BadInput, match="a whole NumPy array"):
        Cache.read(tmp_path / "pack")


class Killed(BaseException):
    """A kill: nothing that the program would do afterwards is done."""


@pytest.mark.parametrize("change", ["appended", "changed"])
def test_killed_at_any_moment_a_reader_sees_the_old_or_the_new_cache(tmp_path, monkeypatch, change):
    """Every rename, sync and removal, and every row written, is a moment to be killed at; temporary files then stay."""
    after = (MORE, ()) if change == "appended" else (STATES, ["sub-c_ses-M000"])
    monkeypatch.setattr("elr_mri.provenance.versions", dict)  # a tenth of a second each time
    write_study(tmp_path / "old", STATES)
    old = go(tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    write_study(tmp_path / "new", after[0], changed=after[1])
    new = go(tmp_path / "new")
    assert old.digest() != new.digest()
    seen, moment = [], 0
    while True:
        folder = tmp_path / f"at-{moment}"
        shutil.copytree(tmp_path / "old", folder)
        write_study(folder, after[0], changed=after[1])
        left = [moment]
        with monkeypatch.context() as patch:
            _kill_at(patch, left, folder / "pack")
            with contextlib.suppress(Killed):
                go(folder)
        if left[0] > 0:
            break
        cache = Cache.read(folder / "pack")
        cache.validate()
        seen.append([same_content(cache, known) for known in (old, new)].index(True))
        assert same_content(go(folder), new)
        assert not [p.name for p in (folder / "pack").iterdir() if p.name in (growing.NEXT, growing.COMMIT)]
        shutil.rmtree(folder)
        moment += 1
    assert moment > 12 and seen == sorted(seen) and set(seen) == {0, 1}


def _kill_at(patch, left, pack_dir):
    """Raise `Killed` at the `left[0]`-th thing that is done to files; cleaning up is not done either."""

    def deadly(call, before):
        def done(*args, **options):
            if before and left[0] == 0:
                raise Killed
            left[0] -= before
            found = call(*args, **options)
            if not before and left[0] == 0:
                raise Killed
            left[0] -= not before
            return found

        return done

    patch.setattr(os, "fsync", deadly(lambda handle: None, before=False))  # a kill loses nothing that was not synced
    for name in ("replace", "rmdir"):
        patch.setattr(os, name, deadly(getattr(os, name), before=True))
    patch.setattr("elr_mri.imaging.cache.digest_row", deadly(digest_row, before=False))
    tidy = shutil.rmtree
    patch.setattr(shutil, "rmtree", lambda path, **options: None if left[0] <= 0 else tidy(path, **options))


def test_a_real_kill_leaves_the_old_or_the_new_cache(tmp_path):
    write_study(tmp_path, STATES)
    old = go(tmp_path)
    write_study(tmp_path, MORE)
    command = (
        "import sys, os; sys.path.insert(0, sys.argv[2]); import test_cache as t; t.die_at_the_header(sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", command, tmp_path, os.path.dirname(__file__)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(np.load(tmp_path / "pack" / "volumes.npy", mmap_mode="r")) == 4
    cache = Cache.read(tmp_path / "pack")
    assert len(cache) == 2 and same_content(cache, old)
    write_study(tmp_path, STATES)
    go(tmp_path).validate()
    assert len(np.load(tmp_path / "pack" / "volumes.npy")) == 2


def die_at_the_header(folder):
    """Pack, and be killed when the rows are written and the header tells of them, but the index does not."""
    from pathlib import Path

    write = growing.append
    growing.append = lambda *args, **told: write(*args, **told) and os.kill(os.getpid(), signal.SIGKILL)
    go(Path(folder))
