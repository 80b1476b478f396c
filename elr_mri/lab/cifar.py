"""CIFAR-10 and CIFAR-100 as they are published: the python and the binary version, a `.tar.gz` or the folder that it unpacks to.

https://www.cs.toronto.edu/~kriz/cifar.html. An archive is read where it is, never unpacked; of its members only those of known names. Both
versions hold 32×32 images, red, green and blue planes one after another, row by row.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from elr_mri.errors import BadInput
from elr_mri.lab import plain_pickle

SHAPE = (3, 32, 32)
#: Beyond this a file is none of these sets.
MAX_BYTES = 1 << 30
TEN = tuple(f"data_batch_{k}" for k in range(1, 6))


@dataclass(frozen=True)
class Version:
    """A published version: its files of training and test images and the one with the names of the classes."""

    name: str
    train: tuple[str, ...]
    test: str
    names: str
    n_classes: int
    #: Key of the labels in a pickle; of a binary record, its label bytes, of which the last counts.
    key: str | int
    names_key: str = ""


VERSIONS = (
    Version("cifar10", TEN, "test_batch", "batches.meta", 10, "labels", "label_names"),
    Version("cifar10", tuple(f"{name}.bin" for name in TEN), "test_batch.bin", "batches.meta.txt", 10, 1),
    Version("cifar100", ("train",), "test", "meta", 100, "fine_labels", "fine_label_names"),
    Version("cifar100", ("train.bin",), "test.bin", "fine_label_names.txt", 100, 2),
)
KNOWN = frozenset(name for v in VERSIONS for name in (*v.train, v.test, v.names))
Pixels = tuple[np.ndarray, np.ndarray]


def read_cifar(path: Path) -> tuple[str, tuple[str, ...], dict[str, Pixels]] | None:
    """The set's name, its classes, and of `train` and `test` the images (n, 3, 32, 32) uint8 and labels (n,) int; None where `path` holds none of it."""
    files = _members(path) if path.is_file() else _files(path)
    present = [v for v in VERSIONS if v.train[0] in files]
    if not present:
        return None
    if len({v.name for v in present}) > 1:
        raise BadInput(
            expected="one set", got="both CIFAR-10 and CIFAR-100", where=str(path), fix="Name the folder of one."
        )
    version = present[0]
    if absent := [name for name in (*version.train, version.test) if name not in files]:
        raise BadInput(
            expected=f"all files of {version.name}: {', '.join((*version.train, version.test))}",
            got=f"no {absent[0]}",
            where=str(path),
            fix="Fetch the archive again, or unpack all of it.",
        )
    parts = [_read(files[name], version, f"{path}, {name}") for name in (*version.train, version.test)]
    train = tuple(np.concatenate(part) for part in zip(*parts[:-1], strict=True))
    return version.name, _class_names(files, version, path), {"train": train, "test": parts[-1]}


def _files(folder: Path) -> dict[str, Callable[[], bytes]]:
    """Known files of a folder, of one folder in it, or of an archive in it, by name."""
    for place in (folder, *sorted(p for p in folder.glob("cifar-*") if p.is_dir())):
        found = {p.name: p for p in place.iterdir() if p.is_file() and p.name in KNOWN}
        if any(v.train[0] in found for v in VERSIONS):
            return {name: lambda p=p: _whole(p) for name, p in found.items()}
    archives = sorted(folder.glob("cifar-*.tar.gz"))
    return _members(archives[0]) if archives else {}


def _whole(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _damaged(path, f"{path.stat().st_size} bytes")
        return path.read_bytes()
    except OSError as problem:
        raise _damaged(path, problem.strerror) from problem


def _members(path: Path) -> dict[str, Callable[[], bytes]]:
    """Known regular members of an archive, by name; read at once, one pass through the compressed stream."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name not in KNOWN or not member.isfile():
                    continue
                if name in found or member.size > MAX_BYTES:
                    raise _damaged(path, f"{name} twice" if name in found else f"{name} of {member.size} bytes")
                found[name] = archive.extractfile(member).read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as problem:
        raise _damaged(path, str(problem)) from problem
    return {name: lambda content=content: content for name, content in found.items()}


def _damaged(path: Path, got: str | None) -> BadInput:
    return BadInput(
        expected="CIFAR's archive (.tar.gz), or the folder that it unpacks to",
        got=got or "nothing",
        where=str(path),
        fix="Fetch the archive again.",
    )


def _read(content: Callable[[], bytes], version: Version, where: str) -> Pixels:
    """Images and labels of one file."""
    if isinstance(version.key, int):
        flat, labels = _records(content(), version.key, where)
    else:
        told = plain_pickle.load(content(), where=where)
        flat, labels = told.get("data"), told.get(version.key)
    n = np.prod(SHAPE)
    if (
        not isinstance(flat, np.ndarray)
        or flat.dtype != np.uint8
        or flat.ndim != 2
        or flat.shape[1] != n
        or not len(flat)
    ):
        raise _content(
            f"(n, {n}) whole numbers of one byte under `data`",
            type(flat).__name__ if not isinstance(flat, np.ndarray) else f"{flat.dtype} {flat.shape}",
            where,
        )
    if (
        not isinstance(labels, (list, np.ndarray))
        or len(labels) != len(flat)
        or not all(isinstance(k, (int, np.integer)) and 0 <= k < version.n_classes for k in labels)
    ):
        raise _content(
            f"a class from 0 to {version.n_classes - 1} for each of {len(flat)} images", "other labels, or none", where
        )
    return flat.reshape(-1, *SHAPE), np.asarray(labels, dtype=np.int64)


def _records(content: bytes, n_labels: int, where: str) -> Pixels:
    """Bytes of images (n, 3072) and labels (n,) of a binary file."""
    size = n_labels + int(np.prod(SHAPE))
    if not content or len(content) % size:
        raise _content(f"records of {size} bytes", f"{len(content)} bytes", where)
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    return records[:, n_labels:], records[:, n_labels - 1]


def _content(expected: str, got: str, where: str) -> BadInput:
    return BadInput(expected=expected, got=got, where=where, fix="Fetch the archive again.")


def _class_names(files: dict[str, Callable[[], bytes]], version: Version, path: Path) -> tuple[str, ...]:
    """Names of the classes as published; their numbers where the file with the names is not there."""
    if version.names not in files:
        return tuple(str(k) for k in range(version.n_classes))
    content, where = files[version.names](), f"{path}, {version.names}"
    if version.names_key:
        names = plain_pickle.load(content, where=where).get(version.names_key)
        names = (
            [n.decode("utf-8", "replace") if isinstance(n, bytes) else n for n in names]
            if isinstance(names, list)
            else []
        )
    else:
        names = content.decode("utf-8", "replace").split()
    if len(names) != version.n_classes or not all(isinstance(n, str) for n in names):
        raise _content(f"the names of {version.n_classes} classes", f"{len(names)} of them", where)
    return tuple(names)
