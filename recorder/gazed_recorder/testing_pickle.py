"""Pickles as Python 2 wrote them, for tests of what reads old recordings; Python 3 writes its texts another way.

The bytes are those of Python 2's ``cPickle`` with protocol 2: texts are byte strings (``SHORT_BINSTRING``), whole
numbers beyond 32 bits are lines of text, and what is named more than once is remembered.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

__all__ = ["python2_pickle"]

_BATCH = 1000


def python2_pickle(value: Any) -> bytes:
    """Return a value of maps, lists, tuples, texts, numbers and numpy's numbers and arrays as a pickle of Python 2's.

    The same map in two places is written once, and remembered.
    """
    return b"\x80\x02" + b"".join(_Pickler().write(value)) + b"."


class _Pickler:
    def __init__(self) -> None:
        self._memo: dict[Any, int] = {}

    def write(self, value: Any) -> Iterator[bytes]:
        match value:
            case None:
                yield b"N"
            case bool():
                yield b"\x88" if value else b"\x89"
            case np.generic() | np.ndarray():
                yield from self._numpy(value)
            case int():
                yield _whole(value)
            case float():
                yield b"G" + struct.pack(">d", value)
            case str() | bytes():
                yield from self._text(value)
            case tuple():
                yield from self._tuple(value)
            case list() | dict():
                yield from self._container(value)
            case _:
                raise TypeError(f"{type(value).__name__} was in no recording")

    def _remember(self, key: Any) -> bytes:
        number = self._memo[key] = len(self._memo) + 1
        return b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<i", number)

    def _again(self, key: Any) -> bytes:
        number = self._memo[key]
        return b"h" + bytes([number]) if number < 256 else b"j" + struct.pack("<i", number)

    def _text(self, value: str | bytes) -> Iterator[bytes]:
        if value in self._memo:
            yield self._again(value)
            return
        raw = value if isinstance(value, bytes) else value.encode()
        yield (b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw))) + raw
        if isinstance(value, str):
            yield self._remember(value)

    def _tuple(self, values: tuple[Any, ...]) -> Iterator[bytes]:
        if not values:
            yield b")"
            return
        yield b"(" if len(values) > 3 else b""
        for value in values:
            yield from self.write(value)
        yield {1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(values), b"t")

    def _container(self, value: list[Any] | dict[Any, Any]) -> Iterator[bytes]:
        key = ("id", id(value))
        if key in self._memo:
            yield self._again(key)
            return
        entries: list[tuple[Any, ...]]
        if isinstance(value, dict):
            entries, empty, one, many = [*value.items()], b"}", b"s", b"u"
        else:
            entries, empty, one, many = [(each,) for each in value], b"]", b"a", b"e"
        yield empty + self._remember(key)
        for first in range(0, len(entries), _BATCH):
            batch = entries[first : first + _BATCH]
            yield b"(" if len(batch) > 1 else b""
            yield from self._each(part for entry in batch for part in entry)
            yield many if len(batch) > 1 else one

    def _each(self, values: Iterable[Any]) -> Iterator[bytes]:
        for value in values:
            yield from self.write(value)

    def _numpy(self, value: np.generic | np.ndarray) -> Iterator[bytes]:
        dtype = value.dtype.newbyteorder("<")
        raw = value.astype(dtype).tobytes()
        if isinstance(value, np.ndarray):
            yield from self._name("numpy.core.multiarray", "_reconstruct")
            yield from self._name("numpy", "ndarray")
            yield b"K\x00\x85U\x01b\x87R(K\x01"
            yield from self._tuple(value.shape)
            yield from self._dtype(dtype)
            yield b"\x89"
            yield from self._text(raw)
            yield b"tb"
        else:
            yield from self._name("numpy.core.multiarray", "scalar")
            yield from self._dtype(dtype)
            yield from self._text(raw)
            yield b"\x86R"

    def _name(self, module: str, name: str) -> Iterator[bytes]:
        if (module, name) in self._memo:
            yield self._again((module, name))
        else:
            yield f"c{module}\n{name}\n".encode() + self._remember((module, name))

    def _dtype(self, dtype: np.dtype[Any]) -> Iterator[bytes]:
        if dtype in self._memo:
            yield self._again(dtype)
            return
        yield from self._name("numpy", "dtype")
        yield from self._text(dtype.str[1:])
        yield b"K\x00K\x01\x87R" + self._remember(dtype)
        yield b"(K\x03"
        yield from self._text("<" if dtype.itemsize > 1 else "|")
        yield b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def _whole(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if 0 <= value < 65536:
        return b"M" + struct.pack("<H", value)
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"I%d\n" % value
