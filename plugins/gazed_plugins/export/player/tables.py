"""The files of a CSV export: tables, what surrounds them, and beside each table the Unix times of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.csv_text import Column, Numbers, Whole, csv_text, row_text
from gazed_plugins.export.session import known_clock
from gazed_recorder.reader import Recording

__all__ = ["TableFile", "Window", "world_times", "write_rows"]

_VIRTUAL_FPS = 30
_BEYOND_S = 3.0
# Nanoseconds of more have no room in 64 bits.
_MOST_S = 9e9

Floats = NDArray[np.float64]
Window = tuple[float, float] | None
"""From when to when, Pupil time in s, datums are exported; ``None``: all are."""


def world_times(recording: Recording) -> Floats:
    """Return when the frames of the world video were taken, Pupil time in s.

    Without a world video it is what Pupil Player shows instead: 30 frames a second, from the start to 3 s behind the
    end.
    """
    if "world" in recording.streams and len(recording.world):
        return recording.world.timestamps
    start = recording.info.start_time_synced_s
    if not np.isfinite(start):
        stamps = [recording.timestamps(name) for name in (*recording.streams, *recording.logs)]
        start = min((float(each.min()) for each in stamps if len(each)), default=0.0)
    return np.arange(start, start + recording.duration + _BEYOND_S, 1 / _VIRTUAL_FPS)


class TableFile:
    """A table of a recording as ``<stem>.csv``, in CRLF and UTF-8, and ``<stem>_unix.csv`` with as many rows.

    The latter has the columns ``pupil_time_s``, the time that the row begins with, and ``unix_ns``; it is not made if
    the recording does not tell Unix time.

    Raises:
        OSError: they cannot be written.
    """

    def __init__(self, folder: Path, stem: str, header: Sequence[str], recording: Recording) -> None:
        self._clock = known_clock(recording)
        with ExitStack() as files:
            self._file = files.enter_context((folder / f"{stem}.csv").open("wb"))
            self._file.write(row_text(header).encode())
            if self._clock is not None:
                self._unix = files.enter_context((folder / f"{stem}_unix.csv").open("wb"))
                self._unix.write(row_text(("pupil_time_s", "unix_ns")).encode())
            self._files = files.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def columns(self, columns: Sequence[Column]) -> None:
        """Append rows as columns; ``times`` has to follow."""
        self._file.write(csv_text(columns))

    def times(self, times: Floats) -> None:
        """Take the Pupil times, (n,) in s, that rows appended as columns begin with."""
        if self._clock is not None:
            known = np.abs(times) < _MOST_S
            unix = np.where(known, self._clock.to_unix_ns(np.where(known, times, 0.0)), -1)
            self._unix.write(csv_text([Numbers(times, ~known), Whole(unix)]))

    def row(self, cells: Iterable[object], time: object) -> None:
        """Append one row; ``time`` is the Pupil time that it begins with, s, if it is a number."""
        self._file.write(row_text(cells).encode())
        known = isinstance(time, int | float) and not isinstance(time, bool)
        self.times(np.array([time if known else np.nan], np.float64))


def write_rows(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write a small file of rows.

    Raises:
        OSError: it cannot be written.
    """
    path.write_bytes("".join(map(row_text, rows)).encode())
