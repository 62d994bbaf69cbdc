"""``Log``: the datums of one kind, one after the other or as columns; its file is opened when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gazed_recorder.arrays import read_array
from gazed_recorder.datalog import STAMP_DTYPE
from gazed_recorder.reading.columns import free_columns, read_columns, unpack
from gazed_recorder.reading.eyes import by_eye
from gazed_recorder.reading.old_data import modern_datum, modern_topics
from gazed_recorder.reading.packed import PackedLog, index_pldata
from gazed_recorder.reading.schemas import SCHEMAS, Column
from gazed_recorder.reading.table import Table

__all__ = ["Log", "annotations_among", "empty_table", "pldata_log"]

_TIMESTAMP = Column("timestamp", "float", (("timestamp",),))
_OF_EYES = ("eye_center", "gaze_normal")
_SUBJECT = Column("subject", "text", (("subject",),))


class Log:
    """The datums of one kind.

    ``find`` says where they are, and may raise ``DamagedFile``, as may all that is asked of a log; ``stamps`` is the
    file of their timestamps, if they have one. Of ``old`` datums names and topics are told as they are today.
    """

    def __init__(
        self, name: str, find: Callable[[], PackedLog], stamps: Path | None = None, *, old: bool = False
    ) -> None:
        self.name = name
        self._find = find
        self._stamps = stamps
        self._old = old

    @property
    def has_stamps(self) -> bool:
        """Whether its timestamps lie in a file of their own."""
        return self._stamps is not None

    @cached_property
    def packed(self) -> PackedLog:
        """Where the datums lie, in the order of their arrival."""
        return self._find()

    @cached_property
    def timestamps(self) -> NDArray[np.float64]:
        """Pupil time in seconds, float64 of shape (n,), in the order of arrival."""
        if self._stamps is not None:
            return read_array(self._stamps, STAMP_DTYPE)
        return read_columns(self.packed, [_TIMESTAMP], np.arange(len(self.packed)))["timestamp"]

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The numbers of the datums in the order of their timestamps; equal ones in that of their arrival."""
        stamps = self.timestamps
        if len(stamps) != len(self.packed):  # a torn log: its timestamps are written after its datums
            stamps = read_columns(self.packed, [_TIMESTAMP], np.arange(len(self.packed)))["timestamp"]
        return np.argsort(stamps, kind="stable")

    def datums(self) -> Iterator[dict[str, Any]]:
        """Iterate over the datums as maps, in the order of their arrival; a torn end is left out."""
        datums = unpack(self.packed)
        return (modern_datum(self.name, datum) for datum in datums) if self._old else datums

    def table(self, columns: Sequence[str] | None = None) -> Table:
        """Return the datums as columns, in the order of their timestamps; ``columns`` are all if not given.

        The logs ``pupil``, ``gaze``, ``fixations``, ``blinks`` and ``notify`` have the columns of ``SCHEMAS``, others
        one for each key.

        Raises:
            KeyError: there is no such column; the message lists those there are.
        """
        return self._read(self.order, columns)

    def batches(self, rows: int = 65_536, columns: Sequence[str] | None = None) -> Iterator[Table]:
        """Iterate over what ``table`` returns, so many rows at a time; a log without columns of its own comes whole."""
        step = rows if self.name in SCHEMAS else max(1, len(self.order))
        for first in range(0, len(self.order), step):
            yield self._read(self.order[first : first + step], columns)

    def _read(self, rows: NDArray[np.int64], columns: Sequence[str] | None) -> Table:
        if self.name not in SCHEMAS:
            datums = list(self.datums())
            table = free_columns([datums[number] for number in rows.tolist()]) if datums else empty_table(self.name)
        elif self._old:
            table = modern_topics(self.name, _with_schema(self.name, self.packed, rows))
        else:
            if columns is not None:
                empty_table(self.name).select(columns)  # names that there are not
            table = _with_schema(self.name, self.packed, rows, columns)
        return table if columns is None else table.select(columns)


def empty_table(name: str) -> Table:
    """Return the table of a log that has no datums."""
    nothing = np.zeros(0, np.int64)
    if name not in SCHEMAS:
        return Table({"timestamp": np.zeros(0)})
    return _with_schema(name, PackedLog(Path(), nothing, nothing), nothing)


def _with_schema(name: str, packed: PackedLog, rows: NDArray[np.int64], columns: Sequence[str] | None = None) -> Table:
    """Return at least these columns; what of gaze is put to the eyes rests on many of them."""
    whole = columns is None or (name == "gaze" and any(each.startswith(_OF_EYES) for each in columns))
    schema = SCHEMAS[name] if whole else [column for column in SCHEMAS[name] if column.name in (columns or ())]
    table = read_columns(packed, schema, rows)
    return by_eye(table) if name == "gaze" and whole else table


def pldata_log(path: Path, name: str = "", stamps: Path | None = None) -> Log:
    """Return the log of a ``.pldata`` file, called ``name`` or as the file; ``stamps`` is its array of timestamps."""
    return Log(name or path.stem, lambda: index_pldata(path), stamps)


def annotations_among(notifications: Log) -> Log:
    """Return the annotations, which up to version 1.8 were notifications."""

    def find() -> PackedLog:
        packed = notifications.packed
        subjects = read_columns(packed, [_SUBJECT], np.arange(len(packed)))["subject"]
        rows = np.flatnonzero(subjects == "annotation")
        return PackedLog(packed.path, packed.starts[rows], packed.lengths[rows], packed.memory)

    return Log("annotation", find, old=True)
