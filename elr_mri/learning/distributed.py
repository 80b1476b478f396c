"""Several processes that train one model: each sees a part of every batch, and all hold the same state.

Started by `torchrun` (its RANK, WORLD_SIZE and LOCAL_RANK are read from the environment); without it there is one
process and everything here does nothing. Random views, dropout and the order of the scans are drawn for the whole batch
and then divided, and early-learning targets take every process's predictions, so the number of processes changes
nothing but the rounding of sums.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel

from elr_mri.errors import REFUSALS, BadInput

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Team:
    """This process's place among all: `rank` of `size`, `local_rank` on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, n: int, rank: int | None = None) -> slice:
        """The part of n items in order that is this process's, or that of another `rank`; parts differ by one item at most."""
        rank, (each, more) = self.rank if rank is None else rank, divmod(n, self.size)
        start = rank * each + min(rank, more)
        return slice(start, start + each + (rank < more))

    def gather(self, rows: Tensor, n: int) -> Tensor:
        """All n rows (n, …), of which this process holds its share (n_here, …), without gradient."""
        rows = rows.detach()
        if self.size == 1:
            return rows
        counts = [len(range(n)[self.share(n, rank)]) for rank in range(self.size)]
        padded = torch.cat([rows, rows.new_zeros(counts[0] - len(rows), *rows.shape[1:])])
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def mean(self, value: Tensor, n_here: int, n: int) -> Tensor:
        """The mean over n scans of a scalar that is this process's mean over its `n_here`, without gradient."""
        value = value.detach()
        if self.size > 1:
            value = value * (n_here / n)
            dist.all_reduce(value)
        return value

    def check_same(self, numbers: list[int], where: Path) -> None:
        """Refuse processes that start from different states: `numbers` must be the same in all."""
        if self.size == 1:
            return
        told: list[list[int] | None] = [None] * self.size
        dist.all_gather_object(told, numbers)
        if any(other != numbers for other in told):
            raise BadInput(
                expected="one training state for all processes",
                got=", ".join(f"{epochs} epochs and {batches} batches" for epochs, batches in told),
                where=str(where),
                fix="Let every machine see the same output folder.",
            )

    def whole(self, network: nn.Module) -> nn.Module:
        """The network with batch norm over the whole batch; refused on a CPU, where torch has none."""
        if self.size == 1 or not any(isinstance(part, BATCH_NORM) for part in network.modules()):
            return network
        if next(network.parameters()).device.type != "cuda":
            raise BadInput(
                expected="instance, group or no norm, where several processes train on a CPU",
                got="batch norm, whose statistics would be those of one process's part of the batch",
                where="train.models",
                fix="Train it in one process, or on GPUs.",
            )
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, with gradients averaged over all processes."""
        if self.size == 1:
            return network
        on = next(network.parameters()).device
        return DistributedDataParallel(network, device_ids=[on] if on.type == "cuda" else None)


@contextmanager
def team(device: str) -> Iterator[Team]:
    """Join the processes that `torchrun` started, by NCCL on GPUs and by Gloo on a CPU; alone without `torchrun`."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Team()
        return
    here = Team(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0")))
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        if device not in ("auto", "cuda") or here.local_rank >= torch.cuda.device_count():
            raise BadInput(
                expected=f"device auto or cuda, and at most {torch.cuda.device_count()} processes on this machine",
                got=f"device {device}, process {here.local_rank + 1}",
                where="train.device",
                fix="Each process takes a GPU of its own.",
            )
        torch.cuda.set_device(here.local_rank)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield here
    finally:
        dist.destroy_process_group()


def launch(processes: int, gpus: Sequence[int] = ()) -> None:
    """Run this very command in several processes of this machine, and wait for them.

    `gpus` are the visible GPUs that they may use, one each; none for a CPU. Bad input that a process finds is raised here, once.
    """
    if gpus:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(seen[gpu] if seen != [""] else str(gpu) for gpu in gpus)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    here = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # it tells of every failure twice
    with tempfile.TemporaryDirectory() as folder:
        os.environ[REFUSALS] = folder
        try:
            elastic_launch(here, sys.executable)("-m", "elr_mri", *sys.argv[1:])
        except ChildFailedError:
            told = sorted(Path(folder).iterdir())
            if told:
                raise BadInput(**json.loads(told[0].read_text())) from None
            raise
        finally:
            del os.environ[REFUSALS]


def launched() -> bool:
    """Whether this is one of several processes that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ
