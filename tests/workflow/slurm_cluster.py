"""A Slurm of one machine on loopback, in a folder of its own: munged, slurmctld and slurmd, as Debian packs them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

#: Debian's place for the configuration. SLURM_CONF would not do: the plugin takes it out of a job's environment.
SYSTEM = Path("/etc/slurm")
PREFIX = "elr-slurm-"
DAEMONS = ("munged", "slurmctld", "slurmd")

#: No accounting, no cgroups, no DNS; the one GPU is a stand-in that Slurm counts and numbers, and nothing can compute on.
CONFIGURATION = """\
ClusterName=mini
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
EpilogSlurmctld={folder}/epilog
MailProg=/bin/true
MpiDefault=none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
GresTypes=gpu
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} Gres=gpu:1
PartitionName=mini Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str | None:
    """Why no Slurm can be started here; None where it can."""
    absent = [name for name in (*DAEMONS, "sbatch", "srun", "squeue", "setpriv") if shutil.which(name) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "slurmd starts jobs as root alone"
    if (SYSTEM / "slurm.conf").exists() and not left_over(SYSTEM / "slurm.conf"):
        return f"{SYSTEM}/slurm.conf is there: this machine belongs to a cluster"
    if subprocess.run(["sinfo"], capture_output=True, timeout=300, check=False).returncode == 0:
        return "a Slurm is running"
    return None


def left_over(path: Path) -> bool:
    """Whether a file is a link that a killed test could not take away."""
    return path.is_symlink() and PREFIX in os.readlink(path)


@contextlib.contextmanager
def slurm(*, cpus: int = 2, controller: int = 36817, node: int = 36818) -> Iterator[Path]:
    """Start the daemons, and stop them whatever happens; yields their folder, in which `finished.txt` tells of every job."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o755)  # munged refuses a socket that not everyone can reach
    linked: list[Path] = []
    running: list[subprocess.Popen] = []
    try:
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)
        memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10
        (folder / "slurm.conf").write_text(
            CONFIGURATION.format(folder=folder, controller=controller, node=node, cpus=cpus, memory_mb=memory_mb)
        )
        (folder / "epilog").write_text(
            f'#!/bin/sh\nscontrol --oneliner show job "$SLURM_JOB_ID" >> {folder}/finished.txt\n'
        )
        (folder / "epilog").chmod(0o755)
        (folder / "gres.conf").write_text("NodeName=localhost Name=gpu Count=1 File=/dev/null\n")
        for name in ("slurm.conf", "gres.conf"):
            if left_over(SYSTEM / name):
                (SYSTEM / name).unlink()
            (SYSTEM / name).symlink_to(folder / name)
            linked.append(SYSTEM / name)
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
        files |= {"log-file": "munged.log", "seed-file": "munged.seed"}
        running.append(
            start("munged", "--foreground", *(f"--{option}={folder / name}" for option, name in files.items()))
        )
        running.append(start("slurmctld", "-D", "-c"))
        running.append(start("slurmd", "-D", "-N", "localhost"))
        wait_until_idle(folder)
        yield folder
    finally:
        if len(running) == len(DAEMONS):
            subprocess.run(["scancel", "--partition=mini"], capture_output=True, timeout=60, check=False)
        for daemon in reversed(running):
            stop(daemon)
        for path in linked:
            path.unlink()
        shutil.rmtree(folder, ignore_errors=True)


def start(*command: str) -> subprocess.Popen:
    """A daemon as a child of this process, ended with it even where this process is killed."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def stop(daemon: subprocess.Popen, seconds: float = 20) -> None:
    """End a daemon: kindly, then not."""
    daemon.terminate()
    try:
        daemon.wait(seconds)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def wait_until_idle(folder: Path, seconds: float = 60) -> None:
    """Wait until the node takes jobs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        told = subprocess.run(["sinfo", "--noheader", "--format=%t"], capture_output=True, text=True, check=False)
        if told.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    raise AssertionError(f"Slurm's node is not idle after {seconds:g} s: {told.stdout}{told.stderr}{logs(folder)}")


def logs(folder: Path) -> str:
    """The ends of the daemons' logs."""
    return "".join(f"\n{path.name}:\n{path.read_text()[-1500:]}" for path in sorted(folder.glob("*.log")))


def finished_jobs(folder: Path) -> list[dict[str, str]]:
    """What Slurm itself wrote down of every job that ended: `JobId`, `Comment`, `ExitCode`, `TimeLimit`, `TRES`, `TresPerJob` …"""
    path = folder / "finished.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [dict(part.split("=", 1) for part in line.split() if "=" in part) for line in lines]
