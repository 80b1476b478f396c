"""P-values agree with the intervals, and Holm's hold over all comparisons of the report."""

import numpy as np
import pandas as pd
import pytest
import tiny_study as study

from elr_mri import config
from elr_mri.findings.bootstrap import holm, interval, p_value
from elr_mri.findings.comparisons import compared, p_text, sentences, texts
from elr_mri.findings.evaluate import evaluate
from elr_mri.findings.tables import COMPARISONS, DIFFERENCES


def test_a_p_value_and_its_interval_say_the_same():
    rng = np.random.default_rng(0)
    for shift in np.linspace(-4, 4, 41):
        draws = rng.normal(shift, 1, 2000)
        low, high = interval(draws, level=0.95)
        p = p_value(draws)
        if abs(p - 0.05) > 0.002:
            assert (p < 0.05) == (low > 0 or high < 0), shift


def test_p_values_at_the_ends():
    assert p_value(np.zeros(500)) == 1.0
    assert p_value(np.ones(1999)) == pytest.approx(2 / 2000)
    assert np.isnan(p_value(np.full(10, np.nan)))


def test_holm_is_the_textbook_s():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, 0.7])), [1, 1])


@pytest.fixture
def differences(tmp_path):
    made = study.make(tmp_path)
    noises = {"volumes": 3.0, "good": 0.1, "poor": 3.0, "middling": 1.0}
    paths = [study.predict(made, name, noise=noise) / "predictions.tsv" for name, noise in noises.items()]
    evaluate(prediction_paths=paths, settings=config.Evaluate(draws=400), out_dir=tmp_path / "findings")
    return DIFFERENCES.read(tmp_path / "findings" / "tables" / "differences.tsv")


def test_the_family_is_every_other_method_on_every_unseen_group(differences):
    family = COMPARISONS.validate(compared(differences, "volumes"), where="test")
    assert set(zip(family["model"], family["split"], strict=True)) == {
        (model, split) for model in ("good", "poor", "middling") for split in ("test", "external")
    }
    assert set(family["metric"]) == {"balanced_accuracy"} and set(family["reference"]) == {"volumes"}
    np.testing.assert_allclose(family["p_holm"], holm(family["p"].to_numpy(float)))
    assert (family["p_holm"] >= family["p"]).all() and (family["p_holm"] > family["p"]).any()
    assert "6 comparisons with volumes" in sentences(family, "volumes")[0]
    assert texts(family)["ADNI test", "good"][0] == p_text(
        family.query("model == 'good' and split == 'test'")["p"].item()
    )


def test_turning_a_comparison_leaves_its_p_value(differences):
    direct, turned = (compared(differences, name) for name in ("volumes", "good"))
    one = direct.query("model == 'good' and split == 'test'").iloc[0]
    other = turned.query("model == 'volumes' and split == 'test'").iloc[0]
    assert one["p"] == other["p"] and one["difference"] == -other["difference"]


def test_a_reference_that_nobody_scored_makes_no_family(differences):
    family = compared(differences, "absent")
    assert family.empty and sentences(family, "absent") == [] and texts(family) == {}
    assert isinstance(COMPARISONS.validate(family, where="test"), pd.DataFrame)


def test_p_values_as_text():
    assert [p_text(p) for p in (0.0004, 0.0312, 0.5, float("nan"))] == ["< 0.001", "0.031", "0.50", "–"]
