"""The machine: versions against the pins, torch and the GPU, Snakemake, conda, cores, memory and disk."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from elr_mri import __version__
from elr_mri.config import Train

#: The groups of packages that a run needs, in the order of the zones; the base ones have no extra.
GROUPS = ("base", "imaging", "learning", "findings", "workflow")
_PIN = re.compile(r"([A-Za-z0-9_.-]+)==([\w.+-]+)(?:\s*;.*extra\s*==\s*[\"'](\w+)[\"'])?")
_PROBE_SECONDS = 120
NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Package:
    """A pinned package: the groups that need it, the pin, and what is installed (None: nothing)."""

    name: str
    groups: tuple[str, ...]
    pin: str
    installed: str | None

    @property
    def fits(self) -> bool:
        """Whether the pinned version is installed; a build tag such as `+cu130` is no other version."""
        return self.installed is not None and self.installed.partition("+")[0] == self.pin


@dataclass(frozen=True)
class Machine:
    """What a run finds here; memory and disk in bytes."""

    python: str
    elr_mri: str
    packages: tuple[Package, ...]
    cores: int
    memory: int | None
    disk_free: int
    snakemake: bool
    conda: bool
    torch: dict[str, Any] | None
    torch_fault: str


def inspect(results: str, train: Train, ablations: Train) -> Machine:
    """Look at this machine; `results` says which disk, `train` which device and networks are asked for, and `ablations` which besides."""
    told, fault = torch_told(train, ablations)
    return Machine(
        python=platform.python_version(),
        elr_mri=__version__,
        packages=pinned(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=_memory(),
        disk_free=shutil.disk_usage(_nearest(Path(results))).free,
        snakemake=find_spec("snakemake") is not None or shutil.which("snakemake") is not None,
        conda=shutil.which("conda") is not None,
        torch=told,
        torch_fault=fault,
    )


def pinned() -> tuple[Package, ...]:
    """Every package that the project pins, with what is installed."""
    groups: dict[tuple[str, str], list[str]] = {}
    for line in _requirements():
        match = _PIN.match(line)
        if match and (group := match[3] or "base") in GROUPS:
            groups.setdefault((match[1], match[2]), []).append(group)
    return tuple(Package(name, tuple(wanted), pin, _installed(name)) for (name, pin), wanted in groups.items())


def _requirements() -> list[str]:
    """The pins as the installed package tells them, or else as pyproject.toml in the checkout does."""
    try:
        return metadata.requires("elr_mri") or []
    except metadata.PackageNotFoundError:
        project = Path(__file__).parents[2] / "pyproject.toml"
    if not project.is_file():
        return []
    told = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras = told["optional-dependencies"].items()
    return told["dependencies"] + [f'{line}; extra == "{name}"' for name, lines in extras for line in lines]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def torch_told(train: Train, ablations: Train) -> tuple[dict[str, Any] | None, str]:
    """What torch says in a process of its own, or else why it says nothing."""
    if find_spec("torch") is None:
        return None, NOT_INSTALLED
    command = [sys.executable, "-m", "elr_mri.learning.probe", train.model_dump_json(), ablations.model_dump_json()]
    root = Path(__file__).parents[2]  # as the working directory too: another checkout there would go first
    paths = [str(root), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer in {_PROBE_SECONDS} s"
    try:
        return json.loads(done.stdout.splitlines()[-1]), ""
    except (ValueError, IndexError):
        return None, (done.stderr.strip().splitlines() or ["no answer"])[-1]


def _memory() -> int | None:
    """Memory that is free for new processes, bytes; unknown where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            told = dict(line.split(":", 1) for line in file)
        return int(told["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())
