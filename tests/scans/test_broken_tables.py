"""Tables that came broken: each is read right, or refused in one line that names it; no crash, no image lost."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from elr_mri.errors import BadInput

KEYS = ["scan_id", "diagnosis", "age_years", "sex"]


def lines(raw: bytes) -> list[bytes]:
    return raw.splitlines()


def with_column(raw: bytes, cell: bytes) -> bytes:
    """A further column of which every cell is `cell`."""
    separator = b"\t" if b"\t" in raw else b","
    first, *others = lines(raw)
    return b"\n".join([first + separator + b"REMARK", *(line + separator + cell for line in others)]) + b"\n"


#: What does not change what a table says: the scans must be those of the clean table.
HARMLESS: dict[str, Callable[[bytes], bytes]] = {
    "UTF-16": lambda raw: raw.decode().encode("utf-16"),
    "byte order mark": lambda raw: b"\xef\xbb\xbf" + raw,
    "CRLF": lambda raw: raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
    "blank lines at the end": lambda raw: raw + b"\n\n\n",
    "latin-1 in a remark": lambda raw: with_column(raw, "Zürich, é".encode("latin-1").replace(b",", b"")),
    "a remark in quotes with a line break": lambda raw: with_column(raw, b'"two\nlines"'),
    "huge header": lambda raw: b"\n".join(
        [
            lines(raw)[0]
            + (b"\t" if b"\t" in raw else b",")
            + (b"\t" if b"\t" in raw else b",").join(b"C%d" % k for k in range(50_000))
        ]
        + [line + (b"\t" if b"\t" in raw else b",") * 50_000 for line in lines(raw)[1:]]
    ),
    "shuffled rows": lambda raw: b"\n".join([lines(raw)[0], *reversed(lines(raw)[1:])]) + b"\n",
    "header in lower case": lambda raw: lines(raw)[0].lower() + b"\n" + b"\n".join(lines(raw)[1:]) + b"\n",
    "padded cells": lambda raw: raw.replace(b",", b" , ").replace(b"\t", b" \t "),
}

#: What destroys or distorts a table: it is refused, or every image is still counted.
HARMFUL: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "header only": lambda raw: lines(raw)[0] + b"\n",
    "cut in the middle": lambda raw: raw[: len(raw) // 2],
    "cut in the header": lambda raw: raw[:9],
    "NUL bytes": lambda raw: raw[:200] + b"\0" * 20 + raw[200:],
    "all NUL bytes": lambda raw: b"\0" * len(raw),
    "a quote that never ends": lambda raw: raw.replace(b"\n", b'\n"', 1),
    "another delimiter": lambda raw: raw.replace(b",", b"|").replace(b"\t", b"|"),
    "rows with more cells": lambda raw: raw.replace(b"\n", b",,,\t\t\t\n", 2).replace(b",,,\t\t\t\n", b"\n", 1),
    "the first column twice": lambda raw: b"\n".join(
        line.split(b"\t" if b"\t" in raw else b",")[0] + (b"\t" if b"\t" in raw else b",") + line for line in lines(raw)
    ),
    "every row twice": lambda raw: raw + b"\n".join(lines(raw)[1:]) + b"\n",
    "no header": lambda raw: b"\n".join(lines(raw)[1:]) + b"\n",
    "compressed": gzip.compress,
    "random bytes": lambda raw: random.Random(0).randbytes(len(raw)),
    "a login page": lambda raw: (
        b"<!DOCTYPE html><html><head><title>Log in</title></head><body>session expired</body></html>"
    ),
    "every cell blank": lambda raw: lines(raw)[0] + b"\n" + (b"\t" if b"\t" in raw else b",") * 3 + b"\n",
    "every number 99999": lambda raw: (
        lines(raw)[0]
        + b"\n"
        + b"\n".join(b"".join(b"9" if 48 <= c <= 57 else bytes([c]) for c in line) for line in lines(raw)[1:])
    ),
    "carriage returns only": lambda raw: raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r"),
}


@pytest.fixture
def download(adni, nacc, tmp_path, table_writer):
    """What each format's download is, small and clean: (cohort format, path to ingest, tables, number of images)."""
    for rid, dx in ((1, "CN"), (2, "MCI"), (3, "Dementia")):
        adni.visit(rid, "bl", "2006-01-10", dx)
        adni.dxsum.append({"RID": rid, "VISCODE2": "bl", "EXAMDATE": "2006-01-10", "DIAGNOSIS": rid})
        adni.image(rid, "2006-01-12", rid)
    for k, level in ((1, 1), (2, 3), (3, 4)):
        nacc.visit(k, "2010-05-06", level, NACCALZP=1 if level == 4 else 8)
        nacc.session(k, "2010-05-10", f"mri{k}.zip")
        nacc.archive(f"mri{k}ni.zip", {"MPRAGE": b"image %d" % k})
    bids, plain = tmp_path / "bids", tmp_path / "plain"
    people = [("01", 71, "CN", "F"), ("02", 65, "MCI", "M"), ("03", 80, "AD", "F")]
    for name, *_ in people:
        for folder in (bids / f"sub-{name}" / "anat", plain):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"sub-{name}_T1w.nii.gz").write_bytes(b"image " + name.encode())
    facts = [{"participant_id": f"sub-{p}", "age": a, "diagnosis": d, "sex": s} for p, a, d, s in people]
    table_writer(bids / "participants.tsv", facts, delimiter="\t")
    rows = [
        {"image_path": f"sub-{p}_T1w.nii.gz", "subject_id": p, "age_years": a, "diagnosis": d} for p, a, d, _ in people
    ]
    table_writer(plain / "scans.tsv", rows, delimiter="\t")
    return {
        "ADNIMERGE": ("adni", adni.write(), adni.root / "tables" / "ADNIMERGE_23Dec2025.csv"),
        "DXSUM": ("adni", adni.root, adni.root / "tables" / "DXSUM_PDXCONV_ADNIALL.csv"),
        "UDS": ("nacc", nacc.write(), nacc.root / "investigator_nacc71.csv"),
        "MRI": ("nacc", nacc.root, nacc.root / "investigator_mri_nacc71.csv"),
        "participants": ("bids", bids, bids / "participants.tsv"),
        "plain": ("tsv", plain / "scans.tsv", plain / "scans.tsv"),
    }


TABLES = ("ADNIMERGE", "DXSUM", "UDS", "MRI", "participants", "plain")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("fault", HARMLESS)
def test_what_changes_no_word_changes_no_scan(download, run, table, fault):
    kind, path, file = download[table]
    clean = run((kind, path, "X"))["scans"][KEYS]
    assert len(clean) == 3
    file.write_bytes(HARMLESS[fault](file.read_bytes()))
    pd.testing.assert_frame_equal(run((kind, path, "X"))["scans"][KEYS], clean)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("fault", HARMFUL)
def test_a_broken_table_is_refused_or_every_image_is_counted(download, run, table, fault):
    kind, path, file = download[table]
    broken = HARMFUL[fault](file.read_bytes())
    file.write_bytes(broken)
    try:
        tables = run((kind, path, "X"))
    except BadInput as refused:
        assert "\n" not in str(refused)
        where = [str(p) for p in (file, *([path] if Path(path).is_dir() else []))]
        assert any(place in str(refused) for place in where), str(refused)
        return
    listed = {"plain": max(len(pd.read_csv(file, sep=None, engine="python", dtype=str)), 1)} if table == "plain" else {}
    assert len(tables["scans"]) + len(tables["exclusions"]) == listed.get(table, 3)
    assert tables["exclusions"]["reason"].notna().all()
    assert (
        set(tables["scans"]["diagnosis"]) <= {"CN", "MCI", "AD"} and tables["scans"]["age_years"].between(18, 120).all()
    )


def test_what_is_no_text_is_said_to_be_none(download, run):
    kind, path, file = download["UDS"]
    file.write_bytes(HARMFUL["all NUL bytes"](file.read_bytes()))
    with pytest.raises(BadInput, match="control characters"):
        run((kind, path, "X"))


def test_a_stray_byte_far_down_spoils_its_own_cell_only(download, run):
    kind, path, file = download["UDS"]
    raw = with_column(file.read_bytes(), b"x" * 600_000)
    file.write_bytes(raw[:-3] + b"\xe9\n")
    assert run((kind, path, "X"))["scans"]["diagnosis"].tolist() == ["CN", "MCI", "AD"]


@pytest.mark.parametrize("table", TABLES)
def test_a_folder_where_a_table_should_be(download, run, table):
    kind, path, file = download[table]
    file.unlink()
    file.mkdir()
    try:
        tables = run((kind, path, "X"))
    except BadInput as refused:
        assert "\n" not in str(refused)
    else:
        assert table in ("ADNIMERGE", "DXSUM") and len(tables["scans"]) + len(tables["exclusions"]) == 3
