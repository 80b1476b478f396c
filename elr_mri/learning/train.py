"""Train one model of a study: the loop, on one screen.

Selection looks at validation only: `select: best` keeps the epoch of the lowest validation cross-entropy (the
first of equals), `last` the last epoch. Neither looks at the training loss, which ELR drives below zero, nor at the
test scans.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.learning import recipe
from elr_mri.learning.card import write_card
from elr_mri.learning.checkpoint import GRID_KEYS, Model, save_model, save_tensors
from elr_mri.learning.dataset import ScanSet, draw_epoch, look, read_scan_set
from elr_mri.learning.elr import EarlyLearningTargets, elr_loss
from elr_mri.learning.predict import scan_logits
from elr_mri.learning.resume import load_state, save_state
from elr_mri.provenance import atomic, digest_json, record
from elr_mri.scans.table import CLASSES
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["train"]


def train(
    cache_dir: Path | str,
    scans_path: Path | str,
    splits_path: Path | str,
    settings: config.Train,
    *,
    slug: str,
    seed: int,
    out_dir: Path | str,
    restart_if_changed: bool = False,
    synthetic: bool = False,
    progress: Callable[[str], None] = print,
) -> None:
    """Train `settings.models[slug]` and write its model folder.

    Killed at any moment, the same call continues after the last whole epoch and ends with the same weights, on
    a CPU to the bit. State of another run in `out_dir` is refused, or overwritten where `restart_if_changed`.

    Parameters
    ----------
    cache_dir, scans_path, splits_path : paths
        The packed cache, scans.tsv and splits.tsv.
    slug : str
        Key of the model in `settings.models`.
    out_dir : path
        Receives model.safetensors, model.json, model.md, history.tsv and state/.
    synthetic : bool
        Whether the scans are phantoms; `model.json` says so, and whatever is predicted with the model.
    progress : callable
        Receives one line per epoch.
    """
    settings = settings.of(slug)
    run = _prepare(read_scan_set(cache_dir, scans_path, splits_path), settings, slug=slug, seed=seed)
    out_dir, scans, model = Path(out_dir), run.train, run.model
    state, best = out_dir / "state" / "resume.safetensors", out_dir / "state" / "best.safetensors"
    fingerprint = _fingerprint(run, settings, slug=slug, seed=seed)
    parts = {"model": model, "targets": run.targets, "optimizer": run.optimizer}
    history = load_state(state, fingerprint=fingerprint, restart_if_changed=restart_if_changed, **parts)

    for epoch in range(len(history), settings.epochs):
        started, tally = time.perf_counter(), []
        torch.manual_seed(seed * 100_003 + epoch)  # dropout
        model.train()
        for places, views in draw_epoch(len(scans), run.shape, seed=seed, epoch=epoch, **run.drawing):
            rate = recipe.learning_rate(run.step(epoch, len(tally)), settings.epochs * run.n_batches, settings)
            for group in run.optimizer.param_groups:
                group["lr"] = rate
            rows = torch.from_numpy(places)
            labels, ages = scans.labels[rows].to(run.device), scans.ages_years[rows].to(run.device)
            volumes = look(model.standardise(scans.read(places).to(run.device)), views, model.crop)
            with torch.autocast(run.device.type, run.dtype, enabled=run.dtype != torch.float32):
                logits = model.network(volumes, ages).float()
            loss = elr_loss(logits, labels, rows.to(run.device), run.targets, run.elr_weight)
            run.optimizer.zero_grad()
            loss.backward()
            run.optimizer.step()
            tally.append(_batch_facts(loss, logits, labels))
        line = {"epoch": epoch + 1, "learning_rate": rate, **_mean(tally), **_validate(run)}
        line["seconds"] = round(time.perf_counter() - started, 2)
        if not math.isfinite(line["train_loss"]):
            raise BadInput(
                expected="a finite training loss",
                got=f"{line['train_loss']} in epoch {epoch + 1}",
                where=slug,
                fix="Lower train.learning_rate; the state of the epoch before is kept.",
            )
        history.append(line)
        if chosen(history, settings.select) == len(history) - 1:
            save_tensors(best, model.state_dict())
        save_state(state, fingerprint=fingerprint, history=history, **parts)
        progress(_told(slug, line, settings.epochs))

    model.load_state_dict(load_file(best))
    _write(out_dir, run, history, settings, fingerprint, synthetic=synthetic)


@dataclass
class Run:
    """What the loop works on: the model and its training and validation scans."""

    model: Model
    optimizer: torch.optim.Optimizer
    targets: EarlyLearningTargets
    elr_weight: float
    train: ScanSet
    val: ScanSet
    network: dict[str, Any]
    drawing: dict[str, Any]
    device: torch.device
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """(X, Y, Z) of the packed grid."""
        return self.train.row_shape[-3:]

    @property
    def n_batches(self) -> int:
        """Batches per epoch."""
        return math.ceil(len(self.train) / self.drawing["batch_size"])

    def step(self, epoch: int, batch: int) -> int:
        """Number of the optimizer step, from 0."""
        return epoch * self.n_batches + batch


def _prepare(scans: ScanSet, settings: config.Train, *, slug: str, seed: int) -> Run:
    """Build the network with the run's seed, fit the preprocessing on the training scans, move to the device."""
    parts = {split: scans.of(split) for split in ("train", "val")}
    for split, part in parts.items():
        absent = [c for c in CLASSES if c not in set(part.table["diagnosis"])]
        if absent and (split == "train" or len(part) == 0):
            raise BadInput(
                expected=f"{split} scans of every class" if len(part) else f"{split} scans",
                got=f"no {absent[0]}",
                where="splits.tsv",
                fix="Split again with more subjects; see pack/status.tsv for scans that failed.",
            )
    chosen_model = settings.models[slug]
    network = {
        "name": chosen_model.network,
        "n_classes": len(CLASSES),
        "width": chosen_model.width,
        "norm": chosen_model.norm,
        "age": chosen_model.age,
        "crop": settings.crop,
        "first_pool": chosen_model.first_pool,
        "channels": len(scans.meta["channels"]),
    }
    on = recipe.device(settings.device)
    torch.use_deterministic_algorithms(True, warn_only=on.type != "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs a third of a step
    torch.manual_seed(seed)
    model = Model(network, settings.standardise, scans.row_shape)
    model.standardise.fit(parts["train"])
    model.to(on)
    elr = chosen_model.elr
    targets = EarlyLearningTargets(len(parts["train"]), len(CLASSES), elr.beta if elr else 0.0).to(on)
    drawing = {
        "batch_size": settings.batch_size,
        "crop": settings.crop,
        "shift_max": settings.shift_max,
        "blur_sigma_max": settings.blur_sigma_max,
    }
    return Run(
        model,
        recipe.optimizer(model.network, settings, chosen_model),
        targets,
        elr.weight if elr else 0.0,
        parts["train"],
        parts["val"],
        network,
        drawing,
        on,
        recipe.precision(settings.precision, on),
    )


def _fingerprint(run: Run, settings: config.Train, *, slug: str, seed: int) -> dict[str, Any]:
    """What must be the same for a state to be continued: of the cache what the scans' rows hold, not where they stand."""
    keep = ["scan_id", "sha256", "label", "age_years"]
    plain = settings.model_dump(mode="json", exclude={"models", "device"})
    content = {
        "version": VERSION,
        "slug": slug,
        "seed": seed,
        "model": settings.models[slug].model_dump(mode="json"),
        "settings": plain,
        "precision": str(run.dtype),
        "data": {"cache_meta": digest_json(run.train.meta)},
    }
    for name, part in (("train_scans", run.train), ("val_scans", run.val)):
        content["data"][name] = digest_json(part.table[keep].to_dict("records"))
    return json.loads(json.dumps(content))


def _batch_facts(loss: Tensor, logits: Tensor, labels: Tensor) -> tuple[int, float, float, float]:
    """Scans, loss, cross-entropy and accuracy of a batch."""
    with torch.no_grad():
        entropy = functional.cross_entropy(logits, labels).item()
        return len(labels), loss.item(), entropy, (logits.argmax(dim=1) == labels).float().mean().item()


def _mean(tally: list[tuple[int, float, float, float]]) -> dict[str, float]:
    """Means over the epoch's scans, each at the step that it was trained on."""
    counts, *facts = np.array(tally).T
    names = ("train_loss", "train_ce", "train_accuracy")
    return {name: float(np.average(values, weights=counts)) for name, values in zip(names, facts, strict=True)}


def _validate(run: Run) -> dict[str, float]:
    """Cross-entropy (nats), accuracy and balanced accuracy of the validation scans' central crops, by given labels."""
    logits = scan_logits(run.model, run.val, batch_size=2 * run.drawing["batch_size"], dtype=run.dtype)
    labels, guesses = run.val.labels, logits.argmax(dim=1)
    recalls = [(guesses[labels == c] == c).float().mean().item() for c in labels.unique()]
    return {
        "val_ce": functional.cross_entropy(logits, labels).item(),
        "val_accuracy": (guesses == labels).float().mean().item(),
        "val_balanced_accuracy": float(np.mean(recalls)),
    }


def chosen(history: list[dict[str, Any]], select: str) -> int:
    """Index of the epoch whose weights are kept."""
    return len(history) - 1 if select == "last" else int(np.argmin([line["val_ce"] for line in history]))


def _told(slug: str, line: dict[str, Any], epochs: int) -> str:
    """One progress line."""
    return (
        f"{slug}  epoch {line['epoch']}/{epochs}  loss {line['train_loss']:.3f}  ce {line['train_ce']:.3f}  "
        f"val ce {line['val_ce']:.3f}  val balanced accuracy {line['val_balanced_accuracy']:.2f}  "
        f"{line['seconds']:.0f} s  left {(epochs - line['epoch']) * line['seconds']:.0f} s"
    )


def _write(
    out_dir: Path,
    run: Run,
    history: list[dict[str, Any]],
    settings: config.Train,
    fingerprint: dict[str, Any],
    *,
    synthetic: bool,
) -> None:
    """The model folder's files and their provenance."""
    with atomic(out_dir / "history.tsv") as draft:
        pd.DataFrame(history).to_csv(draft, sep="\t", index=False, lineterminator="\n")
    kept, table, meta = history[chosen(history, settings.select)], run.train.table, run.train.meta
    facts = {
        "slug": fingerprint["slug"],
        "seed": fingerprint["seed"],
        "network": run.network,
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
        "settings": fingerprint["settings"],
        "model": fingerprint["model"],
        "data": fingerprint["data"],
    }
    save_model(out_dir, run.model, facts)
    write_card(out_dir)
    record(out_dir / "model.safetensors", step="train", version=VERSION, inputs=fingerprint["data"], settings=settings)
