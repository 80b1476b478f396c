"""The talk's table counts converters in each of their classes and once in all."""

from __future__ import annotations

import pandas as pd
import pytest

from elr_mri.scans.demographics import DEMOGRAPHICS, count, demographics
from elr_mri.scans.table import SCANS, SPLIT

SCANS_ROWS = [
    # subject, months, age, sex, diagnosis
    ("a", 0, 70.0, "F", "CN"),
    ("a", 12, 71.0, "F", "MCI"),
    ("b", 0, 80.0, "M", "MCI"),
    ("b", 6, 80.5, "M", "MCI"),
    ("c", 0, 60.0, None, "AD"),
]


def table() -> pd.DataFrame:
    rows = [
        {
            "cohort": "ADNI",
            "subject_id": s,
            "session_id": f"ses-M{m:03d}",
            "scan_id": f"{s}_{m}",
            "months": m,
            "age_years": age,
            "sex": sex,
            "diagnosis": d,
            "image_path": f"{s}{m}.nii",
        }
        for s, m, age, sex, d in SCANS_ROWS
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(**{c.name: None for c in SCANS.columns if c.name not in frame})


def test_subjects_scans_ages_and_sexes():
    rows = count(table().assign(split="train")).set_index("diagnosis")
    assert rows["subjects"].to_dict() == {"CN": 1, "MCI": 2, "AD": 1, "all": 3}
    assert rows["scans"].to_dict() == {"CN": 1, "MCI": 3, "AD": 1, "all": 5}
    mci = rows.loc["MCI"]
    assert mci["age_mean_years"] == pytest.approx((71 + 80 + 80.5) / 3)
    assert mci["age_sd_years"] == pytest.approx(pd.Series([71, 80, 80.5]).std())
    assert mci["female_share"] == 0.5
    assert pd.isna(rows.loc["CN", "age_sd_years"]) and pd.isna(rows.loc["AD", "female_share"])


def test_the_file_is_written_and_its_scans_add_up(tmp_path):
    SCANS.write(table(), tmp_path / "scans.tsv")
    splits = pd.DataFrame(
        {"cohort": "ADNI", "subject_id": list("abc"), "split": ["train", "val", "test"], "fold": [0, 1, None]}
    )
    SPLIT.write(splits, tmp_path / "splits.tsv")
    demographics(tmp_path / "scans.tsv", tmp_path / "splits.tsv", tmp_path / "demographics.tsv")
    rows = DEMOGRAPHICS.read(tmp_path / "demographics.tsv")
    assert (
        rows.loc[rows["diagnosis"] == "all", "scans"].sum() == rows.loc[rows["diagnosis"] != "all", "scans"].sum() == 5
    )
    assert (tmp_path / "demographics.tsv.json").is_file()
