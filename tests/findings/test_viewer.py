"""The built viewer is the one that its sources make, and what the page gives it lies where it lay, in few bytes."""

import base64
import gzip
import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from elr_mri.findings import viewer
from elr_mri.findings.brains import Anatomy, Volume
from elr_mri.imaging.labels import REGIONS

ROOT = Path(__file__).parents[2]
SHAPE, AFFINE = (60, 70, 50), np.array([[1.0, 0, 0, -30], [0, 1, 0, -40], [0, 0, 1, -20], [0, 0, 0, 1]])


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_the_committed_script_is_the_one_that_its_sources_make():
    """Whoever edits viewer/ runs `make viewer` and commits what it writes."""
    record, folder = viewer.record(), ROOT / "viewer"
    assert record["sources"] == {name: sha256((folder / name).read_bytes()) for name in record["sources"]}
    assert {"viewer.js", "build.mjs", "package.json", "package-lock.json"} <= set(record["sources"])
    assert record["script"]["sha256"] == sha256(viewer.script().encode()) and record["script"]["bytes"] < 1e6
    assert record["licences"] == sha256((viewer.HERE / "LICENCES.txt").read_bytes())


def test_packages_are_those_of_the_lockfile_and_their_licences_are_given():
    lock = json.loads((ROOT / "viewer" / "package-lock.json").read_text())
    text = (viewer.HERE / "LICENCES.txt").read_text()
    for name, told in viewer.record()["packages"].items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == told["version"], name
        assert f"{name} {told['version']} ({told['license']})" in text and told["license"] in (
            "MIT",
            "BSD-2-Clause",
            "ISC",
        ), name
    assert "://" not in "".join(str(one.get("resolved", "")) for one in lock["packages"].values())


def test_the_script_holds_nothing_that_the_page_s_policy_forbids():
    assert not [
        word for word in ("new Worker", "WebAssembly", "new Function", "eval(", "</script") if word in viewer.script()
    ]


@pytest.fixture
def anatomy():
    grid = np.indices(SHAPE)
    brain = (sum(((grid[a] - SHAPE[a] / 2) / (SHAPE[a] / 3)) ** 2 for a in range(3)) < 1).astype(np.float32)
    labels = np.zeros(SHAPE, np.uint8)
    for number in REGIONS.values():
        labels[20 + 3 * number : 22 + 3 * number, 30:34, 20:24] = number
    return Anatomy(Volume(brain, AFFINE), Volume(labels, AFFINE), REGIONS)


def _read(packed, tmp_path):
    (tmp_path / "x.nii").write_bytes(gzip.decompress(base64.b64decode(packed)))
    return nib.load(tmp_path / "x.nii")


def test_volumes_keep_their_place_and_values_in_the_page(anatomy, tmp_path):
    rng = np.random.default_rng(0)
    heat = Volume(
        (anatomy.template.data * (1 + 4 * (np.indices(SHAPE)[0] > 30)) + 0.01 * rng.random(SHAPE)).astype(np.float32),
        AFFINE,
    )
    told = viewer.for_page(anatomy, {"a CN scan": anatomy.template}, {"saliency": heat})
    assert (
        [one["name"] for one in told["data"]["images"]] == ["template", "a CN scan"]
        and told["people"]
        and told["n_maps"] == 1
    )
    image = _read(told["data"]["images"][0]["nifti"], tmp_path)
    assert image.get_data_dtype() == np.uint8 and np.allclose(image.header.get_zooms(), viewer.SPACING_MM)
    inside = image.get_fdata() > 127
    centre = image.affine[:3, :3] @ np.argwhere(inside).mean(axis=0) + image.affine[:3, 3]
    assert np.allclose(centre, anatomy.template.centre(anatomy.template.data > 0.5), atol=0.3)
    volume = inside.sum() * viewer.SPACING_MM**3
    assert volume == pytest.approx(anatomy.template.data.sum(), rel=0.05)
    labels = _read(told["data"]["overlays"][-1]["nifti"], tmp_path)
    assert set(np.unique(labels.get_fdata())) == {0, *REGIONS.values()}
    at = np.linalg.inv(labels.affine) @ [*anatomy.centre("hippocampus_left"), 1]
    assert labels.get_fdata()[tuple(np.rint(at[:3] - 0.01).astype(int))] == REGIONS["hippocampus_left"]
    shown = _read(told["data"]["overlays"][0]["nifti"], tmp_path).get_fdata()
    mean = heat.data[anatomy.template.data > 0.05].mean()
    assert shown.max() == pytest.approx(5 / mean, abs=0.2) and shown[shown > 0].min() >= viewer.LEAST - viewer.STEP
    assert gzip.decompress(base64.b64decode(told["code"])).decode() == viewer.script()


def test_nobody_s_scan_is_in_the_data_where_none_may_be(anatomy):
    told = viewer.for_page(anatomy, {}, {})
    assert (
        told["images"] == ["template"]
        and not told["people"]
        and [o["name"] for o in told["data"]["overlays"]] == ["regions"]
    )


def test_the_same_volumes_make_the_same_bytes(anatomy):
    once, again = (viewer.for_page(anatomy, {"x": anatomy.template}, {}) for _ in range(2))
    assert once == again
