"""The environments are complete and minimal: what a zone's steps import, its file lists, and nothing more."""

from __future__ import annotations

import ast
import contextlib
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "elr_mri"
ENVIRONMENTS = ("imaging", "learning", "findings", "lab")

#: Programs of an environment, which nothing imports.
PROGRAMS = {"imaging": {"dcm2niix"}}
#: What modules of zone `imaging` import inside functions that these environments' steps do not call: they read its tables,
#: its cache and its grid, and register nothing.
UNCALLED = {
    "imaging": set(),
    "learning": {"antspyx", "nilearn", "pillow", "templateflow"},
    "findings": {"antspyx"},
    "lab": {"antspyx", "nilearn", "templateflow"},
}


def pins(file: Path) -> list[str]:
    """The pip list of an environment's file."""
    return next(part["pip"] for part in yaml.safe_load(file.read_text())["dependencies"] if isinstance(part, dict))


def plain(name: str) -> str:
    """A distribution's name as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def rules() -> dict[str, tuple[str, str]]:
    """Rule -> its environment and its step (`baseline`, `lab mri`); rules that use another's line are with that one."""
    found = {}
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        for name, body in re.findall(r"^\s*(?:rule|checkpoint) (\w+):\n(.*?)(?=^\S|\Z)", path.read_text(), re.M | re.S):
            environment = re.search(r'conda: "\.\./\.\./envs/(\w+)\.yaml"', body)[1]
            found[name] = (environment, re.search(r'STEP \+ "(lab \w+|\w+)', body)[1])
    return found


@cache
def commands() -> dict[str, ast.FunctionDef]:
    """Step -> the function of its command, of which the last is taken: `lab mri` is in a room."""
    found = {}
    for path in sorted((PACKAGE / "commands").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.decorator_list:
                name = node.name.strip("_")
                found[f"lab {name}" if path.stem == "lab" else name.replace("_", "-")] = node
    return found


def imported(tree: ast.AST, *, at_once: bool = False) -> Iterator[str]:
    """Full names of what code imports, anywhere in it, or `at_once`, when the module is read; `from a import b` gives `a` and `a.b`."""
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def source(module: str) -> Path | None:
    """File of a module of ours; None for one of others, and for what is no module."""
    path = ROOT.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def reached(steps: set[str], *, at_once: bool) -> set[str]:
    """Others' packages that steps import in any module of ours they lead to, or, `at_once`, before a function of it is called."""
    tops = metadata.packages_distributions()
    todo = ["elr_mri.__main__", *(name for step in steps for name in imported(commands()[step]))]
    for file in (PACKAGE / "commands").glob("*.py"):  # every zone's commands are read, their functions are not called
        todo += imported(parsed(file), at_once=True)
    seen: set[Path] = set()
    others: set[str] = set()
    while todo:
        name = todo.pop()
        file = source(name)
        if name.split(".")[0] != "elr_mri":
            others.add(name.split(".")[0])
        elif file and file not in seen and file.parent.name != "commands":
            seen.add(file)
            todo += imported(parsed(file), at_once=at_once)
    return {plain(tops[top][0]) for top in others - set(sys.stdlib_module_names)}


def with_requirements(names: set[str]) -> set[str]:
    """Distributions and all that they require, as installed here."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = plain(todo.pop())
        if name not in found:
            found.add(name)
            with contextlib.suppress(metadata.PackageNotFoundError):  # of another platform
                lines = metadata.requires(name) or []
                todo += [re.match(r"[\w.-]+", line)[0] for line in lines if "extra ==" not in line]
    return found


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_lists_what_its_steps_import_and_nothing_more(environment):
    steps = {step for used, step in rules().values() if used == environment}
    assert steps and steps <= set(commands()), steps - set(commands())
    listed = {plain(pin.split("==")[0]) for pin in pins(ROOT / "envs" / f"{environment}.yaml")}
    anywhere = reached(steps, at_once=False)
    assert reached(steps, at_once=True) <= with_requirements(listed)
    assert anywhere - with_requirements(listed) == UNCALLED[environment]
    assert listed - PROGRAMS.get(environment, set()) <= with_requirements(anywhere & listed)


def test_every_rule_has_an_environment_that_is_there():
    assert {environment for environment, _ in rules().values()} == set(ENVIRONMENTS)
    assert {path.stem for path in (ROOT / "envs").glob("*.yaml")} == set(ENVIRONMENTS)


def test_the_cluster_s_own_environment_repeats_the_pins_of_pyproject():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert pins(ROOT / "profiles" / "slurm" / "environment.yaml") == groups["slurm"]
    snakemake = [pin for pin in groups["slurm"] if pin.startswith("snakemake==")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert snakemake == project["optional-dependencies"]["workflow"]


@pytest.mark.parametrize(
    "profile", sorted((ROOT / "profiles").glob("*/config.yaml")), ids=lambda path: path.parent.name
)
def test_a_profile_names_rules_that_are_there(profile):
    settings = yaml.safe_load(profile.read_text())
    grouped = [pair.split("=")[0] for pair in settings.get("groups", [])]
    assert set(grouped) <= set(rules()) and len(set(grouped)) == len(grouped)


def test_no_image_takes_scans_or_results_along():
    """Apptainer copies what is named; Docker leaves out what its list and Git's, of a folder that was worked in, both name."""
    recipe = (ROOT / "containers" / "elr_mri.def").read_text()
    copied = re.findall(r"^    (\S+) /opt/elr_mri/(\S+)$", recipe.split("%files")[1].split("%post")[0], re.M)
    assert copied and all(source == target and (ROOT / source).exists() for source, target in copied)
    assert {"pyproject.toml", "Snakefile", "elr_mri", "workflow", "profiles"} <= {source for source, _ in copied}
    kept_out = set((ROOT / ".dockerignore").read_text().split())
    ignored = re.findall(r"^/([\w.-]+(?:/[\w.-]+)*)/?$", (ROOT / ".gitignore").read_text(), re.M)
    assert {"data", ".venv", "tutorial"} <= set(ignored) <= kept_out
    assert "results/[a-z]*" in kept_out
