"""The main table as LaTeX, to be put into a manuscript: `\\input{main}`; needs no package."""

from __future__ import annotations

import pandas as pd

from elr_mri.findings.style import group_title

#: Characters that mean something to LaTeX, or that its classic fonts show as another; and this project's typography.
ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    **{character: f"\\{character}" for character in "&%$#_"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "−": "$-$",
}
TITLES = ("Method", "Accuracy", "Balanced accuracy", "Micro-AUC", "Macro-AUC")


def main_table(table: pd.DataFrame, *, level: float) -> str:
    """A `table` environment of `evaluate.main_table`'s rows, grouped by cohort and split; `level` is that of the intervals.

    A table without rows says so in place of them.
    """
    width = len(TITLES)
    lines = [f"\\begin{{tabular}}{{l{'c' * (width - 1)}}}", r"\hline", _row(TITLES), r"\hline"]
    for (cohort, split), rows in table.groupby(["cohort", "split"], sort=False):
        counts = f"{rows['n_scans'].iloc[0]} scans of {rows['n_subjects'].iloc[0]} subjects"
        title = escape(f"{group_title(cohort, split)}, {counts}")
        lines.append(f"\\multicolumn{{{width}}}{{l}}{{\\emph{{{title}}}}} \\\\")
        lines += [_row([row.method, *row[6:]]) for row in rows.itertuples()]
        lines.append(r"\hline")
    if table.empty:
        lines += [f"\\multicolumn{{{width}}}{{l}}{{No unseen scans were scored.}} \\\\", r"\hline"]
    caption = f"Scores on unseen subjects in percent, with subject-clustered {100 * level:g}\\,\\% bootstrap intervals in parentheses."
    head = ["% Made by elr_mri evaluate from results.tsv.", r"\begin{table}", r"\centering", f"\\caption{{{caption}}}"]
    return "\n".join([*head, r"\label{tab:elr-mri-main}", *lines, r"\end{tabular}", r"\end{table}", ""])


def escape(text: str) -> str:
    """Text as LaTeX shows it literally, on one line."""
    return "".join(ESCAPES.get(character, character) for character in " ".join(str(text).split()))


def _row(cells) -> str:
    return " & ".join(map(escape, cells)) + r" \\"
