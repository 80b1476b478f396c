"""Every way to learn from wrong labels in the training loop of scans: by a word of the configuration, continued after a kill, predicted with."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from toy_study import SHAPE, Study

from elr_mri.config import METHODS, Elr, Explain, Gce, Predict, Sop, Train, parse
from elr_mri.errors import BadInput
from elr_mri.learning.card import card
from elr_mri.learning.checkpoint import load_model, read_facts
from elr_mri.learning.elr import MARGIN
from elr_mri.learning.explain import explain
from elr_mri.learning.export import export
from elr_mri.learning.predict import predict
from elr_mri.learning.run import Run
from elr_mri.learning.train import train
from elr_mri.learning.trajectory import read_trajectory
from elr_mri.learning.twins import Twins
from elr_mri.scans.labels import LABELS
from elr_mri.scans.predictions import PREDICTIONS, Z_COLUMNS
from elr_mri.scans.table import CLASSES, SPLIT, join_splits, read_scans

T_COLUMNS = [f"t_{c.lower()}" for c in CLASSES]
WRITTEN = ("targets.tsv", "trajectory.npy", "model.json", "model.md")


def recipe(method: str, **more: Any) -> Train:
    """Settings with one model, of the name of its loss."""
    network = {"network": "wide", "width": 1, "age": "sinusoid", "first_pool": False, **more.pop("network", {})}
    model = {**network, **METHODS[method].model_dump(exclude_none=True), **more.pop("model", {})}
    shared = {"epochs": 2, "batch_size": 4, "crop": 35, "shift_max": 1, "precision": "float32", "device": "cpu"}
    return Train.model_validate({"models": {method: model}, **shared, **more})


def fit(study: Study, settings: Train, out: Path, **options: Any) -> Path:
    (slug,) = settings.models
    train(*study.paths, settings, slug=slug, seed=0, out_dir=out, **({"progress": lambda line: None} | options))
    return out


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "history.tsv", sep="\t").drop(columns="seconds")


@pytest.mark.parametrize("method", METHODS)
def test_every_loss_trains_by_its_word(study: Study, tmp_path: Path, method: str) -> None:
    out = fit(study, recipe(method), tmp_path)
    lines, (targets, said) = history(out), read_trajectory(out)
    assert len(lines) == 2 and np.isfinite(lines.to_numpy()).all()
    assert said.shape == (2, 9, 3) and said.dtype == np.float32
    np.testing.assert_allclose(said.sum(axis=2), 1, atol=1e-5)
    beta = METHODS[method].elr.beta if METHODS[method].elr else 0
    np.testing.assert_allclose(targets[T_COLUMNS].sum(axis=1), 1 - beta**2, atol=1e-5)
    assert isinstance(load_model(out).network, Twins) == (method in ("elr-networks", "elr-plus"))


def test_patience_ends_a_run_and_its_trajectory(study: Study, tmp_path: Path) -> None:
    settings = recipe("early-stopping", model={"patience": 1}, epochs=6, learning_rate=1e-9)
    fit(study, settings.model_copy(update={"class_weights": "none"}), tmp_path)
    lines, (_, said) = history(tmp_path), read_trajectory(tmp_path)
    assert len(said) == len(lines) < 6
    assert lines["val_ce"].argmin() == len(lines) - 2


def test_beside_averaged_weights_the_network_itself_is_recorded(study: Study, tmp_path: Path) -> None:
    """With λ 0 it is the network that cross-entropy trains: what is recorded of it must be the same, its targets the average's."""
    fit(study, recipe("ce"), tmp_path / "ce")
    beside = recipe("elr-weights", model={"elr": {"targets": "weights", "weight": 0.0, "beta": 0.0}})
    fit(study, beside, tmp_path / "beside")
    (_, plain), (targets, said) = (read_trajectory(tmp_path / name) for name in ("ce", "beside"))
    np.testing.assert_array_equal(said, plain)
    pd.testing.assert_frame_equal(history(tmp_path / "beside"), history(tmp_path / "ce"), check_exact=True)
    assert np.abs(targets[T_COLUMNS] - said[-1]).max(axis=None) > 1e-3


def test_the_targets_follow_from_what_was_said(study: Study, tmp_path: Path) -> None:
    """t ← β t + (1 − β) p̂ over the epochs, for the rows in the order of the table."""
    fit(study, recipe("elr", epochs=4), tmp_path)
    table, said = read_trajectory(tmp_path)
    expected = np.zeros((9, 3))
    for p in said.astype(float).clip(MARGIN, 1 - MARGIN):
        expected = 0.7 * expected + 0.3 * p / p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(table[T_COLUMNS], expected, atol=1e-6)
    scans = join_splits(read_scans(study.scans), SPLIT.read(study.splits))
    trained = scans[scans["split"] == "train"]
    assert table["scan_id"].tolist() == trained["scan_id"].tolist()
    assert table["given"].tolist() == trained["diagnosis"].tolist()


@pytest.mark.parametrize("method, steps", [("elr-plus", 4), ("sop", 2), ("sop", 4)])
def test_a_killed_run_continues_to_the_same_bits(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, steps: int
) -> None:
    """In the middle of an epoch of three steps, with both ramps."""
    ramped = {"targets": "both", "mixup": 1.0, "ramp_steps": 4, "ema_ramp_steps": 5}
    settings = recipe(method, save_minutes=0.0, model={"elr": ramped} if method == "elr-plus" else {})
    step, done = Run.step, []

    def counted(run: Run, rate: float, last: int) -> None:
        if len(done) == last:
            raise KeyboardInterrupt
        done.append(rate)
        step(run, rate)

    once = fit(study, settings, tmp_path / "once")
    monkeypatch.setattr(Run, "step", lambda run, rate: counted(run, rate, steps))
    with pytest.raises(KeyboardInterrupt):
        fit(study, settings, tmp_path / "twice")
    monkeypatch.setattr(Run, "step", lambda run, rate: counted(run, rate, 6))
    twice = fit(study, settings, tmp_path / "twice")
    assert len(done) == 6
    for name in ("model.safetensors", "state/resume.safetensors"):
        first, second = load_file(once / name), load_file(twice / name)
        assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first), name
    for folder in (once, twice):
        predict([folder], *study.paths, Predict(), output=folder / "predictions.tsv")
    for name in (*WRITTEN, "predictions.tsv"):
        assert (once / name).read_bytes() == (twice / name).read_bytes(), name
    pd.testing.assert_frame_equal(history(once), history(twice), check_exact=True)


@pytest.fixture(scope="module")
def twins(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(study, recipe("elr-plus"), tmp_path_factory.mktemp("twins"))


def test_two_networks_predict_the_mean_of_their_logits(study: Study, twins: Path, tmp_path: Path) -> None:
    predict([twins], *study.paths, Predict(batch_size=5), output=tmp_path / "p.tsv")
    model, volumes = load_model(twins), torch.from_numpy(np.load(study.cache / "volumes.npy"))[:, None]
    ages = torch.arange(60.0, 78)
    with torch.inference_mode():
        crops = model.centre(volumes)
        said = [member(crops, ages) for member in model.network.members]
    assert not torch.allclose(*said, atol=1e-4)
    table = PREDICTIONS.read(tmp_path / "p.tsv")
    z = (said[0] + said[1]) / 2
    np.testing.assert_allclose(table[list(Z_COLUMNS)].astype(float), z, atol=1e-5)


def test_two_networks_are_explained(study: Study, twins: Path, tmp_path: Path) -> None:
    import nibabel as nib

    explain(twins, *study.paths, Explain(split="test"), output_dir=tmp_path)
    assert nib.load(tmp_path / "aggregate.nii.gz").shape == SHAPE
    assert nib.load(tmp_path / "aggregate.nii.gz").get_fdata().sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("form", ["onnx", "bundle"])
def test_two_networks_are_exported_as_one_file(twins: Path, tmp_path: Path, form: str) -> None:
    if form == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    export(twins, form=form, output=tmp_path / "out")  # which compares it with the model before it is published
    assert (tmp_path / "out").exists()


def test_the_card_tells_of_two_networks_and_of_the_loss(twins: Path) -> None:
    text = card(read_facts(twins))
    assert "2 such networks" in text and "mean of their logits" in text
    assert "model.elr" in text and "'targets': 'both'" in text


@pytest.mark.parametrize("network", ["resnet18", "alexnet"])
def test_other_networks_learn_with_elr_plus(study: Study, tmp_path: Path, network: str) -> None:
    settings = recipe("elr-plus", epochs=1, network={"network": network})
    fit(study, settings, tmp_path)
    targets, said = read_trajectory(tmp_path)
    assert np.isfinite(said).all() and len(targets) == 9
    np.testing.assert_allclose(targets[T_COLUMNS].sum(axis=1), 0.3, atol=1e-5)


def write_labels(study: Study, path: Path, *, splits: tuple[str, ...] = ("train", "val")) -> pd.DataFrame:
    """Some scans are given the next class; every class remains."""
    scans = join_splits(read_scans(study.scans), SPLIT.read(study.splits))
    table = scans.loc[scans["split"].isin(splits), ["scan_id", "cohort", "subject_id", "split", "diagnosis"]]
    table = table.reset_index(drop=True)
    wrong = table["diagnosis"].map(lambda name: CLASSES[(CLASSES.index(name) + 1) % 3])
    table["given"] = table["diagnosis"].where(table.index % 4 > 0, wrong)
    LABELS.write(table, path)
    return table


def test_given_labels_are_what_is_trained_on(study: Study, tmp_path: Path) -> None:
    settings = recipe("elr", epochs=1)
    labels = write_labels(study, tmp_path / "labels.tsv")
    wrong = fit(study, settings, tmp_path / "wrong", labels_path=tmp_path / "labels.tsv")
    table, _ = read_trajectory(wrong)
    expected = labels.set_index("scan_id")["given"]
    assert table["given"].tolist() == expected[table["scan_id"]].tolist()
    right = fit(study, settings, tmp_path / "right")
    flipped = labels[labels["given"] != labels["diagnosis"]]
    assert set(flipped["split"]) == {"train", "val"}
    assert (table["given"] != read_trajectory(right)[0]["given"]).sum() == (flipped["split"] == "train").sum()
    keys = ("train_scans", "val_scans")
    told = [read_facts(folder)["data"] for folder in (wrong, right)]
    assert all(told[0][key] != told[1][key] for key in keys)
    assert "labels were replaced" in (wrong / "model.md").read_text()
    assert "labels were replaced" not in (right / "model.md").read_text()
    with pytest.raises(BadInput, match=r"the training state of this run \(data\.labels None"):
        fit(study, settings, tmp_path / "wrong")
    changed = labels.assign(given=labels["given"].where(labels.index != 1, "CN"))
    LABELS.write(changed, tmp_path / "labels.tsv")
    with pytest.raises(BadInput, match=r"the training state of this run \(data\.labels"):
        fit(study, settings, tmp_path / "wrong", labels_path=tmp_path / "labels.tsv")


def test_labels_of_test_and_external_scans_are_refused(study: Study, tmp_path: Path) -> None:
    for split in ("test", "external"):
        write_labels(study, tmp_path / f"{split}.tsv", splits=("train", split))
        with pytest.raises(BadInput, match="labels of training and validation scans"):
            fit(study, recipe("ce"), tmp_path / "out", labels_path=tmp_path / f"{split}.tsv")
    table = write_labels(study, tmp_path / "told.tsv", splits=("train", "test"))
    LABELS.write(table.assign(split="train"), tmp_path / "told.tsv")  # of another division than the study's
    with pytest.raises(BadInput, match="labels of training and validation scans"):
        fit(study, recipe("ce"), tmp_path / "out", labels_path=tmp_path / "told.tsv")


def test_without_scan_ids_of_the_study_labels_are_refused(study: Study, tmp_path: Path) -> None:
    table = write_labels(study, tmp_path / "labels.tsv")
    LABELS.write(table.assign(scan_id="x" + table["scan_id"]), tmp_path / "labels.tsv")
    with pytest.raises(BadInput, match="labels of scans of this study"):
        fit(study, recipe("ce"), tmp_path / "out", labels_path=tmp_path / "labels.tsv")


def test_what_a_word_leaves_out_is_not_in_the_model_folder(study: Study, tmp_path: Path) -> None:
    told = json.loads((fit(study, recipe("sop"), tmp_path) / "model.json").read_text())["model"]
    assert told["sop"] == {"u_rate": 10.0, "v_rate": 10.0} and told["elr"] is None and told["gce"] is None


def test_the_examples_of_the_configuration_s_page_are_read() -> None:
    page = (Path(__file__).parents[2] / "config" / "README.md").read_text(encoding="utf-8")
    part = page.split("## Losses against wrong labels")[1].split("\n## ")[0]
    example = "\n".join(line for line in part.splitlines() if line.startswith("    "))
    models = parse(Train, yaml.safe_load(textwrap.dedent(example))["train"], where="config/README.md").models
    assert len(models) == 6 and models["wide-elr-plus"].elr.n_networks == 2
    for section in (Elr, Sop, Gce):
        assert all(f"`{key}`" in part for key in section.model_fields), section
