"""A zone's steps in a bare environment of its own pip list, through the rules' own shell lines. Slow: four installations."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml
from studies import MINI, ROOT
from test_environments import ENVIRONMENTS, pins, rules

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mini")]

#: Which environment is asked for its steps, in turn, and the rules that wait: `lab` reads the baseline, the report reads `lab`.
TURNS = (("imaging", ()), ("learning", ()), ("findings", ("report",)), ("lab", ()), ("findings", ()))


@pytest.fixture(scope="module")
def environments(tmp_path_factory) -> Path:
    """Folder of a virtual environment for each file in envs/; ELR_MRI_ENVIRONMENTS names one to keep and use again."""
    kept = os.environ.get("ELR_MRI_ENVIRONMENTS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("environments")
    for name in ENVIRONMENTS:
        if not (folder / name / "whole").exists():
            venv.create(folder / name, with_pip=True, clear=True)
            python = folder / name / "bin" / "python"
            listed = pins(ROOT / "envs" / f"{name}.yaml")
            subprocess.run(
                [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *listed], check=True
            )
            (folder / name / "whole").touch()
    return folder


class Study:
    """The mini study, made step by step in environments that have nothing else; the working directory is another folder."""

    def __init__(self, folder: Path, environments: Path) -> None:
        self.folder, self.environments = folder, environments
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        (folder / "study.yaml").write_text(yaml.safe_dump(MINI))

    def snakemake(self, environment: str, *options: str) -> subprocess.CompletedProcess:
        """Snakemake from its own environment; `python` of the rules' lines is the bare one's, and no variable is passed on."""
        return subprocess.run(
            [
                *(Path(sys.executable).with_name("snakemake"), *options),
                *("--snakefile", ROOT / "Snakefile", "--directory", self.folder, "--cores", "2"),
                *("--configfile", self.folder / "study.yaml"),
            ],
            cwd=self.elsewhere,
            env={
                "PATH": f"{self.environments / environment / 'bin'}:/usr/bin:/bin",
                "HOME": str(self.elsewhere),
                "LANG": "C.UTF-8",
            },
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )

    def planned(self, environment: str) -> list[tuple[str, list[str]]]:
        """Rule and outputs of each job that is still to be run."""
        told = self.snakemake(environment, "--dry-run").stdout
        jobs = re.findall(
            r"^(?:local)?(?:rule|checkpoint) (\w+):\n(?:    input: .*\n)?    output: (.*)\n", told, flags=re.M
        )
        return [(rule, outputs.split(", ")) for rule, outputs in jobs]

    def run(self, environment: str, waiting: tuple[str, ...]) -> set[str]:
        """Make all that an environment's steps can make; returns the names of the rules that ran."""
        jobs = self.planned(environment)
        own = {rule for rule, _ in jobs if environment_of(rule) == environment} - set(waiting)
        assert own, (environment, jobs)
        # one output of a job brings all; asked by name for its table of ablations, `report` would have them trained
        targets = [names[0] for rule, names in jobs if rule in own]
        done = self.snakemake(environment, *targets)
        assert done.returncode == 0, (environment, done.stdout[-6000:])
        return set(re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):", done.stdout, re.M))


def environment_of(rule: str) -> str:
    """A rule that uses another's line is named in its file as `use rule`; it runs where that one does."""
    text = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    origin = {name: of for of, name in re.findall(r"^use rule (\w+) as (\w+) with:", text, flags=re.M)}
    return rules()[origin.get(rule, rule)][0]


@pytest.fixture(scope="module")
def study(environments, tmp_path_factory) -> Study:
    made = Study(tmp_path_factory.mktemp("bare"), environments)
    for environment, waiting in TURNS:
        ran = made.run(environment, waiting)
        assert {environment_of(rule) for rule in ran} == {environment}, ran
    return made


def test_every_step_ran_in_its_own_environment(study):
    assert (study.folder / "results" / "report.html").stat().st_size > 100_000
    assert study.planned("findings") == []
    assert list(study.elsewhere.glob("*.tsv")) == [] and not (study.elsewhere / "results").exists()


@pytest.mark.parametrize(
    ("file", "has", "lacks"),
    [
        ("imaging/pack/volumes.npy.json", "antspyx", "torch"),
        ("learning/resnet18/seed-0/predictions.tsv.json", "torch", "antspyx"),
        ("findings/baseline/predictions.tsv.json", "scikit-learn", "torch"),
        ("lab/mri/reported/results.tsv.json", "torch", "antspyx"),
    ],
)
def test_what_a_step_wrote_down_names_its_environment_s_libraries(study, file, has, lacks):
    versions = json.loads((study.folder / "results" / file).read_text())["versions"]
    assert has in versions and lacks not in versions


def test_an_environment_without_torch_cannot_train(study):
    """As a control: the lines above did run in the bare environments."""
    target = "results/learning/resnet18/seed-0/predictions.tsv"
    refused = study.snakemake("imaging", target, "--forcerun", "predict")
    assert refused.returncode != 0 and "No module named 'torch'" in refused.stdout
