"""ROI volumes as a network's input: blanks filled, head size taken out, standardised; all by the training scans alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from elr_mri.config import Tables
from elr_mri.errors import BadInput
from elr_mri.findings import normalise
from elr_mri.findings.normalise import ICV
from elr_mri.lab.roi import RoiTable

#: What else may be done about a blank column than to leave it out.
_MENDED = {
    ICV: "Fill it, or choose lab.tables.normalise: none.",
    "age_years": "Fill it, or set lab.tables.use_age: false.",
}
_SCANS = {"train": "training", "val": "validation"}


def features(table: RoiTable, given: np.ndarray, settings: Tables) -> tuple[np.ndarray, list[str]]:
    """The inputs of all scans, (n_scans, n_features) float32, and what each is.

    Parameters
    ----------
    given : (n_train,) int
        Training labels as they are given, wrong ones among them: the slopes of head size are those of the scans that are labelled CN. True
        labels would tell the network what it should not know.
    """
    train = table.rows("train")
    volumes = [name for name in table.regions if not name.endswith("_thickness")]
    others = [name for name in table.regions if name not in volumes]
    head = [ICV] if settings.normalise != "none" else []
    filled, missing = _filled(table, [*table.regions, *head], settings.missing)
    check_controls(given, settings)
    how = normalise.fit(filled.iloc[train[given == 0]], volumes, settings.normalise)
    parts = {
        normalise.told(name, how): column
        for name, column in zip(volumes, normalise.apply(filled, volumes, how).T, strict=True)
    }
    parts |= {name: filled[name].to_numpy() for name in others}
    parts |= {f"{name} missing": column.to_numpy(dtype=float) for name, column in missing.items()}
    if settings.use_age:
        age, unknown = _filled(table, ["age_years"], settings.missing)
        parts |= {"age_years": age["age_years"].to_numpy()} | {
            f"{n} missing": c.to_numpy(dtype=float) for n, c in unknown.items()
        }
    matrix = np.column_stack(list(parts.values()))
    mean, deviation = matrix[train].mean(axis=0), matrix[train].std(axis=0)
    varies = deviation > 1e-12 * np.maximum(1, np.abs(mean))
    standard = (matrix[:, varies] - mean[varies]) / deviation[varies]
    return standard.astype(np.float32), [name for name, kept in zip(parts, varies, strict=True) if kept]


def check_controls(given: np.ndarray, settings: Tables, *, told: str = "") -> None:
    """Refuse training labels (n_train,) of which too few are CN for the slopes of head size; `told` says which labels they are."""
    n = int((given == 0).sum())
    if settings.normalise == "residual" and n < normalise.MIN_CONTROLS:
        raise BadInput(
            expected=f"at least {normalise.MIN_CONTROLS} training scans labelled CN, for the slopes of head size",
            got=f"{n}{told}",
            where="lab.tables.normalise: residual",
            fix="Choose lab.tables.normalise: ratio, or none.",
        )


def _filled(table: RoiTable, names: Sequence[str], missing: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Blanks as the training scans' medians, and which were blank, for each column with blanks; refused where that is asked for, and
    where a column is blank in a whole split: a median in place of everybody's head size would take out nothing."""
    values, train = table.scans[list(names)].astype(float), table.rows("train")
    blank = values.isna()
    known = (~blank).groupby(table.scans["split"], sort=False).any()
    unknown = [(split, name) for split in known.index for name in names if not known.loc[split, name]]
    if unknown or (missing == "refuse" and blank.any(axis=None)):
        split, name = min(unknown, key=lambda one: one[0] != "train") if unknown else ("", blank.sum().idxmax())
        part = table.rows(split) if split else np.arange(len(values))
        raise BadInput(
            expected=f"{name} of {f'some {_SCANS.get(split, split)} scan' if split else 'every scan'}",
            got=f"{int(blank[name].iloc[part].sum())} of {len(part)} blank",
            where="the table of volumes",
            fix=_MENDED.get(name, "Leave the region out (lab.tables.regions), or choose lab.tables.missing: median."),
        )
    return values.fillna(values.iloc[train].median()), blank.loc[:, blank.any()]
