"""What differs between training and test: planted shifts are found in their size, and where there is none there is none."""

import numpy as np
import pandas as pd
import pytest
import tiny_study as study

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.findings.shift import SHIFT, TOGETHER, hidden, intensities, moments, shift, standardised, two_sample
from elr_mri.imaging.packed import Cache
from elr_mri.scans.table import SCANS, SPLIT

SETTINGS = config.Shift(draws=200)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study whose external people are older and scanned at 3 T, and whose external scans are darker."""
    root = tmp_path_factory.mktemp("shift")
    tiny = study.make(root, n_subjects=120)
    study.add_pictures(tiny)
    away = (tiny.scans["cohort"] == "NACC").to_numpy()
    scans = tiny.scans.assign(
        sex=np.random.default_rng(3).choice(["F", "M"], 400)[tiny.scans["subject_id"].str[-4:].astype(int)],
        age_years=tiny.scans["age_years"] + 8 * away,
        field_strength_t=np.where(away, 3.0, 1.5),
        manufacturer=np.where(away, "SIEMENS", np.where(np.arange(len(away)) % 4 < 2, "GE", "Philips")),
    )
    SCANS.write(scans, root / "scans.tsv")
    volumes = np.load(root / "pack" / "volumes.npy")
    volumes[away] = volumes[away] * 0.8
    np.save(root / "pack" / "volumes.npy", volumes)
    shift(
        scans_path=root / "scans.tsv",
        splits_path=root / "splits.tsv",
        pack_dir=root / "pack",
        settings=SETTINGS,
        out_path=root / "shift.tsv",
    )
    splits = scans.merge(SPLIT.read(root / "splits.tsv").drop(columns="fold"), on=["cohort", "subject_id"])
    return root, splits, SHIFT.read(root / "shift.tsv")


def test_planted_shifts_are_found_and_their_absence_too(made):
    away = made[2].query("split == 'external'").set_index("quantity")
    test = made[2].query("split == 'test'").set_index("quantity")
    assert away.loc["age in years", "low"] > 0.5 and away.loc["intensity, mean", "high"] < -1
    assert (
        away.loc[TOGETHER, "difference"] > 0.9 > away.loc[TOGETHER, "chance"]
        and away.loc["3 T", "note"] == "no spread on either side"
    )
    assert test.loc[TOGETHER, "difference"] < test.loc[TOGETHER, "chance"] < 0.8
    for name in ("age in years", "women", "CN", "intensity, mean", "hippocampus, cm³"):
        assert test.loc[name, "low"] < 0 < test.loc[name, "high"], name
    assert "MMSE" not in test.index and "APOE ε4 carriers" not in test.index  # known of nobody


def test_the_difference_is_that_of_means_in_deviations(made):
    _, scans, table = made
    line = table.query("split == 'external' and quantity == 'age in years'").iloc[0]
    here, there = (scans.loc[scans["split"] == split, "age_years"] for split in ("train", "external"))
    spread = np.sqrt((here.var(ddof=0) + there.var(ddof=0)) / 2)
    assert line["difference"] == pytest.approx((there.mean() - here.mean()) / spread)
    assert line[["mean_train", "mean_there"]].astype(float).tolist() == pytest.approx([here.mean(), there.mean()])
    assert line["n_train"] == len(here) and line["n_there"] == len(there)


def test_copies_of_visits_do_not_narrow_the_interval():
    rng = np.random.default_rng(0)
    values, subjects = rng.normal(size=(50, 1)), np.arange(50).astype(str)
    once = moments(values, subjects, 500, 0)[0][1:]
    many = moments(np.repeat(values, 6, axis=0), np.repeat(subjects, 6), 500, 0)[0][1:]
    assert many.std() == pytest.approx(once.std(), rel=1e-9)


def test_unknown_values_are_left_out_and_large_numbers_keep_their_digits():
    values = np.array([[1e9], [1e9 + 1], [np.nan], [1e9 + 2]])
    mean, variance = moments(values, np.array(list("abcd")), 100, 0)
    assert mean[0, 0] == 1e9 + 1 and variance[0, 0] == pytest.approx(2 / 3)
    same = np.array([[2.0]]), np.array([[0.0]])
    assert standardised(same, same)[0, 0] == 0 and np.isnan(standardised(same, (same[0] + 1, same[1]))[0, 0])


def test_intensities_are_those_within_the_brain(made):
    cache = Cache.read(made[0] / "pack")
    volume = cache.volume(cache.index["scan_id"].iloc[3])
    told = intensities(cache.volumes[3], cache)
    brain = volume[volume > 0]
    assert told["intensity, mean"] == pytest.approx(brain.mean(), rel=1e-5)
    assert told["intensity, 95th percentile"] == pytest.approx(np.percentile(brain, 95), rel=1e-5)
    assert told["brain, share of the grid"] == pytest.approx((volume > 0).mean())
    assert intensities(np.zeros_like(cache.volumes[3]), cache) == {}


def test_shares_of_few_people_are_not_told():
    subjects = np.arange(40).astype(str)
    values = pd.DataFrame({"women": [1.0] * 3 + [0.0] * 37, "CN": [1.0] * 2 + [0.0] * 38, "MCI": [0.0] * 2 + [1.0] * 10 + [0.0] * 28, "AD": [0.0] * 12 + [1.0] * 28, "age in years": 70.0})  # fmt: skip
    assert hidden([(values, subjects)], 5) == {"women", "CN", "MCI"} and hidden([(values, subjects)], 0) == set()


def test_without_training_scans_nothing_is_compared(made, tmp_path):
    root, scans, _ = made
    splits = scans.drop_duplicates("subject_id")[["cohort", "subject_id", "split"]].assign(fold=np.nan)
    SPLIT.write(splits.assign(split=splits["split"].replace("train", "val")), tmp_path / "splits.tsv")
    with pytest.raises(BadInput, match="training scans"):
        shift(scans_path=root / "scans.tsv", splits_path=tmp_path / "splits.tsv", pack_dir=root / "pack", settings=SETTINGS, out_path=tmp_path / "x.tsv")  # fmt: skip


def test_too_few_subjects_get_no_classifier(made, tmp_path):
    root = made[0]
    few = config.Shift(draws=200, folds=20)
    shift(scans_path=root / "scans.tsv", splits_path=root / "splits.tsv", pack_dir=root / "pack", settings=few, out_path=tmp_path / "x.tsv")  # fmt: skip
    together = SHIFT.read(tmp_path / "x.tsv").query("quantity == @TOGETHER").set_index("split")
    assert together.loc["test", "note"] == "fewer than 40 subjects on a side" and np.isnan(
        together.loc["test", "difference"]
    )
    assert together.loc["external", "difference"] > 0.9  # 40 subjects are enough


def test_chance_passes_for_a_shift_as_often_as_it_says():
    """60 studies without a shift, two scans of every subject: of a true 5 % more than 13 % would be seen once in 200 such tests."""
    rng, passed, aucs = np.random.default_rng(0), 0, []
    names = list("abcdefgh")
    for _ in range(60):
        sides = []
        for n in (50, 25):
            own = np.repeat(rng.normal(size=(n, len(names))), 2, axis=0) + 0.3 * rng.normal(size=(2 * n, len(names)))
            sides.append((pd.DataFrame(own, columns=names), np.repeat(np.arange(n), 2).astype(str)))
        told = two_sample(*sides, dict.fromkeys(names, "volumes"), SETTINGS)
        aucs.append(told["difference"])
        passed += told["difference"] > told["chance"]
    assert passed / 60 <= 0.13 and np.mean(aucs) == pytest.approx(0.5, abs=0.04)
