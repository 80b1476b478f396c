"""Pickles of plain containers, numbers and numeric arrays, read without running anything that they name.

CIFAR's python version is distributed as pickles. A pickle is a program for a stack machine that may name any function and have it called, and
Python's own machine can be crashed by one (nested keys) or made to fill the memory (numbers of its memo). Here the instructions that plain values
need are carried out one by one. The names that arrays and numbers of numpy need are answered by stand-ins, which check type, shape and length against
the bytes that are there; every other name and instruction is refused. Keys of mappings are text, bytes or whole numbers, so that nothing nested is
ever hashed; how deep values nest does not matter, because nothing here descends into them.
"""

from __future__ import annotations

import codecs
import io
import math
import pickle
import pickletools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from elr_mri.errors import BadInput

#: Types of arrays that are admitted: whole and floating numbers.
KINDS = frozenset(f"{kind}{size}" for kind, sizes in {"u": "1248", "i": "1248", "f": "48"}.items() for size in sizes)
#: As many dimensions as an array of numpy may have had.
MAX_DIMENSIONS = 32
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
        text = _text(name)
        if text not in KINDS:
            raise pickle.UnpicklingError(f"an array of type {text!r}")
        self.dtype = np.dtype(text)

    def build(self, state: tuple) -> None:
        order = _text(state[1])
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for numpy.ndarray, and for the function that makes an empty one to be filled."""

    def __init__(self, *ignored: object):
        self.values = np.empty(0)

    def build(self, state: tuple) -> None:
        _, shape, kind, by_columns, raw = state
        self.values = _filled(raw, kind, shape, by_columns=bool(by_columns))


def _text(value: object) -> str:
    """A short text, which Python 2 wrote as bytes."""
    if type(value) not in (str, bytes):
        raise pickle.UnpicklingError(f"a {type(value).__name__} for a text")
    return value.decode("ascii") if isinstance(value, bytes) else value


def _filled(raw: object, kind: object, shape: object, *, by_columns: bool) -> np.ndarray:
    """The array that bytes hold."""
    if not (isinstance(kind, _Type) and isinstance(raw, (bytes, bytearray)) and isinstance(shape, tuple)):
        raise pickle.UnpicklingError("an array that is not of numbers")
    if len(shape) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise pickle.UnpicklingError("an array without a shape")
    if len(raw) != kind.dtype.itemsize * math.prod(shape):
        raise pickle.UnpicklingError(f"{len(raw)} bytes for an array of another shape")
    return np.frombuffer(raw, kind.dtype).reshape(shape, order="F" if by_columns else "C")


def _from_buffer(raw: object, kind: object, shape: object, order: object) -> _Array:
    """Stands for numpy's function of that name, by which protocol 5 writes arrays."""
    made = _Array()
    made.values = _filled(raw, kind, shape, by_columns=_text(order) == "F")
    return made


def _scalar(kind: object, raw: object) -> np.generic:
    """Stands for numpy's function of that name: one number with its type."""
    return _filled(raw, kind, (1,), by_columns=False)[0]


def _encode(text: object, encoding: object = "") -> bytes:
    """Stands for codecs.encode, by which Python 3 writes bytes into pickles for Python 2."""
    if type(text) is not str or _text(encoding) != "latin1":
        raise pickle.UnpicklingError("bytes in another encoding than latin1")
    return text.encode("latin1")


#: Every name that may stand in such a pickle, and what answers it; numpy renamed its core between versions 1 and 2.
STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): answer
        for core in ("core", "_core")
        for module, name, answer in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}
_OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}
#: Instructions without effect on values, those that stand for a value, and those whose argument is the value (Python 2's bytes apart).
_IDLE = frozenset({"PROTO", "FRAME"})
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_STRINGS = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING"})
_ARGUMENTS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _instructions(content: bytes) -> Iterator[tuple[str, Any]]:
    """Name and argument of each instruction, as `pickletools.genops` has them, but for Python 2's strings, which are bytes of any value."""
    stream = io.BytesIO(content)
    while code := stream.read(1):
        opcode = _OPCODES[code]
        if opcode.name == "STRING":
            yield opcode.name, codecs.escape_decode(stream.readline().strip()[1:-1])[0]
            continue
        argument = None if opcode.arg is None else opcode.arg.reader(stream)
        yield opcode.name, argument.encode("latin1") if opcode.name in _STRINGS else argument
        if opcode.name == "STOP":
            return
    raise EOFError("the end is missing")


class _Machine:
    """The stack, its marks and the memo; `left` is how many bytes may still be made of texts, so that one text is not copied over and over."""

    def __init__(self, n_bytes: int):
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.left = n_bytes

    def take(self, n: int) -> list[Any]:
        """The last n values, taken off."""
        if n > len(self.stack) - (self.marks[-1] if self.marks else 0):
            raise pickle.UnpicklingError("a value that is not there")
        values = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        return values

    def since_mark(self) -> list[Any]:
        """The values since the last mark, taken off with it."""
        values = self.take(len(self.stack) - self.marks[-1])
        self.marks.pop()
        return values

    def extend(self, values: list[Any]) -> None:
        """Put values into the list on top."""
        if type(self.stack[-1]) is not list:
            raise pickle.UnpicklingError("values for what is no list")
        self.stack[-1].extend(values)

    def update(self, values: list[Any], found: Any) -> dict:
        """Put keys and values, one after another, into a mapping."""
        if type(found) is not dict or not all(type(key) in (str, bytes, int) for key in values[::2]):
            raise pickle.UnpicklingError("a key that is neither text nor a whole number")
        found.update(zip(values[::2], values[1::2], strict=True))
        return found

    def name(self, module: object, name: object) -> Callable[..., Any]:
        """What answers a name."""
        if type(module) is not str or type(name) is not str or (module, name) not in STAND_INS:
            raise pickle.UnpicklingError(f"the name {module}.{name}")
        return STAND_INS[module, name]

    def call(self, function: object, values: object) -> Any:
        """What a stand-in makes of values."""
        if type(values) is not tuple or not any(function is known for known in STAND_INS.values()):
            raise pickle.UnpicklingError("a call of what is no function")
        made = function(*values)
        self.left -= len(made) if type(made) is bytes else 0
        if self.left < 0:
            raise pickle.UnpicklingError("more bytes than the file has")
        return made

    def run(self, name: str, argument: Any) -> None:
        """Carry out one instruction but the last."""
        push, stack = self.stack.append, self.stack
        if name in _ARGUMENTS or name in _STRINGS:
            push(argument)
        elif name in _VALUES:
            push(_VALUES[name])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            push(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in _TUPLES:
            push(tuple(self.take(_TUPLES[name])))
        elif name == "TUPLE":
            push(tuple(self.since_mark()))
        elif name in ("EMPTY_LIST", "LIST"):
            push(self.since_mark() if name == "LIST" else [])
        elif name in ("APPEND", "APPENDS"):
            self.extend(self.take(1) if name == "APPEND" else self.since_mark())
        elif name in ("EMPTY_DICT", "DICT"):
            push(self.update(self.since_mark() if name == "DICT" else [], {}))
        elif name in ("SETITEM", "SETITEMS"):
            self.update(self.take(2) if name == "SETITEM" else self.since_mark(), stack[-1])
        elif name == "GLOBAL":
            push(self.name(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            push(self.name(*self.take(2)))
        elif name == "REDUCE":
            push(self.call(*self.take(2)))
        elif name == "BUILD":
            (state,) = self.take(1)
            if not isinstance(stack[-1], (_Type, _Array)):
                raise pickle.UnpicklingError("a state for what has none")
            stack[-1].build(state)
        elif name not in _IDLE:
            raise pickle.UnpicklingError(f"the instruction {name}")


def load(content: bytes, *, where: str) -> dict[str, Any]:
    """The mapping in a pickle, its keys as text: numbers, text, bytes, lists, tuples, mappings and arrays of numbers; raises `BadInput` for anything else."""
    try:
        machine = _Machine(len(content))
        for name, argument in _instructions(content):
            if name != "STOP":
                machine.run(name, argument)
        (found,) = machine.take(1)
        if type(found) is not dict:
            raise ValueError(f"a {type(found).__name__}")
        return {
            k.decode() if isinstance(k, bytes) else k: v.values if isinstance(v, _Array) else v
            for k, v in found.items()
        }
    except FAULTS as problem:
        raise BadInput(
            expected="a pickled mapping with plain values and arrays of numbers",
            got=f"{type(problem).__name__}: {problem}"[:300],
            where=where,
            fix="Fetch the archive again from where it is published; nothing in this one was run.",
        ) from problem
