"""Every figure of the report, from tables and volumes, as PNG and SVG under one folder.

`draw` saves what can be drawn from what is there and returns the stems by name; a figure whose input is
absent is not in the result, and the page says so in its place.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from elr_mri.findings import believed, brains, charts, privacy, reliability, style
from elr_mri.findings.baseline import known_sides, read_volumes
from elr_mri.findings.normalise import ICV
from elr_mri.imaging import names
from elr_mri.imaging.bridge import labels_on
from elr_mri.imaging.grids import box, pull
from elr_mri.imaging.labels import REGIONS
from elr_mri.imaging.packed import Cache
from elr_mri.imaging.picture import CAPTION_PIXELS
from elr_mri.imaging.template import brain_template
from elr_mri.provenance import atomic, read_json
from elr_mri.scans.schema import Column, Schema
from elr_mri.scans.table import CLASSES

#: How many QC pictures are shown: the worst ones, then evenly spaced ones of the rest.
N_QC_WORST, N_QC_TYPICAL = 3, 2
#: The number in a scan's QC file by which equal verdicts are ranked.
QC_NUMBER = "local_correlation"
#: Spacing of the template behind outlines and saliency.
TEMPLATE_SPACING_MM = 1.0

HISTORY = Schema(
    name="history",
    version=1,
    key=("epoch",),
    columns=(
        Column("epoch", "number"),
        *(
            Column(name, "number", required=False)
            for name in ("train_ce", "train_accuracy", "val_ce", "val_balanced_accuracy")
        ),
    ),
)


#: Of `examples.tsv` what is read here: of each class the scan whose saliency is shown.
EXAMPLES = Schema(
    name="example",
    version=1,
    key=("class",),
    columns=(Column("class", allowed=CLASSES), Column("scan_id")),
)


@dataclass(frozen=True)
class Pictures:
    """Where figures go, and which were drawn: name to stem, without suffix."""

    folder: Path
    stems: dict[str, Path]

    def add(self, name: str, drawn: Figure) -> None:
        """Save a figure as PNG and SVG."""
        style.save(drawn, self.folder / name)
        self.stems[name] = self.folder / name

    def take(self, name: str, stem: Path) -> None:
        """Put a figure that another step drew beside the others."""
        for kind in ("png", "svg"):
            with atomic(self.folder / f"{name}.{kind}") as draft:
                shutil.copyfile(stem.with_name(f"{stem.name}.{kind}"), draft)
        self.stems[name] = self.folder / name


def draw_scores(pictures: Pictures, results: pd.DataFrame, roc: pd.DataFrame, confusion: pd.DataFrame) -> None:
    """`results`, `roc` and `confusion`; nothing where there is no group of unseen scans."""
    if results["split"].isin(("test", "external")).any():
        pictures.add("results", charts.forest(results))
    if confusion["split"].isin(("test", "external")).any():
        pictures.add("confusion", charts.confusion_matrices(confusion))
    if len(roc):
        pictures.add("roc", charts.roc_curves(roc, results))


def draw_reliability(pictures: Pictures, curves: pd.DataFrame) -> None:
    """`reliability`; nothing where no unseen scan was scored."""
    if len(curves):
        pictures.add("reliability", reliability.curves(curves))


def draw_learning(pictures: Pictures, model_dirs: Sequence[Path]) -> None:
    """`learning`: the histories of model folders named `<model>/seed-<n>`."""
    histories = [
        HISTORY.read(folder / "history.tsv").assign(
            model=folder.parent.name, seed=int(folder.name.removeprefix("seed-"))
        )
        for folder in model_dirs
    ]
    if histories:
        pictures.add("learning", charts.learning_curves(pd.concat(histories, ignore_index=True)))


def draw_volumes(pictures: Pictures, pack_dir: Path, scans: pd.DataFrame, *, dots: bool = True) -> pd.DataFrame:
    """`volumes`: each region by class, where there are any; returns the volume table with the scans' diagnoses."""
    volumes = read_volumes(pack_dir / "roi_volumes.tsv").merge(scans[["scan_id", "cohort", "diagnosis"]], on="scan_id")
    long = volumes.melt(["scan_id", "diagnosis", ICV], list(known_sides(volumes)), "region", "volume_mm3")
    long = long.assign(share=long["volume_mm3"] / long[ICV]).dropna(subset=["share"])
    if len(long):
        pictures.add("volumes", charts.volumes_by_class(long, dots=dots))
    return volumes


def draw_examples(
    pictures: Pictures, pack_dir: Path, volumes: pd.DataFrame, anatomy: brains.Anatomy, *, shown: bool = True
) -> dict[str, str]:
    """`examples`: of each class the packed scan of median hippocampal volume, outlined if it may be `shown`; returns class to scan_id."""
    size = volumes["hippocampus"] / (volumes[ICV] if volumes[ICV].notna().any() else 1.0)
    chosen = {}
    for name in CLASSES:
        here = size[volumes["diagnosis"] == name].sort_values(kind="stable")
        of_class = here.dropna() if here.notna().any() else here
        if len(of_class):
            chosen[name] = str(volumes.loc[of_class.index[len(of_class) // 2], "scan_id"])
    cache = Cache.read(pack_dir)
    affine = np.array(cache.meta["affine"])
    scans = {name: brains.Volume(cache.volume(scan_id), affine) for name, scan_id in chosen.items()}
    if shown:
        pictures.add("examples", brains.outlined(scans, anatomy))
    return chosen


def draw_qc(pictures: Pictures, register_dir: Path, states: pd.DataFrame, called: privacy.Names) -> None:
    """`registration`: the worst QC pictures by verdict and `QC_NUMBER`, then some of the rest; the scan's id stands in a picture's caption, which
    is cut off outside the house."""
    paths = {scan_id: names.verdict_path(register_dir / scan_id, scan_id) for scan_id in states["scan_id"]}
    drawn = {scan_id: path.with_suffix(".png") for scan_id, path in paths.items() if path is not None}
    there = states[[scan_id in drawn and drawn[scan_id].is_file() for scan_id in states["scan_id"]]]
    if there.empty:
        return
    told = [read_json(paths[scan_id])["numbers"].get(QC_NUMBER, np.nan) for scan_id in there["scan_id"]]
    ranked = there.assign(number=told, order=there["status"].map({"fail": 0, "review": 1, "pass": 2}))
    ranked = ranked.sort_values(["order", "number", "scan_id"], na_position="first", ignore_index=True)
    worst, rest = ranked.head(N_QC_WORST), ranked.iloc[N_QC_WORST:]
    typical = (
        rest.iloc[np.linspace(0, len(rest), N_QC_TYPICAL + 2)[1:-1].astype(int)].drop_duplicates()
        if len(rest)
        else rest
    )
    titles = {
        f"{name}: {called.scan(row.scan_id)}, {row.status}, local correlation {row.number:.2f}": drawn[row.scan_id]
        for name, rows in (("among the worst", worst), ("typical", typical))
        for row in rows.itertuples()
    }
    pictures.add("registration", brains.montage(titles, cut=0 if called.in_house else CAPTION_PIXELS))


def viewer_maps(explain_dir: Path, *, people: bool) -> dict[str, brains.Volume]:
    """Saliency for the viewer by title: overall, by class, of random weights; with `people` of few persons and those of the example scans, too."""
    told = believed.may_tell(explain_dir, people=people)
    rows = {
        **({"saliency, all scans": "aggregate"} if "all" in told else {}),
        **{f"saliency, {name}": f"aggregate_{name}" for name in CLASSES if name in told},
        **({"saliency, random weights": "aggregate_random"} if "all" in told else {}),
        **{f"saliency of the {name} scan": f"example_{name}" for name in (CLASSES if people else ())},
    }
    paths = {title: explain_dir / f"{stem}.nii.gz" for title, stem in rows.items()}
    return {title: brains.Volume.read(path) for title, path in paths.items() if path.is_file()}


def viewer_scans(pack_dir: Path, explain_dir: Path | None, chosen: Mapping[str, str]) -> dict[str, brains.Volume]:
    """Example scans for the viewer by title: those whose saliency there is (`examples.tsv`), else those `chosen`, class to scan_id."""
    cache = Cache.read(pack_dir)
    affine = np.array(cache.meta["affine"])
    if explain_dir and (path := explain_dir / "examples.tsv").is_file():
        table = EXAMPLES.read(path)
        chosen = dict(zip(table["class"], table["scan_id"], strict=True))
    return {f"a {name} scan": brains.Volume(cache.volume(scan_id), affine) for name, scan_id in chosen.items()}


def draw_saliency(pictures: Pictures, explain_dir: Path, anatomy: brains.Anatomy, *, people: bool = True) -> None:
    """`saliency` (all scans, each class, random weights or labels), `saliency_examples` (one scan of each class), `saliency_regions` (ratios, cascade); without `people` nothing of fewer than five persons."""
    told = believed.may_tell(explain_dir, people=people)
    if "all" not in told:
        return
    rows = {"all": "", **{name: f"_{name}" for name in CLASSES if name in told}}
    rows |= {"random\nweights": "_random", "random\nlabels": "_permuted"}
    whole = {title: explain_dir / f"aggregate{ending}.nii.gz" for title, ending in rows.items()}
    single = {name: explain_dir / f"example_{name}.nii.gz" for name in CLASSES if people}
    for figure, files, views in (
        ("saliency", whole, brains.aggregate_views(anatomy)),
        ("saliency_examples", single, brains.example_views(anatomy)),
    ):
        maps = {title: brains.Volume.read(path) for title, path in files.items() if path.is_file()}
        if maps:
            pictures.add(figure, brains.saliency(maps, anatomy, views))
    if drawn := believed.draw(explain_dir):
        pictures.add("saliency_regions", drawn)


def read_anatomy(template: str, mask: str | None, labels: str) -> brains.Anatomy:
    """The template and its labels on one grid, as named in the config's sections `register` and `measure`."""
    image = brain_template(template, mask)
    found = labels_on(image, labels)
    low, high = image.extent_mm
    grid = box(tuple(np.floor(low)), tuple(np.ceil(high)), TEMPLATE_SPACING_MM)
    brain = np.where(image.mask_on(grid) > 0.5, image.image_on(grid), 0)
    numbers = pull(found.volume, found.affine, grid, order=0, soft=False)
    return brains.Anatomy(brains.Volume(brain, grid.affine), brains.Volume(numbers, grid.affine), REGIONS)
