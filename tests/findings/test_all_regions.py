"""The baseline of all regions: no pickle, the same after reading back, healthy people's lines, tables by hand, and no trap in age."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny_study as study
from scipy.special import log_softmax, softmax
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings import all_regions, candidates, trees, wscores
from elr_mri.findings.baseline import baseline, baseline_of_tables
from elr_mri.findings.calibration import best_temperature
from elr_mri.findings.metrics import score
from elr_mri.phantom.roi_tables import ICV, draw_table
from elr_mri.scans.predictions import P_COLUMNS, PREDICTIONS, Z_COLUMNS
from elr_mri.scans.table import CLASSES

QUICK = {"models": ("logistic", "forest", "boosting", "mean")}
WHO = ["participant_id", "session_id", "cohort", "split", "diagnosis", "age", "sex"]


@pytest.fixture(autouse=True)
def _few_trials(monkeypatch):
    """Fewer trees and settings, so that a test takes a second."""
    monkeypatch.setattr(candidates, "N_TREES", 40)
    monkeypatch.setattr(candidates, "LEAVES", (6,))
    monkeypatch.setattr(candidates, "DEPTHS", (2,))
    monkeypatch.setattr(candidates, "ROUNDS", (20, 40))
    monkeypatch.setattr(candidates, "STRENGTHS", (1e-3, 1e-2, 1e-1))


@pytest.fixture(scope="module")
def drawn():
    return draw_table(config.RoiPhantom(n_train=60, n_val=30, n_test=20, n_external=25, ages="enrolment"))


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=240)
    return rng.normal(size=(240, 9)) + 0.8 * labels[:, None] * (np.arange(9) < 3), labels


@pytest.mark.parametrize("depth", [1, 4])
def test_boosting_as_arrays_says_what_scikit_learn_says(blobs, depth):
    features, labels = blobs
    model = GradientBoostingClassifier(n_estimators=30, max_depth=depth, subsample=0.7, random_state=1)
    model.fit(features, labels)
    arrays = trees.pack([tree.tree_ for tree in model.estimators_.ravel()])
    start = np.log(np.bincount(labels) / len(labels))
    said = softmax(trees.boosted_scores(arrays, features, start=start, rate=0.1), axis=1)
    np.testing.assert_allclose(said, model.predict_proba(features), rtol=0, atol=1e-12)


def test_a_forest_as_arrays_says_what_scikit_learn_says(blobs):
    features, labels = blobs
    for leaf in (1, 10):
        model = RandomForestClassifier(25, min_samples_leaf=leaf, random_state=0).fit(features, labels)
        arrays = trees.pack([tree.tree_ for tree in model.estimators_])
        said = trees.forest_probabilities(arrays, features)
        np.testing.assert_allclose(said, model.predict_proba(features), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["logistic", "forest", "boosting", "mean"])
def test_what_is_stored_predicts_the_same_after_reading_back(tmp_path, blobs, kind):
    features, labels = blobs
    kinds = QUICK["models"] if kind == "mean" else (kind,)
    chosen, trials = candidates.choose((features[:160], labels[:160]), (features[160:], labels[160:]), kinds, seed=0)
    if kind == "mean":
        members = [(fitted, 1.3) for fitted, _ in chosen.members]
        chosen = candidates.calibrated("mean", members, features[160:], labels[160:])
    told = {"regions": [f"r{k}" for k in range(features.shape[1])], "age_is_feature": False}
    all_regions._write(tmp_path, {"classifier": chosen.facts(), "features": told}, chosen.arrays())
    again, _ = all_regions.read(tmp_path)
    np.testing.assert_allclose(again.logits(features), chosen.logits(features), rtol=0, atol=1e-12)
    best = min(trials, key=lambda trial: trial["val_log_loss"])
    assert best["chosen"] and sum(trial["chosen"] for trial in trials) == 1
    with np.load(tmp_path / "volumes-all.npz", allow_pickle=False) as held:
        assert all(held[name].dtype != object for name in held)


def test_the_temperature_is_the_best_on_validation(blobs):
    features, labels = blobs
    logits = 4 * (np.eye(3)[labels] + features[:, 3:6])
    warmth = best_temperature(labels, logits, bounds=candidates.TEMPERATURES)
    losses = [candidates.log_loss(logits / t, labels) for t in (warmth * 0.9, warmth, warmth * 1.1)]
    assert losses[1] < min(losses[0], losses[2]) and warmth > 2


def _people(n, seed=0):
    rng = np.random.default_rng(seed)
    age, icv = rng.uniform(60, 90, n), rng.normal(1.5e6, 1.5e5, n)
    volume = 3500 * (icv / 1.5e6) ** 0.6 * np.exp(-0.008 * (age - 75) + 0.05 * rng.normal(size=n))
    thick = 2.5 - 0.01 * (age - 75) + 0.1 * rng.normal(size=n)
    return pd.DataFrame(
        {
            "diagnosis": "CN",
            "age_years": age,
            "intracranial": icv,
            "left-amygdala": volume,
            "lh_cuneus_thickness": thick,
        }
    )


def test_w_scores_of_healthy_people_are_standard_and_know_neither_age_nor_head_size():
    train, regions = _people(400), ["left-amygdala", "lh_cuneus_thickness"]
    how = wscores.fit(train, regions, head=True, age=True)
    scores = wscores.apply(train, how)
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(scores.std(axis=0), 1, atol=1e-9)
    assert how["slopes"][0][1] == pytest.approx(0.6, abs=0.05) and how["slopes"][1][1] == 0
    inside = train["age_years"].between(*how["age_years"])
    assert abs(np.corrcoef(scores[inside, 0], train.loc[inside, "age_years"])[0, 1]) < 0.05
    left = wscores.apply(train, wscores.fit(train, regions, head=True, age=False))
    assert np.corrcoef(left[:, 0], train["age_years"])[0, 1] < -0.5
    # patients change no line, and beyond the controls' ages the line does not go on
    sick = _people(50, seed=1).assign(diagnosis="AD") * 1
    sick["left-amygdala"] *= 0.5
    assert wscores.fit(pd.concat([train, sick]), regions, head=True, age=True)["slopes"] == how["slopes"]
    old = train.iloc[[0, 0]].assign(age_years=[how["age_years"][1], 110.0])
    assert np.ptp(wscores.apply(old, how), axis=0).max() == 0


def test_few_controls_make_no_lines_and_blanks_are_the_median():
    few = _people(12)
    how = wscores.fit(few, ["left-amygdala"], head=True, age=True)
    assert not how["age"] and how["slopes"][0][1] == 1 and "fewer than 20" in how["lines"]
    gap = few.assign(**{"left-amygdala": np.nan})
    assert wscores.apply(gap, how) == pytest.approx(np.median(wscores.apply(few, how)))


def _tables(folder, drawn, **changes):
    """The authors' layout: a table for each split; returns the settings that name them."""
    paths = {}
    for split, rows in drawn.groupby("split"):
        name = "NACC" if split == "external" else f"ADNI_{split}"
        paths[split] = str(folder / f"{name}_volumes.tsv")
        rows = rows.drop(columns=["split", "cohort"])
        changes.get(split, lambda rows: rows)(rows).to_csv(paths[split], sep="\t", index=False)
    return config.RoiTables(**paths)


def _by_hand(folder, tables, **keys):
    settings = config.Baseline(tables=tables, all_regions=config.AllRegions(**{**QUICK, **keys}))
    return PREDICTIONS.read(baseline_of_tables(settings=settings, out_dir=folder / "out"))


def test_tables_of_the_authors_layout_by_hand(tmp_path, drawn, capsys):
    def spoil(rows):
        rows = rows.drop(columns="Left-Caudate").reset_index(drop=True)
        rows.loc[0, ICV] = 0
        rows.loc[1, ["Left-Putamen", "Right-Putamen"]] = np.nan
        return rows

    predictions = _by_hand(tmp_path, _tables(tmp_path, drawn, external=spoil), prior_shift=True)
    told = capsys.readouterr().out.splitlines()
    assert sum("1 of" in line and "no head's" in line for line in told) == 1
    assert sum("not in every table" in line and "left-caudate" in line for line in told) == 1
    assert sum("2 blank regions" in line for line in told) == 1
    assert sum("1 scans without intracranial" in line for line in told) == 1
    by_model = {name: rows.set_index("scan_id") for name, rows in predictions.groupby("model")}
    assert set(by_model) == {"volumes", "volumes-all", "volumes-all-prior"}
    assert len(by_model["volumes-all"]) == len(drawn) and len(by_model["volumes"]) == len(drawn) - 1
    assert set(predictions["cohort"]) == {"ADNI", "NACC"}
    inside, outside = (by_model["volumes-all"]["split"] == split for split in ("test", "external"))
    one, other = (by_model[name][list(P_COLUMNS)] for name in ("volumes-all", "volumes-all-prior"))
    assert np.array_equal(one[inside], other[inside]) and not np.allclose(one[outside], other[outside])
    facts = json.loads((tmp_path / "out" / "volumes-all.json").read_text())
    shares = np.array(facts["external"][0]["estimated_shares"])
    assert facts["external"][0]["cohort"] == "NACC" and shares.sum() == pytest.approx(1)
    # what is stored gives the same predictions
    stored, facts = all_regions.read(tmp_path / "out")
    sane = drawn[drawn["split"] == "test"].rename(columns=str.lower)
    ours = {"estimatedtotalintracranialvol": "intracranial", "age": "age_years", "left-hippocampus": "hippocampus_left"}
    ours |= {"right-hippocampus": "hippocampus_right"}
    ours |= {f"{side[0]}h_entorhinal_volume": f"entorhinal_{side}" for side in ("left", "right")}
    logits = stored.logits(all_regions.matrix(sane.rename(columns=ours), facts["features"]))
    written = by_model["volumes-all"].loc[sane["participant_id"] + "_" + sane["session_id"], list(Z_COLUMNS)]
    np.testing.assert_allclose(logits - logits.mean(axis=1, keepdims=True), written, rtol=0, atol=1e-9)


def test_nothing_but_training_and_validation_scans_reaches_the_model(tmp_path, drawn):
    _by_hand(tmp_path, _tables(tmp_path, drawn))
    before = json.loads((tmp_path / "out" / "volumes-all.json").read_text())

    def turned(rows):
        rows = rows.assign(diagnosis=rows["diagnosis"].to_numpy()[::-1])
        return rows.assign(**{"Left-Hippocampus": 1.1 * rows["Left-Hippocampus"]})

    _by_hand(tmp_path, _tables(tmp_path, drawn, test=turned, external=turned))
    after = json.loads((tmp_path / "out" / "volumes-all.json").read_text())
    for key in ("classifier", "features", "validation", "training_shares"):
        assert after[key] == before[key]


def test_without_any_intracranial_volume_head_size_is_left_in_and_told(tmp_path, drawn, capsys):
    drop = dict.fromkeys(("train", "val", "test", "external"), lambda rows: rows.drop(columns=ICV))
    settings = config.Baseline(
        tables=_tables(tmp_path, drawn, **drop), normalise="none", all_regions=config.AllRegions(models=("logistic",))
    )
    predictions = PREDICTIONS.read(baseline_of_tables(settings=settings, out_dir=tmp_path / "out"))
    assert "head size is left in" in capsys.readouterr().out
    assert predictions.groupby("model")["scan_id"].nunique().eq(len(drawn)).all()


def test_a_cohort_without_intracranial_volumes_is_left_out_and_told(tmp_path, drawn, capsys):
    tables = _tables(tmp_path, drawn, external=lambda rows: rows.drop(columns=ICV))
    settings = config.Baseline(tables=tables, normalise="none", all_regions=config.AllRegions(models=("logistic",)))
    predictions = PREDICTIONS.read(baseline_of_tables(settings=settings, out_dir=tmp_path / "out"))
    n = (drawn["split"] == "external").sum()
    assert f"external has its intracranial; its {n} scans are not predicted" in capsys.readouterr().out
    told = predictions[predictions["split"] == "external"]["model"]
    assert set(told) == {"volumes"} and len(told) == n


@pytest.mark.parametrize("age", [None, "controls", "feature"])
def test_a_blank_age_of_a_table_is_no_reason_to_stop(tmp_path, drawn, capsys, age):
    def spoil(rows):
        return rows.assign(age=[np.nan, 888, *rows["age"].iloc[2:]])  # 888: NACC's unknown

    spoilt = dict.fromkeys(("train", "val", "test", "external"), spoil)
    every = None if age is None else config.AllRegions(models=("logistic",), age=age)
    settings = config.Baseline(tables=_tables(tmp_path, drawn, **spoilt), use_age=True, all_regions=every)
    predictions = PREDICTIONS.read(baseline_of_tables(settings=settings, out_dir=tmp_path / "out"))
    told = capsys.readouterr().out
    n = predictions.groupby("model")["scan_id"].nunique()
    assert n["volumes"] == len(drawn) - 8 and told.count("has no age_years; not predicted") == 8
    if age is not None:  # there a blank age counts as the usual one
        assert n["volumes-all"] == len(drawn) and "8 scans without age_years count as of the usual one" in told


def test_without_any_age_use_age_is_refused_by_its_key_and_not_needed_otherwise(tmp_path, drawn):
    tables = _tables(tmp_path, drawn, train=lambda rows: rows.drop(columns="age"))
    settings = config.Baseline(tables=tables, use_age=True, all_regions=None)
    with pytest.raises(BadInput, match=r"and their age, got age_years of none.*use_age: false") as caught:
        baseline_of_tables(settings=settings, out_dir=tmp_path / "out")
    assert "\n" not in str(caught.value)
    without = settings.model_copy(update={"use_age": False})
    assert len(PREDICTIONS.read(baseline_of_tables(settings=without, out_dir=tmp_path / "out"))) == len(drawn)


@pytest.mark.parametrize(
    ("split", "change", "told"),
    [
        ("train", lambda rows: rows.drop(columns=ICV), "intracranial"),
        ("val", lambda rows: rows.drop(columns="diagnosis"), "column DIAGNOSIS"),
        ("train", lambda rows: rows[WHO[:2] + ["diagnosis", "age", ICV]], "baseline.tables.regions"),
        ("train", lambda rows: rows[rows["diagnosis"] != "AD"], "train scans of CN, MCI and AD"),
    ],
)
def test_faulty_tables_are_refused_in_one_line(tmp_path, drawn, split, change, told):
    tables = _tables(tmp_path, drawn, **{split: change})
    with pytest.raises(BadInput, match=told) as caught:
        _by_hand(tmp_path, tables, models=("logistic",))
    assert "\n" not in str(caught.value)


def test_in_a_study_further_columns_of_the_packed_volumes_are_used(tmp_path):
    made = study.make(tmp_path)
    path = tmp_path / "pack" / "roi_volumes.tsv"
    table = pd.read_csv(path, sep="\t")
    rng = np.random.default_rng(0)
    table["Left-Amygdala"] = 1500 - 200 * made.severity + 20 * rng.normal(size=len(table))
    table["lh_fusiform_thickness"] = 2.7 - 0.2 * made.severity + 0.02 * rng.normal(size=len(table))
    table["MMSE"] = made.severity
    table.to_csv(path, sep="\t", index=False)
    settings = config.Baseline(all_regions=config.AllRegions(models=("logistic",)))
    scans = {"scans_path": tmp_path / "scans.tsv", "splits_path": tmp_path / "splits.tsv"}
    out = baseline(roi_path=path, settings=settings, out_dir=tmp_path / "baseline", **scans)
    regions = json.loads((tmp_path / "baseline" / "volumes-all.json").read_text())["features"]["regions"]
    assert regions[-2:] == ["left-amygdala", "lh_fusiform_thickness"] and len(regions) == 6
    found = PREDICTIONS.read(out)
    unseen = found[found["split"].isin(["test", "external"])]
    scores = {}
    for model, rows in unseen.groupby("model"):
        labels = rows["diagnosis"].map(CLASSES.index).to_numpy()
        scores[model] = score(labels, rows[list(P_COLUMNS)].to_numpy())["macro_auc"]
    assert scores["volumes-all"] > scores["volumes"] + 0.05
    with_none = baseline(
        roi_path=path, settings=config.Baseline(all_regions=None), out_dir=tmp_path / "without", **scans
    )
    assert set(PREDICTIONS.read(with_none)["model"]) == {"volumes"}


def _balanced(labels, logits):
    return score(labels, np.exp(log_softmax(logits, axis=1)))["balanced_accuracy"]


def test_the_default_does_not_fall_into_the_trap_of_age(tmp_path):
    """On a table whose young people are patients at home and healthy abroad, a plain forest loses by age there; the default does not.

    A gain at home is no excuse. That the table has the trap is a part of the test.
    """
    table = draw_table(config.RoiPhantom(seed=11, n_train=160, n_val=60, n_test=60, n_external=140, ages="enrolment"))
    table.to_csv(tmp_path / "table.tsv", sep="\t", index=False)
    predictions = _by_hand(tmp_path, config.RoiTables(path=str(tmp_path / "table.tsv")))
    regions, train = [name for name in table.columns if name not in WHO], table["split"] == "train"
    labels, external = table["diagnosis"].map(CLASSES.index), table["split"] == "external"
    plain = {}
    for name, features in (("with", [*regions, "age"]), ("without", regions)):
        model = RandomForestClassifier(100, random_state=0).fit(table.loc[train, features], labels[train])
        said = np.log(model.predict_proba(table.loc[external, features]) + 1e-6)
        plain[name] = _balanced(labels[external].to_numpy(), said)
    rows = predictions[(predictions["model"] == "volumes-all") & (predictions["split"] == "external")]
    ours = _balanced(rows["diagnosis"].map(CLASSES.index).to_numpy(), rows[list(Z_COLUMNS)].to_numpy())
    assert plain["with"] < plain["without"] - 0.03, "the table has no trap"
    assert ours > plain["without"] - 0.02 and ours > plain["with"] + 0.05
