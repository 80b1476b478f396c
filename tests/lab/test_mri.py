"""The experiment on real scans and the label audit, on a packed toy study: what is told is what was done."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_study import Study, write_study

from elr_mri.config import METHODS, Elr, Evaluate, Lab, LabelAudit, Loss, Model, Noise, Predict, Train
from elr_mri.errors import BadInput
from elr_mri.findings import mislead
from elr_mri.lab.audit import audit, found, rank, read_runs
from elr_mri.lab.curves import logit_gradients
from elr_mri.lab.mri import findings, mri
from elr_mri.lab.trial_scores import scores
from elr_mri.lab.trials import Trial, read_trial, read_trials
from elr_mri.lab.truth import true_diagnoses
from elr_mri.learning.predict import predict
from elr_mri.learning.train import train
from elr_mri.provenance import read_json, record, write_json
from elr_mri.scans.labels import LABELS
from elr_mri.scans.predictions import P_COLUMNS
from elr_mri.scans.table import CLASSES, SPLIT, read_scans


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_study(tmp_path_factory.mktemp("study"), n_subjects=24)


@pytest.fixture(scope="module")
def runs(study: Study, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    """Cross-entropy and ELR, trained with two wrong labels of fifteen, labels smoothed and classes weighed by the study's own word."""
    folder = tmp_path_factory.mktemp("runs")
    scans = read_scans(study.scans).merge(SPLIT.read(study.splits), on=["cohort", "subject_id"])
    own = scans[scans["split"].isin(["train", "val"])][["scan_id", "cohort", "subject_id", "split", "diagnosis"]]
    own = own.assign(given=own["diagnosis"]).reset_index(drop=True)
    places = own.index[own["split"] == "train"][:2]
    own.loc[places, "given"] = [CLASSES[(CLASSES.index(d) + 1) % 3] for d in own.loc[places, "diagnosis"]]
    labels = folder / "labels.tsv"
    LABELS.write(own, labels)
    record(labels, step="lab", version=1, inputs={}, settings=Noise(share=0.13))
    models = {
        "ce": Model(network="wide", width=1, first_pool=False),
        "elr": Model(network="wide", width=1, first_pool=False, elr=Elr()),
    }
    study_wide = {"label_smoothing": 0.1, "class_weights": "balanced"}
    settings = Train(models=models, epochs=3, batch_size=5, crop=35, shift_max=1, select="last", device="cpu", **study_wide)  # fmt: skip
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
    assert facts["methods"] == ["ce", "elr"] and facts["judged_by"] == "true" and facts["shown_seed"] == 0
    assert facts["trained"]["elr"]["epochs"] == [3, 3] and facts["trained"]["elr"]["loss"]["elr"]["weight"] == 3
    assert facts["noise"] == {"kind": "adjacent", "per": "scan", "splits": ["train", "val"]}
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
    assert all(line.endswith("interval over subjects alone): one training of each; no verdict.") for line in told["gained"])  # fmt: skip
    assert [row["loss"] for row in told["trained"]] == [
        "cross-entropy, labels smoothed by 0.1, classes weighed alike",
        "ELR, λ 3, β 0.7, targets from its own outputs, labels smoothed by 0.1, classes weighed alike",
    ]
    seeds = pd.read_csv(tmp_path / "seeds.tsv", sep="\t")
    assert len(seeds) == 2 * 2 and {"method", "share", "seed", "cohort", "split", "balanced_accuracy"} <= set(seeds)
    assert seeds["realised"].to_numpy() == pytest.approx(facts["realised"], rel=1e-5)
    one = seeds.query("method == 'elr' and split == 'external'")["accuracy"].item()
    assert one == pytest.approx(far["elr"])


def test_runs_of_other_labels_are_refused(runs, tmp_path: Path) -> None:
    table = LABELS.read(runs[1][0])
    LABELS.write(table.assign(given="CN"), tmp_path / "other.tsv")
    with pytest.raises(BadInput, match="was trained with"):
        read_trial(runs[0][0], tmp_path / "other.tsv")


def test_a_trial_has_the_loss_that_it_was_trained_with(runs) -> None:
    """Smoothed labels and weighed classes stand in the study's settings, not in the model's."""
    trial = read_trial(runs[0][0], runs[1][0])
    assert trial.loss.label_smoothing == 0.1 and trial.class_weights == "balanced" and trial.loss.elr is None
    given = trial.targets["given"].map(CLASSES.index).to_numpy()
    weights = len(given) / (3 * np.bincount(given, minlength=3))
    steep, _ = logit_gradients(trial.said[0].astype(float), given, 0, Loss(label_smoothing=0.1), class_weights=weights)
    table = trial.curve("gradients")
    told = table[(table["epoch"] == 1) & (table["group"] == "wrong")]["gradient"].item()
    wrong = (trial.targets["given"] != trial.true).to_numpy()
    assert told == pytest.approx(np.linalg.norm(steep[wrong], axis=1).mean(), rel=1e-6)


def certain(trial: Trial, method: str, seed: int, right: bool) -> Trial:
    """A training that calls all unseen scans right, or all the next class."""
    table = trial.predictions.copy()
    said = (table["diagnosis"].map(CLASSES.index) + (0 if right else 1)) % 3
    table[list(P_COLUMNS)] = 0.05 + 0.85 * np.eye(3)[said]
    return replace(trial, method=method, seed=seed, predictions=table)


def gain(told: list[Trial]) -> pd.Series:
    table = scores(told, None)[1]
    return table[(table["split"] == "test") & (table["metric"] == "balanced_accuracy")].iloc[0]


def test_what_one_seed_of_three_undoes_is_no_gain(runs) -> None:
    """On every draw of subjects ELR gains in the mean of the three seeds, but not on every draw of seeds."""
    trial = read_trial(runs[0][0], runs[1][0])
    told = [certain(trial, "ce", seed, right=seed == 2) for seed in range(3)]
    told += [certain(trial, "elr", seed, right=seed != 2) for seed in range(3)]
    row = gain(told)
    assert row["difference"] == pytest.approx(1 / 3) and row["low"] == -1 and row["high"] == 1
    assert row["covers"] == "subjects and seeds" and row["n_seeds"] == 3
    facts = findings(told, scores(told, None)[1], judged="given")
    assert (
        "interval over subjects and seeds), mean of 3 trainings: a difference that cannot" in mislead.gained(facts)[0]
    )
    steady = [certain(trial, m, seed, right=m == "elr") for m in ("ce", "elr") for seed in range(3)]
    facts = findings(steady, scores(steady, None)[1], judged="given")
    assert mislead.gained(facts)[0].endswith(": more.")
    few = [t for t in steady if t.seed < 2]
    facts = findings(few, scores(few, None)[1], judged="given")
    assert mislead.gained(facts)[0].endswith("two trainings of each; no verdict.")


def test_a_difference_is_over_the_seeds_that_both_have(runs) -> None:
    trial = read_trial(runs[0][0], runs[1][0])
    told = [certain(trial, "ce", 0, right=False), certain(trial, "ce", 1, right=True), certain(trial, "elr", 1, right=True)]  # fmt: skip
    row = gain(told)
    assert row["difference"] == 0 and row["n_seeds"] == 1
    results = scores(told, None)[0]
    assert len(results[results["model"] == "ce"]) and set(results[results["model"] == "ce"]["n_seeds"]) == {2}
    assert len(scores(told[::2], None)[1]) == 0


def again(run: Path, labels: Path, folder: Path, *, seed: int, share: float) -> tuple[Path, Path]:
    """The same run as if of another seed and share."""
    folder.mkdir(parents=True)
    for name in ("targets.tsv", "trajectory.npy", "predictions.tsv"):
        shutil.copy(run / name, folder / name)
    write_json(folder / "model.json", read_json(run / "model.json") | {"seed": seed})
    shutil.copy(labels, folder / "labels.tsv")
    record(folder / "labels.tsv", step="lab", version=1, inputs={}, settings=Noise(share=share, seed=seed))
    return folder, folder / "labels.tsv"


def test_the_figures_show_a_seed_of_the_largest_share(study: Study, runs, tmp_path: Path) -> None:
    """Though the first run has another, that the largest share lacks."""
    first = (runs[0][0], runs[1][0])
    pairs = [again(*first, tmp_path / f"{share}-{seed}", seed=seed, share=share) for share, seed in ((0.1, 0), (0.4, 5), (0.4, 4))]  # fmt: skip
    out = tmp_path / "out"
    mri(*zip(*pairs, strict=True), study.scans, Lab(), truth_path=None, out_dir=out)
    assert (out / "figures" / "memorization.png").is_file() and read_json(out / "findings.json")["shown_seed"] == 5
    assert len(pd.read_csv(out / "seeds.tsv", sep="\t")) == 3 * 2


def test_runs_that_cannot_stand_beside_each_other_are_refused(runs, tmp_path: Path) -> None:
    (ce, elr), (labels, _) = runs
    with pytest.raises(BadInput, match="one run of each method, share and seed"):
        read_trials([ce, ce], [labels, labels])
    with pytest.raises(BadInput, match="a label table for each"):
        read_trials([ce], [])
    other = tmp_path / "other.tsv"
    other.write_bytes(labels.read_bytes())
    with pytest.raises(BadInput, match="how they were made wrong"):
        read_trials([ce], [other])
    record(other, step="lab", version=1, inputs={}, settings=Noise(share=0.13, kind="others"))
    with pytest.raises(BadInput, match="another kind"):
        read_trials([ce, elr], [labels, other])


def test_labels_of_validation_alone_leave_the_training_scans_their_own(study: Study, runs, tmp_path: Path) -> None:
    table = LABELS.read(runs[1][0])
    only = table[table["split"] == "val"].reset_index(drop=True)
    settings = Noise(share=0.13, splits=("val",))
    for name, given in (("labels", only["diagnosis"]), ("others", pd.Series("CN", only.index))):
        LABELS.write(only.assign(given=given), tmp_path / f"{name}.tsv")
        record(tmp_path / f"{name}.tsv", step="lab", version=1, inputs={}, settings=settings)
    train_settings = Train(
        models={"ce": Model(network="wide", width=1, first_pool=False)},
        epochs=1, batch_size=5, crop=35, shift_max=1, select="last", device="cpu",
    )  # fmt: skip
    out = tmp_path / "ce"
    train(*study.paths, train_settings, slug="ce", seed=0, out_dir=out, labels_path=tmp_path / "labels.tsv")
    predict([out], *study.paths, Predict(device="cpu"), output=out / "predictions.tsv")
    trial = read_trial(out, tmp_path / "labels.tsv")
    assert trial.realised == 0 and trial.true.notna().all() and trial.noise.splits == ("val",)
    mri([out], [tmp_path / "labels.tsv"], study.scans, Lab(), truth_path=None, out_dir=tmp_path / "lab")
    assert read_json(tmp_path / "lab" / "findings.json")["last_epoch_of_wrong_labels"] == {}
    with pytest.raises(BadInput, match="was trained with"):
        read_trial(out, tmp_path / "others.tsv")


def test_every_loss_is_said_in_words() -> None:
    plus = METHODS["elr-plus"].model_dump(mode="json", exclude_none=True)
    assert mislead.described(plus, "none") == (
        "ELR+, λ 3, β 0.7, targets from the other network's averaged weights, decay of averaged weights 0.997, mixup α 1"
    )
    stops = METHODS["early-stopping"].model_dump(mode="json", exclude_none=True)
    assert mislead.described(stops, "none") == "cross-entropy, stops after 5 epochs without a better validation"
    for loss in METHODS.values():
        assert mislead.described(loss.model_dump(mode="json", exclude_none=True), "balanced")


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


def test_intervals_have_the_draws_seed_and_level_of_evaluate(runs) -> None:
    trial = read_trial(runs[0][0], runs[1][0])
    unseen = trial.predictions[trial.predictions["split"] == "test"]
    copies = [unseen.assign(**{k: unseen[k] + f"x{n}" for k in ("scan_id", "subject_id")}) for n in range(20)]
    table = pd.concat(copies, ignore_index=True)
    table[list(P_COLUMNS)] = np.random.default_rng(0).dirichlet(np.ones(3), len(table))
    trial = replace(trial, predictions=table)
    wide, narrow, other = (
        scores([trial], None, Evaluate(draws=100, level=level, seed=seed))[0]
        for level, seed in ((0.99, 0), (0.6, 0), (0.6, 1))
    )
    lead = [table.query("metric == 'macro_auc'").iloc[0] for table in (wide, narrow, other)]
    assert [row["level"] for row in lead] == [0.99, 0.6, 0.6]
    assert lead[0]["high"] - lead[0]["low"] > lead[1]["high"] - lead[1]["low"]
    assert (lead[1]["low"], lead[1]["high"]) != (lead[2]["low"], lead[2]["high"])
