"""The volume baseline learns a planted difference, stays at chance without one, and is stored as plain numbers."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny_study as study

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings.baseline import baseline, feature_matrix, logits, percentile, read_volumes
from elr_mri.findings.metrics import score
from elr_mri.imaging.labels import REGIONS, VOLUMES
from elr_mri.scans.predictions import P_COLUMNS, PREDICTIONS, Z_COLUMNS
from elr_mri.scans.table import CLASSES, SPLIT, UNUSED


def _run(made, **settings):
    root = made.root
    path = baseline(
        roi_path=root / "pack" / "roi_volumes.tsv",
        scans_path=root / "scans.tsv",
        splits_path=root / "splits.tsv",
        settings=config.Baseline(**settings),
        out_dir=root / "baseline",
    )
    return PREDICTIONS.read(path)


def _balanced(predictions, splits=("test", "external")):
    unseen = predictions[predictions["split"].isin(splits)]
    return score(unseen["diagnosis"].map(CLASSES.index).to_numpy(), unseen[list(P_COLUMNS)].to_numpy())[
        "balanced_accuracy"
    ]


def test_a_planted_difference_is_learnt_and_its_absence_is_not(tmp_path):
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    assert _balanced(_run(study.make(tmp_path / "with", effect=2.0, n_subjects=120))) > 0.65
    assert _balanced(_run(study.make(tmp_path / "without", effect=0.0, n_subjects=120))) < 0.45


def test_scans_that_take_no_part_are_neither_learnt_from_nor_predicted(tmp_path):
    made = study.make(tmp_path, effect=2.0)
    before = _run(made)
    splits = SPLIT.read(tmp_path / "splits.tsv")
    out = splits.index[splits["split"] == "train"][::3]
    assert len(out) > 2
    splits.loc[out, "split"] = UNUSED
    SPLIT.write(splits, tmp_path / "splits.tsv")
    after = _run(made)
    left = made.scans["subject_id"].isin(splits.loc[out, "subject_id"])
    assert set(after["scan_id"]) == set(made.scans.loc[~left, "scan_id"])
    kept = before.merge(after, on="scan_id")
    assert not np.allclose(kept["p_cn_x"], kept["p_cn_y"])


def test_every_packed_scan_is_predicted_and_the_stored_numbers_alone_give_the_same(tmp_path):
    made = study.make(tmp_path)
    predictions = _run(made, use_age=True)
    assert sorted(predictions["scan_id"]) == sorted(made.scans["scan_id"])
    assert set(predictions["model"]) == {"volumes"} and set(predictions["seed"]) == {0}
    model = json.loads((tmp_path / "baseline" / "model.json").read_text())
    table = read_volumes(tmp_path / "pack" / "roi_volumes.tsv").merge(
        made.scans[["scan_id", "age_years"]], on="scan_id"
    )
    again = logits(model, feature_matrix(table, tuple(REGIONS), model["normalisation"], use_age=True))
    np.testing.assert_allclose(predictions[list(Z_COLUMNS)], again - again.mean(axis=1, keepdims=True), atol=1e-9)
    chosen = min(model["validation"], key=lambda trial: trial["val_log_loss"])
    assert chosen["inverse_regularisation"] == model["inverse_regularisation"]


def test_head_size_does_not_count(tmp_path):
    """Twice the head with twice the regions is the same person to the baseline."""
    made = study.make(tmp_path)
    before = _run(made)
    table = pd.read_csv(tmp_path / "pack" / "roi_volumes.tsv", sep="\t")
    table.loc[::2, list(VOLUMES)] *= 2
    table.to_csv(tmp_path / "pack" / "roi_volumes.tsv", sep="\t", index=False)
    np.testing.assert_allclose(before[list(Z_COLUMNS)], _run(made)[list(Z_COLUMNS)], atol=1e-6)


def test_nothing_of_the_test_scans_reaches_the_model(tmp_path):
    made = study.make(tmp_path)
    _run(made)
    before = (tmp_path / "baseline" / "model.json").read_text()
    table = pd.read_csv(tmp_path / "pack" / "roi_volumes.tsv", sep="\t")
    splits = made.scans.merge(SPLIT.read(tmp_path / "splits.tsv"), on=["cohort", "subject_id"])["split"]
    table.loc[splits.isin(["test", "external"]).to_numpy(), "hippocampus_left"] *= 3
    table.to_csv(tmp_path / "pack" / "roi_volumes.tsv", sep="\t", index=False)
    _run(made)
    assert (tmp_path / "baseline" / "model.json").read_text() == before


def test_percentiles_rise_with_volume_and_are_uniform_among_the_reference(tmp_path):
    made = study.make(tmp_path, n_subjects=200)
    _run(made)
    model = json.loads((tmp_path / "baseline" / "model.json").read_text())
    volumes = {"hippocampus_left": 3000.0, "hippocampus_right": 4000.0, "intracranial": 1.5e6}
    found = percentile(model, volumes, age_years=72, source="registered")
    assert 0 <= found["hippocampus_left"] < found["hippocampus_right"] <= 100
    larger_head = percentile(model, {k: 1.1 * v for k, v in volumes.items()}, age_years=72, source="registered")
    assert larger_head == pytest.approx(found)
    table = pd.read_csv(tmp_path / "pack" / "roi_volumes.tsv", sep="\t").merge(made.scans, on="scan_id")
    table = table.merge(SPLIT.read(tmp_path / "splits.tsv"), on=["cohort", "subject_id"])
    healthy = table[(table["split"] == "train") & (table["diagnosis"] == "CN")]
    of_reference = [
        percentile(model, row._asdict(), age_years=row.age_years, source="registered")["hippocampus_left"]
        for row in healthy.itertuples()
    ]
    assert np.mean(of_reference) == pytest.approx(50, abs=5)
    assert np.std(of_reference) == pytest.approx(100 / np.sqrt(12), abs=5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.drop(columns="intracranial"), "intracranial"),
        (lambda t: t.assign(intracranial=0), "at least 1"),
        (lambda t: t.assign(scan_id="sub-" + t["scan_id"]), "every scan of the volume table"),
    ],
)
def test_a_faulty_volume_table_is_refused(tmp_path, change, told):
    made = study.make(tmp_path)
    path = tmp_path / "pack" / "roi_volumes.tsv"
    change(pd.read_csv(path, sep="\t")).to_csv(path, sep="\t", index=False)
    with pytest.raises(BadInput, match=told):
        _run(made)
