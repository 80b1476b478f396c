"""How every figure looks: colours that colour-blind readers can tell apart, one font, PNG and SVG.

The colours are from the palettes of Okabe & Ito (2008) and of P. Tol; the classes also differ in lightness and, in
charts of several models, the models also differ in marker and dash.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from elr_mri.provenance import atomic
from elr_mri.scans.table import CLASSES

INK, QUIET, FAINT = "#1d2733", "#66717e", "#d9dee4"
CLASS_COLOURS = dict(zip(CLASSES, ("#0072B2", "#E69F00", "#882255"), strict=True))
#: Outlines on scans.
REGION_COLOURS = {"hippocampus": "#56E0FF", "entorhinal": "#FFC933"}
#: Colour, marker and dash of the first, second, … model; wraps around.
MODEL_STYLES = (
    ("#66717e", "s", (0, (1, 1.2))),
    ("#56B4E9", "v", (0, (4, 1.5))),
    ("#009E73", "^", (0, (4, 1.2, 1, 1.2))),
    ("#0072B2", "o", "-"),
    ("#CC79A7", "D", (0, (6, 1.5))),
    ("#E69F00", "P", (0, (2.5, 1))),
    ("#D55E00", "X", "-"),
    ("#332288", "<", (0, (3, 1, 1, 1, 1, 1))),
    ("#999933", ">", (0, (1, 2.5))),
    ("#AA4499", "*", "-"),
)
#: Sequential, dark to light, even in lightness: readable in grey.
SALIENCY_MAP = "inferno"

RC = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "figure.facecolor": "white",
    "savefig.facecolor": "auto",
    "svg.hashsalt": "elr_mri",
    "svg.fonttype": "path",
    "text.parse_math": False,  # `$` in a name is a dollar sign
}
DPI = 160


def figure(width_in: float, height_in: float) -> Figure:
    """An empty figure, sized in inches, that lays out its own axes; drawn without a display.

    Axes take the house style when they are made, so make them inside `drawing()`.
    """
    return Figure(figsize=(width_in, height_in), layout="constrained")


def drawing() -> mpl.rc_context:
    """The context in which figures are made and saved."""
    return mpl.rc_context(RC)


def save(drawn: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.png` and `<stem>.svg`, the same bytes for the same figure; returns both paths."""
    paths = [stem.parent / f"{stem.name}.png", stem.parent / f"{stem.name}.svg"]
    drawn.draw_without_rendering()  # lays out once; both formats then take the same places
    drawn.set_layout_engine("none")
    for path, facts in zip(paths, ({"Software": None}, {"Date": None}), strict=True):
        with atomic(path) as draft:
            drawn.savefig(draft, dpi=DPI, metadata=facts)
    return paths


def model_style(models: list[str], model: str) -> dict[str, object]:
    """Colour, marker and dash of one of `models`, by its place among them."""
    colour, marker, dash = MODEL_STYLES[models.index(model) % len(MODEL_STYLES)]
    return {"color": colour, "marker": marker, "linestyle": dash}


def bare(axes: Axes) -> None:
    """Leave nothing of an axes but what is drawn in it: for pictures."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def group_title(cohort: str, split: str) -> str:
    """How a group of scans is named to a reader: `ADNI test`, `NACC (external)`."""
    return f"{cohort} (external)" if split == "external" else f"{cohort} {split}"
