"""What may be varied in training does what it says."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tensorboardX.proto.event_pb2 import Event
from torch.nn import functional
from toy_study import Study, write_study

from elr_mri.config import Train, parse
from elr_mri.errors import BadInput
from elr_mri.learning import recipe
from elr_mri.learning.averaging import weight_average
from elr_mri.learning.checkpoint import Model
from elr_mri.learning.dropout import Dropout, divide_dropout
from elr_mri.learning.elr import EarlyLearningTargets, regularized_loss
from elr_mri.learning.progress import clock
from elr_mri.learning.run import Run
from elr_mri.learning.train import stopped, train


def fit(study: Study, settings: Train, out: Path, lines: list[str] | None = None) -> pd.DataFrame:
    train(
        *study.paths, settings, slug="wide", seed=0, out_dir=out, progress=(lines if lines is not None else []).append
    )
    return pd.read_csv(out / "history.tsv", sep="\t")


def test_the_reference_recipe_is_that_of_the_released_code() -> None:
    """Facts: the released training script and its one published configuration."""
    found = parse(Train, {"recipe": "reference"}, where="test")
    assert (found.optimizer, found.learning_rate, found.momentum, found.weight_decay) == ("sgd", 0.01, 0, 0)
    assert (found.schedule, found.batch_size, found.crop, found.epochs) == ("constant", 4, 96, 200)
    assert (found.standardise, found.blur_sigma_max, found.shift_max, found.class_weights) == ("scan", 1, None, "none")
    assert parse(Train, {"recipe": "reference", "epochs": 3}, where="test").epochs == 3


def test_balanced_class_weights_average_one_over_the_scans() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    weights = recipe.class_weights(labels, 3, "balanced")
    assert weights[labels].mean() == pytest.approx(1)
    assert weights[2] / weights[0] == pytest.approx(6)
    assert recipe.class_weights(labels, 3, "none") is None


def test_the_loss_of_a_batch_is_the_mean_of_its_parts() -> None:
    """With class weights and smoothing: what lets several processes share a batch."""
    torch.manual_seed(0)
    logits, labels, rows = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 0, 1]), torch.arange(6)
    targets = EarlyLearningTargets(6, 3, 0.5)
    targets.update(rows, functional.softmax(logits, dim=1))
    options = {"class_weights": torch.tensor([0.5, 1, 3]), "label_smoothing": 0.1}
    whole = regularized_loss(logits, labels, rows, targets, 3.0, **options)
    parts = [regularized_loss(logits[p], labels[p], rows[p], targets, 3.0, **options) for p in (slice(2), slice(2, 6))]
    assert whole.item() == pytest.approx((2 * parts[0].item() + 4 * parts[1].item()) / 6, abs=1e-6)


@pytest.mark.parametrize("change", [{"label_smoothing": 0.3}, {"class_weights": "balanced"}])
def test_label_smoothing_and_class_weights_change_the_training(settings: Train, tmp_path: Path, change: dict) -> None:
    uneven, one = write_study(tmp_path, n_subjects=20), settings.model_copy(update={"epochs": 1})
    runs = {"plain": one, "changed": one.model_copy(update=change)}
    losses = [fit(uneven, options, tmp_path / name)["train_loss"].item() for name, options in runs.items()]
    assert abs(losses[0] - losses[1]) > 1e-4


def test_a_clipped_gradient_has_the_norm_asked_for(
    study: Study, settings: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms, step = [], torch.optim.AdamW.step

    def watch(self, *arguments, **options):
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(torch.stack([g.norm() for g in gradients]).norm().item())
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    fit(study, settings.model_copy(update={"epochs": 1, "clip_norm": 0.01}), tmp_path)
    assert norms and max(norms) <= 0.0101


def test_the_average_of_weights_follows_its_recursion() -> None:
    torch.manual_seed(0)
    network = {"name": "wide", "width": 1, "crop": 35, "first_pool": False, "age": "none"}
    model = Model(network, "scan", (35, 35, 35))
    averaged, weight = weight_average(model, 0.5), model.network.classifier[1].weight
    expected = weight.detach().clone()
    for n in range(4):
        with torch.no_grad():
            weight += 1
        averaged.update_parameters(model)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight.detach()
    torch.testing.assert_close(averaged.module.network.classifier[1].weight, expected)


def test_averaged_weights_are_the_ones_kept(study: Study, settings: Train, tmp_path: Path) -> None:
    fit(study, settings.model_copy(update={"epochs": 2, "ema": 0.99, "select": "last"}), tmp_path)
    state, kept = load_file(tmp_path / "state" / "resume.safetensors"), load_file(tmp_path / "model.safetensors")
    key = "network.classifier.1.weight"
    assert torch.equal(kept[key], state[f"averaged.module.{key}"])
    assert not torch.equal(kept[key], state[f"model.{key}"])


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [([3, 2, 1], 1, False), ([1, 2], 1, True), ([1, 2], 2, False), ([2, 1, 3, 1], 2, True), ([], 1, False)],
)
def test_early_stopping_waits_for_validation(losses: list[float], patience: int, expected: bool) -> None:
    assert stopped([{"val_ce": value} for value in losses], patience) == expected
    assert not stopped([{"val_ce": value} for value in losses], None)


def test_a_stopped_run_stays_stopped(study: Study, settings: Train, tmp_path: Path) -> None:
    hot = settings.model_copy(update={"epochs": 30, "patience": 1, "schedule": "constant", "learning_rate": 3e-3})
    n_epochs = len(fit(study, hot, tmp_path))
    assert n_epochs < 30
    assert len(fit(study, hot, tmp_path)) == n_epochs


@pytest.mark.parametrize("poisoned", [4, 6])  # the first and the last step of the second epoch
def test_divergence_stops_with_the_last_good_state(
    study: Study, settings: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poisoned: int
) -> None:
    step, done = Run.step, []

    def poisons(run: Run, rate: float) -> None:
        done.append(rate)
        step(run, rate)
        if len(done) == poisoned:
            with torch.no_grad():
                next(p for p in run.model.network.parameters() if p.requires_grad).fill_(float("nan"))

    monkeypatch.setattr(Run, "step", poisons)
    with pytest.raises(BadInput, match=r"stays finite.*no numbers in epoch 2.*Lower train\.learning_rate"):
        fit(study, settings, tmp_path)
    state = load_file(tmp_path / "state" / "resume.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    monkeypatch.setattr(Run, "step", step)
    assert len(fit(study, settings, tmp_path)) == 4


def test_an_exploding_loss_is_told(study: Study, settings: Train, tmp_path: Path) -> None:
    wild = settings.model_copy(update={"optimizer": "sgd", "learning_rate": 1e4, "schedule": "constant"})
    with pytest.raises(BadInput, match="near or below that of guessing"):
        fit(study, wild, tmp_path)


def test_progress_tells_pace_and_what_is_left_and_tensorboard_reads_the_events(
    study: Study, settings: Train, tmp_path: Path
) -> None:
    lines: list[str] = []
    history = fit(study, settings.model_copy(update={"epochs": 2}), tmp_path, lines)
    assert "9 training and 3 validation scans, cpu in float32" in lines[0]
    assert "epoch 1/2" in lines[1] and "scans/s" in lines[1] and "left" in lines[1]
    (file,) = (tmp_path / "events").iterdir()
    told = {(v.tag, event.step): v.simple_value for event in _events(file) for v in event.summary.value}
    for line in history.itertuples():
        assert told["val/ce", line.epoch] == pytest.approx(line.val_ce)
        assert told["train/loss", line.epoch] == pytest.approx(line.train_loss)


def _events(path: Path) -> list[Event]:
    """The records of a TensorBoard file: length (8 bytes), its checksum (4), the event, its checksum (4)."""
    content, events = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events


@pytest.mark.parametrize(
    ("seconds", "told"), [(42, "42 s"), (150, "2 min"), (4000, "1 h 07 min"), (3599, "1 h 00 min")]
)
def test_time_is_told_as_a_person_says_it(seconds: float, told: str) -> None:
    assert clock(seconds) == told


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer, features = Dropout(0.3), torch.ones(50, 400)
    dropped = layer(features)
    assert (dropped == 0).float().mean() == pytest.approx(0.3, abs=0.01) and dropped.mean() == pytest.approx(
        1, abs=0.01
    )
    assert torch.equal(layer.eval()(features), features)


def test_dropout_of_parts_is_that_of_the_whole() -> None:
    layer, features = Dropout(0.5), torch.randn(5, 8)
    torch.manual_seed(3)
    whole = layer(features)
    for part in (slice(0, 3), slice(3, 5)):
        divide_dropout(layer, part, 5)
        torch.manual_seed(3)
        assert torch.equal(layer(features[part]), whole[part])


def test_every_step_has_a_seed_of_its_own() -> None:
    seeds = [recipe.step_seed(seed, epoch, batch) for seed in range(3) for epoch in range(5) for batch in range(7)]
    assert len(set(seeds)) == len(seeds) and np.min(seeds) >= 0


def test_a_gpu_that_is_not_there_is_refused_when_it_is_to_be_used() -> None:
    n_gpus = torch.cuda.device_count()
    with pytest.raises(BadInput, match=f"cuda:{n_gpus}"):
        recipe.device(f"cuda:{n_gpus}")
    assert recipe.named_device(f"cuda:{n_gpus}").index == n_gpus
