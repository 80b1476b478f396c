"""Which scans share a process, and what makes a batch stale.

Importing ANTs costs seconds, so a per-scan step may take a small batch of scans.
A batch holds whole subjects, because the visits of one may be registered together.
It depends on nothing but the subject's id and the number of batches, so adding a
scan touches one batch and no other. Standard library only: the workflow
calls this while it parses.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from elr_mri.scans.imagepath import split_member


def batch_of(subject_id: str, n_batches: int) -> str:
    """Name of the batch of a subject's scans: `000`, `001` …; with `n_batches` 0 every subject is a batch.

    >>> batch_of("sub-ADNI001S0001", 0)
    'sub-ADNI001S0001'
    """
    if n_batches == 0:
        return subject_id
    return f"{zlib.crc32(subject_id.encode()) % n_batches:03d}"


@lru_cache(maxsize=1)
def rows_by_batch(table: str, n_batches: int, *, modified_ns: int) -> dict[str, list[tuple[str, str]]]:
    """Batch -> scan_id and image_path of each of its scans; `modified_ns` keys the cache."""
    del modified_ns
    batches: dict[str, list[tuple[str, str]]] = {}
    with open(table, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            own = batches.setdefault(batch_of(row["subject_id"], n_batches), [])
            own.append((row["scan_id"], row["image_path"]))
    return batches


def stamped(rows: Sequence[tuple[str, str]]) -> list[list[object]]:
    """The rows of one batch with size and time of each image. Every job of a cluster parses the workflow anew and asks for its own batch: the files of no other are looked at."""
    return [[scan_id, image_path, *image_stamp(image_path)] for scan_id, image_path in rows]


def image_stamp(image_path: str) -> tuple[int, int]:
    """Size in bytes and modification time in ns of an image (of its archive, of a folder's files together); zeros if absent."""
    path, _ = split_member(image_path)
    found = [_stamp(file) for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    return sum(size for size, _ in found), max((changed for _, changed in found), default=0)


def _stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and modification time in ns; zeros for a link to nothing, and for what went away meanwhile."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def volumes_stamp(measure: dict[str, str], scans: str) -> list[list[object]]:
    """Names, sizes and times of what volumes that are not measured are read from, by the section `measure`: the scan
    table, a table, tables in a folder, or a SUBJECTS_DIR; empty where volumes are measured."""
    path = scans if measure.get("source") == "cohort" else measure.get("path")
    if not path:
        return []
    root = Path(path)
    stats = [*root.glob("*/stats/aseg.stats"), *root.glob("*/stats/?h.aparc.stats"), *root.glob("*/scripts/*.error")]
    files = sorted([root] if root.is_file() else [*(file for file in root.glob("*") if file.is_file()), *stats])
    return [[file.as_posix(), *_stamp(file)] for file in files]


def tree_stamp(folder: str) -> list[list[object]]:
    """Names, sizes and times of what a download folder holds two levels deep: new subjects and edited tables show in it."""
    root = Path(folder).expanduser()
    entries = [root] if root.is_file() else sorted([*root.glob("*"), *root.glob("*/*")])
    return [[entry.relative_to(root.parent).as_posix(), *_stamp(entry)] for entry in entries]
