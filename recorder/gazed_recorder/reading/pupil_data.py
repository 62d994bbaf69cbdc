"""``pupil_data``: all datums in one map, as Pupil Capture wrote them up to version 1.7.

From 0.9.4 on it is msgpack, whose lists are found without unpacking them; before, it is a pickle, which is turned into
msgpack in memory.
"""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgpack
import numpy as np

from gazed_recorder.datalog import unpack_datum
from gazed_recorder.errors import DamagedFile
from gazed_recorder.reading.old_data import modern_datum, modern_log
from gazed_recorder.reading.packed import PackedLog
from gazed_recorder.reading.pickled import is_pickle, repack_lists

__all__ = ["PupilData", "read_pupil_data"]

_LARGEST_PICKLE = 1 << 31
# A calibration with all of its pupils is one datum.
_LARGEST_DATUM = 1 << 28
_UNPACKING = (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException)


@dataclass(frozen=True, slots=True)
class PupilData:
    """The datums of a ``pupil_data``, by the name of their log."""

    logs: dict[str, PackedLog]
    torn: bool
    """Whether it ends too early; what was whole is there."""
    is_modern: bool
    """Whether the datums are called as today, or only as they were."""


def read_pupil_data(path: Path) -> PupilData:
    """Find the datums in a ``pupil_data``.

    Raises:
        DamagedFile: it cannot be read, or is neither msgpack nor a pickle of numbers, texts, lists and maps.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
            file.seek(0)
            if not is_pickle(start):
                return _read_packed(file, path)
            size = os.fstat(file.fileno()).st_size
            if size > _LARGEST_PICKLE:
                raise DamagedFile(f"{path}: a pickle of {size} bytes, wanted at most {_LARGEST_PICKLE}")
            lists = repack_lists(file.read(), path)
    except OSError as error:
        raise DamagedFile(f"{path}: {error.strerror}") from error
    logs = {modern_log(key): _modernised(modern_log(key), lists.pop(key), path) for key in [*lists]}
    return PupilData(logs, torn=False, is_modern=True)


def _read_packed(file: BinaryIO, path: Path) -> PupilData:
    logs: dict[str, PackedLog] = {}
    unpacker = msgpack.Unpacker(file, strict_map_key=False, max_buffer_size=_LARGEST_DATUM)
    try:
        for _ in range(unpacker.read_map_header()):
            key = unpacker.unpack()
            name = modern_log(key) if isinstance(key, str) else ""
            starts, ends = array("q"), array("q")
            torn = _find_datums(unpacker, starts, ends)
            if name and name not in logs:
                begins = np.array(starts, np.int64)
                logs[name] = PackedLog(path, begins, np.array(ends, np.int64) - begins)
            if torn:
                return PupilData(logs, torn=True, is_modern=False)
    except msgpack.OutOfData:
        return PupilData(logs, torn=True, is_modern=False)
    except _UNPACKING as error:
        raise DamagedFile(f"{path}: no map of lists of datums at byte {unpacker.tell()}: {error!r:.200}") from error
    return PupilData(logs, torn=False, is_modern=False)


def _find_datums(unpacker: Any, starts: array[int], ends: array[int]) -> bool:
    """Note where the values of a list begin and end; tell whether the file ends before it."""
    tell, skip, add_start, add_end = unpacker.tell, unpacker.skip, starts.append, ends.append
    try:
        for _ in range(unpacker.read_array_header()):
            start = tell()
            skip()
            add_start(start)
            add_end(tell())
    except msgpack.OutOfData:
        return True
    return False


def _modernised(name: str, payloads: list[bytes], path: Path) -> PackedLog:
    """Return the datums of a pickle as they would be called today; ``payloads`` are used up."""
    pack = msgpack.Packer().pack
    memory = bytearray()
    lengths = array("q")
    payloads.reverse()
    while payloads:
        try:
            packed = pack(modern_datum(name, unpack_datum(payloads.pop())))
        except _UNPACKING as error:
            raise DamagedFile(f"{path}: datum {len(lengths)} of {name}: {error}") from error
        memory += packed
        lengths.append(len(packed))
    sizes = np.array(lengths, np.int64)
    return PackedLog(path, np.cumsum(sizes) - sizes, sizes, memory)
