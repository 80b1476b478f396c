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


#: A study of a few minutes: every step and every kind of file, nothing that could be believed.
MINI = changed(
    batches=2,
    phantom={"n_subjects": 26, "n_external": 6, "visits_per_subject": 1, "spacing_mm": 4.0, "effect_scale": 3.0},
    split={"val_share": 0.2, "test_share": 0.3},
    register={
        "recipe": "fast",
        "spacing_mm": 4.0,
        "syn_iterations": [4, 4],
        "detail_iterations": 0,
        "n4_iterations": [5],
    },
    train={
        "epochs": 1,
        "crop": 40,
        "shift_max": 1,
        "models": {
            "wide-age-elr": {
                "network": "wide",
                "width": 1,
                "first_pool": False,
                "age": "sinusoid",
                "elr": {"weight": 1.0},
            },
            "resnet18": {"network": "resnet18", "width": 1, "norm": "batch"},
        },
    },
    evaluate={"draws": 200},
)


def run(
    folder: Path, study: dict | None, *targets: str, cores: int = 2, code: Path = ROOT
) -> subprocess.CompletedProcess:
    """Run a study in `folder` (its config is written there; None: the default one) with the workflow in `code`; returns
    the process with its output."""
    options = ["--snakefile", code / "Snakefile", "--directory", folder, "--cores", str(cores), "--scheduler", "greedy"]
    if study is not None:
        (folder / "study.yaml").write_text(yaml.safe_dump(study))
        options += ["--configfile", folder / "study.yaml"]
    binaries = Path(sys.executable).parent
    return subprocess.run(
        [binaries / "snakemake", *targets, *options],
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
