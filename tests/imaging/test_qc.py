"""The verdict refuses what is no whole T1 head, or a head that contradicts its header; each number is what it says."""

import numpy as np
import pytest
from small_heads import Head, make_head, run

from elr_mri.imaging.coverage import coverage, filled_slices
from elr_mri.imaging.grids import Grid, at, box
from elr_mri.imaging.qc import LIMITS, dice, outside, signal, slack, tissue, verdict
from elr_mri.imaging.template import MNI, brain_grid, brain_template, head_template

TEMPLATE = brain_template(MNI)
#: Contrasts as a function of T1 intensity, of which white matter is 1: air, fluid, grey matter, white matter, fat.
T1 = (0.0, 0.35, 0.72, 1.0, 1.4)
CONTRASTS = {
    "T2": (0.02, 1.0, 0.55, 0.35, 0.6),
    "FLAIR": (0.02, 0.1, 0.95, 0.75, 0.8),
    "PD": (0.02, 0.9, 0.9, 0.7, 0.8),
}
#: White matter in the head template and in the brain template.
WHITE = {"head": 0.93, "brain": 0.94}


def body(kind):
    """An image on a small head's grid that is no T1 of an upright head."""
    head = make_head(noise=0.02)
    rng = np.random.default_rng(0)
    x, y, z = head.grid.points() - np.array([0, -18, 10], dtype=np.float32)[:, None, None, None]
    radius = np.sqrt(x**2 + y**2 + z**2)
    noise = rng.normal(0, 10, head.grid.shape)
    if kind == "noise":
        image = rng.normal(500, 150, head.grid.shape)
    elif kind == "air":
        image = np.hypot(*rng.normal(0, 100, (2, *head.grid.shape)))
    elif kind == "cylinder":
        image = np.where(x**2 + y**2 < 80**2, 800, 10) + noise
    elif kind == "ball":
        image = np.where(radius < 75, 800, 10) + noise
    elif kind == "fruit":  # a rind, ten segments, a core
        flesh = 600 + 200 * np.cos(10 * np.arctan2(y, x))
        image = np.where(radius < 62, np.where(np.hypot(x, y) < 12, 250, flesh), np.where(radius < 72, 300, 5)) + noise
    elif kind in CONTRASTS:
        image = np.interp(head.image / 900 / WHITE["head"], T1, CONTRASTS[kind]) * 900 + 2 * noise
    else:
        axes = {"upside-down": (2,), "turned over": (1, 2), "back to front": (1,)}[kind]
        image = np.flip(head.image, axes)
    return Head(np.abs(image).astype(np.float32), head.grid, head.origin)


def halved(axis, side, share, *, zeros):
    """A head of which `share` of the brain is cut off at one side: outside the image, or filled with zeros."""
    head = make_head(noise=0.02)
    low, high = ((-72, 72), (-107, 73), (-50, 80))[axis]  # Colin27's brain, mm
    place = low + share * (high - low) if side < 0 else high - share * (high - low)
    cut = round((place - head.grid.affine[axis, 3]) / head.grid.spacing_mm[axis])
    lost = [slice(None)] * 3
    lost[axis] = slice(0, cut) if side < 0 else slice(cut, None)
    if zeros:
        image = head.image.copy()
        image[tuple(lost)] = 0
        return Head(image, head.grid, head.origin)
    left = [slice(None)] * 3
    left[axis] = slice(cut, None) if side < 0 else slice(0, cut)
    affine = head.grid.affine.copy()
    affine[axis, 3] += head.grid.spacing_mm[axis] * (cut if side < 0 else 0)
    image = np.ascontiguousarray(head.image[tuple(left)])
    return Head(image, Grid(image.shape, affine), head.origin)


def slow(*kinds):
    return [pytest.param(*np.atleast_1d(kind), marks=pytest.mark.slow) for kind in kinds]


@pytest.mark.parametrize(
    "kind",
    ["noise", "fruit", "upside-down", "T2", "FLAIR"]
    + slow("air", "cylinder", "ball", "turned over", "back to front", "PD"),
)
def test_what_is_no_upright_t1_head_fails(kind, tmp_path):
    told = run(body(kind), tmp_path, "sub-x_ses-M000")
    assert told["status"] == "fail" and told["reasons"]


HALVES = {
    "top": (2, 1),
    "bottom": (2, -1),
    "left": (0, -1),
    "right": (0, 1),
    "front": (1, 1),
    "back": (1, -1),
}
IN_CI = {("top", False), ("left", True)}


@pytest.mark.parametrize(
    "name, zeros",
    [
        pytest.param(name, zeros, marks=() if (name, zeros) in IN_CI else pytest.mark.slow)
        for name in HALVES
        for zeros in (False, True)
    ],
)
def test_a_half_covered_head_fails(name, zeros, tmp_path):
    told = run(halved(*HALVES[name], 0.5, zeros=zeros), tmp_path, "sub-x_ses-M000")
    assert told["status"] == "fail"


@pytest.mark.parametrize("zeros", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_slice_off_the_crown_is_seen(zeros, tmp_path):
    told = run(halved(2, 1, 0.12, zeros=zeros), tmp_path, "sub-x_ses-M000")
    assert told["status"] in ("review", "fail") and told["numbers"]["cut_cm2"] > LIMITS["cut_cm2"].review[1]


# each number


def on_template():
    grid = box((-90, -126, -80), (90, 96, 108), 2.0)
    return TEMPLATE.image_on(grid) + np.float32(0.01), TEMPLATE.mask_on(grid) > 0.5, grid


def test_a_whole_head_is_covered_and_half_of_it_is_half():
    volume, mask, grid = on_template()
    volume = volume + np.random.default_rng(0).uniform(0, 0.05, volume.shape).astype(np.float32)
    whole = coverage(TEMPLATE, volume, mask, grid.affine, np.eye(4))
    assert whole == {"covered": 1.0, "cut_cm2": 0.0}
    middle = round((0 - grid.affine[0, 3]) / 2.0)
    section_cm2 = mask[middle].sum() * 4 / 100
    emptied = volume.copy()
    emptied[:middle] = 0
    moved = grid.affine.copy()
    moved[0, 3] += 2.0 * middle
    for told in (
        coverage(TEMPLATE, emptied, mask, grid.affine, np.eye(4)),
        coverage(TEMPLATE, volume[middle:], mask[middle:], moved, np.eye(4)),
    ):
        assert told["covered"] == pytest.approx(0.5, abs=0.03) and told["cut_cm2"] == pytest.approx(section_cm2)


def test_lost_slices_inside_are_seen():
    volume, mask, grid = on_template()
    volume = volume + np.random.default_rng(0).uniform(0, 0.05, volume.shape).astype(np.float32)
    volume[:, 50:54] = volume[0, 0, 0]
    assert filled_slices(volume, 1).sum() == volume.shape[1] - 4
    told = coverage(TEMPLATE, volume, mask, grid.affine, np.eye(4))
    assert told["covered"] < 0.96 and told["cut_cm2"] > 100


def contrast(image):
    grid = brain_grid(3.0)
    still, inside = TEMPLATE.image_on(grid), TEMPLATE.mask_on(grid) > 0.5
    return tissue(still, image(still) * inside, inside.astype(np.float32), inside)


def test_tissue_contrast_is_that_of_the_image():
    t1 = contrast(lambda still: still)
    assert t1["white_over_grey"] > 1.2 and t1["grey_over_fluid"] > 1.5 and t1["joint_variation"] < 0.5
    for kind in CONTRASTS:
        other = contrast(lambda still, kind=kind: np.interp(still / WHITE["brain"], T1, CONTRASTS[kind]))
        assert outside("white_over_grey", other["white_over_grey"]) == "fail", kind
    t2 = contrast(lambda still: 1.2 - still)
    assert t2["grey_over_fluid"] < 1 and t2["joint_variation"] > 40
    scaled = contrast(lambda still: 7 * still)
    assert scaled["joint_variation"] == pytest.approx(t1["joint_variation"], rel=1e-3)
    assert contrast(np.zeros_like)["white_over_grey"] == 0


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_noise_is_that_which_was_added(share):
    rng = np.random.default_rng(0)
    head = head_template()
    brain = np.where(head.mask, head.image / np.median(head.image[head.mask & (head.image > 0.75)]), 0)
    volume = 500 * (np.where(head.mask, brain, 0) + rng.normal(0, share, brain.shape))
    told = signal(volume.astype(np.float32), brain, head.mask)
    assert told["noise"] == pytest.approx(share, rel=0.35)


def test_air_is_dark_in_a_head_and_bright_in_noise():
    head = make_head()
    mask = at(head_template().mask.astype(np.float32), head_template().affine, head.origin, mode="constant") > 0.5
    brain = np.where(mask, head.image / np.percentile(head.image[mask], 85), 0)
    assert outside("air", signal(head.image, brain, mask)["air"]) == "pass"
    noise = np.random.default_rng(0).normal(500, 100, mask.shape)
    assert outside("air", signal(noise, np.where(mask, noise / 500, 0), mask)["air"]) == "fail"


# the verdict


def good():
    return {name: (limit.review[0] + limit.review[1]) / 2 for name, limit in LIMITS.items()}


def test_verdict_levels():
    assert verdict(good()) == ("pass", [])
    for name, limit in LIMITS.items():
        low, high = limit.fail
        state, reasons = verdict(good() | {name: low - 1})
        assert state == "fail" and limit.words in reasons[0]
        assert verdict(good() | {name: high + 1})[0] == "fail"
        assert low <= limit.review[0] < limit.review[1] <= high
    between = LIMITS["local_correlation"].fail[0] + 0.01
    assert verdict(good() | {"local_correlation": between})[0] == "review"
    assert verdict(good() | {"local_correlation": between, "mask_dice": 0.0})[0] == "fail"
    assert verdict(good() | {"mask_dice": float("nan")})[0] == "fail"


def test_slack_orders_from_bad_to_good():
    limit = LIMITS["mask_dice"]
    values = (0.0, limit.fail[0], limit.review[0], 0.92)
    told = [slack(good() | {"mask_dice": value}) for value in values]
    assert told == sorted(told) and told[1] == pytest.approx(-1) and told[2] == pytest.approx(0)
    assert slack(good() | {"mask_dice": float("nan")}) < told[0]


def test_dice():
    a, b = np.zeros(10, bool), np.zeros(10, bool)
    a[:4], b[2:6] = True, True
    assert dice(a, a) == 1 and dice(a, b) == 0.5 and dice(b & ~b, b & ~b) == 0
