"""The mini study through a real Slurm, by profiles/slurm: the same results as on one machine. `make test-slurm`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from slurm_cluster import finished_jobs, lacking, slurm
from studies import MINI, ROOT

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.xdist_group("mini")]

#: Snakemake with the plugin; `make test-slurm` names the one of an environment of its own, the jobs' `python` is this one.
SNAKEMAKE = os.environ.get("ELR_MRI_SNAKEMAKE", str(Path(sys.executable).with_name("snakemake")))
#: The column of a training's history that tells how long it took: nothing else may differ.
CLOCKED = "seconds"


@pytest.fixture(scope="module")
def daemons():
    """Folder of the running daemons."""
    if reason := lacking():
        (pytest.fail if "ELR_MRI_SNAKEMAKE" in os.environ else pytest.skip)(reason)
    with slurm() as folder:
        yield folder


def submit(folder: Path, *options: object) -> subprocess.CompletedProcess:
    """Snakemake by profiles/slurm in `folder`, as a user of the cluster would run it."""
    binaries = Path(sys.executable).parent
    return subprocess.run(
        [
            SNAKEMAKE,
            *map(str, options),
            *("--workflow-profile", ROOT / "profiles" / "slurm", "--directory", folder),
            *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5"),
        ],
        cwd=folder,
        env={**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


@pytest.fixture(scope="module")
def on_slurm(daemons, tmp_path_factory) -> tuple[Path, str, list[dict[str, str]]]:
    """Folder of the mini study, what Snakemake said, and what Slurm wrote down of the jobs; the networks ask for a GPU."""
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "study.yaml").write_text(yaml.safe_dump(MINI))
    before = len(finished_jobs(daemons))
    told, truth = "", folder / "results" / "phantom" / "truth"
    for targets in (
        ["results/phantom/study.json"],
        [],
    ):  # as `mini`: the truth is out of reach of every step but `phantom`
        done = submit(
            folder,
            *targets,
            *("--snakefile", ROOT / "Snakefile", "--configfile", folder / "study.yaml"),
            *("--set-resources", "train:gpu=1", "predict:gpu=1"),
        )
        told += done.stdout
        assert done.returncode == 0, done.stdout[-6000:]
        if targets:
            truth.rename(folder / "truth")
    (folder / "truth").rename(truth)
    return folder, told, finished_jobs(daemons)[before:]


def submitted(told: str) -> dict[str, list[str]]:
    """Rule or group -> ids of its jobs in Slurm, from what Snakemake said."""
    found: dict[str, list[str]] = {}
    for number, name in re.findall(r"with SLURM jobid (\d+) \(log: \S*?/slurm_logs/([^/\s]+)/", told):
        found.setdefault(name, []).append(number)
    return found


def test_every_step_ran_as_a_job_of_slurm(on_slurm):
    _, told, jobs = on_slurm
    ids = submitted(told)
    alone = {
        "rule_phantom",
        "rule_ingest",
        "rule_convert",
        "rule_register",
        "rule_measure",
        "rule_pack",
        "rule_train",
    }
    assert alone <= set(ids) and len(ids["rule_register"]) == MINI["batches"]
    assert "localrule" not in re.sub(r"localrule all\b", "", told)
    codes = {job["JobId"]: job["ExitCode"] for job in jobs}
    assert {number for numbers in ids.values() for number in numbers} == set(codes)
    assert set(codes.values()) == {"0:0"}


def test_short_steps_share_a_job(on_slurm):
    ids = submitted(on_slurm[1])
    groups = [name for name in ids if name.startswith("group_")]
    assert len(groups) >= 2
    assert not {"rule_split", "rule_demographics", "rule_evaluate", "rule_report"} & set(ids)


def test_training_asks_for_a_gpu_and_every_job_for_memory_and_time(on_slurm):
    _, told, jobs = on_slurm
    by_id = {job["JobId"]: job for job in jobs}
    ids = submitted(told)
    for number in ids["rule_train"]:
        assert by_id[number]["TresPerJob"] == "gres:gpu:1" and by_id[number]["TimeLimit"] == "12:00:00"
        assert "mem=4000M" in by_id[number]["TRES"]
    for number in ids["rule_register"]:
        assert "TresPerJob" not in by_id[number] and "mem=3000M" in by_id[number]["TRES"]
    assert all("mem=" in job["TRES"] and job["TimeLimit"] != "UNLIMITED" for job in jobs)


def without_clock(path: Path) -> str:
    """A table's text without the column of time."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    return table.drop(columns=CLOCKED, errors="ignore").to_csv(sep="\t", index=False)


def test_results_are_those_of_one_machine(on_slurm, mini):
    here, there = on_slurm[0] / "results", mini / "results"
    tables = sorted(
        path.relative_to(there) for path in there.rglob("*.tsv") if path.parent.name != "private"
    )  # each study's codes are its own
    arrays = [
        path for path in there.rglob("*") if path.suffix in (".safetensors", ".npy") and path.parent.name != "state"
    ]
    weights = sorted(path.relative_to(there) for path in arrays)
    assert len(tables) > 60 and len(weights) >= 5
    assert [name for name in tables if without_clock(here / name) != without_clock(there / name)] == []
    assert [name for name in weights if (here / name).read_bytes() != (there / name).read_bytes()] == []
    assert (here / "report.html").stat().st_size > 100_000


def test_a_failed_job_is_tried_again_with_twice_the_memory_and_time(daemons, tmp_path):
    (tmp_path / "Snakefile").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from elr_mri.stages import MEMORY_MB, needs\n"
        'rule train:\n    output: "done"\n    resources: **needs("predict")\n'
        '    shell: "test {resources.mem_mb} -gt " + str(MEMORY_MB["predict"]) + " && touch {output}"\n'
    )
    before = len(finished_jobs(daemons))
    done = submit(tmp_path)
    assert done.returncode == 0 and (tmp_path / "done").exists(), done.stdout[-4000:]
    told = [(job["ExitCode"], job["TimeLimit"], job["TRES"].split(",")[1]) for job in finished_jobs(daemons)[before:]]
    assert told == [("1:0", "02:00:00", "mem=4000M"), ("0:0", "04:00:00", "mem=8000M")]
