"""The volume baseline: what hippocampal and entorhinal volumes alone can tell.

Each region's volume is divided by the intracranial volume of the same scan, standardised by the
training scans, and fed to a multinomial logistic regression whose regularisation is chosen by
the log-loss on the validation scans. The model is stored as numbers in `model.json`, never as
a pickle, with a small reference beside them: the hippocampus of cognitively normal training
scans by age, so that one scan's volume can be told as a percentile.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import log_softmax
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from elr_mri import config, provenance
from elr_mri.errors import BadInput
from elr_mri.findings.metrics import score
from elr_mri.scans.predictions import PREDICTIONS, prediction_table
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES, SPLIT, UNUSED, join_splits, read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["baseline"]
MODEL = "volumes"
ICV = "intracranial"
HIPPOCAMPI = ("hippocampus_left", "hippocampus_right")
#: Inverse regularisation strengths that validation chooses from.
STRENGTHS = tuple(float(c) for c in np.logspace(-3, 3, 13))
#: Fewer cognitively normal scans than this make no reference.
MIN_REFERENCE = 20


def baseline(*, roi_path: Path, scans_path: Path, splits_path: Path, settings: config.Baseline, out_dir: Path) -> Path:
    """Train the volume baseline and predict every packed scan that takes part; returns the path of `predictions.tsv`.

    Parameters
    ----------
    roi_path : path
        `pack/roi_volumes.tsv`: scan_id and one column per region in mm³.
    scans_path, splits_path : path
        `scans.tsv` and `splits.tsv`.
    out_dir : path
        Receives `model.json` and `predictions.tsv`.
    """
    regions = tuple(dict.fromkeys((*settings.features, *HIPPOCAMPI)))
    table = read_volumes(roi_path, regions).merge(_scans(scans_path, splits_path), on="scan_id", how="left")
    if (lost := table["split"].isna()).any():
        raise BadInput(
            expected="every scan of the volume table in the scan table",
            got=f"{table.loc[lost, 'scan_id'].iloc[0]} is not there",
            where=str(roi_path),
            fix="Run `pack` again after `ingest`.",
        )
    table = table[table["split"] != UNUSED].reset_index(drop=True)
    features = feature_matrix(table, settings.features, use_age=settings.use_age)
    model = _fit(features, table, settings) | {"reference": _reference(table)}
    provenance.write_json(Path(out_dir) / "model.json", model)
    predictions = prediction_table(table, logits(model, features), model=MODEL, seed=settings.seed)
    out = Path(out_dir) / "predictions.tsv"
    PREDICTIONS.write(predictions, out)
    inputs = {"roi_volumes": roi_path, "scans": scans_path, "splits": splits_path}
    provenance.record(
        out,
        step="baseline",
        version=VERSION,
        settings=settings,
        inputs={name: provenance.digest_file(path) for name, path in inputs.items()},
    )
    return out


def read_volumes(path: Path, regions: tuple[str, ...]) -> pd.DataFrame:
    """The scans' volumes of `regions` and the intracranial volume, in mm³."""
    columns = (Column(name, "number", low=0) for name in regions)
    schema = Schema("ROI volume", 1, (Column("scan_id"), *columns, Column(ICV, "number", low=1)), key=("scan_id",))
    return schema.read(path)


def feature_matrix(table: pd.DataFrame, features: tuple[str, ...], *, use_age: bool) -> np.ndarray:
    """Volumes as share of the intracranial volume, then age in years if asked: (n_scans, n_features) float."""
    shares = table[list(features)].to_numpy() / table[[ICV]].to_numpy()
    return np.column_stack([shares, table["age_years"]]) if use_age else shares


def logits(model: Mapping[str, Any], features: np.ndarray) -> np.ndarray:
    """Class scores of a stored model: (n_scans, n_features) to (n_scans, 3) in the order CN, MCI, AD."""
    standard = (features - np.array(model["mean"])) / np.array(model["deviation"])
    return standard @ np.array(model["coefficients"]).T + np.array(model["intercepts"])


def percentile(model_path: Path, volumes_mm3: Mapping[str, float], *, age_years: float) -> dict[str, float]:
    """Percentile (0 to 100) of a scan's hippocampi among cognitively normal people of its age, at its head size.

    Parameters
    ----------
    model_path : path
        A baseline's `model.json`.
    volumes_mm3 : mapping
        `hippocampus_left`, `hippocampus_right` and `intracranial`, in mm³.
    age_years : float

    Returns
    -------
    dict of str to float
        Per side; empty where the training data held fewer than `MIN_REFERENCE` cognitively normal scans.
        Outside the reference's ages (`reference.age_years` in the file) the line is extrapolated.
    """
    reference = provenance.read_json(model_path)["reference"]
    found = {}
    for region, line in reference["regions"].items():
        share = volumes_mm3[region] / volumes_mm3[ICV]
        expected = line["intercept"] + line["slope_per_year"] * age_years
        found[region] = float(100 * norm.cdf((share - expected) / line["residual_deviation"]))
    return found


def _scans(scans_path: Path, splits_path: Path) -> pd.DataFrame:
    """What the baseline needs to know of each scan besides its volumes."""
    joined = join_splits(read_scans(scans_path), SPLIT.read(splits_path))
    return joined[["scan_id", "subject_id", "cohort", "split", "diagnosis", "age_years"]]


def _fit(features: np.ndarray, table: pd.DataFrame, settings: config.Baseline) -> dict[str, Any]:
    """The logistic regression of lowest validation log-loss, as plain numbers."""
    labels = table["diagnosis"].map(CLASSES.index).to_numpy()
    train, val = (table["split"] == "train").to_numpy(), (table["split"] == "val").to_numpy()
    _require_classes(labels[train])
    if not val.any():
        raise BadInput(expected="validation scans", got="none", where="split val", fix="Raise split.val_share.")
    mean = features[train].mean(axis=0)
    deviation = features[train].std(axis=0)
    fixed = {
        "model": MODEL,
        "version": VERSION,
        "classes": list(CLASSES),
        "features": [f"{name} / {ICV}" for name in settings.features] + ["age_years"] * settings.use_age,
        "mean": mean.tolist(),
        "deviation": np.where(deviation > 0, deviation, 1).tolist(),
        "n_train_scans": int(train.sum()),
        "n_train_subjects": int(table.loc[train, "subject_id"].nunique()),
    }
    standard = (features - fixed["mean"]) / fixed["deviation"]
    tried = []
    for strength in STRENGTHS:
        fit = LogisticRegression(C=strength, max_iter=5000, random_state=settings.seed).fit(
            standard[train], labels[train]
        )
        candidate = fixed | {
            "coefficients": fit.coef_.tolist(),
            "intercepts": fit.intercept_.tolist(),
            "inverse_regularisation": strength,
        }
        log_p = log_softmax(logits(candidate, features[val]), axis=1)
        loss = -float(log_p[np.arange(len(log_p)), labels[val]].mean())
        tried.append((loss, strength, candidate, score(labels[val], np.exp(log_p))["balanced_accuracy"]))
    best = min(tried, key=lambda one: one[:2])
    trials = [
        {"inverse_regularisation": s, "val_log_loss": loss, "val_balanced_accuracy": b} for loss, s, _, b in tried
    ]
    return best[2] | {"validation": trials}


def _require_classes(labels: np.ndarray) -> None:
    """Refuse training scans that lack a class."""
    absent = [name for index, name in enumerate(CLASSES) if index not in labels]
    if absent:
        raise BadInput(
            expected="training scans of CN, MCI and AD",
            got=f"none of {', '.join(absent)}",
            where="split train",
            fix="Check the diagnoses and the split.",
        )


def _reference(table: pd.DataFrame) -> dict[str, Any]:
    """Hippocampal share of the intracranial volume by age among cognitively normal training scans.

    A line in age with normal residuals, as in published norms of subcortical volumes
    (Potvin et al., NeuroImage 2016).
    """
    healthy = table[(table["split"] == "train") & (table["diagnosis"] == "CN")]
    age = healthy["age_years"].to_numpy()
    regions = {}
    for region in HIPPOCAMPI if len(healthy) >= MIN_REFERENCE else ():
        share = (healthy[region] / healthy[ICV]).to_numpy()
        slope, intercept = np.polyfit(age, share, 1)
        deviation = (share - intercept - slope * age).std(ddof=2)
        regions[region] = {
            "intercept": float(intercept),
            "slope_per_year": float(slope),
            "residual_deviation": float(deviation),
        }
    return {
        "of": f"volume / {ICV} among CN training scans",
        "n_scans": len(healthy),
        "regions": regions,
        "n_subjects": int(healthy["subject_id"].nunique()),
        "age_years": [float(age.min()), float(age.max())],
    }
