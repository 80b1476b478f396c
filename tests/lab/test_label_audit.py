"""The label audit: an ordinal model that reckons with wrong labels, both opinions as one, and what a study may lack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import strict_page
import torch
from toy_study import Study, write_study

from elr_mri.config import LabelAudit
from elr_mri.findings import baseline
from elr_mri.lab.audit import Runs, Volumes, ask_volumes, audit, found, network_weight, pool, rank, read_runs
from elr_mri.lab.ordinal import adjacent, fit_ordinal
from elr_mri.learning.trajectory import write_trajectory
from elr_mri.provenance import read_json, write_json
from elr_mri.scans.table import CLASSES, read_scans

REGIONS = ("hippocampus_left", "hippocampus_right", "entorhinal_left", "entorhinal_right", "hippocampus", "entorhinal")


def people(n: int, share: float, seed: int, noise: float = 0.35) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features that tell severity, true classes, and given ones of which a share is a neighbour's."""
    rng = np.random.default_rng(seed)
    severity = rng.normal(size=n)
    features = np.column_stack([severity + noise * rng.normal(size=n), rng.normal(size=n)])
    true = np.digitize(severity, [-0.4, 0.4])
    wrong = rng.random(n) < share
    return features, true, np.where(wrong, np.where(true == 1, rng.choice([0, 2], n), 1), true)


def test_the_model_finds_the_severity_and_the_share_of_wrong_labels():
    features, true, given = people(4000, 0.2, 0)
    model = fit_ordinal(features, given, 3)
    assert abs(model.weights[0]) > 20 * abs(model.weights[1])
    assert model.noise == pytest.approx(0.2, abs=0.04)
    told = model.likely(features)
    np.testing.assert_allclose(told.sum(axis=1), 1, atol=1e-6)
    assert (told.argmax(axis=1) == true).mean() > 0.75
    assert (np.diff(model.cuts) > 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_it_ranks_wrong_labels_better_than_a_logistic_regression_of_the_labels(seed):
    from sklearn.linear_model import LogisticRegression

    features, true, given = people(120, 0.2, seed)
    model, rows = fit_ordinal(features, given, 3), np.arange(len(given))
    plain = LogisticRegression().fit(features, given).predict_proba(features)[rows, given]
    ours = model.posterior(features, given)[rows, given]
    wrong = true != given
    assert found(wrong, 1 - ours)["average_precision"] > found(wrong, 1 - plain)["average_precision"] + 0.02


def test_neighbours_take_the_noise_alike():
    np.testing.assert_allclose(adjacent(0.2, 3), [[0.8, 0.2, 0], [0.1, 0.8, 0.1], [0, 0.2, 0.8]])
    np.testing.assert_allclose(adjacent(0.3, 5).sum(axis=1), 1)


def test_a_class_that_nobody_was_given_and_blank_features_do_not_stop_it():
    features, _, given = people(60, 0.2, 1)
    features[:5, 0] = np.nan
    model = fit_ordinal(features, np.minimum(given, 1), 3)
    assert np.isfinite(model.posterior(features, np.minimum(given, 1))).all()


def test_both_opinions_count_and_a_blank_one_does_not():
    network, volumes = np.array([[0.2, 0.6, 0.2]] * 3), np.array([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [np.nan] * 3])
    both = pool(network, volumes, 0.5)
    np.testing.assert_allclose(both.sum(axis=1), 1)
    assert both[0, 0] < 0.7 and both[0, 1] > 0.2  # the network pulls
    assert both[1, 1] > 0.6  # who agrees is surer together
    np.testing.assert_allclose(both[2], network[2])


def opinions(targets: np.ndarray, given: np.ndarray, features: np.ndarray) -> tuple[Runs, Volumes]:
    """What a network and the volumes say of scans without subjects."""
    names = [f"s{i}" for i in range(len(given))]
    scans = pd.DataFrame({"scan_id": names, "cohort": "A", "subject_id": names, "given": np.array(CLASSES)[given]})
    model = fit_ordinal(features, given, 3)
    doubts = model.likely(features).argmax(axis=1) != given
    return Runs(scans, targets, targets[None]), Volumes(model.posterior(features, given), model, (), doubts)


@pytest.mark.parametrize("seed", range(3))
def test_a_network_weighs_as_much_as_it_knows(seed):
    features, true, given = people(300, 0.2, seed)
    eye, rng = np.eye(3), np.random.default_rng(seed)
    memorized = 0.9 * eye[given] + 0.1 / 3
    knows = 0.6 * eye[true] + 0.4 / 3
    constant = np.tile([0.05, 0.9, 0.05], (len(given), 1))
    random = rng.dirichlet(np.ones(3), len(given))
    weights = {
        name: network_weight(*opinions(targets, given, features))
        for name, targets in {"memorized": memorized, "knows": knows, "constant": constant, "random": random}.items()
    }
    assert weights["memorized"] == 0 and weights["constant"] < 0.15 and weights["random"] < 0.15
    assert weights["knows"] > 0.3
    wrong, rows = true != given, np.arange(len(given))
    found_by = {}
    for name, targets in {
        "none": np.full((300, 3), 1 / 3),
        "knows": knows,
        "constant": constant,
        "random": random,
    }.items():
        runs, volumes = opinions(targets, given, features)
        both = pool(targets, volumes.said, network_weight(runs, volumes))
        found_by[name] = found(wrong, 1 - both[rows, given])["average_precision"]
    assert found_by["knows"] > found_by["none"] + 0.03
    assert min(found_by["constant"], found_by["random"]) > found_by["none"] - 0.06


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_study(tmp_path_factory.mktemp("study"), n_subjects=24)


def told_of(study: Study, folder: Path, *, epochs: int = 4, seed: int = 0) -> Path:
    """A model folder as far as the audit reads it."""
    scans = read_scans(study.scans).head(12)
    rng = np.random.default_rng(seed)
    said = torch.from_numpy(rng.dirichlet(np.ones(3), (epochs, len(scans))).astype(np.float32))
    folder.mkdir(parents=True)
    write_trajectory(folder, scans, said, said.mean(dim=0))
    write_json(folder / "model.json", {"slug": "wide-elr"})
    return folder


def write_volumes(study: Study, **blank: list[int]) -> None:
    """`roi_volumes.tsv` in which some scans lack some volumes."""
    table = pd.DataFrame({"scan_id": read_scans(study.scans)["scan_id"]})
    for number, region in enumerate((*REGIONS, "intracranial")):
        table[region] = 1_400_000.0 if region == "intracranial" else 3000.0 + 7 * np.arange(len(table)) + number
        table.loc[blank.get(region, []), region] = np.nan
    table.assign(source="registered", note="").to_csv(study.cache / "roi_volumes.tsv", sep="\t", index=False)


def reference() -> dict:
    lines = {r: {"intercept": 0.002, "slope_per_year": 0.0, "residual_deviation": 1e-4} for r in REGIONS[:2]}
    return {
        "version": baseline.VERSION,
        "source": "registered",
        "normalisation": {"method": "ratio"},
        "reference": {"age_years": [60, 75], "regions": lines},
    }


def test_blank_volumes_and_a_study_without_a_wrong_label_are_told(study: Study, tmp_path: Path):
    write_volumes(study, intracranial=[0], **{r: [1, 2] if r == "hippocampus_left" else [2] for r in REGIONS})
    write_json(tmp_path / "baseline.json", reference())
    scans = read_scans(study.scans)
    truth = tmp_path / "visits.tsv"
    told = scans.assign(subject=scans["subject_id"].str.removeprefix("sub-"), true_label=scans["diagnosis"])
    told[["cohort", "subject", "months", "true_label"]].to_csv(truth, sep="\t", index=False)
    run = told_of(study, tmp_path / "run")
    path = audit([run], study.scans, study.cache, LabelAudit(), baseline_path=tmp_path / "baseline.json", truth_path=truth, out_dir=tmp_path)  # fmt: skip
    table, facts = pd.read_csv(path, sep="\t"), read_json(tmp_path / "audit.json")
    assert len(table) == 12 and facts["found"] == {"n": 12, "wrong": 0, "average_precision": None, "precision_at_10_percent": 0}  # fmt: skip
    blank = table["v_cn"].isna()
    assert set(table.loc[blank, "scan_id"]) == {scans["scan_id"][0], scans["scan_id"][2]}
    assert (table.loc[blank, "disagreement"] == table.loc[blank, "disagreement_network"]).all()
    page = (tmp_path / "audit.html").read_text()
    assert page.count("<article") == 12 and "img-src data:;" in strict_page.check(page)


def test_seeds_that_stopped_at_different_epochs_are_taken_together(study: Study, tmp_path: Path):
    long, short = told_of(study, tmp_path / "a", epochs=6), told_of(study, tmp_path / "b", epochs=3, seed=1)
    said = [np.load(folder / "trajectory.npy") for folder in (long, short)]
    runs = read_runs([long, short])
    np.testing.assert_allclose(runs.said[2], (said[0][2] + said[1][2]) / 2, atol=1e-6)
    np.testing.assert_allclose(runs.said[5], (said[0][5] + said[1][2]) / 2, atol=1e-6)


def test_without_volumes_the_network_stands_alone():
    scans = pd.DataFrame({"scan_id": ["a", "b"], "cohort": "A", "subject_id": ["s", "t"], "given": ["CN", "AD"]})
    targets = np.array([[0.1, 0.8, 0.1], [0.0, 0.1, 0.9]])
    table = rank(Runs(scans, targets, targets[None]))
    assert table["scan_id"].tolist() == ["a", "b"] and table["suggested"].tolist() == ["MCI", "AD"]
    assert table["disagreement"].tolist() == pytest.approx([0.9, 0.1])
    blank = pd.DataFrame({"scan_id": ["a", "b"], **dict.fromkeys((*REGIONS, "intracranial"), np.nan)})
    assert ask_volumes(scans.assign(age_years=70.0), blank) is None


def test_the_page_says_suggested_only_where_it_differs(study: Study, tmp_path: Path):
    write_volumes(study)
    run = told_of(study, tmp_path / "run")
    audit([run], study.scans, study.cache, LabelAudit(), baseline_path=None, truth_path=None, out_dir=tmp_path)
    table = pd.read_csv(tmp_path / "audit.tsv", sep="\t")
    assert set(table["suggested"]) <= set(CLASSES)
    assert (tmp_path / "audit.html").read_text().count("suggested <b>") == (table["suggested"] != table["given"]).sum()
