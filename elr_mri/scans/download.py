"""Files and tables as downloads hold them: found anywhere in a folder, columns matched whatever their case.

Nothing here knows a study. The readers (`adni.py`, `nacc.py`, `bids.py`, `plain.py`) say which
tables and columns they want; this module finds them, reads only those columns and turns text
into numbers and dates, with everything impossible made missing.
"""

from __future__ import annotations

import csv
import errno
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.scans.cells import one_line

#: What a browser adds to the name of a file that it downloads again (`ADNIMERGE (1).csv`), as a pattern.
COPY = r"(?: ?\(\d+\))?"

#: Text that stands for a missing cell in at least one release of ADNI, NACC or BIDS.
BLANKS = ["", "NA", "N/A", "n/a", "NaN", "nan", "null"]


def files_under(folder: Path | str) -> list[Path]:
    """Every file below `folder`, sorted, links followed once; hidden files (`._scan.nii` of a Mac) are left out.

    Raises `BadInput` where a folder cannot be read: its images would be lost without a word.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(
            expected="a download folder",
            got="a file" if folder.is_file() else "no such folder",
            where=str(folder),
            fix="Check this cohort's `path` in the config.",
        )
    seen, found, left = set(), [], [str(folder)]
    while left:
        root = left.pop()
        real = os.path.realpath(root)
        if real in seen:
            continue
        seen.add(real)
        entries = [(name, is_folder) for name, is_folder in _entries(root) if not name.startswith(".")]
        found += [os.path.join(root, name) for name, is_folder in entries if not is_folder]
        folders = [name for name, is_folder in entries if is_folder and not name.startswith("__MACOSX")]
        left += [os.path.join(root, name) for name in sorted(folders, reverse=True)]
    return [Path(name) for name in sorted(found)]


def _entries(folder: str) -> list[tuple[str, bool]]:
    """Names in a folder, and whether each is a folder (or leads to one)."""
    try:
        with os.scandir(folder) as entries:
            return [(entry.name, _is_folder(entry)) for entry in entries]
    except OSError as problem:
        forbidden = problem.errno in (errno.EACCES, errno.EPERM)
        raise BadInput(
            expected="a folder that can be read",
            got=problem.strerror or str(problem),
            where=str(problem.filename or folder),
            fix="Change its permissions, or take it out of the download."
            if forbidden
            else "Start again when the disk can be read.",
        ) from problem


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder or a link to one; a link that leads round in a circle leads to none."""
    try:
        return entry.is_dir()
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            return False
        raise


def header(path: Path | str) -> list[str]:
    """Column names of a delimited table, stripped and in lower case; empty for a file that holds no text."""
    names, _, _ = _first_line(Path(path))
    return [name.lower() for name in names]


def matched(path: Path | str, wanted: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
    """Which column of a table is taken for each of our names, spelled as in the file; None where it has none of them."""
    names, _, _ = _first_line(Path(path), check_second=True)
    return {ours: None if place is None else names[place] for ours, place in _places(names, wanted).items()}


def _places(names: Sequence[str], wanted: Mapping[str, Sequence[str]]) -> dict[str, int | None]:
    """Position of the column for each of our names: the first of its spellings that is there, in any case."""
    lower = [name.lower() for name in names]
    return {ours: next((lower.index(a) for a in aliases if a in lower), None) for ours, aliases in wanted.items()}


def read_table(path: Path | str, wanted: Mapping[str, Sequence[str]], *, required: Sequence[str] = ()) -> pd.DataFrame:
    """The wanted columns of a CSV or TSV, as text, under our own names.

    Parameters
    ----------
    wanted : our name -> names that the column goes under, in lower case, the preferred one first
    required : our names whose absence is the user's to mend (`BadInput`)

    Returns
    -------
    DataFrame with one text column for each of `wanted`, blank cells missing, absent columns all missing.
    Only these columns are ever held in memory: a NACC UDS table has nearly 2,000 of them.
    """
    path = Path(path)
    names, delimiter, encoding = _first_line(path, check_second=True)
    places = _places(names, wanted)
    absent = [ours for ours in required if places[ours] is None]
    if absent:
        raise BadInput(
            expected="the column " + " and ".join(" or ".join(wanted[ours]).upper() for ours in absent),
            got=f"{len(names)} other columns ({one_line(', '.join(name[:40] for name in names[:6]))} …)",
            where=str(path),
            fix="Download the table again with that column, or rename the column.",
        )
    used = sorted({place for place in places.values() if place is not None})
    try:
        frame = pd.read_csv(
            path,
            sep=delimiter,
            usecols=used,
            dtype=str,
            encoding=encoding,
            encoding_errors="replace",  # a stray byte behind the first MiB spoils its own cell only
            keep_default_na=False,
            na_values=BLANKS,
            skipinitialspace=True,
            index_col=False,
        )
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as problem:
        raise BadInput(
            expected="a delimited text table", got=str(problem).strip(), where=str(path), fix="Download the file again."
        ) from problem
    frame.columns = range(frame.shape[1])
    _check_shape(path, delimiter, encoding, n_cells=len(names), n_rows=len(frame))
    columns = {
        ours: frame[used.index(place)].str.strip() if place is not None else None for ours, place in places.items()
    }
    return pd.DataFrame(columns, index=frame.index, dtype="str").replace("", pd.NA)


def numbers(values: pd.Series, *, low: float = 0.0, high: float = float("inf")) -> pd.Series:
    """Text as float; what is no number, or outside low … high (−1, −4, 88, 999 are missing codes), becomes missing."""
    out = pd.to_numeric(values, errors="coerce").astype(float)
    return out.where((out >= low) & (out <= high) & (out != float("inf")))


def dates(values: pd.Series) -> pd.Series:
    """Text as dates: ISO (also with a time behind it) or month/day/year, of 1900 to 2100; anything else becomes missing."""
    text = values.astype("str").str.strip().str.extract(r"^([^\sT]+)")[0]
    out = pd.to_datetime(text, format="%Y-%m-%d", errors="coerce")
    for style in ("%m/%d/%Y", "%m/%d/%y"):
        out = out.fillna(pd.to_datetime(text, format=style, errors="coerce"))
    return out.where(out.dt.year.between(1900, 2100))  # 9999-12-31 and its like stand for a missing date


def _first_line(path: Path, *, check_second: bool = False) -> tuple[list[str], str, str]:
    """Column names, delimiter and encoding, from the first line; published tables name commas `.tsv`, so it is counted.

    The second line may not hold more cells than the first (R writes row names so): every column would be shifted.
    """
    try:
        raw = path.read_bytes() if path.stat().st_size < 2**20 else _head(path)
    except OSError as problem:
        raise BadInput(
            expected="a readable table", got=problem.strerror or "nothing", where=str(path), fix="Check the path."
        ) from problem
    encoding = _encoding(raw)
    line, second = [*re.split(r"\r\n|\n|\r", raw.decode(encoding, errors="replace"), maxsplit=2), ""][:2]
    if check_second and re.search(r"[\0-\x08]", line):
        got = "control characters in the first line: an archive, a spreadsheet's own format, or UTF-16"
        _refuse_rows("a text table", got, path, "Unpack it, or save it as CSV in UTF-8.")
    delimiter = max(",\t;", key=line.count)
    names, cells = _cells(line, delimiter), _cells(second, delimiter)
    if check_second and any(cells[len(names) :]):
        raise BadInput(
            expected=f"{len(names)} cells in each row, as in the header",
            got=f"{len(cells)}",
            where=f"{path}, row 2",
            fix="Give every column a name.",
        )
    return [name.strip() for name in names], delimiter, encoding


def _cells(line: str, delimiter: str) -> list[str]:
    """A line's cells; one that Python's reader refuses (a cell of more than 128 KiB) is cut at every delimiter."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


def _check_shape(path: Path, delimiter: str, encoding: str, *, n_cells: int, n_rows: int) -> None:
    """Refuse what would move or swallow cells: a row longer than the header, a quote that is never closed.

    pandas cuts long rows and lets an open quote run on into the next rows. The table is gone through row by row only
    where its lines or delimiters are not as many as they should be.
    """
    n_lines = n_marks = 0
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            n_lines += max(piece.count(b"\n"), piece.count(b"\r"))
            n_marks += piece.count(delimiter.encode())
    if n_lines > n_rows + 1 or n_marks > (n_cells - 1) * (n_rows + 1) or encoding == "utf-16":
        csv.field_size_limit(2**31 - 1)
        with open(path, encoding=encoding, newline="") as file:
            for row in csv.reader(file, delimiter=delimiter):
                _check_row(row, delimiter, n_cells, path)


def _check_row(row: list[str], delimiter: str, n_cells: int, path: Path) -> None:
    """One row of a suspicious table; a note may hold line breaks and delimiters, but not a whole row."""
    if any(row[n_cells:]):
        where = f"{path}, the row of {one_line(row[0][:40])!r}"
        _refuse_rows(f"{n_cells} cells, as in the header", f"{len(row)}", where, "Quote cells that hold the delimiter.")
    for cell in row:
        if len(cell.strip().splitlines()) > 1 and cell.count(delimiter) >= n_cells - 1 > 0:
            got = f"a cell that holds a whole row: {one_line(cell[:60])}"
            _refuse_rows("every quote closed in its own row", got, path, "Remove the stray quote.")


def _refuse_rows(expected: str, got: str, where: Path | str, fix: str) -> None:
    raise BadInput(expected=expected, got=got, where=str(where), fix=fix)


def _encoding(raw: bytes) -> str:
    """How the sample's text is encoded: UTF-8, UTF-16 if it says so (Excel's Unicode text), or else latin-1."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") and raw[2:4] != b"\0\0":
        return "utf-16"
    return "utf-8-sig" if _is_utf8(raw) else "latin-1"


def _head(path: Path) -> bytes:
    """The beginning of a file: 1 MiB, or more where its first two lines are longer (at most 64 MiB)."""
    with open(path, "rb") as file:
        raw = file.read(2**20)
        while len(re.findall(rb"\r\n|\n|\r", raw)) < 3 and len(raw) < 2**26 and (more := file.read(2**20)):
            raw += more
        return raw


def _is_utf8(raw: bytes) -> bool:
    """Whether the bytes are UTF-8, a character cut off at the end of the sample aside."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        return problem.start >= len(raw) - 4 and len(raw) >= 2**20
    return True
