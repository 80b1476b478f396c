"""What one download folder holds, as far as names, sizes and header lines tell."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from elr_mri.doctor.sites import GRAVE_COLUMNS, WITHOUT_COLUMN
from elr_mri.errors import BadInput
from elr_mri.scans.download import matched

_DICOM = (".dcm", ".ima")
_OTHER_IMAGES = (".img", ".mnc", ".mgz", ".mgh")
_TABLES = (".csv", ".tsv", ".xlsx", ".xls", ".sas7bdat", ".rda", ".rdata")


@dataclass(frozen=True)
class Table:
    """A table that the reader of a study looks for.

    Parameters
    ----------
    name : what the study calls it
    where : where on the study's site it is to be had
    files : the files that are it, the one that counts first
    columns : our name -> the user's column, None where it has none
    lacking : columns that it should have, in the study's spelling, what is lost without, and whether that is grave
    broken : why it cannot be read, empty where it can
    """

    name: str
    where: str
    files: tuple[Path, ...] = ()
    columns: Mapping[str, str | None] = field(default_factory=dict)
    lacking: tuple[tuple[str, str, bool], ...] = ()
    broken: str = ""


@dataclass(frozen=True)
class Missing:
    """Something that a run cannot do without: `what` is missing, and `remedy`, where it is to be had or what to do."""

    what: str
    remedy: str


@dataclass
class Download:
    """A cohort's folder: what is in it, what is missing (a run cannot do without) and what to look at.

    `n_scans` is about how many scans a run will take in: visits with a T1 image and a row in the tables.
    `sample` holds some images, whose headers tell the size of a scan.
    """

    name: str
    format: str
    path: str
    kinds: Counter = field(default_factory=Counter)
    n_bytes: int = 0
    tables: list[Table] = field(default_factory=list)
    counts: list[str] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)
    n_scans: int = 0
    sample: list[str] = field(default_factory=list)

    def need_images(self, n: int, where: str) -> None:
        """Told as missing where there is no image that could be a scan."""
        if n == 0:
            self.missing.append(Missing("T1 images", f"from {where}"))

    def need(self, table: Table) -> None:
        """Told as missing where the table is not there or cannot be read."""
        if not table.files:
            self.missing.append(Missing(f"the table {table.name}", f"from {table.where}"))
        elif table.broken:
            self.missing.append(Missing(table.broken, f"mend it, or download it again; from {table.where}"))


def count_files(found: Download, files: Sequence[Path]) -> None:
    """Add the files by kind, and their size; DICOM counts by leaf folder."""
    folders = set()
    for path in files:
        name = path.name.lower()
        try:
            found.n_bytes += os.stat(path).st_size
        except OSError:  # a link to nothing; ingest tells of it
            found.warnings.append(f"{path.name} cannot be read: a link to a file that is not there?")
        if name.endswith(_DICOM):
            folders.add(path.parent)
        found.kinds[_kind(name)] += 1
    found.kinds["DICOM folders"] = len(folders)


def _kind(name: str) -> str:
    if name.endswith((".nii", ".nii.gz")):
        return "NIfTI"
    if name.endswith(_DICOM):
        return "DICOM files"
    if name.endswith(".zip"):
        return "zips"
    if name.endswith(_OTHER_IMAGES):
        return "images of other formats"
    return "tables" if name.endswith(_TABLES) else "other files"


def table(
    name: str,
    files: Sequence[Path],
    wanted: Mapping[str, Sequence[str]],
    required: Iterable[str],
    *,
    where: str,
    either: Sequence[str] = (),
    every: bool = False,
) -> Table:
    """Look at the headers of `files`; the columns of the first are told.

    Parameters
    ----------
    wanted, required : as for `scans.download.read_table`
    either : our names of which one will do, such as the codings of DXSUM
    every : whether the reader reads all of `files`, not only the first, so that a fault of any is one of the table
    """
    broken, columns, lacking = "", {}, ()
    for path in files if every else files[:1]:
        try:
            told = matched(path, wanted)
        except BadInput as problem:
            broken = broken or refusal(problem).what
            continue
        absent = [ours for ours, column in told.items() if column is None]
        spelled = {ours: " or ".join(alias.upper() for alias in wanted[ours]) for ours in absent}
        needed = [spelled[ours] for ours in absent if ours in set(required)]
        if either and set(either) <= set(absent):
            needed.append(" or ".join(spelled[ours] for ours in either))
        if needed:
            broken = broken or f"{path.name} has no column {' and no '.join(needed)}"
        if path == files[0]:
            columns = told
            lacking = tuple(
                (spelled[ours], WITHOUT_COLUMN.get(ours, f"{ours} unknown"), ours in GRAVE_COLUMNS)
                for ours in absent
                if ours not in (*required, *either)
            )
    return Table(name, where, tuple(files), columns, lacking, broken)


def warn_of_tables(found: Download) -> None:
    """Warn of tables that cannot be read, and of files that look like one and are none."""
    required = {missing.what for missing in found.missing}
    for table in found.tables:
        if table.broken and table.broken not in required:
            found.warnings.append(f"{table.name} is of no use: {table.broken}")
        if table.files:
            continue
        alike = [path.name for path in found.unread if re.search(rf"(?<![a-z]){table.name}", path.name, re.I)]
        if alike:
            found.warnings.append(
                f"{some(alike)} looks like {table.name}, but its name or type is not that of the table"
            )


def refusal(problem: BadInput) -> Missing:
    """What a reader refuses, as something missing."""
    return Missing(f"{problem.where}: expected {problem.expected}, got {problem.got}", problem.fix)


def tables_in(files: Sequence[Path]) -> list[Path]:
    """The files that could be tables."""
    return [path for path in files if path.name.lower().endswith(_TABLES)]


def some(names: Iterable[object], n: int = 3) -> str:
    """The first few names, and how many more there are."""
    names = [str(name) for name in names]
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")


def sized(n_bytes: float) -> str:
    """A size as people say it."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.{1 if n_bytes < 100 * size else 0}f} {unit}"
    return f"{n_bytes:.0f} B"
