"""The unit of a table of ROI volumes: mm³, or cm³ as NACC publishes them; settled once for each cohort of a table, by size.

No person's hippocampus in mm³ can be one in cm³ (`given.PLAUSIBLE_MM3`), so the medians of the regions that have such bounds tell the unit of
all volumes beside them; a table without them is told by its head size. Head size stands apart: NACCICV, in cm³, is put beside FreeSurfer's mm³.
Then NACC's codes of missing volumes (8.8888, 88.8888, 9999.999) and what is no person's are blank, and told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from elr_mri.errors import BadInput
from elr_mri.findings.normalise import ICV
from elr_mri.imaging import further
from elr_mri.imaging.given import COLUMNS, PLAUSIBLE_MM3
from elr_mri.scans.nacc_tables import is_missing_code

CM3_IN_MM3 = 1000.0
#: Regions with bounds of their own by the names of columns, NACC's and SCAN's with them.
_OURS = {name: ours for ours, names in COLUMNS["freesurfer"].items() if ours != ICV for name in names} | {
    "hippovol": "hippocampus", "lhippo": "hippocampus_left", "rhippo": "hippocampus_right", "left_hippo": "hippocampus_left",
    "right_hippo": "hippocampus_right", "lent": "entorhinal_left", "rent": "entorhinal_right",
}  # fmt: skip
#: 8.888, 88.8888, 9999.999: a digit one to four times before the point and three or four times behind it.
_CODES = np.array(
    [float(f"{digit * before}.{digit * behind}") for digit in "89" for before in (1, 2, 3, 4) for behind in (3, 4)]
)
#: What a column that the config names holds, if not a volume: areas, shares and their like stay as they are.
_NO_VOLUME = re.compile(
    r"thick|avgth|(?<!accumbens[-_.])area(?!.*vol)|curv|fold|ratio|frac|percent|pct|share|index|score|suvr|[-_]to[-_]|count|(?:^|_)n?vert|st\d+(?:sa|ta|ts)"
)
#: A table whose largest region is less than this share of the head has not both in one unit.
_LEAST_SHARE = 5e-5


def in_mm3(figures: Mapping[str, pd.Series], cohorts: pd.Series, head: str, path: Path) -> dict[str, pd.Series]:
    """Regions and head size in mm³ (thicknesses in mm), with what is no person's blank.

    Parameters
    ----------
    figures : region or `intracranial` -> (n_rows,) float, as the table has them
    cohorts : (n_rows,) what the table says of each row's cohort, blank where nothing
    head : the head size's column, for what is told
    """
    regions = pd.DataFrame({name: column for name, column in figures.items() if name != ICV})
    codes = regions.apply(_is_code)
    units = _units(regions.mask(codes), figures[ICV].mask(_is_code(figures[ICV])), cohorts.fillna(""), path)
    volumes = [name for name in regions if is_volume(name)]
    found = regions.mask(codes).astype(float)
    in_cm3 = (units == "cm³").to_numpy()
    found.loc[in_cm3, volumes] *= CM3_IN_MM3
    if in_cm3.any() and volumes:
        print(
            f"tables: {len(volumes)} regions of {in_cm3.sum()} rows of {path} are in cm³ by their size, made mm³",
            flush=True,
        )
    low, high = np.array([_bounds(name) for name in found]).T
    odd = found.notna() & ~((found >= low) & (found <= high))
    _tell_blanked(codes | odd, path)
    return {name: found[name].mask(odd[name]) for name in found} | {ICV: _head_size(figures[ICV], head, path)}


def is_volume(name: str) -> bool:
    """Whether a column holds a volume, by its name: Left-Accumbens-area does, lh_cuneus_area and lh_cuneus_thickness do not."""
    if region := further.NAMED["freesurfer"](name):
        return not further.is_thickness(region)
    return not _NO_VOLUME.search(name)


def _is_code(values: pd.Series) -> pd.Series:
    """Whether a value is a code of a missing volume; in mm³ 888 and 8888 are volumes, so they are none. One alone that lies among its
    column's middle 90 % is a volume, too: a temporal gyrus in cm³ may well have 8.8888, and nothing is lost by it."""
    close = np.isclose(values.to_numpy()[:, None], _CODES, rtol=2e-7, atol=0)  # float32's rounding
    close &= (values != values.round()).to_numpy()[:, None]  # 1000 mm³ are as near to 999.9999 as that
    low, high = values[~close.any(axis=1)].quantile([0.05, 0.95])
    alone = close & (close.sum(axis=0) == 1) & (low <= _CODES) & (high >= _CODES)
    return pd.Series((close & ~alone).any(axis=1), index=values.index)


def _bounds(name: str) -> tuple[float, float]:
    """What a region's value in mm³ (mm of a thickness) lies between, in a person."""
    if name in _OURS:
        return PLAUSIBLE_MM3[_OURS[name]]
    if region := further.NAMED["freesurfer"](name):
        return further.PLAUSIBLE_MM if further.is_thickness(region) else further.PLAUSIBLE_MM3
    return (0.0, PLAUSIBLE_MM3[ICV][1] if is_volume(name) else float("inf"))


def _units(regions: pd.DataFrame, head: pd.Series, cohorts: pd.Series, path: Path) -> pd.Series:
    """mm³ or cm³ for each row: that of its cohort in this table; one that tells nothing of its own has the others'."""
    told = {}
    for cohort, rows in regions.groupby(cohorts, sort=False):
        where = f"{path}, cohort {cohort}" if cohort else str(path)
        told[cohort] = _unit(rows, head[rows.index], where)
    others = {unit for unit in told.values() if unit}
    usual = others.pop() if len(others) == 1 else "mm³"
    return cohorts.map({cohort: unit or usual for cohort, unit in told.items()})


def _unit(regions: pd.DataFrame, head: pd.Series, where: str) -> str | None:
    """The unit of a cohort's regions, None if nothing tells it; refused where two regions, two rows, or regions and head contradict each other."""
    sizes = {name: size for name in regions if name in _OURS and (size := _median(regions[name]))}
    told = {name: _by_size(size, *PLAUSIBLE_MM3[_OURS[name]]) for name, size in sizes.items()}
    head_size = _median(head)
    head_unit = _by_size(head_size, *PLAUSIBLE_MM3[ICV]) if head_size else None
    if strange := [name for name, unit in told.items() if not unit]:
        got = f"{strange[0]} with a median of {sizes[strange[0]]:.4g}"
        fix = "Write it in mm³, or take the column out."
        raise BadInput(expected="a person's volumes in mm³ or cm³", got=got, where=where, fix=fix)
    if len(set(told.values())) > 1:
        first = {unit: name for name, unit in reversed(told.items())}
        got = " and ".join(f"{name} in {unit} (median {sizes[name]:.4g})" for unit, name in sorted(first.items()))
        fix = "Write all volumes in mm³, or leave one of them out."
        raise BadInput(expected="all regions in one unit", got=got, where=where, fix=fix)
    unit = next(iter(told.values()), None)
    if unit:
        _check_rows(regions[list(told)], unit, where)
        name = next(iter(sizes))
    elif head_unit:
        unit, name = _unit_beside(regions, head_size, head_unit)
        sizes = {name: _median(regions[name])} if unit else {}
    if unit == "cm³" and head_unit == "mm³":
        got = f"{name} with a median of {sizes[name]:.4g} beside {head_size:.4g} of the head: cm³ and mm³, or shares of the head"
        fix = "Write regions and head size in mm³."
        raise BadInput(expected="regions and head size in one unit", got=got, where=where, fix=fix)
    return unit


def _by_size(size: float, low: float, high: float) -> str | None:
    """The unit in which a size lies within bounds in mm³."""
    return "mm³" if low <= size <= high else "cm³" if low <= size * CM3_IN_MM3 <= high else None


def _unit_beside(regions: pd.DataFrame, head_size: float, head_unit: str) -> tuple[str | None, str]:
    """The unit of regions without bounds of their own, by the largest, its name, beside the head: none is larger than the head, and
    none that FreeSurfer names has half a litre."""
    sizes = {name: size for name in regions if is_volume(name) and (size := _median(regions[name]))}
    if not sizes:
        return None, ""
    name = max(sizes, key=lambda one: sizes[one])
    if head_unit == "mm³":
        return ("mm³" if sizes[name] >= _LEAST_SHARE * head_size else "cm³"), name
    limit = min(head_size, _bounds(name)[1] / CM3_IN_MM3)
    return ("mm³" if sizes[name] > limit else "cm³"), name


def _check_rows(known: pd.DataFrame, unit: str, where: str) -> None:
    """Refuse a table of which some rows are in the other unit by all of their regions with bounds, two or more: their other regions would be
    wrong a thousandfold."""
    sizes = known.mask(known.apply(is_missing_code) | (known == 0))
    low, high = np.array([PLAUSIBLE_MM3[_OURS[name]] for name in known]).T
    scale = 1 if unit == "cm³" else CM3_IN_MM3
    other = ((sizes * scale >= low) & (sizes * scale <= high)).sum(axis=1)
    if (strange := (other >= 2) & (other == sizes.notna().sum(axis=1))).any():
        row = strange.idxmax()
        got = f"{strange.sum()} of {len(known)} in {'mm³' if unit == 'cm³' else 'cm³'}, as row {row + 1} with {known.columns[0]} of {known.iloc[:, 0][row]:g}"
        fix = "Write all volumes in mm³, or tell the cohorts apart by a column cohort."
        raise BadInput(expected=f"all rows in {unit}", got=got, where=where, fix=fix)


def _median(values: pd.Series) -> float | None:
    """The usual size, without codes and zeros; None if there is no value."""
    known = values[(values > 0) & ~is_missing_code(values)]
    return float(known.median()) if len(known) else None


def _tell_blanked(blanked: pd.DataFrame, path: Path) -> None:
    """How many values of each column were taken for blank, in one line."""
    counts = blanked.sum()
    counts = counts[counts > 0]
    if len(counts):
        each = ", ".join(f"{name} {n}" for name, n in counts.items())
        print(
            f"tables: missing codes and no person's values, taken for blank in {path}: {each} ({counts.sum()} in all)",
            flush=True,
        )


def _head_size(values: pd.Series, column: str, path: Path) -> pd.Series:
    """Intracranial volumes in mm³, cm³ by their size among them; what is no person's head (NACC's 9999.999) is blank. Both are told."""
    low, high = PLAUSIBLE_MM3[ICV]
    known = values.mask(_is_code(values))
    in_cm3 = known.between(low / CM3_IN_MM3, high / CM3_IN_MM3)
    out = known.where(~in_cm3, known * CM3_IN_MM3)
    sound = out.between(low, high)
    for n, words in (
        (in_cm3.sum(), "in cm³, made mm³"),
        ((values.notna() & ~sound).sum(), "no head's in mm³ or cm³, taken for blank"),
    ):
        if n:
            print(f"tables: {n} of {len(values)} values of {column} in {path} are {words}", flush=True)
    return out.where(sound)
