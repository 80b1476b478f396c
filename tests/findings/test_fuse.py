"""The fusion learns from validation alone, is the mean at its strongest penalty, and beats both where they know different things."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings import fuse as fusing
from elr_mri.findings.candidates import log_loss
from elr_mri.findings.metrics import score
from elr_mri.findings.predicted import read_predictions
from elr_mri.scans.predictions import P_COLUMNS, PREDICTIONS, Z_COLUMNS, prediction_table
from elr_mri.scans.table import CLASSES


def _two(folder, *, n_val=120, n_seeds=1, noise=1.0, seed=0):
    """Predictions of two models with errors of their own; returns their paths."""
    rng = np.random.default_rng(seed)
    split = np.repeat(["train", "val", "test"], [60, n_val, 300])
    people = np.arange(len(split)) // 2
    severity = rng.normal(size=people.max() + 1)[people]
    scans = pd.DataFrame({"scan_id": [f"s{i}" for i in range(len(split))], "subject_id": [f"p{k}" for k in people]})
    scans = scans.assign(cohort="ADNI", split=split, diagnosis=np.array(CLASSES)[np.digitize(severity, [-0.43, 0.43])])
    paths = []
    for model, n in (("volumes", 1), ("wide", n_seeds)):
        for k in range(n):
            guess = severity + noise * rng.normal(size=people.max() + 1)[people]
            logits = -3 * (guess[:, None] - np.array([-1, 0, 1])) ** 2
            paths.append(folder / f"{model}-{k}.tsv")
            PREDICTIONS.write(prediction_table(scans, logits, model=model, seed=k), paths[-1])
    return paths[0], paths[1:]


def _fuse(folder, paths, **keys):
    out = fusing.fuse(
        volume_path=paths[0], network_paths=paths[1], settings=config.Fuse(**keys), out_dir=folder / "fuse"
    )
    return PREDICTIONS.read(out), json.loads((folder / "fuse" / "model.json").read_text())


def _loss(predictions, split="test"):
    rows = predictions[predictions["split"] == split]
    labels = rows["diagnosis"].map(CLASSES.index).to_numpy()
    return log_loss(rows[list(Z_COLUMNS)].to_numpy(dtype=float), labels)


def test_two_models_that_err_apart_are_better_together(tmp_path):
    paths = _two(tmp_path)
    fused, model = _fuse(tmp_path, paths)
    assert set(fused["model"]) == {"fused"} and model["of"] == ["volumes", "wide"]
    for path in (paths[0], *paths[1]):
        assert _loss(fused) < _loss(PREDICTIONS.read(path)) - 0.02
    together = read_predictions([paths[0], *paths[1], tmp_path / "fuse" / "predictions.tsv"])
    assert set(together["model"]) == {"volumes", "wide", "fused"}
    rows = fused[fused["split"] == "test"]
    labels = rows["diagnosis"].map(CLASSES.index).to_numpy()
    assert score(labels, rows[list(P_COLUMNS)].to_numpy())["balanced_accuracy"] > 0.5


def test_labels_of_other_splits_change_nothing(tmp_path):
    paths = _two(tmp_path)
    _, before = _fuse(tmp_path, paths)
    for path in (paths[0], *paths[1]):
        table = PREDICTIONS.read(path)
        other = table["split"] != "val"
        table.loc[other, "diagnosis"] = table.loc[other, "diagnosis"].to_numpy()[::-1]
        PREDICTIONS.write(table, path)
    _, after = _fuse(tmp_path, paths)
    assert after == before


def test_few_validation_subjects_make_the_mean_and_it_is_told(tmp_path, capsys):
    paths = _two(tmp_path, n_val=12)
    fused, model = _fuse(tmp_path, paths)
    run = model["runs"][0]
    assert run["how"] == "mean" and "fewer than 5" in run["why"] and "fewer than 5" in capsys.readouterr().out
    said = [
        log_softmax(PREDICTIONS.read(path)[list(Z_COLUMNS)].to_numpy(dtype=float) / warmth, axis=1)
        for path, warmth in zip((paths[0], *paths[1]), run["temperatures"])
    ]
    np.testing.assert_allclose(fused[list(P_COLUMNS)], np.exp(log_softmax(np.mean(said, axis=0), axis=1)), atol=1e-9)


def test_every_seed_of_the_network_is_fused_by_itself(tmp_path):
    fused, model = _fuse(tmp_path, _two(tmp_path, n_seeds=2))
    assert sorted(fused["seed"].unique()) == [0, 1] and len(model["runs"]) == 2
    first, second = (fused[fused["seed"] == k]["p_cn"].to_numpy() for k in (0, 1))
    assert not np.allclose(first, second)


def test_stacking_from_nothing_is_scikit_learn_s_logistic_regression():
    """Two models that contradict each other everywhere have a mean of nothing."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=150)
    said = rng.normal(size=(150, 3)) + 0.8 * np.eye(3)[labels]
    logits = np.stack([said, -said])
    for penalty in (0.3, 0.01):
        ours = fusing.fit(logits, labels, penalty)
        model = LogisticRegression(C=1 / (penalty * 150), fit_intercept=False, max_iter=10_000, tol=1e-10)
        np.testing.assert_allclose(ours, model.fit(fusing._inputs(logits), labels).coef_, atol=2e-3)
    assert np.abs(fusing.fit(logits, labels, 1e6)).max() < 1e-5 and not fusing.fit(logits, labels, np.inf).any()


def test_folds_hold_whole_subjects_and_all_classes():
    rng = np.random.default_rng(0)
    people = rng.permutation(np.repeat([f"p{k}" for k in range(30)], rng.integers(1, 5, 30)))
    labels = np.array([int(name[1:]) % 3 for name in people])
    fold = fusing.deal(labels, people, folds=5, seed=0)
    assert pd.Series(fold).groupby(people).nunique().max() == 1
    assert pd.DataFrame({"fold": fold, "label": labels}).drop_duplicates().shape[0] == 15
    assert not np.array_equal(fold, fusing.deal(labels, people, folds=5, seed=1))


def test_a_held_out_subject_is_not_learnt_from():
    """Logits that only tell the subject are of no use for another: the mean, which has learnt nothing, is best."""
    rng = np.random.default_rng(0)
    people, labels = np.repeat(np.arange(60), 3), np.repeat(rng.integers(3, size=60), 3)
    logits = np.zeros((2, 180, 3)) + 2 * rng.normal(size=(60, 3)).repeat(3, axis=0)
    logits[1] = -logits[0]
    tried = dict(fusing.cross_validated(logits, labels, people, folds=5, seed=0))
    assert tried[np.inf] == pytest.approx(np.log(3)) and min(tried, key=tried.get) >= 1
    assert fusing.log_loss(fusing.fused(logits, fusing.fit(logits, labels, 0.01)), labels) < np.log(3) - 0.01


@pytest.mark.parametrize("keys", [{"model": "resnet18"}, {"baseline": "volumes-all"}])
def test_predictions_of_other_models_are_refused(tmp_path, keys):
    with pytest.raises(BadInput, match="expected predictions of"):
        _fuse(tmp_path, _two(tmp_path), **keys)
