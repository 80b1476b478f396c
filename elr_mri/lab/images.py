"""Do wrong labels mislead networks on images, and does early-learning regularization help? `elr-mri lab images`.

Every method trains a network of one make on the same images and the same partly wrong labels; what it says of the training images is summed by
epoch (`watch.py`), and the unseen test images are judged by their true labels. The result is the last epoch's, where memorization shows (of a method that stops early the
selected one's); the epoch that noisy validation
labels would select and the best one in hindsight stand beside it. Without data: scikit-learn's digits, in a minute or two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from elr_mri import provenance
from elr_mri.config import Lab, Loss
from elr_mri.errors import BadInput
from elr_mri.lab import image_page
from elr_mri.lab.image_recipes import Recipe, loss_of, recipe_of
from elr_mri.lab.image_runs import NOISY, Run, given_labels, train
from elr_mri.lab.image_sets import ImageSet, read_images
from elr_mri.lab.noise import Noisy
from elr_mri.learning.slots import slot
from elr_mri.scans.cells import write_tsv

VERSION = 2


def images(settings: Lab, out_dir: Path | str, *, tell: Callable[[str], None] = print) -> Path:
    """Run the comparison that `settings.images` describes and write its tables, figures and findings; an interrupted one continues.

    Returns
    -------
    Path of `findings.json`; beside it lie results.tsv, history.tsv, curves.tsv, gradients.tsv, audit.tsv, wrong_labels.tsv, the figures, and the state of
    every training under `runs/`.
    """
    out_dir, own = Path(out_dir), settings.images
    data = read_images(own, out_dir / "packed")
    recipe = recipe_of(data, own)
    losses = {method: loss_of(method, settings, recipe) for method in own.methods}
    _can_stop(losses, data)
    if recipe.network == "small":
        torch.set_num_threads(1)  # several threads add up in another order, and such small arrays gain nothing
    counts = ", ".join(f"{split} {len(labels)}" for split, labels in sorted(data.labels.items()))
    tell(f"images: {data.name}, {len(data.classes)} classes, {counts}; {recipe.network}, {recipe.fit.epochs} epochs")
    digest, noisy, runs = data.digest(), {}, []
    with slot(recipe.fit.device, tell=tell) as device:
        placed = replace(recipe, fit=recipe.fit.model_copy(update={"device": device}))
        for seed in own.seeds:
            noisy[seed] = {split: given_labels(data, split, own, seed) for split in NOISY if split in data.labels}
            for method, loss in losses.items():
                runs.append(train(method, loss, seed, data, noisy[seed], placed, digest, out_dir / "runs", tell))
    _write(out_dir, data, noisy, runs, losses, recipe, settings, digest)
    for line in image_page.told_in_words(provenance.read_json(out_dir / "findings.json")):
        tell(line)
    return out_dir / "findings.json"


def _can_stop(losses: dict[str, Loss], data: ImageSet) -> None:
    """Refuse to stop early without validation images."""
    if "val" not in data.labels and (stops := [name for name, loss in losses.items() if loss.patience is not None]):
        raise BadInput(
            expected="validation images for a method with patience",
            got=f"none for {stops[0]}",
            where="lab.images.validation",
            fix="Hold some out (validation: 0.1), or leave the method out.",
        )


def _write(
    out_dir: Path,
    data: ImageSet,
    noisy: dict[int, dict[str, Noisy]],
    runs: list[Run],
    losses: dict[str, Loss],
    recipe: Recipe,
    settings: Lab,
    digest: str,
) -> None:
    results = image_page.results(runs, data, noisy)
    audited = next((run for run in runs if losses[run.method].elr), runs[0])
    tables = {
        "results": results,
        "history": _together(runs, "history"),
        "curves": _together(runs, "shares"),
        "gradients": _together(runs, "slopes"),
        "audit": image_page.audit_table(audited, data, noisy[audited.seed]["train"]),
        "wrong_labels": _wrong_labels(data, noisy),
    }
    for name, table in tables.items():
        with provenance.atomic(out_dir / f"{name}.tsv") as draft:
            write_tsv(table.round(6), draft)
    image_page.draw(runs, out_dir)
    path = out_dir / "findings.json"
    facts: dict[str, Any] = image_page.findings(results, runs, data, noisy, audited, recipe)
    provenance.write_json(path, facts)
    provenance.record(
        path, step="lab images", version=VERSION, inputs={data.name: digest}, settings=settings,
        training=recipe.fit.model_dump(mode="json"), losses={name: loss.model_dump(mode="json") for name, loss in losses.items()},
    )  # fmt: skip


def _together(runs: list[Run], name: str) -> pd.DataFrame:
    """A table of all runs in one."""
    parts = []
    for run in runs:
        table = getattr(run, name).copy()
        table.insert(0, "method", run.method)
        table.insert(1, "seed", run.seed)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _wrong_labels(data: ImageSet, noisy: dict[int, dict[str, Noisy]]) -> pd.DataFrame:
    """Every label that was made wrong: seed, split, image, true, given."""
    rows = [
        (
            seed,
            split,
            data.names[split][place],
            data.classes[data.labels[split][place]],
            data.classes[told.given[place]],
        )
        for seed, splits in noisy.items()
        for split, told in splits.items()
        for place in np.flatnonzero(told.given != data.labels[split])
    ]
    return pd.DataFrame(rows, columns=["seed", "split", "image", "true", "given"])
