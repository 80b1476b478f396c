"""Volumes and thicknesses from a FreeSurfer subject's folder: `stats/aseg.stats`, `stats/lh.aparc.stats`, `stats/rh.aparc.stats`.

Read are FreeSurfer 4 to 8 and what writes the same files (FastSurfer). The intracranial volume is `eTIV` (until 5.3
under the name `ICV`): like ours, it is the atlas scaling factor (Buckner et al., NeuroImage 23, 2004), no count of voxels.
"""

from __future__ import annotations

import re
from pathlib import Path

from elr_mri.imaging.further import spelled

#: What a subject's folder has even where recon-all failed early.
PARTS = ("stats", "mri", "scripts")

#: Region -> file under `stats`, structure, and the column that holds mm³.
_STRUCTURES = {
    "hippocampus_left": ("aseg.stats", "Left-Hippocampus", "Volume_mm3"),
    "hippocampus_right": ("aseg.stats", "Right-Hippocampus", "Volume_mm3"),
    "entorhinal_left": ("lh.aparc.stats", "entorhinal", "GrayVol"),
    "entorhinal_right": ("rh.aparc.stats", "entorhinal", "GrayVol"),
}
#: What the columns of aparc measure of a parcel: mm³ of grey matter, mean mm.
_OF_PARCELS = {"GrayVol": "volume", "ThickAvg": "thickness"}
_ICV = ("EstimatedTotalIntraCranialVol", "IntraCranialVol")
_MEASURE = re.compile(r"#\s*Measure\s+([^,]+),[^,]*,[^,]*,\s*([-+.\deE]+)\s*,\s*mm\^3\s*$")


def is_run(folder: Path) -> bool:
    """Whether a folder was made by recon-all."""
    return any((folder / part).is_dir() for part in PARTS)


def read_run(folder: Path) -> tuple[dict[str, float], list[str], dict[str, float]]:
    """Volumes of one subject's folder, mm³, by the names of `labels.VOLUMES`; what is wrong with the run; and the further
    regions, mm³ or mm by their names (`further.py`)."""
    faults = []
    if (folder / "scripts" / "recon-all.error").is_file():
        faults.append("recon-all ended with an error (scripts/recon-all.error)")
    files = {name: _read(folder / "stats" / name) for name in dict.fromkeys(file for file, *_ in _STRUCTURES.values())}
    tables = {name: _table(text) for name, text in files.items() if text is not None}
    absent = [f"stats/{name}" for name, text in files.items() if text is None]
    if absent:
        faults.append(f"the FreeSurfer run left no {', '.join(absent)}")
    volumes = {}
    for region, (file, structure, column) in _STRUCTURES.items():
        if file not in tables:
            continue
        if (volume := _number(tables[file].get(structure, {}).get(column))) is None:
            faults.append(f"stats/{file} holds no {structure}")
        else:
            volumes[region] = volume
    if (text := files["aseg.stats"]) is not None:
        if (volume := _intracranial(text)) is None:
            faults.append(f"stats/aseg.stats holds no {' or '.join(_ICV)}")
        else:
            volumes["intracranial"] = volume
    return volumes, faults, _further(tables)


def _further(tables: dict[str, dict[str, dict[str, str]]]) -> dict[str, float]:
    """Every region of the files that is not among `_STRUCTURES`."""
    told: dict[str, str | None] = {}
    for file, table in tables.items():
        for structure, cells in table.items():
            if file == "aseg.stats":
                told[structure.lower()] = cells.get("Volume_mm3")
                continue
            for column, kind in _OF_PARCELS.items():
                told[f"{file[:2]}_{structure.lower()}_{kind}"] = cells.get(column)
    for file, structure, column in _STRUCTURES.values():
        told.pop(structure.lower() if file == "aseg.stats" else f"{file[:2]}_{structure}_{_OF_PARCELS[column]}", None)
    values = {name: _number(text) for column, text in told.items() if (name := spelled(column))}
    return {name: value for name, value in values.items() if value is not None}


def _read(path: Path) -> str | None:
    """A file's text; None where there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _table(text: str) -> dict[str, dict[str, str]]:
    """Structure -> column -> cell of the table under `# ColHeaders`, as far as the file goes."""
    names: list[str] = []
    table = {}
    for line in text.splitlines():
        if line.startswith("# ColHeaders"):
            names = line.split()[2:]
        elif names and not line.startswith("#"):
            cells = dict(zip(names, line.split(), strict=False))
            if structure := cells.get("StructName"):
                table[structure] = cells
    return table


def _intracranial(text: str) -> float | None:
    """The intracranial volume among the `# Measure` lines."""
    told = dict(found.groups() for line in text.splitlines() if (found := _MEASURE.match(line)))
    return next((_number(told[name]) for name in _ICV if name in told), None)


def _number(text: str | None) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):  # a line that was cut short
        return None
