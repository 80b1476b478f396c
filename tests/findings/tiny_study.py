"""A tiny study as tables and arrays: what the findings zone reads, written by the tests themselves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from elr_mri import config
from elr_mri.imaging.labels import REGIONS, TOTALS
from elr_mri.imaging.packed import CACHE_VERSION, INDEX, digest_row
from elr_mri.scans.demographics import DEMOGRAPHICS, count
from elr_mri.scans.predictions import PREDICTIONS, prediction_table
from elr_mri.scans.saliency import CASCADE, CHECKS, LOBES, REST, SHARES, WAYS
from elr_mri.scans.table import CLASSES, EXCLUSIONS, NOTES, SCANS, SPLIT

NOTE = "=HYPERLINK(0) <mark>two tables</mark> disagree"
SHAPE, AFFINE = (16, 18, 15), np.array([[9.0, 0, 0, -70], [0, 9, 0, -100], [0, 0, 9, -60], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Study:
    """Folder and tables of a study; `severity` is the latent severity of every scan."""

    root: Path
    scans: pd.DataFrame
    severity: np.ndarray


def make(root: Path, *, effect: float = 1.0, n_subjects: int = 60, seed: int = 0, odd_id: str = "") -> Study:
    """Scans of `n_subjects` and a third as many external ones; volumes fall with severity by `effect` deviations."""
    rng = np.random.default_rng(seed)
    rows, splits = [], []
    for cohort, n in (("ADNI", n_subjects), ("NACC", n_subjects // 3)):
        for i in range(n):
            subject, severity, age = f"sub-{cohort}{odd_id}{i:04d}", rng.normal(), rng.uniform(60, 85)
            splits.append(
                {
                    "cohort": cohort,
                    "subject_id": subject,
                    "split": "external" if cohort == "NACC" else ("train", "val", "test", "train")[i % 4],
                }
            )
            for months in (0, 12):
                rows.append(
                    {
                        "scan_id": f"{subject}_ses-M{months:03d}",
                        "cohort": cohort,
                        "subject_id": subject,
                        "session_id": f"ses-M{months:03d}",
                        "months": months,
                        "age_years": age + months / 12,
                        "sex": "FM"[i % 2],
                        "image_path": f"{subject}/{months}.nii",
                        "diagnosis": CLASSES[int(np.digitize(severity, [-0.43, 0.43]))],
                        "severity": severity,
                    }
                )
    table = pd.DataFrame(rows)
    severity = table.pop("severity").to_numpy()
    scans = table.reindex(columns=[column.name for column in SCANS.columns])
    SCANS.write(scans, root / "scans.tsv")
    SPLIT.write(pd.DataFrame(splits).assign(fold=np.nan), root / "splits.tsv")
    (root / "pack").mkdir(exist_ok=True)
    icv = rng.normal(1.5e6, 1e5, len(scans))
    volumes = pd.DataFrame({"scan_id": scans["scan_id"]})
    for region in REGIONS:
        volumes[region] = icv * (2.2e-3 + 2e-4 * (rng.normal(size=len(scans)) - effect * severity))
    for total, sides in TOTALS.items():
        volumes[total] = volumes[list(sides)].sum(axis=1)
    volumes.assign(intracranial=icv, source="registered", note="").to_csv(
        root / "pack" / "roi_volumes.tsv", sep="\t", index=False
    )
    return Study(root, scans, severity)


def predict(study: Study, model: str, *, noise: float, seed: int = 0) -> Path:
    """A model folder whose logits follow the severity, with noise, and which learnt a little."""
    folder = study.root / "learning" / model / f"seed-{seed}"
    rng = np.random.default_rng([seed, *model.encode()])
    guess = study.severity + noise * rng.normal(size=len(study.severity))
    logits = -4 * (guess[:, None] - np.array([-1, 0, 1])) ** 2
    split = study.scans.merge(SPLIT.read(study.root / "splits.tsv").drop(columns="fold"), on=["cohort", "subject_id"])
    PREDICTIONS.write(prediction_table(split, logits, model=model, seed=seed), folder / "predictions.tsv")
    epochs = pd.DataFrame(
        {"epoch": [1, 2, 3], "learning_rate": 1e-3, "train_loss": [1.1, 0.9, 0.8], "train_ce": [1.1, 0.9, 0.8]}
    )
    epochs = epochs.assign(
        train_accuracy=[0.3, 0.5, 0.6],
        val_ce=[1.1, 1.0, 0.9],
        val_accuracy=0.4,
        val_balanced_accuracy=[0.33, 0.4, 0.5],
        seconds=1.0,
    )
    epochs.to_csv(folder / "history.tsv", sep="\t", index=False)
    return folder


def add_pictures(study: Study) -> None:
    """The cache, template, labels, saliency maps, QC pictures, exclusions, demographics and states of a study."""
    root, rng = study.root, np.random.default_rng(0)
    grid = np.indices(SHAPE).astype(float)
    brain = sum(((grid[a] - (SHAPE[a] - 1) / 2) / (SHAPE[a] / 2.4)) ** 2 for a in range(3)) < 1
    labels = np.zeros(SHAPE, np.uint8)
    for number, corner in zip(REGIONS.values(), ((4, 8, 6), (10, 8, 6), (4, 10, 5), (10, 10, 5)), strict=True):
        labels[tuple(slice(c, c + 2) for c in corner)] = number
    for name, data in (("template", brain.astype(np.float32)), ("labels", labels)):
        nib.save(nib.Nifti1Image(data, AFFINE), root / f"{name}.nii.gz")
    cache = (200 * brain * rng.uniform(0.5, 1, (len(study.scans), *SHAPE))).astype(np.uint8)
    np.save(root / "pack" / "volumes.npy", cache)
    index = study.scans[["scan_id"]].assign(
        row=range(len(study.scans)), sha256=[digest_row(row) for row in cache], source="tiny"
    )
    INDEX.write(index, root / "pack" / "index.tsv")
    meta = {"version": CACHE_VERSION, "affine": AFFINE.tolist(), "shape": SHAPE, "channels": ["T1w"], "dtype": "uint8"}
    (root / "pack" / "meta.json").write_text(json.dumps(meta))
    states = study.scans[["scan_id"]].assign(step="pack", status="pass", reason="")
    states.loc[0, ["step", "status", "reason"]] = ["register", "fail", "QC <mark>poor</mark>"]
    states.loc[1, "status"] = "review"
    states.to_csv(root / "pack" / "status.tsv", sep="\t", index=False)
    maps = root / "explain" / "wide"
    maps.mkdir(parents=True)
    for name in ("aggregate", *(f"{kind}_{c}" for kind in ("aggregate", "example") for c in CLASSES)):
        nib.save(
            nib.Nifti1Image((rng.random(SHAPE) * brain + 5 * (labels > 0)).astype(np.float32), AFFINE),
            maps / f"{name}.nii.gz",
        )
    add_saliency_tables(maps)
    for scan_id in study.scans["scan_id"][:6]:
        (root / "register" / scan_id).mkdir(parents=True)
        Figure(figsize=(1.5, 0.5)).savefig(root / "register" / scan_id / f"{scan_id}_space-T_qc.png")
        (root / "register" / scan_id / f"{scan_id}_space-T_qc.json").write_text(
            json.dumps({"numbers": {"local_correlation": 0.7}})
        )
    excluded = {
        "cohort": "ADNI",
        "image_path": ["a", "b", "c"],
        "image_uid": ["1", "2", "3"],
        "reason": ["repeat", "repeat", "localizer"],
    }
    EXCLUSIONS.write(pd.DataFrame(excluded).assign(subject_id=None, detail=None), root / "exclusions.tsv")
    with_split = study.scans.merge(SPLIT.read(root / "splits.tsv"), on=["cohort", "subject_id"])
    DEMOGRAPHICS.write(count(with_split), root / "demographics.tsv")
    notes = {"cohort": "ADNI", "subject_id": study.scans["subject_id"].iloc[0], "months": range(9)}
    NOTES.write(pd.DataFrame(notes).assign(note=NOTE), root / "notes.tsv")


def add_saliency_tables(folder: Path, *, ratio: float = 4.0, verdict: str = "pass") -> None:
    """The tables of `explain` for one method: the medial temporal regions have `ratio`, fresh weights none; one check was not made."""
    rows = []
    for model, factor in (("trained", ratio), ("random", 1.1)):
        for name in ("all", *CLASSES):
            for way in WAYS:
                for region, volume in (*((side, 0.002) for side in REGIONS), (LOBES, 0.008), (REST, 0.9)):
                    told = {"method": "gradient", "model": model, "class": name, "way": way, "region": region}
                    value = 1.0 if region == REST else factor
                    found = {"ratio": value, "low": 0.8 * value, "high": 1.2 * value, "mass_share": volume * value}
                    rows.append(told | found | {"volume_share": volume, "n_scans": 30, "n_subjects": 15})
    SHARES.write(pd.DataFrame(rows), folder / "shares.tsv")
    checks = [
        ("fresh weights", 0.2, "at most", 0.5, "pass"),
        ("random labels", None, "at most", 0.5, "not made"),
        ("split halves", 0.31, "at least", 0.5, verdict),
    ]
    columns = ["check", "value", "asked", "threshold", "verdict"]
    CHECKS.write(pd.DataFrame(checks, columns=columns).assign(method="gradient", note=""), folder / "checks.tsv")
    steps = {"step": range(3), "layer": ["none", "classifier.1", "blocks.0"], "rank_correlation": [1, 0.6, -0.1]}
    CASCADE.write(pd.DataFrame(steps).assign(method="gradient"), folder / "cascade.tsv")


def settings(study: Study, **phantom: float) -> config.Study:
    """The config of a study, with its own template and labels; synthetic if `phantom` is given."""
    return config.Study(
        cohorts=(config.Cohort(name="ADNI", format="adni", path="private/folder/adni"),),
        register=config.Register(template=str(study.root / "template.nii.gz")),
        measure=config.Measure(labels=str(study.root / "labels.nii.gz")),
        phantom=config.Phantom(**phantom) if phantom else None,
    )
