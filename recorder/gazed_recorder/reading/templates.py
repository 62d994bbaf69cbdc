"""Taking numbers out of many packed datums at once.

The datums of one kind are packed alike: the same keys in the same order, and behind each the same kind of number. A
*template* is what such a datum looks like: which bits are always the same, and where the numbers lie. Where a block of
datums of equal length fits a template, a column is cut out of all of them by one numpy operation; whatever fits none is
unpacked one at a time by the caller. Source of the byte layout: the msgpack specification.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gazed_recorder.reading.schemas import Path

__all__ = ["Leaf", "Template", "Unfit"]

_NUMBERS = {
    0xCA: ">f4", 0xCB: ">f8", 0xCC: ">u1", 0xCD: ">u2", 0xCE: ">u4", 0xCF: ">u8",
    0xD0: ">i1", 0xD1: ">i2", 0xD2: ">i4", 0xD3: ">i8",
}  # fmt: skip
# Bits that stay the same in a number of one byte: positive below 0x80, negative from 0xe0 on.
_POSITIVE, _NEGATIVE = 0x80, 0xE0
_TEXT = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BINARY = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_LONG_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_PACKED_MAP = 13
_DEEPEST = 16
_MOST_LEAVES = 4096


class Unfit(Exception):
    """A datum of which no template can be made."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value in a template: a number at ``offset``, or a ``constant`` that all datums share."""

    offset: int = -1
    dtype: str = ""
    constant: Any = None


class Template:
    """What datums that are packed like ``sample`` have in common.

    Raises:
        Unfit: the sample is no map, is nested too deeply, has too many values, or is not msgpack.
    """

    def __init__(self, sample: bytes) -> None:
        self.leaves: dict[Path, Leaf] = {}
        """The values, by where they are; of maps and lists, empty ones in their place."""
        self._sample = sample
        self._mask = bytearray(b"\xff" * len(sample))
        try:
            end = self._walk(0, (), 0)
        except (IndexError, UnicodeDecodeError) as error:
            raise Unfit from error
        if end != len(sample) or self.leaves.get((), Leaf()).constant != {}:
            raise Unfit
        padding = -len(sample) % 8
        self._same = np.frombuffer(bytes(self._mask) + b"\0" * padding, np.uint64)
        self._shared = np.frombuffer(sample + b"\0" * padding, np.uint64) & self._same

    def fits(self, words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell which of datums of the sample's length are packed like it; one a row, padded to whole words."""
        fit: NDArray[np.bool_] = ((words & self._same) == self._shared).all(axis=1)
        return fit

    def _walk(self, at: int, path: Path, depth: int) -> int:
        """Note the value at byte ``at``; return where the next one begins."""
        if depth > _DEEPEST or len(self.leaves) > _MOST_LEAVES:
            raise Unfit
        marker = self._sample[at]
        at += 1
        if marker in _NUMBERS:
            size = int(_NUMBERS[marker][2:])
            self._mask[at : at + size] = bytes(size)
            self.leaves[path] = Leaf(at, _NUMBERS[marker])
            return at + size
        if marker < 0x80 or marker >= 0xE0:
            self._mask[at - 1] = _POSITIVE if marker < 0x80 else _NEGATIVE
            self.leaves[path] = Leaf(at - 1, ">u1" if marker < 0x80 else ">i1")
            return at
        if marker < 0x90 or marker in (0xDE, 0xDF):
            count, at = (marker & 15, at) if marker < 0x90 else self._size(at, 2 if marker == 0xDE else 4)
            return self._walk_map(at, count, path, depth)
        if marker < 0xA0 or marker in (0xDC, 0xDD):
            count, at = (marker & 15, at) if marker < 0xA0 else self._size(at, 2 if marker == 0xDC else 4)
            return self._walk_list(at, count, path, depth)
        return self._walk_rest(marker, at, path, depth)

    def _walk_map(self, at: int, count: int, path: Path, depth: int) -> int:
        self.leaves[path] = Leaf(constant={})
        keys = set()
        for _ in range(count):
            key, at = self._key(at)
            if key in keys:  # only the last one would count
                raise Unfit
            keys.add(key)
            at = self._walk(at, (*path, key), depth + 1)
        return at

    def _walk_list(self, at: int, count: int, path: Path, depth: int) -> int:
        self.leaves[path] = Leaf(constant=[])
        for place in range(count):
            at = self._walk(at, (*path, place), depth + 1)
        return at

    def _walk_rest(self, marker: int, at: int, path: Path, depth: int) -> int:
        if marker in _CONSTANTS:
            self.leaves[path] = Leaf(constant=_CONSTANTS[marker])
            return at
        if marker < 0xC0 or marker in _TEXT:
            size, at = (marker & 31, at) if marker < 0xC0 else self._size(at, _TEXT[marker])
            self.leaves[path] = Leaf(constant=self._bytes(at, size).decode())
            return at + size
        if marker in _BINARY:
            size, at = self._size(at, _BINARY[marker])
            self.leaves[path] = Leaf(constant=self._bytes(at, size))
            return at + size
        if marker in _EXTENSIONS:
            return self._walk_extension(at, _EXTENSIONS[marker], path, depth)
        if marker in _LONG_EXTENSIONS:
            size, at = self._size(at, _LONG_EXTENSIONS[marker])
            return self._walk_extension(at, size, path, depth)
        raise Unfit

    def _walk_extension(self, at: int, size: int, path: Path, depth: int) -> int:
        """Pass an extension; in one of Pupil Player's is one more packed map."""
        kind = self._sample[at]
        if kind != _PACKED_MAP:
            self.leaves[path] = Leaf(constant=self._bytes(at + 1, size))
            return at + 1 + size
        if self._walk(at + 1, path, depth + 1) != at + 1 + size:
            raise Unfit
        return at + 1 + size

    def _key(self, at: int) -> tuple[str | int, int]:
        marker = self._sample[at]
        if marker < 0x80:
            return marker, at + 1
        if 0xA0 <= marker < 0xC0 or marker in _TEXT:
            size, at = (marker & 31, at + 1) if marker < 0xC0 else self._size(at + 1, _TEXT[marker])
            return self._bytes(at, size).decode(), at + size
        raise Unfit

    def _size(self, at: int, width: int) -> tuple[int, int]:
        return int.from_bytes(self._bytes(at, width), "big"), at + width

    def _bytes(self, at: int, size: int) -> bytes:
        if at + size > len(self._sample):
            raise Unfit
        return self._sample[at : at + size]
