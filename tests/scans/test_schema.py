"""A table is checked whenever it is read or written, and survives both unchanged."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elr_mri.errors import BadInput
from elr_mri.scans.batches import batch_of
from elr_mri.scans.predictions import P_COLUMNS, PREDICTIONS, Z_COLUMNS, prediction_table
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import SCANS, SPLIT, join_splits, read_scans

PEOPLE = Schema(
    name="people",
    version=1,
    key=("name",),
    columns=(
        Column("name"),
        Column("age", "number", low=0, high=150),
        Column("n", "integer", required=False),
        Column("sex", required=False, allowed=("F", "M")),
    ),
)
FINE = {"name": ["a", "b"], "age": [1.5, 2.0], "n": [3, None], "sex": ["F", None]}

# A cell that reads as a blank is one; surrogates cannot be written at all.
WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs")), min_size=1, max_size=8).filter(
    lambda s: s not in ("n/a",)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_is_read_back(tmp_path, data):
    names = data.draw(st.lists(WORDS, min_size=1, max_size=6, unique=True))
    frame = pd.DataFrame(
        {
            "sex": data.draw(st.lists(st.sampled_from(["F", "M", None]), min_size=len(names), max_size=len(names))),
            "n": pd.array(
                data.draw(st.lists(st.one_of(st.none(), st.integers(-9, 9)), min_size=len(names), max_size=len(names))),
                dtype="Int64",
            ),
            "age": data.draw(st.lists(st.floats(0, 150), min_size=len(names), max_size=len(names))),
            "name": names,
            "extra": "not kept",
        }
    )
    PEOPLE.write(frame, tmp_path / "t.tsv")
    once = (tmp_path / "t.tsv").read_bytes()
    back = PEOPLE.read(tmp_path / "t.tsv")
    assert back["name"].tolist() == names and back["age"].tolist() == frame["age"].tolist()
    assert back["n"].equals(frame["n"]) and back["sex"].isna().tolist() == frame["sex"].isna().tolist()
    PEOPLE.write(back, tmp_path / "t.tsv")
    assert (tmp_path / "t.tsv").read_bytes() == once


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ["a", "a"]}, "a more than once"),
        ({"name": ["a", None]}, "column name, row 2: expected a value"),
        ({"age": ["x", 2]}, "column age, row 1: expected a number, got 'x'"),
        ({"age": [1, float("inf")]}, "column age, row 2: expected a number"),
        ({"age": [1, -4]}, "column age, row 2: expected at least 0, got -4"),
        ({"age": [1, 151]}, "expected at most 150"),
        ({"n": [1.5, 2]}, "column n, row 1: expected a whole number"),
        ({"sex": ["F", "X"]}, "expected one of F, M, got 'X'"),
    ],
)
def test_the_first_fault_is_named(change, message):
    with pytest.raises(BadInput, match=message):
        PEOPLE.validate(pd.DataFrame(FINE | change), where="here")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"name\tage\n", "columns n, sex"),
        (b"", "tab-separated"),
        (b"\xff\xfe\x00bad", "tab-separated"),
        (b"name\tage\tn\tsex\na\t1\t1\tF\textra\n", "as many cells"),
        (b"name\tage\tn\tsex\na\t1\t1\tF\nb\t1\t1\tF\textra\n", "tab-separated"),
        (b"name,age,n,sex\na,1,1,F\n", "columns name, age, n, sex"),
        (b"name\tage\tn\tsex\tsex\na\t1\t1\tF\tM\n", "each column once"),
    ],
)
def test_files_that_are_no_such_table(tmp_path, raw, message):
    (tmp_path / "t.tsv").write_bytes(raw)
    with pytest.raises(BadInput, match=message) as caught:
        PEOPLE.read(tmp_path / "t.tsv")
    assert "\n" not in str(caught.value) and "t.tsv" in str(caught.value)


def test_a_missing_file_and_a_byte_order_mark(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        PEOPLE.read(tmp_path / "t.tsv")
    (tmp_path / "t.tsv").write_bytes(b"\xef\xbb\xbfname\tage\tn\tsex\na\t1\tn/a\tF\n")
    assert PEOPLE.read(tmp_path / "t.tsv")["n"].isna().all()


def test_an_invalid_table_leaves_the_old_file_alone(tmp_path):
    PEOPLE.write(pd.DataFrame(FINE), tmp_path / "t.tsv")
    before = (tmp_path / "t.tsv").read_bytes()
    with pytest.raises(BadInput):
        PEOPLE.write(pd.DataFrame(FINE | {"age": [1, -1]}), tmp_path / "t.tsv")
    assert (tmp_path / "t.tsv").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.tsv"]


def test_an_empty_scan_table_is_refused(tmp_path):
    SCANS.write(pd.DataFrame(columns=[c.name for c in SCANS.columns]), tmp_path / "scans.tsv")
    with pytest.raises(BadInput, match="at least one scan"):
        read_scans(tmp_path / "scans.tsv")


def test_a_subject_without_a_split_is_refused():
    scans = pd.DataFrame({"cohort": "A", "subject_id": ["x", "y"]})
    splits = SPLIT.validate(
        pd.DataFrame({"cohort": ["A"], "subject_id": ["x"], "split": ["val"], "fold": [None]}), where=""
    )
    assert join_splits(scans.iloc[:1], splits)["split"].tolist() == ["val"]
    with pytest.raises(BadInput, match="none for y"):
        join_splits(scans, splits)


@settings(max_examples=30, deadline=None)
@given(shift=st.floats(-500, 500), data=st.data())
def test_predictions_are_a_softmax_and_do_not_move_with_a_shift(shift, data):
    logits = np.array(
        data.draw(st.lists(st.lists(st.floats(-300, 300), min_size=3, max_size=3), min_size=1, max_size=4))
    )
    scans = pd.DataFrame(
        {
            "scan_id": [f"s{i}" for i in range(len(logits))],
            "subject_id": "x",
            "cohort": "A",
            "split": "test",
            "diagnosis": "AD",
        }
    )
    table, moved = (prediction_table(scans, z, model="wide", seed=0) for z in (logits, logits + shift))
    p = table[list(P_COLUMNS)].to_numpy()
    assert np.allclose(p.sum(axis=1), 1) and np.allclose(p, moved[list(P_COLUMNS)], atol=1e-9)
    z = table[list(Z_COLUMNS)].to_numpy()
    assert np.allclose(z.sum(axis=1), 0, atol=1e-9)
    assert np.allclose(z[:, 0] - z[:, 2], logits[:, 0] - logits[:, 2])
    own = prediction_table(scans, logits, model="wide", seed=0, raw=True)
    assert (own[list(P_COLUMNS)].to_numpy() == p).all() and (own[list(Z_COLUMNS)].to_numpy() == logits).all()


def test_predictions_refuse_a_logit_that_is_no_number():
    scans = pd.DataFrame({"scan_id": ["s"], "subject_id": "x", "cohort": "A", "split": "test", "diagnosis": "AD"})
    with pytest.raises(BadInput, match="predictions of wide"):
        prediction_table(scans, np.array([[np.nan, 0, 0]]), model="wide", seed=0)
    assert PREDICTIONS.version == 1


def _told(tmp_path, logits, *, decimals=None, **changes):
    """A prediction table as a stranger writes it, read again; `changes` are columns put in its place, None takes one out."""
    scans = pd.DataFrame({"scan_id": [f"s{i}" for i in range(len(logits))], "cohort": "A", "split": "test"})
    scans = scans.assign(subject_id=scans["scan_id"], diagnosis="AD")
    table = prediction_table(scans, logits, model="wide", seed=0, raw=True)
    table = table if decimals is None else table.round(decimals)
    table = table.assign(**changes).drop(columns=[name for name, values in changes.items() if values is None])
    table.to_csv(tmp_path / "predictions.tsv", sep="\t", index=False)
    return PREDICTIONS.read(tmp_path / "predictions.tsv")


LOGITS = np.random.default_rng(0).normal(0, 3, (2000, 3))


def test_probabilities_and_logits_that_do_not_belong_together_are_refused(tmp_path):
    turned = dict(zip(Z_COLUMNS, LOGITS[:, ::-1].T, strict=True))
    with pytest.raises(BadInput, match=r"softmax of the logits.* for s0 \(wide, seed 0\), and \d{4} more") as caught:
        _told(tmp_path, LOGITS, **turned)
    assert "\n" not in str(caught.value) and str(tmp_path / "predictions.tsv") in str(caught.value)
    doubled = 2 * LOGITS[:, 0]  # logits of a temperature of one half: still whose class is the likeliest, mostly
    with pytest.raises(BadInput, match="softmax of the logits"):
        _told(tmp_path, LOGITS, z_cn=doubled)
    half = np.full(2000, 0.5)
    half[:7] = 1 / 3
    with pytest.raises(BadInput, match=r"add up to 1, within 0\.002, got 1\.5 for s7 .*, and 1992 more"):
        _told(tmp_path, np.zeros((2000, 3)), p_cn=half, p_mci=half, p_ad=half)


def test_rounded_predictions_and_any_number_as_logit_are_read(tmp_path):
    for decimals in (3, 4, 6):
        assert len(_told(tmp_path, LOGITS, decimals=decimals)) == 2000
    _told(tmp_path, np.zeros((1, 3)), decimals=3)  # three times 0.333
    with warnings.catch_warnings(action="error"):
        found = _told(tmp_path, np.array([[0.0, -800, -800]]), z_cn=1e308, z_mci=-1e308, z_ad=-1e308)
    assert found["p_cn"].item() == 1


def test_without_logits_they_are_the_logarithms_of_the_probabilities(tmp_path):
    none = dict.fromkeys(Z_COLUMNS)
    centred = LOGITS - LOGITS.mean(axis=1, keepdims=True)
    found = _told(tmp_path, LOGITS, **none)
    assert list(found.columns) == [column.name for column in PREDICTIONS.columns]
    np.testing.assert_allclose(found[list(Z_COLUMNS)], centred, atol=1e-9)
    rounded = _told(tmp_path, np.array([[0.0, 20, 0]]), decimals=3, **none)[list(Z_COLUMNS)].to_numpy()[0]
    assert rounded[1] - rounded[0] == pytest.approx(-np.log(np.finfo(float).eps)) and rounded.sum() == pytest.approx(0)
    with pytest.raises(BadInput, match="all or none of the columns z_cn, z_mci, z_ad, got only z_mci, z_ad"):
        _told(tmp_path, LOGITS, z_cn=None)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=20), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_a_batch_depends_on_the_scan_alone(ids, n):
    for scan_id in ids:
        assert 0 <= int(batch_of(scan_id, n)) < n and batch_of(scan_id, 0) == scan_id
