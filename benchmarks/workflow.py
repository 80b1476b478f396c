"""What the workflow costs beside its work, at 5,000 scans: planning, parsing, start-up, overhead for each scan, disk.

    python benchmarks/workflow.py                    everything; the heads are the shipped one at 1 mm
    python benchmarks/workflow.py plan parse         some parts of it: plan, parse, start, scan
    python benchmarks/workflow.py plan --scans 20000 --batches 2000

Everything is measured side by side in one run, each time in a process of its own, and told as clock and processor time (with the
processes that it started) and peak memory. On a machine that does other things only the processor time means something.

    plan    a dry-run of config/adni_nacc.yaml on a table of so many scans, each a subject of its own: the most jobs that so
            many scans can make. Limits: 60 s, 1.5 GiB
    parse   `snakemake --list-rules` beside the same of an empty Snakefile. Limit: 1.3 times
    start   a step from its call to the first line of its own work, beside the libraries that it loads imported by themselves.
            Limit of the median of nine pairs, of which each is run one after the other: 1.2 times
    scan    a head through convert, register and measure: work, overhead (start-up, and Snakemake's own for each job) and disk.
            Limit of the overhead: 10 %, with the number of scans to a job that config/adni_nacc.yaml gives
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import yaml

from elr_mri.imaging.template import head_template

ROOT = Path(__file__).parents[1]
STUDY = yaml.safe_load((ROOT / "config" / "adni_nacc.yaml").read_text())
PARTS = ("plan", "parse", "start", "scan")
SNAKEMAKE = str(Path(sys.executable).with_name("snakemake"))
PLAN_S, PLAN_GIB, PARSE, START, OVERHEAD = 60.0, 1.5, 1.3, 1.2, 0.10
TIMES, PAIRS = 3, 9

#: The steps whose start-up is measured: the module that works, and the call.
STEPS = {
    "ingest": ("scans.ingest", ["--cohorts", '[{"name": "A", "format": "tsv", "path": "x"}]']),
    "convert": ("imaging.convert", ["--scans", "x", "--batch", "0"]),
    "register": ("imaging.register", ["--scans", "x", "--converted", "x", "--batch", "0"]),
    "measure": ("imaging.measure", ["--scans", "x", "--registered", "x", "--batch", "0"]),
    "pack": (
        "imaging.cache",
        ["--scans", "x", "--reviewed", "x", "--converted", "x", "--registered", "x", "--measured", "x"],
    ),
    "predict": ("learning.predict", ["--model", "x", "--packed", "x", "--scans", "x", "--splits", "x"]),
    "baseline": ("findings.baseline", ["--rois", "x", "--scans", "x", "--splits", "x"]),
    "evaluate": ("findings.evaluate", ["x"]),
}

#: Runs a step until its own work would begin; prints the libraries that our modules have imported by then.
UNTIL_WORK = """
import builtins, importlib, os, sys
seen, given = {}, builtins.__import__
def watching(name, globals=None, locals=None, fromlist=(), level=0):
    if TELL and level == 0 and str((globals or {}).get("__name__", "")).startswith("elr_mri"):
        seen[f"from {name} import {', '.join(fromlist)}" if fromlist else f"import {name}"] = name
    return given(name, globals, locals, fromlist, level)
TELL = sys.argv.pop(1) == "tell"
builtins.__import__ = watching if TELL else given
def begin(*args, **kwargs):
    own = [line for line, name in seen.items() if name.split(".")[0] not in {*sys.stdlib_module_names, "elr_mri"}]
    print("; ".join(own), flush=True)
    os._exit(0)
import elr_mri.cli as cli
run, of = cli.run, sys.argv.pop(1)
def until_work(step):
    module = importlib.import_module("elr_mri." + of)
    setattr(module, "pack" if of.endswith("cache") else of.rpartition(".")[2], begin)
    run(step)
cli.run = until_work
cli.main()
"""


def measured(command: list[str], cwd: Path, log: Path) -> dict[str, float]:
    """Run a command: clock and processor seconds (with all that it started) and peak MiB of its largest process."""
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1"),
    }
    began = time.perf_counter()
    with open(log, "w") as file:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=file, stderr=file)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}: failed\n{log.read_text()[-3000:]}")
    return {
        "clock": time.perf_counter() - began,
        "cpu": used.ru_utime + used.ru_stime,
        "mib": used.ru_maxrss / 1024,
    }


def told(name: str, used: dict[str, float], more: str = "") -> None:
    print(
        f"{name:34s} {used['clock']:7.2f} s clock {used['cpu']:7.2f} s processor {used['mib']:6.0f} MiB  {more}",
        flush=True,
    )


def least(runs: list[dict[str, float]]) -> dict[str, float]:
    """The run of least processor time: what else runs on a machine only adds."""
    return min(runs, key=lambda used: used["cpu"])


def options(folder: Path) -> list[str]:
    named = [
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(folder),
        "--configfile",
        str(folder / "study.yaml"),
    ]
    return [*named, "--cores", "1", "--scheduler", "greedy"]


def plain_study(folder: Path, images: list[str], batches: int) -> None:
    """config/adni_nacc.yaml on a plain table of images, each of a subject of its own."""
    rows = ["image_path\tsubject_id\tsession_id\tage_years\tsex\tdiagnosis"]
    rows += [
        f"{name}\tS{i:06d}\tses-M000\t{60 + i % 30}\t{'FM'[i % 2]}\t{('CN', 'MCI', 'AD')[i % 3]}"
        for i, name in enumerate(images)
    ]
    (folder / "scans.tsv").write_text("\n".join(rows) + "\n")
    study = {**STUDY, "batches": batches, "cohorts": [{"name": "ADNI", "format": "tsv", "path": "scans.tsv"}]}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))


def plan(folder: Path, n_scans: int, batches: list[int]) -> None:
    """A dry-run of everything once the scan table is there."""
    (folder / "img").mkdir()
    images = [f"img/{i:06d}.nii" for i in range(n_scans)]
    for i, name in enumerate(images):
        (folder / name).write_text(f"image {i}")  # nothing before `convert` looks into one
    for many in batches:
        plain_study(folder, images, many)
        measured([SNAKEMAKE, "results/scans/split/splits.tsv", *options(folder)], folder, folder / "ingest.log")
        used = measured([SNAKEMAKE, "--dry-run", *options(folder)], folder, folder / "plan.log")
        jobs = next(
            line.split()[-1] for line in (folder / "plan.log").read_text().splitlines() if line.startswith("total")
        )
        within = used["cpu"] <= PLAN_S and used["mib"] <= 1024 * PLAN_GIB
        told(
            f"dry-run, {n_scans} scans, batches: {many}",
            used,
            f"{jobs} jobs; {'within' if within else 'OVER'} {PLAN_S:g} s and {PLAN_GIB} GiB",
        )


def parse(folder: Path) -> None:
    """Every job of a cluster reads the Snakefile again."""
    plain_study(folder, ["a.nii"], 0)
    (folder / "Empty").write_text("rule all:\n    input: []\n")
    empty = [SNAKEMAKE, "--list-rules", "--snakefile", str(folder / "Empty"), "--directory", str(folder)]
    ways = {"an empty Snakefile": empty, "ours": [SNAKEMAKE, "--list-rules", *options(folder)]}
    runs = {name: [] for name in ways}
    for _ in range(TIMES):
        for name, command in ways.items():
            runs[name].append(measured(command, folder, folder / "parse.log"))
    found = {name: least(many) for name, many in runs.items()}
    ratio = found["ours"]["cpu"] / found["an empty Snakefile"]["cpu"]
    told("parsing: an empty Snakefile", found["an empty Snakefile"])
    told("parsing: ours", found["ours"], f"{ratio:.2f} times; {'within' if ratio <= PARSE else 'OVER'} {PARSE}")


def start(folder: Path, steps: Iterable[str] = STEPS) -> dict[str, float]:
    """Start-up of every step; its processor seconds by step."""
    seconds = {}
    for step in steps:
        module, words = STEPS[step]
        call = [sys.executable, "-c", UNTIL_WORK]
        rest = [module, step, *words, "--output", "y"]
        log = folder / "start.log"
        measured([*call, "tell", *rest], folder, log)
        lines = log.read_text().strip()
        bare = [sys.executable, "-c", f"import os; {lines}; os._exit(0)"]  # as the step: nothing is taken down
        runs = {"bare": [], "step": []}
        for _ in range(PAIRS):
            runs["bare"].append(measured(bare, folder, log))
            runs["step"].append(measured([*call, "run", *rest], folder, log))
        one, other = least(runs["bare"]), least(runs["step"])
        ratio = statistics.median(mine["cpu"] / its["cpu"] for its, mine in zip(runs["bare"], runs["step"]))
        told(f"start-up of {step}: its libraries", one)
        told(f"start-up of {step}", other, f"{ratio:.2f} times; {'within' if ratio <= START else 'OVER'} {START}")
        seconds[step] = other["cpu"]
    return seconds


def job_seconds(folder: Path) -> float:
    """Processor seconds that Snakemake spends on a job that does nothing, its shell included."""
    (folder / "Jobs").write_text(
        "rule all:\n    input: expand('{i}.done', i=range(int(config['jobs'])))\n"
        "rule one:\n    output: '{i}.done'\n    log: '{i}.log'\n    shell: 'touch {output} 2>&1 | tee {log}'\n"
    )
    used = {}
    for n in (1, 41):
        run = folder / f"jobs-{n}"
        run.mkdir()
        command = [
            SNAKEMAKE,
            "--snakefile",
            str(folder / "Jobs"),
            "--directory",
            str(run),
            "--cores",
            "1",
            "--config",
            f"jobs={n}",
        ]
        used[n] = measured(command, folder, folder / "jobs.log")["cpu"]
    return (used[41] - used[1]) / 40


def scan(folder: Path, starts: dict[str, float] | None) -> None:
    """One head of 1 mm, noisy as a scan is, through the three steps for each scan."""
    head = head_template()
    noise = np.random.default_rng(0).normal(0, 0.02, head.image.shape)
    image = np.round(900 * np.abs(head.image + noise)).astype(np.int16)
    nib.save(nib.Nifti1Image(image, head.affine), folder / "head.nii")
    plain_study(folder, ["head.nii"], 1)
    imaging, results = folder / "results" / "imaging", folder / "results"
    measured([SNAKEMAKE, "results/scans/ingest/scans.tsv", *options(folder)], folder, folder / "ingest.log")
    table, one = ["--scans", str(results / "scans" / "ingest" / "scans.tsv")], ["--batch", "000", "--batches", "1"]
    inputs = {
        "convert": [],
        "register": ["--converted", str(imaging / "convert")],
        "measure": ["--registered", str(imaging / "register")],
    }
    starts = dict(starts or start(folder, inputs))
    quiet = "import gc, os; gc.set_threshold(100_000); import elr_mri.cli, elr_mri.imaging."  # as `cli` does
    ways = [
        [sys.executable, "-c", f"{quiet}{last}; os._exit(0)"] for last in ("bias, elr_mri.imaging.register", "register")
    ]
    lazy, plain = (least([measured(way, folder, folder / "start.log") for _ in range(TIMES)])["cpu"] for way in ways)
    print(f"ANTs costs `register` {lazy - plain:.2f} s of processor time to load")
    starts["register"] += lazy - plain  # ANTs, which is loaded when the first bias field is due: no work on a scan
    job, work, disk = job_seconds(folder), 0.0, 0.0
    for step, more in inputs.items():
        section = ["--config", json.dumps(STUDY.get(step) or {})]
        used = measured(
            [sys.executable, "-m", "elr_mri", step, *table, *one, *more, *section, "--output", str(imaging / step)],
            folder,
            folder / "scan.log",
        )
        mine = used["cpu"] - starts[step]
        mib = sum(path.stat().st_size for path in (imaging / step).rglob("*") if path.is_file()) / 2**20
        left = list(folder.rglob(".partial-*"))
        told(
            f"{step} of a head of {' × '.join(map(str, image.shape))}",
            used,
            f"{mine:.2f} s of it work; {mib:.2f} MiB kept; {len(left)} temporary files left",
        )
        work, disk = work + mine, disk + mib
    shape = nib.load(next((imaging / "register").rglob("*_T1w.nii.gz"))).shape
    row = np.prod(shape) / 2**20
    print(
        f"a scan: {work:.1f} s of work, {disk:.1f} MiB on disk and {row:.1f} MiB in the cache ({' × '.join(map(str, shape))}, uint8)"
    )
    print(f"a job costs Snakemake {job:.3f} s of processor time")
    for scans_to_a_job in (1, 2.5, 5, 10, 20):
        share = sum(starts[step] + job for step in inputs) / scans_to_a_job / work
        print(
            f"  {scans_to_a_job:g} scans to a job: overhead {share:.1%} of the work; {'within' if share <= OVERHEAD else 'OVER'} {OVERHEAD:.0%}"
        )


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """What was asked for; `parts` are all where none is named. Not by `choices`, which argparse of Python 3.11 asks of no part, too."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; default all")
    parser.add_argument("--scans", type=int, default=5000)
    parser.add_argument("--batches", type=int, nargs="*", default=[0, STUDY["batches"]])
    chosen = parser.parse_args(given)
    chosen.parts = chosen.parts or list(PARTS)
    if unknown := [part for part in chosen.parts if part not in PARTS]:
        parser.error(f"expected parts of {', '.join(PARTS)}, got {', '.join(unknown)}")
    return chosen


def main() -> None:
    chosen = arguments()
    starts = None
    for part in chosen.parts:
        with tempfile.TemporaryDirectory() as name:
            if part == "plan":
                plan(Path(name), chosen.scans, list(dict.fromkeys(chosen.batches)))
            elif part == "parse":
                parse(Path(name))
            elif part == "start":
                starts = start(Path(name))
            else:
                scan(Path(name), starts)
    load = statistics.fmean(os.getloadavg())
    print(
        f"load of the machine: {load:.1f} on {os.cpu_count()} processors"
        + (" (the clock is not to be trusted)" if load > os.cpu_count() else "")
    )


if __name__ == "__main__":
    main()
