"""Text from strangers in our tables: it stays one cell, and a spreadsheet takes it for text, never for a formula.

Tables, file names and DICOM headers that others wrote may hold anything: `=cmd|' /C calc'!A0`, a tab, a page of text.
This is decided in one place, where tables are written (`write_tsv`) and read (`unguarded`): a control character is
written as its escape (a tab as `\\t`), a cell that a spreadsheet would run gets an apostrophe in front, which reading
takes off again, and a cell is no longer than a spreadsheet's. Numbers stay numbers: −3 in a number column is written
as it is. Markup is the page's matter: templates escape every value.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

#: What a spreadsheet's cell holds, less the apostrophe.
MAX_CELL = 32_000

#: What breaks a line, hides or turns text, or cannot be written as UTF-8 or XML.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]")
#: How a formula begins (full-width signs too, which East Asian spreadsheets accept), any apostrophes of ours before it.
_FORMULA = re.compile(r"'*\s*[=+\-@＝＋－＠]")


def one_line(text: str) -> str:
    r"""The text with what cannot be printed as escapes, cut at `MAX_CELL`.

    >>> one_line("a\tb\n")
    'a\\tb\\n'
    """
    shown = _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)
    return shown if len(shown) <= MAX_CELL else shown[: MAX_CELL - 1] + "…"


def is_printable(text: str) -> bool:
    """Whether a table can hold the text as it is."""
    return len(text) <= MAX_CELL and not _UNPRINTABLE.search(text)


def guarded(text: str) -> str:
    """The text with an apostrophe in front if a spreadsheet would take it for a formula.

    >>> guarded("=1+1"), guarded("T1")
    ("'=1+1", 'T1')
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """What `guarded` was given: one apostrophe is taken off where it had put one."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def path_cell(path: str) -> str:
    """A path that no spreadsheet takes for a formula, and that every program still finds: `./-scan.nii`.

    >>> path_cell("-scan.nii"), path_cell("scans/-scan.nii")
    ('./-scan.nii', 'scans/-scan.nii')
    """
    return f"./{path}" if _FORMULA.match(path) else path


def write_tsv(frame: pd.DataFrame, path: Path | str) -> None:
    """Write a table as UTF-8 TSV, its text cells guarded; same rows, same bytes."""
    safe = {
        name: values if pd.api.types.is_numeric_dtype(values) else values.map(_safe, na_action="ignore")
        for name, values in frame.items()
    }
    pd.DataFrame(safe).to_csv(path, sep="\t", index=False, na_rep="", lineterminator="\n", encoding="utf-8")


def _safe(value: object) -> object:
    return guarded(one_line(value)) if isinstance(value, str) else value
