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
from gazed_recorder.reading.packed import PackedLog, index_pldata
from gazed_recorder.reading.schemas import SCHEMAS, Column
from gazed_recorder.reading.table import Table

__all__ = ["Log", "empty_table", "offline_logs", "pldata_log"]

_TIMESTAMP = Column("timestamp", "float", (("timestamp",),))


class Log:
    """The datums of one kind.

    ``find`` says where they are, and may raise ``DamagedFile``, as may all that is asked of a log; ``stamps`` is the
    file of their timestamps, if they have one.
    """

    def __init__(self, name: str, find: Callable[[], PackedLog], stamps: Path | None = None) -> None:
        self.name = name
        self._find = find
        self._stamps = stamps

    @cached_property
    def packed(self) -> PackedLog:
        """Where the datums lie, in the order of their arrival."""
        return self._find()

    @cached_property
    def timestamps(self) -> NDArray[np.float64]:
        """Pupil time in seconds, float64 of shape (n,), in the order of arrival."""
        if self._stamps is not None and self._stamps.exists():
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
        return unpack(self.packed)

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
            table = free_columns([datums[number] for number in rows.tolist()])
        else:
            table = _with_schema(self.name, self.packed, rows)
        return table if columns is None else table.select(columns)


def empty_table(name: str) -> Table:
    """Return the table of a log that has no datums."""
    nothing = np.zeros(0, np.int64)
    if name not in SCHEMAS:
        return Table({"timestamp": np.zeros(0)})
    return _with_schema(name, PackedLog(Path(), nothing, nothing), nothing)


def _with_schema(name: str, packed: PackedLog, rows: NDArray[np.int64]) -> Table:
    table = read_columns(packed, SCHEMAS[name], rows)
    return by_eye(table) if name == "gaze" else table


def offline_logs(folder: Path) -> dict[str, Log]:
    """Return the logs of what was computed after the recording, where Pupil Player and gazed keep it."""
    files = {"pupil": folder / "offline_data" / "offline_pupil.pldata"}
    return {name: pldata_log(path, name) for name, path in files.items() if path.is_file()}


def pldata_log(path: Path, name: str = "") -> Log:
    """Return the log of a ``.pldata`` file, called ``name`` or as the file."""
    return Log(name or path.stem, lambda: index_pldata(path), path.with_name(f"{path.stem}_timestamps.npy"))
