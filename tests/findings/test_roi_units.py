"""Tables of ROI volumes in cm³ and with NACC's missing codes are the same tables as in mm³ with blanks; what is in two units is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings.baseline import baseline_of_tables
from elr_mri.findings.roi import read_foreign
from elr_mri.findings.roi_units import is_volume
from elr_mri.phantom.roi_tables import ICV, draw_table
from elr_mri.scans.predictions import PREDICTIONS, Z_COLUMNS

WHO = ["participant_id", "session_id", "cohort", "split", "diagnosis", "age", "sex"]
KNOWN = ["Left-Hippocampus", "Right-Hippocampus", "lh_entorhinal_volume", "rh_entorhinal_volume"]
THICK = "lh_cuneus_thickness"


@pytest.fixture(scope="module")
def drawn() -> pd.DataFrame:
    table = draw_table(config.RoiPhantom(n_train=60, n_val=30, n_test=20, n_external=25))
    return table.assign(**{THICK: np.linspace(1.6, 3.0, len(table)).round(3)})


def volumes_of(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame if name not in (*WHO, THICK)]


def in_cm3(frame: pd.DataFrame) -> pd.DataFrame:
    """As NACC has them: cm³, four decimals as in mm³ with one."""
    return frame.assign(**{name: (frame[name] / 1000).round(4) for name in volumes_of(frame)})


def read(folder: Path, frame: pd.DataFrame, **keys) -> pd.DataFrame:
    frame.to_csv(folder / "roi.csv", index=False)
    return read_foreign(config.RoiTables(path=str(folder / "roi.csv"), **keys))[0]


def spelled(names: list[str]) -> list[str]:
    return [name.lower() for name in names if name != ICV]


def test_an_ordinary_table_is_left_as_it_is_and_nothing_is_told(tmp_path, drawn, capsys) -> None:
    holed = drawn.assign(**{"Left-Caudate": drawn["Left-Caudate"].mask(drawn.index < 3)})
    holed.loc[5:8, "Left-Amygdala"] = [888.0, 999.0, 888.8, 1999.9]  # in mm³ these are volumes
    holed.loc[9:10, "Left-Amygdala"] = 1000.0  # as near to 999.9999 as float32 tells
    found = read(tmp_path, holed)
    regions = [name for name in volumes_of(holed) if name != ICV] + [THICK]
    assert np.array_equal(found[spelled(regions)].to_numpy(), holed[regions].to_numpy(), equal_nan=True)
    assert np.array_equal(found["intracranial"].to_numpy(), holed[ICV].to_numpy())
    assert capsys.readouterr().out == ""


def test_a_table_in_cm3_is_the_one_in_mm3_and_thicknesses_stay(tmp_path, drawn, capsys) -> None:
    ordinary = read(tmp_path, drawn)
    found = read(tmp_path, in_cm3(drawn))
    told = capsys.readouterr().out
    regions = spelled(volumes_of(drawn))
    assert told.count("are in cm³ by their size") == 1 and f"{len(regions)} regions of {len(drawn)} rows" in told
    np.testing.assert_allclose(found[[*regions, "intracranial"]], ordinary[[*regions, "intracranial"]], rtol=1e-12)
    assert found[THICK].equals(ordinary[THICK]) and found[THICK].equals(drawn[THICK])


@pytest.mark.parametrize("all_regions", [None, config.AllRegions(models=("logistic",))])
def test_an_external_table_in_cm3_is_predicted_as_in_mm3(tmp_path, drawn, all_regions) -> None:
    said = []
    for name, change in (("mm3", lambda rows: rows), ("cm3", in_cm3)):
        folder = tmp_path / name
        folder.mkdir()
        for split, rows in drawn.groupby("split"):
            (change(rows) if split == "external" else rows).drop(columns=["split", "cohort"]).to_csv(
                folder / f"{split}.csv", index=False
            )
        tables = config.RoiTables(**{split: str(folder / f"{split}.csv") for split in drawn["split"].unique()})
        settings = config.Baseline(tables=tables, all_regions=all_regions)
        said.append(PREDICTIONS.read(baseline_of_tables(settings=settings, out_dir=folder / "out")))
    one, other = said
    assert one["scan_id"].equals(other["scan_id"]) and set(one["split"]) >= {"test", "external"}
    np.testing.assert_allclose(one[list(Z_COLUMNS)], other[list(Z_COLUMNS)], atol=1e-6)


def test_a_volume_that_is_written_like_a_code_stays_where_it_is_usual(tmp_path, drawn) -> None:
    like = drawn.assign(lh_inferiortemporal_volume=drawn["lh_inferiortemporal_volume"].mask(drawn.index == 0, 8888.8))
    assert drawn["lh_inferiortemporal_volume"].quantile(0.05) < 8888.8 < drawn["lh_inferiortemporal_volume"].median()
    assert read(tmp_path, in_cm3(like))["lh_inferiortemporal_volume"][0] == pytest.approx(8888.8)
    like.loc[0, "Left-Amygdala"] = 8888.8
    assert np.isnan(read(tmp_path, in_cm3(like))["left-amygdala"][0])


@pytest.mark.parametrize("change", [lambda rows: rows, in_cm3])
def test_missing_codes_are_blank_whatever_the_unit_and_counted_by_column(tmp_path, drawn, capsys, change) -> None:
    codes = {"Left-Hippocampus": 88.8888, "Left-Amygdala": 8.8888, "lh_cuneus_volume": 888.8888, "CSF": 9999.999}
    codes |= {"Right-Putamen": 8888.888, THICK: 9.999, ICV: 888.8888}
    coded, blank = change(drawn.copy()), change(drawn.copy())
    for n, (name, code) in enumerate(codes.items(), 1):
        coded.loc[:n, name], blank.loc[:n, name] = code, np.nan
    coded["lh_insula_volume"] = np.float32(88.8888)  # all of a column, as a float32 is written
    blank["lh_insula_volume"] = np.nan
    found = read(tmp_path, coded)
    told = capsys.readouterr().out
    pd.testing.assert_frame_equal(found, read(tmp_path, blank))
    for n, name in enumerate(list(codes)[:-1], 1):
        assert f"{name.lower()} {n + 1}" in told
    assert f"lh_insula_volume {len(drawn)}" in told and f"8 of {len(drawn)} values of {ICV.lower()}" in told


def test_what_is_no_person_s_is_blank_and_counted(tmp_path, drawn, capsys) -> None:
    odd = drawn.copy()
    odd.loc[0, "Left-Hippocampus"], odd.loc[1, "Left-Hippocampus"], odd.loc[2, THICK] = 0.0, 99_999.0, 27.0
    found = read(tmp_path, odd)
    told = capsys.readouterr().out
    assert "left-hippocampus 2" in told and f"{THICK} 1" in told and "3 in all" in told
    assert found["left-hippocampus"].isna().sum() == 2 and np.isnan(found[THICK][2])


def test_columns_of_the_config_s_names_go_along_and_areas_and_shares_stay(tmp_path, drawn) -> None:
    own = pd.DataFrame(
        {
            "LHIPPO": drawn["Left-Hippocampus"] / 1000,
            "NOBODYS_LOBE": 61.5,
            "CUNEUS_AREA": 1450.0,
            "HIPPO_TO_ICV": 0.0025,
            "NACCICV": drawn[ICV] / 1000,
        }
    )
    names = tuple(own.columns[:-1])
    found = read(tmp_path, pd.concat([drawn[WHO], own], axis=1), regions=names)
    np.testing.assert_allclose(found["lhippo"], drawn["Left-Hippocampus"])
    assert (found["nobodys_lobe"] == 61_500).all() and (found["cuneus_area"] == 1450).all()
    assert (found["hippo_to_icv"] == 0.0025).all()
    # without a region that has bounds the head tells
    rest = pd.concat([drawn[WHO], own.drop(columns="LHIPPO")], axis=1)
    assert (read(tmp_path, rest, regions=names[1:])["nobodys_lobe"] == 61_500).all()


def test_without_hippocampus_and_entorhinal_cortex_the_head_tells(tmp_path, drawn) -> None:
    few = drawn.drop(columns=KNOWN)
    ordinary = read(tmp_path, few)
    regions = spelled(volumes_of(few))
    for frame in (in_cm3(few), few.assign(**{ICV: few[ICV] / 1000})):  # NACCICV in cm³ beside FreeSurfer's mm³
        np.testing.assert_allclose(read(tmp_path, frame)[regions], ordinary[regions])
    assert read(tmp_path, few.drop(columns=ICV))[regions].equals(ordinary[regions])


def test_each_cohort_of_a_table_has_its_own_unit(tmp_path, drawn, capsys) -> None:
    ordinary = read(tmp_path, drawn)
    nacc = drawn["cohort"] == "NACC"
    mixed = pd.concat([drawn[~nacc], in_cm3(drawn[nacc])])
    regions = spelled(volumes_of(drawn))
    np.testing.assert_allclose(read(tmp_path, mixed)[regions], ordinary[regions])
    assert f"of {nacc.sum()} rows" in capsys.readouterr().out
    with pytest.raises(BadInput, match=rf"all rows in mm³, got {nacc.sum()} of {len(drawn)} in cm³") as caught:
        read(tmp_path, mixed.drop(columns="cohort"))
    assert "\n" not in str(caught.value) and "row" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: in_cm3(f).assign(**{ICV: f[ICV]}), "regions and head size in one unit"),
        (lambda f: in_cm3(f.drop(columns=KNOWN)).assign(**{ICV: f[ICV]}), "regions and head size in one unit"),
        (lambda f: f.assign(**{name: in_cm3(f)[name] for name in KNOWN[:2]}), "all regions in one unit"),
        (lambda f: f.assign(**{name: f[name] / f[ICV] for name in KNOWN}), "a person's volumes in mm³ or cm³"),
    ],
)
def test_units_that_no_rule_explains_are_refused_in_one_line(tmp_path, drawn, change, told) -> None:
    with pytest.raises(BadInput, match=told) as caught:
        read(tmp_path, change(drawn))
    assert "\n" not in str(caught.value) and "roi.csv" in str(caught.value)


def test_volumes_are_told_from_areas_shares_and_thicknesses_by_name() -> None:
    volumes = [
        "left-accumbens-area",
        "lh_cuneus_volume",
        "csf",
        "st29sv",
        "left_accumbens_area",
        "lent",
        "x3rd.ventricle",
    ]
    assert all(map(is_volume, volumes))
    others = [
        "lh_cuneus_thickness",
        "st24ta",
        "st24sa",
        "lh_cuneus_area",
        "lh_cuneus_avgth",
        "brain_to_icv",
        "suvr_temporal",
    ]
    assert not any(map(is_volume, others))
