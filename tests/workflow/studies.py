"""Runs whole studies through Snakemake, as a user would, in a folder of their own."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).parents[2]
DEFAULT = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


def changed(**sections) -> dict:
    """The default study with some keys changed: a dict updates a section, anything else replaces it."""
    study = copy.deepcopy(DEFAULT)
    for name, value in sections.items():
        study[name] = {**study[name], **value} if isinstance(value, dict) and name in study else value
    return study


def run(folder: Path, study: dict, *targets: str, cores: int = 2) -> subprocess.CompletedProcess:
    """Run a study in `folder` (its config is written there); returns the finished process with all it printed."""
    config = folder / "study.yaml"
    config.write_text(yaml.safe_dump(study))
    binaries = Path(sys.executable).parent
    return subprocess.run(
        [
            binaries / "snakemake",
            *targets,
            "--snakefile",
            ROOT / "Snakefile",
            "--directory",
            folder,
            "--configfile",
            config,
            "--cores",
            str(cores),
            "--scheduler",
            "greedy",
        ],
        cwd=folder,
        env={**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def truth(results: Path) -> pd.DataFrame:
    """The phantom's truth of every scan, with its scan_id."""
    visits = pd.read_csv(results / "phantom" / "truth" / "visits.tsv", sep="\t")
    scans = visits[visits["scanned"]].copy()
    own = scans["subject"].str.replace("_S_", "S")
    prefix = scans["cohort"].where(scans["cohort"] == "ADNI", "")
    scans["scan_id"] = "sub-" + prefix + own + scans["months"].map(lambda m: f"_ses-M{m:03d}")
    return scans
