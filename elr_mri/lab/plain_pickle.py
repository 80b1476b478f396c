"""Pickles of plain containers and numeric arrays, read without running anything that they name.

CIFAR's python version is distributed as pickles. A pickle may name any function and have it called; here the four names that an array of numbers
needs are answered by stand-ins, which copy the bytes into a new array, and every other name is refused. Numpy's own reconstruction is
not called either: it trusts the shape, the type and its flags.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np

from elr_mri.errors import BadInput

#: Types of arrays that are admitted: whole and floating numbers.
KINDS = frozenset(f"{kind}{size}" for kind, sizes in {"u": "1248", "i": "1248", "f": "48"}.items() for size in sizes)
#: What a damaged or foreign pickle can make the reader raise.
FAULTS = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RecursionError,
)


class _Type:
    """Stands for numpy.dtype."""

    def __init__(self, name: str | bytes, *flags: object):
        text = name.decode("ascii") if isinstance(name, bytes) else name
        if text not in KINDS:
            raise pickle.UnpicklingError(f"an array of type {text!r}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for numpy.ndarray, and for the function that makes an empty one to be filled."""

    def __init__(self, *ignored: object):
        self.values = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, by_columns, raw = state
        if not (isinstance(kind, _Type) and isinstance(raw, bytes) and all(type(n) is int and n >= 0 for n in shape)):
            raise pickle.UnpicklingError("an array that is not of numbers")
        if len(raw) != kind.dtype.itemsize * math.prod(shape):
            raise pickle.UnpicklingError(f"{len(raw)} bytes for an array of shape {shape}")
        self.values = np.frombuffer(raw, kind.dtype).reshape(shape, order="F" if by_columns else "C")


class _Bytes(bytes):
    """Stands for codecs.encode, by which Python 3 writes bytes into pickles for Python 2."""

    def __new__(cls, text: str, encoding: str = "") -> _Bytes:
        if encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError(f"bytes in {encoding!r}")
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("bytes with a state")


#: Every name that may stand in such a pickle, and what answers it.
STAND_INS = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): _Bytes,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            raise pickle.UnpicklingError(f"the name {module}.{name}")
        return STAND_INS[module, name]


def load(content: bytes, *, where: str) -> dict[str, Any]:
    """The mapping in a pickle, its keys as text: numbers, text, bytes, lists, tuples, mappings and arrays of numbers; raises `BadInput` for anything else."""
    try:
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__}")
        return {
            k.decode() if isinstance(k, bytes) else k: getattr(v, "values", v) if isinstance(v, _Array) else v
            for k, v in found.items()
        }
    except FAULTS as problem:
        raise BadInput(
            expected="a pickled mapping with plain values and arrays of numbers",
            got=f"{type(problem).__name__}: {problem}"[:300],
            where=where,
            fix="Fetch the archive again from where it is published; nothing in this one was run.",
        ) from problem
