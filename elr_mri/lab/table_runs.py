"""Train one small network on a table of ROI volumes; what it said is kept on disk, so that no finished run is made twice.

A run is one file under `runs/`, named after a digest of all that it
depends on, and appears there only when it is whole.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from elr_mri import provenance
from elr_mri.config import Candidate, Fit, Loss, Noise, Tables
from elr_mri.errors import BadInput
from elr_mri.lab.features import features
from elr_mri.lab.fit import fit
from elr_mri.lab.noise import wrong_labels
from elr_mri.lab.roi import RoiTable
from elr_mri.scans.table import CLASSES

#: Raise when a run's numbers change for the same input.
VERSION = 1
#: Splits whose labels may be wrong.
NOISY = ("train", "val")


@dataclass(frozen=True)
class Run:
    """What one network is trained with; `draw` is the seed of its wrong labels, `seed` that of its weights and batches."""

    method: str
    loss: Loss
    fit: Fit
    share: float
    draw: int
    seed: int
    judged: tuple[str, ...]


@dataclass(frozen=True)
class Data:
    """The table and what is drawn from it: runs of one share and draw have the same wrong labels."""

    table: RoiTable
    digest: str
    noise: Noise
    settings: Tables
    folder: Path

    def given(self, split: str, share: float, draw: int) -> np.ndarray:
        """(n,) int labels of a split, some wrong where the config says so; test and external labels are always true."""
        rows = self.table.rows(split)
        true = self.table.scans["label"].to_numpy()[rows]
        if split not in self.noise.splits or share == 0:
            return true
        drawn = int(np.random.SeedSequence([self.noise.seed, draw, NOISY.index(split)]).generate_state(1)[0])
        noise = self.noise.model_copy(update={"share": share, "seed": drawn})
        people = self.table.scans["person"].to_numpy()[rows]
        return wrong_labels(true, len(CLASSES), noise, subjects=people).given


def outcome(run: Run, data: Data) -> dict[str, np.ndarray]:
    """A run's record, from disk or trained now.

    Returns
    -------
    dict of arrays
        last_NAME and best_NAME, (n, n_classes) float32 logits of each judged set; said (n_epochs, n_train, n_classes) float32; best, the index of
        the epoch of the lowest validation cross-entropy by given labels.
    """
    path = data.folder / f"{run.method}-{100 * run.share:g}-seed{run.seed}-{_digest(run, data)[:12]}.npz"
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as kept:
                return dict(kept)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile):
            print(f"tables: {path} is damaged and is made again", flush=True)
    made = _train(run, data)
    with provenance.atomic(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **made)
    return made


def _train(run: Run, data: Data) -> dict[str, np.ndarray]:
    settings, given = data.settings, data.given("train", run.share, run.draw)
    inputs, _ = features(data.table, given, settings)
    sets = {name: torch.from_numpy(inputs[data.table.rows(name)]) for name in ("train", *run.judged)}
    labels = {name: torch.from_numpy(data.given(name, run.share, run.draw)) for name in run.judged}
    trained = fit(
        lambda: mlp(inputs.shape[1], settings.hidden, settings.dropout),
        sets["train"],
        torch.from_numpy(given),
        len(CLASSES),
        run.fit,
        run.loss,
        seed=run.seed,
        judged={name: (sets[name], labels[name]) for name in run.judged},
        progress=lambda line: None,
    )
    kept = {f"last_{name}": logits for name, logits in trained.judged.items()}
    kept |= {f"best_{name}": logits for name, logits in trained.judged_best.items()}
    return kept | {"said": trained.said, "best": np.array(trained.best)}


def mlp(n_features: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear layers with ReLU (and dropout) between; no hidden layer is a multinomial logistic regression."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(n_features, width), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        n_features = width
    return nn.Sequential(*layers, nn.Linear(n_features, len(CLASSES)))


def candidate(loss: Loss, settings: Fit, trial: Candidate) -> tuple[Loss, Fit]:
    """A method's loss and training with what a trial puts in their place; a key that the method does not have is refused."""
    keys = trial.model_dump(exclude_none=True)
    training = {name: keys.pop(name) for name in ("weight_decay", "learning_rate", "epochs") if name in keys}
    kind = kind_of(loss)
    part = getattr(loss, kind, None)
    if strange := [name for name in keys if part is None or name not in type(part).model_fields]:
        raise BadInput(
            expected=f"keys of {kind} or of the training",
            got=strange[0],
            where="lab.tables.grids",
            fix="See config/README.md for the keys of each method.",
        )
    changed = {kind: type(part).model_validate(part.model_dump() | keys)} if part is not None else {}
    return loss.model_copy(update=changed), Fit.model_validate(settings.model_dump() | training)


def kind_of(loss: Loss) -> str:
    """Whose grid a loss has: elr, sop, gce, or ce for all else."""
    return next((name for name in ("elr", "sop", "gce") if getattr(loss, name) is not None), "ce")


def _digest(run: Run, data: Data) -> str:
    """Digest of all that a run depends on; not of what is made of it later."""
    made_with = ("regions", "normalise", "use_age", "missing", "hidden", "dropout")
    return provenance.digest_json(
        [
            VERSION,
            data.digest,
            {name: json.loads(data.settings.model_dump_json())[name] for name in made_with},
            data.noise.model_dump(mode="json", exclude={"share"}),
            [
                run.loss.model_dump(mode="json"),
                run.fit.model_dump(mode="json"),
                run.share,
                run.draw,
                run.seed,
                run.judged,
            ],
        ]
    )
