"""`lab noise`: the table of given labels of a study's training scans, some of them wrong, with what was changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from elr_mri import provenance
from elr_mri.config import Noise
from elr_mri.errors import BadInput
from elr_mri.lab.noise import wrong_labels
from elr_mri.lab.truth import truth_of
from elr_mri.scans.labels import LABELS
from elr_mri.scans.predictions import P_COLUMNS, PREDICTIONS
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES, SPLIT, SPLITS, join_splits, read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["lab"]

#: How many labels went from which class to which; `share` is of the scans of that class.
TRANSITIONS = Schema(
    name="label transition",
    version=1,
    key=("split", "diagnosis", "given"),
    columns=(
        Column("split", allowed=SPLITS),
        Column("diagnosis", allowed=CLASSES),
        Column("given", allowed=CLASSES),
        Column("n", "integer", low=0),
        Column("share", "number", required=False, low=0, high=1),
    ),
)


def noise(
    scans_path: Path,
    splits_path: Path,
    settings: Noise,
    *,
    output: Path,
    predictions_path: Path | None = None,
    truth_path: Path | None = None,
) -> Path:
    """Write the labels of the splits that `settings` names, the transitions beside them as `…_transitions.tsv`, and a sidecar with the shares.

    Parameters
    ----------
    predictions_path : path or None
        Of a reference model that did not train on the scans; `kind: instance` needs it.
    truth_path : path or None
        The phantom's truth, which then stands for the scan table's diagnoses.
    """
    scans = join_splits(read_scans(scans_path), SPLIT.read(splits_path))
    scans = scans[scans["split"].isin(settings.splits)].reset_index(drop=True)
    if scans.empty:
        raise BadInput(
            expected=f"scans of {' or '.join(settings.splits) or 'a split in noise.splits'}",
            got="none",
            where=str(splits_path),
            fix="Check the split table and lab.noise.splits.",
        )
    truth = truth_of(scans, truth_path)
    if truth is not None:
        scans["diagnosis"] = scans["scan_id"].map(truth)
    if settings.kind == "instance":
        scans[list(P_COLUMNS)] = _reference(predictions_path, scans)
    parts, told = [], {}
    for split, rows in scans.groupby("split", sort=False):
        part, told[split] = _mislabelled(rows, settings, stream=SPLITS.index(split))
        parts.append(part)
    table = pd.concat(parts).sort_index()
    transitions = count_transitions(table)
    TRANSITIONS.write(transitions, output.with_name(f"{output.stem}_transitions.tsv"))
    LABELS.write(table, output)
    inputs = {
        "scans": scans_path,
        "splits": splits_path,
        "predictions": predictions_path,
        "truth": None if truth is None else truth_path,
    }
    digests = {name: provenance.digest_file(path) for name, path in inputs.items() if path is not None}
    provenance.record(
        output, step="lab", version=VERSION, inputs=digests, settings=settings, labels_version=LABELS.version, splits=told
    )  # fmt: skip
    for split, facts in told.items():
        changed = ", ".join(f"{t.diagnosis} to {t.given} {t.n}" for t in _changes(transitions, split)) or "none"
        print(
            f"{split}: {facts['drawn_share']:.1%} of {facts['scans']} scans drawn, {facts['wrong_share']:.1%} have a wrong label ({changed})"
        )
    return output


def count_transitions(table: pd.DataFrame) -> pd.DataFrame:
    """Of a table of labels, every diagnosis and what was given for it, by split; also what never happened."""
    rows = []
    for split in [name for name in SPLITS if name in set(table["split"])]:
        own = table[table["split"] == split]
        for true in CLASSES:
            given = own.loc[own["diagnosis"] == true, "given"]
            rows += [
                (split, true, to, int((given == to).sum()), round(float((given == to).mean()), 6)) for to in CLASSES
            ]
    return pd.DataFrame(rows, columns=[column.name for column in TRANSITIONS.columns])


def _mislabelled(rows: pd.DataFrame, settings: Noise, *, stream: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The labels of one split's scans, and how many were drawn and are wrong."""
    true = rows["diagnosis"].map(CLASSES.index).to_numpy(dtype=int)
    subjects = pd.factorize(rows["cohort"] + "\t" + rows["subject_id"])[0]
    reference = rows[list(P_COLUMNS)].to_numpy(dtype=float) if settings.kind == "instance" else None
    noisy = wrong_labels(true, len(CLASSES), settings, subjects=subjects, reference=reference, stream=stream)
    wrong = noisy.given != true
    facts = {
        "scans": len(rows),
        "drawn": int(noisy.drawn.sum()),
        "drawn_share": float(noisy.drawn.mean()),
        "wrong": int(wrong.sum()),
        "wrong_share": float(wrong.mean()),
        "subjects": len(set(subjects)),
        "subjects_with_a_wrong_label": len(set(subjects[wrong])),
    }
    return rows.assign(given=np.array(CLASSES, dtype=object)[noisy.given]), facts


def _reference(path: Path | None, scans: pd.DataFrame) -> np.ndarray:
    """(n_scans, 3) probabilities of the scans by the one model that a table of predictions holds; the mean over its seeds."""
    fix = "Give the predictions of one reference model that cover the scans whose labels are made wrong."
    if path is None:
        raise BadInput(expected="a table of predictions", got="none", where="--predictions", fix=fix)
    table = PREDICTIONS.read(path)
    if table["model"].nunique() != 1:
        names = ", ".join(sorted(set(table["model"]))) or "no model"
        raise BadInput(expected="predictions of one model", got=names, where=str(path), fix=fix)
    means = table.groupby("scan_id")[list(P_COLUMNS)].mean()
    lost = sorted(set(scans["scan_id"]) - set(means.index))
    if lost:
        raise BadInput(
            expected="a prediction of every scan",
            got=f"none of {lost[0]} and {len(lost) - 1} more",
            where=str(path),
            fix=fix,
        )
    return means.loc[scans["scan_id"]].to_numpy(dtype=float)


def _changes(transitions: pd.DataFrame, split: str) -> list[Any]:
    """The transitions of a split that changed a label."""
    changed = transitions["diagnosis"] != transitions["given"]
    return list(transitions[changed & (transitions["split"] == split) & (transitions["n"] > 0)].itertuples())
