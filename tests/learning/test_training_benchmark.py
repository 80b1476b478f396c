"""The benchmark of training runs, its GPU path too, on a tiny network without a GPU."""

import importlib.util
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))  # the benchmarks are scripts that stand side by side
spec = importlib.util.spec_from_file_location("training_benchmark", ROOT / "benchmarks" / "training.py")
training = importlib.util.module_from_spec(spec)
spec.loader.exec_module(training)

TINY = [
    "--crop",
    "35",
    "--shape",
    "38",
    "40",
    "37",
    "--no-first-pool",
    "--batch",
    "2",
    "--scans",
    "3",
    "--steps",
    "1",
    "--warm-up",
    "1",
    "--matrix",
    "64",
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    told = training.arguments().parse_args(TINY)
    told.folder, told.sigma = tmp_path_factory.mktemp("scans"), 1.0
    training.write_scans(told.folder, told.scans, tuple(told.shape), whole_head=False)
    return told


@pytest.mark.parametrize("sigma", [1.0, 0.0])
def test_both_ways_see_the_same_up_to_the_rounding_of_the_cache(told: Namespace, sigma: float) -> None:
    worst = training.largest_difference(Namespace(**vars(told) | {"sigma": sigma, "way": "ours"}))
    assert 0 < worst["files"] < worst["allowed"] < 0.01 and worst["packed"] < 1e-6


@pytest.mark.parametrize("way", ["plain", "ours"])
@pytest.mark.parametrize("part", ["input", "network", "training"])
def test_every_part_is_measured(told: Namespace, part: str, way: str) -> None:
    facts = training.measure(Namespace(**vars(told) | {"part": part, "way": way}))
    assert facts["seconds"] > 0 and facts["peak_mib"] > 0


def test_the_gpu_path_runs_with_its_throughput_and_idle_share(told: Namespace) -> None:
    """`cpu:0` is a CPU that is treated as a GPU: bfloat16, channels last, profile."""
    own = {"part": "training", "way": "ours", "device": "cpu:0"}
    facts = training.measure(Namespace(**vars(told) | own))
    assert facts["matrix share"] > 0 and 0 <= facts["idle"] < 1


def test_both_networks_are_the_same_function(told: Namespace) -> None:
    torch.manual_seed(0)
    net = training.build("wide", width=1, age="none", crop=35, first_pool=False).eval()
    volumes = torch.randn(1, 1, 35, 35, 35)
    torch.testing.assert_close(training.PlainNet(net)(volumes), net(volumes), atol=1e-4, rtol=1e-4)


def test_idle_time_is_what_no_span_covers() -> None:
    assert training.idle([(0, 4), (1, 2), (3, 6), (8, 10)]) == pytest.approx(0.2)


def test_the_published_step_costs_594_gflop(told: Namespace) -> None:
    full = Namespace(width=8, crop=96, first_pool=True)
    assert training.flop(full) / 1e9 == pytest.approx(594, rel=0.01)
