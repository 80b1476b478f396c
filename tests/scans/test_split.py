"""Splits are by subject, stratified, and depend on nothing but the subjects and the seed."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elr_mri.config import Split
from elr_mri.errors import BadInput
from elr_mri.scans.split import assign, check_no_leak, split
from elr_mri.scans.strata import AGE_EDGES
from elr_mri.scans.table import CLASSES, SCANS, SPLIT


def scan_table(n: int, *, cohort: str = "ADNI", visits: int = 2) -> pd.DataFrame:
    """n subjects with `visits` scans each; classes, sexes and ages vary independently of each other."""
    rows = [
        {
            "scan_id": f"sub-{cohort}{i:04d}_ses-M{12 * v:03d}",
            "cohort": cohort,
            "subject_id": f"sub-{cohort}{i:04d}",
            "session_id": f"ses-M{12 * v:03d}",
            "months": 12.0 * v,
            "age_years": 60.0 + (7 * i) % 30 + v,
            "sex": "FM"[(i // 3) % 2],
            "diagnosis": CLASSES[min(i % 3 + v * (i % 5 == 0), 2)],
            "image_path": f"{cohort}/{i}_{v}.nii",
        }
        for i in range(n)
        for v in range(visits)
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(**{c.name: None for c in SCANS.columns if c.name not in frame})


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(12, 150),
    seed=st.integers(0, 99),
    val=st.sampled_from([0.1, 0.15, 0.25]),
    test=st.sampled_from([0.2, 0.3]),
)
def test_every_subject_once_and_shares_kept(n, seed, val, test):
    scans = scan_table(n)
    splits = assign(scans, Split(seed=seed, val_share=val, test_share=test), [])
    assert sorted(splits["subject_id"]) == sorted(scans["subject_id"].unique())
    counts = splits["split"].value_counts()
    assert abs(counts["test"] - test * n) <= 1 and abs(counts["val"] - val * n) <= 1


def test_classes_ages_and_sexes_are_shared_out_alike():
    scans = scan_table(600, visits=1)
    joined = scans.merge(assign(scans, Split(val_share=0.15, test_share=0.2), []), on=["cohort", "subject_id"])
    joined["band"] = pd.cut(joined["age_years"], [0, *AGE_EDGES, 200], right=False)
    for strata in ("diagnosis", ["diagnosis", "band"], ["diagnosis", "band", "sex"]):
        for _, stratum in joined.groupby(strata, observed=True):
            for name, share in (("test", 0.2), ("val", 0.15), ("train", 0.65)):
                assert abs((stratum["split"] == name).sum() - share * len(stratum)) < 2


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(60)))
def test_rows_may_stand_in_any_order(order):
    scans = scan_table(30)
    assert assign(scans, Split(), []).equals(assign(scans.iloc[list(order)], Split(), []))


def test_the_seed_matters_and_the_same_seed_repeats():
    scans = scan_table(90)
    one, same, other = (assign(scans, Split(seed=s), [])["split"].tolist() for s in (1, 1, 2))
    assert one == same != other


def test_folds_divide_the_subjects_that_are_not_tested():
    splits = assign(scan_table(100), Split(n_folds=5), [])
    assert splits.loc[splits["split"] == "test", "fold"].isna().all()
    sizes = splits["fold"].value_counts()
    assert sorted(sizes.index) == [0, 1, 2, 3, 4] and sizes.max() - sizes.min() <= 1
    assert assign(scan_table(100), Split(n_folds=0), [])["fold"].isna().all()


def test_external_cohorts_are_external(tmp_path):
    scans = pd.concat([scan_table(40), scan_table(10, cohort="NACC")])
    SCANS.write(scans, tmp_path / "scans.tsv")
    split(tmp_path / "scans.tsv", Split(), ["NACC"], tmp_path / "splits.tsv")
    splits = SPLIT.read(tmp_path / "splits.tsv")
    assert set(splits.loc[splits["cohort"] == "NACC", "split"]) == {"external"}
    assert set(splits.loc[splits["cohort"] == "ADNI", "split"]) == {"train", "val", "test"}
    assert (tmp_path / "splits.tsv.json").is_file()
    with pytest.raises(BadInput, match="OASIS"):
        split(tmp_path / "scans.tsv", Split(), ["OASIS"], tmp_path / "splits.tsv")


def test_too_few_subjects_for_a_split_are_refused():
    with pytest.raises(BadInput, match="enough subjects for split val"):
        assign(scan_table(3), Split(val_share=0.05, test_share=0.3), [])


def leaks():
    scans = pd.concat([scan_table(40), scan_table(10, cohort="NACC")], ignore_index=True)
    splits = assign(scans, Split(), ["NACC"])
    tested = splits.index[splits["split"] == "test"][0]
    trained = splits.index[splits["split"] == "train"][0]
    subject = splits.loc[tested, "subject_id"]
    twice = pd.concat([splits, splits.loc[[tested]].assign(split="train", cohort="NACC")])
    yield "subject in two splits", scans, twice
    yield "subject without a split", scans, splits.drop(index=tested)
    image = scans.loc[scans["subject_id"] == subject, "image_path"].iloc[0]
    shared = scans.copy()
    shared.loc[shared["subject_id"] == splits.loc[trained, "subject_id"], "image_path"] = image
    yield "image in two splits", shared, splits
    yield "external subject in training", scans, splits.assign(split=splits["split"].replace("external", "train"))
    yield "internal subject in external", scans, splits.assign(split=splits["split"].replace("val", "external"))


@pytest.mark.parametrize(("name", "scans", "splits"), [pytest.param(*leak, id=leak[0]) for leak in leaks()])
def test_a_leaking_table_is_refused(name, scans, splits):
    with pytest.raises(BadInput, match="Nothing may be learned from a tested subject"):
        check_no_leak(scans, splits, ["NACC"])


def test_one_person_inside_and_outside_is_refused(tmp_path):
    scans = scan_table(40)
    outside = scans.iloc[:2].assign(cohort="COPY", session_id="ses-M099", image_path=["x", "y"], scan_id=["p", "q"])
    SCANS.write(pd.concat([scans, outside]), tmp_path / "scans.tsv")
    with pytest.raises(BadInput, match="sub-ADNI0000 in 2"):
        split(tmp_path / "scans.tsv", Split(), ["COPY"], tmp_path / "splits.tsv")
    assert not (tmp_path / "splits.tsv").exists()
