"""The tables of `evaluate` say what the predictions say, for the same scans, with honest intervals."""

import numpy as np
import pandas as pd
import pytest
import tiny_study as study
from sklearn.metrics import roc_auc_score

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings.evaluate import evaluate
from elr_mri.findings.metrics import score
from elr_mri.findings.tables import (
    CALIBRATION,
    CONFUSION,
    DIFFERENCES,
    RELIABILITY,
    RESULTS,
    ROC,
    SUBJECTS,
    TEMPERATURES,
)
from elr_mri.findings.words import against
from elr_mri.scans.predictions import P_COLUMNS, PREDICTIONS, Z_COLUMNS, prediction_table
from elr_mri.scans.table import CLASSES

SETTINGS = config.Evaluate(draws=200)


def _evaluate(tmp_path, paths):
    evaluate(prediction_paths=paths, settings=SETTINGS, out_dir=tmp_path / "findings")
    tables = tmp_path / "findings" / "tables"
    return {
        name: schema.read(tables / f"{name}.tsv")
        for name, schema in (
            ("results", RESULTS),
            ("differences", DIFFERENCES),
            ("confusion", CONFUSION),
            ("roc", ROC),
        )
    } | {"main": pd.read_csv(tables / "main.tsv", sep="\t"), "left_out": pd.read_csv(tables / "left_out.tsv", sep="\t")}


@pytest.fixture
def made(tmp_path):
    return study.make(tmp_path)


def test_values_are_the_scores_and_lie_in_their_intervals(tmp_path, made):
    paths = [
        study.predict(made, name, noise=noise) / "predictions.tsv" for name, noise in (("good", 0.3), ("poor", 3.0))
    ]
    tables = _evaluate(tmp_path, paths)
    results = tables["results"]
    rows = PREDICTIONS.read(paths[0])
    rows = rows[rows["split"] == "test"]
    expected = score(rows["diagnosis"].map(CLASSES.index).to_numpy(), rows[list(P_COLUMNS)].to_numpy())
    mine = results[(results["model"] == "good") & (results["split"] == "test")].set_index("metric")
    assert mine["value"].to_dict() == pytest.approx(expected)
    assert (results["low"] <= results["value"] + 1e-9).all() and (results["value"] <= results["high"] + 1e-9).all()
    assert set(mine["n_scans"]) == {len(rows)} and set(mine["n_subjects"]) == {rows["subject_id"].nunique()}
    assert set(zip(results["cohort"], results["split"], strict=True)) == {
        ("ADNI", s) for s in ("train", "val", "test")
    } | {("NACC", "external")}
    counts = tables["confusion"]
    assert counts[(counts["model"] == "good") & (counts["split"] == "test")]["n_scans"].sum() == len(rows)
    assert set(tables["roc"]["split"]) == {"test", "external"}
    assert list(tables["main"]["method"]) == ["good", "poor"] * 2


def test_differences_are_paired_and_change_sign_when_turned(tmp_path, made):
    paths = [
        study.predict(made, name, noise=noise) / "predictions.tsv" for name, noise in (("good", 0.3), ("poor", 3.0))
    ]
    tables = _evaluate(tmp_path, paths)
    value = tables["results"].set_index(["model", "cohort", "split", "metric"])["value"]
    for row in tables["differences"].itertuples():
        key = (row.cohort, row.split, row.metric)
        assert row.difference == pytest.approx(value[row.model, *key] - value[row.reference, *key])
    direct, turned = against(tables["differences"], "good"), against(tables["differences"], "poor")
    np.testing.assert_allclose(direct["difference"], -turned["difference"])
    np.testing.assert_allclose(direct["low"], -turned["high"])
    lead = direct[(direct["metric"] == "balanced_accuracy") & (direct["split"] == "train")].iloc[0]
    assert lead["model"] == "poor" and lead["high"] < 0


def test_a_model_does_not_differ_from_its_copy(tmp_path, made):
    path = study.predict(made, "one", noise=1.0) / "predictions.tsv"
    copy = tmp_path / "copy.tsv"
    PREDICTIONS.write(PREDICTIONS.read(path).assign(model="copy"), copy)
    differences = _evaluate(tmp_path, [path, copy])["differences"]
    assert (differences[["difference", "low", "high"]] == 0).all(axis=None)


def test_seeds_of_a_model_are_averaged(tmp_path, made):
    paths = [study.predict(made, "wide", noise=1.0, seed=seed) / "predictions.tsv" for seed in (0, 1)]
    both = _evaluate(tmp_path, paths)["results"].query("model == 'wide'").set_index(["cohort", "split", "metric"])
    single = [_evaluate(tmp_path, [path])["results"].set_index(["cohort", "split", "metric"]) for path in paths]
    assert set(both["n_seeds"]) == {2}
    np.testing.assert_allclose(both["value"], (single[0]["value"] + single[1]["value"]) / 2)


def test_several_seeds_are_scored_together_as_an_ensemble(tmp_path, made):
    paths = [study.predict(made, "net", noise=1.0, seed=seed) / "predictions.tsv" for seed in (0, 1, 2)]
    results = _evaluate(tmp_path, [*paths, study.predict(made, "alone", noise=1.0) / "predictions.tsv"])["results"]
    assert set(results["model"]) == {"net", "net-ensemble", "alone"}
    rows = [table[table["split"] == "test"] for table in map(PREDICTIONS.read, paths)]
    labels = rows[0]["diagnosis"].map(CLASSES.index).to_numpy()
    mean = np.mean([table[list(P_COLUMNS)].to_numpy(float) for table in rows], axis=0)
    mine = results[(results["model"] == "net-ensemble") & (results["split"] == "test")].set_index("metric")
    assert mine["value"].to_dict() == pytest.approx(score(labels, mean))


def test_models_are_scored_on_the_scans_they_share_and_the_others_are_named(tmp_path, made):
    whole, part = (study.predict(made, name, noise=1.0) / "predictions.tsv" for name in ("whole", "part"))
    PREDICTIONS.write(PREDICTIONS.read(part).iloc[3:], part)
    tables = _evaluate(tmp_path, [whole, part])
    assert sorted(tables["left_out"]["scan_id"]) == sorted(PREDICTIONS.read(whole)["scan_id"][:3])
    counts = tables["results"].groupby(["cohort", "split"])["n_scans"].nunique()
    assert (counts == 1).all()


def test_tables_that_disagree_about_a_scan_are_refused(tmp_path, made):
    one, other = (study.predict(made, name, noise=1.0) / "predictions.tsv" for name in ("one", "other"))
    table = PREDICTIONS.read(other)
    table.loc[0, "diagnosis"] = "AD" if table.loc[0, "diagnosis"] == "CN" else "CN"
    PREDICTIONS.write(table, other)
    with pytest.raises(BadInput, match="one subject, split and diagnosis"):
        _evaluate(tmp_path, [one, other])
    with pytest.raises(BadInput, match="more than once"):
        _evaluate(tmp_path, [one, one])
    with pytest.raises(BadInput, match="at least one prediction table"):
        _evaluate(tmp_path, [])


def test_a_subject_in_train_and_test_is_refused_in_one_file_and_across_two(tmp_path, made):
    path = study.predict(made, "net", noise=1.0) / "predictions.tsv"
    table = pd.read_csv(path, sep="\t", dtype=str)
    tested = table.loc[table["split"] == "test", "subject_id"].unique()[:3]
    second = table["subject_id"].isin(tested) & table["subject_id"].duplicated()
    moved = table.assign(split=table["split"].mask(second, "train"))
    moved.to_csv(path, sep="\t", index=False)
    with pytest.raises(BadInput, match=f"{tested[0]} of ADNI in test and train, and 2 more") as caught:
        _evaluate(tmp_path, [path])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    for name, rows in (("one", moved[~second]), ("other", moved[second])):
        rows.assign(model=name).to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    with pytest.raises(BadInput, match=f"{tested[0]} of ADNI in test and train, and 2 more") as caught:
        _evaluate(tmp_path, [tmp_path / "one.tsv", tmp_path / "other.tsv"])
    assert "one.tsv" in str(caught.value) and "other.tsv" in str(caught.value)


def test_one_name_in_two_cohorts_is_two_people(tmp_path, made):
    path = study.predict(made, "net", noise=1.0) / "predictions.tsv"
    table = PREDICTIONS.read(path)
    table["subject_id"] = table["subject_id"].str.replace("NACC", "ADNI")
    assert table.groupby("subject_id")["split"].nunique().max() == 2
    PREDICTIONS.write(table, path)
    assert set(_evaluate(tmp_path, [path])["main"]["split"]) == {"test", "external"}


def test_probabilities_alone_are_scored_as_with_their_logits(tmp_path, made):
    path = study.predict(made, "net", noise=1.0) / "predictions.tsv"
    table = PREDICTIONS.read(path)
    soft = prediction_table(table, table[list(Z_COLUMNS)].to_numpy() / 4, model="net", seed=0)
    PREDICTIONS.write(soft, path)
    whole = _evaluate(tmp_path, [path])["results"]
    after = pd.read_csv(tmp_path / "findings" / "tables" / "calibration.tsv", sep="\t")
    pd.read_csv(path, sep="\t").drop(columns=list(Z_COLUMNS)).to_csv(path, sep="\t", index=False)
    pd.testing.assert_frame_equal(_evaluate(tmp_path, [path])["results"], whole)
    again = pd.read_csv(tmp_path / "findings" / "tables" / "calibration.tsv", sep="\t")
    pd.testing.assert_frame_equal(again, after, atol=1e-6)


def test_by_subject_a_subject_counts_once_for_each_diagnosis(tmp_path, made):
    path = study.predict(made, "net", noise=1.0) / "predictions.tsv"
    table = PREDICTIONS.read(path)
    changed = table["subject_id"] == table.loc[table["split"] == "test", "subject_id"].iloc[0]
    table.loc[table.index[changed][0], "diagnosis"] = "CN"
    table.loc[table.index[changed][1], "diagnosis"] = "AD"
    PREDICTIONS.write(table, path)
    _evaluate(tmp_path, [path])
    found = SUBJECTS.read(tmp_path / "findings" / "tables" / "subjects.tsv")
    mine = found[found["split"] == "test"].set_index("metric")
    rows = table[table["split"] == "test"].groupby(["subject_id", "diagnosis"])[list(P_COLUMNS)].mean().reset_index()
    expected = score(rows["diagnosis"].map(CLASSES.index).to_numpy(), rows[list(P_COLUMNS)].to_numpy(float))
    assert mine["value"].to_dict() == pytest.approx(expected)
    assert set(mine["n_rows"]) == {len(rows)} and set(mine["n_subjects"]) == {len(rows) - 1}


def test_the_micro_auc_on_logits_is_of_the_columns_of_logits(tmp_path, made):
    path = study.predict(made, "net", noise=1.0) / "predictions.tsv"
    table = PREDICTIONS.read(path)
    shift = np.random.default_rng(0).normal(0, 3, len(table))
    PREDICTIONS.write(table.assign(**{name: table[name] + shift for name in Z_COLUMNS}), path)
    results = _evaluate(tmp_path, [path])["results"]
    rows = PREDICTIONS.read(path).query("split == 'test'")
    one_hot = np.eye(3)[rows["diagnosis"].map(CLASSES.index).to_numpy()]
    found = results.query("split == 'test' and metric == 'micro_auc_logits'")["value"].item()
    assert found == pytest.approx(roc_auc_score(one_hot.ravel(), rows[list(Z_COLUMNS)].to_numpy(float).ravel()))


def test_a_study_without_unseen_scans_still_has_every_table(tmp_path, made):
    path = study.predict(made, "net", noise=1.0) / "predictions.tsv"
    PREDICTIONS.write(PREDICTIONS.read(path).query("split == 'train'"), path)
    evaluate(prediction_paths=[path], settings=SETTINGS, out_dir=tmp_path / "findings")
    for schema in (CALIBRATION, RELIABILITY):
        assert schema.read(tmp_path / "findings" / "tables" / f"{schema.name}.tsv").empty
    fitted = TEMPERATURES.read(tmp_path / "findings" / "tables" / "temperatures.tsv")
    assert fitted["temperature"].isna().all() and fitted["note"].str.contains("no validation scans").all()
    assert "No unseen scans" in (tmp_path / "findings" / "tables" / "main.tex").read_text()
