"""What the page on ROI tables says is true of the noise, the seeds and the scans that it tells of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from elr_mri.cli import app
from elr_mri.config import Noise, Tables
from elr_mri.lab.roi import RoiTable
from elr_mri.lab.table_page import draw_accuracies, summary
from elr_mri.lab.table_scores import differences, results
from elr_mri.phantom.roi_tables import roi_tables
from elr_mri.scans.table import CLASSES

SMALL = {"n_train": 30, "n_val": 20, "n_test": 20, "n_external": 20}
TINY = {
    "phantom": SMALL, "methods": ["ce"], "shares": [0.2], "seeds": [0], "trial_seeds": 1, "hidden": [4], "draws": 100, "normalise": "none",
    "fit": {"epochs": 1}, "grids": {"ce": [{"weight_decay": 0.01}]},
}  # fmt: skip
TABLE = RoiTable(pd.DataFrame(), ("left-hippocampus",), {}, {})


def page(noise: Noise, n_seeds: int, *, recall_ad: float = 0.5, gain: float = 0.1, whose: str = "a table") -> str:
    rng = np.random.default_rng(0)
    own = Tables(methods=("ce", "elr"), shares=(0.4,), seeds=tuple(range(n_seeds)))
    points, draws = np.full(n_seeds, 0.5), 0.5 + 0.01 * rng.normal(size=(n_seeds, 200))
    scored = {
        (m, 0.4, "test", reading): (points + more, draws + more)
        for m, more in (("ce", 0.0), ("elr", gain), ("ce untuned", 0.0), ("elr untuned", gain))
        for reading in ("last", "selected")
    }
    told = results(scored, seed=0, level=0.95).assign(n_scans=9, n_subjects=3, recall_cn=0.5, recall_mci=0.5, recall_ad=recall_ad)  # fmt: skip
    found = differences(scored, own.methods, seed=0, level=0.95)
    trials = pd.DataFrame([{"method": "ce", "share": 0.4, "keys": "", "chosen": 1}])
    return summary(told, found, trials, TABLE, own, noise=noise, whose=whose)


def test_scores_that_are_the_same_in_every_draw_are_drawn(tmp_path: Path) -> None:
    """A network that says CN and AD alone scores 2/3 in each; the interval's ends may then miss it by a rounding error."""
    third = {"balanced_accuracy": 2 / 3, "low": np.nextafter(2 / 3, 1), "high": np.nextafter(2 / 3, 0)}
    lines = [{"method": "ce", "share": s, "split": "test", "reading": r, **third, "n_scans": 9, "n_subjects": 3} for s in (0.0, 0.4) for r in ("last", "selected")]  # fmt: skip
    draw_accuracies(pd.DataFrame(lines), ["ce"], tmp_path / "drawn")
    assert (tmp_path / "drawn.png").is_file() and (tmp_path / "drawn.svg").is_file()


@pytest.mark.parametrize(
    ("noise", "said", "unsaid"),
    [
        (Noise(), "Of the training and validation labels a share was moved to a neighbouring class.", "drawn anew"),
        (Noise(kind="symmetric"), "the true one among them", "neighbouring"),
        (Noise(kind="others", per="subject"), "two other classes, all scans of a subject together", "neighbouring"),
        (Noise(kind="asymmetric", map={1: 0}), f"{CLASSES[1]} became {CLASSES[0]}", "neighbouring"),
        (Noise(splits=("train",)), "Of the training labels a share", "chosen on validation labels made wrong"),
        (Noise(splits=()), "No label was made wrong", "chosen on validation labels made wrong"),
    ],
)
def test_the_page_says_which_labels_were_made_wrong(noise: Noise, said: str, unsaid: str) -> None:
    told = page(noise, 3)
    assert said in told and unsaid not in told


@pytest.mark.parametrize(
    ("n_seeds", "said"), [(1, "of one seed, with 95 % intervals over subjects alone"), (3, "means over 3 seeds")]
)
def test_the_page_says_what_its_intervals_are_over(n_seeds: int, said: str) -> None:
    told = page(Noise(), n_seeds)
    assert said in told and ("subjects and seeds" in told) == (n_seeds > 1)


@pytest.mark.parametrize(("n_seeds", "verdict"), [(1, False), (2, False), (3, True)])
def test_there_is_no_verdict_with_too_few_seeds(n_seeds: int, verdict: bool) -> None:
    told = page(Noise(), n_seeds)
    assert ("### Helps (4)" in told) == verdict and ("Helps" in told and "Holm p 0" in told) == verdict
    assert ("With fewer than 3 seeds there is no verdict" in told) != verdict
    assert "elr − ce +10.0" in told
    assert ("### Harms (4)" in page(Noise(), n_seeds, gain=-0.1)) == verdict


def test_a_class_without_scans_has_no_recall() -> None:
    told = page(Noise(), 3, recall_ad=np.nan)
    assert "50 / 50 / –" in told and "nan" not in told


def test_a_table_that_was_drawn_is_told_as_synthetic_and_one_that_is_named_is_not(tmp_path: Path) -> None:
    drawn = roi_tables(Tables.model_validate({"phantom": SMALL}).phantom, tmp_path / "own")
    for name, keys, synthetic in (("drawn", {}, True), ("named", {"path": str(drawn)}, False)):
        config = json.dumps({"tables": TINY | keys})
        done = CliRunner().invoke(app, ["lab", "tables", "--output", str(tmp_path / name), "--config", config])
        assert done.exit_code == 0, done.output
        assert json.loads((tmp_path / name / "findings.json").read_text())["synthetic"] is synthetic
        told = (tmp_path / name / "summary.md").read_text()
        assert ("Scans of a synthetic table" in told) == synthetic and ("of the config" in told) != synthetic
