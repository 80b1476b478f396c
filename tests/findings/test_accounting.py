"""The flow adds up for any study, its figure shows the tables' numbers, and its words stay inside their boxes."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import FancyBboxPatch

from elr_mri.errors import BadInput
from elr_mri.findings import accounting, consort, style
from elr_mri.imaging.qc import LIMITS
from elr_mri.scans.cohort import REASONS
from elr_mri.scans.demographics import count
from elr_mri.scans.table import CLASSES, PARTS

FAILS = (
    ("convert", "unreadable: not a gzip file"),
    ("register", "no brain found: the brain falls outside the scan"),
    ("register", f"{LIMITS['mask_dice'].words} 0.3 outside 0.8 to 1"),
    ("measure", None),
)


def make_study(seed: int, *, cohorts=("ADNI", "NACC"), n: int = 30, reasons=tuple(REASONS)):
    """Random scans, exclusions, states and splits; subjects convert, and some excluded images have no subject."""
    rng = np.random.default_rng(seed)
    scans = pd.DataFrame(
        {
            "scan_id": [f"s{i}" for i in range(n)],
            "cohort": rng.choice(cohorts, n),
            "subject_id": [f"sub-{i}" for i in rng.integers(0, max(n // 2, 1), n)],
            "session_id": "ses-M000",
            "diagnosis": rng.choice(CLASSES, n),
        }
    )
    m = int(rng.integers(0, 60))
    exclusions = pd.DataFrame(
        {
            "cohort": rng.choice(cohorts, m),
            "subject_id": [f"sub-{i}" if i % 3 else None for i in rng.integers(0, n, m)],
            "reason": rng.choice(reasons, m),
        }
    )
    status = rng.choice(["pass", "review", "fail"], n, p=[0.6, 0.2, 0.2])
    told = [FAILS[k] if s == "fail" else ("register", None) for s, k in zip(status, rng.integers(0, 4, n), strict=True)]
    states = scans[["scan_id", "cohort"]].assign(status=status, step=[t[0] for t in told], reason=[t[1] for t in told])
    people = scans[["cohort", "subject_id"]].drop_duplicates()
    return scans, exclusions, states, people.assign(split=rng.choice(PARTS, len(people)))


def total(table, *stages, **where):
    rows = table[table["stage"].isin(stages)]
    for name, value in where.items():
        rows = rows[rows[name].isna()] if value is None else rows[rows[name] == value]
    return int(rows["n_images"].sum())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 60))
def test_the_numbers_add_up_in_every_cohort(seed, n):
    scans, exclusions, states, splits = make_study(seed, n=n)
    table = accounting.account(scans, exclusions, states, splits)
    assert total(table, "found") == len(scans) + len(exclusions)
    for cohort, rows in table.groupby("cohort"):
        assert total(rows, "found") == total(rows, "kept") + total(rows, "excluded")
        assert total(rows, "kept") == total(rows, "packed") + total(rows, "failed")
        assert total(rows, "packed") == total(rows, *PARTS, diagnosis=None)
        assert total(rows, "review") <= total(rows, "packed")
        for split in PARTS:
            whole = total(rows, split, diagnosis=None)
            assert whole == sum(total(rows, split, diagnosis=name) for name in CLASSES)
        assert total(rows, "kept") == (scans["cohort"] == cohort).sum()


def test_the_figure_shows_the_numbers_of_the_table_and_no_others():
    table = accounting.account(*make_study(1, n=120))
    drawn = accounting.flow(table)
    assert list(drawn) == ["ADNI", "NACC"]
    for cohort, boxes in drawn.items():
        rows = table[table["cohort"] == cohort]
        assert [box.stage for box in boxes] == ["found", "excluded", "kept", "failed", "packed", *PARTS]
        for box in boxes:
            assert box.n_images == total(rows, box.stage, diagnosis=None)
            here = rows[(rows["stage"] == box.stage)]
            if box.side:
                assert [int(n) for n, _ in box.lines] == here["n_images"].tolist()
                assert [w for _, w in box.lines] == [accounting.words(code) for code in here["reason"]]
                assert here["n_images"].is_monotonic_decreasing
            if box.stage in PARTS:
                assert [w for _, w in box.lines] == [f"{r.n_subjects} / {r.n_images}" for r in here.itertuples()]
                assert [n for n, _ in box.lines] == ["all", *CLASSES]


def test_splits_count_as_the_talks_table_does():
    scans, exclusions, states, splits = make_study(2)
    states["status"] = "pass"
    table = accounting.account(scans, exclusions, states, splits)
    expected = count(scans.merge(splits, on=["cohort", "subject_id"]).assign(age_years=70.0, sex="F"))
    ours = table[table["stage"].isin(PARTS)].assign(diagnosis=lambda t: t["diagnosis"].fillna("all"))
    ours = ours.set_index(["cohort", "stage", "diagnosis"]).sort_index()
    expected = expected.set_index(["cohort", "split", "diagnosis"]).sort_index()
    assert ours["n_subjects"].tolist() == expected["subjects"].tolist()
    assert ours["n_images"].tolist() == expected["scans"].tolist()
    converters = ours.drop("all", level=2).groupby(level=[0, 1])["n_subjects"].sum()
    assert (converters > ours.xs("all", level=2)["n_subjects"]).any()


def test_failures_and_reasons_are_told_in_words():
    assert [accounting.failure(*told) for told in FAILS] == ["convert", "no-brain", "quality-control", "measure"]
    assert (
        accounting.words("not-t1") == REASONS["not-t1"] and accounting.words("no-brain") == "no brain was found in it"
    )
    assert accounting.words("measure") == "measure"


def test_the_table_is_a_contract_and_blanks_where_nothing_was_given(tmp_path):
    scans, exclusions, states, splits = make_study(3)
    accounting.ACCOUNTING.write(accounting.account(scans, exclusions, states, splits), tmp_path / "a.tsv")
    assert len(accounting.ACCOUNTING.read(tmp_path / "a.tsv")) > 20
    bare = accounting.account(scans, None, states, None)
    assert set(bare["stage"]) == {"kept", "failed", "packed", "review"}
    assert [box.stage for box in accounting.flow(bare)["ADNI"]] == ["kept", "failed", "packed"]
    with pytest.raises(BadInput, match="a split for every subject"):
        accounting.account(scans, exclusions, states, splits.iloc[:3])


@pytest.mark.parametrize("cohorts", [("ADNI",), ("ADNI", "NACC"), ("ADNI", "AIBL" * 20, "HOME", "NACC")])
def test_no_words_leave_their_box_and_none_overlap(cohorts):
    nasty = (r"$\frac{1}{0}$ <script>", "W" * 3000, "<b>" + "many words " * 90)
    parts = make_study(5, cohorts=cohorts, n=80, reasons=(*REASONS, *nasty))
    with style.drawing(), warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = consort.draw(accounting.flow(accounting.account(*parts)))
        figure.draw_without_rendering()
    (axes,) = figure.axes
    page = figure.bbox
    words = [text.get_window_extent() for text in axes.texts if text.get_text()]
    boxes = [p.get_window_extent() for p in axes.patches if isinstance(p, FancyBboxPatch)]
    assert len(boxes) >= 5 * len(cohorts)
    for at, one in enumerate(words):
        assert page.x0 <= one.x0 and one.x1 <= page.x1 and page.y0 <= one.y0 and one.y1 <= page.y1
        assert not any(overlap(one, other) > 1 for other in words[at + 1 :])
        around = [box for box in boxes if overlap(one, box)]
        assert all(box.x0 <= one.x0 and one.x1 <= box.x1 and box.y0 <= one.y0 and one.y1 <= box.y1 for box in around)
    for at, one in enumerate(boxes):
        assert not any(overlap(one, other) for other in boxes[at + 1 :])


def overlap(one, other) -> float:
    """Shared height in pixels of two rectangles that share width, else 0."""
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(high, 0.0) if wide > 0.5 else 0.0


def test_a_dollar_sign_is_drawn_as_one():
    with style.drawing():
        text = style.figure(2, 1).text(0, 0, r"$\frac{1}{0}$")
    assert not text.get_parse_math()
