"""Do wrong labels mislead a small network on ROI volumes, and does early-learning regularization help? `elr-mri lab tables`.

For each share of wrong labels every method gets the settings that noisy validation labels favour (`table_choice.py`), is trained with
each seed, and is scored by true labels on test and external scans (`table_scores.py`). Two readings: the last epoch, where memorization shows, and the epoch of
the lowest validation cross-entropy by given labels, which is early stopping. Every method is also run untuned, at its own settings and
for the whole training that all share: that is what the papers compare, and it shows what a loss does without early stopping.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax

from elr_mri import provenance
from elr_mri.config import Fit, Lab, Loss
from elr_mri.errors import BadInput
from elr_mri.findings.metrics import score
from elr_mri.findings.mislead import FEWEST
from elr_mri.lab import table_page, table_scores
from elr_mri.lab.curves import memorization
from elr_mri.lab.features import check_controls, features
from elr_mri.lab.roi import RoiTable, read_roi
from elr_mri.lab.table_choice import TRIAL_DRAW, check_budgets, choose, fixed_keys, grid_of
from elr_mri.lab.table_runs import Data, Run, outcome
from elr_mri.lab.table_scores import UNTUNED
from elr_mri.scans.cells import write_tsv
from elr_mri.scans.table import CLASSES

VERSION = 3


def tables(
    settings: Lab,
    out_dir: Path | str,
    *,
    truth_path: Path | None = None,
    made_up: bool = False,
    tell: Callable[[str], None] = print,
) -> Path:
    """Run the comparison that `settings.tables` describes and write its tables, figures and findings; an interrupted one continues.

    Parameters
    ----------
    truth_path : Path or None
        The phantom's truth, which then stands for the scan table's diagnoses.
    made_up : bool
        The table was drawn, and is of nobody.

    Returns
    -------
    Path of `findings.json`; beside it lie results.tsv, differences.tsv, seeds.tsv, trials.tsv, wrong_labels.tsv, curves.tsv, summary.md, the
    figures, and every run under `runs/`.
    """
    out_dir, own = Path(out_dir), settings.tables
    torch.set_num_threads(1)  # several threads add up in another order, and such small matrices gain nothing
    if TRIAL_DRAW in own.seeds:
        raise BadInput(
            expected="other seeds", got=str(TRIAL_DRAW), where="lab.tables.seeds", fix="It is the trials' own."
        )
    if settings.noise.kind == "instance":
        raise BadInput(
            expected="wrong labels that do not depend on the scan",
            got="instance",
            where="lab.noise.kind",
            fix="Choose adjacent, symmetric, others or asymmetric: tables have no reference model.",
        )
    losses = {method: settings.method(method) for method in own.methods}
    fixed = {method: fixed_keys(method, settings.methods) for method in losses}
    grids = {method: grid_of(method, loss, own.grids, fixed=fixed[method]) for method, loss in losses.items()}
    check_budgets(grids)
    table = read_roi(own, truth_path)
    digest = provenance.digest_json([table.scans.to_csv(), table.regions])
    data = Data(table, digest, settings.noise, own, out_dir / "runs")
    _check_labels(data)
    if len(own.seeds) >= FEWEST:  # with fewer there is no verdict
        table_scores.check_draws(own.methods, own.shares, len(unseen(table)), own.draws)
    told = f"{len(table.regions)} regions; " + ", ".join(
        f"{split} {n} scans of {table.scans.loc[table.scans['split'] == split, 'person'].nunique()} subjects"
        for split, n in table.scans["split"].value_counts().items()
    )
    tell(f"tables: {told}")
    chosen, trials = _choices(losses, grids, data, tell)
    runs = _scored_runs(chosen, data, tell)
    whose = "a synthetic table" if made_up else "the phantom study" if truth_path else "the table of the config"
    _write(out_dir, data, settings, chosen, trials, runs, whose=whose, synthetic=made_up or truth_path is not None)
    tell((out_dir / "summary.md").read_text(encoding="utf-8"))
    return out_dir / "findings.json"


def _check_labels(data: Data) -> None:
    """Refuse, before the first training, a table without features, or draws of wrong labels that leave too few controls."""
    own = data.settings
    features(data.table, data.given("train", min(own.shares), own.seeds[0]), own)
    for share in own.shares:
        for draw in (TRIAL_DRAW, *own.seeds):
            whose = "in the trials" if draw == TRIAL_DRAW else f"with seed {draw}"
            check_controls(data.given("train", share, draw), own, told=f" at {100 * share:g} % wrong {whose}")


def _choices(losses: dict[str, Loss], grids: dict, data: Data, tell: Callable) -> tuple[dict, pd.DataFrame]:
    """(method, share) -> loss and training, each method also untuned; and the table of all trials."""
    chosen, told = {}, []
    for share in data.settings.shares:
        chosen |= {(method + UNTUNED, share): (loss, data.settings.fit) for method, loss in losses.items()}
        for method, loss in losses.items():
            *chosen[method, share], lines = choose(method, loss, grids[method], share, data)
            told.append(lines)
            best = lines[lines["chosen"] == 1].iloc[0]
            tell(
                f"tables: {100 * share:g} % wrong, {method}: {best['keys'] or 'as it is'} of {len(lines)} trials "
                f"(noisy validation balanced accuracy {100 * best['val_balanced_accuracy']:.1f})"
            )
    return chosen, pd.concat(told, ignore_index=True)


def _scored_runs(chosen: dict[tuple[str, float], tuple[Loss, Fit]], data: Data, tell: Callable) -> dict[tuple, dict]:
    """(method, share, seed) -> record of its run."""
    judged = ("val", *unseen(data.table))
    runs, n = {}, len(chosen) * len(data.settings.seeds)
    for (method, share), (loss, fit) in chosen.items():
        for seed in data.settings.seeds:
            name = method.replace(" ", "-")
            runs[method, share, seed] = outcome(Run(name, loss, fit, share, seed, seed, judged), data)
        tell(f"tables: {len(runs)} of {n} scored runs ({100 * share:g} % wrong, {method})")
    return runs


def unseen(table: RoiTable) -> tuple[str, ...]:
    """The splits that are only scored on."""
    return tuple(split for split in ("test", "external") if len(table.rows(split)))


def _write(
    out_dir: Path,
    data: Data,
    settings: Lab,
    chosen: dict,
    trials: pd.DataFrame,
    runs: dict,
    *,
    whose: str,
    synthetic: bool,
) -> None:
    own, methods = settings.tables, list(dict.fromkeys(method for method, _ in chosen))
    scored, counts = _scored(data, methods, runs), _counts(data.table)
    how = {"seed": settings.noise.seed, "level": own.level}
    seeds = _seeds(data, runs)
    place = ["method", "share", "split", "reading"]
    recalls = seeds.groupby(place, sort=False)[list(_RECALLS)].mean().reset_index()
    results = table_scores.results(scored, **how).merge(counts, on="split").merge(recalls, on=place)
    differences = table_scores.differences(scored, own.methods, **how)
    curves = _curves(data, runs)
    found = {
        "results.tsv": results,
        "differences.tsv": differences,
        "seeds.tsv": seeds,
        "trials.tsv": trials,
        "wrong_labels.tsv": _wrong_labels(data),
        "curves.tsv": curves,
    }
    for name, frame in found.items():
        with provenance.atomic(out_dir / name) as draft:
            write_tsv(frame, draft)
    table_page.draw_accuracies(results, methods, out_dir / "balanced_accuracy")
    if len(curves):
        table_page.draw_memorization(curves, methods, out_dir / "memorization")
    told = table_page.summary(results, differences, trials, data.table, own, noise=settings.noise, whose=whose)
    provenance.write_text(out_dir / "summary.md", told)
    path = out_dir / "findings.json"
    provenance.write_json(path, table_page.findings(results, differences, trials, data.table, synthetic=synthetic))
    provenance.record(path, step="lab tables", version=VERSION, inputs=data.table.digests, settings=settings)


def _scored(data: Data, methods: list[str], runs: dict) -> dict[tuple, tuple[np.ndarray, np.ndarray]]:
    """(method, share, split, reading) -> accuracies over seeds and draws."""
    own, scored = data.settings, {}
    for split in unseen(data.table):
        part = data.table.scans.iloc[data.table.rows(split)]
        labels, subjects = part["label"].to_numpy(), part["person"].to_numpy()
        places = list(product(methods, own.shares, (("last", "last"), ("selected", "best"))))
        said = [runs[m, share, seed][f"{key}_{split}"] for m, share, (_, key) in places for seed in own.seeds]
        points, drawn = table_scores.draw_accuracies(labels, said, subjects, draws=own.draws, seed=data.noise.seed)
        for n, (method, share, (reading, _)) in enumerate(places):
            own_runs = slice(n * len(own.seeds), (n + 1) * len(own.seeds))
            scored[method, share, split, reading] = points[own_runs], drawn[own_runs]
    return scored


def _counts(table: RoiTable) -> pd.DataFrame:
    """Scans and subjects of each split that is scored on."""
    parts = {split: table.scans.iloc[table.rows(split)] for split in unseen(table)}
    return pd.DataFrame(
        [(split, len(part), part["person"].nunique()) for split, part in parts.items()],
        columns=["split", "n_scans", "n_subjects"],
    )


def _seeds(data: Data, runs: dict) -> pd.DataFrame:
    """Every run: scores by true labels, the epoch that was selected, and the share of training labels that are wrong."""
    names = ["method", "share", "seed", "split", "reading", "epoch", "wrong_share", *_SCORES]
    rows, labels = [], data.table.scans["label"].to_numpy()
    train = labels[data.table.rows("train")]
    for (method, share, seed), kept in runs.items():
        wrong = float((data.given("train", share, seed) != train).mean())
        for split in unseen(data.table):
            for reading, key in (("last", "last"), ("selected", "best")):
                true, said = labels[data.table.rows(split)], kept[f"{key}_{split}"].astype(float)
                told = score(true, softmax(said, axis=1)) | _recalls(true, said)
                epoch = int(kept["best"]) + 1 if reading == "selected" else len(kept["said"])
                rows.append((method, share, seed, split, reading, epoch, wrong, *(told[n] for n in names[7:])))
    return pd.DataFrame(rows, columns=names)


_RECALLS = tuple(f"recall_{name.lower()}" for name in CLASSES)
_SCORES = ("accuracy", "balanced_accuracy", "macro_auc", *_RECALLS)


def _recalls(true: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """The share of each class's scans that are said to be of it; not a number where there are none."""
    said = logits.argmax(axis=1)
    return {
        name: float((said[true == k] == k).mean()) if (true == k).any() else np.nan for k, name in enumerate(_RECALLS)
    }


def _wrong_labels(data: Data) -> pd.DataFrame:
    """Every label that was made wrong: share, seed, split, scan_id, true, given."""
    rows = []
    for share in data.settings.shares:
        for seed in data.settings.seeds:
            for split in data.noise.splits:
                part = data.table.scans.iloc[data.table.rows(split)]
                given, true = data.given(split, share, seed), part["label"].to_numpy()
                for place in np.flatnonzero(given != true):
                    rows.append(
                        (share, seed, split, part["scan_id"].iloc[place], CLASSES[true[place]], CLASSES[given[place]])
                    )
    return pd.DataFrame(rows, columns=["share", "seed", "split", "scan_id", "true", "given"])


def _curves(data: Data, runs: dict) -> pd.DataFrame:
    """Memorization of the first seed's training scans, by method and share."""
    true = data.table.scans["label"].to_numpy()[data.table.rows("train")]
    parts = [
        memorization(kept["said"], true, data.given("train", share, seed)).assign(method=method, share=share)
        for (method, share, seed), kept in runs.items()
        if share > 0 and seed == data.settings.seeds[0]
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
