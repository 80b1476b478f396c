"""One GPU for each training that runs on a machine, taken by a file lock.

Snakemake counts GPUs but does not say which one a job may use. Each process takes the first free one, waits
where all are taken, and gives it back when it ends, however it ends.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from elr_mri.errors import BadInput
from elr_mri.learning.distributed import Team

#: Where the locks lie: a folder that every process of the machine sees.
FOLDER = Path(tempfile.gettempdir()) / "elr_mri-gpus"


#: A process that trains by itself.
ALONE = Team()


def gpu_names() -> list[str]:
    """The visible GPUs' identities, the same in every process whatever CUDA_VISIBLE_DEVICES says."""
    return [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]


@contextmanager
def slots(
    device: str,
    n: int = 1,
    *,
    names: Callable[[], Sequence[str]] = gpu_names,
    folder: Path = FOLDER,
    wait_s: float = 5.0,
    tell: Callable[[str], None] = print,
) -> Iterator[list[int]]:
    """Numbers of `n` GPUs of one's own for device `auto` and `cuda`; none for any other device, or where there is no GPU.

    Parameters
    ----------
    names : callable
        Identities of the visible GPUs, in torch's order.
    folder : path
        Where the locks lie.
    wait_s : float
        Seconds between two looks for free GPUs.
    tell : callable
        Is told once that the process waits.
    """
    found = list(names()) if device in ("auto", "cuda") else []
    if not found:
        yield []
        return
    if n > len(found):
        raise BadInput(
            expected=f"at most {len(found)} processes, one for each GPU",
            got=f"{n}",
            where="--processes",
            fix="Start fewer.",
        )
    _make(folder)
    waited = False
    while True:
        with ExitStack() as held:
            mine: list[int] = []
            for gpu, name in enumerate(found):
                if len(mine) < n and _lock(folder / f"{name}.lock", held):
                    mine.append(gpu)
            if len(mine) == n:
                yield mine
                return
        if not waited:
            tell(f"waiting for {n} of {len(found)} GPUs to be free")
            waited = True
        time.sleep(wait_s)


@contextmanager
def slot(device: str, team: Team = ALONE, **options: Any) -> Iterator[str]:
    """The device to compute on: a GPU of one's own for `auto` and `cuda`; any other name is taken as it is.

    Of several processes each takes the GPU of its place on the machine; who started them holds the locks. `options` are those of `slots`.
    """
    if team.size > 1 and device in ("auto", "cuda"):
        yield f"cuda:{team.local_rank}" if torch.cuda.is_available() else device
        return
    with slots(device, **options) as mine:
        yield f"cuda:{mine[0]}" if mine else device


def _lock(path: Path, held: ExitStack) -> bool:
    """Take a lock, to be let go with `held`; False where another process has it."""
    lock = FileLock(path, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    held.callback(lock.release)
    return True


def _make(folder: Path) -> None:
    """The folder of locks, in which every user may write."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)  # mkdir's own mode is cut by the umask
