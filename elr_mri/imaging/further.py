"""The regions beyond hippocampus and entorhinal cortex, under one name each: FreeSurfer's, in lower case.

    left-amygdala, csf       volumes of aseg, mm³
    lh_cuneus_volume         grey matter of a parcel of aparc, mm³
    lh_cuneus_thickness      its mean thickness, mm

Other spellings of the same: R's `left.amygdala`, UCSF's codes in ADNI's tables (`ST12SV`, `ST13CV`, `ST13TA`: a number for the region, then
SV or CV for its volume and TA for its mean thickness, by the data dictionary of UCSFFSX), SCAN's `LEFT_AMYGDALA`, `LH_CUNEUS_GVOL` and
`LH_CUNEUS_AVGTH`, SynthSeg's `left amygdala` and `ctx-lh-cuneus`. Sums of regions (BrainSegVol, lh_MeanThickness) are none.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_MIDLINE = (
    "3rd-ventricle", "4th-ventricle", "5th-ventricle", "brain-stem", "csf", "wm-hypointensities", "non-wm-hypointensities", "optic-chiasm",
    "cc_posterior", "cc_mid_posterior", "cc_central", "cc_mid_anterior", "cc_anterior",
)  # fmt: skip
_REGION = re.compile(
    r"(left|right)[-.][a-z0-9.-]+|(lh|rh)_(?!mean)[a-z]+_(volume|thickness)|x?("
    + "|".join(_MIDLINE).replace("-", "[-.]")
    + ")"
)
#: UCSF's numbers of aseg's regions of two sides; the right one's is `_RIGHT` more. Then of those without sides, and of the parcels of aparc.
_SIDED = {
    11: "accumbens-area", 12: "amygdala", 16: "caudate", 17: "cerebellum-cortex", 18: "cerebellum-white-matter", 21: "choroid-plexus",
    29: "hippocampus", 30: "inf-lat-vent", 37: "lateral-ventricle", 42: "pallidum", 53: "putamen", 61: "thalamus-proper", 65: "ventraldc",
    66: "vessel",
}  # fmt: skip
_UNSIDED = {
    1: "brain-stem", 2: "cc_anterior", 3: "cc_central", 4: "cc_mid_anterior", 5: "cc_mid_posterior", 6: "cc_posterior", 7: "csf",
    8: "5th-ventricle", 9: "4th-ventricle", 68: "non-wm-hypointensities", 69: "optic-chiasm", 127: "3rd-ventricle", 128: "wm-hypointensities",
}  # fmt: skip
_PARCELS = {
    13: "bankssts", 14: "caudalanteriorcingulate", 15: "caudalmiddlefrontal", 23: "cuneus", 24: "entorhinal", 25: "frontalpole", 26: "fusiform",
    31: "inferiorparietal", 32: "inferiortemporal", 34: "isthmuscingulate", 35: "lateraloccipital", 36: "lateralorbitofrontal", 38: "lingual",
    39: "medialorbitofrontal", 40: "middletemporal", 43: "paracentral", 44: "parahippocampal", 45: "parsopercularis", 46: "parsorbitalis",
    47: "parstriangularis", 48: "pericalcarine", 49: "postcentral", 50: "posteriorcingulate", 51: "precentral", 52: "precuneus",
    54: "rostralanteriorcingulate", 55: "rostralmiddlefrontal", 56: "superiorfrontal", 57: "superiorparietal", 58: "superiortemporal",
    59: "supramarginal", 60: "temporalpole", 62: "transversetemporal",
}  # fmt: skip
_RIGHT = 59
_ADNI = (
    {f"st{n}sv": name for n, name in _UNSIDED.items()}
    | {f"st{n + k * _RIGHT}sv": f"{s}-{name}" for n, name in _SIDED.items() for k, s in enumerate(("left", "right"))}
    | {
        f"st{number}{code}": f"{side}_{name}_{kind}"
        for name, numbers in ({name: (n, n + _RIGHT) for n, name in _PARCELS.items()} | {"insula": (129, 130)}).items()
        for side, number in zip(("lh", "rh"), numbers, strict=True)
        for code, kind in (("cv", "volume"), ("ta", "thickness"))
    }
)
_SCAN = re.compile(r"(lh|rh)_(?!mean)([a-z]+)_(gvol|avgth)")
_PARCELLATED = re.compile(r"ctx-(lh|rh)-([a-z]+)")
#: What a mean thickness (mm) and a region's volume (mm³) of a person lie between: wide, to find other units and failed runs.
PLAUSIBLE_MM, PLAUSIBLE_MM3 = (0.5, 6.0), (0.0, 500_000.0)


def spelled(name: str) -> str | None:
    """A region's one name from a column as FreeSurfer or R writes it, in lower case; None of what is no region.

    >>> spelled("left.amygdala"), spelled("x3rd.ventricle"), spelled("lh_meanthickness_thickness")
    ('left-amygdala', '3rd-ventricle', None)
    """
    if not _REGION.fullmatch(name):
        return None
    return re.sub(r"^x(?=\d)", "", name).replace(".", "-")


def _of_freesurfer(name: str) -> str | None:
    """As `spelled`, also of UCSF's codes and SCAN's columns."""
    if found := spelled(name) or _ADNI.get(name):
        return found
    if parcel := _SCAN.fullmatch(name):
        return f"{parcel[1]}_{parcel[2]}_{'volume' if parcel[3] == 'gvol' else 'thickness'}"
    side, _, rest = name.partition("_")
    rest = rest.replace("_", "-")
    return f"{side}-{rest}" if side in ("left", "right") and rest in {*_SIDED.values(), "thalamus"} else None


def _of_synthseg(name: str) -> str | None:
    """A region's one name from SynthSeg's."""
    if parcel := _PARCELLATED.fullmatch(name):
        return f"{parcel[1]}_{parcel[2]}_volume"
    return spelled(name.replace(" ", "-"))


#: `measure.source` -> from a column's name in lower case to the region's, None where it is none.
NAMED: dict[str, Callable[[str], str | None]] = {"freesurfer": _of_freesurfer, "synthseg": _of_synthseg}


def is_thickness(region: str) -> bool:
    """Whether a region's value is in mm, not in mm³."""
    return region.endswith("_thickness")


def plausible(values: dict[str, float]) -> tuple[dict[str, float], list[str]]:
    """The values that can be a person's, mm³ or mm by the region's name, and in words which cannot."""
    bounds = {name: PLAUSIBLE_MM if is_thickness(name) else PLAUSIBLE_MM3 for name in values}
    wrong = [name for name, value in values.items() if not bounds[name][0] <= value <= bounds[name][1]]
    if not wrong:
        return values, []
    first = f"{wrong[0]} of {values[wrong[0]]:g}"
    said = f"{first}{f' and {len(wrong) - 1} more' if wrong[1:] else ''}: no person's in mm³, or mm of a thickness"
    return {name: value for name, value in values.items() if name not in wrong}, [said]
