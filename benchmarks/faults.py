"""The misfortunes of `chaos.py` that are no kills. Each takes a finished study and does harm to copies of its parts.

A fault returns lines: what was done, what was seen, and whether that is good: a clear error of one line and exit status 2
with nothing half-written under a final name, or the result of the undisturbed study.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from same import content, differences, leftovers

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "workflow"))

from studies import MINI, run  # noqa: E402

Line = tuple[str, str, bool]
IMAGING = Path("results", "imaging")
MODEL = "wide-age-elr"
STEPS = ("convert", "pack", "train")
SCANS, SPLITS = "results/scans/ingest/scans.tsv", "results/scans/split/splits.tsv"


def arguments(step: str, out: Path, packed: Path | str = IMAGING / "pack") -> list[str]:
    """The command of a step, run in a study's folder, with `out` for its output."""
    if step == "convert":
        own = ["--scans", SCANS, "--batch", "000", "--batches", str(MINI["batches"])]
    elif step == "pack":
        folders = [("--converted", "convert"), ("--registered", "register"), ("--measured", "measure")]
        own = ["--scans", SCANS, "--reviewed", str(IMAGING / "review" / "review.tsv")]
        own += [part for option, name in folders for part in (option, str(IMAGING / name))]
    else:
        section = {**MINI["train"], "models": {MODEL: MINI["train"]["models"][MODEL]}}
        own = ["--packed", str(packed), "--scans", SCANS, "--splits", SPLITS, "--model", MODEL]
        own += ["--config", json.dumps(section, sort_keys=True), "--synthetic"]
    return [sys.executable, "-m", "elr_mri", step, *own, "--output", str(out)]


def begin(study: Path, words: list[str]) -> subprocess.Popen:
    """Start a step by hand in a study's folder."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, cwd=study, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def done(study: Path, words: list[str]) -> tuple[int, str]:
    """Exit status of a step, and what it said."""
    process = begin(study, words)
    told, _ = process.communicate()
    return process.returncode, told


def whole(step: str, study: Path) -> Path:
    """Where the undisturbed output of a step lies."""
    return study / {"convert": IMAGING / "convert", "pack": IMAGING / "pack"}.get(
        step, Path("results", "learning", MODEL, "seed-0")
    )


def unlike(out: Path, model: Path, *, finished: bool) -> list[str]:
    """Files of `out` that are not as in `model`; where the step is not finished, what is missing does not count."""
    faults = []
    for path in sorted(model.rglob("*")):
        name = path.relative_to(model).as_posix()
        mine = out / name
        alien = (
            {"events", "state"} & set(Path(name).parts)
            or Path(name).stem.startswith("predictions")
            or "/." in f"/{name}"
        )
        if not path.is_file() or alien:
            continue
        if not mine.exists():
            if finished and not (model.name == "convert" and "batches/000" not in name):
                faults.append(f"{name} is missing")
        elif (finished or path.name != "volumes.npy") and content(mine) != content(path):
            faults.append(f"{name} is another")  # rows behind those that the index tells of are no part of the cache
    return faults + ([f"left behind: {name}" for name in leftovers(out)] if finished else [])


def refused(status: int, told: str, word: str) -> list[str]:
    """What is not right with a refusal that is to say `word`: one line, exit status 2, nothing of Python's."""
    lines = [line for line in told.splitlines() if line.startswith("elr-mri: ")]
    faults = [] if status == 2 else [f"exit status {status}"]
    faults += (
        [] if len(lines) == 1 and word in lines[0] else [f"said {told.splitlines()[-1][:200] if told else 'nothing'}"]
    )
    return faults + (["a traceback"] if "Traceback" in told else [])


def line(what: str, seen: str, faults: list[str]) -> Line:
    return what, "; ".join(faults) or seen, not faults


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path | None]:
    """A file system in memory of `size` bytes; None where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "chaos", str(folder)], capture_output=True, check=False
    )
    try:
        yield folder if made.returncode == 0 else None
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def full_disk(model: Path, folder: Path, rng: random.Random) -> list[Line]:
    """A step's output on a disk that fills; then there is room, and the step is started again."""
    lines = []
    for step in STEPS:
        needed = sum(path.stat().st_size for path in whole(step, model).rglob("*") if path.is_file())
        needed //= MINI["batches"] if step == "convert" else 1
        share = rng.uniform(0.2, 0.7)
        with small_disk(folder / "disk", int(needed * share)) as disk:
            if disk is None:
                return [("a full disk", "not done: only root may mount a small disk", True)]
            out = disk / "out"
            faults = refused(*done(model, arguments(step, out)), "No space left on device")
            faults += [f"half-written: {name}" for name in unlike(out, whole(step, model), finished=False)]
            remount(disk, "size=2g")
            status, told = done(model, arguments(step, out))
            faults += [] if status == 0 else [f"again: {told[-300:]}"]
            faults += unlike(out, whole(step, model), finished=True)
        lines.append(
            line(f"{step}: disk full at {share:.0%}, then room", "one clear line; again: as undisturbed", faults)
        )
    return lines


def read_only(model: Path, folder: Path, rng: random.Random) -> list[Line]:
    """A step's output on a disk that cannot be written on."""
    del rng
    lines = []
    for step in STEPS:
        with small_disk(folder / "disk", 1 << 20) as disk:
            if disk is None:
                return [("a read-only disk", "not done: only root may mount a small disk", True)]
            remount(disk, "ro")
            faults = refused(*done(model, arguments(step, disk / "out")), "Read-only file system")
        lines.append(line(f"{step}: read-only output", "one clear line", faults))
    return lines


def corrupt_cache(model: Path, folder: Path, rng: random.Random) -> list[Line]:
    """Parts of the cache with other bytes or cut off: training refuses, packing again repairs."""
    lines = []
    for name, harm in (("volumes.npy", "flipped"), ("volumes.npy", "cut"), ("index.tsv", "cut"), ("meta.json", "cut")):
        pack = folder / "pack"
        shutil.rmtree(pack, ignore_errors=True)
        shutil.copytree(whole("pack", model), pack)
        path = pack / name
        held = bytearray(path.read_bytes())
        if harm == "flipped":
            held[rng.randrange(len(held) // 2, len(held))] ^= 0xFF
        path.write_bytes(bytes(held if harm == "flipped" else held[: rng.randrange(1, len(held))]))
        status, told = done(model, arguments("train", folder / "model", packed=pack))
        faults = refused(status, told, "expected")
        verify = ["--config", '{"verify": true}'] if harm == "flipped" else []
        status, told = done(model, [*arguments("pack", pack), *verify])
        faults += [] if status == 0 else [f"pack again: {told[-300:]}"]
        same = [
            n
            for n in ("volumes.npy", "index.tsv", "meta.json")
            if (pack / n).read_bytes() != (whole("pack", model) / n).read_bytes()
        ]
        faults += [f"after packing again {name} is another" for name in same]
        lines.append(line(f"cache: {name} {harm}", "training refuses in one line; packing again repairs", faults))
    return lines


def truncated_checkpoint(model: Path, folder: Path, rng: random.Random) -> list[Line]:
    """Parts of a model folder cut off: training refuses them, or ends with the same weights."""
    lines = []
    (best,) = (path.name for path in (whole("train", model) / "state").glob("best-*.safetensors"))
    for name in ("state/resume.safetensors", f"state/{best}", "model.safetensors"):
        out = folder / "model"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(whole("train", model), out)
        size = (out / name).stat().st_size
        os.truncate(out / name, rng.randrange(1, size))
        status, told = done(model, arguments("train", out))
        seen, faults = "training mended it", []
        if status:
            seen, faults = (
                "refused in one line; deleted and trained again: as undisturbed",
                refused(status, told, "Delete"),
            )
            shutil.rmtree(out / "state")
            status, told = done(model, arguments("train", out))
            faults += [] if status == 0 else [told[-300:]]
        lines.append(line(f"checkpoint: {name} cut", seen, faults + unlike(out, whole("train", model), finished=True)))
    return lines


def clock_jumps(model: Path, folder: Path, rng: random.Random) -> list[Line]:
    """Files of a finished study from next year and from ten years ago: whatever runs again ends as before, and the run ends."""
    lines = []
    for years, names in ((1, ["scans/split/splits.tsv"]), (-10, ["imaging/pack/volumes.npy.json"]), (1, None)):
        study = _copy(model, folder)
        paths = [study / "results" / name for name in names or ()] or rng.sample(
            sorted((study / "results" / "findings").rglob("*.tsv")), 3
        )
        for path in paths:
            os.utime(path, (time.time() + years * 365 * 86400,) * 2)
        finished = run(study, MINI)
        faults = [] if finished.returncode == 0 else [finished.stdout[-500:]]
        faults += differences(model / "results", study / "results")
        told = ", ".join(path.name for path in paths)
        lines.append(
            line(f"clock: {told} {'from next year' if years > 0 else 'of ten years ago'}", "as undisturbed", faults)
        )
    return lines


def two_at_once(model: Path, folder: Path, rng: random.Random) -> list[Line]:
    """Two runs of one study, and two processes of one step, in one folder."""
    del rng
    study = _copy(model, folder)
    shutil.rmtree(study / "results" / "learning" / MODEL / "seed-0")
    (study / "results" / "report.html").unlink()
    told = [str(Path(sys.executable).with_name("snakemake")), "--snakefile", str(ROOT / "Snakefile"), "--cores", "1"]
    told += ["--directory", str(study), "--configfile", str(study / "study.yaml")]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    pipes = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    runs = [subprocess.Popen(told, cwd=study, env=env, **pipes) for _ in range(2)]
    outputs = [one.communicate()[0] for one in runs]
    codes = sorted(one.returncode for one in runs)
    refusals = sum("cannot be locked" in output for output in outputs)
    faults = [] if codes[0] == 0 and (refusals == 1 or codes[1] == 0) else [f"exit status {codes}: {outputs[0][-300:]}"]
    faults += differences(model / "results", study / "results")
    lines = [
        line("two Snakemakes in one folder", f"{refusals} was told that the folder is locked; as undisturbed", faults)
    ]
    for step in ("pack", "train", "convert"):
        out = folder / "twice"
        shutil.rmtree(out, ignore_errors=True)
        both = [begin(model, arguments(step, out)) for _ in range(2)]
        said = [one.communicate()[0] for one in both]
        faults = [f"failed: {text[-300:]}" for one, text in zip(both, said) if one.returncode]
        waited = any("waiting for another process" in text for text in said)
        faults += unlike(out, whole(step, model), finished=True)
        lines.append(
            line(
                f"{step} twice at once", f"{'one waited' if waited else 'one after the other'}; as undisturbed", faults
            )
        )
    return lines


def _copy(model: Path, folder: Path) -> Path:
    """A copy of the finished study, with the times of its files."""
    study = folder / "study"
    shutil.rmtree(study, ignore_errors=True)
    shutil.copytree(model, study, symlinks=True)
    return study


FAULTS = (full_disk, read_only, corrupt_cache, truncated_checkpoint, clock_jumps, two_at_once)
