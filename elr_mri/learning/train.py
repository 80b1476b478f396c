"""Train one model of a study: the loop, on one screen.

Selection looks at validation only: `select: best` keeps the epoch of the lowest validation cross-entropy (the
first of equals), `last` the last epoch. Neither looks at the training loss, which ELR drives below zero, nor at the
test scans.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn import functional

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.learning import recipe
from elr_mri.learning.card import write_card
from elr_mri.learning.checkpoint import GRID_KEYS, save_model, save_tensors
from elr_mri.learning.dataset import read_scan_set
from elr_mri.learning.distributed import team
from elr_mri.learning.dropout import divide_dropout
from elr_mri.learning.networks import n_parameters
from elr_mri.learning.predict import scan_logits
from elr_mri.learning.progress import Progress
from elr_mri.learning.resume import Begun, load_state, save_state
from elr_mri.learning.run import Run, fingerprint, prepare
from elr_mri.learning.slots import slot
from elr_mri.learning.trajectory import write_trajectory
from elr_mri.learning.twins import each
from elr_mri.provenance import alone, record
from elr_mri.scans.table import CLASSES
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["train"]

#: A mean cross-entropy of so many times that of guessing means that a run has diverged.
DIVERGED = 20.0

#: So many steps pass between two looks for divergence: a look makes a GPU wait.
LOOK_EVERY = 20

#: Where in a model folder the training state and the weights of the chosen epoch lie.
STATE = Path("state", "resume.safetensors")


def train(
    cache_dir: Path | str,
    scans_path: Path | str,
    splits_path: Path | str,
    settings: config.Train,
    *,
    slug: str,
    seed: int,
    out_dir: Path | str,
    labels_path: Path | str | None = None,
    restart_if_changed: bool = False,
    synthetic: bool = False,
    progress: Callable[[str], None] = print,
) -> None:
    """Train `settings.models[slug]` and write its model folder.

    Killed at any moment, the same call continues after the last saved step and ends with the same weights, on
    a CPU to the bit. State of another run in `out_dir` is refused, or overwritten where `restart_if_changed`.
    Under `torchrun` several processes train the one model, each on its share of every batch.

    Parameters
    ----------
    cache_dir, scans_path, splits_path : paths
        The packed cache, scans.tsv and splits.tsv.
    slug : str
        Key of the model in `settings.models`.
    out_dir : path
        Receives model.safetensors, model.json, model.md (the card), history.tsv, targets.tsv (what the model came to think of each training
        scan), trajectory.npy (what it said in every epoch; whose voice that is: `Objective.voice`), events/ (for TensorBoard) and state/.
    labels_path : path or None
        Diagnoses in place of the scan table's, for training and validation (`elr_mri.scans.labels.LABELS`).
    synthetic : bool
        Whether the scans are phantoms; `model.json` says so, and whatever is predicted with the model.
    progress : callable
        Receives the lines that tell how it goes.
    """
    settings, out_dir = settings.of(slug), Path(out_dir)
    scans = read_scan_set(cache_dir, scans_path, splits_path, labels_path)
    with (
        team(settings.device) as here,
        alone(out_dir / "model.safetensors") if here.leads else nullcontext(),
        slot(settings.device, here, tell=progress) as device,
    ):
        run = prepare(scans, settings, recipe.device(device), here, slug=slug, seed=seed)
        mark = fingerprint(run, settings, slug=slug, seed=seed, labels_path=labels_path)
        told = Progress(out_dir, slug, settings.epochs, len(run.train), progress if here.leads else None)
        with closing(told) as tell:
            tell.say(f"{slug}  {run.described()}")
            history = _fit(run, settings, mark, out_dir, tell, restart_if_changed=restart_if_changed)
        if here.leads:
            told.table(history)
            _take_best(run, best(out_dir, chosen(history, settings.select)))
            write_trajectory(out_dir, run.train.table, run.trajectory.said[: len(history)], run.objective.estimates())
            _write(out_dir, run, history, settings, mark, synthetic=synthetic)


def _fit(
    run: Run, settings: config.Train, mark: dict[str, Any], out_dir: Path, tell: Progress, *, restart_if_changed: bool
) -> list[dict[str, Any]]:
    """The loop: forward, loss, backward, step, validate, save. Returns the history, one line per epoch."""
    here, seed, n_batches = run.team, mark["seed"], len(run.feed)
    path, parts = out_dir / STATE, {"fingerprint": mark, **run.state}
    history, begun = load_state(path, restart_if_changed=restart_if_changed, tell=tell.say, **parts)
    here.check_same([len(history), begun.batches], path)
    while len(history) < settings.epochs and not stopped(history, settings.patience):
        epoch, started, saved = len(history), time.perf_counter() - begun.seconds, time.perf_counter()
        run.model.train()
        batches = run.feed.epoch(seed=seed, epoch=epoch, start=begun.batches, rank=here.rank, world=here.size)
        for number, batch in enumerate(batches, begun.batches):
            rate = recipe.learning_rate(epoch * n_batches + number, settings.epochs * n_batches, settings)
            rows = here.gather(batch.rows, batch.n_scans)
            torch.manual_seed(recipe.step_seed(seed, epoch, number))  # dropout
            divide_dropout(run.model.network, here.share(batch.n_scans), batch.n_scans)
            mixtures = run.objective.mixtures(len(batch.rows), recipe.step_seed(seed, epoch, number))
            with torch.autocast(run.device.type, run.dtype, enabled=run.dtype != torch.float32):
                logits = each(run.forward, batch.volumes, batch.ages, mixtures=mixtures)
                seen = here.gather(run.objective.unmixed(logits, batch.volumes, batch.ages), batch.n_scans).float()
            said = run.objective.voice(here.gather(logits, batch.n_scans), seen)
            run.objective.observe(rows, seen)
            loss = run.objective(logits, batch.rows, epoch * n_batches + number, mixtures)
            run.optimizer.zero_grad()
            (loss * (len(logits) * here.size / batch.n_scans)).backward()  # the processes' gradients are averaged
            run.step(rate)
            run.objective.settle(rows, seen, run.model.network)
            run.trajectory.add(epoch, rows, said)
            run.tally.add(said, run.objective.labels[rows], here.mean(loss, len(logits), batch.n_scans))
            if number % LOOK_EVERY == 0:
                _refuse_divergence(run, epoch, path)
            if time.perf_counter() - saved > 60 * settings.save_minutes and number + 1 < n_batches and here.leads:
                _refuse_divergence(run, epoch, path, weights_too=True)
                saved = time.perf_counter()
                save_state(path, history=history, begun=Begun(number + 1, saved - started), **parts)
            tell.batch(epoch, time.perf_counter() - started, run.tally)
        _refuse_divergence(run, epoch, path, weights_too=True)
        line = {"epoch": epoch + 1, "learning_rate": rate, **run.tally.means(), **_validate(run)}
        history.append(line | {"seconds": round(time.perf_counter() - started, 2)})
        run.tally.sums.zero_()
        begun = Begun()
        if here.leads:
            kept = best(out_dir, chosen(history, settings.select))
            if kept == best(out_dir, epoch):
                save_tensors(kept, run.kept.state_dict())
            save_state(path, history=history, begun=begun, **parts)
            for older in {*kept.parent.glob("best-*.safetensors")} - {kept}:
                older.unlink()
            tell.epoch(history)
    return history


def best(out_dir: Path, epoch: int) -> Path:
    """Where the weights of the chosen epoch, an index, lie. Its number is in the name: killed before the state is written, the epoch is trained again, on a GPU to other bits, and may then not be chosen."""
    return out_dir / "state" / f"best-{epoch + 1}.safetensors"


def _take_best(run: Run, path: Path) -> None:
    """The weights of the chosen epoch, as they lie on disk."""
    try:
        run.kept.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as problem:
        raise BadInput(
            expected="the weights of the chosen epoch",
            got=str(problem).splitlines()[0],
            where=str(path),
            fix=f"Delete {path.parent} to train anew.",
        ) from problem


def _refuse_divergence(run: Run, epoch: int, path: Path, *, weights_too: bool = False) -> None:
    """Stop a run whose loss is no number, or far above that of guessing; the last state on disk is from before.

    `weights_too`, before a state is written: the loss is of before the last step.
    """
    told = run.tally.means()
    sound = not weights_too or all(
        bool(torch.isfinite(weights).all()) for model in {run.model, run.kept} for weights in model.parameters()
    )
    if not (sound and math.isfinite(told["train_loss"]) and told["train_ce"] <= DIVERGED * math.log(len(CLASSES))):
        raise BadInput(
            expected="a training loss that stays finite and near or below that of guessing",
            got=f"loss {told['train_loss']:.4g}, cross-entropy {told['train_ce']:.4g}{'' if sound else ', weights that are no numbers'} in epoch {epoch + 1}",
            where=f"{path.parents[1]}",
            fix=f"Lower train.learning_rate or set train.clip_norm; the last good state is kept in {path.name}.",
        )


def _validate(run: Run) -> dict[str, float]:
    """Cross-entropy (nats), accuracy and balanced accuracy of the validation scans' central crops, by given labels."""
    mine = run.val.part(run.team.share(len(run.val)))
    own = scan_logits(run.kept, mine, batch_size=2 * run.feed.batch_size, dtype=run.dtype)
    logits, labels = run.team.gather(own.to(run.device), len(run.val)).cpu(), run.val.labels
    guesses = logits.argmax(dim=1)
    recalls = [(guesses[labels == c] == c).float().mean().item() for c in labels.unique()]
    return {
        "val_ce": functional.cross_entropy(logits, labels).item(),
        "val_accuracy": (guesses == labels).float().mean().item(),
        "val_balanced_accuracy": float(np.mean(recalls)),
    }


def chosen(history: list[dict[str, Any]], select: str) -> int:
    """Index of the epoch whose weights are kept."""
    return len(history) - 1 if select == "last" else int(np.argmin([line["val_ce"] for line in history]))


def stopped(history: list[dict[str, Any]], patience: int | None) -> bool:
    """Whether `patience` epochs have passed without a lower validation cross-entropy."""
    return patience is not None and bool(history) and len(history) - 1 - chosen(history, "best") >= patience


def _write(
    out_dir: Path,
    run: Run,
    history: list[dict[str, Any]],
    settings: config.Train,
    mark: dict[str, Any],
    *,
    synthetic: bool,
) -> None:
    """The model folder's files and their provenance."""
    kept, table, meta = history[chosen(history, settings.select)], run.train.table, run.train.meta
    facts = {
        "slug": mark["slug"],
        "seed": mark["seed"],
        "network": run.network,
        "n_parameters": n_parameters(run.model.network),
        "preprocessing": {
            "standardise": settings.standardise,
            **{key: meta.get(key) for key in (*GRID_KEYS, "spacing_mm", "dtype", "settings")},
        },
        "trained_on": {
            "synthetic": synthetic,
            "cohorts": sorted(table["cohort"].unique()),
            "n_scans": len(table),
            "n_subjects": int(table["subject_id"].nunique()),
            "scans_per_class": {c: int((table["diagnosis"] == c).sum()) for c in CLASSES},
            "age_years": [float(table["age_years"].min()), float(table["age_years"].max())],
        },
        "selected": {
            "rule": settings.select,
            "epoch": kept["epoch"],
            **{k: v for k, v in kept.items() if k.startswith("val_")},
        },
        "settings": mark["settings"],
        "model": mark["model"],
        "data": mark["data"],
    }
    save_model(out_dir, run.kept, facts)
    write_card(out_dir)
    record(out_dir / "model.safetensors", step="train", version=VERSION, inputs=mark["data"], settings=settings)
