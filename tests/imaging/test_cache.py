"""The cache: what goes in comes out within the stated error, failures are left out and told."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from elr_mri.config import Pack
from elr_mri.errors import BadInput
from elr_mri.imaging.cache import MAPPINGS, Cache, decode, encode, pack
from elr_mri.imaging.labels import VOLUMES
from elr_mri.imaging.register import MAX_INTENSITY

SHAPE = (5, 6, 4)
AFFINE = np.diag([3.0, 3, 3, 1])


@given(
    volume=arrays(np.float32, SHAPE, elements=st.floats(0, 1.5, width=16)), dtype=st.sampled_from(["uint8", "float16"])
)
def test_round_trip_error_is_bounded(volume, dtype):
    assert np.abs(decode(encode(volume, dtype)) - volume).max() <= MAPPINGS[dtype]["error"] * 1.001
    assert np.array_equal(encode(decode(encode(volume, dtype)), dtype), encode(volume, dtype))


def test_encoding_clips():
    assert list(encode(np.array([-1.0, 0, MAX_INTENSITY, 9]), "uint8")) == [0, 0, 255, 255]


def write_study(folder, states):
    """Folders as the three steps write them, with given states: pass, review, fail, or unread (convert failed)."""
    rng, volumes = np.random.default_rng(0), {}
    for scan_id, state in states.items():
        for step in ("convert", "register", "measure"):
            (folder / step / scan_id).mkdir(parents=True)
        converted = {
            "status": "fail" if state == "unread" else "pass",
            "reason": "cut short" if state == "unread" else "",
            "sha256": scan_id,
        }
        (folder / "convert" / scan_id / f"{scan_id}_convert.json").write_text(json.dumps(converted))
        if state == "unread":
            continue
        files = {"affine_image": f"{scan_id}_space-T_T1w.nii.gz"}
        told = {"status": state, "reason": "" if state == "pass" else "blurred", "template": "T", "files": files}
        (folder / "register" / scan_id / f"{scan_id}_space-T_qc.json").write_text(json.dumps(told))
        volumes[scan_id] = rng.uniform(0, MAX_INTENSITY, SHAPE).astype(np.float32)
        nib.save(nib.Nifti1Image(volumes[scan_id], AFFINE), folder / "register" / scan_id / files["affine_image"])
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
    pack(
        folder / "scans.tsv",
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
    assert list(rois.columns) == ["scan_id", *VOLUMES] and len(rois) == 2
    assert (
        cache.meta["affine"] == AFFINE.tolist()
        and cache.meta["shape"] == list(SHAPE)
        and set(cache.meta["sources"]) == set(rois["scan_id"])
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


def test_syn_space_needs_syn_volumes(tmp_path):
    write_study(tmp_path, STATES)
    with pytest.raises(BadInput, match="write_syn"):
        go(tmp_path, space="syn")
