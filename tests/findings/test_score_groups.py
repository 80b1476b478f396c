"""What stands beside a group's scores: guessing by the classes that occur there, and published numbers of the same cohort only."""

import numpy as np
import pandas as pd
import pytest

from elr_mri import config
from elr_mri.findings import baseline_told, charts, opening, words, wscores
from elr_mri.findings.metrics import METRICS, score
from elr_mri.findings.score_groups import published_beside
from elr_mri.findings.tables import DIFFERENCES, RESULTS

GROUPS = {("ADNI", "test"): (0, 1, 2), ("OTHER", "external"): (0, 2), ("NACC", "external"): (0, 1, 2)}


@pytest.fixture(scope="module")
def results():
    """The table of two models; nobody of cohort OTHER has MCI."""
    rng, rows = np.random.default_rng(0), []
    for (cohort, split), classes in GROUPS.items():
        labels = rng.choice(classes, 60)
        for model, sharp in (("volumes", 0.1), ("wide", 3.0)):
            said = np.exp(rng.normal(size=(60, 3)) + sharp * np.eye(3)[labels])
            found = score(labels, said / said.sum(axis=1, keepdims=True))
            place = {"model": model, "cohort": cohort, "split": split, "level": 0.95}
            counts = {"n_scans": 60, "n_subjects": 30, "n_seeds": 1}
            rows += [{**place, "metric": m, "value": found[m], "low": found[m] - 0.05, "high": found[m] + 0.05, **counts} for m in METRICS]  # fmt: skip
    return RESULTS.validate(pd.DataFrame(rows), where="test")


def test_guessing_is_one_over_the_classes_that_a_cohort_has(results):
    assert words.guessing(results, "ADNI", "test") == pytest.approx(1 / 3)
    assert words.guessing(results, "OTHER", "external") == 0.5
    # whoever names one class of two for every scan is right in half by balanced accuracy
    always = score(np.array([0, 0, 0, 2]), np.tile([1.0, 0, 0], (4, 1)))
    assert always["balanced_accuracy"] == words.guessing(results, "OTHER", "external")


def test_the_page_s_words_and_lines_say_the_guess_of_each_cohort(results):
    own = results.assign(low=results["value"].where(results["metric"] == words.LEAD) - 0.02)
    own.loc[(own["cohort"] == "OTHER") & (own["metric"] == words.LEAD), ["value", "low", "high"]] = 0.45, 0.40, 0.5
    pairs = pd.DataFrame(columns=[column.name for column in DIFFERENCES.columns])
    said = dict(opening.in_short(own, pairs, "volumes"))
    assert "guessing reaches 50.0 %. That cannot be told from guessing." in said["OTHER (external)"]
    assert "guessing reaches 33.3 %" in said["ADNI test"]
    meant = dict(words.meaning(own, pairs, "volumes"))
    assert any("Guessing would score 50.0 %" in text and "none of 2" in text for text in meant["OTHER (external)"])
    note = words.guessing_note(results)
    assert note.endswith("balanced accuracy by guessing is higher: 50.0 in OTHER (external).")
    assert "Where" not in words.guessing_note(results[results["cohort"] != "OTHER"])
    panels = charts.forest(results).axes
    dashed = {axes.get_title().split("\n")[0]: axes.lines[-1].get_xdata()[0] for axes in panels if "\n" in axes.get_title()}  # fmt: skip
    assert dashed["OTHER (external)"] == 50 and dashed["ADNI test"] == pytest.approx(100 / 3)


def _beside(results, *cohorts):
    groups = {group["title"]: group["methods"] for group in published_beside(results, cohorts)}
    return {title: [ours for _, ours in methods[0]["cells"]] for title, methods in groups.items()}


def _cohort(name, of="tsv"):
    return config.Cohort(name=name, format=of, path="x", role="external")


def test_published_numbers_of_nacc_stand_beside_nacc_and_no_other_cohort(results):
    nacc = results[(results["cohort"] == "NACC") & (results["model"] == "volumes")].set_index("metric")["value"]
    told = _beside(results, _cohort("OTHER"), _cohort("NACC"))
    assert told["NACC (external)"][1] == f"{100 * nacc['balanced_accuracy']:.1f}"
    without = results[results["cohort"] != "NACC"]
    assert _beside(without, _cohort("OTHER"))["NACC (external)"] == [None] * 4
    assert _beside(without, _cohort("OTHER", "nacc"))["NACC (external)"][1] is not None
    renamed = results.assign(cohort=results["cohort"].replace({"NACC": "SECOND"}))
    both = _beside(renamed, _cohort("OTHER", "nacc"), _cohort("SECOND", "nacc"))
    assert both["NACC (external)"] == [None] * 4 and both["ADNI test, 380 scans of 96 subjects"][0] is not None


def _facts(n_controls):
    rng = np.random.default_rng(0)
    train = pd.DataFrame({"diagnosis": ["CN"] * n_controls + ["AD"] * 10})
    train["age_years"], train["intracranial"] = rng.uniform(60, 90, len(train)), rng.normal(1.5e6, 1e5, len(train))
    train["left-amygdala"] = rng.normal(1500, 100, len(train))
    how = wscores.fit(train, ["left-amygdala"], head=True, age=True) | {"age_is_feature": False}
    trial = {"setting": "C 1", "chosen": True}
    return {"features": how, "classifier": {"kind": "logistic", "temperature": 1.0}, "validation": [trial]}


def test_lines_are_said_to_take_head_size_out_only_where_they_were_fitted():
    seen = baseline_told._of_all(_facts(30))["sees"]
    assert seen == "1 regions, head size and age taken out by 30 CN training scans"
    seen = baseline_told._of_all(_facts(12))["sees"]
    assert "taken out" not in seen and "shares of the intracranial volume, age left in: fewer than 20 controls" in seen
