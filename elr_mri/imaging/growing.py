"""A folder of files that change together, one of them an array that grows: after a kill at any moment it is the old or the new one.

Two rules make that true without rewriting what is there:

1. `volumes.npy` only ever gets rows behind those that the committed index names (`append`). NumPy pads the header of a
   .npy file for a growing first axis, so the number of rows is changed in place; readers take the rows that the index
   names and no more.
2. What replaces files (the index, and whatever goes with it) is written into `.next/`, and one rename to `.commit/` makes it
   count (`commit`). From then on every file is looked for in `.commit/` first (`current`); `settle` moves the files to
   their places one by one, and does so again after a kill.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

NEXT, COMMIT = ".next", ".commit"


def current(folder: Path, name: str) -> Path:
    """Where the committed `name` lies."""
    moved = folder / COMMIT / name
    return moved if moved.exists() else folder / name


def settle(folder: Path) -> None:
    """Finish what a killed run had committed, and clear away what it had not."""
    shutil.rmtree(folder / NEXT, ignore_errors=True)
    committed = folder / COMMIT
    if committed.is_dir():
        for path in sorted(committed.iterdir()):
            os.replace(path, folder / path.name)
        committed.rmdir()


def commit(folder: Path, write: Callable[[Path], None]) -> None:
    """Replace files of `folder` together: `write` puts the new ones into the folder that it is given."""
    settle(folder)
    draft = folder / NEXT
    draft.mkdir(parents=True)
    write(draft)
    for path in draft.iterdir():
        _sync(path)
    os.replace(draft, folder / COMMIT)
    _sync(folder)
    settle(folder)


def append(path: Path, rows: Iterable[np.ndarray], *, n_kept: int, shape: tuple[int, ...], dtype: str) -> int:
    """Write rows behind the first `n_kept` of a .npy file (none: a new file); returns how many rows it has then.

    Parameters
    ----------
    rows : arrays of `shape` and `dtype`, taken and written one by one
    """
    n_bytes, n_rows = int(np.prod(shape)) * np.dtype(dtype).itemsize, n_kept
    head = _header(n_kept, shape, dtype)
    with open(path, "r+b" if n_kept else "w+b") as file:
        if n_kept == 0:
            file.write(head)
        elif len(_raw_header(file)) != len(head):
            raise ValueError(f"{path} has a header without room to grow")
        else:  # a run that was killed may have told of rows that now are written over, or cut off
            file.seek(0)
            file.write(head)
            file.flush()
        file.seek(len(head) + n_kept * n_bytes)
        for row in rows:
            if row.shape != shape or row.dtype != np.dtype(dtype):
                raise ValueError(f"a row of {shape} {dtype} is due, not of {row.shape} {row.dtype}")
            file.write(np.ascontiguousarray(row).data)
            n_rows += 1
        file.truncate(len(head) + n_rows * n_bytes)
        file.flush()
        os.fsync(file.fileno())  # the rows are on the disk before the header tells of them
        file.seek(0)
        file.write(_header(n_rows, shape, dtype))
        file.flush()
        os.fsync(file.fileno())
    return n_rows


def _header(n_rows: int, shape: tuple[int, ...], dtype: str) -> bytes:
    """The .npy header of `n_rows` rows, as long for any number of them."""
    held = io.BytesIO()
    told = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": (n_rows, *shape)}
    np.lib.format.write_array_header_1_0(held, told)
    return held.getvalue()


def _raw_header(file: io.BufferedRandom) -> bytes:
    """The header of an open .npy file of version 1.0."""
    file.seek(0)
    start = file.read(10)
    return start + file.read(int.from_bytes(start[8:10], "little"))


def _sync(path: Path) -> None:
    """Bring a file or the names in a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
