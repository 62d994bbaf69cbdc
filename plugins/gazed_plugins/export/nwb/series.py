"""Series in an NWB file, made empty and of the right length, and filled in one pass over each log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.origins import ORIGIN_COLUMNS, Series, split
from gazed_plugins.export.steps import Steps
from gazed_recorder.reader import Recording
from gazed_recorder.reading.table import Table

__all__ = ["EmptySeries", "Values"]

Values = Callable[[Table], Sequence[NDArray[Any]]]
"""Makes, of rows of a log, what goes into each of some datasets."""
_CHUNK = 8192


class EmptySeries:
    """The series of one recording; ``zero`` is the Pupil time in s that is 0 in the file."""

    def __init__(self, zero: float) -> None:
        self._zero = zero
        self._waiting: dict[str, list[tuple[list[Any], Values]]] = {}
        self._clocks: dict[str, Any] = {}

    def make(self, kind: Any, of: Series, column: str, axes: str = "", **more: Any) -> Any:
        """Return an empty series of a column of the log, or of its columns for each of ``axes``.

        Its name is that of ``of`` and the column; ``more`` are arguments of ``kind``.
        """
        names = [f"{column}_{axis}" for axis in axes]

        def values(rows: Table) -> Sequence[NDArray[Any]]:
            return [np.stack([rows[name] for name in names], axis=1) if names else rows[column]]

        (data,) = self.data(of, [len(axes)], values)
        return self.share(kind, of, name=f"{of.name}_{column}", data=data, **more)

    def share(self, kind: Any, of: Series, **more: Any) -> Any:
        """Return a series with the timestamps that all series of the same datums share; ``more`` go to ``kind``."""
        if (clock := self._clocks.get(of.name)) is None:
            (clock,) = self.data(of, [0], lambda rows: [rows["timestamp"] - self._zero])
        made = kind(timestamps=clock, **more)
        self._clocks.setdefault(of.name, made)
        return made

    def data(self, of: Series, widths: Iterable[int], values: Values, dtype: Any = np.float64) -> list[Any]:
        """Return empty datasets, of shape (rows,) or (rows, width) each, that ``values`` will fill."""
        from hdmf.backends.hdf5 import H5DataIO

        made = []
        for width in widths:
            shape = (of.rows, width) if width else (of.rows,)
            chunks = (min(_CHUNK, of.rows), *shape[1:])
            # Bytes of the same place in a number are alike: they are put together before they are compressed.
            packing = {"chunks": chunks, "compression": "gzip", "shuffle": True}
            made.append(H5DataIO(shape=shape, dtype=np.dtype(dtype), **packing))
        self._waiting.setdefault(of.name, []).append((made, values))
        return made

    def fill(self, recording: Recording, columns: Mapping[str, Iterable[str]], steps: Steps) -> None:
        """Write the values, of these columns of the logs, into the file, which is open; takes one step a datum.

        Raises:
            DamagedFile: a log cannot be read.
        """
        done = dict.fromkeys(self._waiting, 0)
        for log, wanted in columns.items():
            names = tuple(dict.fromkeys((*ORIGIN_COLUMNS[log], *wanted)))
            for table in recording.batches(log, columns=names) if log in recording.logs else ():
                for series, rows in split(log, table):
                    self._fill(series.name, table[rows], done[series.name])
                    done[series.name] += int(rows.sum())
                steps.advance(len(table))

    def _fill(self, name: str, rows: Table, at: int) -> None:
        for waiting, values in self._waiting[name]:
            for data, some in zip(waiting, values(rows), strict=True):
                data.dataset[at : at + len(rows)] = some
