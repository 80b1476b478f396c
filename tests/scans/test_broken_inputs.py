"""Broken tables and images, one fault at a time: refused in one line, or excluded or failed for a true reason."""

from __future__ import annotations

import gzip
import json
import os
import re
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import small_cohorts
from small_cohorts import BUILDERS, Small, nifti, volume

from elr_mri.cli import main
from elr_mri.config import Cohort, Convert, Ingest
from elr_mri.errors import BadInput
from elr_mri.imaging.convert import convert_scan
from elr_mri.scans.cohort import REASONS
from elr_mri.scans.ingest import ingest
from elr_mri.scans.table import EXCLUSIONS, SCANS


@dataclass
class Outcome:
    """What became of a cohort: a refusal, or kept and excluded images and what conversion says of the kept ones."""

    refused: str = ""
    kept: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def outcome(cohort: Small, out: Path, *, converting: bool = True) -> Outcome:
    """Ingest a cohort and convert what is kept; anything but `BadInput` is a crash and goes through."""
    config = Cohort(name="X", format=cohort.format, path=str(cohort.path))
    try:
        ingest([config], Ingest(), out)
    except BadInput as problem:
        return Outcome(refused=str(problem))
    scans, exclusions = SCANS.read(out / "scans.tsv"), EXCLUSIONS.read(out / "exclusions.tsv")
    if not converting:
        return Outcome(kept=list(scans["scan_id"]), excluded=list(exclusions["reason"]))
    told = [convert_scan(row.image_path, out / row.scan_id, row.scan_id, Convert()) for row in scans.itertuples()]
    return Outcome(
        kept=[t["scan_id"] for t in told if t["status"] == "pass"],
        excluded=list(exclusions["reason"]),
        failed=[t["reason"] for t in told if t["status"] == "fail"],
    )


def lines(change):
    """A break of a table's lines (bytes, without their ends)."""
    return lambda raw: b"\n".join(change(raw.rstrip(b"\n").split(b"\n"))) + b"\n"


def other_delimiter(raw: bytes) -> bytes:
    return raw.replace(b"\t", b"|").replace(b",", b"|")


def many_columns(rows: list[bytes]) -> list[bytes]:
    mark = b"\t" if b"\t" in rows[0] else b","
    names = mark.join(b"filler%d" % k for k in range(100_000))
    return [rows[0] + mark + names, *(row + mark * 100_000 for row in rows[1:])]


def cells(rows: list[bytes], k: int, change) -> list[bytes]:
    mark = b"\t" if b"\t" in rows[0] else b","
    return [mark.join(change(row.split(mark))) if i == k else row for i, row in enumerate(rows)]


TABLE_BREAKS = {
    "zero-byte": lambda raw: b"",
    "blank lines": lambda raw: b"\n\n\n",
    "header only": lines(lambda rows: rows[:1]),
    "no header": lines(lambda rows: rows[1:]),
    "wrong delimiter": other_delimiter,
    "semicolons": lambda raw: raw.replace(b"\t", b";").replace(b",", b";"),
    "BOM": lambda raw: b"\xef\xbb\xbf" + raw,
    "latin-1": lambda raw: raw.decode().encode("latin-1"),
    "UTF-16": lambda raw: raw.decode().encode("utf-16"),
    "UTF-16 without BOM": lambda raw: raw.decode().encode("utf-16-le"),
    "UTF-32": lambda raw: raw.decode().encode("utf-32"),
    "NUL bytes": lambda raw: raw + b"\0\0\0\n",
    "NUL in a cell": lambda raw: raw.replace("Zürich".encode(), b"Z\0rich"),
    "NUL in the header": lambda raw: b"\0" + raw,
    "unclosed quote": lines(lambda rows: cells(rows, 1, lambda c: [*c[:-1], b'"' + c[-1]])),
    "quote that swallows a row": lines(
        lambda rows: cells(cells(rows, 1, lambda c: [*c[:-1], b'"' + c[-1]]), 2, lambda c: [*c[:-1], c[-1] + b'"'])
    ),
    "unclosed quote in the header": lambda raw: b'"' + raw,
    "100,000 columns": lines(many_columns),
    "a cell of 1 MB": lambda raw: raw.replace("Zürich".encode(), b"x" * 2**20),
    "CRLF": lambda raw: raw.replace(b"\n", b"\r\n"),
    "CR": lambda raw: raw.replace(b"\n", b"\r"),
    "a short row": lines(lambda rows: cells(rows, 1, lambda c: c[:1])),
    "a long row": lines(lambda rows: cells(rows, 2, lambda c: [*c, b"more", b"cells"])),
    "a long first row": lines(lambda rows: cells(rows, 1, lambda c: [*c, b"more"])),
    "a column twice": lines(lambda rows: cells(rows, 0, lambda c: [*c[:-1], c[0]])),
    "a gzip file": gzip.compress,
    "a zip (xlsx)": lambda raw: b"PK\x03\x04" + os.urandom(4000),
    "random bytes": lambda raw: np.random.default_rng(0).bytes(5000),
    "HTML": lambda raw: b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n",
    "a row twice": lines(lambda rows: [*rows, rows[1]]),
}


#: A fault of a table -> what is told of it (a pattern of the refusal), or how many of the three images it costs.
SAID = {
    "zero-byte": "expected the column",
    "blank lines": "expected the column",
    "header only": "at least one scan to keep|at least one image",
    "no header": "expected the column",
    "wrong delimiter": "expected the column",
    "semicolons": 0,
    "BOM": 0,
    "latin-1": 0,
    "UTF-16": 0,
    "UTF-16 without BOM": "control characters",
    "UTF-32": "control characters",
    "NUL bytes": 0,
    "NUL in a cell": 0,
    "NUL in the header": "control characters",
    "unclosed quote": "EOF inside string",
    "quote that swallows a row": "holds a whole row",
    "unclosed quote in the header": "cells in each row",
    "100,000 columns": 0,
    "a cell of 1 MB": 0,
    "CRLF": 0,
    "CR": 0,
    "a short row": 1,
    "a long row": "cells, as in the header, got",
    "a long first row": "cells in each row, as in the header",
    "a column twice": 0,
    "a gzip file": "control characters",
    "a zip (xlsx)": "control characters",
    "random bytes": "control characters|cells in each row|expected the column",
    "HTML": "expected the column",
    "a row twice": 0,
}
#: Where a table differs: one that may be absent is not asked for, one whose key the user wrote may not repeat it.
OTHERWISE = {
    **dict.fromkeys((("list", fault) for fault in SAID), 0),
    ("list", "unclosed quote"): "EOF inside string",
    ("list", "quote that swallows a row"): "holds a whole row",
    ("list", "a long row"): SAID["a long row"],
    ("list", "a long first row"): SAID["a long first row"],
    ("scans", "NUL bytes"): "expected a value, got a blank",
    ("participants", "a row twice"): "sub-01 more than once",
    ("sessions", "a row twice"): "ses-M000 more than once",
    ("scans", "a row twice"): "0.nii.gz again",
    ("participants", "a short row"): 0,  # its session has the facts
    ("sessions", "a short row"): 0,  # its participant has the facts
    ("sessions", "header only"): 0,
    ("sessions", "NUL bytes"): "a session of letters and digits",
    ("scans", "a short row"): "expected a value, got a blank",
}
TABLES = {"adni": ("merge", "list"), "nacc": ("uds", "mri"), "bids": ("participants", "sessions"), "tsv": ("scans",)}


def check_refusal(found: Outcome, words: str, file: str) -> None:
    assert re.search(words, found.refused), found
    assert file in found.refused and found.refused.isprintable() and len(found.refused) < 700


@pytest.mark.parametrize("fault", TABLE_BREAKS)
@pytest.mark.parametrize(("kind", "table"), [(kind, table) for kind, names in TABLES.items() for table in names])
def test_a_broken_table(kind, table, fault, tmp_path):
    cohort = BUILDERS[kind](tmp_path / kind)
    path = cohort.tables[table]
    broken = TABLE_BREAKS[fault](path.read_bytes())
    assert broken != path.read_bytes()
    path.write_bytes(broken)
    found, said = outcome(cohort, tmp_path / "out", converting=False), OTHERWISE.get((table, fault), SAID[fault])
    if isinstance(said, str):
        return check_refusal(found, said, path.name)
    assert not found.refused and not found.failed
    assert len(found.kept) == 3 - said and found.excluded == ["no-table-row"] * said


def test_the_small_cohorts_are_whole(tmp_path):
    for kind, build in BUILDERS.items():
        found = outcome(build(tmp_path / kind), tmp_path / "out" / kind)
        assert len(found.kept) == 3 and not found.excluded + found.failed


def change(cohort: Small, table: str, row: int, column: str, value: str) -> None:
    """Write one cell of a table anew."""
    path = cohort.tables[table]
    mark = "\t" if path.suffix == ".tsv" else ","
    frame = pd.read_csv(path, sep=mark, dtype=str, keep_default_na=False)
    frame.loc[row, column] = value
    frame.to_csv(path, sep=mark, index=False)


#: Cohort, table, column, what is written in its first row -> the refusal, or the reason of the image's exclusion.
CELLS = [
    ("adni", "merge", "EXAMDATE", "31/02/2010", set()),
    ("adni", "merge", "AGE", "-4", set()),
    ("adni", "merge", "AGE", "1e400", set()),
    ("adni", "merge", "DX", "Demented?", {"no-diagnosis"}),
    ("adni", "merge", "DX", "", {"no-diagnosis"}),
    ("adni", "merge", "PTID", "../../etc", set()),
    ("adni", "merge", "RID", "x", set()),
    ("adni", "merge", "EXAMDATE", "9999-12-31", set()),
    ("nacc", "uds", "VISITMO", "13", {"no-table-row"}),
    ("nacc", "uds", "VISITYR", "2150", {"no-table-row"}),
    ("nacc", "uds", "NACCUDSD", "9", {"no-diagnosis"}),
    ("nacc", "uds", "NACCAGE", "-4", {"no-age"}),
    ("nacc", "uds", "NACCID", "NACC0000001", {"no-table-row"}),
    ("nacc", "mri", "NACCID", "../NACC1", {"no-table-row"}),
    ("nacc", "mri", "NACCMRFI", "../../mri9.zip", {"no-table-row"}),
    ("nacc", "mri", "MRIMO", "2", set()),
    ("bids", "participants", "age", "-4", set()),
    ("bids", "participants", "participant_id", "sub-../../x", {"no-table-row"}),
    ("bids", "sessions", "age", "-4", "expected an age"),
    ("bids", "sessions", "age", "31/02/2010", "expected an age"),
    ("bids", "sessions", "session_id", "../M000", "a session of letters and digits"),
    ("bids", "sessions", "diagnosis", "Parkinson", {"other-diagnosis"}),
    ("tsv", "scans", "age_years", "-4", "expected an age"),
    ("tsv", "scans", "age_years", "nan", {"no-age"}),
    ("tsv", "scans", "age_years", "inf", "expected an age"),
    ("tsv", "scans", "age_years", "seventy", "expected an age"),
    ("tsv", "scans", "diagnosis", "=1+1", {"other-diagnosis"}),
    ("tsv", "scans", "subject_id", "../../etc/passwd", "letters and digits"),
    ("tsv", "scans", "subject_id", "a/b", "letters and digits"),
    ("tsv", "scans", "subject_id", "Jürgen", "letters and digits"),
    ("tsv", "scans", "subject_id", "subject one", set()),
    ("tsv", "scans", "subject_id", "一", "letters and digits"),
    ("tsv", "scans", "subject_id", "$(rm x)", "letters and digits"),
    ("tsv", "scans", "subject_id", "---", "letters and digits"),
    ("tsv", "scans", "subject_id", "x" * 5000, "at most 64"),
    ("tsv", "scans", "image_path", "gone.nii", {"missing-file"}),
    ("tsv", "scans", "image_path", "x" * 5000 + ".nii", {"missing-file"}),
    ("tsv", "scans", "image_path", "1.nii.gz", "1.nii.gz again"),
    ("tsv", "scans", "image_path", "./1.nii.gz", {"duplicate-image"}),
]


@pytest.mark.parametrize(("kind", "table", "column", "value", "said"), CELLS)
def test_a_broken_cell(kind, table, column, value, said, tmp_path):
    cohort = BUILDERS[kind](tmp_path / kind)
    change(cohort, table, 0, column, value)
    found = outcome(cohort, tmp_path / "out", converting=False)
    if isinstance(said, str):
        return check_refusal(found, said, cohort.tables[table].name)
    assert not found.refused and not found.failed
    assert set(found.excluded) == said and len(found.kept) + len(found.excluded) == 3 and len(found.kept) >= 2


def edited(offset: int, form: str, *values) -> bytes:
    """A NIfTI-1 file with a field of its header overwritten."""
    raw = bytearray(nifti(0).to_bytes())
    struct.pack_into("<" + form, raw, offset, *values)
    return bytes(raw)


def of(array, affine=None) -> bytes:
    return nib.Nifti1Image(array, np.diag([4.0, 4, 4, 1]) if affine is None else affine).to_bytes()


def with_value(value: float) -> bytes:
    array = volume(0).astype(np.float32)
    array[3, 4, 5] = value
    return of(array)


WHOLE = nifti(0).to_bytes()
HUGE = edited(40, "8h", 3, 30000, 30000, 30000, 1, 1, 1, 1)[:1024]
#: Name of the file, its bytes -> what conversion says of it (nothing: it is read).
IMAGES = {
    "truncated gzip": ("a.nii.gz", gzip.compress(WHOLE)[:5000], "unreadable"),
    "truncated header": ("a.nii", WHOLE[:200], "unreadable"),
    "truncated voxels": ("a.nii", WHOLE[:9000], "unreadable"),
    "text as .nii": ("a.nii", b"Sorry, your session has expired.\n" * 20, "unreadable"),
    "text as .nii.gz": ("a.nii.gz", b"Sorry, your session has expired.\n" * 20, "unreadable"),
    "empty": ("a.nii", b"", "unreadable"),
    "empty gzip": ("a.nii.gz", gzip.compress(b""), "unreadable"),
    "gzip with a wrong checksum": ("a.nii.gz", gzip.compress(WHOLE)[:-8] + bytes(8), "unreadable"),
    "gzip twice": ("a.nii.gz", gzip.compress(gzip.compress(WHOLE)), "unreadable"),
    "gzip named .nii": ("a.nii", gzip.compress(WHOLE), "unreadable"),
    "not compressed, named .nii.gz": ("a.nii.gz", WHOLE, "not a gzip file"),
    "zeros": ("a.nii", bytes(10_000), "unreadable"),
    "random bytes": ("a.nii", np.random.default_rng(0).bytes(10_000), "unreadable"),
    "a DICOM named .nii": ("a.nii", bytes(128) + b"DICM" + bytes(5000), "dcm2niix made no image"),
    "no known suffix": ("a.txt", WHOLE, "unreadable"),
    "header without its image": ("a.hdr", WHOLE[:348], "unreadable"),
    "truncated MGZ": ("a.mgz", gzip.compress(b"\0\0\0\1" * 20), "unreadable"),
    "MGZ without voxels": (
        "a.mgz",
        gzip.compress(struct.pack(">7i", 1, 28, 0, 26, 1, 4, 0) + bytes(9000)),
        "unreadable",
    ),
    "a NaN": ("a.nii", with_value(np.nan), "not finite"),
    "an infinity": ("a.nii", with_value(np.inf), "not finite"),
    "all NaN": ("a.nii", of(np.full((28, 30, 26), np.nan, np.float32)), "100 % of the voxels are not finite"),
    "constant": ("a.nii", of(np.ones((28, 30, 26), np.int16)), "same value"),
    "wrong magic": ("a.nii", edited(344, "4s", b"abcd"), "unreadable"),
    "wrong header size": ("a.nii", edited(0, "i", 999), ""),
    "unknown data type": ("a.nii", edited(70, "h", 4242), "unreadable"),
    "no dimension": ("a.nii", edited(40, "8h", 0, 28, 30, 26, 1, 1, 1, 1), "unreadable|not one 3-D volume"),
    "a dimension of 0": ("a.nii", edited(40, "8h", 3, 28, 0, 26, 1, 1, 1, 1), "unreadable|not one 3-D volume"),
    "a negative dimension": ("a.nii", edited(40, "8h", 3, 28, -30, 26, 1, 1, 1, 1), "unreadable|not one 3-D volume"),
    "nine dimensions": ("a.nii", edited(40, "8h", 9, 28, 30, 26, 1, 1, 1, 1), "unreadable"),
    "huge": ("a.nii", HUGE, "30000 x 30000 x 30000"),
    "huge, gzip": ("a.nii.gz", gzip.compress(HUGE), "30000 x 30000 x 30000"),
    "large, gzip": ("a.nii.gz", gzip.compress(edited(40, "8h", 3, 800, 800, 800, 1, 1, 1, 1)), "more than any scanner"),
    "two dimensions": ("a.nii", of(volume(0)[..., 0]), "not one 3-D volume"),
    "four dimensions": ("a.nii", of(np.stack([volume(0)] * 3, -1)), "not one 3-D volume"),
    "colours": ("a.nii", of(np.zeros((28, 30, 26), [("R", "u1"), ("G", "u1"), ("B", "u1")])), "not real numbers"),
    "complex": ("a.nii", of(volume(0).astype(np.complex64)), "not real numbers"),
    "voxels beyond the end": ("a.nii", edited(108, "f", 1e6), "unreadable"),
    "a negative offset": ("a.nii", edited(108, "f", -500), "unreadable"),
    "a NaN offset": ("a.nii", edited(108, "f", np.nan), "unreadable"),
    "a NaN in the sform": ("a.nii", edited(280, "f", np.nan), "not invertible"),
    "an infinity in the sform": ("a.nii", edited(280, "f", np.inf), "not invertible"),
    "a sform of zeros": ("a.nii", edited(280, "12f", *[0.0] * 12), "not invertible"),
    "a flat sform": ("a.nii", edited(280, "12f", 4, 4, 0, 0, 4, 4, 0, 0, 0, 0, 4, 0), "invertible|right angles"),
    "1e30 mm": ("a.nii", edited(280, "f", 1e30), "mm"),
    "a slope of 1e38": ("a.nii", edited(112, "2f", 1e38, 0), "not finite"),
    "a slope of infinity": ("a.nii", edited(112, "2f", np.inf, 0), ""),
    "too small": ("a.nii", of(volume(0), np.diag([1.0, 1, 1, 1])), "covers only"),
    "too coarse": ("a.nii", of(volume(0), np.diag([8.0, 8, 8, 1])), "voxels of 8 mm"),
    "an older Analyze file": ("a.img", WHOLE[352:], "unreadable"),
}


@pytest.mark.parametrize("fault", IMAGES)
def test_a_broken_image(fault, tmp_path):
    name, content, said = IMAGES[fault]
    cohort = small_cohorts.tsv(tmp_path / "mine")
    (tmp_path / "mine" / name).write_bytes(content)
    change(cohort, "scans", 0, "image_path", name)
    found = outcome(cohort, tmp_path / "out")
    assert not found.refused and not found.excluded and len(found.kept) == 3 - len(found.failed)
    assert len(found.failed) == bool(said) and all(re.search(said, reason) for reason in found.failed), found.failed


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere.nii")


#: What stands where an image should be -> reason of its exclusion, or of its failed conversion.
PLACES = {
    "nothing": (lambda path: None, "missing-file", ""),
    "symlink loop": (loop, "missing-file", ""),
    "dangling symlink": (dangling, "missing-file", ""),
    "empty folder": (lambda path: path.mkdir(), "", "dcm2niix made no image"),
    "folder of folders": (lambda path: (path / "a" / "b").mkdir(parents=True), "", "dcm2niix made no image"),
    "folder of text": (
        lambda path: path.mkdir() or (path / "x.dcm").write_text("no DICOM" * 100),
        "",
        "dcm2niix made no image",
    ),
    "named pipe": (os.mkfifo, "", "neither a file nor a folder"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "", "neither a file nor a folder"),
}


@pytest.mark.parametrize("fault", PLACES)
def test_no_file_where_an_image_should_be(fault, tmp_path):
    make, excluded, failed = PLACES[fault]
    cohort = small_cohorts.tsv(tmp_path / "mine")
    change(cohort, "scans", 0, "image_path", "a.nii")
    make(tmp_path / "mine" / "a.nii")
    found = outcome(cohort, tmp_path / "out")
    assert len(found.kept) == 2 and found.excluded == [excluded] * bool(excluded)
    assert len(found.failed) == bool(failed) and all(failed in reason for reason in found.failed)


@pytest.mark.parametrize("kind", ["adni", "bids"])
@pytest.mark.parametrize("fault", ["empty", "cut short", "symlink loop", "a folder"])
def test_a_broken_image_in_a_tree(kind, fault, tmp_path):
    cohort = BUILDERS[kind](tmp_path / kind)
    image = cohort.images[0]
    raw = image.read_bytes()
    image.unlink()
    if fault == "symlink loop":
        loop(image)
    elif fault == "a folder":
        image.mkdir()
        (image / "inside.txt").write_text("x")
    else:
        image.write_bytes(raw[:100] if fault == "cut short" else b"")
    found = outcome(cohort, tmp_path / "out")
    # a folder is no image that was found; a link that leads nowhere is one, and cannot be read
    assert len(found.kept) == 2 and len(found.excluded + found.failed) == (fault != "a folder"), found


def encrypted(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # bit 0 of the flags: encrypted
        raw[raw.index(mark) + place] |= 1
    path.write_bytes(raw)


ZIPS = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-200]), "unreadable-archive", ""),
    "empty": (lambda path: zipfile.ZipFile(path, "w").close(), "no-nifti-in-archive", ""),
    "encrypted": (encrypted, "encrypted-archive", ""),
}


@pytest.mark.parametrize("fault", ZIPS)
def test_a_broken_archive(fault, tmp_path):
    breaks, excluded, failed = ZIPS[fault]
    cohort = small_cohorts.nacc(tmp_path / "nacc")
    breaks(cohort.images[0])
    found = outcome(cohort, tmp_path / "out")
    assert len(found.kept) == 2 and found.excluded == [excluded] * bool(excluded)
    assert len(found.failed) == bool(failed) and all(failed in reason for reason in found.failed)


def test_every_reason_that_is_told_is_explained(tmp_path):
    told = {reason for _, reason, _ in (*PLACES.values(), *ZIPS.values()) if reason}
    assert told | {reason for *_, said in CELLS if isinstance(said, set) for reason in said} <= set(REASONS)


def test_there_are_at_least_sixty_broken_inputs():
    assert len(TABLE_BREAKS) + len(CELLS) + len(IMAGES) + len(PLACES) + len(ZIPS) >= 100


def test_the_command_line_says_one_line_and_exits_with_2(tmp_path, capsys, monkeypatch):
    cohort = small_cohorts.tsv(tmp_path / "mine")
    cohort.path.write_bytes(b"")
    told = json.dumps([{"name": "X", "format": "tsv", "path": str(cohort.path)}])
    monkeypatch.setattr("sys.argv", ["elr-mri", "ingest", "--cohorts", told, "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr().err
    assert stop.value.code == 2 and len(said.splitlines()) == 1 and "mine.tsv" in said
