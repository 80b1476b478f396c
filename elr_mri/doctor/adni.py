"""An ADNI download looked at: tables, columns, and whose images have clinical rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from elr_mri.config import Cohort
from elr_mri.doctor.download import Download, Missing, some, table, tables_in, warn_of_tables
from elr_mri.doctor.sites import ADNI
from elr_mri.errors import BadInput
from elr_mri.scans.adni_columns import COLUMNS, NAMES, REQUIRED, is_image_list, released, rids, tables_named
from elr_mri.scans.adni_tree import list_images
from elr_mri.scans.download import read_table

#: The codings of DXSUM, of which one will do.
_CODINGS = ("dxcurren", "dxchange", "diagnosis")


def look(found: Download, cohort: Cohort, files: Sequence[Path]) -> None:
    """Add what an ADNI folder holds to `found`."""
    _look_at_tables(found, files)
    images = list_images(files, root=Path(cohort.path))
    candidates = images[images["reason"].isna()]
    found.need_images(len(candidates), ADNI["images"])
    found.sample = candidates["image_path"].tolist()
    if images.empty:
        return
    told = ", ".join(f"{n} {reason}" for reason, n in images["reason"].value_counts().items())
    found.counts.append(f"{len(images)} images, {len(candidates)} of them T1" + (f" (others: {told})" if told else ""))
    known = _subjects(found.tables)
    mine = candidates[candidates["subject"].isin(known)]
    found.n_scans = len(mine.groupby(["subject", mine["date"].astype("str")]))
    found.counts.append(
        f"{candidates['ptid'].nunique()} subjects with T1 images, {len(known)} in the clinical tables, "
        f"{mine['ptid'].nunique()} in both ({len(mine)} images)"
    )
    _warn(found, candidates, known)


def _look_at_tables(found: Download, files: Sequence[Path]) -> None:
    """The tables by name, the newest release first; the list of images by its columns."""
    lists = [path for path in files if is_image_list(path)]
    for name, columns in COLUMNS.items():
        named = lists if name == "image list" else tables_named(files, name)[::-1]
        either = _CODINGS if name == "DXSUM" else ()
        found.tables.append(
            table(name, named, columns, REQUIRED.get(name, ()), where=ADNI[name], either=either, every=True)
        )
    merge, told = (next(t for t in found.tables if t.name == name) for name in ("ADNIMERGE", "DXSUM"))
    if not merge.files and not told.files:
        found.missing.append(
            Missing("a clinical table, ADNIMERGE or DXSUM", f"from {merge.where}, or from {told.where}")
        )
    diagnosed = bool(merge.files) and not merge.broken and merge.columns["dx"] is not None
    for one in found.tables:
        codeless = one is told and bool(told.columns) and told.columns["rid"] is not None
        if one.broken and not (codeless and diagnosed):
            found.need(one)
    if merge.files and not merge.broken and not diagnosed and not told.files:
        found.missing.append(
            Missing(f"diagnoses: {merge.files[0].name} has no column DX, and there is no DXSUM", f"from {told.where}")
        )
    read = {path for t in found.tables for path in t.files}
    found.unread = [path for path in tables_in(files) if path not in read]
    warn_of_tables(found)


def _subjects(tables: Sequence) -> set[float]:
    """RIDs in the clinical tables."""
    known: set[float] = set()
    for one in tables:
        if one.name in ("ADNIMERGE", "DXSUM") and not one.broken:
            for path in one.files:
                try:
                    known |= set(rids(read_table(path, {"rid": COLUMNS[one.name]["rid"]})["rid"]).dropna())
                except BadInput:
                    continue  # told of as a broken table where it is the newest
    return known


def _warn(found: Download, images: pd.DataFrame, known: set[float]) -> None:
    """Images that will be lost or may be old."""
    strangers = images[~images["subject"].isin(known)]
    if len(strangers) and known:
        names = sorted(strangers["ptid"].astype("str").unique())
        found.warnings.append(
            f"{len(strangers)} T1 images of {len(names)} subjects without clinical rows ({some(names)}): they will be excluded"
        )
    undated = int(images["date"].isna().sum())
    if undated and not next(t for t in found.tables if t.name == "image list").files:
        found.warnings.append(
            f"{undated} T1 images have no date in their path and no image list: they will be excluded"
        )
    clinical = [path for t in found.tables if t.name in NAMES for path in t.files]
    days = {path: released(path) for path in clinical if released(path) > datetime.min}
    newest_scan = images["date"].max()
    for t in found.tables:
        mine = [days[path] for path in t.files if path in days]
        if len(t.files) > 1 and t.name in NAMES:
            found.warnings.append(
                f"{len(t.files)} releases of {t.name}: {t.files[0].name} goes before {some(p.name for p in t.files[1:])}"
            )
        if mine and t.name != "DELMRSCANS" and newest_scan == newest_scan and max(mine) < newest_scan:
            found.warnings.append(
                f"{t.files[0].name} is older than the newest scan ({newest_scan:%Y-%m-%d}): download it again"
            )
    if days and (max(days.values()) - min(days.values())).days > 31:
        found.warnings.append(
            f"tables of different days, {min(days.values()):%d%b%Y} to {max(days.values()):%d%b%Y}: take all from one day"
        )
