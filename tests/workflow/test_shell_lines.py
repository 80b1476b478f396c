"""No user's text reaches a shell unquoted: every shell line of the rules, and how Python starts other programs."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

from studies import changed, run

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
#: What stands in a shell line without `:q`: numbers, names that their patterns confine, and options that `shlex` has quoted.
CONFINED = {"threads", "wildcards.batch", "wildcards.slug", "wildcards.seed", "params.n_batches", "params.processes"}
ODD = "a'b $(touch ran) `touch ran`; touch ran"


def test_every_value_in_a_shell_line_is_quoted():
    for path in RULES:
        text = path.read_text()
        quoted = set(
            re.findall(r"^ +(\w+)=.*(?:shlex\.(?:join|quote)\(|lab_table\(\)\[1\]|TRUTH,|\"--synthetic\")", text, re.M)
        )
        quoted |= set(re.findall(r'^ +(\w+)="",', text, re.M))
        for part in re.findall(r"\{([^{}\"]+)\}", "".join(re.findall(r"^ +(?:STEP|\").*$|^LOGGED.*$", text, re.M))):
            name = part.removeprefix("params.")
            assert part.endswith(":q") or part in CONFINED or name in quoted, f"{path.name}: {part}"


def test_odd_words_of_a_config_come_as_one_argument_and_run_nothing(tmp_path):
    """Each shell line that a dry run prints is run with `python` replaced by a printer of its arguments."""
    study = changed(batches=2, results=ODD, report={"title": ODD, "reference": "volumes"})
    printed = run(tmp_path, study, "--dry-run", "--printshellcmds")
    assert printed.returncode == 0, printed.stdout[-2000:]
    lines = [
        line.strip().removeprefix("Shell command: ")
        for line in printed.stdout.splitlines()
        if " python -m elr_mri " in line
    ]
    assert len(lines) > 10
    for line in lines:
        command = line.split(" 2>&1 | tee ")[0]
        shown = subprocess.run(
            ["bash", "-c", f'python() {{ printf "%s\\n" "$@"; }}\n{command}'],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        arguments = shown.stdout.splitlines()
        assert any(word == ODD or word.startswith((f"{ODD}/", "{")) for word in arguments), command
        assert any(ODD in word for word in arguments), command
    assert not (tmp_path / "ran").exists()


def test_other_programs_are_started_with_lists_of_arguments():
    for path in (ROOT / "elr_mri").rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            assert name not in (
                "os.system",
                "os.popen",
                "subprocess.getoutput",
                "subprocess.getstatusoutput",
                "eval",
                "exec",
            ), path
            assert not any(word.arg == "shell" for word in call.keywords), f"{path}: {ast.unparse(call)}"
