"""Regions on the template: the shipped label map, or another one from the config.

Shipped: hippocampus and entorhinal cortex, left and right, on the default template's grid, derived from Colin27's AAL
and Brodmann maps by `derive_labels.py`; see `elr_mri/data/README.md` for the terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from elr_mri.errors import BadInput
from elr_mri.imaging.template import DATA
from elr_mri.scans.schema import Column, Schema

SHIPPED = DATA / "tpl-MNI152NLin2009aSym_atlas-medialtemporal_dseg.nii.gz"

#: Numbers in a label map, shipped or given.
REGIONS = {"hippocampus_left": 1, "hippocampus_right": 2, "entorhinal_left": 3, "entorhinal_right": 4}

#: Regions of both sides together: all that some sources tell (ADNIMERGE, NACC).
TOTALS = {
    "hippocampus": ("hippocampus_left", "hippocampus_right"),
    "entorhinal": ("entorhinal_left", "entorhinal_right"),
}

#: The regions of `roi_volumes.tsv`, in its order.
VOLUMES = (*REGIONS, *TOTALS, "intracranial")

#: One scan's volumes, mm³; blank where the source does not tell a region.
ROI = Schema(
    name="volume",
    version=2,
    key=("region",),
    columns=(Column("region", allowed=VOLUMES), Column("volume_mm3", "number", required=False, low=0)),
)

#: The volumes of all packed scans, mm³; `source` is `measure.source`, `note` why a volume is blank or to be looked at.
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
