"""The verdict refuses what is no head, or a head that contradicts its header."""

import numpy as np
import pytest
from small_heads import Head, make_head, run

from elr_mri.imaging.qc import LIMITS, dice, verdict


def body(kind):
    head = make_head(noise=0.02)
    rng = np.random.default_rng(0)
    points = head.grid.points()
    if kind == "noise":
        image = rng.normal(500, 150, head.grid.shape)
    elif kind == "cylinder":
        image = np.where(points[0] ** 2 + (points[1] + 18) ** 2 < 80**2, 800, 10) + rng.normal(0, 10, head.grid.shape)
    elif kind == "upside-down":
        image = head.image[:, :, ::-1]
    elif kind == "turned over":
        image = head.image[:, ::-1, ::-1]
    else:
        image = head.image[:, ::-1]
    return Head(np.ascontiguousarray(image, dtype=np.float32), head.grid, head.origin)


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("turned over", "back to front")]


@pytest.mark.parametrize("kind", ["noise", "cylinder", "upside-down", *SLOW])
def test_no_usable_head_fails(kind, tmp_path):
    told = run(body(kind), tmp_path, "sub-x_ses-M000")
    assert told["status"] == "fail" and told["reasons"]


def good():
    return {name: (limit.review[0] + limit.review[1]) / 2 for name, limit in LIMITS.items()}


def test_verdict_levels():
    assert verdict(good()) == ("pass", [])
    for name, limit in LIMITS.items():
        state, reasons = verdict(good() | {name: limit.fail[0] - 1})
        assert state == "fail" and limit.words in reasons[0]
    between = LIMITS["local_correlation"].fail[0] + 0.01
    assert verdict(good() | {"local_correlation": between})[0] == "review"
    assert verdict(good() | {"local_correlation": between, "mask_dice": 0.0})[0] == "fail"
    assert verdict(good() | {"mask_dice": float("nan")})[0] == "fail"


def test_dice():
    a, b = np.zeros(10, bool), np.zeros(10, bool)
    a[:4], b[2:6] = True, True
    assert dice(a, a) == 1 and dice(a, b) == 0.5 and dice(b & ~b, b & ~b) == 0
