"""Loads pickled NumPy arrays without executing anything that a pickle says.

A pickle is a program: its instructions may import any function and call it. This reader answers the four names that
arrays are pickled with by stand-ins of its own, which only write down what they are given, and refuses all others.
Arrays are then made here, from raw bytes and a shape that fits them: not even NumPy's own unpickling code meets the
file. Source: Python's documentation of ``pickle``, "Restricting Globals"; NEP 9 and PEP 574 for the names.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_NUMBERS = re.compile(r"[|<>=]?[uif][1248]")
_LONGEST_SHAPE = 8

MALFORMED = (
    pickle.UnpicklingError, EOFError, AttributeError, ValueError, TypeError, LookupError, ImportError, MemoryError,
    OverflowError, RecursionError, AssertionError, struct.error,
)  # fmt: skip
"""What the reader raises for bytes that are no pickle, or one that does not fit together."""


class Refused(Exception):
    """A pickle that asks for more than arrays."""


class _Call:
    """Stands for a function or class: takes a call down, and does nothing."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> _Made:
        return _Made(self.name, arguments)


class _Made:
    """What a call gave: the arguments, and the state that is set afterwards."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name, self.arguments, self.state = name, arguments, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


_KNOWN = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    **{(f"{core}.multiarray", "_reconstruct"): "reconstruct" for core in ("numpy.core", "numpy._core")},
    **{(f"{core}.numeric", "_frombuffer"): "frombuffer" for core in ("numpy.core", "numpy._core")},
}


class _Reader(pickle._Unpickler):
    # The one in Python, not the one in C: there, six bytes can claim a memo of many gigabytes.
    def find_class(self, module: str, name: str) -> Any:
        """Answer the names that arrays need. Raises ``Refused`` for any other."""
        try:
            return _Call(_KNOWN[module, name])
        except KeyError:
            raise Refused(f"it asks for {module}.{name}: only numbers and NumPy arrays are loaded") from None

    def persistent_load(self, identifier: Any) -> Any:
        """Refuse what lies outside the file."""
        raise Refused("it refers to something outside the file")


def load(file: BinaryIO | bytes) -> dict[str, Any]:
    """Load a pickled dictionary of arrays, lists, numbers and texts.

    Takes pickles of every protocol, Python 2's included. Raises ``Refused`` for one that asks for anything else, and
    one of ``MALFORMED`` for what is no whole pickle.
    """
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    loaded = _Reader(stream, encoding="latin1").load()
    if not isinstance(loaded, Mapping):
        raise Refused(f"it holds no dictionary, but a {type(loaded).__name__}")
    return {str(key): _array(value) if isinstance(value, _Made) else value for key, value in loaded.items()}


def _array(made: _Made) -> Array:
    if made.name == "reconstruct":
        # A version, shape, dtype, whether columns come first, and the bytes.
        _, shape, dtype, by_columns, raw = made.state  # type: ignore[misc]  # a wrong state is malformed
    elif made.name == "frombuffer":
        raw, dtype, shape, order = made.arguments
        by_columns = order == "F"
    else:
        raise ValueError(f"{made.name} is no array")
    return _built(_bytes(raw), _dtype(dtype), shape, bool(by_columns))


def _built(raw: bytes | bytearray, dtype: np.dtype[Any], shape: Any, by_columns: bool) -> Array:
    sizes = [int(size) for size in shape]
    if len(sizes) > _LONGEST_SHAPE or any(size < 0 for size in sizes):
        raise ValueError(f"an array cannot have the shape {sizes}")
    if math.prod(sizes) * dtype.itemsize != len(raw):
        raise ValueError(f"{len(raw)} bytes are no array of shape {sizes} and type {dtype}")
    array = np.frombuffer(raw, dtype)
    return array.reshape(sizes[::-1]).T if by_columns else array.reshape(sizes)


def _bytes(raw: Any) -> bytes | bytearray:
    # Before protocol 3, bytes were pickled as text and a call that encodes it.
    if isinstance(raw, _Made) and raw.name == "encode" and raw.arguments[1:] == ("latin1",):
        raw = raw.arguments[0]
    if isinstance(raw, str):
        return raw.encode("latin1")
    if isinstance(raw, pickle.PickleBuffer):
        return raw.raw().tobytes()
    if not isinstance(raw, bytes | bytearray):
        raise ValueError(f"an array's content is {type(raw).__name__}, not bytes: only plain numbers are loaded")
    return raw


def _dtype(made: Any) -> np.dtype[Any]:
    if not isinstance(made, _Made) or made.name != "dtype" or not made.arguments:
        raise ValueError("an array's type is no type")
    code = made.arguments[0]
    if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
        raise Refused(f"an array has the type {code!r}: only plain numbers are loaded")
    # The state tells the order of bytes: (version, "<" or ">" or "|", ...).
    order = made.state[1] if isinstance(made.state, tuple) and len(made.state) > 1 else "|"
    return np.dtype(code).newbyteorder(">" if order == ">" else "<" if order == "<" else "=")
