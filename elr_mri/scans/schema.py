"""A validated TSV table: its columns, kinds and ranges, checked whenever it is read or written.

The contracts between the zones are such tables (`table.py`, `predictions.py`).
A table is tab-separated UTF-8 with a header; a blank or `n/a` is missing. Ids stay text, and text is written so that it
can harm no one who opens the table (`cells.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.provenance import atomic
from elr_mri.scans.cells import one_line, unguarded, write_tsv

#: What can be a folder's name and nothing else.
_FILE_NAME = r"[^./\\][^/\\]{0,199}"


@dataclass(frozen=True)
class Column:
    """One column: `kind` is "text", "number" or "integer"; `low`/`high` bound a number, in its own unit.

    A blank cell is refused where `required`; a table without the whole column only where not `may_lack`. What `names_files` becomes part
    of the names of folders and files, so it must not lead anywhere.
    """

    name: str
    kind: str = "text"
    required: bool = True
    allowed: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    may_lack: bool = False
    names_files: bool = False


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order, the columns that together name a row, and the contract's version.

    `whole` judges what no single cell tells: it is given the validated table and where it is from, and returns the table.
    """

    name: str
    version: int
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    whole: Callable[[pd.DataFrame, str], pd.DataFrame] | None = None

    def read(self, path: Path | str) -> pd.DataFrame:
        """Read and validate a table; raises `BadInput` naming the file, the column and the first bad value."""
        path = Path(path)
        if not path.is_file():
            raise BadInput(
                expected=f"a {self.name} table",
                got="no such file",
                where=str(path),
                fix="Check the path, or run the step that writes it.",
            )
        try:
            frame = pd.read_csv(
                path,
                sep="\t",
                dtype=str,
                keep_default_na=False,
                na_values=["", "n/a"],
                encoding="utf-8-sig",
            )
            with open(path, encoding="utf-8-sig") as file:
                names = file.readline().rstrip("\n").split("\t")
        except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as problem:
            raise BadInput(
                expected="tab-separated UTF-8 text with a header",
                got=str(problem),
                where=str(path),
                fix="Save it again as UTF-8 TSV.",
            ) from problem
        if not isinstance(frame.index, pd.RangeIndex):  # pandas takes a surplus first cell for a row's name
            raise BadInput(
                expected="tab-separated text with as many cells in a row as in the header",
                got="more cells",
                where=str(path),
                fix="Remove the cells without a column name.",
            )
        if len(set(names)) < len(names):
            raise BadInput(
                expected="each column once",
                got=f"columns {', '.join(names)}",
                where=str(path),
                fix="Remove the repeated column.",
            )
        texts = [c.name for c in self.columns if c.kind == "text" and c.name in frame.columns]
        told = {name: frame[name].map(unguarded, na_action="ignore") for name in texts}
        return self.validate(frame.assign(**told), where=str(path))

    def write(self, frame: pd.DataFrame, path: Path | str) -> None:
        """Validate and write a table atomically; same rows, same bytes."""
        checked = self.validate(frame, where=str(path))
        with atomic(path) as draft:
            write_tsv(checked, draft)

    def validate(self, frame: pd.DataFrame, *, where: str) -> pd.DataFrame:
        """The table with its columns in order and in their types; raises `BadInput` on the first fault."""
        missing = [c.name for c in self.columns if c.name not in frame.columns and not c.may_lack]
        if missing:
            raise BadInput(
                expected=f"the column{'s' * (len(missing) > 1)} {', '.join(missing)}",
                got=f"columns {', '.join(map(str, frame.columns))}",
                where=where,
                fix="Add the missing columns; a column may be blank where it is optional.",
            )
        out = pd.DataFrame({c.name: _typed(frame[c.name], c, where) for c in self.columns if c.name in frame})
        repeated = out[out.duplicated(list(self.key), keep=False)]
        if len(repeated):
            first = ", ".join(str(repeated.iloc[0][k]) for k in self.key)
            raise BadInput(
                expected=f"one row for each {' + '.join(self.key)}",
                got=f"{first} more than once",
                where=where,
                fix="Remove the repeated rows.",
            )
        out = out.reset_index(drop=True)
        return out if self.whole is None else self.whole(out, where)


def _typed(values: pd.Series, column: Column, where: str) -> pd.Series:
    """One column in its type, with its blanks and bounds checked."""

    def refuse(bad: pd.Series, expected: str) -> None:
        row = int(np.flatnonzero(bad.to_numpy())[0])
        got = values.iloc[row]
        raise BadInput(
            expected=expected,
            got=repr(got) if isinstance(got, str) else str(got),
            where=f"{where}, column {column.name}, row {row + 1}",
            fix="Correct or remove that row.",
        )

    blank = values.isna()
    if column.required and blank.any():
        refuse(blank, "a value")
    if column.kind == "text":
        text = (
            values.astype(object).where(~blank, None).map(lambda v: v if v is None else one_line(str(v))).astype("str")
        )
        if column.allowed and (wrong := ~blank & ~text.isin(column.allowed)).any():
            refuse(wrong, f"one of {', '.join(column.allowed)}")
        if column.names_files and (wrong := ~blank & ~text.str.fullmatch(_FILE_NAME)).any():
            refuse(wrong, "a name of at most 200 characters without / or \\, and no point in front")
        return text
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    if (wrong := ~blank & ~np.isfinite(numbers)).any():
        refuse(wrong, "a number")
    if column.low is not None and (wrong := numbers < column.low).any():
        refuse(wrong, f"at least {column.low:g}")
    if column.high is not None and (wrong := numbers > column.high).any():
        refuse(wrong, f"at most {column.high:g}")
    if column.kind == "integer":
        if (wrong := ~blank & (numbers != numbers.round())).any():
            refuse(wrong, "a whole number")
        return numbers.astype("Int64")
    return numbers
