"""`elr-mri lab noise`: wrong labels of a study's training and validation scans, counted, and of no other scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from elr_mri.cli import app
from elr_mri.config import Noise
from elr_mri.errors import BadInput
from elr_mri.lab.scan_noise import TRANSITIONS, count_transitions, noise
from elr_mri.provenance import read_json
from elr_mri.scans.labels import LABELS, replace_labels
from elr_mri.scans.predictions import PREDICTIONS, prediction_table
from elr_mri.scans.table import CLASSES, SCANS, SPLIT

N_SUBJECTS = 60
PARTS = ("train", "train", "train", "val", "test", "external", "unused")


@pytest.fixture
def study(tmp_path: Path) -> dict[str, Path]:
    """A study of 60 subjects with two scans each, their splits, and a reference model's predictions."""
    rows = [
        {
            "scan_id": f"sub-ADNI{i:03d}_ses-M{months:03d}", "cohort": "ADNI", "subject_id": f"sub-ADNI{i:03d}", "session_id": f"ses-M{months:03d}",
            "months": months, "age_years": 70, "diagnosis": CLASSES[(i + (months > 0 and i % 5 == 0)) % 3],
            "image_path": f"{i}.nii.gz", "image_uid": f"{i}-{months}",
        }
        for i in range(N_SUBJECTS) for months in (0, 12)
    ]  # fmt: skip
    scans = pd.DataFrame(rows).reindex(columns=[c.name for c in SCANS.columns])
    SCANS.write(scans, tmp_path / "scans.tsv")
    splits = pd.DataFrame({"cohort": "ADNI", "subject_id": scans["subject_id"].unique(), "fold": None})
    splits["split"] = [PARTS[i % len(PARTS)] for i in range(N_SUBJECTS)]
    SPLIT.write(splits, tmp_path / "splits.tsv")
    logits = np.random.default_rng(1).normal(size=(len(scans), 3))
    PREDICTIONS.write(
        prediction_table(scans.assign(split="train"), logits, model="reference", seed=0), tmp_path / "predictions.tsv"
    )
    return {name: tmp_path / f"{name}.tsv" for name in ("scans", "splits", "predictions")}


def made(study: dict[str, Path], output: Path, *, predictions: bool = False, truth: Path | None = None, **keys):
    noise(
        study["scans"], study["splits"], Noise(**keys), output=output,
        predictions_path=study["predictions"] if predictions else None, truth_path=truth,
    )  # fmt: skip
    return LABELS.read(output)


@pytest.mark.parametrize("kind", ["symmetric", "others", "adjacent", "instance"])
def test_only_training_and_validation_scans_change(study, tmp_path, kind):
    labels = made(study, tmp_path / "labels.tsv", kind=kind, predictions=kind == "instance")
    scans = SCANS.read(study["scans"]).merge(SPLIT.read(study["splits"])[["subject_id", "split"]], on="subject_id")
    assert set(labels["scan_id"]) == set(scans.loc[scans["split"].isin(["train", "val"]), "scan_id"])
    replaced = replace_labels(scans, tmp_path / "labels.tsv")
    changed = replaced["diagnosis"] != scans["diagnosis"]
    assert changed.sum() == (labels["given"] != labels["diagnosis"]).sum() > 0
    assert set(scans.loc[changed, "split"]) == {"train", "val"}


def test_what_was_drawn_and_what_is_wrong_is_told(study, tmp_path, capsys):
    labels = made(study, tmp_path / "labels.tsv", kind="symmetric", share=0.5)
    told = read_json(tmp_path / "labels.tsv.json")
    transitions = TRANSITIONS.read(tmp_path / "labels_transitions.tsv")
    for split, own in labels.groupby("split"):
        facts = told["splits"][split]
        wrong = (own["diagnosis"] != own["given"]).sum()
        assert facts["scans"] == len(own) and facts["wrong"] == wrong and facts["wrong_share"] == wrong / len(own)
        assert facts["drawn"] == facts["drawn_share"] * len(own) == pytest.approx(len(own) / 2, abs=1)
        assert wrong < facts["drawn"]  # some drew their own class
        counted = transitions[transitions["split"] == split]
        assert counted["n"].sum() == len(own)
        assert counted.loc[counted["diagnosis"] != counted["given"], "n"].sum() == wrong
    pd.testing.assert_frame_equal(count_transitions(labels), transitions, check_dtype=False)
    assert set(told["inputs"]) == {"scans", "splits"} and told["settings"]["share"] == 0.5
    said = capsys.readouterr().out
    assert f"{told['splits']['train']['wrong_share']:.1%} have a wrong label" in said and "CN to AD" in said


def test_training_labels_do_not_depend_on_whether_validation_labels_are_wrong(study, tmp_path):
    both = made(study, tmp_path / "both.tsv")
    alone = made(study, tmp_path / "alone.tsv", splits=("train",))
    assert set(alone["split"]) == {"train"}
    pd.testing.assert_frame_equal(both[both["split"] == "train"].reset_index(drop=True), alone)
    assert (both.loc[both["split"] == "val", "given"] != both.loc[both["split"] == "val", "diagnosis"]).any()


def test_all_visits_of_a_subject(study, tmp_path):
    labels = made(study, tmp_path / "labels.tsv", per="subject", share=0.5)
    wrong = (labels["given"] != labels["diagnosis"]).groupby(labels["subject_id"]).mean()
    assert set(wrong) == {0.0, 1.0}


def test_the_same_seed_writes_the_same_bytes(study, tmp_path):
    made(study, tmp_path / "a.tsv", seed=3)
    made(study, tmp_path / "b.tsv", seed=3)
    made(study, tmp_path / "c.tsv", seed=4)
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes() != (tmp_path / "c.tsv").read_bytes()


def test_labels_are_made_wrong_from_the_true_ones(study, tmp_path):
    scans = SCANS.read(study["scans"])
    truth = scans[["cohort", "months"]].assign(
        subject=scans["subject_id"].str.removeprefix("sub-ADNI").str.replace(r"^(.)", r"\1_S_", regex=True),
        true_label=scans["diagnosis"].map({"CN": "CN", "MCI": "CN", "AD": "MCI"}),
    )
    truth.to_csv(tmp_path / "visits.tsv", sep="\t", index=False)
    # the study's ADNI ids are 000_S_0001, of which the scan table keeps letters and digits
    renamed = scans.assign(
        subject_id=scans["subject_id"].str.replace(r"sub-ADNI(.)", r"sub-ADNI\1S", regex=True),
    )
    SCANS.write(renamed, study["scans"])
    splits = SPLIT.read(study["splits"])
    SPLIT.write(splits.assign(subject_id=renamed["subject_id"].unique()), study["splits"])
    labels = made(study, tmp_path / "labels.tsv", truth=tmp_path / "visits.tsv", share=0)
    assert set(labels["diagnosis"]) == {"CN", "MCI"} and (labels["given"] == labels["diagnosis"]).all()
    truth[truth["months"] > 0].to_csv(tmp_path / "visits.tsv", sep="\t", index=False)
    with pytest.raises(BadInput, match="true diagnosis of every scan"):
        made(study, tmp_path / "labels.tsv", truth=tmp_path / "visits.tsv")


def test_reference_predictions_must_be_of_one_model_and_of_every_scan(study, tmp_path):
    with pytest.raises(BadInput, match="--predictions"):
        made(study, tmp_path / "labels.tsv", kind="instance")
    table = PREDICTIONS.read(study["predictions"])
    PREDICTIONS.write(table.iloc[3:], study["predictions"])
    with pytest.raises(BadInput, match=r"none of sub-ADNI000_ses-M000 and \d+ more"):
        made(study, tmp_path / "labels.tsv", kind="instance", predictions=True)
    PREDICTIONS.write(pd.concat([table, table.assign(model="other")]), study["predictions"])
    with pytest.raises(BadInput, match="other, reference"):
        made(study, tmp_path / "labels.tsv", kind="instance", predictions=True)
    assert not (tmp_path / "labels.tsv").exists()


def test_the_command_takes_the_labs_section(study, tmp_path):
    arguments = ["--scans", study["scans"], "--splits", study["splits"], "--output", tmp_path / "labels.tsv"]
    config = '{"noise": {"kind": "asymmetric", "map": {"2": 1}, "share": 1, "splits": ["train"]}}'
    done = CliRunner().invoke(app, ["lab", "noise", *map(str, arguments), "--config", config])
    assert done.exit_code == 0 and "AD to MCI" in done.output
    labels = LABELS.read(tmp_path / "labels.tsv")
    assert set(labels["given"]) == {"CN", "MCI"} and set(labels["split"]) == {"train"}
