"""Tables of ROI volumes at the door: head sizes, whole blank splits, subjects of several cohorts, and labels that leave too few controls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from elr_mri.config import Lab, Noise, RoiPhantom, Tables
from elr_mri.errors import BadInput
from elr_mri.lab.features import features
from elr_mri.lab.roi import RoiTable, read_roi
from elr_mri.lab.table_runs import Data
from elr_mri.lab.tables import tables
from elr_mri.phantom.roi_tables import draw_table

ETIV = "EstimatedTotalIntraCranialVol"


@pytest.fixture(scope="module")
def drawn() -> pd.DataFrame:
    return draw_table(RoiPhantom(n_train=40, n_val=20, n_test=20, n_external=20))


def read(folder: Path, frame: pd.DataFrame, **keys) -> tuple[RoiTable, Tables]:
    frame.to_csv(folder / "roi.csv", index=False)
    own = Tables(path=str(folder / "roi.csv"), **keys)
    return read_roi(own), own


def given(table: RoiTable) -> np.ndarray:
    return table.scans["label"].to_numpy()[table.rows("train")]


def test_naccs_head_size_in_cm3_is_the_same_as_freesurfers_in_mm3(tmp_path: Path, drawn: pd.DataFrame, capsys) -> None:
    cm3 = (drawn[ETIV] / 1000).where(drawn.index > 0, 9999.999)  # NACC's code of a missing volume
    table, _ = read(tmp_path, drawn.drop(columns=ETIV).assign(NACCICV=cm3))
    told = capsys.readouterr().out
    np.testing.assert_allclose(table.scans["intracranial"].iloc[1:], drawn[ETIV].iloc[1:])
    assert np.isnan(table.scans["intracranial"].iloc[0]) and "1 of" in told and "naccicv" in told and "cm³" in told


@pytest.mark.parametrize("split", ["external", "test"])
def test_a_head_size_that_a_whole_split_lacks_is_refused_in_one_line(
    tmp_path: Path, drawn: pd.DataFrame, split: str
) -> None:
    blank = drawn.assign(**{ETIV: drawn[ETIV].where(drawn["split"] != split)})
    table, own = read(tmp_path, blank)
    with pytest.raises(BadInput, match=f"intracranial of some {split} scan") as caught:
        features(table, given(table), own)
    assert "\n" not in str(caught.value)
    features(table, given(table), own.model_copy(update={"normalise": "none"}))


def test_a_region_that_a_whole_split_lacks_is_no_feature_and_is_told(
    tmp_path: Path, drawn: pd.DataFrame, capsys
) -> None:
    blank = drawn.assign(**{"Left-Hippocampus": drawn["Left-Hippocampus"].where(drawn["split"] != "external")})
    table, own = read(tmp_path, blank)
    assert "blank in all external scans and left out: left-hippocampus (1)" in capsys.readouterr().out
    assert not [name for name in features(table, given(table), own)[1] if name.startswith("left-hippocampus")]


def test_equal_ids_of_two_cohorts_are_two_people(tmp_path: Path, drawn: pd.DataFrame, capsys) -> None:
    ids = drawn.groupby("cohort")["participant_id"].transform(lambda one: pd.factorize(one)[0]).astype(str)
    table, own = read(tmp_path, drawn.assign(participant_id="sub-" + ids))
    assert "count as different people" in capsys.readouterr().out
    assert table.scans["person"].nunique() == drawn["participant_id"].nunique()
    with pytest.raises(BadInput, match="each scan once"):  # no cohort told: the same name is the same person
        read(tmp_path, drawn.assign(participant_id="sub-" + ids).drop(columns="cohort"))
    two = table.scans.assign(split="train")
    noise = Noise(per="subject", share=0.5)
    wrong = Data(RoiTable(two, table.regions, {}, {}), "", noise, own, tmp_path).given("train", 0.5, 0) != two["label"]
    alike = pd.DataFrame({"name": two["subject_id"], "cohort": two["cohort"], "wrong": wrong}).groupby(
        ["name", "cohort"]
    )["wrong"]
    assert (alike.nunique() == 1).all()
    first = alike.first().unstack().dropna()
    assert (first["ADNI"] != first["NACC"]).any()


def test_a_tilde_is_the_home_folder(tmp_path: Path, drawn: pd.DataFrame, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    drawn.to_csv(tmp_path / "roi.csv", index=False)
    assert len(read_roi(Tables(path="~/roi.csv")).scans) == len(drawn)


def test_flips_that_leave_too_few_controls_are_refused_before_any_training(tmp_path: Path, drawn: pd.DataFrame) -> None:
    train = drawn[drawn["split"] == "train"]
    few = train[train["diagnosis"] == "CN"].index[22:]  # enough by the true labels, too few once half of them are moved
    frame = drawn.drop(index=few)
    frame = frame.drop(index=frame[(frame["split"] == "train") & (frame["diagnosis"] == "MCI")].index[8:])
    _, own = read(tmp_path, frame, shares=(0.0, 0.6), seeds=(0, 1, 2))
    with pytest.raises(BadInput, match=r"expected at least 20.*at 60 % wrong"):
        tables(Lab(tables=own), tmp_path / "out", tell=lambda line: None)
    assert not (tmp_path / "out" / "runs").exists()
