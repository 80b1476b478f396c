"""The tables that the lab learns from: others' with FreeSurfer's columns (`findings.roi`), or our own volumes.

ours         `roi_volumes.tsv` of `pack`, or the folder of `measure`; who is scanned and diagnosed how stands in scans.tsv
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from elr_mri.config import SPLIT_TABLES, Tables
from elr_mri.errors import BadInput
from elr_mri.findings.baseline import known_sides, read_volumes
from elr_mri.findings.roi import RoiTable, checked, read_foreign
from elr_mri.imaging.labels import ROI, VOLUMES
from elr_mri.lab.truth import truth_of
from elr_mri.scans.table import SPLIT, join_splits, read_scans


def read_roi(settings: Tables, truth_path: Path | None = None) -> RoiTable:
    """The table or tables that the config names; subjects are in one split each.

    Parameters
    ----------
    truth_path : Path or None
        The phantom's truth, which then stands for the scan table's diagnoses.
    """
    paths = {name: getattr(settings, name) for name in ("path", "scans", "splits", *SPLIT_TABLES)}
    settings = settings.model_copy(update={n: str(Path(p).expanduser()) for n, p in paths.items() if p})
    if settings.scans:
        frame, regions, files = _ours(settings, truth_path)
    elif truth_path is not None:
        _refuse(
            "scans.tsv beside the truth", "none", "lab.tables", "Name it in lab.tables.scans, or leave --truth out."
        )
    else:
        frame, regions, files = read_foreign(settings)
    return checked(frame, regions, files, settings)


def _ours(settings: Tables, truth_path: Path | None) -> tuple[pd.DataFrame, tuple[str, ...], list[Path]]:
    """Our own volumes beside the scan table, with true diagnoses where these are known; a measured scan without a row there is refused."""
    path, scans = Path(settings.path), read_scans(settings.scans)
    volumes = _measured(path) if path.is_dir() else read_volumes(path)
    frame = volumes.merge(scans, on="scan_id", how="left", validate="1:1", indicator=True)
    if (lost := frame["_merge"] == "left_only").any():
        _refuse(
            "every measured scan in the scan table",
            f"none of {frame.loc[lost, 'scan_id'].iloc[0]}",
            path,
            "Run `pack` again after `ingest`.",
        )
    if settings.splits:
        frame = join_splits(frame, SPLIT.read(settings.splits))
    truth = truth_of(frame, truth_path)
    if truth is not None:
        frame = frame.assign(diagnosis=frame["scan_id"].map(truth))
    regions = settings.regions or known_sides(frame)
    if strange := [name for name in regions if name not in VOLUMES]:
        _refuse(f"regions among {', '.join(VOLUMES)}", strange[0], "lab.tables.regions", "Correct the name.")
    named = (path, settings.scans, settings.splits, None if truth is None else truth_path)
    return frame, tuple(regions), [Path(file) for file in named if file]


def _measured(folder: Path) -> pd.DataFrame:
    """The `<scan_id>/<scan_id>_…_volumes.tsv` of `measure`, one row per scan."""
    files = sorted(folder.glob("*/*_volumes.tsv"))
    if not files:
        _refuse("<scan_id>/<scan_id>_…_volumes.tsv of `measure`", "none", folder, "Check lab.tables.path.")
    rows = [ROI.read(file).set_index("region")["volume_mm3"].rename(file.parent.name) for file in files]
    return pd.DataFrame(rows).reindex(columns=list(VOLUMES)).rename_axis("scan_id").reset_index()


def _refuse(expected: str, got: str, where: Path | str, fix: str) -> None:
    raise BadInput(expected=expected, got=got, where=str(where), fix=fix)
