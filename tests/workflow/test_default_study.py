"""What the default study has to show, measured against the planted truth. Slow: runs whole studies (or reuses `results/`)."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from studies import DEFAULT, ROOT, changed, run, truth

from elr_mri.findings.bootstrap import draw_scores, interval
from elr_mri.findings.metrics import METRICS, score
from elr_mri.imaging import names
from elr_mri.imaging.template import MNI
from elr_mri.phantom import heads
from elr_mri.scans.table import CLASSES

pytestmark = pytest.mark.slow
SIDES = [f"{region}_{side}" for region in ("hippocampus", "entorhinal") for side in ("left", "right")]


def finished(folder: Path, study: dict) -> Path:
    done = run(folder, study)
    assert done.returncode == 0, done.stdout[-4000:]
    return folder / "results"


@pytest.fixture(scope="module")
def results() -> Path:
    """The default study's results in this clone (`make demo`), made if they are not there."""
    done = run(ROOT, None)
    assert done.returncode == 0, done.stdout[-4000:]
    return ROOT / "results"


def balanced_accuracy(results: Path, model: str, label: str, split: str = "test") -> tuple[float, float, float, int]:
    """Value and 95 % subject-clustered interval against the truth's `label` column, and the number of scans."""
    table = pd.read_csv(results / model / "predictions.tsv", sep="\t").merge(truth(results), on="scan_id")
    table = table[table["split"] == split]
    labels = table[label].map(CLASSES.index).to_numpy()
    probabilities = table[["p_cn", "p_mci", "p_ad"]].to_numpy()
    draws = draw_scores(labels, [probabilities], table["subject_id"].to_numpy(), draws=2000, seed=0)
    low, high = interval(draws[0, list(METRICS).index("balanced_accuracy")], level=0.95)
    return score(labels, probabilities)["balanced_accuracy"], float(low), float(high), len(table)


def test_wide_age_elr_learns(results):
    value, low, _, n_scans = balanced_accuracy(results, "learning/wide-age-elr/seed-0", "true_label")
    assert n_scans >= 45 and value >= 0.45 and low > 1 / 3


def test_the_volume_baseline_is_as_hard_as_the_talk_s(results):
    table = pd.read_csv(results / "findings" / "tables" / "results.tsv", sep="\t")
    own = table[(table["model"] == "volumes") & (table["split"] == "test") & (table["metric"] == "accuracy")]
    assert 0.55 <= own["value"].item() <= 0.70


@pytest.mark.parametrize("region", SIDES)
def test_measured_volumes_follow_the_planted_ones(results, region):
    table = pd.read_csv(results / "imaging" / "pack" / "roi_volumes.tsv", sep="\t").merge(truth(results), on="scan_id")
    measured, planted = table[region] / table["intracranial"], table[f"{region}_mm3"] / table["intracranial_mm3"]
    correlation = np.corrcoef(measured, planted)[0, 1]
    if region.startswith("entorhinal"):
        assert correlation >= 0.6
    else:
        assert correlation >= 0.85 and 0.8 <= np.polyfit(planted, measured, 1)[0] <= 1.2


def test_saliency_lies_in_the_planted_regions(results):
    folder = results / "learning" / "explain" / "wide-age-elr"
    trained, random = (nib.load(folder / f"aggregate{kind}.nii.gz") for kind in ("", "_random"))
    anatomy = heads.load("colin27")
    lobes = [mask for name, mask in anatomy.regions.items() if name.startswith(("hippocampus", "entorhinal"))]
    planted = np.any(lobes, axis=0)
    index = np.stack(np.meshgrid(*map(np.arange, trained.shape), indexing="ij")).reshape(3, -1)
    points = trained.affine[:3, :3] @ index + trained.affine[:3, 3:4]

    def share(mask: np.ndarray) -> np.ndarray:
        smooth = ndimage.gaussian_filter(mask.astype(np.float32), 1.0)
        return ndimage.map_coordinates(smooth, anatomy.index(points), order=1).reshape(trained.shape)

    brain = share(anatomy.brain) > 0.5
    inside = share(planted) * brain
    mass = {
        name: (m.get_fdata() * inside).sum() / m.get_fdata()[brain].sum()
        for name, m in (("own", trained), ("random", random))
    }
    assert mass["own"] >= 1.5 * inside.sum() / brain.sum()
    assert mass["own"] >= 1.3 * mass["random"]


def test_without_an_effect_every_model_is_at_chance(tmp_path):
    results = finished(tmp_path, changed(phantom={"effect_scale": 0.0}))
    for model in ("findings/baseline", *(f"learning/{slug}/seed-0" for slug in DEFAULT["train"]["models"])):
        _, low, high, _ = balanced_accuracy(results, model, "true_label")
        assert low <= 1 / 3 <= high, model


@pytest.mark.skipif("ELR_MRI_TEST_DATA" not in os.environ, reason="ELR_MRI_TEST_DATA is not set: no real scans")
def test_a_study_of_six_real_brains_runs_through_and_finds_their_hippocampi(tmp_path):
    brains = sorted((Path(os.environ["ELR_MRI_TEST_DATA"]) / "malf").glob("*_T1.nii.gz"))[:6]
    anatomies = [{"image": str(p), "labels": str(p).replace("_T1", "_labels")} for p in brains]
    study = changed(
        phantom={"n_subjects": 36, "n_external": 6, "n_broken": 0, "spacing_mm": 1.5, "anatomies": anatomies}
    )
    study["train"]["epochs"] = 1
    study["train"]["models"] = {"wide-age-elr": DEFAULT["train"]["models"]["wide-age-elr"]}
    results = finished(tmp_path, study)
    status = pd.read_csv(results / "imaging" / "pack" / "status.tsv", sep="\t").set_index("scan_id")["status"]
    assert (status == "fail").mean() < 0.05
    overlaps = []
    for scan in truth(results).itertuples():
        if status[scan.scan_id] == "fail":
            continue
        manual = nib.as_closest_canonical(
            nib.load(next((results / "phantom" / "truth" / "labels").glob(f"*{scan.subject}_M{scan.months:03d}_*")))
        )
        ours = nib.load(results / "imaging" / "measure" / scan.scan_id / names.measured(scan.scan_id, MNI)["labels"])
        for number, theirs in ((1, 48), (2, 47)):
            a, b = np.asarray(ours.dataobj) == number, np.asarray(manual.dataobj) == theirs
            overlaps.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert np.mean(overlaps) >= 0.60
