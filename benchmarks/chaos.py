"""Kill -9 and other misfortunes: does a study end as if nothing had been? Prints what was done and what was seen.

    python benchmarks/chaos.py                     30 kills at random moments of the tests' mini study, then the other faults
    python benchmarks/chaos.py --kills 6 --seed 1  fewer, others
    python benchmarks/chaos.py --kills 0           only the other faults: full and read-only disks, a corrupt cache, a
                                                   truncated checkpoint, clocks that jumped, two runs at once

A process is drawn from the whole process tree of the run (Snakemake, its shells, the steps, their workers), a moment from the
run's time. What was killed is started again as a person would do it: the same command, after `--unlock` where Snakemake
itself was killed and says so. Steps that outlive a killed Snakemake go on beside the new run, as they would. When a study has ended, its
tables, caches, weights and pages are compared with those of an undisturbed run, file by file (`same.py`), and a new one begins
until all kills are spent. Exit status 1 where anything differs, is left behind, or runs on.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from faults import FAULTS
from same import differences, leftovers

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "workflow"))

from studies import MINI, run  # noqa: E402

#: Seconds within which whatever a killed run left running must have ended.
PATIENCE_S = 600
LOCKED = "cannot be locked"


def command(folder: Path, *options: str) -> list[str]:
    """How a person runs the study in `folder`, with two cores."""
    named = [
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(folder),
        "--configfile",
        str(folder / "study.yaml"),
    ]
    return [str(Path(sys.executable).with_name("snakemake")), *options, *named, "--cores", "2"]


def environment() -> dict[str, str]:
    """The environment of a run: the steps are those of this Python."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@dataclass
class Tree:
    """A run in progress and every process that it has started: process id to (start time, command)."""

    run: subprocess.Popen
    seen: dict[int, tuple[str, str]] = field(default_factory=dict)

    def look(self) -> list[int]:
        """The processes of the run that live now, itself included."""
        living, known = {}, {self.run.pid}
        for path in Path("/proc").glob("[0-9]*"):
            if told := _stat(int(path.name)):
                living[int(path.name)] = told
        grew = True
        while grew:
            grew = False
            for pid, (parent, _) in living.items():
                if parent in known and pid not in known:
                    known.add(pid)
                    grew = True
        for pid in known & living.keys():
            self.seen.setdefault(pid, (living[pid][1], _words(pid)))
        return sorted(known & living.keys())

    def left(self) -> list[str]:
        """The commands of those that still run."""
        return [
            words for pid, (start, words) in self.seen.items() if (told := _stat(pid)) is not None and told[1] == start
        ]


def _stat(pid: int) -> tuple[int, str] | None:
    """Parent and start time of a living process."""
    try:
        parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(parts[1]), parts[19]) if parts[0] not in "ZX" else None


def _words(pid: int) -> str:
    """What a process does, in a few words: the step, or the program."""
    try:
        told = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return "?"
    if "snakemake" in told.split(" -m elr_mri ")[0]:
        return "snakemake"
    step = re.search(r"-m elr_mri ((?:lab )?[a-z-]+)", told)
    program = Path(told.split(" ")[0]).name or "?"
    return f"{program} of {step[1]}" if step else program


def start(folder: Path, log: Path) -> Tree:
    """Start the study, in a process group of its own."""
    log.unlink(missing_ok=True)  # what outlived the last run may still write into that one's
    with open(log, "w") as file:
        return Tree(
            subprocess.Popen(
                command(folder), cwd=folder, env=environment(), stdout=file, stderr=file, start_new_session=True
            )
        )


def fresh(folder: Path, model: Path, keep: tuple[str, ...]) -> None:
    """A study folder without results, but for the parts `keep` of an undisturbed study's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(MINI))
    secret = folder / "results" / "findings" / "private" / "key"  # each study would draw its own, and code people by it
    secret.parent.mkdir(parents=True)
    secret.write_text("0" * 64 + "\n")
    for name in keep:
        shutil.copytree(model / "results" / name, folder / "results" / name)


def kills(folder: Path, model: Path, n_kills: int, rng: random.Random, seconds: float) -> list[tuple[str, str, bool]]:
    """Kill `n_kills` processes of studies in `folder`, start again until each has ended; a line for each study."""
    lines, told, trees, starts, studies = [], [], [], 0, 0
    span, log = max(6.0, 4 * seconds / max(n_kills, 1)), folder.with_suffix(".log")
    fresh(folder, model, ())
    due = time.monotonic() + rng.uniform(0, span)
    while n_kills or trees:
        starts += 1
        if starts > 200:
            return [*lines, ("kills", "200 starts and no end", False)]
        tree = start(folder, log)
        trees.append(tree)
        while tree.run.poll() is None:
            living = tree.look()
            if n_kills and time.monotonic() >= due and living:
                victim = rng.choice(living)
                os.kill(victim, signal.SIGKILL)
                told.append(tree.seen[victim][1])
                n_kills -= 1
                due = time.monotonic() + rng.uniform(0, span)
                print(f"  killed {tree.seen[victim][1]}; {n_kills} to come", flush=True)
            time.sleep(0.1)
        if tree.run.returncode == 0:
            studies += 1
            lines.append(_verdict(f"kill -9 of {', '.join(told) or 'nothing'}", folder, model, trees))
            told, trees = [], []
            if n_kills:
                fresh(folder, model, ("phantom",))
                due = time.monotonic() + rng.uniform(0, span)
        elif LOCKED in log.read_text():
            subprocess.run(command(folder, "--unlock"), cwd=folder, env=environment(), capture_output=True, check=True)
        elif not told:  # nothing was killed, and yet it failed
            return [*lines, ("a run", "failed: " + log.read_text()[-2000:], False)]
    return lines


def _verdict(done: str, folder: Path, model: Path, trees: list[Tree]) -> tuple[str, str, bool]:
    """The line of a study that has ended: what differs from the undisturbed one, is left behind, or runs on."""
    until = time.monotonic() + PATIENCE_S
    while (running := [words for tree in trees for words in tree.left()]) and time.monotonic() < until:
        time.sleep(1)
    faults = [*differences(model / "results", folder / "results"), *leftovers(folder / "results")]
    faults += [f"runs on: {words}" for words in running]
    return done, f"{len(trees)} starts; {'; '.join(faults[:12]) or 'as undisturbed'}", not faults


def undisturbed(folder: Path) -> float:
    """Run the study by itself, unless that is done; returns the seconds that it took."""
    took = folder / "seconds"
    if not took.exists():
        fresh(folder, folder, ())
        began = time.monotonic()
        finished = run(folder, MINI)
        if finished.returncode:
            sys.exit(finished.stdout[-4000:])
        took.write_text(f"{time.monotonic() - began:.0f}")
    return float(took.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build" / "chaos", help="receives the studies; 'undisturbed' is kept"
    )
    parser.add_argument(
        "--only", nargs="*", choices=[fault.__name__ for fault in FAULTS], help="these faults; default all"
    )
    told = parser.parse_args()
    model = told.folder.resolve() / "undisturbed"
    seconds = undisturbed(model)
    print(f"undisturbed: {seconds:.0f} s; seed {told.seed}, {told.kills} kills", flush=True)
    lines = (
        kills(told.folder.resolve() / "killed", model, told.kills, random.Random(told.seed), seconds)
        if told.kills
        else []
    )
    for fault in FAULTS:
        if told.only is None or fault.__name__ in told.only:
            lines += fault(model, told.folder.resolve() / "fault", random.Random(told.seed))
            print(f"  {fault.__name__}: done", flush=True)
    for done, seen, good in lines:
        print(f"{'good' if good else 'BAD '} | {done} | {seen}")
    sys.exit(not all(good for _, _, good in lines))


if __name__ == "__main__":
    main()
