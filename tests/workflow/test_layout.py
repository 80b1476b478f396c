"""The house: pins in one place, imports in one direction, one word per stage, small workflow files."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from elr_mri import config
from elr_mri.cli import app
from elr_mri.stages import VERSIONS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))


@pytest.mark.parametrize("zone", ["imaging", "learning", "findings", "lab"])
def test_environments_repeat_the_pins_of_pyproject(zone):
    environment = yaml.safe_load((ROOT / "envs" / f"{zone}.yaml").read_text())
    pip = next(part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    assert sorted(pip) == sorted({*PROJECT["dependencies"], *PROJECT["optional-dependencies"][zone]})


def _closure(names: set[str]) -> set[str]:
    """Distributions and what they require, in plain names."""
    found: set[str] = set()
    while names:
        name = re.sub(r"[-_.]+", "-", names.pop()).lower()
        if name in found:
            continue
        found.add(name)
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of another platform, or an optional one
            continue
        names |= {re.match(r"[\w.-]+", line)[0] for line in required if "extra ==" not in line}
    return found


@pytest.mark.parametrize(
    ("zone", "modules"),
    [
        ("learning", ["learning.train", "learning.predict", "learning.explain", "lab.scan_noise"]),
        ("findings", ["findings.baseline", "findings.fuse", "findings.evaluate", "findings.report"]),
        ("lab", ["lab.linear", "lab.images", "lab.tables", "lab.mri", "lab.audit"]),
    ],
)
def test_a_zone_s_steps_import_what_its_environment_has(zone, modules):
    pins = {*PROJECT["dependencies"], *PROJECT["optional-dependencies"][zone]}
    own = _closure({pin.split("==")[0] for pin in pins})
    tops = metadata.packages_distributions()
    missing = {top for top, of in tops.items() if not own & {re.sub(r"[-_.]+", "-", name).lower() for name in of}}
    missing -= {"elr_mri", "pip", "setuptools", "pkg_resources", "_distutils_hack"}
    code = f"""
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing!r}:
            raise ModuleNotFoundError("not in this environment: " + name)

sys.meta_path.insert(0, Absent())
for module in {modules!r}:
    importlib.import_module("elr_mri." + module)
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]


def test_every_dependency_is_pinned_once():
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    pins = {line for lines in lists for line in lines if not line.startswith("elr_mri[")}
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+==[\w.]+", pin) for pin in pins)
    names = [pin.split("==")[0] for pin in pins]
    assert len(names) == len(set(names))


def test_imports_flow_one_way():
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout


def test_the_workflow_files_stay_small():
    for path in (ROOT / "Snakefile", ROOT / "workflow" / "rules" / "common.smk"):
        assert len(path.read_text().splitlines()) < 80, path.name


def test_one_word_per_stage():
    rules = {name for path in RULES for name in re.findall(r"^\s*(?:rule|checkpoint) (\w+):", path.read_text(), re.M)}
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    for room in app.registered_groups:  # a room's step: rule `lab_mri` is command `lab mri` of stage `lab`
        commands |= {f"{room.name}_{c.name or c.callback.__name__}" for c in room.typer_instance.registered_commands}
    assert rules <= commands
    stages = {"lab" if rule.startswith("lab_") else rule for rule in rules}
    assert set(VERSIONS) == stages
    assert stages <= set(config.Study.model_fields)


def test_every_rule_names_an_environment_a_log_and_one_shell_line():
    for path in RULES:  # a rule used again, for other files, has its line already
        text = re.sub(r"^use rule .*?(?=^rule|^checkpoint|\Z)", "", path.read_text(), flags=re.M | re.S)
        for body in re.split(r"^\s*(?:rule|checkpoint) \w+:", text, flags=re.M)[1:]:
            assert body.count("conda:") == body.count("log:") == body.count("shell:") == 1
            assert "STEP +" in body and "run:" not in body and "script:" not in body


def test_every_step_has_help_with_an_example():
    groups = [("", app.registered_commands)]
    groups += [(f"{room.name} ", room.typer_instance.registered_commands) for room in app.registered_groups]
    for room, commands in groups:
        for command in commands:
            assert command.epilog and f"elr-mri {room}{command.name or command.callback.__name__}" in command.epilog


def test_modules_fit_in_one_reading():
    long = {
        str(p.relative_to(ROOT)): n
        for p in (ROOT / "elr_mri").rglob("*.py")
        if (n := len(p.read_text().splitlines())) > 350
    }
    assert not long


def test_every_figure_and_table_of_the_report_has_a_caption_in_snakemake_s_own():
    """Figures that a section shows, by name in `figure.rst`; tables of the report, marked where they are made."""
    sections = "".join(
        path.read_text() for path in (ROOT / "elr_mri" / "findings" / "templates" / "sections").iterdir()
    )
    shown = set(re.findall(r"""pictures(?:\.get\(|\[)["'](\w+)["']""", sections))
    shown = shown - {"lab_"} | {f"lab_{room}" for room in ("linear", "images", "tables")}
    captions = (ROOT / "workflow" / "report" / "figure.rst").read_text()
    assert len(shown) > 9 and not [name for name in shown if f'wildcards.name == "{name}"' not in captions]
    rules = (ROOT / "workflow" / "rules" / "findings.smk").read_text()
    outputs = re.findall(
        r'^        \w+=(?:report\()?FINDINGS / "tables" / "(\w+)\.tsv".*$', rules.split("rule report:")[0], re.M
    )
    marked = re.findall(r'report\(FINDINGS / "tables" / "(\w+)\.tsv", caption="../report/\w+\.rst"', rules)
    assert set(outputs) - set(marked) <= {"left_out"}  # that one names scans
    for caption in re.findall(r'caption="\.\./report/(\w+\.rst)"', "".join(path.read_text() for path in RULES)):
        assert (ROOT / "workflow" / "report" / caption).is_file()
