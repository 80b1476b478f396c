"""Earlier assignments never move; only new subjects are drawn, and they are shared out like everybody."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_split import scan_table

from elr_mri.config import Split
from elr_mri.errors import BadInput
from elr_mri.scans.assigned import ASSIGNED, with_new
from elr_mri.scans.split import assign, split
from elr_mri.scans.strata import AGE_EDGES
from elr_mri.scans.table import SCANS, SPLIT

N = 90
SUBJECTS = [f"sub-ADNI{i:04d}" for i in range(N)]


def of(scans: pd.DataFrame, subjects) -> pd.DataFrame:
    return scans[scans["subject_id"].isin(list(subjects))]


def draw_in_turn(scans, groups, options=None):
    """Assign growing tables, the ledger handed on; yields each split table by subject."""
    ledger, seen = None, []
    for i, group in enumerate(groups):
        seen += list(group)
        option = options[i] if options else Split()
        splits = assign(of(scans, seen), option, [], ledger)
        ledger = with_new(ledger if ledger is not None else ASSIGNED_EMPTY, splits, option)
        yield splits.set_index("subject_id"), ledger


ASSIGNED_EMPTY = pd.DataFrame(columns=[c.name for c in ASSIGNED.columns])


def test_a_first_draw_is_the_one_of_version_1():
    scans = pd.concat([scan_table(40), scan_table(6, cohort="NACC")], ignore_index=True)
    text = assign(scans, Split(seed=3), ["NACC"]).to_csv(index=False, lineterminator="\n")
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "d687b6b0045d01cc046c75bed72f942bb2f3c33032e433778dc5b7bb89302a3b"


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(SUBJECTS), cuts=st.lists(st.integers(25, N), max_size=4), rows=st.randoms())
def test_adding_any_subjects_moves_nobody_and_row_order_does_not_matter(order, cuts, rows):
    scans, bounds = scan_table(N), [0, *sorted({24, *cuts}), N]
    groups = [order[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
    shuffled = list(range(len(scans)))
    rows.shuffle(shuffled)
    told = list(draw_in_turn(scans, groups))
    again = list(draw_in_turn(scans.iloc[shuffled], groups))
    for (before, _), (after, _) in zip(told, told[1:], strict=False):
        pd.testing.assert_frame_equal(after.loc[before.index, ["split", "fold"]], before[["split", "fold"]])
    for (one, _), (other, _) in zip(told, again, strict=True):
        pd.testing.assert_frame_equal(one, other)
    last, ledger = told[-1]
    assert sorted(last.index) == SUBJECTS and last.index.is_unique and ledger["subject_id"].is_unique


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(SUBJECTS), step=st.sampled_from([1, 5, 30]))
def test_added_subjects_keep_the_shares_of_each_class(order, step):
    scans, shares = scan_table(N, visits=1), {"train": 0.65, "val": 0.15, "test": 0.2}
    groups = [order[:30], *(order[i : i + step] for i in range(30, N, step))]
    *_, (last, _) = draw_in_turn(scans, groups)
    joined = scans.assign(split=scans["subject_id"].map(last["split"]), fold=scans["subject_id"].map(last["fold"]))
    joined["band"] = np.digitize(joined["age_years"], AGE_EDGES)
    for strata, slack in ((["diagnosis"], 1.5), (["diagnosis", "band", "sex"], 2.5)):
        for _, stratum in joined.groupby(strata):
            for name, share in shares.items():
                assert abs((stratum["split"] == name).sum() - share * len(stratum)) < slack
    for _, stratum in joined[joined["split"] != "test"].groupby("diagnosis"):
        sizes = stratum["fold"].value_counts().reindex(range(5), fill_value=0)
        assert sizes.max() - sizes.min() <= 2


def test_ages_and_sexes_stay_shared_out_when_subjects_come_one_by_one():
    scans, shares = scan_table(300, visits=1), {"train": 0.65, "val": 0.15, "test": 0.2}
    order = np.random.default_rng(0).permutation(scans["subject_id"].to_numpy()).tolist()
    *_, (last, _) = draw_in_turn(scans, [order[:60], *([s] for s in order[60:])])
    joined = scans.assign(split=scans["subject_id"].map(last["split"]), band=np.digitize(scans["age_years"], AGE_EDGES))
    off = [
        abs((stratum["split"] == name).sum() - share * len(stratum))
        for _, stratum in joined.groupby(["diagnosis", "band", "sex"])
        for name, share in shares.items()
    ]
    assert np.mean(off) < 0.55 and max(off) < 2  # by class alone 0.8 and more


def test_changed_shares_and_seed_move_nobody_but_rule_the_new_ones():
    scans, few = scan_table(N), SUBJECTS[:60]
    options = [Split(), Split(seed=9, val_share=0.0, test_share=0.8)]
    (before, _), (after, ledger) = draw_in_turn(scans, [few, SUBJECTS[60:]], options)
    assert after.loc[few, "split"].equals(before.loc[few, "split"]) and after.loc[few, "fold"].equals(before["fold"])
    assert set(after.loc[SUBJECTS[60:], "split"]) == {"test"}  # its share was 0.2 and is to be 0.8
    assert ledger["drawn_with"].nunique() == 2


def test_another_number_of_folds_redraws_the_folds_alone():
    scans = scan_table(N)
    told = list(draw_in_turn(scans, [SUBJECTS, [], []], [Split(n_folds=5), Split(n_folds=3), Split(n_folds=0)]))
    assert told[0][0]["split"].equals(told[1][0]["split"])
    assert set(told[1][0]["fold"].dropna()) == {0, 1, 2} and told[2][0]["fold"].isna().all()
    assert told[2][1].equals(told[1][1])  # a run without folds forgets none


@pytest.fixture
def run(tmp_path, capsys):
    """Run the step on a table, with its ledger; returns the split table by subject and what was printed."""

    def go(scans, external=(), **options):
        SCANS.write(scans, tmp_path / "scans.tsv")
        split(
            tmp_path / "scans.tsv",
            Split(**options),
            list(external),
            tmp_path / "splits.tsv",
            assigned_path=tmp_path / "assigned.tsv",
        )
        return SPLIT.read(tmp_path / "splits.tsv").set_index("subject_id"), capsys.readouterr().out

    return go


def test_a_subject_who_left_returns_to_its_split(run):
    scans = scan_table(N)
    first, told = run(scans)
    assert f"0 subjects keep their earlier split, {N} are drawn now" in told
    run(of(scans, SUBJECTS[40:]))
    back, told = run(scans)
    assert back.equals(first) and f"{N} subjects keep" in told


def test_a_changed_config_is_told_in_one_line(run, tmp_path):
    run(scan_table(N))
    _, told = run(scan_table(N), seed=4)
    lines = [line for line in told.splitlines() if "earlier assignments are kept" in line]
    assert len(lines) == 1 and "seed 0" in lines[0] and "seed 4" in lines[0]
    assert f"delete {tmp_path / 'assigned.tsv'}" in lines[0]
    _, told = run(scan_table(N))
    assert "earlier assignments are kept" not in told
    (tmp_path / "assigned.tsv").unlink()
    anew, _ = run(scan_table(N), seed=4)
    assert anew.reset_index()["split"].equals(assign(scan_table(N), Split(seed=4), [])["split"])
    _, told = run(scan_table(N), seed=4, n_folds=3)
    assert "folds of" in told and "drawn anew" in told


def test_a_cohort_that_turns_external_is_external_and_back(run):
    scans = pd.concat([scan_table(40), scan_table(20, cohort="NACC")], ignore_index=True)
    first, _ = run(scans)
    turned, told = run(scans, external=["NACC"])
    nacc = turned["cohort"] == "NACC"
    assert set(turned.loc[nacc, "split"]) == {"external"} and turned.loc[nacc, "fold"].isna().all()
    assert turned.loc[~nacc].equals(first[first["cohort"] == "ADNI"]) and "20 are external now" in told
    assert run(scans)[0].equals(first)


def test_a_broken_ledger_is_refused_and_a_refused_run_writes_none(run, tmp_path):
    run(scan_table(40))
    ledger = tmp_path / "assigned.tsv"
    whole = ledger.read_text()
    with pytest.raises(BadInput, match="OASIS"):
        run(scan_table(50), external=["OASIS"])
    assert ledger.read_text() == whole
    ledger.write_text(whole + whole.splitlines()[1].replace("\ttrain\t", "\ttest\t") + "\n")
    with pytest.raises(BadInput, match="more than once"):
        run(scan_table(40))
    ledger.write_text(whole.replace("\ttrain\t", "\texternal\t", 1))
    with pytest.raises(BadInput, match="one of train, val, test"):
        run(scan_table(40))


def test_the_ledger_is_an_input_of_its_split(run, tmp_path):
    run(scan_table(40))
    run(scan_table(50))
    assert str(tmp_path / "assigned.tsv") in (tmp_path / "splits.tsv.json").read_text()
    assert not list(tmp_path.glob(".partial*"))
