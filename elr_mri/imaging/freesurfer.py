"""Volumes from a FreeSurfer subject's folder: `stats/aseg.stats`, `stats/lh.aparc.stats`, `stats/rh.aparc.stats`.

Read are FreeSurfer 4 to 8 and what writes the same files (FastSurfer). The intracranial volume is `eTIV` (until 5.3
under the name `ICV`): like ours, it is the atlas scaling factor (Buckner et al., NeuroImage 23, 2004), no count of voxels.
"""

from __future__ import annotations

import re
from pathlib import Path

#: What a subject's folder has even where recon-all failed early.
PARTS = ("stats", "mri", "scripts")

#: Region -> file under `stats`, structure, and the column that holds mm³.
_STRUCTURES = {
    "hippocampus_left": ("aseg.stats", "Left-Hippocampus", "Volume_mm3"),
    "hippocampus_right": ("aseg.stats", "Right-Hippocampus", "Volume_mm3"),
    "entorhinal_left": ("lh.aparc.stats", "entorhinal", "GrayVol"),
    "entorhinal_right": ("rh.aparc.stats", "entorhinal", "GrayVol"),
}
_ICV = ("EstimatedTotalIntraCranialVol", "IntraCranialVol")
_MEASURE = re.compile(r"#\s*Measure\s+([^,]+),[^,]*,[^,]*,\s*([-+.\deE]+)\s*,\s*mm\^3\s*$")


def is_run(folder: Path) -> bool:
    """Whether a folder was made by recon-all."""
    return any((folder / part).is_dir() for part in PARTS)


def read_run(folder: Path) -> tuple[dict[str, float], list[str]]:
    """Volumes of one subject's folder, mm³, by the names of `labels.VOLUMES`, and what is wrong with the run."""
    faults = []
    if (folder / "scripts" / "recon-all.error").is_file():
        faults.append("recon-all ended with an error (scripts/recon-all.error)")
    files = {name: _read(folder / "stats" / name) for name in dict.fromkeys(file for file, *_ in _STRUCTURES.values())}
    absent = [f"stats/{name}" for name, text in files.items() if text is None]
    if absent:
        faults.append(f"the FreeSurfer run left no {', '.join(absent)}")
    volumes = {}
    for region, (file, structure, column) in _STRUCTURES.items():
        if (text := files[file]) is None:
            continue
        if (volume := _structure(text, structure, column)) is None:
            faults.append(f"stats/{file} holds no {structure}")
        else:
            volumes[region] = volume
    if (text := files["aseg.stats"]) is not None:
        if (volume := _intracranial(text)) is None:
            faults.append(f"stats/aseg.stats holds no {' or '.join(_ICV)}")
        else:
            volumes["intracranial"] = volume
    return volumes, faults


def _read(path: Path) -> str | None:
    """A file's text; None where there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _structure(text: str, structure: str, column: str) -> float | None:
    """A structure's volume from the table under `# ColHeaders`; None where the file ends before it."""
    names: list[str] = []
    for line in text.splitlines():
        if line.startswith("# ColHeaders"):
            names = line.split()[2:]
        elif names and not line.startswith("#"):
            cells = dict(zip(names, line.split(), strict=False))
            if cells.get("StructName") == structure:
                return _number(cells.get(column))
    return None


def _intracranial(text: str) -> float | None:
    """The intracranial volume among the `# Measure` lines."""
    told = dict(found.groups() for line in text.splitlines() if (found := _MEASURE.match(line)))
    return next((_number(told[name]) for name in _ICV if name in told), None)


def _number(text: str | None) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):  # a line that was cut short
        return None
