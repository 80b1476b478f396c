"""A temperature is fitted on validation scans alone, repairs a planted overconfidence, and says when it cannot be fitted."""

import numpy as np
import pandas as pd
import pytest
import tiny_study as study
from scipy.special import softmax
from scipy.stats import binomtest

from elr_mri import config
from elr_mri.findings import reliability, style, trust
from elr_mri.findings.calibration import BOUNDS, best_temperature, calibrate, log_loss, share_interval
from elr_mri.findings.evaluate import evaluate
from elr_mri.findings.metrics import score
from elr_mri.findings.predicted import Group
from elr_mri.findings.tables import CALIBRATION, RELIABILITY, TEMPERATURES
from elr_mri.scans.predictions import P_COLUMNS, PREDICTIONS, Z_COLUMNS
from elr_mri.scans.table import CLASSES

SETTINGS = config.Evaluate(draws=200)


def _group(split: str, *, times: float, n: int = 900, seed: int = 0, classes=(0, 1, 2)) -> Group:
    """Scans whose classes are drawn from the model's own probabilities; the model then says `times` the logits."""
    rng = np.random.default_rng([seed, len(split)])
    logits = rng.normal(0, 1.5, (n, 3))
    labels = np.array([rng.choice(3, p=p) for p in softmax(logits, axis=1)])
    kept = np.isin(labels, classes)
    logits, labels = times * logits[kept], labels[kept]
    said = {("net", 0): softmax(logits, axis=1)}
    subjects = (np.arange(len(labels)) // 3).astype(str)
    return Group("ADNI", split, subjects, labels, said, {("net", 0): logits})


def test_a_planted_overconfidence_is_found_and_repaired():
    val, test = _group("val", times=2.5, n=3000), _group("test", times=2.5, n=3000)
    temperatures, scores, _ = calibrate([val, test], SETTINGS)
    assert temperatures[0]["temperature"] == pytest.approx(2.5, rel=0.08) and temperatures[0]["note"] == ""
    found = pd.DataFrame(scores).set_index(["metric", "state"])
    for metric in ("brier", "log_loss", "ece"):
        assert found.loc[(metric, "difference"), "high"] < 0, metric
        change = found.loc[(metric, "after"), "value"] - found.loc[(metric, "before"), "value"]
        assert found.loc[(metric, "difference"), "value"] == pytest.approx(change)
    assert found.loc[("ece", "after"), "value"] < 0.03 < 0.1 < found.loc[("ece", "before"), "value"]


def test_the_temperature_is_the_lowest_log_loss_there_is():
    group = _group("val", times=0.6)
    labels, logits = group.labels, group.logits["net", 0]
    best = best_temperature(labels, logits)
    losses = {t: log_loss(labels, softmax(logits / t, axis=1)) for t in np.geomspace(*BOUNDS, 4001)}
    grid = min(losses, key=losses.get)
    assert best == pytest.approx(grid, rel=2e-3)
    assert log_loss(labels, softmax(logits / best, axis=1)) <= losses[grid] + 1e-9


def test_unseen_scans_have_no_say_in_the_temperature():
    val, one, other = _group("val", times=2), _group("test", times=2), _group("test", times=0.3)
    fitted = [calibrate([val, test], SETTINGS)[0] for test in (one, other)]
    assert fitted[0] == fitted[1]


@pytest.mark.parametrize(
    ("groups", "note"),
    [
        ([_group("test", times=1.0)], "no validation scans"),
        ([_group("val", times=1.0, classes=(0, 1)), _group("test", times=1.0)], "no validation scan of AD"),
    ],
)
def test_what_cannot_be_fitted_as_it_should_is_said(groups, note):
    temperatures, scores, curves = calibrate(groups, SETTINGS)
    assert note in temperatures[0]["note"]
    fitted = len(groups) > 1
    assert np.isfinite(temperatures[0]["temperature"]) == fitted
    after = [row["value"] for row in scores if row["state"] == "after"]
    assert np.isfinite(after).all() == fitted and len(after) == 3
    assert {row["state"] for row in curves} == ({"before", "after"} if fitted else {"before"})


def test_a_temperature_at_the_end_of_the_search_is_said():
    group = _group("val", times=1.0)
    right = Group("ADNI", "val", group.subjects, group.labels, group.predictions, {("net", 0): np.eye(3)[group.labels]})
    blind = Group(
        "ADNI", "val", group.subjects, group.labels, group.predictions, {("net", 0): -np.eye(3)[group.labels]}
    )
    (sharp,), (flat,) = (calibrate([one], SETTINGS)[0] for one in (right, blind))
    assert sharp["temperature"] == pytest.approx(BOUNDS[0], rel=1e-2) and "as small as" in sharp["note"]
    assert flat["temperature"] == pytest.approx(BOUNDS[1], rel=1e-2) and "as large as" in flat["note"]


def test_intervals_of_a_bin_hold_the_share_and_are_wider_of_few():
    for share, n in ((0.0, 4), (1.0, 4), (0.6, 50)):
        low, high = share_interval(share, n, level=0.95)
        expected = binomtest(round(share * n), n).proportion_ci(0.95, method="wilson")
        assert (low, high) == pytest.approx((expected.low, expected.high))
        assert low <= share <= high and high - low > 0.1


@pytest.fixture
def tables(tmp_path):
    made = study.make(tmp_path)
    paths = [study.predict(made, "wide", noise=1.0, seed=seed) / "predictions.tsv" for seed in (0, 1)]
    evaluate(prediction_paths=paths, settings=SETTINGS, out_dir=tmp_path / "findings")
    return tmp_path / "findings" / "tables", paths


def test_the_tables_say_what_the_predictions_say(tables):
    folder, paths = tables
    read = {
        schema.name: schema.read(folder / f"{schema.name}.tsv") for schema in (TEMPERATURES, CALIBRATION, RELIABILITY)
    }
    temperatures = read["temperatures"].set_index(["model", "seed"])["temperature"]
    expected = []
    for seed, path in enumerate(paths):
        rows = PREDICTIONS.read(path).query("split == 'external'")
        labels = rows["diagnosis"].map(CLASSES.index).to_numpy()
        said = softmax(rows[list(Z_COLUMNS)].to_numpy(float) / temperatures["wide", seed], axis=1)
        expected.append(
            (score(labels, rows[list(P_COLUMNS)].to_numpy(float))["log_loss"], score(labels, said)["log_loss"])
        )
    own = (
        read["calibration"].query("model == 'wide' and split == 'external' and metric == 'log_loss'").set_index("state")
    )
    assert own.loc["before", "value"] == pytest.approx(np.mean(expected, axis=0)[0])
    assert own.loc["after", "value"] == pytest.approx(np.mean(expected, axis=0)[1])
    assert set(own["n_seeds"]) == {2}
    counts = read["reliability"].groupby(["model", "split", "state"])["n_predictions"].sum()
    assert counts["wide", "external", "before"] == 2 * len(rows) and counts[
        "wide-ensemble", "external", "after"
    ] == len(rows)


def test_the_page_says_it_in_words_and_draws_every_panel(tables):
    read = trust.read(tables[0])
    told = trust.told(read)
    assert told["any"] and told["n_validation"] == 30 and told["n_validation_subjects"] == 15
    assert [group["title"] for group in told["groups"]] == ["ADNI test", "NACC (external)"]
    wide = told["groups"][0]["methods"][0]
    assert wide["name"] == "wide" and wide["temperatures"].count(",") == 1
    assert all("→" in value and "to" in change for value, change in wide["cells"])
    assert any("log-loss" in sentence for sentence in told["groups"][0]["sentences"])
    with style.drawing():
        drawn = reliability.curves(read.curves)
    titles = [panel.get_title(loc="left") for panel in drawn.axes if panel.get_visible()]
    assert titles == [
        f"{group}:\n{model}" for group in ("ADNI test", "NACC (external)") for model in ("wide", "wide-ensemble")
    ]
