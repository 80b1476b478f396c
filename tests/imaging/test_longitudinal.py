"""Visits of one subject through their own template: no visit is the reference, and what is stored stays consistent."""

import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation
from small_heads import FAST, make_head

from elr_mri.config import Convert
from elr_mri.imaging import longitudinal, register
from elr_mri.imaging.convert import convert_scan
from elr_mri.imaging.grids import at, box
from elr_mri.imaging.labels import read_labels
from elr_mri.imaging.measure import region_volumes
from elr_mri.imaging.template import MNI, brain_template
from elr_mri.imaging.within_subject import Visit, centred, share_template
from elr_mri.provenance import read_json

SETTINGS = FAST.model_copy(update={"longitudinal": True, "syn_iterations": (6, 4), "detail_iterations": 6})
FIRST, LATER = "sub-1_ses-M000", "sub-1_ses-M012"


@pytest.fixture(scope="module")
def visits():
    """Two scans of a head at different poses with different noise, registered by themselves."""
    heads = [
        make_head(seed=3, turn_degrees=(6, -4, 3), shift_mm=(3, -2, 4), noise=0.03),
        make_head(seed=4, turn_degrees=(-2, 5, -4), shift_mm=(-4, 3, 1), noise=0.03),
    ]
    template = brain_template(MNI)
    return heads, [register.align(head.image, head.grid.affine, template, SETTINGS) for head in heads]


@pytest.fixture(scope="module")
def shared(visits):
    return share(visits[1])


def share(found):
    return share_template([Visit(one.brain, one.affine, one.matrix) for one in found], brain_template(MNI), SETTINGS)


def change(pair):
    """Log change of the hippocampi from the first to the second of two visits."""
    labels = read_labels()
    sides = [region_volumes(labels, one.matrix, one.warp) for one in pair]
    first, second = (one["hippocampus_left"] + one["hippocampus_right"] for one in sides)
    return np.log(second / first)


def test_the_space_is_halfway(shared):
    turns = [Rotation.from_matrix(one.pose[:3, :3]).as_rotvec(degrees=True) for one in shared]
    assert np.linalg.norm(turns[0]) > 3
    assert np.allclose(turns[0], -turns[1], atol=0.01)


def test_no_visit_is_the_reference(visits, shared):
    exchanged = share(visits[1][::-1])
    assert change(shared) == pytest.approx(-change(exchanged), abs=1e-5)
    for one, other in zip(shared, exchanged[::-1], strict=True):
        assert np.allclose(one.matrix, other.matrix, atol=1e-5)
        assert np.abs(one.warp.field - other.warp.field).max() < 1e-2


def test_what_the_visits_share_is_the_same_place(visits, shared):
    grid = box((-60, -95, -45), (60, 60, 65), 5.0)
    points, inside = grid.points(), brain_template(MNI).mask_on(grid) > 0.5
    heads, _ = visits

    def apart(warps):
        """Median distance in mm between what two visits hold at the same place of the template."""
        origins = []
        for head, one, warp in zip(heads, shared, warps, strict=True):
            native = register.to_native(points, one.matrix, warp)
            origins.append(np.stack([at(part, head.grid.affine, native) for part in head.origin]))
        return np.median(np.linalg.norm(origins[1] - origins[0], axis=0)[inside])

    assert apart([None, None]) < 0.1
    assert apart([one.warp for one in shared]) < 0.6  # 3 mm voxels with noise of their own


def test_one_size_for_all_visits(shared):
    sizes = [np.linalg.det(one.matrix[:3, :3]) for one in shared]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-9)


def test_no_change_is_found_where_there_is_none(shared):
    assert np.abs(shared[0].warp.field - shared[1].warp.field).max() > 0.05  # each has its own noise
    assert abs(change(shared)) < 0.03


def test_the_centre_of_poses():
    rng = np.random.default_rng(0)
    poses = []
    for _ in range(3):
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_rotvec(rng.normal(0, 10, 3), degrees=True).as_matrix()
        pose[:3, 3] = rng.normal(0, 10, 3)
        poses.append(pose)
    centre = np.array([5.0, -20.0, 8.0])
    moved = centred(poses, centre)
    assert Rotation.from_matrix([pose[:3, :3] for pose in moved]).mean().magnitude() < 1e-6
    assert np.allclose(np.mean([(pose @ [*centre, 1])[:3] for pose in moved], axis=0), centre)
    assert np.allclose(moved[0] @ np.linalg.inv(moved[1]), poses[0] @ np.linalg.inv(poses[1]))


class Alone:
    """Stands for `align_file`: the two visits as already registered by themselves, anything else is no brain."""

    def __init__(self, visits):
        self.found, self.calls = dict(zip((FIRST, LATER), visits[1], strict=True)), 0

    def __call__(self, path, settings):
        self.calls += 1
        if path.parent.name not in self.found:
            raise register.NoBrain("no brain found")
        return self.found[path.parent.name]


@pytest.fixture(scope="module")
def subject(visits, tmp_path_factory):
    """Two visits of `sub-1`, converted and registered together."""
    folder = tmp_path_factory.mktemp("subject")
    for scan_id, head in zip((FIRST, LATER), visits[0], strict=True):
        convert_scan(str(head.save(folder / f"{scan_id}.nii")), folder / "convert" / scan_id, scan_id, Convert())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(longitudinal, "align_file", Alone(visits))
        told = longitudinal.register_visits(folder / "convert", folder / "register", [FIRST, LATER], SETTINGS)
    return folder, told


def files(folder):
    """The bytes of all images, transforms and verdicts."""
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.name.endswith((".gz", ".mat", "qc.json"))}


def test_the_verdict_says_who_shared_the_template(subject):
    folder, told = subject
    for scan_id in (FIRST, LATER):
        assert told[scan_id] == read_json(folder / "register" / scan_id / f"{scan_id}_space-{MNI}_qc.json")
        assert told[scan_id]["status"] == "pass"
        assert told[scan_id]["within_subject"]["visits"] == [FIRST, LATER]
        assert told[scan_id]["within_subject"]["correlation"] > 0.9
        assert all((folder / "register" / scan_id / name).is_file() for name in told[scan_id]["files"].values())


def test_current_visits_are_kept_and_a_killed_run_ends_the_same(subject, visits, monkeypatch):
    folder, told = subject
    alone, before = Alone(visits), files(folder / "register")
    monkeypatch.setattr(longitudinal, "align_file", alone)
    args = (folder / "convert", folder / "register", [FIRST, LATER], SETTINGS)
    assert longitudinal.register_visits(*args) == told and alone.calls == 0
    (folder / "register" / LATER / f"{LATER}_space-{MNI}_qc.json").unlink()  # killed between the two visits
    assert longitudinal.register_visits(*args) == told and alone.calls == 2
    assert files(folder / "register") == before


def test_one_visit_more_is_registered_with_the_others_and_spoils_none(subject, visits, tmp_path, monkeypatch):
    folder, told = subject
    noise, single = "sub-1_ses-M024", "sub-2_ses-M000"
    for scan_id in (noise, single):
        convert_scan(str(visits[0][0].save(tmp_path / "x.nii")), folder / "convert" / scan_id, scan_id, Convert())
    ids = [FIRST, LATER, noise, single]
    scans = pd.DataFrame({"scan_id": ids, "cohort": "X", "subject_id": ["sub-1"] * 3 + ["sub-2"]})
    alone, by_itself = Alone(visits), []
    monkeypatch.setattr(longitudinal, "align_file", alone)
    monkeypatch.setattr(longitudinal, "register_converted", lambda *a: by_itself.append(a[2]) or {"scan_id": a[2]})
    shutil.copytree(folder / "register", tmp_path / "register")

    def verdicts():
        one = longitudinal.by_subject(scans, folder / "convert", tmp_path / "register", SETTINGS)
        return {row.scan_id: one(row) for row in scans.itertuples()}

    found = verdicts()
    assert alone.calls == 3 and by_itself == [single]
    assert found[noise]["status"] == "fail" and "within_subject" not in found[noise]
    assert found[FIRST] == told[FIRST] and found[LATER] == told[LATER]
    assert verdicts() == found and alone.calls == 3
