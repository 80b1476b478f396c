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
        settings=config.Baseline(**{"all_regions": None, **settings}),
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


def _volumes(root, change):
    """Change the volume table of a study."""
    path = root / "pack" / "roi_volumes.tsv"
    table = pd.read_csv(path, sep="\t")
    change(table)
    table.to_csv(path, sep="\t", index=False)


def _grow_with_head(table):
    """Regions that grow with the head, but less than in proportion: what a ratio over-corrects."""
    for region in REGIONS:
        table[region] += 0.001 * (table["intracranial"] - 1.5e6)


def _model(root):
    return json.loads((root / "baseline" / "model.json").read_text())


def test_the_ratio_is_the_plain_share_of_the_intracranial_volume(tmp_path):
    study.make(tmp_path)
    table = read_volumes(tmp_path / "pack" / "roi_volumes.tsv").assign(age_years=70.0)
    shares = table[list(REGIONS)].to_numpy() / table[["intracranial"]].to_numpy()
    assert np.array_equal(feature_matrix(table, tuple(REGIONS), {"method": "ratio"}, use_age=False), shares)
    raw = feature_matrix(table, tuple(REGIONS), {"method": "none"}, use_age=False)
    assert np.array_equal(raw, table[list(REGIONS)].to_numpy())


def test_residuals_are_uncorrelated_with_head_size_in_training_controls_alone(tmp_path):
    made = study.make(tmp_path, n_subjects=240)
    _volumes(tmp_path, _grow_with_head)
    predictions = _run(made, normalise="residual")
    table = read_volumes(tmp_path / "pack" / "roi_volumes.tsv").merge(predictions, on="scan_id")
    how = _model(tmp_path)["normalisation"]
    residual = feature_matrix(table, tuple(REGIONS), how, use_age=False)
    controls = ((table["split"] == "train") & (table["diagnosis"] == "CN")).to_numpy()
    icv = table["intracranial"].to_numpy()
    for k, region in enumerate(REGIONS):
        assert abs(np.corrcoef(residual[controls, k], icv[controls])[0, 1]) < 1e-9
        assert residual[controls, k].mean() == pytest.approx(table.loc[controls, region].mean())
        assert abs(np.corrcoef(residual[~controls, k], icv[~controls])[0, 1]) > 1e-4  # not fitted to these
        line = np.polyfit(icv[controls], table.loc[controls, region], 1)
        assert how["slopes"][region] == pytest.approx(line[0]) and how["n_scans"] == controls.sum()


def test_the_residual_of_unseen_scans_and_patients_changes_nothing_of_the_model(tmp_path):
    made = study.make(tmp_path, n_subjects=240)
    _run(made, normalise="residual")
    before = _model(tmp_path)
    joined = made.scans.merge(SPLIT.read(tmp_path / "splits.tsv"), on=["cohort", "subject_id"])
    unseen = joined["split"].isin(["test", "external"]).to_numpy()

    def change(table):
        table.loc[unseen, [*REGIONS, "hippocampus", "intracranial"]] *= 3

    _volumes(tmp_path, change)
    _run(made, normalise="residual")
    assert _model(tmp_path) == before
    others = ((joined["split"] == "val") | (joined["diagnosis"] != "CN")).to_numpy()

    def change_more(table):
        table.loc[others, [*REGIONS, "hippocampus", "intracranial"]] *= 1.3

    _volumes(tmp_path, change_more)
    _run(made, normalise="residual")
    assert _model(tmp_path)["normalisation"] == before["normalisation"]
    assert _model(tmp_path)["coefficients"] != before["coefficients"]


def test_percentiles_of_residuals_do_not_depend_on_head_size(tmp_path):
    made = study.make(tmp_path, n_subjects=240)
    _volumes(tmp_path, _grow_with_head)
    _run(made, normalise="residual")
    model = _model(tmp_path)
    slope = model["normalisation"]["slopes"]["hippocampus_left"]
    found = [
        percentile(
            model,
            {"hippocampus_left": 3300 + slope * more, "hippocampus_right": 3300.0, "intracranial": 1.5e6 + more},
            age_years=72,
            source="registered",
        )["hippocampus_left"]
        for more in (0, 2e5)
    ]
    assert found[0] == pytest.approx(found[1]) and 1 < found[0] < 99


def test_residuals_need_training_controls(tmp_path):
    made = study.make(tmp_path, n_subjects=36)
    with pytest.raises(BadInput, match="at least 20 cognitively normal"):
        _run(made, normalise="residual")


def test_volumes_of_both_sides_together_do(tmp_path):
    """As ADNIMERGE tells them: no sides, and some scans without any."""
    made = study.make(tmp_path, effect=2.0, n_subjects=120)
    lost = list(made.scans["scan_id"].iloc[[0, 5]])

    def change(table):
        table[list(REGIONS)] = np.nan
        table["source"] = "cohort"
        gone = table["scan_id"].isin(lost)
        table.loc[gone, ["hippocampus", "entorhinal", "intracranial"]] = np.nan
        table["note"] = np.where(gone, "no volumes", "")

    _volumes(tmp_path, change)
    predictions = _run(made)
    assert set(made.scans["scan_id"]) - set(predictions["scan_id"]) == set(lost)
    assert _balanced(predictions) > 0.6
    model = _model(tmp_path)
    assert model["source"] == "cohort" and model["features"] == [
        "hippocampus / intracranial",
        "entorhinal / intracranial",
    ]
    assert list(model["reference"]["regions"]) == ["hippocampus"]
    with pytest.raises(BadInput, match="not comparable"):
        percentile(model, {"hippocampus": 7000, "intracranial": 1.5e6}, age_years=72, source="registered")


def test_scans_without_volumes_are_named_with_the_reason(tmp_path, capsys):
    made = study.make(tmp_path)

    def change(table):
        table["note"] = table["note"].astype(object)
        table.loc[3, ["entorhinal_left", "note"]] = [np.nan, "no stats/lh.aparc.stats"]

    _volumes(tmp_path, change)
    _run(made)
    scan_id = made.scans["scan_id"].iloc[3]
    assert f"{scan_id} has no entorhinal_left (no stats/lh.aparc.stats); not predicted" in capsys.readouterr().out


def test_without_an_intracranial_volume_only_none_does(tmp_path):
    made = study.make(tmp_path, effect=2.0)
    _volumes(tmp_path, lambda table: table.__setitem__("intracranial", np.nan))
    with pytest.raises(BadInput, match="baseline.normalise: none"):
        _run(made)
    assert len(_run(made, normalise="none")) == len(made.scans)


def test_volumes_of_two_sources_are_refused(tmp_path):
    made = study.make(tmp_path)
    _volumes(tmp_path, lambda table: table.__setitem__("source", ["freesurfer"] + ["registered"] * (len(table) - 1)))
    with pytest.raises(BadInput, match="freesurfer and registered"):
        _run(made)


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
