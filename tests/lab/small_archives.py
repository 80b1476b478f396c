"""CIFAR's published files, tiny, in every version: for tests to read."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np

from elr_mri.lab.cifar import TEN

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
N = 20


def drawn(seed: int, n: int = N, n_classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3, 32, 32) uint8, and labels."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8), rng.permutation(np.arange(n) % n_classes)


def python2(told: dict) -> bytes:
    """A pickle as Python 2 and the numpy of its time wrote the published files: names of `numpy.core`, byte strings for text."""

    def text(s: bytes) -> bytes:
        return b"U" + bytes([len(s)]) + s if len(s) < 256 else b"T" + struct.pack("<i", len(s)) + s

    def value(v: object) -> bytes:
        if isinstance(v, bytes):
            return text(v)
        if isinstance(v, list):
            return b"](" + b"".join(value(x) for x in v) + b"e"
        if isinstance(v, np.ndarray):
            shape = b"(" + b"".join(b"J" + struct.pack("<i", k) for k in v.shape) + b"t"
            kind = (
                b"cnumpy\ndtype\n"
                + text(b"u1")
                + b"K\x00K\x01\x87R(K\x03"
                + text(b"|")
                + b"NNN"
                + b"J\xff\xff\xff\xff" * 2
                + b"K\x00tb"
            )
            return (
                b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n(K\x00t" + text(b"b") + b"\x87R"
                b"(K\x01" + shape + kind + b"I00\n" + text(v.tobytes()) + b"tb"
            )  # fmt: skip
        return b"J" + struct.pack("<i", v)

    return b"\x80\x02}(" + b"".join(text(k) + value(v) for k, v in told.items()) + b"u."


def python3(told: dict) -> bytes:
    return pickle.dumps({k.decode(): v for k, v in told.items()}, protocol=2)


def ten_files(version: str) -> dict[str, bytes]:
    """Published files of CIFAR-10, tiny: by version `python2`, `python3` or `binary`."""
    files = {}
    for seed, name in enumerate((*TEN, "test_batch")):
        x, y = drawn(seed)
        if version == "binary":
            files[f"{name}.bin"] = np.concatenate([y[:, None].astype(np.uint8), x.reshape(N, -1)], axis=1).tobytes()
        else:
            write = python2 if version == "python2" else python3
            files[name] = write({b"data": x.reshape(N, -1), b"labels": y.tolist(), b"batch_label": b"one of five"})
    if version == "binary":
        files["batches.meta.txt"] = "\n".join(CLASSES).encode() + b"\n\n"
    else:
        files["batches.meta"] = python2({b"label_names": [name.encode() for name in CLASSES]})
    return files


def hundred_files(version: str) -> dict[str, bytes]:
    files = {}
    for seed, name in enumerate(("train", "test")):
        x, y = drawn(seed, 100, 100)
        if version == "binary":
            labels = np.stack([y // 5, y], axis=1).astype(np.uint8)
            files[f"{name}.bin"] = np.concatenate([labels, x.reshape(100, -1)], axis=1).tobytes()
        else:
            told = {b"coarse_labels": (y // 5).tolist(), b"fine_labels": y.tolist(), b"data": x.reshape(100, -1)}
            files[name] = python2(told)
    return files


def as_folder(files: dict[str, bytes], root: Path, name: str) -> Path:
    (root / name).mkdir(parents=True)
    for file, content in files.items():
        (root / name / file).write_bytes(content)
    return root


def as_archive(files: dict[str, bytes], root: Path, name: str) -> Path:
    path = root / f"{name}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file, content in files.items():
            info = tarfile.TarInfo(f"{name}/{file}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
