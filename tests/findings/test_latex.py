"""The main table as LaTeX: every cell is there, nothing in it is a command, and every row has its columns."""

import re
import shutil
import subprocess

import pandas as pd
import pytest

from elr_mri.findings.evaluate import MAIN_METRICS
from elr_mri.findings.latex import escape, main_table

ODD = 'wide_elr & 50% $x$ #1 {a} \\input{secret} ~^<>|"'


def _table(*methods: str) -> pd.DataFrame:
    scores = dict.fromkeys(MAIN_METRICS, "66.9 (58.0–75.1)")
    rows = [
        {"cohort": cohort, "split": split, "method": method, "n_scans": 380, "n_subjects": 96, **scores}
        for cohort, split in (("ADNI", "test"), ("NA_CC", "external"))
        for method in methods
    ]
    return pd.DataFrame(rows, columns=["cohort", "split", "method", "n_scans", "n_subjects", *MAIN_METRICS])


def test_every_character_that_means_something_is_escaped():
    bare = re.sub(r"\\(text[a-z]+\{\}|[&%$#_{}])", "", escape(ODD))
    assert not set(bare) & set('\\&%$#_{}~^<>|"')
    assert escape("66.9 (58.0–75.1)") == "66.9 (58.0--75.1)" and escape("two\nlines") == "two lines"


def test_rows_have_as_many_cells_as_the_table_has_columns():
    text = main_table(_table("volumes", ODD), level=0.95)
    assert text.count(r"\begin{tabular}{lcccc}") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(rows) == 5 and all(len(re.findall(r"(?<!\\)&", row)) == 4 for row in rows)
    assert text.count("66.9 (58.0--75.1)") == 16
    assert r"NA\_CC (external), 380 scans of 96 subjects" in text and r"95\,\%" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


def test_no_unseen_scans_is_said():
    assert "No unseen scans were scored." in main_table(_table(), level=0.9)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_takes_it(tmp_path):
    (tmp_path / "main.tex").write_text(main_table(_table("volumes", ODD), level=0.95))
    (tmp_path / "page.tex").write_text(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\begin{document}\\input{main}\\end{document}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "page.tex"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
