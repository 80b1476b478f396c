"""Speed and memory of training, beside a plain loop on the same scans: input pipeline, network, whole step; in one run.

    python benchmarks/training.py                          on a CPU: width 1, 96³ crops of 121 × 145 × 121, batches of 4
    python benchmarks/training.py --device cuda --width 8  on a GPU, with the share of its matrix throughput, and its idle share

The plain loop: one gzipped float32 NIfTI per scan, read by nibabel's get_fdata, NaN → 0, min-max, SciPy's Gaussian blur of the whole volume, σ ~ U(0, 1), a
random crop, torch's DataLoader; Conv3d, InstanceNorm3d, ReLU, MaxPool3d as layers, float32, channels first; SGD. Both see the
same scans with the same offsets and σ. Every measurement is a process of its own with --threads threads and no workers; the ways alternate over
--repeats rounds and the fastest counts. Processor seconds stand beside seconds: other work on the machine hardly touches them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from plain_loop import PlainNet, PlainScans, write_scans
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from elr_mri import config
from elr_mri.imaging.packed import MAPPINGS
from elr_mri.learning import recipe
from elr_mri.learning.dataset import ScanSet
from elr_mri.learning.feed import Feed
from elr_mri.learning.networks import build
from elr_mri.learning.standardise import Standardise
from elr_mri.learning.views import View, draw

SHAPE = (121, 145, 121)
#: What is asked for: ratios of scans per second to the plain loop's, peak memory, share of matrix throughput, idle share.
LIMITS = {"input, blurred": 30.0, "training": 1.0, "training on a GPU": 10.0, "matrix share": 0.45, "idle": 0.05}


def read_scans(folder: Path) -> ScanSet:
    """The packed scans, their classes in turn."""
    volumes = np.load(folder / "volumes.npy", mmap_mode="r")
    n = np.arange(len(volumes))
    table = pd.DataFrame({"row": n, "label": n % 3, "age_years": 70.0})
    return ScanSet(table, volumes, {"spacing_mm": 1.5, "dtype": "uint8"})


def feed(told: argparse.Namespace) -> Feed:
    """Our batches, standardised as the plain loop's."""
    scans = read_scans(told.folder)
    return Feed(
        scans,
        Standardise("scan", scans.row_shape),
        batch_size=told.batch,
        crop=told.crop,
        shift_max=None,
        blur_sigma_max=told.sigma,
        augment=config.Augment(),
        device=torch.device(told.device),
    )


def plain_views(told: argparse.Namespace) -> list[View]:
    """For each scan the view that our first epoch takes of it."""
    source = feed(told)
    order = np.random.default_rng([0, 0]).permutation(len(source.places))
    views = {}
    for number, rows in enumerate(np.array_split(order, len(source))):
        drawn = draw(np.random.default_rng([0, 0, number + 1]), len(rows), source.shape, **source.drawing)
        views |= dict(zip(rows.tolist(), drawn))
    return [views[i] for i in range(len(views))]


def plain_scans(told: argparse.Namespace) -> PlainScans:
    """The plain loop's scans, seen as ours are."""
    return PlainScans(told.folder, plain_views(told), told.crop, told.dtype)


def batches(told: argparse.Namespace) -> Iterator[tuple[Tensor, Tensor]]:
    """Volumes and labels, on the device, one epoch after the other."""
    on, epoch = torch.device(told.device), 0
    if told.way == "ours":
        source = feed(told)
        while True:
            yield from ((batch.volumes, batch.labels) for batch in source.epoch(seed=0, epoch=epoch))
            epoch += 1
    source = DataLoader(plain_scans(told), batch_size=told.batch)
    while True:
        yield from ((volumes.to(on), labels.to(on)) for volumes, labels in source)


def step(told: argparse.Namespace) -> tuple[nn.Module, Callable[[Tensor, Tensor], None]]:
    """The network, and one step of training on a batch."""
    torch.manual_seed(0)
    net = build("wide", width=told.width, age="none", crop=told.crop, first_pool=told.first_pool).to(told.device)
    ours, gpu = told.way == "ours", told.device != "cpu"
    if ours:
        settings = config.Train(optimizer="sgd", momentum=0.0, learning_rate=0.01, compile=told.compile)
        optimizer = recipe.optimizer(net, settings, config.Model(network="wide"))
        net = recipe.compiled(recipe.place(net, torch.device(told.device)), settings, torch.device(told.device))
    else:
        net = PlainNet(net)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    dtype = torch.bfloat16 if ours and gpu else torch.float32

    def one(volumes: Tensor, labels: Tensor) -> None:
        with torch.autocast(volumes.device.type, dtype, enabled=dtype != torch.float32):
            logits = net(volumes)
        loss = functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return net, one


def measure(told: argparse.Namespace) -> dict[str, float]:
    """Time one part of one way in this process: seconds and processor seconds per scan, peak memory in MiB."""
    source = batches(told)
    work = (lambda *batch: None) if told.part == "input" else step(told)[1]
    if told.part == "network":
        kept = next(source)
        source = iter(lambda: kept, None)
    for _ in range(told.warm_up):
        work(*next(source))
    wait(told.device)
    began, cpu, n_scans = time.perf_counter(), time.process_time(), 0
    for _ in range(told.steps):
        volumes, labels = next(source)
        work(volumes, labels)
        n_scans += len(labels)
    wait(told.device)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    facts = {"seconds": seconds / n_scans, "cpu": cpu / n_scans, "peak_mib": peak_mib()}
    if told.part == "training" and told.way == "ours" and told.device != "cpu":
        facts |= throughput(told, work, source, facts["seconds"])
    return facts


def peak_mib() -> float:
    """Peak memory of this process; Linux keeps the starting process's peak in `ru_maxrss`, so its own count is read there."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def wait(device: str) -> None:
    """Let a GPU finish."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def throughput(told: argparse.Namespace, work: Callable, source: Iterator, seconds: float) -> dict[str, float]:
    """Share of the measured bfloat16 matrix throughput that a step reaches, and of the time in which the device idles."""
    share = flop(told) / seconds / matrix_flops(told.device, told.matrix)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        for _ in range(told.steps):
            work(*next(source))
        wait(told.device)
    events = profiled.events()
    kind = "cuda" if torch.device(told.device).type == "cuda" else "cpu"
    spans = [(e.time_range.start, e.time_range.end) for e in events if e.device_type.name.lower() == kind]
    if told.device == "cuda":
        print(profiled.key_averages().table(sort_by="self_device_time_total", row_limit=12), file=sys.stderr)
    return {"matrix share": share, "idle": idle(spans)}


def idle(spans: list[tuple[float, float]]) -> float:
    """Share of the time from the first start to the last end that no span covers."""
    busy, reached, ordered = 0.0, -np.inf, sorted(spans)
    for start, end in ordered:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return 1 - busy / (reached - ordered[0][0])


def flop(told: argparse.Namespace) -> float:
    """Floating-point operations of one scan and step as published: three times those of the layers' forward pass.

    Our step does fewer, because its first block has a closed form: the share of the matrix throughput is of useful work, not of work done.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        net = PlainNet(build("wide", width=told.width, age="none", crop=told.crop, first_pool=told.first_pool))
        net(torch.empty(1, 1, *(told.crop,) * 3))
    return 3.0 * counter.get_total_flops()


def matrix_flops(device: str, n: int) -> float:
    """Floating-point operations per second of a large bfloat16 matrix product."""
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = np.inf
    for _ in range(8):
        wait(device)
        began = time.perf_counter()
        a @ b
        wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * n**3 / best


def largest_difference(told: argparse.Namespace) -> dict[str, float]:
    """Between both ways' first epochs: largest absolute difference from the files; what the cache's rounding to uint8 allows of
    it; and what is left when the plain loop sees the rounded values too."""
    plain, packed = plain_scans(told), read_scans(told.folder).volumes
    rounding = MAPPINGS["T1w"]["uint8"]
    worst = {"files": 0.0, "allowed": 2 * rounding["error"] * rounding["scale"] / packed.max(axis=(1, 2, 3)).min()}
    worst["packed"] = 0.0
    for batch in feed(told).epoch(seed=0, epoch=0):
        for i, seen in zip(batch.rows.tolist(), batch.volumes.cpu()):
            for key, other in (("files", plain[i][0]), ("packed", plain.see(packed[i].astype(np.float32), i))):
                worst[key] = max(worst[key], (seen - other).abs().max().item())
    return worst


def run(told: argparse.Namespace, part: str, way: str, sigma: float) -> dict[str, float]:
    """One measurement in a process of its own."""
    own = {"part": part, "way": way, "sigma": sigma}
    command = [sys.executable, __file__, "--one", json.dumps(vars(told) | own, default=str)]
    env = os.environ | {"OMP_NUM_THREADS": str(told.threads), "MKL_NUM_THREADS": str(told.threads)}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(told: argparse.Namespace) -> pd.DataFrame:
    """Every part, both ways, the fastest of the rounds."""
    rows = []
    parts = [("input", 1.0), ("input", 0.0), ("network", 0.0), ("training", 1.0)]
    for part, sigma in parts:
        rounds = {way: [run(told, part, way, sigma) for _ in range(told.repeats)] for way in ("plain", "ours")}
        plain, ours = (
            {key: min(facts[key] for facts in rounds[way]) for key in rounds[way][0]} for way in ("plain", "ours")
        )
        name = {"input": "input, blurred" if sigma else "input, not blurred"}.get(part, part)
        rows.append(
            {
                "part": name,
                "plain s": plain["seconds"],
                "ours s": ours["seconds"],
                "ratio": plain["seconds"] / ours["seconds"],
                "plain cpu s": plain["cpu"],
                "ours cpu s": ours["cpu"],
                "cpu ratio": plain["cpu"] / ours["cpu"],
                "plain MiB": plain["peak_mib"],
                "ours MiB": ours["peak_mib"],
                **{key: ours[key] for key in ("matrix share", "idle") if key in ours},
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=1)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    parser.add_argument("--no-first-pool", dest="first_pool", action="store_false")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--scans", type=int, default=8)
    parser.add_argument(
        "--brains", action="store_true", help="brain-extracted scans, whose files compress better, instead of heads"
    )
    parser.add_argument(
        "--dtype", default="float64", help="of the plain loop's arithmetic; float64 is what get_fdata gives"
    )
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warm-up", type=int, default=4, help="steps before the clock starts: memory comes warm")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--matrix", type=int, default=8192, help="side of the matrices whose product is the measure")
    parser.add_argument("--compile", action="store_true", help="compile our network (always on a GPU)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure and print the table."""
    told = arguments().parse_args()
    if told.one:
        told = argparse.Namespace(**json.loads(told.one))
        told.folder = Path(told.folder)
        torch.set_num_threads(told.threads)
        print(json.dumps(measure(told)))
        return
    told.compile = told.compile or told.device != "cpu"
    with tempfile.TemporaryDirectory() as folder:
        told.folder, told.sigma, told.way = Path(folder), 1.0, "ours"
        write_scans(told.folder, told.scans, tuple(told.shape), whole_head=not told.brains)
        worst = largest_difference(told)
        print(
            f"{told.threads} threads, no workers, {told.device}, torch {torch.__version__}; per scan, fastest of rounds"
        )
        print(
            f"largest difference to the plain loop's views {worst['files']:.2g}, of which rounding to uint8 allows "
            f"{worst['allowed']:.2g}; from the same rounded values {worst['packed']:.2g}"
        )
        print(table(told).to_string(index=False, float_format="{:.4g}".format))
    print(f"asked for: {LIMITS}")


if __name__ == "__main__":
    main()
