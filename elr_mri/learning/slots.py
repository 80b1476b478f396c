"""One GPU for each training that runs on a machine, taken by a file lock.

Snakemake counts GPUs but does not say which one a job may use. Each process takes the first free one, waits
where all are taken, and gives it back when it ends, however it ends.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from elr_mri.learning.distributed import Team

#: Where the locks lie: a folder that every process of the machine sees.
FOLDER = Path(tempfile.gettempdir()) / "elr_mri-gpus"


#: A process that trains by itself.
ALONE = Team()


def gpu_names() -> list[str]:
    """The visible GPUs' identities, the same in every process whatever CUDA_VISIBLE_DEVICES says."""
    return [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]


@contextmanager
def slot(
    device: str,
    team: Team = ALONE,
    *,
    names: Callable[[], Sequence[str]] = gpu_names,
    folder: Path = FOLDER,
    wait_s: float = 5.0,
    tell: Callable[[str], None] = print,
) -> Iterator[str]:
    """The device to train on: a GPU of one's own for `auto` and `cuda`; any other name is taken as it is.

    Parameters
    ----------
    team : Team
        Of several processes each takes the GPU of its place on the machine; the locks are for models that train side by side.
    names : callable
        Identities of the visible GPUs, in torch's order.
    folder : path
        Where the locks lie.
    wait_s : float
        Seconds between two looks for a free GPU.
    tell : callable
        Is told once that the process waits.
    """
    found = list(names()) if device in ("auto", "cuda") else []
    if found and team.size > 1:
        yield f"cuda:{team.local_rank}"
        return
    if not found:
        yield device
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o1777)
    waited = False
    while True:
        for index, name in enumerate(found):
            lock = FileLock(folder / f"{name}.lock", mode=0o666)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield f"cuda:{index}"
            finally:
                lock.release()
            return
        if not waited:
            tell(f"waiting for one of {len(found)} GPUs to be free")
            waited = True
        time.sleep(wait_s)
