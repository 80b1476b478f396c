"""Head size taken out of regional volumes, by ratio, by residual, or not at all.

    ratio     V / ICV. Assumes that a region grows in proportion to the head, which it does not: small heads have
              larger shares, and an error of the intracranial volume enters every feature.
    residual  V − b (ICV − mean ICV), b the slope of V on ICV among cognitively normal training scans (the covariance method:
              Buckner et al., NeuroImage 23, 2004; recommended by Voevodskaya et al., Front. Aging Neurosci. 6, 2014, and
              O'Brien et al., Psychiatry Res. 193, 2011). Uncorrelated with head size in those scans, in mm³.
    none      V.

Slopes come from training controls alone: from all scans they would take out disease with head size wherever the two go
together, and from unseen ones they would leak. They are stored in `model.json` and applied to every other scan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from elr_mri.errors import BadInput

ICV = "intracranial"
#: Fewer training controls than this make no slope and no reference.
MIN_CONTROLS = 20


def fit(controls: pd.DataFrame, regions: Sequence[str], method: str) -> dict[str, Any]:
    """How head size is taken out, as plain numbers for `model.json`.

    Parameters
    ----------
    controls : DataFrame
        Cognitively normal training scans: a column per region and `intracranial`, mm³.
    method : "ratio", "residual" or "none"
    """
    if method != "residual":
        return {"method": method}
    known = controls.dropna(subset=[ICV, *regions])
    icv = known[ICV].to_numpy()
    if len(known) < MIN_CONTROLS or icv.std() == 0:
        raise BadInput(
            expected=f"at least {MIN_CONTROLS} cognitively normal training scans with different intracranial volumes",
            got=f"{len(known)} scans",
            where="baseline.normalise: residual",
            fix="Choose baseline.normalise: ratio.",
        )
    centred = icv - icv.mean()
    slopes = {region: float(centred @ known[region].to_numpy() / (centred @ centred)) for region in regions}
    return {
        "method": method,
        "of": "CN training scans",
        "n_scans": len(known),
        "mean_intracranial_mm3": float(icv.mean()),
        "slopes": slopes,
    }


def apply(volumes: pd.DataFrame | Mapping[str, float], regions: Sequence[str], how: Mapping[str, Any]) -> np.ndarray:
    """Volumes (mm³) of one scan or of many without head size: (n_scans, n_regions), or (n_regions,) for one scan.

    A share of the intracranial volume by ratio, else mm³.
    """
    table = np.stack([np.asarray(volumes[region], dtype=float) for region in regions], axis=-1)
    if how["method"] == "none":
        return table
    icv = np.asarray(volumes[ICV], dtype=float)[..., None]
    if how["method"] == "ratio":
        return table / icv
    return table - np.array([how["slopes"][region] for region in regions]) * (icv - how["mean_intracranial_mm3"])


def told(region: str, how: Mapping[str, Any]) -> str:
    """A feature in words: `hippocampus_left / intracranial`."""
    words = {"ratio": f"{region} / {ICV}", "residual": f"{region}, {ICV} regressed out", "none": region}
    return words[how["method"]]
