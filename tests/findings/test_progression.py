"""From visits to time to AD: who is followed, who is not and why, and a planted risk that is found."""

import numpy as np
import pandas as pd
import pytest
import tiny_study as study

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings.progression import (
    FOLLOWED,
    PROGRESSION,
    STATES,
    SURVIVAL,
    _curves,
    count,
    follow,
    hidden,
    progression,
)
from elr_mri.scans.predictions import PREDICTIONS, prediction_table
from elr_mri.scans.table import SCANS, SPLIT, VISITS

#: What each subject's visits say, by months; the scan is at month 12 unless told otherwise.
STORIES = {
    "a": {0: "MCI", 12: "MCI", 24: "MCI", 36: "AD", 48: "AD"},
    "b": {12: "MCI", 24: "MCI", 60: "MCI", 72: None},
    "c": {0: "AD", 12: "MCI", 24: "AD"},
    "d": {0: "MCI", 12: "MCI"},
    "e": {12: "MCI", 24: "CN"},
    "f": {12: "MCI", 18: "AD", 24: "MCI"},
    "g": {12: "CN", 24: "AD"},
    "h": {12: "MCI", 24: None},
}


def _tables():
    visits = [
        {"cohort": "ADNI", "subject_id": who, "months": months, "age_years": np.nan, "diagnosis": diagnosis}
        for who, story in STORIES.items()
        for months, diagnosis in story.items()
    ]
    scans = [
        {
            "scan_id": f"{who}_{months}",
            "subject_id": who,
            "diagnosis": story[months],
            "months": months,
            "age_years": 70.0,
        }
        for who, story in STORIES.items()
        for months in (12, 24)
        if story.get(months)
    ]
    return pd.DataFrame(scans), pd.DataFrame(visits)


def test_every_subject_is_followed_or_left_out_for_a_reason():
    scans, visits = _tables()
    people = follow(pd.concat([scans, scans]), visits.sample(frac=1, random_state=0)).set_index("subject_id")
    assert people["state"].to_dict() == {
        "a": "came to AD", "b": "censored", "c": "AD before", "d": "no later diagnosis", "e": "censored",
        "f": "came to AD", "g": "no MCI scan", "h": "no later diagnosis",
    }  # fmt: skip
    assert people.loc["a", ["scan_id", "years", "event"]].tolist() == ["a_12", 2.0, True]
    assert people.loc["b", ["years", "event"]].tolist() == [4.0, False]  # until the last diagnosis, not the last visit
    assert people.loc["f", "years"] == 0.5 and people.loc["f", "taken_back"] and people.loc["e", "returned"]
    counts = count(people.reset_index())
    assert sum(counts[state] for state in STATES) == len(STORIES) == len(people)
    assert counts["returned to CN"] == counts["AD taken back"] == 1


def test_small_counts_are_hidden_and_cannot_be_had_by_subtraction():
    def shown(*numbers):
        rows = pd.DataFrame({"cohort": "A", "split": "test", "what": STATES, "n_subjects": numbers})
        return hidden(rows, 5)["n_subjects"].notna().tolist()

    assert shown(24, 1, 0, 7, 9) == [False, False, True, True, True]
    assert shown(24, 8, 0, 3, 9) == [True, True, True, False, False]
    assert shown(24, 8, 0, 6, 9) == [True] * 5 and shown(3, 4, 0, 6, 9) == [False, False, True, True, True]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study whose people with MCI come to AD the sooner, the severer they are; one model that sees it and one that guesses."""
    root = tmp_path_factory.mktemp("progression")
    tiny = study.make(root, n_subjects=900)
    rng = np.random.default_rng(0)
    first = tiny.scans.assign(severity=tiny.severity).drop_duplicates("subject_id")
    rows = []
    for person in first.itertuples():
        until = rng.exponential(60 / np.exp(5 * person.severity))
        stays = rng.uniform(12, 72)
        for months in range(0, 84, 6):
            if months > stays and months > 12:
                break
            diagnosis = "AD" if person.diagnosis == "MCI" and months > 12 and months - 12 >= until else person.diagnosis
            rows.append({"cohort": person.cohort, "subject_id": person.subject_id, "months": months, "age_years": np.nan, "diagnosis": diagnosis})  # fmt: skip
    VISITS.write(pd.DataFrame(rows), root / "visits.tsv")
    told = tiny.scans.merge(SPLIT.read(root / "splits.tsv").drop(columns="fold"), on=["cohort", "subject_id"])
    for name, guess in (("guess", rng.normal(size=len(told))), ("seer", tiny.severity)):
        logits = -4 * (guess[:, None] - np.array([-1, 0, 1])) ** 2
        PREDICTIONS.write(prediction_table(told, logits, model=name, seed=0), root / f"{name}.tsv")
    return root, tiny


def _run(root, out, *, scans_path=None, **settings):
    progression(
        prediction_paths=[root / "guess.tsv", root / "seer.tsv"],
        scans_path=scans_path or root / "scans.tsv",
        visits_path=root / "visits.tsv",
        settings=config.Progression(draws=200, **settings),
        out_dir=out,
    )
    schemas = {"progression": PROGRESSION, "survival": SURVIVAL, "followed": FOLLOWED}
    return [schema.read(out / f"{name}.tsv") for name, schema in schemas.items()]


def test_a_predicted_scan_that_the_scan_table_lacks_is_refused(made, tmp_path):
    root, tiny = made
    tested = tiny.scans["subject_id"].isin(SPLIT.read(root / "splits.tsv").query("split == 'test'")["subject_id"])
    lost = tiny.scans["scan_id"][tested].iloc[:3]
    SCANS.write(tiny.scans[~tiny.scans["scan_id"].isin(lost)], tmp_path / "scans.tsv")
    with pytest.raises(BadInput, match=f"{lost.iloc[0]} and 2 more that it lacks") as caught:
        _run(root, tmp_path, scans_path=tmp_path / "scans.tsv")
    assert str(tmp_path / "scans.tsv") in str(caught.value) and not (tmp_path / "progression.tsv").exists()


def test_a_planted_risk_is_found_and_a_guess_is_not(made, tmp_path):
    root, tiny = made
    measures, curves, followed = _run(root, tmp_path)
    one = measures[measures["split"] == "test"].set_index(["model", "measure"])
    assert one.loc[("seer", "hazard_ratio"), "low"] > 1.2 and one.loc[("seer", "hazard_ratio_age"), "low"] > 1.2
    assert one.loc[("seer", "concordance"), "low"] > 0.55
    guess = one.loc[("guess", "concordance")]
    assert guess["low"] < 0.5 < guess["high"] and one.loc[("guess", "hazard_ratio"), "low"] < 1
    gain = one.loc[("seer", "concordance_gain")]
    assert gain["value"] == pytest.approx(one.loc[("seer", "concordance"), "value"] - guess["value"])
    assert gain["low"] > 0 and gain["p"] < 0.05 and ("guess", "concordance_gain") not in one.index
    ends = curves[(curves["split"] == "test") & (curves["model"] == "seer")].groupby("risk")["survival"].min()
    assert ends["higher"] < ends["lower"] - 0.15 and curves["at_risk"].min() >= 5
    counts = followed[followed["split"] == "test"].set_index("what")["n_subjects"]
    tested = tiny.scans["subject_id"].isin(SPLIT.read(root / "splits.tsv").query("split == 'test'")["subject_id"])
    assert counts[list(STATES)].sum() == tiny.scans.loc[tested, "subject_id"].nunique()
    assert one["n_events"].unique().tolist() == [counts["came to AD"]]


def test_the_cut_knows_nothing_of_the_outcome(made, tmp_path):
    """Other diagnoses after the index scans, the same risk groups at the start."""
    root, _ = made
    one = _run(root, tmp_path / "a", risk_groups=3)[1].query("step == 0 and split == 'test' and model == 'seer'")
    assert one["risk"].tolist() == ["lowest", "middle", "highest"] and one["at_risk"].max() - one["at_risk"].min() <= 1


def test_too_few_events_are_said_and_nothing_is_estimated(made, tmp_path):
    measures = _run(made[0], tmp_path, min_events=500)[0]
    assert (measures["note"] == "fewer than 500 came to AD").all() and measures["value"].isna().all()


@pytest.mark.parametrize("n_events", [2, 13])
def test_curves_do_not_tell_a_count_that_is_hidden(n_events):
    """15 people of whom 2, or all but 2, came to AD: the steps of the curves and who is at risk beside them would tell it."""
    event = np.arange(15) < n_events
    people = pd.DataFrame({"years": np.linspace(0.5, 4, 15), "event": event})
    risks = {"wide": np.random.default_rng(0).normal(size=15)}
    assert not list(_curves(people, risks, config.Progression()))
    assert list(_curves(people.assign(event=np.arange(15) < 6), risks, config.Progression()))
    assert list(_curves(people, risks, config.Progression(min_cell=1)))
