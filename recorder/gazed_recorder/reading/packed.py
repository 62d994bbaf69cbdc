"""``PackedLog``: where in a file each packed datum of a log lies, so that any of them can be read in any order."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gazed_recorder.datalog import PldataReader
from gazed_recorder.errors import DamagedFile

__all__ = ["SPARE", "PackedLog", "index_pldata"]

SPARE = 8
"""Bytes behind a block, so that its datums can be taken in whole words of eight."""

_BLOCK = 1 << 22
_NEAR = 1 << 16


@dataclass(frozen=True, slots=True)
class PackedLog:
    """The packed datums of a log, in the order of their arrival.

    ``starts`` and ``lengths`` are int64 of shape (n,), in bytes; they lie in the file ``path`` or, if there is
    ``memory``, in that.
    """

    path: Path
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    memory: bytes | bytearray | None = field(default=None, repr=False)
    torn: int = 0
    """Bytes of a torn end."""

    def __len__(self) -> int:
        return len(self.starts)

    def payloads(self) -> Iterator[bytes]:
        """Iterate over the packed datums, in the order of their arrival.

        Raises (while iterating):
            DamagedFile: the file cannot be read.
        """
        for first in range(0, len(self), 1024):
            block, starts = self.read(np.arange(first, min(first + 1024, len(self))))
            whole = block.tobytes()
            for start, length in zip(starts.tolist(), self.lengths[first : first + 1024].tolist(), strict=True):
                yield whole[start : start + length]

    def read(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return a block of bytes that holds the datums of these numbers, and where in it each begins.

        Behind the last one there are ``SPARE`` more bytes.

        Raises:
            DamagedFile: the file cannot be read.
        """
        starts, lengths = self.starts[rows], self.lengths[rows]
        if not len(rows):
            return np.zeros(0, np.uint8), starts
        begin, end = int(starts.min()), int((starts + lengths).max())
        if end - begin <= _NEAR + 4 * int(lengths.sum()):
            return self._span(begin, end), starts - begin
        # Datums from all over the file: two halves are nearer to each other, and one alone is a block of its own.
        order = np.argsort(starts, kind="stable")
        half = len(order) // 2
        if not half:
            return self._span(begin, end), starts - begin
        (first, at_first), (second, at_second) = self.read(rows[order[:half]]), self.read(rows[order[half:]])
        places = np.empty_like(starts)
        places[order[:half]], places[order[half:]] = at_first, at_second + len(first)
        return np.concatenate([first, second]), places

    def _span(self, begin: int, end: int) -> NDArray[np.uint8]:
        size = end - begin
        block = np.zeros(size + SPARE, np.uint8)
        if self.memory is not None:
            block[:size] = np.frombuffer(self.memory, np.uint8)[begin:end]
            return block
        try:
            with self.path.open("rb") as file:
                file.seek(begin)
                found = file.readinto(block[:size].data)
        except OSError as error:
            raise DamagedFile(f"{self.path}: {error.strerror}") from error
        if found < size:
            raise DamagedFile(f"{self.path}: ends at byte {begin + found}, there were {end} when it was opened")
        return block


def index_pldata(path: Path) -> PackedLog:
    """Find the datums of a ``.pldata`` file, up to a torn end.

    Raises:
        DamagedFile: it cannot be read, or something else than records is in it; the message names the offset.
    """
    starts, lengths = array("q"), array("q")
    count, end = 0, 0
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            while end < size:
                file.seek(end)
                block = file.read(_BLOCK)
                passed = _index_block(block, end, starts, lengths)
                if not passed:
                    break
                count, end = len(starts), end + passed
    except OSError as error:
        raise DamagedFile(f"{path}: {error.strerror}") from error
    # What the quick way above does not know: large or odd records, a torn end, damage.
    rest = PldataReader(path, count, end)
    for _, payload in rest if end < size else ():
        starts.append(rest.end - len(payload))
        lengths.append(len(payload))
    return PackedLog(path, np.frombuffer(starts, np.int64), np.frombuffer(lengths, np.int64), torn=rest.torn)


def _index_block(block: bytes, offset: int, starts: array[int], lengths: array[int]) -> int:
    """Add the whole records at the start of ``block``, which lies at ``offset``; return the bytes they take."""
    size = len(block)
    place = 0
    add_start, add_length = starts.append, lengths.append
    while place + 2 < size:
        text = block[place + 1]
        if block[place] != 0x92 or not 0xA0 <= text <= 0xBF:
            break
        head = place + text - 0x9E
        if head + 5 > size:
            break
        marker = block[head]
        if marker == 0xC5:
            length = block[head + 1] << 8 | block[head + 2]
            begin = head + 3
        elif marker == 0xC4:
            length = block[head + 1]
            begin = head + 2
        elif marker == 0xC6:
            begin = head + 5
            length = int.from_bytes(block[head + 1 : begin], "big")
        else:
            break
        if begin + length > size:
            break
        add_start(offset + begin)
        add_length(length)
        place = begin + length
    return place
