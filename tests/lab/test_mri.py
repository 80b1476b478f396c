"""The experiment on real scans and the label audit, on a packed toy study: what is told is what was done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_study import Study, write_study

from elr_mri.config import Elr, Lab, LabelAudit, Model, Predict, Train
from elr_mri.errors import BadInput
from elr_mri.findings import mislead
from elr_mri.lab.audit import audit, found, rank, read_runs
from elr_mri.lab.mri import mri, read_trial
from elr_mri.lab.truth import true_diagnoses
from elr_mri.learning.predict import predict
from elr_mri.learning.train import train
from elr_mri.provenance import read_json, record
from elr_mri.scans.labels import LABELS
from elr_mri.scans.table import CLASSES, SPLIT, read_scans


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_study(tmp_path_factory.mktemp("study"), n_subjects=24)


@pytest.fixture(scope="module")
def runs(study: Study, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    """Cross-entropy and ELR, trained with two wrong labels of fifteen."""
    folder = tmp_path_factory.mktemp("runs")
    scans = read_scans(study.scans).merge(SPLIT.read(study.splits), on=["cohort", "subject_id"])
    own = scans[scans["split"].isin(["train", "val"])][["scan_id", "cohort", "subject_id", "split", "diagnosis"]]
    own = own.assign(given=own["diagnosis"]).reset_index(drop=True)
    places = own.index[own["split"] == "train"][:2]
    own.loc[places, "given"] = [CLASSES[(CLASSES.index(d) + 1) % 3] for d in own.loc[places, "diagnosis"]]
    labels = folder / "labels.tsv"
    LABELS.write(own, labels)
    record(labels, step="lab", version=1, inputs={}, settings={"share": 0.13})
    models = {
        "ce": Model(network="wide", width=1, first_pool=False),
        "elr": Model(network="wide", width=1, first_pool=False, elr=Elr()),
    }
    settings = Train(models=models, epochs=3, batch_size=5, crop=35, shift_max=1, select="last", device="cpu")
    outs = [folder / name / "seed-0" for name in models]
    for out in outs:
        train(*study.paths, settings, slug=out.parent.name, seed=0, out_dir=out, labels_path=labels)
        predict([out], *study.paths, Predict(device="cpu"), output=out / "predictions.tsv")
    return outs, [labels, labels]


@pytest.fixture(scope="module")
def truth(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scans = read_scans(study.scans)
    path = tmp_path_factory.mktemp("truth") / "visits.tsv"
    told = scans.assign(subject=scans["subject_id"].str.removeprefix("sub-"), true_label=scans["diagnosis"])
    told.loc[told["cohort"] == "FAR", "true_label"] = "CN"  # where truth and table differ, truth counts
    told[["cohort", "subject", "months", "true_label"]].to_csv(path, sep="\t", index=False)
    return path


def test_the_experiment_is_told_as_it_was_done(study: Study, runs, truth: Path, tmp_path: Path) -> None:
    mri(*runs, study.scans, Lab(), truth_path=truth, out_dir=tmp_path)
    facts = read_json(tmp_path / "findings.json")
    assert facts["methods"] == ["ce", "elr"] and facts["judged_by"] == "true" and facts["epochs"] == 3
    assert facts["share"] == 0.13 and facts["realised"] == pytest.approx(2 / facts["n_training_scans"])
    results = pd.read_csv(tmp_path / "results.tsv", sep="\t")
    far = results[(results["split"] == "external") & (results["metric"] == "accuracy")].set_index("model")["value"]
    said = pd.read_csv(runs[0][1] / "predictions.tsv", sep="\t").query("split == 'external'")
    assert far["elr"] == pytest.approx((said[["p_cn", "p_mci", "p_ad"]].to_numpy().argmax(axis=1) == 0).mean())
    curves = pd.read_csv(tmp_path / "memorization.tsv", sep="\t")
    assert set(curves["n"]) == {2, facts["n_training_scans"] - 2} and len(curves) == 2 * 2 * 3
    assert all((tmp_path / "figures" / f"{name}.png").is_file() for name in ("memorization", "gradients", "scores"))
    told = mislead.read(tmp_path, None, tmp_path)
    assert len(told["memorized"]) == 2 and any("ELR against cross-entropy" in line for line in told["gained"])


def test_runs_of_other_labels_are_refused(runs, tmp_path: Path) -> None:
    table = LABELS.read(runs[1][0])
    LABELS.write(table.assign(given="CN"), tmp_path / "other.tsv")
    with pytest.raises(BadInput, match="was trained with"):
        read_trial(runs[0][0], tmp_path / "other.tsv")


def test_the_audit_ranks_by_what_the_targets_say(study: Study, runs, truth: Path, tmp_path: Path) -> None:
    told = read_runs([runs[0][1]])
    table = rank(told)
    assert table["disagreement"].is_monotonic_decreasing and sorted(table["scan_id"]) == sorted(told.scans["scan_id"])
    first = table.iloc[0]
    assert first["disagreement"] == pytest.approx(1 - first[f"t_{first['given'].lower()}"], abs=1e-5)
    (study.cache / "roi_volumes.tsv").write_text(volumes(study))
    path = audit([runs[0][1]], study.scans, study.cache, LabelAudit(shown=5), baseline_path=None, truth_path=truth, out_dir=tmp_path)  # fmt: skip
    assert len(pd.read_csv(path, sep="\t")) == len(table)
    assert read_json(tmp_path / "audit.json")["found"]["wrong"] == 2
    page = (tmp_path / "audit.html").read_text()
    assert page.count("<article") == 5 and first["scan_id"] in page and "data:image/jpeg" in page


def volumes(study: Study) -> str:
    columns = "hippocampus_left hippocampus_right entorhinal_left entorhinal_right hippocampus entorhinal intracranial"
    lines = ["\t".join(["scan_id", *columns.split(), "source", "note"])]
    lines += [
        "\t".join([scan, *["3000"] * 6, "1400000", "registered", ""]) for scan in read_scans(study.scans)["scan_id"]
    ]
    return "\n".join(lines) + "\n"


def test_runs_of_different_labels_are_not_averaged(study: Study, runs, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    table = pd.read_csv(runs[0][0] / "targets.tsv", sep="\t")
    table.assign(given="CN").to_csv(other / "targets.tsv", sep="\t", index=False)
    np.save(other / "trajectory.npy", np.load(runs[0][0] / "trajectory.npy"))
    with pytest.raises(BadInput, match="seed alone"):
        read_runs([runs[0][0], other])


def test_average_precision_is_one_where_all_wrong_ones_come_first() -> None:
    wrong = np.array([True] * 3 + [False] * 27)
    assert found(wrong, np.linspace(1, 0, 30)) == {"n": 30, "wrong": 3, "average_precision": 1.0, "precision_at_10_percent": 1.0}  # fmt: skip
    assert found(wrong, np.linspace(0, 1, 30))["precision_at_10_percent"] == 0


def test_a_scan_without_a_truth_is_refused(study: Study, truth: Path, tmp_path: Path) -> None:
    table = pd.read_csv(truth, sep="\t")
    table.iloc[1:].to_csv(tmp_path / "short.tsv", sep="\t", index=False)
    with pytest.raises(BadInput, match="the true diagnosis of every scan"):
        true_diagnoses(tmp_path / "short.tsv", read_scans(study.scans))
