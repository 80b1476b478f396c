"""Train one network on images of which some labels are wrong; a training that was stopped continues after its last whole epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from elr_mri import provenance
from elr_mri.config import Images, Loss
from elr_mri.lab.fit import fit
from elr_mri.lab.image_networks import augmentation, build, scaler
from elr_mri.lab.image_recipes import Recipe
from elr_mri.lab.image_sets import ImageSet
from elr_mri.lab.noise import Noisy, wrong_labels
from elr_mri.lab.watch import Watch

#: Raise when a run's numbers change for the same input.
VERSION = 2
#: Splits whose labels may be wrong.
NOISY = ("train", "val")
#: Lines of progress of one training.
LINES = 10


@dataclass(frozen=True)
class Run:
    """What a training left.

    Attributes
    ----------
    history : DataFrame, one line per epoch, of `fit`
    shares, slopes : DataFrame
        The tables of `curves.py`: memorization and gradients.
    disagreement : (n,) float
        Of each training image, the share of its target that is not its given label's: 1 − t_given / Σ t.
    suggested : (n,) int
        The class that its target finds likeliest.
    selected : int
        The epoch (from 1) of the lowest cross-entropy with the validation images' given labels; the last one without any.
    stops_early : bool
        The loss has patience: the selected epoch is the result.
    """

    method: str
    seed: int
    history: pd.DataFrame
    shares: pd.DataFrame
    slopes: pd.DataFrame
    disagreement: np.ndarray
    suggested: np.ndarray
    selected: int
    stops_early: bool

    @property
    def counted(self) -> int:
        """The epoch (from 1) that is the result."""
        return self.selected if self.stops_early else len(self.history)


def given_labels(data: ImageSet, split: str, settings: Images, seed: int) -> Noisy:
    """The labels that training images are given, or validation images are judged by; validation images that the set came with keep theirs."""
    true, noise = data.labels[split], settings.noise
    if split not in noise.splits or not noise.share or (split == "val" and data.clean_val):
        return Noisy(true, np.zeros(len(true), dtype=bool))
    drawn = int(np.random.SeedSequence([noise.seed, seed, NOISY.index(split)]).generate_state(1)[0])
    return wrong_labels(true, len(data.classes), noise.model_copy(update={"seed": drawn}))


def train(
    method: str,
    loss: Loss,
    seed: int,
    data: ImageSet,
    noisy: dict[str, Noisy],
    recipe: Recipe,
    digest: str,
    folder: Path,
    tell: Callable[[str], None],
) -> Run:
    """Train one network; a training that is finished is read from its state."""
    pixels, given = data.images["train"], noisy["train"].given
    n_channels, size = pixels.shape[1], max(pixels.shape[2:])
    watch = Watch(recipe.fit.epochs, torch.from_numpy(data.labels["train"]), torch.from_numpy(given))
    labels = {"test": data.labels["test"], **({"val": noisy["val"].given} if "val" in noisy else {})}
    trained = fit(
        partial(build, recipe.network, n_channels, len(data.classes), size),
        torch.from_numpy(pixels),
        torch.from_numpy(given),
        len(data.classes),
        recipe.fit,
        loss,
        seed=seed,
        judged={split: (torch.from_numpy(data.images[split]), torch.from_numpy(y)) for split, y in labels.items()},
        change=augmentation(recipe.augment),
        prepare=scaler(pixels, standardise=recipe.standardise),
        watch=watch,
        state_path=folder / f"{method}-seed-{seed}" / "state.safetensors",
        fingerprint={
            "version": VERSION,
            "data": digest,
            "network": recipe.network,
            "augment": recipe.augment,
            "standardise": recipe.standardise,
            "given": provenance.digest_json({split: told.given.tolist() for split, told in noisy.items()}),
        },
        progress=_Lines(f"images: {method}, seed {seed}:", recipe.fit.epochs, tell),
    )
    n = len(trained.history)
    total = trained.targets.sum(axis=1).clip(1e-9)
    return Run(
        method,
        seed,
        pd.DataFrame(trained.history),
        watch.memorization(n),
        watch.gradients(n),
        (1 - trained.targets[np.arange(len(given)), given] / total).clip(0, 1),
        trained.targets.argmax(axis=1),
        trained.best + 1,
        loss.patience is not None,
    )


class _Lines:
    """Of the lines that a training tells, those of every tenth part of its epochs."""

    def __init__(self, title: str, n_epochs: int, tell: Callable[[str], None]):
        self.title, self.every, self.tell = title, max(1, n_epochs // LINES), tell

    def __call__(self, line: str) -> None:
        words = line.split()
        if words[0] != "epoch" or int(words[1]) % self.every == 0:
            self.tell(f"{self.title} {line}")
