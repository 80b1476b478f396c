"""Scores by group of people: planted gaps are flagged and chance is not, small groups are named and not counted."""

import numpy as np
import pandas as pd
import pytest
import tiny_study as study
from scipy import stats

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings.bootstrap import draw_scores, interval, scoring, without_each
from elr_mri.findings.metrics import METRICS, score
from elr_mri.findings.subgroups import FACTORS, SUBGROUPS, factors, holm, maker, subgroups, suppressed
from elr_mri.scans.predictions import PREDICTIONS, prediction_table
from elr_mri.scans.table import CLASSES, SCANS, SPLIT

SETTINGS = config.Subgroups(draws=200)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of 320 subjects whose model is blind in men only, and who come from two large sites and many small ones."""
    root = tmp_path_factory.mktemp("subgroups")
    tiny = study.make(root, n_subjects=320)
    rng = np.random.default_rng(1)
    scans = tiny.scans.copy()
    subject = scans["subject_id"].str[-4:].astype(int)
    scans["sex"] = np.where(np.random.default_rng(2).random(2000)[subject] < 0.5, "M", "F")
    scans.loc[subject % 23 == 0, "sex"] = None
    scans["site"] = np.where(subject % 16 == 6, subject.map("S{:03d}".format), np.where(subject % 8 < 4, "A", "B"))
    scans["manufacturer"] = "SIEMENS"
    SCANS.write(scans, root / "scans.tsv")
    rows = scans.merge(SPLIT.read(root / "splits.tsv").drop(columns="fold"), on=["cohort", "subject_id"])
    good = -4 * (tiny.severity[:, None] + 0.4 * rng.normal(size=(len(scans), 1)) - np.array([-1, 0, 1])) ** 2
    blind = np.where((scans["sex"] == "M").to_numpy()[:, None], rng.normal(size=good.shape), good)
    for name, logits in (("fair", good), ("blind", blind)):
        PREDICTIONS.write(prediction_table(rows, logits, model=name, seed=0), root / f"{name}.tsv")
    paths = [root / "fair.tsv", root / "blind.tsv"]
    subgroups(prediction_paths=paths, scans_path=root / "scans.tsv", settings=SETTINGS, out_path=root / "subgroups.tsv")
    return root, scans, SUBGROUPS.read(root / "subgroups.tsv")


def test_a_planted_gap_is_flagged_and_no_other(made):
    _, _, table = made
    flagged = table[table["flagged"] == "yes"]
    assert set(flagged["model"]) == {"blind"} and set(flagged["factor"]) == {"sex"}
    men = table[(table["model"] == "blind") & (table["group"] == "men") & (table["split"] == "test")]
    assert (men["flagged"] == "yes").all() and (men["family_high"] < 0).all() and (men["gap"] < -0.2).all()
    assert (men["family_low"] < men["gap_low"]).all() and (men["gap_high"] < men["family_high"]).all()


def test_scores_are_those_of_the_group_alone_and_everyone_s_are_those_of_evaluate(made):
    root, scans, table = made
    told = PREDICTIONS.read(root / "fair.tsv").merge(scans[["scan_id", "sex"]], on="scan_id").sort_values("scan_id")
    told = told[told["split"] == "test"]
    for name, rows in (("women", told[told["sex"] == "F"]), ("all", told)):
        labels = rows["diagnosis"].map(CLASSES.index).to_numpy()
        probabilities = rows[["p_cn", "p_mci", "p_ad"]].to_numpy()
        line = table.query("model == 'fair' and split == 'test' and metric == 'macro_auc'").set_index("group").loc[name]
        assert line["value"] == pytest.approx(score(labels, probabilities)["macro_auc"])
    assert line["n_scans"] == len(rows) and line["n_subjects"] == rows["subject_id"].nunique()
    draws = draw_scores(labels, [probabilities], rows["subject_id"], draws=200, seed=0)
    without = without_each(scoring(labels, [probabilities]), rows["subject_id"])
    drawn, fewer = (part[0, METRICS.index("macro_auc")] for part in (draws, without))
    low, high = interval(drawn, level=0.95, without=fewer)
    assert (line["low"], line["high"]) == pytest.approx((low, high))


def test_every_group_is_listed_and_small_ones_are_neither_scored_nor_counted(made):
    table = made[2]
    one = table.query("model == 'fair' and split == 'test' and metric == 'macro_auc'").set_index(["factor", "group"])
    assert set(one.loc["sex"].index) == {"women", "men", "unknown"}
    small = one.loc["site"].drop(["A", "B"])
    assert len(small) > 3 and small[["value", "gap", "n_scans", "n_subjects"]].isna().all(axis=None)
    assert (small["note"] == "fewer than 5 subjects").all()
    assert one.loc[("sex", "unknown"), "note"].startswith("fewer than") and pd.isna(
        one.loc[("sex", "unknown"), "value"]
    )
    assert one.loc[("manufacturer", "Siemens"), "note"] == "everyone"
    assert one.loc[("APOE ε4", "unknown"), "note"] == "everyone" and pd.isna(one.loc[("APOE ε4", "unknown"), "gap"])
    assert set(one.index.get_level_values(0)) == {"all", *FACTORS}


def test_two_groups_that_make_up_everyone_are_one_comparison(made):
    root, scans, _ = made
    two = scans.assign(sex=scans["sex"].fillna("F"))
    SCANS.write(two, root / "two.tsv")
    subgroups(
        prediction_paths=[root / "fair.tsv"],
        scans_path=root / "two.tsv",
        settings=SETTINGS,
        out_path=root / "two_groups.tsv",
    )
    sex = (
        SUBGROUPS.read(root / "two_groups.tsv")
        .query("factor == 'sex' and split == 'test'")
        .set_index(["group", "metric"])
    )
    assert sex.loc["men", "gap"].notna().all() and sex.loc["women", "gap"].isna().all()
    for metric in SETTINGS.metrics:
        between = sex.loc[("men", metric), "value"] - sex.loc[("women", metric), "value"]
        assert sex.loc[("men", metric), "gap"] == pytest.approx(between)


def test_values_become_groups():
    scans = pd.DataFrame({
        "age_years": [69.9, 70, 80, 91], "sex": ["F", "M", None, "F"], "field_strength_t": [1.494, 2.9, np.nan, 3],
        "manufacturer": ["GE MEDICAL SYSTEMS", "Philips Healthcare", None, "Hitachi"], "site": ["1", None, "2", "2"], "apoe4": [0, 1, 2, np.nan],
    })  # fmt: skip
    told = factors(scans, (70, 80))
    assert list(told["age"]) == ["under 70", "70 to under 80", "80 and over", "80 and over"]
    assert list(told["sex"]) == ["women", "men", "unknown", "women"]
    assert list(told["field strength"]) == ["1.5 T", "3 T", "unknown", "3 T"]
    assert list(told["manufacturer"]) == ["GE", "Philips", "unknown", "Hitachi"] and maker("SIEMENS") == "Siemens"
    assert list(told["APOE ε4"]) == ["none", "one copy", "two copies", "unknown"]


def test_holm_widens_the_intervals_step_by_step():
    gaps, df = np.array([0.4, 0.3, 0.05, 0.2, np.nan]), 30
    table = pd.DataFrame({"gap": gaps, "se": [0.08, 0.1, 0.1, 0.08, np.nan], "df": df})
    found = holm(table, 0.95)
    p = 2 * stats.t.sf(gaps[:4] / table["se"][:4], df)
    assert list(found["p_holm"][:4]) == pytest.approx([4 * p[0], 3 * p[1], p[2], max(2 * p[3], 3 * p[1])])
    assert list(found["flagged"][:4]) == ["yes", "yes", "no", "yes"] and pd.isna(found["flagged"][4])
    assert ((found["family_low"] > 0) == (found["flagged"] == "yes")).all()
    assert found["family_low"][2] == pytest.approx(
        found["gap_low"][2]
    )  # the last one left is tested at the whole level


def test_a_single_small_count_cannot_be_had_by_subtraction():
    sizes = {"a": 40, "b": 12, "c": 3}
    rows = [
        {"cohort": "A", "split": "test", "factor": "sex", "group": g, "n_subjects": n, "n_scans": 2 * n, "note": None}
        for g, n in sizes.items()
    ]
    found = suppressed(pd.DataFrame(rows), 5).set_index("group")
    assert found["n_subjects"].isna().to_dict() == {"a": False, "b": True, "c": True} and pd.isna(
        found.loc["b", "note"]
    )
    assert suppressed(pd.DataFrame(rows), 0)["n_subjects"].tolist() == [40, 12, 3]


def test_models_that_no_table_holds_and_scans_that_the_scan_table_lacks_are_refused(made, tmp_path):
    root, scans, _ = made
    with pytest.raises(BadInput, match="wide"):
        subgroups(prediction_paths=[root / "fair.tsv"], scans_path=root / "scans.tsv", settings=config.Subgroups(models=("wide",)), out_path=tmp_path / "x.tsv")  # fmt: skip
    SCANS.write(scans.iloc[1:], tmp_path / "scans.tsv")
    with pytest.raises(BadInput, match="scans of the scan table"):
        subgroups(prediction_paths=[root / "fair.tsv"], scans_path=tmp_path / "scans.tsv", settings=SETTINGS, out_path=tmp_path / "x.tsv")  # fmt: skip
