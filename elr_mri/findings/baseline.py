"""The volume baselines: what volumes alone can tell, those of hippocampus and entorhinal cortex (`volumes`), and all (`volumes-all`).

Of the first, head size is taken out of each region's volume (`normalise.py`), the result standardised by the
training scans and fed to a multinomial logistic regression whose regularisation is chosen by
the log-loss on the validation scans. The model is stored as numbers in `model.json`, never as
a pickle; nor is the second (`all_regions.py`). With it goes a small reference beside them: the hippocampus of cognitively normal training
scans by age, so that one scan's volume can be told as a percentile. The source of the volumes stands in it too:
volumes of another source are not comparable.
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
from elr_mri.findings import all_regions, normalise, roi
from elr_mri.findings.metrics import score
from elr_mri.findings.normalise import ICV, MIN_CONTROLS
from elr_mri.imaging.given import COLUMNS
from elr_mri.imaging.labels import ROI_TABLE, TOTALS, VOLUMES
from elr_mri.scans.predictions import PREDICTIONS, prediction_table
from elr_mri.scans.table import CLASSES, SPLIT, UNUSED, join_splits, read_scans
from elr_mri.stages import VERSIONS

VERSION = VERSIONS["baseline"]
MODEL = "volumes"
#: Inverse regularisation strengths that validation chooses from.
STRENGTHS = tuple(float(c) for c in np.logspace(-3, 3, 13))


def baseline(*, roi_path: Path, scans_path: Path, splits_path: Path, settings: config.Baseline, out_dir: Path) -> Path:
    """Train the volume baselines and predict every packed scan that takes part; returns the path of `predictions.tsv`.

    Parameters
    ----------
    roi_path : path
        `pack/roi_volumes.tsv`: scan_id, one column per region in mm³, and the volumes' source; further regions by FreeSurfer's names serve
        `volumes-all`. A scan that lacks a volume that is needed is not predicted, and is told.
    scans_path, splits_path : path
        `scans.tsv` and `splits.tsv`.
    out_dir : path
        Receives `model.json`, `volumes-all.json` and `.npz`, and `predictions.tsv`.
    """
    volumes, further = read_volumes(roi_path), roi.further_regions(roi_path)
    table = volumes.join(further).merge(_scans(scans_path, splits_path), on="scan_id", how="left")
    if (lost := table["split"].isna()).any():
        raise BadInput(
            expected="every scan of the volume table in the scan table",
            got=f"{table.loc[lost, 'scan_id'].iloc[0]} is not there",
            where=str(roi_path),
            fix="Run `pack` again after `ingest`.",
        )
    table = table[table["split"] != UNUSED].reset_index(drop=True)
    inputs = {"roi_volumes": roi_path, "scans": scans_path, "splits": splits_path}
    digests = {name: provenance.digest_file(path) for name, path in inputs.items()}
    return _run(table, tuple(further.columns), settings, out_dir, digests, where=roi_path)


def baseline_of_tables(*, settings: config.Baseline, out_dir: Path) -> Path:
    """As `baseline`, on the tables that `settings.tables` names: FreeSurfer's columns, diagnosis, age and subject in the same rows."""
    rows, regions, files = roi.read_foreign(settings.tables, "baseline.tables")
    found = roi.checked(rows, regions, files, settings.tables)
    ours = {name: ours for ours, names in COLUMNS["freesurfer"].items() for name in names}
    table = found.scans.rename(columns={name: ours[name] for name in found.regions if name in ours})
    if table["scan_id"].duplicated().any():
        table["scan_id"] = table["cohort"].astype("str") + "_" + table["scan_id"]
    table = table.assign(diagnosis=table["label"].map(dict(enumerate(CLASSES))), source="freesurfer", note=None)
    table = table.reindex(columns=list(dict.fromkeys([*table.columns, *VOLUMES])))
    further = tuple(name for name in found.regions if name not in ours)
    return _run(table, further, settings, out_dir, found.digests, where=files[0])


def _run(
    table: pd.DataFrame,
    further: tuple[str, ...],
    settings: config.Baseline,
    out_dir: Path,
    digests: Mapping[str, str],
    *,
    where: Path,
) -> Path:
    """Fit both baselines to a table of scans with our volumes and the `further` regions, and write them."""
    known = known_sides(table[table["split"] == "train"])
    for earlier in (
        "model.json",
        "volumes-all.json",
        "volumes-all.npz",
    ):  # of what is not made this time, nothing is to be told
        (Path(out_dir) / earlier).unlink(missing_ok=True)
    told = []
    if known or not further:
        told.append(_medial_temporal(table, settings, out_dir, where=where))
    else:
        print(f"baseline: no hippocampus or entorhinal cortex in {where}; {MODEL} is not made", flush=True)
    if settings.all_regions is not None:
        train = table[table["split"] == "train"]
        regions = [*known, *(name for name in further if train[name].notna().any())]
        told += all_regions.fit_and_predict(table, regions, settings.all_regions, out_dir, seed=settings.seed)
    out = Path(out_dir) / "predictions.tsv"
    PREDICTIONS.write(pd.concat(told, ignore_index=True), out)
    provenance.record(out, step="baseline", version=VERSION, settings=settings, inputs=digests)
    return out


def _medial_temporal(table: pd.DataFrame, settings: config.Baseline, out_dir: Path, *, where: Path) -> pd.DataFrame:
    """The talk's baseline, hippocampus and entorhinal cortex alone: writes `model.json`, returns its predictions."""
    source, train = _one_source(table, where), table[table["split"] == "train"]
    regions = known_sides(train) if settings.features == "auto" else settings.features
    table = _with_volumes(table, regions, settings.normalise, use_age=settings.use_age)
    controls = table[(table["split"] == "train") & (table["diagnosis"] == "CN")]
    hippocampi = [name for name in known_sides(train) if name.startswith("hippocampus")]
    how = normalise.fit(controls, tuple(dict.fromkeys((*regions, *hippocampi))), settings.normalise)
    features = feature_matrix(table, regions, how, use_age=settings.use_age)
    model = _fit(features, table, settings, [normalise.told(name, how) for name in regions]) | {
        "source": source,
        "normalisation": how,
        "reference": _reference(controls, hippocampi, how),
    }
    provenance.write_json(Path(out_dir) / "model.json", model)
    return prediction_table(table, logits(model, features), model=MODEL, seed=settings.seed)


def read_volumes(path: Path) -> pd.DataFrame:
    """The packed scans' volumes in mm³, their source and notes; an intracranial volume of 0 is refused."""
    table = ROI_TABLE.read(path)
    if (zero := table[ICV] < 1).any():
        raise BadInput(
            expected=f"{ICV} volumes of at least 1 mm³, or blank",
            got=f"{table.loc[zero, ICV].iloc[0]:g} of {table.loc[zero, 'scan_id'].iloc[0]}",
            where=str(path),
            fix="Correct or remove that row.",
        )
    return table


def known_sides(table: pd.DataFrame) -> tuple[str, ...]:
    """Hippocampus and entorhinal cortex as finely as a volume table knows them: both sides, else their sum, else not at all."""
    regions: list[str] = []
    for total, sides in TOTALS.items():
        if table[list(sides)].notna().any(axis=None):
            regions += sides
        elif table[total].notna().any():
            regions.append(total)
    return tuple(regions)


def feature_matrix(
    table: pd.DataFrame, regions: tuple[str, ...], how: Mapping[str, Any], *, use_age: bool
) -> np.ndarray:
    """Volumes without head size (`how`: see `normalise.fit`), then age in years if asked: (n_scans, n_features) float."""
    volumes = normalise.apply(table, regions, how)
    return np.column_stack([volumes, table["age_years"]]) if use_age else volumes


def logits(model: Mapping[str, Any], features: np.ndarray) -> np.ndarray:
    """Class scores of a stored model: (n_scans, n_features) to (n_scans, 3) in the order CN, MCI, AD."""
    standard = (features - np.array(model["mean"])) / np.array(model["deviation"])
    return standard @ np.array(model["coefficients"]).T + np.array(model["intercepts"])


def percentile(
    model: Mapping[str, Any], volumes_mm3: Mapping[str, float], *, age_years: float, source: str
) -> dict[str, float]:
    """Percentile (0 to 100) of a scan's hippocampi among cognitively normal people of its age, at its head size.

    Parameters
    ----------
    model : mapping
        A baseline's `model.json`.
    volumes_mm3 : mapping
        `hippocampus_left`, `hippocampus_right`, `hippocampus` and `intracranial`, in mm³.
    age_years : float
    source : str
        Where the volumes come from, as in `measure.source`: refused where the baseline's come from elsewhere.

    Returns
    -------
    dict of str to float
        Per side (or of both, where the baseline's source tells no sides); empty where the training data held fewer
        than `MIN_CONTROLS` cognitively normal scans.
        Outside the reference's ages (`reference.age_years` in the file) the line is extrapolated.
    """
    if model["source"] != source:
        raise BadInput(
            expected=f"volumes of the baseline's source, {model['source']}",
            got=f"{source} ones, which are not comparable with them",
            where="the volume baseline",
            fix="Compare with a baseline of the same source.",
        )
    found = {}
    for region, line in model["reference"]["regions"].items():
        (volume,) = normalise.apply(volumes_mm3, [region], model["normalisation"])
        expected = line["intercept"] + line["slope_per_year"] * age_years
        found[region] = float(100 * norm.cdf((volume - expected) / line["residual_deviation"]))
    return found


def _one_source(table: pd.DataFrame, path: Path) -> str:
    """The source of all volumes; two in one table are refused."""
    sources = sorted(set(table["source"]))
    if len(sources) != 1:
        raise BadInput(
            expected="volumes of one source, because those of two are not comparable",
            got=" and ".join(sources) or "no scans that take part",
            where=str(path),
            fix="Run `measure` and `pack` again with one measure.source.",
        )
    return sources[0]


def _with_volumes(table: pd.DataFrame, regions: tuple[str, ...], method: str, *, use_age: bool) -> pd.DataFrame:
    """The scans that have every volume that is needed, and their age where it is a feature; the others are named."""
    volumes = [*regions, *([ICV] if method != "none" else [])]
    needed = volumes + ["age_years"] * use_age
    blank = table[needed].isna()
    lacking = blank.any(axis=1)
    of_train = blank[table["split"] == "train"]
    if not regions or of_train.any(axis=1).all():
        raise BadInput(
            expected=f"training scans with volumes of {', '.join(volumes)}{' and their age' if use_age else ''}",
            got=f"{', '.join(of_train.columns[of_train.all()]) or 'one or another'} of none",
            where="roi_volumes.tsv",
            fix="Name in baseline.features what the source of the volumes tells; without an intracranial volume set "
            f"baseline.normalise: none{', without ages baseline.use_age: false' if use_age else ''}.",
        )
    for scan, short in zip(table[lacking].itertuples(), blank[lacking].to_numpy(), strict=True):
        why = f" ({scan.note})" if isinstance(scan.note, str) else ""
        print(f"baseline: {scan.scan_id} has no {', '.join(np.array(needed)[short])}{why}; not predicted", flush=True)
    print(
        f"baseline: {int((~lacking).sum())} of {len(table)} scans have the volumes{' and an age' if use_age else ''}",
        flush=True,
    )
    return table[~lacking].reset_index(drop=True)


def _scans(scans_path: Path, splits_path: Path) -> pd.DataFrame:
    """What the baseline needs to know of each scan besides its volumes."""
    joined = join_splits(read_scans(scans_path), SPLIT.read(splits_path))
    return joined[["scan_id", "subject_id", "cohort", "split", "diagnosis", "age_years"]]


def _fit(features: np.ndarray, table: pd.DataFrame, settings: config.Baseline, names: list[str]) -> dict[str, Any]:
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
        "features": names + ["age_years"] * settings.use_age,
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


def _reference(controls: pd.DataFrame, regions: list[str], how: Mapping[str, Any]) -> dict[str, Any]:
    """Hippocampal volume without head size by age among cognitively normal training scans.

    A line in age with normal residuals, as in published norms of subcortical volumes
    (Potvin et al., NeuroImage 2016).
    """
    healthy = controls.dropna(subset=[*regions, "age_years", *([ICV] if how["method"] != "none" else [])])
    age = healthy["age_years"].to_numpy()
    lines = {}
    for region in regions if len(healthy) >= MIN_CONTROLS else ():
        volume = normalise.apply(healthy, [region], how)[:, 0]
        slope, intercept = np.polyfit(age, volume, 1)
        deviation = (volume - intercept - slope * age).std(ddof=2)
        lines[region] = {
            "intercept": float(intercept),
            "slope_per_year": float(slope),
            "residual_deviation": float(deviation),
        }
    return {
        "of": f"{normalise.told('volume', how)} among CN training scans",
        "n_scans": len(healthy),
        "regions": lines,
        "n_subjects": int(healthy["subject_id"].nunique()),
        "age_years": [float(age.min()), float(age.max())] if len(age) else None,
    }
