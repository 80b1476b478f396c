"""Every command in the docs: each is known and its options exist; those that need nothing special are run on a small study (slow)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
import yaml

from docs import PAGES, ROOT, Command, anchors, commands, links
from elr_mri import __version__, config
from elr_mri.cli import app

COMMANDS = commands()
BINARIES = Path(sys.executable).parent
#: Run by the tests of the repository, or by anyone who sets it up: what these would do again is only looked up.
SET_UP = ("make", "source", "python3", "pip", "git", "ruff")
#: Whole studies and experiments of many minutes: their workflow is dry-run, their options are checked.
LONG = ("snakemake --cores 8 lab", "elr-mri lab tables", "elr-mri lab images", "python -m pytest tests/scans")


def runnable(command: Command) -> bool:
    return not command.needs and command.words[0] not in SET_UP and not command.text.startswith(LONG)


def programs(words: list[str]) -> list[str]:
    """The words of a step of ours from its name on; empty for another program."""
    if words[0] == "elr-mri":
        return words[1:]
    module = [i for i in range(len(words) - 1) if words[i : i + 2] == ["-m", "elr_mri"]]
    return words[module[0] + 2 :] if module else []


def parsed(words: list[str]) -> None:
    """Let the command line take a step's words without running it; unknown steps and options raise."""
    here, context = typer.main.get_command(app), click.Context(typer.main.get_command(app))
    while isinstance(here, click.Group) and words and words[0] in here.commands:
        here, words = here.commands[words[0]], words[1:]
        context = click.Context(here, parent=context)
    if "--help" in words or (isinstance(here, click.Group) and not words):
        return
    assert not isinstance(here, click.Group), f"no such step: {words}"
    here.make_context(here.name, list(words))


def section_of(words: list[str]) -> None:
    """A section given as JSON in the docs is one that its step takes."""
    step = words[1] if words[0] == "lab" else words[0]
    given = [b for a, b in zip(words, words[1:], strict=False) if a == "--config"]
    for source in given:
        if source.startswith("{"):
            config.section(getattr(config, "Lab" if words[0] == "lab" else step.capitalize()), step, source)
        elif (ROOT / source).is_file():
            config.study(source)


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def test_there_are_commands_on_the_pages():
    assert len(COMMANDS) > 40 and {"README.md", "config/README.md", "docs/tutorial.md"} <= {c.page for c in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_known_and_its_options_exist(command: Command):
    words = command.words
    if own := programs(words):
        parsed(own)
        section_of(own)
    elif words[0] == "make":
        shown = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
        assert shown.returncode == 0, shown.stderr
    elif words[0] == "snakemake":
        configured(words)
    elif words[0] == "cp":
        assert (ROOT / words[1]).is_file()
    elif words[0] == "python":
        assert words[1] == "-m" or (ROOT / words[1]).is_file()
    else:
        known = {*SET_UP, "mkdir", "cd", "rm", "conda", "docker", "apptainer", "sbatch"}
        assert words[0] in known, "an unknown program: run it in a test, or mark what it needs"
        assert command.needs or words[0] in SET_UP or words[0] in ("mkdir", "cd", "rm")


def configured(words: list[str]) -> None:
    """Snakemake knows the options; the config and the profile are ours, or a copy that the docs tell to make."""
    from snakemake.cli import get_argument_parser

    parser = get_argument_parser()
    known = {option for action in parser._actions for option in action.option_strings}
    assert {word.partition("=")[0] for word in words[1:] if word.startswith("--")} <= known
    for option, value in zip(words, words[1:], strict=False):
        if option == "--configfile":
            assert value in ("config/mine.yaml", "config/my_study.yaml") or (ROOT / value).is_file()
        if option in ("--profile", "--workflow-profile") and (ROOT / "profiles" / "slurm").exists():
            assert (ROOT / value / "config.yaml").is_file()


def test_what_is_marked_needs_something_that_a_test_has_not():
    told = ("GPU", "conda", "Slurm", "download", "file", "tables", "archive", "address", "Chromium", "network", "root", "cluster", "image", "Kubernetes", "plugin")  # fmt: skip
    assert not [str(c) for c in COMMANDS if c.needs and not any(word.lower() in c.needs.lower() for word in told)]


def test_the_audit_takes_no_unknown_package_for_a_sound_one():
    """pip-audit by itself skips what its service does not know, and then says that nothing was found."""
    shown = subprocess.run(["make", "-n", "audit"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pip-audit --progress-spinner off --strict" in shown.stdout


def test_links_lead_somewhere():
    lost = [
        (page, str(path), anchor)
        for page, path, anchor in links()
        if not path.exists() or (anchor and anchor not in anchors(path))
    ]
    assert not lost


def test_every_decision_stands_in_the_index():
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    assert not [path.name for path in folder.glob("0*.md") if f"({path.name})" not in index]


def test_the_citation_is_valid_and_of_this_version():
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(told)  # what the schema of 1.2.0 requires
    assert told["version"] == __version__ and f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
    for work in (told, *told["references"]):
        assert all({"family-names", "given-names"} <= set(a) or set(a) == {"name"} for a in work["authors"])
    assert all({"type", "title", "authors"} <= set(work) for work in told["references"])


def test_the_picture_is_small_and_of_phantoms_alone(tmp_path: Path):
    assert (ROOT / "docs" / "picture.png").stat().st_size <= 200_000
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "picture.py", tmp_path, tmp_path / "a.png"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "expected a phantom study" in done.stderr and not (tmp_path / "a.png").exists()


def test_no_page_names_a_machine_or_a_registry():
    for page in PAGES:
        text = page.read_text()
        assert "/work/" not in text and "/home/" not in text and "/tmp/" not in text, page


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone holds, with a default study that takes minutes."""
    from studies import MINI

    folder = tmp_path_factory.mktemp("clone")
    for name in ("Snakefile", "Makefile", "elr_mri", "workflow", "envs", "profiles", "docs", "benchmarks", "tests"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "config", folder / "config")
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(MINI))
    return folder


@pytest.mark.slow
def test_the_commands_run(clone: Path):
    """In the order of the pages, the tutorial first; each must end well. What the README says of results is of the default study."""
    ordered = sorted(
        filter(runnable, COMMANDS), key=lambda c: (c.page != "docs/tutorial.md", c.page != "README.md", c.page)
    )
    study = subprocess.run(
        ["snakemake", "--cores", "2"], cwd=clone, env=environment(), capture_output=True, text=True, check=False
    )
    assert study.returncode == 0, study.stderr[-3000:]
    scan = next((clone / "results" / "imaging" / "convert").glob("sub-*/*_T1w.nii.gz"))
    shutil.copy(scan, clone / "scan.nii.gz")
    for command in sorted(ordered, key=lambda c: c.words[0] == "rm"):  # what clears away comes last
        done = subprocess.run(
            ["bash", "-c", command.text], cwd=clone, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
