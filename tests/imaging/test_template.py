"""Templates: the shipped one, a path (brain or head, wherever it lies), TemplateFlow; and the names that follow from them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from small_heads import FAST, make_head, run

from elr_mri import config
from elr_mri.config import Measure
from elr_mri.errors import BadInput
from elr_mri.imaging import bridge, foreign, names, register
from elr_mri.imaging.grids import Grid, pull, through
from elr_mri.imaging.labels import REGIONS, read_labels
from elr_mri.imaging.measure import measure_scan
from elr_mri.imaging.qc import dice
from elr_mri.imaging.template import HEAD_IMAGE, HEAD_MASK, MNI, STUDY_BOX_MM, brain_template, head_template, study_grid
from elr_mri.imaging.transforms import Warp, read_affine, read_warp, to_native
from elr_mri.provenance import digest_file, read_json

DATA = os.environ.get("ELR_MRI_TEST_DATA")
SCAN = "sub-1_ses-M000"
#: MNI mm to the mm of the moved template: turned, smaller and far from MNI's origin.
MOVE = np.eye(4)
MOVE[:3, :3] = 0.93 * Rotation.from_euler("xyz", (8, -3, 5), degrees=True).as_matrix()
MOVE[:3, 3] = (20, -15, 30)


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory):
    """A cache folder of this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """The path of the shipped brain at another place, turned and smaller, on a grid of its own."""
    template = brain_template(MNI)
    grid = Grid((130, 150, 130), np.diag([1.5, 1.5, 1.5, 1]))
    grid.affine[:3, 3] = (-75, -135, -65)
    image = pull(template.image * template.mask, template.affine, grid, np.linalg.inv(MOVE))
    path = tmp_path_factory.mktemp("foreign") / "tpl-Moved_T1w.nii.gz"
    nib.save(nib.Nifti1Image(image, grid.affine), path)
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory, moved):
    """One head registered to the shipped template and to the moved one, and measured: the folder, and what was told."""
    folder, told = tmp_path_factory.mktemp("two"), {}
    for name, template in (("shipped", MNI), ("moved", str(moved))):
        (folder / name).mkdir()
        registered = run(make_head(), folder / name, SCAN, FAST.model_copy(update={"template": template}))
        measured = measure_scan(folder / name / "register" / SCAN, folder / name / "measure", SCAN, Measure())
        told[name] = registered, measured["volumes_mm3"]
    return folder, told


def brain_points():
    grid = brain_template(MNI).brain_grid(8.0)
    return grid.points()[:, brain_template(MNI).mask_on(grid) > 0.5]


@pytest.mark.parametrize(
    ("spacing", "shape"),
    [(1.0, (181, 217, 181)), (1.5, (121, 145, 121)), (2.0, (91, 109, 91)), (3.0, (61, 73, 61))],
)
def test_output_grids_of_mni_space(spacing, shape):
    grid = brain_template(MNI).study_grid(spacing)
    assert grid.shape == shape
    assert np.array_equal(
        grid.affine, [[spacing, 0, 0, -90], [0, spacing, 0, -126], [0, 0, spacing, -72], [0, 0, 0, 1]]
    )
    assert through(grid.affine, np.array(shape)[:, None] - 1).ravel() == pytest.approx(STUDY_BOX_MM[1])


def test_a_template_elsewhere_is_found_and_its_boxes_hold_its_brain(moved):
    template = brain_template(str(moved))
    points = brain_points()
    assert np.linalg.norm(through(template.from_mni, points) - through(MOVE, points), axis=0).max() < 0.5
    for grid in (template.study_grid(1.5), template.brain_grid(2.0)):
        low, high = grid.affine[:3, 3], grid.affine[:3, 3] + (np.array(grid.shape) - 1) * grid.spacing_mm
        assert (low <= template.extent_mm[0]).all() and (high >= template.extent_mm[1] - grid.spacing_mm).all()
        assert (
            dice(pull(template.mask.astype(np.float32), template.affine, grid) > 0.5, template.mask_on(grid) > 0.5) == 1
        )
    assert (np.array(template.study_grid(1.5).shape) >= study_grid(1.5).shape).all()


def test_regions_of_a_template_elsewhere_are_those_of_the_shipped_one(moved):
    template, labels = brain_template(str(moved)), read_labels()
    true = pull(np.isin(labels.volume, (1, 2)).astype(np.float32), labels.affine, still(template), np.linalg.inv(MOVE))
    found = bridge.labels_on(template, "shipped")
    mine = pull(np.isin(found.volume, (1, 2)).astype(np.float32), found.affine, still(template))
    assert dice(mine > 0.5, true > 0.5) > 0.93
    raw = pull(np.isin(labels.volume, (1, 2)).astype(np.float32), labels.affine, still(template))
    assert dice(raw > 0.5, true > 0.5) < 0.3  # as they were: nowhere near


def still(template):
    return Grid(template.image.shape, template.affine)


def test_volumes_do_not_depend_on_the_template(two):
    (_, shipped), (_, moved) = two[1]["shipped"], two[1]["moved"]
    for region in REGIONS:
        assert moved[region] == pytest.approx(shipped[region], rel=0.15 if "ento" in region else 0.05), (
            region
        )  # 3 mm voxels
    assert moved["intracranial"] == pytest.approx(shipped["intracranial"], rel=0.03)


def test_native_labels_lie_on_the_same_anatomy(two):
    folder, told = two
    maps = [
        np.asarray(
            nib.load(folder / name / "measure" / names.measured(SCAN, told[name][0]["template"])["labels"]).dataobj
        )
        for name in ("shipped", "moved")
    ]
    assert dice(*(np.isin(volume, (1, 2)) for volume in maps)) > 0.85


def test_every_name_holds_the_id(two):
    folder, told = two
    for name in ("shipped", "moved"):
        template = told[name][0]["template"]
        written = [p.name for step in ("register/" + SCAN, "measure") for p in (folder / name / step).iterdir()]
        assert len(written) == 11 and all(
            template in file for file in written
        )  # nine files, two of them with a sidecar
        assert told[name][0]["status"] == "pass"
    assert told["shipped"][0]["template"] == MNI
    assert told["moved"][0]["template"].startswith("tplMovedT1w") and told["moved"][0]["template"].isalnum()


def test_another_template_leaves_nothing_of_the_first(two, moved, tmp_path):
    folder, _ = two
    here = folder / "shipped"
    for name in ("convert", "register", "measure"):
        shutil.copytree(here / name, tmp_path / name)
    foreign = tmp_path / "register" / SCAN / f"{SCAN}_space-orig_desc-mine_T1w.nii.gz"
    foreign.touch()
    settings = FAST.model_copy(update={"template": str(moved)})
    told = register.register_converted(tmp_path / "convert" / SCAN, tmp_path / "register" / SCAN, SCAN, settings)
    assert names.read_verdict(tmp_path / "register" / SCAN, SCAN) == told and told["template"] != MNI
    left = list((tmp_path / "register" / SCAN).glob(f"*{MNI}*"))
    assert not left and foreign.exists()
    volumes = measure_scan(tmp_path / "register" / SCAN, tmp_path / "measure", SCAN, Measure())["volumes_mm3"]
    assert not list((tmp_path / "measure").glob(f"*{MNI}*"))
    assert volumes == pytest.approx(two[1]["moved"][1])  # computed, not the shipped template's read again


def test_two_verdicts_are_refused_and_none_is_told(tmp_path):
    with pytest.raises(BadInput, match="a registered scan"):
        names.read_verdict(tmp_path, SCAN)
    for template in ("A", "B"):
        (tmp_path / names.registered(SCAN, template)["qc"]).write_text("{}")
    with pytest.raises(BadInput, match="one template"):
        names.read_verdict(tmp_path, SCAN)
    (tmp_path / f"{SCAN}_qc.json").write_text("{}")  # the name before templates were told
    names.forget_others(tmp_path, SCAN, "B")
    assert names.verdict_path(tmp_path, SCAN).name == f"{SCAN}_space-B_qc.json"


def test_what_was_found_between_templates_is_kept(moved, monkeypatch):
    template = brain_template(str(moved))
    first = bridge.bridge(template)
    bridge.bridge.cache_clear()
    monkeypatch.setattr(bridge, "_register", lambda *a: pytest.fail("registered again"))
    again = bridge.bridge(template)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1].field, again[1].field)


def test_a_head_gives_the_same_template_with_its_mask_and_nearly_without(tmp_path):
    head = head_template()
    with_mask, alone = brain_template(str(HEAD_IMAGE), str(HEAD_MASK)), brain_template(str(HEAD_IMAGE))
    assert with_mask.id != alone.id
    for template in (with_mask, alone):
        assert dice(template.mask, head.mask) > 0.96 and not template.image[~template.mask].any()
        assert np.array_equal(template.from_mni, np.eye(4))  # Colin27 lies in MNI space: MNI's grids
        assert template.study_grid(1.5).shape == (121, 145, 121)


@pytest.mark.skipif(not DATA, reason="ELR_MRI_TEST_DATA is not set")
def test_the_mni152_head_is_a_template_in_mni_space():
    folder = Path(DATA) / "atlas"
    template = brain_template(str(folder / "MNI152_T1_1mm.nii.gz"), str(folder / "MNI152_T1_1mm_brain_mask.nii.gz"))
    assert np.array_equal(template.from_mni, np.eye(4)) and template.study_grid(1.5).shape == (121, 145, 121)
    alone = brain_template(str(folder / "MNI152_T1_1mm.nii.gz"))
    assert dice(template.mask, alone.mask) > 0.93


def test_what_is_no_brain_is_refused(tmp_path):
    index = np.indices((60, 70, 60)).astype(np.float32)
    ball = (sum((index[k] - n) ** 2 for k, n in enumerate((30, 35, 30))) < 23**2).astype(np.float32)
    nib.save(nib.Nifti1Image(ball, np.diag([3.0, 3, 3, 1])), tmp_path / "ball.nii.gz")
    with pytest.raises(BadInput, match=r"register\.template .*ball"):
        _ = brain_template(str(tmp_path / "ball.nii.gz")).from_mni
    nib.save(nib.Nifti1Image(ball, np.diag([1.0, 1, 1, 1])), tmp_path / "small.nii.gz")
    nib.save(nib.Nifti1Image(ball, np.diag([1.0, 1, 1, 1])), tmp_path / "mask.nii.gz")
    with pytest.raises(BadInput, match="litres"):
        brain_template(str(tmp_path / "small.nii.gz"), str(tmp_path / "mask.nii.gz"))


@pytest.mark.parametrize("content", [None, b"", b"no image", b"\x1f\x8b\x08 cut short"])
def test_a_template_that_cannot_be_read_is_one_line(tmp_path, content):
    path = tmp_path / "broken.nii.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput) as problem:
        brain_template(str(path))
    assert "\n" not in str(problem.value) and "broken.nii.gz" in str(problem.value)


# --- TemplateFlow -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flow(tmp_path_factory, moved):
    """A TemplateFlow folder with one template fetched, OASIS30ANTs, whose files are the moved one's; no network."""
    pytest.importorskip("templateflow")
    home = tmp_path_factory.mktemp("home") / "templateflow"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEMPLATEFLOW_HOME", str(home))
        patch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens there: refused at once
        foreign._client(str(home))
        fill(home, moved)
        yield home


def fill(home, moved):
    folder = home / "tpl-OASIS30ANTs"
    image = nib.load(moved)
    nib.save(image, folder / "tpl-OASIS30ANTs_res-01_T1w.nii.gz")
    mask = (np.asarray(image.dataobj) > 0.02).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, image.affine), folder / "tpl-OASIS30ANTs_res-01_desc-brain_mask.nii.gz")


def test_templateflow_gives_image_and_mask_without_the_network(flow):
    template_id, files = foreign.fetch("templateflow:OASIS30ANTs")
    assert template_id == "OASIS30ANTs"
    assert [f.name.split("_res-01_")[1] for f in files] == ["T1w.nii.gz", "desc-brain_mask.nii.gz"]
    assert foreign.fetch("templateflow:OASIS30ANTs:res-1") == (template_id, files)
    assert brain_template("templateflow:OASIS30ANTs").mask.sum() * 1.5**3 / 1e6 == pytest.approx(
        1.88 * 0.93**3, rel=0.1
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("templateflow:NoSuchTemplate", "MNI152NLin2009aSym"),
        ("templateflow:OASIS30ANTs:res-7", "res-01_T1w"),
        ("templateflow:MNIPediatricAsym", "cohort-1"),
        ("templateflow:OASIS30ANTs:first", "templateflow:<id>"),
        ("templateflow:../secret", "templateflow:<id>"),
        ("templateflow:MNI152NLin6Asym", "TEMPLATEFLOW_HOME"),
        ("templateflow:MNIPediatricAsym:res-1:cohort-2", "TEMPLATEFLOW_HOME"),
    ],
)
def test_what_templateflow_does_not_have_is_one_line(flow, name, told):
    with pytest.raises(BadInput) as problem:
        foreign.fetch(name)
    assert told in str(problem.value) and "\n" not in str(problem.value)
    for path in flow.rglob("*MNI152NLin6Asym_res-01_T1w.nii.gz"):
        assert path.stat().st_size == 0  # still counted as not fetched


def test_a_template_that_was_found_once_is_not_looked_up_again(flow, monkeypatch):
    first = foreign.fetch("templateflow:OASIS30ANTs")
    monkeypatch.setattr(foreign, "_client", lambda home: pytest.fail("looked up again"))
    assert foreign.fetch("templateflow:OASIS30ANTs") == first


def test_without_the_package_the_line_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "templateflow", None)
    monkeypatch.setitem(sys.modules, "templateflow.client", None)
    with pytest.raises(BadInput, match="pip install"):
        foreign.fetch("templateflow:OASIS30ANTs")


def test_a_file_cut_short_is_not_taken_for_whole(flow, monkeypatch):
    client = foreign._client(str(flow))
    (path,) = client.ls("MNI152NLin6Sym", suffix="T1w", resolution=1, extension=".nii.gz")

    def cut(*a, **k):
        path.write_bytes(b"half")
        raise ConnectionError("reset")

    monkeypatch.setattr(type(client), "get", cut)
    with pytest.raises(BadInput):
        foreign.fetch("templateflow:MNI152NLin6Sym")
    assert path.stat().st_size == 0


# --- one interpolation, the same bits ---------------------------------------------------------------------------------


def test_outputs_are_one_interpolation_of_the_native_scan():
    """A ramp comes through any number of linear interpolations, a wave through one loses what one loses."""
    rng = np.random.default_rng(0)
    native = Grid((100, 110, 100), np.diag([1.5, 1.5, 1.5, 1]))
    native.affine[:3, 3] = (-75, -85, -75)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", (7, 5, -4), degrees=True).as_matrix() * 1.02
    warp = smooth_warp(rng)
    points, grid = native.points(), Grid((60, 60, 60), np.diag([1.5, 1.5, 1.5, 1]))
    grid.affine[:3, 3] = (-45, -45, -45)
    once = 1.001 * (
        1 - np.cos(np.pi * 1.5 / 9)
    )  # what linear interpolation half way between voxels takes from the wave
    for wave, limit in ((lambda x: 0.01 * x[0] + 0.02 * x[1], 1e-4), (lambda x: np.sin(x[0] * 2 * np.pi / 9), once)):
        brain = wave(points).astype(np.float32)
        found = register.Registered(brain, brain, brain > 0, native.affine, matrix, warp)
        for written, through_warp in (
            (register.warped(found, grid), warp),
            (pull(brain, native.affine, grid, matrix), None),
        ):
            assert np.abs(written - wave(to_native(grid.points(), matrix, through_warp))).max() < limit


def smooth_warp(rng):
    grid = brain_template(MNI).brain_grid(8.0)
    points = grid.points()
    field = np.stack([2.5 * np.sin(points[k] / 20 + rng.uniform(0, 6)) for k in (1, 2, 0)]).astype(np.float32)
    return Warp(grid, field)


PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
import time
import elr_mri.imaging  # first, as the commands do: it says how many threads numpy takes
from pathlib import Path
from small_heads import make_head, run
head, folder = make_head(seed=1, warp_mm=2.0), Path(sys.argv[2])
folder.mkdir()
run(head, folder, "sub-1_ses-M000")
print(time.process_time() / time.thread_time())
"""


def another_process(folder, **threads):
    """Register a head in a process of its own; the CPU time of all its threads over that of the first, which is the CPU
    time per second of one that waits for nothing, and on a busy machine too."""
    unset = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS") and not k.startswith("ITK_")}
    command = [sys.executable, "-c", PROCESS, str(Path(__file__).parent), str(folder)]
    done = subprocess.run(command, env=unset | threads, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def test_two_processes_write_the_same_bits_and_use_the_threads_they_are_given(tmp_path):
    one = {"OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
    loads = [another_process(tmp_path / name, **threads) for name, threads in (("a", one), ("b", {}))]
    assert max(loads) < 1.05
    first, second = (sorted((tmp_path / name / "register" / SCAN).iterdir()) for name in ("a", "b"))
    assert [p.name for p in first] == [p.name for p in second] and len(first) == 8
    for here, there in zip(first, second, strict=True):
        if here.name.endswith("T1w.nii.gz.json"):
            assert read_json(here)["inputs"] == read_json(there)["inputs"]
        else:
            assert digest_file(here) == digest_file(there), here.name


def test_the_config_knows_the_mask():
    settings = config.Register(template="a.nii.gz", template_mask="m.nii.gz")
    assert settings.template_mask == "m.nii.gz" and config.Register().template_mask is None


def test_maps_of_the_label_space_are_those_of_the_template_for_its_own_labels(two):
    folder, told = two
    files, at = told["shipped"][0]["files"], folder / "shipped" / "register" / SCAN
    maps = read_affine(at / files["affine"]), read_warp(at / files["warp"]), read_warp(at / files["inverse_warp"])
    assert bridge.from_labels(brain_template(MNI), "shipped", *maps) == maps
