"""Two processes train what one does; models that train side by side take different GPUs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from toy_study import Study

from elr_mri.config import METHODS, Model, Train, parse
from elr_mri.errors import BadInput
from elr_mri.learning.distributed import Team
from elr_mri.learning.networks import build
from elr_mri.learning.slots import slot, slots
from elr_mri.learning.trajectory import read_trajectory


def command(study: Study, settings: Train, out: Path, slug: str = "wide-age-elr") -> list[str]:
    cache, scans, splits = map(str, study.paths)
    options = ["--packed", cache, "--scans", scans, "--splits", splits, "--model", slug, "--output", str(out)]
    return [sys.executable, "-m", "elr_mri", "train", *options, "--config", settings.model_dump_json()]


def environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("recipe", ["default", "reference"])
def test_two_processes_give_the_history_of_one(study: Study, settings: Train, tmp_path: Path, recipe: str) -> None:
    """21 float32 steps with everything on: ELR targets of scans that move between processes, dropout, weighted classes."""
    shared = {"models": settings.models, "epochs": 7, "crop": 35, "shift_max": 1, "device": "cpu"}
    more = {"ema": 0.9, "clip_norm": 1.0, "class_weights": "balanced"} if recipe == "default" else {}
    full = parse(Train, {"recipe": recipe, "precision": "float32", **shared, **more}, where="test")
    for n, name in ((1, "one"), (2, "two")):
        run = [*command(study, full, tmp_path / name), f"--processes={n}"]
        told = subprocess.run(run, env=environment(), check=True, capture_output=True, text=True).stdout
        assert ("2 processes" in told) == (n == 2) and told.count("epoch 7/7") == 1
    one, two = (pd.read_csv(tmp_path / n / "history.tsv", sep="\t").drop(columns="seconds") for n in ("one", "two"))
    assert len(one) == 7
    if (
        recipe == "reference"
    ):  # on nine scans of noise its rounding grows tenfold an epoch; six steps show that the gradients are right
        np.testing.assert_allclose(two[:2], one[:2], atol=1e-5, rtol=1e-5)
        return
    np.testing.assert_allclose(two, one, atol=1e-5, rtol=1e-5)
    states = [load_file(tmp_path / n / "state" / "resume.safetensors") for n in ("one", "two")]
    torch.testing.assert_close(
        states[1]["objective.targets.0.targets"], states[0]["objective.targets.0.targets"], atol=1e-5, rtol=0
    )
    assert states[0]["objective.targets.0.targets"].sum(dim=1).min() > 0.9


@pytest.mark.parametrize("method", ["elr-weights", "sop", pytest.param("elr-networks", marks=pytest.mark.slow)])
def test_every_loss_says_the_same_over_two_processes(
    study: Study, settings: Train, tmp_path: Path, method: str
) -> None:
    """Targets of averaged weights and of another network, u and v: of scans that move between the processes."""
    own = Model(network="wide", width=1, age="sinusoid", first_pool=False, **METHODS[method].model_dump())
    few = settings.model_copy(update={"models": {method: own}, "epochs": 3, "ema": 0.9})
    for n in (1, 2):
        run = [*command(study, few, tmp_path / str(n), method), f"--processes={n}"]
        subprocess.run(run, env=environment(), check=True, capture_output=True)
    one, two = (pd.read_csv(tmp_path / n / "history.tsv", sep="\t").drop(columns="seconds") for n in ("1", "2"))
    np.testing.assert_allclose(two, one, atol=1e-5, rtol=1e-5)
    (targets, said), (others, theirs) = (read_trajectory(tmp_path / n) for n in ("1", "2"))
    np.testing.assert_allclose(theirs, said, atol=1e-5)
    columns = ["t_cn", "t_mci", "t_ad"]
    np.testing.assert_allclose(others[columns], targets[columns], atol=1e-5)
    assert said.min() > 0
    states = [load_file(tmp_path / n / "state" / "resume.safetensors") for n in ("1", "2")]
    for key in states[0]:
        if key.startswith("objective.sop"):  # near zero; what counts is how far they have grown
            torch.testing.assert_close(states[1][key], states[0][key], atol=1e-12, rtol=1e-3)


def test_mixing_the_scans_of_a_batch_over_processes_is_refused(study: Study, settings: Train, tmp_path: Path) -> None:
    own = Model(network="wide", width=1, age="sinusoid", first_pool=False, **METHODS["elr-plus"].model_dump())
    run = command(study, settings.model_copy(update={"models": {"plus": own}}), tmp_path / "out", "plus")
    told = subprocess.run([*run, "--processes=2"], env=environment(), capture_output=True, text=True)
    assert told.returncode == 2 and told.stderr.count("\n") == 1
    assert "expected one process, where scans of a batch are mixed, got mixup 1.0 in 2 processes" in told.stderr


def test_four_processes_of_three_validation_scans(study: Study, settings: Train, tmp_path: Path) -> None:
    """One of them has nothing to validate."""
    one = settings.model_copy(update={"epochs": 1, "batch_size": 9})
    told = {}
    for n in (1, 4):
        run = [*command(study, one, tmp_path / str(n)), f"--processes={n}"]
        subprocess.run(run, env=environment(), check=True)
        told[n] = pd.read_csv(tmp_path / str(n) / "history.tsv", sep="\t").drop(columns="seconds")
    np.testing.assert_allclose(told[4], told[1], atol=1e-5, rtol=1e-5)


def test_bad_input_of_several_processes_is_told_in_one_line(study: Study, settings: Train, tmp_path: Path) -> None:
    one = settings.model_copy(update={"epochs": 1, "batch_size": 1})
    run = [*command(study, one, tmp_path / "out"), "--processes=2"]
    told = subprocess.run(run, env=environment(), capture_output=True, text=True)
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1 and told.stderr.startswith("elr-mri: ") and "batch" in told.stderr


@pytest.mark.parametrize("draw", [0, *(pytest.param(draw, marks=pytest.mark.slow) for draw in range(1, 6))])
def test_a_process_killed_at_any_moment_continues_to_the_same_bits(
    study: Study, settings: Train, tmp_path: Path, draw: int
) -> None:
    """SIGKILL, not an exception: nothing is cleaned up."""
    full = settings.model_copy(update={"epochs": 3, "save_minutes": 0.0})
    subprocess.run(command(study, full, tmp_path / "whole"), env=environment(), check=True)
    rng, killed = np.random.default_rng(draw), tmp_path / "killed"
    for n_saved in sorted(rng.choice(np.arange(1, 9), 2, replace=False)):
        process = subprocess.Popen(command(study, full, killed), env=environment())
        _wait_for_steps(killed / "state" / "resume.safetensors", n_saved, process)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command(study, full, killed), env=environment(), check=True)
    for name in ("model.safetensors", "state/resume.safetensors"):
        first, second = load_file(tmp_path / "whole" / name), load_file(killed / name)
        assert all(torch.equal(first[key], second[key]) for key in first), name
    assert (tmp_path / "whole" / "model.json").read_bytes() == (killed / "model.json").read_bytes()


def _wait_for_steps(state: Path, n_steps: int, process: subprocess.Popen) -> None:
    """Until the state on disk is of at least so many steps (three an epoch)."""
    from safetensors import safe_open

    while process.poll() is None:
        if state.is_file():
            with safe_open(state, "pt") as file:
                header = file.metadata()
            done = 3 * len(json.loads(header["history"])) + json.loads(header["begun"])["batches"]
            if done >= n_steps:
                return
        time.sleep(0.02)


def test_shares_of_a_batch_are_those_of_array_split() -> None:
    for n in (1, 4, 7):
        for size in (1, 2, 3):
            shares = [np.arange(n)[Team(rank, size).share(n)] for rank in range(size)]
            expected = np.array_split(np.arange(n), size)
            assert all(np.array_equal(a, b) for a, b in zip(shares, expected, strict=True))


def test_batch_norm_on_a_cpu_is_refused_over_processes() -> None:
    with pytest.raises(BadInput, match="batch norm"):
        Team(0, 2).whole(build("wide", width=1, norm="batch", crop=35, first_pool=False, age="none"))


def test_every_training_takes_a_gpu_of_its_own_and_gives_it_back(tmp_path: Path) -> None:
    options = {"names": lambda: ["GPU-a", "GPU-b"], "folder": tmp_path, "wait_s": 0.05}
    with slot("auto", **options) as one, slot("cuda", **options) as two:
        assert {one, two} == {"cuda:0", "cuda:1"}
    with slot("auto", **options) as again:
        assert again == "cuda:0"
    with slot("cpu", **options) as named, slot("cuda:1", **options) as chosen:
        assert (named, chosen) == ("cpu", "cuda:1")


def test_a_model_on_two_gpus_takes_both_or_waits(tmp_path: Path) -> None:
    names, told = ["GPU-a", "GPU-b", "GPU-c"], []
    options = {"names": lambda: names, "folder": tmp_path, "wait_s": 0.01}
    with slots("auto", 2, **options) as mine, slot("auto", **options) as other:
        assert mine == [0, 1] and other == "cuda:2"

    def tell(line: str) -> None:
        told.append(line)
        raise TimeoutError

    with (
        slot("auto", **options),
        slot("auto", **options),
        pytest.raises(TimeoutError),
        slots("auto", 2, **options, tell=tell),
    ):
        pass
    assert told == ["waiting for 2 of 3 GPUs to be free"]
    with slots("cuda", 3, **options) as mine:  # what was taken in vain was let go
        assert mine == [0, 1, 2]
    with pytest.raises(BadInput, match="at most 3 processes"), slots("auto", 4, **options):
        pass
    with slots("cpu", 4, **options) as mine:
        assert mine == []


def test_every_user_may_lock(tmp_path: Path) -> None:
    with slot("auto", names=lambda: ["GPU-a"], folder=tmp_path / "locks"):
        assert (tmp_path / "locks").stat().st_mode & 0o7777 == 0o1777


def _hold(folder: str, held, done) -> None:
    with slot("auto", names=lambda: ["GPU-a"], folder=Path(folder)):
        held.set()
        done.wait(60)


def test_a_training_waits_for_a_gpu_until_its_owner_dies(tmp_path: Path) -> None:
    context = get_context("spawn")
    held, done = context.Event(), context.Event()
    owner = context.Process(target=_hold, args=(str(tmp_path), held, done))
    owner.start()
    assert held.wait(60)
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        owner.kill()

    with slot("auto", names=lambda: ["GPU-a"], folder=tmp_path, wait_s=0.05, tell=tell) as device:
        assert device == "cuda:0" and told == ["waiting for 1 of 1 GPUs to be free"]
