"""The synthetic table of ROI volumes: the same for a seed, sound in who is in it, the disease where it belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from elr_mri.config import RoiPhantom
from elr_mri.phantom.roi_tables import ICV, draw_table, roi_tables

SMALL = RoiPhantom(n_train=60, n_val=20, n_test=20, n_external=40)


def test_the_synthetic_table_is_the_same_for_a_seed_and_its_classes_differ_where_the_disease_is() -> None:
    drawn = draw_table(SMALL)
    pd.testing.assert_frame_equal(drawn, draw_table(SMALL))
    assert not drawn["Left-Hippocampus"].equals(draw_table(SMALL.model_copy(update={"seed": 1}))["Left-Hippocampus"])
    assert drawn.groupby("participant_id")["split"].nunique().max() == 1
    means = drawn.groupby("diagnosis")[
        ["Left-Hippocampus", "rh_entorhinal_volume", "Left-Inf-Lat-Vent", "lh_pericalcarine_volume"]
    ].mean()
    ratio = means.loc["AD"] / means.loc["CN"]
    assert ratio["Left-Hippocampus"] < 0.9 and ratio["rh_entorhinal_volume"] < 0.9 and ratio["Left-Inf-Lat-Vent"] > 1.2
    assert abs(ratio["lh_pericalcarine_volume"] - 1) < 0.1
    flat = draw_table(SMALL.model_copy(update={"effect_scale": 0.0}))
    still = flat.groupby("diagnosis")["Left-Hippocampus"].mean()
    assert still["AD"] / still["CN"] > ratio["Left-Hippocampus"] + 0.05


def test_visits_of_a_subject_are_alike_and_the_external_cohort_is_another_one() -> None:
    drawn = draw_table(SMALL)
    volumes = np.log(drawn.set_index("participant_id")[["Left-Hippocampus", "lh_insula_volume", ICV]])
    within = volumes.groupby(level=0).std().mean()
    assert (within < 0.5 * volumes.std()).all()
    external = drawn["split"] == "external"
    assert set(drawn.loc[external, "cohort"]) == {"NACC"} and set(drawn.loc[~external, "cohort"]) == {"ADNI"}
    assert drawn.loc[external, "age"].mean() < drawn.loc[~external, "age"].mean()
    normal = (drawn["diagnosis"] == "CN").groupby(external).mean()
    assert normal[True] > normal[False] + 0.1


def test_a_table_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    path = roi_tables(SMALL, tmp_path)
    before = path.stat().st_mtime_ns
    assert roi_tables(SMALL, tmp_path).stat().st_mtime_ns == before
    pd.testing.assert_frame_equal(pd.read_csv(path, sep="\t"), draw_table(SMALL))


def test_ages_by_enrolment_change_who_is_young_and_nothing_of_who_is_sick() -> None:
    """At home the young are patients, abroad they are healthy; with `alike` they are neither."""
    drawn, enrolled = draw_table(SMALL), draw_table(SMALL.model_copy(update={"ages": "enrolment"}))
    same = ["participant_id", "session_id", "cohort", "split", "diagnosis", "sex", ICV]
    pd.testing.assert_frame_equal(drawn[same], enrolled[same])
    large = draw_table(RoiPhantom(n_train=300, n_external=300, ages="enrolment"))
    young = large[large["age"] < 68]
    share = (young["diagnosis"] == "CN").groupby(young["cohort"]).mean()
    every = (large["diagnosis"] == "CN").groupby(large["cohort"]).mean()
    assert share["ADNI"] < every["ADNI"] - 0.1 and share["NACC"] > every["NACC"] + 0.1
