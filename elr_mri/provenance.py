"""What a file came from: atomic outputs and the sidecar JSON beside them.

Every output appears under its final name only when it is whole (`atomic`), and
carries a sidecar with the digests of its inputs, its section of the config, the
versions and the command (`record`), so that a later run can tell whether the
output still stands for its inputs (`is_current`) and a reader can reproduce it.
Files that are one output together are written between `outdate` and `record`:
a kill in between leaves none of them taken for whole. What a killed process
left half-written is cleared away by the next one, and two never write one output
at once (`alone`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from elr_mri import __version__
from elr_mri.errors import BadInput

#: The libraries whose numbers end up in results; absent ones are left out of the sidecar.
TRACKED = ("numpy", "scipy", "pandas", "nibabel", "antspyx", "nilearn", "torch", "monai", "scikit-learn", "matplotlib")
#: No JSON file of ours that is read from elsewhere is larger.
MAX_BYTES = 1 << 24


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; move it there when the block ends well, remove it otherwise.

    The temporary name keeps the suffixes of `path`, because image libraries choose the
    format by them. Works for a file or, where the block makes one, for a folder.
    """
    path = Path(path)
    with scratch(path.parent) as holder:
        draft = holder / path.name
        yield draft
        if path.is_dir() and draft.is_dir():
            shutil.rmtree(path)
        os.replace(draft, path)


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A folder of one's own in `parent`, gone when the block ends; those of processes of this machine that were killed go first."""
    parent.mkdir(parents=True, exist_ok=True)
    mine = f".partial-{socket.gethostname()}-"
    for left in parent.glob(f"{mine}*"):
        if not _runs(left.name.removeprefix(mine).partition("-")[0]):
            shutil.rmtree(left, ignore_errors=True)
    holder = Path(tempfile.mkdtemp(prefix=f"{mine}{os.getpid()}-", dir=parent))
    try:
        yield holder
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _runs(pid: str) -> bool:
    """Whether a process of this machine has that number; True in doubt."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True
    return True


@contextmanager
def alone(output: Path | str) -> Iterator[None]:
    """Nobody else writes `output` meanwhile: a second process waits until the first has ended, however it ends.

    A run that was killed may leave a step running; started again at once, the same step would mix its files with that one's.
    """
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(output.with_name(f".{output.name}.lock"), "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that writes {output}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a disk without locks: as if there were one process
            pass
        yield


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically, with Unix line ends on every platform.

    A byte of a file name that is no UTF-8 is written as its escape, which in JSON reads back as it was.
    """
    with atomic(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_json(path: Path | str, content: Any) -> None:
    """Write `content` as indented JSON, atomically; NaN is refused because JSON has none."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file that this package wrote; raises `BadInput` where it is cut off or no JSON at all."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as problem:
        raise BadInput(
            expected="a whole JSON file",
            got=str(problem),
            where=str(path),
            fix="Delete it, and run the step that writes it again.",
        ) from problem


def read_object(path: Path | str) -> dict[str, Any]:
    """Read a JSON object that may come from a stranger; raises `BadInput` for anything else, and for one that is too large."""
    path = Path(path)

    def refusal(got: str) -> BadInput:
        fix = "Take another copy of it, or make it again."
        return BadInput(expected="a JSON object", got=got, where=str(path), fix=fix)

    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise refusal(f"more than {MAX_BYTES >> 20} MiB" if path.is_file() else "no such file")
        told = json.loads(path.read_text(encoding="utf-8"))
    except BadInput:
        raise
    except (OSError, RecursionError) as problem:
        raise refusal(type(problem).__name__) from problem
    except ValueError as problem:  # no JSON, or no UTF-8
        raise refusal(str(problem)[:160]) from problem
    if not isinstance(told, dict):
        raise refusal(f"a {type(told).__name__}")
    return told


def digest_file(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(content: Any) -> str:
    """SHA-256 of a JSON-able value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of this package, Python and the installed libraries in `TRACKED`."""
    found = {"elr_mri": __version__, "python": platform.python_version()}
    for name in TRACKED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def record(
    output: Path | str, *, step: str, version: int, inputs: Mapping[str, str], settings: Any, **facts: Any
) -> None:
    """Write `<output>.json`: how `output` was made.

    Parameters
    ----------
    step, version : str, int
        The stage and its `VERSION` constant.
    inputs : mapping of name to SHA-256
        What the output depends on.
    settings : pydantic model or JSON-able
        The stage's own section of the config.
    """
    content = {
        "step": step,
        "step_version": version,
        "inputs": dict(inputs),
        "settings": _plain(settings),
        "versions": versions(),
        "command": shlex.join(["elr-mri", *sys.argv[1:]]),
        **facts,
    }
    write_json(sidecar(output), content)


def sidecar(output: Path | str) -> Path:
    """Where the sidecar of `output` lies: `<name>.json` beside it."""
    output = Path(output)
    return output.with_name(output.name + ".json")


def outdate(output: Path | str) -> None:
    """Remove the sidecar of `output` before it is written anew, so that what lies there stands for nothing until `record`."""
    sidecar(output).unlink(missing_ok=True)


def is_current(output: Path | str, *, step: str, version: int, inputs: Mapping[str, str], settings: Any) -> bool:
    """Whether `output` exists and its sidecar names the same step, version, inputs and settings."""
    beside = sidecar(output)
    if not (Path(output).exists() and beside.exists()):
        return False
    try:
        told = read_json(beside)
    except ValueError:
        return False
    facts = {"step": step, "step_version": version, "inputs": dict(inputs), "settings": _plain(settings)}
    return isinstance(told, dict) and all(name in told and told[name] == fact for name, fact in facts.items())


def _plain(settings: Any) -> Any:
    """Settings as they come back from a JSON file: tuples as lists, keys as text."""
    dumped = settings.model_dump(mode="json") if hasattr(settings, "model_dump") else settings
    return json.loads(json.dumps(dumped))
