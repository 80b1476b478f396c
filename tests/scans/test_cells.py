"""Whatever strangers write into tables, headers and file names: our tables stay tables, and no spreadsheet runs a cell."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from elr_mri.config import Cohort, Ingest
from elr_mri.errors import BadInput
from elr_mri.scans import cells
from elr_mri.scans.batches import rows_by_batch, stamped
from elr_mri.scans.download import read_table
from elr_mri.scans.ingest import ingest
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import EXCLUSIONS, NOTES, SCANS, VISITS

NASTY = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "＝1+1",
    "<script>alert(1)</script>",
    r"$\frac{1}{0}$",
    '"=1+1"',
    "'=1+1",
    "tab\there",
    "\t=1+1",
    "\r=1+1",
    "two\nlines",
    "two\r\n=lines",
    "bell\x07 null\x00 \u202eturned",
    "very long " * 20_000,
    "-" + "x" * 200_000,
    "\xa0=1+1",
]
TEXT = Schema(name="text", version=1, key=("n",), columns=(Column("n", "integer"), Column("text", required=False)))
NUMBERS = ("months", "age_years", "field_strength_t", "mmse", "cdr_global", "apoe4")


def raw_cells(path: Path) -> list[list[str]]:
    """A table as any program sees it: lines by line ends, cells by tabs; quotes only as CSV readers know them."""
    text = path.read_bytes().decode("utf-8")
    assert "\r" not in text and not any(ord(c) < 32 and c not in "\t\n" for c in text)
    rows = [line.split("\t") for line in text.removesuffix("\n").split("\n")]
    assert {len(row) for row in rows} == {len(rows[0])}
    with open(path, encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file, delimiter="\t"))) == len(rows)
    return rows


def check(path: Path) -> None:
    """No cell of a table is a formula, and none is longer than a spreadsheet's."""
    for row in raw_cells(path):
        for cell in row:
            seen = cell.strip().strip('"').lstrip() if cell.startswith('"') else cell.lstrip()
            if cell.startswith('"""'):  # the quotes are the text's own
                continue
            assert not seen.startswith(("=", "+", "-", "@", "＝")), cell[:60]
            assert len(cell) <= 2 * 32_767


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12).filter(lambda t: t != "n/a"))
@example(text="'=1")
@example(text="''=1")
@example(text="\t=1")
@example(text="a\u2028b")
def test_any_text_is_written_harmlessly_and_read_back(tmp_path, text):
    path = tmp_path / "t.tsv"
    TEXT.write(pd.DataFrame({"n": [-3], "text": [text]}), path)
    check_number, cell = raw_cells(path)[1]
    assert check_number == "-3"
    check_text = cells.one_line(text)
    back = TEXT.read(path)["text"].iloc[0]
    assert back == check_text
    if cells.is_printable(text):
        assert check_text == text
    if not cell.startswith('"'):
        assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    TEXT.write(pd.DataFrame({"n": [-3], "text": [back]}), tmp_path / "again.tsv")
    assert (tmp_path / "again.tsv").read_bytes() == path.read_bytes()


def test_numbers_stay_numbers_in_number_columns(tmp_path):
    schema = Schema(name="x", version=1, key=("a",), columns=(Column("a", "number"), Column("b", "integer")))
    schema.write(pd.DataFrame({"a": [-1.5, 2.0], "b": [-2, 3]}), tmp_path / "t.tsv")
    assert raw_cells(tmp_path / "t.tsv")[1:] == [["-1.5", "-2"], ["2.0", "3"]]


def test_nasty_cells_of_a_plain_table(table_writer, tmp_path):
    rows = []
    for k, text in enumerate(NASTY):
        (tmp_path / f"{k}.nii").write_bytes(b"image %d" % k)
        rows.append(
            {
                "image_path": f"{k}.nii",
                "subject_id": f"S{k}",
                "age": 70,
                "diagnosis": "CN" if k % 2 else text,
                "sex": text,
                "manufacturer": text,
                "site": text,
                "image_uid": text,
                "mmse": text,
            }
        )
    rows += [rows[1] | {"image_path": f"gone/{k} {t[:99]}", "subject_id": f"G{k}"} for k, t in enumerate(NASTY)]
    path = table_writer(tmp_path / "table.csv", rows)
    out = tmp_path / "out"
    ingest([Cohort(name="HOME", format="tsv", path=str(path))], Ingest(), out)
    scans, excluded = SCANS.read(out / "scans.tsv"), EXCLUSIONS.read(out / "exclusions.tsv")
    assert len(scans) + len(excluded) == len(rows) and len(scans) == len(NASTY) // 2
    for name in ("scans", "exclusions", "visits", "notes"):
        check(out / f"{name}.tsv")
    assert {"@SUM(1)", "+1+1", r"<script>alert(1)</script>"} <= set(scans["site"])
    assert scans["mmse"].dropna().empty  # neither +1+1 nor -2+3 is a number
    assert rows_by_batch(str(out / "scans.tsv"), 0, modified_ns=0)


def test_nasty_file_names_of_a_bids_folder(table_writer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = Path("-study")  # relative, as the paths in the tables then are
    names = ["=1+1", "+x", "@x", "<b>x", "$x$", "tab\tx", "line\nx", "\rx", "bad\udcff", "x" * 180]
    for name in names:
        anat = root / "sub-01" / "ses-M000" / "anat"
        anat.mkdir(parents=True, exist_ok=True)
        (anat / f"{name}_T1w.nii.gz").write_bytes(name.encode("utf-8", "surrogateescape"))
    table_writer(root / "participants.tsv", [{"participant_id": "sub-01", "age": 70, "diagnosis": "CN"}], "\t")
    ingest([Cohort(name="HOME", format="bids", path=str(root))], Ingest(), tmp_path / "out")
    scans, excluded = (s.read(tmp_path / "out" / f"{n}.tsv") for s, n in ((SCANS, "scans"), (EXCLUSIONS, "exclusions")))
    assert len(scans) + len(excluded) == len(names)
    assert excluded["reason"].value_counts().to_dict() == {"other-scan-of-visit": 5, "unprintable-path": 4}
    for name in ("scans", "exclusions"):
        check(tmp_path / "out" / f"{name}.tsv")
    (kept,) = scans["image_path"]
    assert kept.startswith("./-study/") and Path(kept).is_file()
    ((_, same, size, _),) = stamped(rows_by_batch(str(tmp_path / "out" / "scans.tsv"), 0, modified_ns=1).popitem()[1])
    assert same == kept and size > 0


def test_nasty_cells_of_an_adni_download(adni, run, tmp_path):
    for rid, text in enumerate(NASTY, start=1):
        adni.visit(rid, "bl", "2006-01-10", "CN", SITE=text, PTGENDER=text, MMSE=text, VISCODE2=text)
        adni.image(rid, "2006-01-20", rid)
        adni.dxsum.append({"RID": rid, "PTID": f"011_S_{rid:04d}", "VISCODE2": "bl", "DIAGNOSIS": 3, "PHASE": text})
    run(("adni", adni.write()))
    scans, notes = SCANS.read(tmp_path / "out" / "scans.tsv"), NOTES.read(tmp_path / "out" / "notes.tsv")
    assert len(scans) == len(NASTY)
    for name in ("scans", "exclusions", "visits", "notes"):
        check(tmp_path / "out" / f"{name}.tsv")
    assert len(VISITS.read(tmp_path / "out" / "visits.tsv")) == len(NASTY) and len(notes) <= len(NASTY)


@pytest.mark.parametrize("sidecars", [True, False])
def test_nasty_series_of_a_nacc_archive(nacc, run, tmp_path, sidecars):
    for number, text in enumerate(NASTY, start=1):
        nacc.visit(number, "2012-03-01", 1, NACCADC=text)
        nacc.session(number, "2012-03-01", f"mri{number}.zip", MRIMANU=text, MRIMODL=text)
        series = {"T1": b"image %d" % number, text[:200].translate({0: None, ord("/"): None}): b"other"}
        nacc.archive(f"mri{number}.zip", series, sidecars=sidecars)
    run(("nacc", nacc.write()))
    scans, excluded = (s.read(tmp_path / "out" / f"{n}.tsv") for s, n in ((SCANS, "scans"), (EXCLUSIONS, "exclusions")))
    assert len(scans) + len(excluded) == 2 * len(NASTY)
    assert "=cmd|' C calc'!A0" in " ".join(excluded["detail"].dropna())
    for name in ("scans", "exclusions", "visits", "notes"):
        check(tmp_path / "out" / f"{name}.tsv")


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_table_is_read_whatever_its_first_row_holds(table_writer, tmp_path, text, delimiter):
    path = table_writer(tmp_path / "t.csv", [{"a": "1", "site": text, "b": "2"}], delimiter)
    found = read_table(path, {"a": ["a"], "site": ["site"], "b": ["b"]})
    assert found[["a", "b"]].values.tolist() == [["1", "2"]] and len(found) == 1


def test_a_refusal_is_one_line_whatever_it_quotes():
    told = str(BadInput(expected="x", got="a\rb\u2028c\x0bd\ne", where="f\x85g", fix="h"))
    assert len(told.splitlines()) == 1


def test_the_sidecars_are_json(table_writer, tmp_path):
    (tmp_path / "a.nii").write_bytes(b"a")
    rows = [{"image_path": "a.nii", "subject_id": "S1", "age": 70, "diagnosis": "CN", "site": NASTY[0]}]
    path = table_writer(tmp_path / "=table.csv", rows)
    ingest([Cohort(name="HOME", format="tsv", path=str(path))], Ingest(), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "scans.tsv.json").read_text())["step"] == "ingest"


@pytest.mark.parametrize("text", ["T1", "3_Plane", "n-a", "a=b", "O'Brien", "’=x", "Ωmega – 1.5 T", "x" * 32_000])
def test_plain_words_stay_as_they_are(text):
    assert cells.guarded(cells.one_line(text)) == text
