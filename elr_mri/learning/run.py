"""What a training run works on, made ready: scans, network, optimizer, targets; and the fingerprint that tells it from any other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from elr_mri import config
from elr_mri.errors import BadInput
from elr_mri.learning import networks, recipe
from elr_mri.learning.averaging import weight_average
from elr_mri.learning.checkpoint import Model
from elr_mri.learning.dataset import ScanSet
from elr_mri.learning.distributed import Team
from elr_mri.learning.feed import Feed
from elr_mri.learning.objective import Objective
from elr_mri.learning.progress import Tally
from elr_mri.learning.trajectory import Trajectory
from elr_mri.provenance import digest_file, digest_json, versions
from elr_mri.scans.table import CLASSES
from elr_mri.stages import VERSIONS

#: Settings that say where and how fast a run goes, not what comes out.
ELSEWHERE = {"models", "device", "resident", "save_minutes"}


@dataclass
class Run:
    """What the loop works on: the model, its training state, and its training and validation scans.

    `forward` is the network as it is called in training: the same weights, perhaps compiled, perhaps with gradients
    averaged over processes. `averaged` holds averaged weights that are kept; `trajectory` records what was said
    of each training scan in each epoch.
    """

    model: Model
    forward: nn.Module
    averaged: AveragedModel | None
    optimizer: torch.optim.Optimizer
    objective: Objective
    tally: Tally
    trajectory: Trajectory
    train: ScanSet
    val: ScanSet
    feed: Feed
    clip_norm: float | None
    network: dict[str, Any]
    device: torch.device
    dtype: torch.dtype
    team: Team

    @property
    def kept(self) -> Model:
        """The model that is validated and kept: the average of the weights where one is made."""
        return self.averaged.module if self.averaged else self.model

    @property
    def state(self) -> dict[str, Any]:
        """Everything that a step changes."""
        names = ("model", "objective", "tally", "trajectory", "optimizer", "averaged")
        return {name: part for name in names if (part := getattr(self, name)) is not None}

    def described(self) -> str:
        """What is trained, on how many scans, and where."""
        weights, many = (
            networks.n_parameters(self.model.network),
            f", {self.team.size} processes" if self.team.size > 1 else "",
        )
        precision = str(self.dtype).removeprefix("torch.")
        return f"{weights:,} weights, {len(self.train)} training and {len(self.val)} validation scans, {self.device} in {precision}{many}"

    def step(self, rate: float) -> None:
        """One step of the optimizer, and of the average of the weights."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.network.parameters(), self.clip_norm)
        self.optimizer.step()
        if self.averaged:
            self.averaged.update_parameters(self.model)


def prepare(scans: ScanSet, settings: config.Train, on: torch.device, team: Team, *, slug: str, seed: int) -> Run:
    """Build the network with the run's seed, fit the preprocessing on the training scans, move to the device."""
    parts = {split: scans.of(split) for split in ("train", "val")}
    _check_classes(parts)
    chosen = settings.models[slug]
    network = networks.arguments(
        chosen, crop=settings.crop, n_classes=len(CLASSES), channels=len(scans.meta["channels"])
    )
    recipe.be_deterministic(settings.deterministic, on)
    torch.manual_seed(seed)
    model = Model(network, settings.standardise, scans.row_shape)
    model.standardise.fit(parts["train"])
    model.to(on)
    model.network = team.whole(recipe.place(model.network, on))
    elr, labels = chosen.elr, parts["train"].labels
    if elr and elr.mixup and team.size > 1:
        raise BadInput(
            expected="one process, where scans of a batch are mixed",
            got=f"mixup {elr.mixup} in {team.size} processes",
            where=f"train.models.{slug}.elr",
            fix="Leave out --processes, or set mixup to 0.",
        )
    weights = recipe.class_weights(labels, len(CLASSES), settings.class_weights)
    loss = chosen.model_copy(update={"label_smoothing": settings.label_smoothing})
    optimizer = recipe.optimizer(model.network, settings, chosen)
    return Run(
        model=model,
        forward=recipe.compiled(team.wrap(model.network), settings, on),
        averaged=None if settings.ema is None else weight_average(model, settings.ema),
        optimizer=optimizer,
        objective=Objective(labels, len(CLASSES), loss, model.network, class_weights=weights).to(on),
        tally=Tally().to(on),
        trajectory=Trajectory(settings.epochs, len(labels), len(CLASSES)).to(on),
        train=parts["train"],
        val=parts["val"],
        feed=Feed(
            parts["train"],
            model.standardise,
            batch_size=settings.batch_size,
            crop=settings.crop,
            shift_max=settings.shift_max,
            blur_sigma_max=settings.blur_sigma_max,
            augment=settings.augment,
            device=on,
            resident=settings.resident,
        ),
        clip_norm=settings.clip_norm,
        network=network,
        device=on,
        dtype=recipe.precision(settings.precision, on),
        team=team,
    )


def _check_classes(parts: dict[str, ScanSet]) -> None:
    """Refuse training without a class, or validation without scans."""
    for split, part in parts.items():
        absent = [c for c in CLASSES if c not in set(part.table["diagnosis"])]
        if absent and (split == "train" or len(part) == 0):
            raise BadInput(
                expected=f"{split} scans of every class" if len(part) else f"{split} scans",
                got=f"no {absent[0]}",
                where="splits.tsv",
                fix="Split again with more subjects; see pack/status.tsv for scans that failed.",
            )


def fingerprint(
    run: Run, settings: config.Train, *, slug: str, seed: int, labels_path: Path | str | None = None
) -> dict[str, Any]:
    """What must be the same for a state to be continued: of the cache what the scans' rows hold, not where they stand."""
    keep = ["scan_id", "sha256", "label", "age_years"]
    content = {
        "version": VERSIONS["train"],
        "versions": {name: told for name, told in versions().items() if name in ("elr_mri", "torch", "monai")},
        "slug": slug,
        "seed": seed,
        "model": settings.models[slug].model_dump(mode="json"),
        "settings": settings.model_dump(mode="json", exclude=ELSEWHERE),
        "precision": str(run.dtype),
        "data": {"cache_meta": digest_json(run.train.meta)},
    }
    for name, part in (("train_scans", run.train), ("val_scans", run.val)):
        content["data"][name] = digest_json(part.table[keep].to_dict("records"))
    if labels_path is not None:
        content["data"]["labels"] = digest_file(labels_path)
    return json.loads(json.dumps(content))
