"""The log of one kind of data: ``<name>.pldata`` and ``<name>_timestamps.npy``.

A ``.pldata`` file is a row of msgpack values, each the 2-array ``[topic: str, payload: bin]`` where the payload is the
msgpack map of the datum as it was received; the ``.npy`` holds ``payload["timestamp"]`` of each (``<f8``, seconds of
Pupil time). Source of the format: Pupil Core's PLData files.

Both are appended in blocks, the data first. A killed writer therefore leaves whole records, perhaps the beginning of
one more, and timestamps that are missing but never in excess; ``repair_log`` evens that out.
"""

from __future__ import annotations

import math
import os
import re
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgpack
import numpy as np

from gazed_bus.errors import MessageError
from gazed_recorder.arrays import array_file, read_array
from gazed_recorder.atomic import replace_file
from gazed_recorder.errors import DamagedFile
from gazed_recorder.npy import GrowingArray

__all__ = ["DatumLog", "LogRepair", "PldataReader", "check_datum", "log_name", "repair_log", "unpack_datum"]

STAMP_DTYPE = np.dtype("<f8")
_FLUSH_BYTES = 1 << 18
_LARGEST = 1 << 24
_KNOWN_TOPICS = 1024
_PACKED_MAP = 13
_DEEPEST = 8
_BIN16 = struct.Struct(">BH")
_BIN32 = struct.Struct(">BI")
_BIN8 = [bytes((0xC4, size)) for size in range(256)]
# The names of video and sound files: Pupil Player would take a log of such a name for one.
_RESERVED = re.compile(r"(world|eye\d|audio|sound)")
_LENGTH_BYTES = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4}


def log_name(topic: str) -> str:
    """Return the name of the log for ``topic``: its first part, lower case, of at most 64 of ``a-z 0-9 _ -``.

    ``pupil.0.3d`` goes to ``pupil``, ``notify.*`` to ``notify``; names that videos use get ``data_`` in front.
    """
    name = re.sub(r"[^a-z0-9_-]", "_", topic.split(".", 1)[0].lower())[:64] or "_"
    return f"data_{name}"[:64] if _RESERVED.match(name) else name


def check_datum(payload: bytes) -> tuple[str, float]:
    """Return topic and timestamp of a packed datum, after proving that every reader can unpack it.

    Raises:
        MessageError: it is no msgpack map with string keys, a ``topic`` that is a string and a ``timestamp`` that is a
            finite number.
    """
    try:
        datum = msgpack.unpackb(payload)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise MessageError(f"a datum of {len(payload)} bytes cannot be unpacked: {error}") from error
    if not isinstance(datum, dict):
        raise MessageError(f"a datum is a map, found {type(datum).__name__}")
    topic, timestamp = datum.get("topic"), datum.get("timestamp")
    if not isinstance(topic, str):
        raise MessageError(f"a datum has a topic that is a string, found {topic!r:.80}")
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float) or not math.isfinite(timestamp):
        raise MessageError(f"datum {topic!r:.80} has a timestamp that is a finite number, found {timestamp!r:.80}")
    return topic, float(timestamp)


def unpack_datum(payload: bytes) -> dict[str, Any]:
    """Return a packed datum, together with the maps in it that are packed once more.

    Pupil Player keeps the data that others rest on so, as msgpack's extension type 13.

    Raises:
        ValueError, TypeError, RecursionError, msgpack.UnpackException: it is no datum.
    """
    return _unpack(payload, 0)


def _unpack(payload: bytes, depth: int) -> dict[str, Any]:
    # Each level takes much of the C stack.
    if depth > _DEEPEST:
        raise ValueError(f"maps packed in maps, more than {_DEEPEST} deep")

    def nested(code: int, data: bytes) -> Any:
        return _unpack(data, depth + 1) if code == _PACKED_MAP else msgpack.ExtType(code, data)

    datum = msgpack.unpackb(payload, strict_map_key=False, ext_hook=nested)
    if not isinstance(datum, dict):
        raise TypeError(f"a datum is a map, found {type(datum).__name__}")
    return datum


class DatumLog:
    """Appends datums to a log; an existing one is repaired and goes on. Not for several threads at once.

    What is appended reaches the file at the next ``flush``, which the caller does some 20 times a second, or when
    256 KiB have gathered.

    Raises:
        DamagedFile: the existing log is damaged beyond a torn end.
        OSError: a file cannot be made.
    """

    def __init__(self, folder: Path, name: str, known: tuple[int, int] = (0, 0)) -> None:
        """Open the log; ``known`` datums and bytes of an existing one are known to be good and are not read again."""
        self.name = name
        # The data first: what a kill leaves between the two is a log without timestamps, which can be made again.
        self._file = os.open(folder / f"{name}.pldata", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            repair_log(folder, name, known)
            self._stamps = GrowingArray.resume(folder / f"{name}_timestamps.npy", STAMP_DTYPE)
        except BaseException:
            os.close(self._file)
            raise
        self._end = os.fstat(self._file).st_size
        self._heads: dict[str | bytes, bytes] = {}
        self._chunks: list[bytes] = []
        self._pending = array("d")
        self._size = 0
        self.dropped = 0
        """Datums that did not fit on the disk."""

    @property
    def count(self) -> int:
        """Datums in the file."""
        return self._stamps.count

    @property
    def size(self) -> int:
        """Bytes of the ``.pldata`` file."""
        return self._end

    def append(self, topic: str | bytes, timestamp: float, payload: bytes) -> None:
        """Take one datum: ``timestamp`` (s) and ``topic`` as in its packed map, which ``check_datum`` passed.

        Raises:
            MessageError: the payload is larger than 16 MiB.
            OSError: as ``flush``.
        """
        head = self._heads.get(topic) or self._head(topic)
        size = len(payload)
        if size < 256:
            self._chunks += (head, _BIN8[size], payload)
        elif size < 65536:
            self._chunks += (head, _BIN16.pack(0xC5, size), payload)
        elif size <= _LARGEST:
            self._chunks += (head, _BIN32.pack(0xC6, size), payload)
        else:
            raise MessageError(f"datum {topic!r:.80} has {size} bytes, wanted at most {_LARGEST}")
        self._pending.append(timestamp)
        self._size += size
        if self._size > _FLUSH_BYTES:
            self.flush()

    def _head(self, topic: str | bytes) -> bytes:
        if len(self._heads) >= _KNOWN_TOPICS:
            self._heads.clear()
        text = topic if isinstance(topic, str) else topic.decode()
        head = self._heads[topic] = b"\x92" + bytes(msgpack.packb(text))
        return head

    def flush(self) -> None:
        """Write what has gathered.

        Raises:
            OSError: it did not fit (or the disk failed). The files then end as before, and the datums are counted as
                dropped.
        """
        if not self._pending:
            return
        block, stamps = b"".join(self._chunks), self._pending
        self._chunks, self._pending, self._size = [], array("d"), 0
        count = self.count
        try:
            _write_all(self._file, block)
            self._stamps.append(stamps.tobytes())
        except OSError:
            self.dropped += len(stamps)
            self._stamps.truncate(count)
            os.ftruncate(self._file, self._end)
            raise
        self._end += len(block)

    def sync(self) -> None:
        """Have the disk confirm what was flushed; another thread may do it.

        Raises:
            OSError: the disk failed.
        """
        os.fdatasync(self._file)
        self._stamps.sync()

    def close(self) -> None:
        """Flush and close. Closing twice is fine.

        Raises:
            OSError: as ``flush``; the files are closed all the same.
        """
        if self._file < 0:
            return
        try:
            self.flush()
        finally:
            os.close(self._file)
            self._file = -1
            self._stamps.close()


def _write_all(file: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(file, rest) :]


class PldataReader:
    """Iterates over a ``.pldata`` file as ``(topic, payload)`` in bytes, reading it in constant memory.

    A torn end (the beginning of a record, or zeros after a power cut) ends the iteration; ``torn`` then tells its
    bytes. ``count`` and ``end`` are the records passed and the bytes they take.

    Raises (while iterating):
        DamagedFile: something else is there; the message names the offset.
    """

    def __init__(self, path: Path, count: int = 0, end: int = 0) -> None:
        """Read ``path`` behind its first ``count`` records, which end at byte ``end``."""
        self._path = path
        self._from = (count, end)
        self.count, self.end = self._from
        self.torn = 0

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        self.count, self.end = self._from
        self.torn = 0
        try:
            with self._path.open("rb", buffering=1 << 20) as file:
                total = os.fstat(file.fileno()).st_size
                file.seek(self.end)
                while self.end < total:
                    record = self._read(file, total)
                    if record is None:
                        self.torn = total - self.end
                        return
                    self.count += 1
                    self.end = file.tell()
                    yield record
        except OSError as error:
            raise DamagedFile(f"{self._path}: {error.strerror}") from error

    def _read(self, file: BinaryIO, total: int) -> tuple[bytes, bytes] | None:
        """Read one record; ``None`` at a torn end."""
        parts = []
        if file.read(1) != b"\x92":
            self._expect_zeros(file)
            return None
        for wanted in ("topic", "payload"):
            marker = file.read(1)
            if not marker:
                return None
            size = self._size_of(file, marker[0], wanted)
            if size < 0:
                self._expect_zeros(file)
                return None
            if size > total - file.tell():
                return None
            parts.append(file.read(size))
        return parts[0], parts[1]

    def _size_of(self, file: BinaryIO, marker: int, wanted: str) -> int:
        """Return the length in a msgpack header: -1 if it is not of the wanted kind, too large at the file's end."""
        if wanted == "topic" and 0xA0 <= marker <= 0xBF:
            return marker - 0xA0
        width = _LENGTH_BYTES.get(marker, 0)
        if not width or (marker >= 0xD9) != (wanted == "topic"):
            return -1
        length = file.read(width)
        if len(length) < width:
            return _LARGEST
        size = int.from_bytes(length, "big")
        return size if size <= _LARGEST else -1

    def _expect_zeros(self, file: BinaryIO) -> None:
        """Pass over what a power cut may leave; anything else that is no record is damage."""
        file.seek(self.end)
        while block := file.read(1 << 20):
            if block.strip(b"\0"):
                raise DamagedFile(
                    f"{self._path}: no record at byte {self.end}, after {self.count} good ones",
                    hint="what stands before that byte can be read; restore the file from a copy if you have one",
                )


@dataclass(frozen=True, slots=True)
class LogRepair:
    """What ``repair_log`` found and did."""

    count: int
    """Records now in the log."""
    cut: int
    """Bytes of a torn end that were cut off."""
    lost: int
    """Timestamps without a record, cut off."""
    rebuilt: int
    """Timestamps written again from the records."""


def repair_log(folder: Path, name: str, known: tuple[int, int] = (0, 0)) -> LogRepair:
    """Make ``<name>.pldata`` and its timestamps agree: whole records win. A log in order is left untouched.

    ``known`` is a number of records from the start, and the bytes they take, that need not be read again; where the
    files do not bear it out, everything is read.

    Raises:
        DamagedFile: the data is damaged beyond a torn end; nothing was changed.
    """
    path, stamps_path = folder / f"{name}.pldata", folder / f"{name}_timestamps.npy"
    if known != (0, 0) and (path.stat().st_size < known[1] or _rows(stamps_path) < known[0]):
        known = (0, 0)
    reader = PldataReader(path, *known)
    last: bytes | None = None
    for record in reader:
        last = record[1]
    whole = _in_step(stamps_path, reader.count, last)
    if whole and not reader.torn:
        return LogRepair(reader.count, 0, 0, 0)
    if reader.torn:
        os.truncate(path, reader.end)
    if whole:
        return LogRepair(reader.count, reader.torn, 0, 0)
    kept = read_array(stamps_path, STAMP_DTYPE)[: known[0]] if known[0] else np.zeros(0, STAMP_DTYPE)
    values = array("d")
    for _, payload in PldataReader(path, *known):
        try:
            values.append(check_datum(payload)[1])
        except MessageError as error:
            raise DamagedFile(f"{path}: record {known[0] + len(values)}: {error.message}") from error
    before = _rows(stamps_path)
    stamps = np.concatenate([kept, np.frombuffer(values, STAMP_DTYPE)])
    replace_file(stamps_path, array_file(stamps), durable=False)
    return LogRepair(reader.count, reader.torn, max(0, before - reader.count), max(0, reader.count - before))


def _rows(stamps: Path) -> int:
    try:
        return len(read_array(stamps, STAMP_DTYPE))
    except DamagedFile:
        return 0


def _in_step(stamps: Path, count: int, last: bytes | None) -> bool:
    """Tell whether there is one timestamp for each record; that of the last record, if it was read, is compared."""
    try:
        found = read_array(stamps, STAMP_DTYPE)
        exact = len(found) == count and stamps.read_bytes() == array_file(found)
        return exact and (last is None or float(found[-1]) == check_datum(last)[1])
    except (DamagedFile, MessageError):
        return False
