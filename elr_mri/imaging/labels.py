"""Regions on the template: the shipped label map, or another one from the config.

Shipped: hippocampus and entorhinal cortex, left and right, on the default template's grid, derived from Colin27's AAL
and Brodmann maps by `derive_labels.py`; see `elr_mri/data/README.md` for the terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from elr_mri.errors import BadInput
from elr_mri.imaging.grids import Grid, at, box
from elr_mri.imaging.template import DATA
from elr_mri.imaging.transforms import Warp, to_native, to_template
from elr_mri.scans.schema import Column, Schema

SHIPPED = DATA / "tpl-MNI152NLin2009aSym_atlas-medialtemporal_dseg.nii.gz"

#: Numbers in a label map, shipped or given.
REGIONS = {"hippocampus_left": 1, "hippocampus_right": 2, "entorhinal_left": 3, "entorhinal_right": 4}

#: Regions of both sides together: all that some sources tell (ADNIMERGE, NACC).
TOTALS = {
    "hippocampus": ("hippocampus_left", "hippocampus_right"),
    "entorhinal": ("entorhinal_left", "entorhinal_right"),
}
#: What the box of all labels leaves around them, mm.
MARGIN_MM = 4.0

#: The regions of `roi_volumes.tsv`, in its order.
VOLUMES = (*REGIONS, *TOTALS, "intracranial")

#: One scan's volumes, mm³; blank where the source does not tell a region. First `VOLUMES`, then the further regions of a source that tells
#: more, by the names of `further.py`; a thickness stands in its own column, in mm. After fusion also their uncertainty: the standard
#: deviation of the volumes by each atlas alone, and the mean Dice overlap of each atlas's label with the fused one.
ROI = Schema(
    name="volume",
    version=4,
    key=("region",),
    columns=(
        Column("region"),
        Column("volume_mm3", "number", required=False, low=0),
        Column("thickness_mm", "number", required=False, low=0, may_lack=True),
        Column("sd_mm3", "number", required=False, low=0, may_lack=True),
        Column("agreement", "number", required=False, low=0, high=1, may_lack=True),
    ),
)

#: The volumes of all packed scans, mm³, and behind them those of further regions (`roi_table`); `source` is `measure.source`, `note` why a volume is blank or to be looked at.
ROI_TABLE = Schema(
    name="ROI volume",
    version=2,
    key=("scan_id",),
    columns=(
        Column("scan_id"),
        *(Column(region, "number", required=False, low=0) for region in VOLUMES),
        Column("source"),
        Column("note", required=False),
    ),
)


def roi_table(further: Sequence[str]) -> Schema:
    """`ROI_TABLE` with a column for each further region, mm³, or mm of a thickness."""
    columns = tuple(Column(region, "number", required=False, low=0) for region in further)
    return replace(ROI_TABLE, columns=(*ROI_TABLE.columns, *columns))


def with_totals(volumes: Mapping[str, float]) -> dict[str, float | None]:
    """Volumes of one scan in the order of `VOLUMES`, the sums of the sides with them; None where nothing is known."""
    sums = {
        total: sum(volumes[side] for side in sides)
        for total, sides in TOTALS.items()
        if all(side in volumes for side in sides)
    }
    return {name: volumes.get(name, sums.get(name)) for name in VOLUMES}


@dataclass(frozen=True, eq=False)
class Labels:
    """A label map in template space: `volume` (X, Y, Z) uint8 with the numbers of `REGIONS`, `affine` (4, 4) to RAS+
    mm."""

    volume: np.ndarray
    affine: np.ndarray

    def share(self, region: str) -> np.ndarray:
        """1 inside a region, 0 elsewhere, (X, Y, Z) float32."""
        return (self.volume == REGIONS[region]).astype(np.float32)


def read_labels(name: str = "shipped") -> Labels:
    """The shipped labels, or those of a label map in template space with the numbers of `REGIONS`."""
    path = SHIPPED if name == "shipped" else Path(name)
    if not path.is_file():
        raise BadInput(
            expected="'shipped' or the path of a label map in template space",
            got=repr(name),
            where="config, key measure.labels",
            fix="Check the path.",
        )
    image = nib.as_closest_canonical(nib.load(path))
    volume = np.asarray(image.dataobj)
    missing = [region for region, number in REGIONS.items() if not (volume == number).any()]
    if missing:
        raise BadInput(
            expected=f"the numbers {', '.join(f'{n} ({r})' for r, n in REGIONS.items())}",
            got=f"none of {', '.join(missing)}",
            where=str(path),
            fix="Renumber the label map.",
        )
    known = np.where(np.isin(volume, list(REGIONS.values())), volume, 0)
    return Labels(known.astype(np.uint8), np.asarray(image.affine))


def native_labels(labels: Labels, native: Grid, matrix: np.ndarray, inverse: Warp) -> np.ndarray:
    """The label map on a native grid, (X, Y, Z) uint8: at each voxel the region with the largest share, if above one
    half."""
    out = np.zeros(native.shape, dtype=np.uint8)
    corner, cut = _native_box(labels, native, matrix)
    if min(cut) <= 0:
        return out
    moved = native.affine.copy()
    moved[:3, 3] += native.affine[:3, :3] @ corner
    points = to_template(Grid(cut, moved).points(), matrix, inverse)
    best = np.full(cut, 0.5, dtype=np.float32)
    part = np.zeros(cut, dtype=np.uint8)
    for region, number in REGIONS.items():
        share = at(labels.share(region), labels.affine, points, mode="constant")
        part[share >= best] = number
        best = np.maximum(best, share)
    out[tuple(slice(a, a + n) for a, n in zip(corner, cut, strict=True))] = part
    return out


def label_box(labels: Labels, spacing_mm: float, margin_mm: float = MARGIN_MM) -> Grid:
    """The box of all labels with a margin, in template mm."""
    index = np.argwhere(labels.volume)
    ends = np.stack([index.min(axis=0), index.max(axis=0)]) @ labels.affine[:3, :3].T + labels.affine[:3, 3]
    return box(tuple(ends.min(axis=0) - margin_mm), tuple(ends.max(axis=0) + margin_mm), spacing_mm)


def _native_box(labels: Labels, native: Grid, matrix: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]]:
    """First index and shape of the part of a native grid that can hold labels: their box carried over, 25 mm wider."""
    around = label_box(labels, 5.0, margin_mm=25.0)
    index = to_native(around.points(), np.linalg.inv(native.affine) @ matrix, None).reshape(3, -1)
    low = np.clip(np.floor(index.min(axis=1)).astype(int), 0, native.shape)
    high = np.clip(np.ceil(index.max(axis=1)).astype(int) + 1, 0, native.shape)
    return low, tuple(int(n) for n in high - low)
