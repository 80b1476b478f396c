"""Every figure of the report, from tables and volumes, as PNG and SVG under one folder.

`draw` saves what can be drawn from what is there and returns the stems by name; a figure whose input is
absent is not in the result, and the page says so in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from elr_mri.errors import BadInput
from elr_mri.findings import brains, charts, style
from elr_mri.findings.baseline import ICV, read_volumes
from elr_mri.provenance import read_json
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES

REGIONS = ("hippocampus_left", "hippocampus_right", "entorhinal_left", "entorhinal_right")
#: How many QC pictures are shown: those that failed or were marked first, then evenly spaced ones that passed.
N_QC_WORST, N_QC_TYPICAL = 4, 4

HISTORY = Schema(
    name="history",
    version=1,
    key=("epoch",),
    columns=(
        Column("epoch", "number"),
        *(Column(name, "number", required=False) for name in ("train_ce", "train_accuracy", "val_ce", "val_balanced_accuracy")),
    ),
)
LABEL_NAMES = Schema("label", 1, (Column("index", "integer"), Column("name")), key=("index",))


@dataclass(frozen=True)
class Pictures:
    """Where figures go, and which were drawn: name to stem, without suffix."""

    folder: Path
    stems: dict[str, Path]

    def add(self, name: str, drawn: Figure) -> None:
        """Save a figure as PNG and SVG."""
        style.save(drawn, self.folder / name)
        self.stems[name] = self.folder / name


def draw_scores(pictures: Pictures, results: pd.DataFrame, roc: pd.DataFrame, confusion: pd.DataFrame) -> None:
    """`results`, `roc` and `confusion`; nothing where there is no group of unseen scans."""
    if results["split"].isin(("test", "external")).any():
        pictures.add("results", charts.forest(results))
        pictures.add("confusion", charts.confusion_matrices(confusion))
    if len(roc):
        pictures.add("roc", charts.roc_curves(roc, results))


def draw_learning(pictures: Pictures, model_dirs: Sequence[Path]) -> None:
    """`learning`: the histories of model folders named `<model>/seed-<n>`."""
    histories = [
        HISTORY.read(folder / "history.tsv").assign(model=folder.parent.name, seed=int(folder.name.removeprefix("seed-")))
        for folder in model_dirs
    ]
    if histories:
        pictures.add("learning", charts.learning_curves(pd.concat(histories, ignore_index=True)))


def draw_volumes(pictures: Pictures, pack_dir: Path, scans: pd.DataFrame) -> pd.DataFrame:
    """`volumes`: each region by class; returns the volume table with the scans' diagnoses."""
    volumes = read_volumes(pack_dir / "roi_volumes.tsv", REGIONS).merge(scans[["scan_id", "diagnosis"]], on="scan_id")
    long = volumes.melt(["scan_id", "diagnosis", ICV], list(REGIONS), "region", "volume_mm3")
    pictures.add("volumes", charts.volumes_by_class(long.assign(share=long["volume_mm3"] / long[ICV])))
    return volumes


def draw_examples(pictures: Pictures, pack_dir: Path, volumes: pd.DataFrame, anatomy: brains.Anatomy) -> dict[str, str]:
    """`examples`: of each class the packed scan of median hippocampal volume, outlined; returns class to scan_id."""
    share = (volumes["hippocampus_left"] + volumes["hippocampus_right"]) / volumes[ICV]
    chosen = {}
    for name in CLASSES:
        of_class = share[volumes["diagnosis"] == name].sort_values(kind="stable")
        if len(of_class):
            chosen[name] = str(volumes.loc[of_class.index[len(of_class) // 2], "scan_id"])
    rows = pd.read_csv(pack_dir / "index.tsv", sep="\t", dtype={"scan_id": str}).set_index("scan_id")["row"]
    cached = np.load(pack_dir / "volumes.npy", mmap_mode="r")
    affine = np.array(read_json(pack_dir / "meta.json")["affine"])
    scans = {name: brains.Volume(np.array(cached[rows[scan_id]], dtype=np.float32), affine) for name, scan_id in chosen.items()}
    pictures.add("examples", brains.outlined(scans, anatomy))
    return chosen


def draw_qc(pictures: Pictures, register_dir: Path, states: pd.DataFrame) -> None:
    """`registration`: QC pictures, the failed and the marked ones first, then some that passed."""
    there = states[[(register_dir / scan_id / f"{scan_id}_qc.png").is_file() for scan_id in states["scan_id"]]]
    order = there["status"].map({"fail": 0, "review": 1, "pass": 2})
    worst = there[order < 2].assign(order=order).sort_values(["order", "scan_id"]).head(N_QC_WORST)
    passed = there[order == 2].sort_values("scan_id")
    typical = passed.iloc[np.unique(np.linspace(0, len(passed) - 1, min(N_QC_TYPICAL, len(passed))).astype(int))] if len(passed) else passed
    shown = pd.concat([worst, typical])
    if len(shown):
        titles = [f"{row.status}: {row.scan_id}" for row in shown.itertuples()]
        files = [register_dir / scan_id / f"{scan_id}_qc.png" for scan_id in shown["scan_id"]]
        pictures.add("registration", brains.montage(dict(zip(titles, files, strict=True))))


def draw_saliency(pictures: Pictures, explain_dir: Path, anatomy: brains.Anatomy) -> None:
    """`saliency` (all scans, then each class) and `saliency_examples` (one scan of each class)."""
    whole = {"all": explain_dir / "aggregate.nii.gz"} | {name: explain_dir / f"aggregate_{name}.nii.gz" for name in CLASSES}
    single = {name: explain_dir / f"example_{name}.nii.gz" for name in CLASSES}
    for figure, files, views in (
        ("saliency", whole, brains.aggregate_views(anatomy)), ("saliency_examples", single, brains.example_views(anatomy)),
    ):
        maps = {title: brains.Volume.read(path) for title, path in files.items() if path.is_file()}
        if maps:
            pictures.add(figure, brains.saliency(maps, anatomy, views))


def read_anatomy(template_path: Path, labels_path: Path, label_names_path: Path) -> brains.Anatomy:
    """The template and its label map, with the regions of `REGIONS`; refuses labels that lack one."""
    names = LABEL_NAMES.read(label_names_path)
    numbers = {name: int(index) for index, name in zip(names["index"], names["name"], strict=True) if name in REGIONS}
    labels = brains.Volume.read(labels_path)
    absent = [name for name in REGIONS if name not in numbers or not (labels.data == numbers[name]).any()]
    if absent:
        raise BadInput(
            expected=f"the regions {', '.join(REGIONS)}", got=f"no {', '.join(absent)}", where=f"{labels_path}, {label_names_path}",
            fix="Give a label map that holds them, and a table with their index and name.",
        )
    return brains.Anatomy(brains.Volume.read(template_path), labels, numbers)
