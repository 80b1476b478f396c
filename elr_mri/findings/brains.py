"""Pictures of brains: scans with their regions outlined, saliency over the template, the montage of QC pictures.

Everything is drawn in the template's millimetres, so that images of different grids lie on each other: a
scan of the cache, the labels at their own finer spacing, a saliency map. Slices are shown as
RAS+ stores them: the left of the brain on the left of the picture, anterior to the right in sagittal views.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from elr_mri.errors import BadInput
from elr_mri.findings import style

NIGHT, LIGHT = "#000000", "#e8edf2"
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclass(frozen=True)
class Volume:
    """An image on a grid that is aligned with the template's axes.

    data : (X, Y, Z), RAS+; affine : (4, 4), voxel index to mm, diagonal but for the origin.
    """

    data: np.ndarray
    affine: np.ndarray

    @classmethod
    def read(cls, path: Path) -> Volume:
        """A NIfTI in the template's space; raises `BadInput` where its grid is oblique."""
        image = nib.as_closest_canonical(nib.load(path))
        turned = image.affine[:3, :3] - np.diag(np.diag(image.affine[:3, :3]))
        if np.abs(turned).max() > 1e-3:
            raise BadInput(
                expected="an image aligned with the template's axes",
                got="an oblique grid",
                where=str(path),
                fix="Resample it to the template.",
            )
        return cls(np.asarray(image.dataobj), image.affine)

    def index(self, plane: str, mm: float) -> int:
        """The slice nearest to a position, clipped to the grid."""
        axis = AXES[plane]
        found = round((mm - self.affine[axis, 3]) / self.affine[axis, axis])
        return int(np.clip(found, 0, self.data.shape[axis] - 1))

    def slice(self, plane: str, mm: float) -> np.ndarray:
        """The slice nearest to a position: rows upward, columns rightward."""
        return np.take(self.data, self.index(plane, mm), axis=AXES[plane]).T

    def extent(self, plane: str) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of a slice, in mm (edges of the outer voxels)."""
        across, up = (axis for axis in range(3) if axis != AXES[plane])
        edges = [
            (
                self.affine[a, 3] - self.affine[a, a] / 2,
                self.affine[a, 3] + self.affine[a, a] * (self.data.shape[a] - 0.5),
            )
            for a in (across, up)
        ]
        return (*edges[0], *edges[1])

    def centre(self, mask: np.ndarray) -> np.ndarray:
        """Centre of gravity of a mask of this grid, (3,) mm."""
        return self.affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + self.affine[:3, 3]

    def bounds(self, mask: np.ndarray, margin_mm: float = 4.0) -> np.ndarray:
        """Lower and upper corner of a mask of this grid, (2, 3) mm, with a margin."""
        voxels = np.argwhere(mask)
        corners = np.stack([voxels.min(axis=0), voxels.max(axis=0)]) * np.diag(self.affine)[:3] + self.affine[:3, 3]
        return corners + np.array([[-margin_mm], [margin_mm]])


@dataclass(frozen=True)
class Anatomy:
    """The template, its labels, and which label numbers are which region."""

    template: Volume
    labels: Volume
    numbers: Mapping[str, int]

    def region(self, name: str) -> np.ndarray:
        """Mask, on the labels' grid, of all regions whose name starts with `name`, such as `hippocampus`."""
        return np.isin(self.labels.data, [number for region, number in self.numbers.items() if region.startswith(name)])

    def centre(self, name: str) -> np.ndarray:
        """Centre of gravity of a region, (3,) mm."""
        return self.labels.centre(self.region(name))

    @cached_property
    def bounds(self) -> np.ndarray:
        """Corners of the brain, (2, 3) mm."""
        return self.template.bounds(self.template.data > 0.05 * self.template.data.max())

    @cached_property
    def outlines(self) -> dict[str, Volume]:
        """The masks that are drawn as contours, by the names of `style.REGION_COLOURS`."""
        return {name: Volume(self.region(name).astype(float), self.labels.affine) for name in style.REGION_COLOURS}


def outlined(scans: Mapping[str, Volume], anatomy: Anatomy) -> Figure:
    """One row per scan (its title is the key): coronal, axial and both sagittal views through the hippocampi."""
    left, right = anatomy.centre("hippocampus_left"), anatomy.centre("hippocampus_right")
    views = [("coronal", left[1]), ("axial", left[2]), ("sagittal", left[0]), ("sagittal", right[0])]
    drawn, panels = _sheet(len(scans), views, anatomy, width_in=9.6)
    for row, (title, scan) in zip(panels, scans.items(), strict=True):
        top = np.percentile(scan.data[scan.data > 0], 99.5)
        for axes, (plane, mm) in zip(row, views, strict=True):
            axes.imshow(
                scan.slice(plane, mm),
                extent=scan.extent(plane),
                cmap="gray",
                vmin=0,
                vmax=top,
                origin="lower",
                interpolation="bicubic",
            )
            _outline(axes, plane, mm, anatomy, width=1.1)
            _frame(axes, plane, anatomy, height_mm=_height(views, anatomy))
        row[0].set_ylabel(title, fontsize=11, fontweight="bold", rotation=0, ha="right", va="center", labelpad=10)
    _caption_views(panels[0], views)
    _region_legend(drawn)
    return drawn


def saliency(maps: Mapping[str, Volume], anatomy: Anatomy, views: Sequence[tuple[str, float]]) -> Figure:
    """Saliency over the template: one row per map (its title is the key), one column per view (plane, mm).

    Values are told as multiples of the map's mean inside the brain, so that 1 is what a map without
    preference shows everywhere; colour begins at 1 and all rows share one scale.
    """
    scaled = {title: relative(found, anatomy.template) for title, found in maps.items()}
    top = max(3.0, float(np.max([np.percentile(r.data, 99.9) for r in scaled.values()])))
    drawn, panels = _sheet(len(maps), views, anatomy, width_in=1.2 + 1.7 * len(views) if len(views) > 4 else 8.4)
    scale = Normalize(1, top)
    for row, (title, found) in zip(panels, scaled.items(), strict=True):
        for axes, (plane, mm) in zip(row, views, strict=True):
            template = anatomy.template
            axes.imshow(
                template.slice(plane, mm), extent=template.extent(plane), cmap="gray", origin="lower", alpha=0.9
            )
            values = found.slice(plane, mm)
            shown = axes.imshow(
                values,
                extent=found.extent(plane),
                cmap=style.SALIENCY_MAP,
                norm=scale,
                origin="lower",
                interpolation="bilinear",
                alpha=np.clip((values - 1) / (0.25 * (top - 1)), 0, 0.9),
            )
            _outline(axes, plane, mm, anatomy, width=0.6)
            _frame(axes, plane, anatomy, height_mm=_height(views, anatomy))
        row[0].set_ylabel(title, fontsize=10, fontweight="bold", rotation=0, ha="right", va="center", labelpad=10)
    _caption_views(panels[0], views)
    bar = drawn.colorbar(shown, ax=list(panels.ravel()), shrink=0.8 if len(maps) == 1 else 0.5, pad=0.015, aspect=22)
    bar.solids.set_alpha(1)
    bar.set_label("saliency, × the brain's mean", color=LIGHT)
    bar.ax.tick_params(colors=LIGHT, labelcolor=LIGHT)
    bar.outline.set_visible(False)
    return drawn


def aggregate_views(anatomy: Anatomy) -> list[tuple[str, float]]:
    """Axial views from below the hippocampi upward, and sagittal views from the left one to the right one."""
    left, right = anatomy.centre("hippocampus_left"), anatomy.centre("hippocampus_right")
    axial = [("axial", left[2] + up) for up in (-8, 0, 22)]
    return [*axial, ("sagittal", left[0]), ("sagittal", 0.0), ("sagittal", right[0])]


def example_views(anatomy: Anatomy) -> list[tuple[str, float]]:
    """One axial view and one sagittal view per side, through the hippocampi."""
    left, right = anatomy.centre("hippocampus_left"), anatomy.centre("hippocampus_right")
    return [("axial", left[2]), ("sagittal", left[0]), ("sagittal", right[0])]


def montage(pictures: Mapping[str, Path], *, columns: int = 1, cut: int = 0) -> Figure:
    """QC pictures under each other, each with its title (the key), without their uppermost `cut` rows of pixels."""
    images = {title: matplotlib.image.imread(path)[cut:] for title, path in pictures.items()}
    columns = min(columns, len(images))
    n_rows = -(-len(images) // columns)
    tallest = max(image.shape[0] / image.shape[1] for image in images.values())
    drawn = _night(10, n_rows * (10 / columns * tallest + 0.25))
    panels = drawn.subplots(n_rows, columns, squeeze=False).ravel()
    for axes in panels:
        style.bare(axes)
        axes.set_facecolor(NIGHT)
    for axes, (title, image) in zip(panels, images.items(), strict=False):
        axes.imshow(image, interpolation="antialiased")
        axes.set_title(title, fontsize=7.5, color=LIGHT, fontweight="normal")
    return drawn


def _night(width_in: float, height_in: float) -> Figure:
    drawn = style.figure(width_in, height_in)
    drawn.set_facecolor(NIGHT)
    drawn.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    return drawn


def _sheet(
    n_rows: int, views: Sequence[tuple[str, float]], anatomy: Anatomy, *, width_in: float
) -> tuple[Figure, np.ndarray]:
    """A figure and its (n_rows, n_views) axes, all views at one scale in mm."""
    size = np.diff(anatomy.bounds, axis=0)[0]
    widths = [size[1] if plane == "sagittal" else size[0] for plane, _ in views]
    row_in = (width_in - 0.9) * _height(views, anatomy) / sum(widths)
    drawn = _night(width_in, n_rows * row_in + 0.55)
    return drawn, drawn.subplots(n_rows, len(views), squeeze=False, width_ratios=widths)


def _height(views: Sequence[tuple[str, float]], anatomy: Anatomy) -> float:
    """Height of the tallest view, in mm."""
    size = np.diff(anatomy.bounds, axis=0)[0]
    return max(size[1] if plane == "axial" else size[2] for plane, _ in views)


def _frame(axes: Axes, plane: str, anatomy: Anatomy, *, height_mm: float) -> None:
    """Crop a view to the brain, at the common height of all views, and leave only the picture."""
    across, up = (axis for axis in range(3) if axis != AXES[plane])
    low, high = anatomy.bounds
    spare = (height_mm - (high[up] - low[up])) / 2
    axes.set(
        xlim=(low[across], high[across]), ylim=(low[up] - spare, high[up] + spare), facecolor=NIGHT, aspect="equal"
    )
    style.bare(axes)
    axes.yaxis.label.set_color(LIGHT)


def _outline(axes: Axes, plane: str, mm: float, anatomy: Anatomy, *, width: float) -> None:
    """Contours of the hippocampus and the entorhinal cortex in a view."""
    for name, region in anatomy.outlines.items():
        mask = region.slice(plane, mm)
        if mask.any():
            colour = style.REGION_COLOURS[name]
            axes.contour(
                mask, levels=[0.5], colors=[colour], linewidths=width, extent=region.extent(plane), origin="lower"
            )


def _caption_views(row: np.ndarray, views: Sequence[tuple[str, float]]) -> None:
    """Name each column: plane and position, with the side of a sagittal view."""
    letter = {"sagittal": "x", "coronal": "y", "axial": "z"}
    for axes, (plane, mm) in zip(row, views, strict=True):
        side = "" if plane != "sagittal" or abs(mm) < 5 else (", left" if mm < 0 else ", right")
        axes.set_title(
            f"{plane}{side}  {letter[plane]} = {mm:.0f} mm", fontsize=8, color=LIGHT, fontweight="normal", loc="center"
        )


def _region_legend(drawn: Figure) -> None:
    """Name the outlines under a figure."""
    names = {"hippocampus": "hippocampus", "entorhinal": "entorhinal cortex"}
    handles = [
        matplotlib.lines.Line2D([], [], color=style.REGION_COLOURS[key], label=name) for key, name in names.items()
    ]
    drawn.legend(handles=handles, loc="outside lower center", ncols=2, labelcolor=LIGHT)


def relative(found: Volume, template: Volume) -> Volume:
    """A saliency map divided by its mean inside the brain."""
    grids = [np.arange(n) * found.affine[a, a] + found.affine[a, 3] for a, n in enumerate(found.data.shape)]
    inside = np.ix_(
        *([Volume.index(template, plane, mm) for mm in grid] for plane, grid in zip(AXES, grids, strict=True))
    )
    brain = template.data[inside] > 0.05 * template.data.max()
    return Volume(found.data / max(float(found.data[brain].mean()), np.finfo(float).tiny), found.affine)
