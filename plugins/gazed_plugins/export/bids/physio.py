"""Tables of eye tracking in BIDS: the pupils of one eye, or gaze, with a sidecar each, in one pass over each log."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.bids.columns import (
    EYE_SOURCES,
    GAZE_SOURCES,
    BidsColumn,
    InFrames,
    eye_columns,
    gaze_columns,
)
from gazed_plugins.export.bids.files import PackedTsv, json_bytes
from gazed_plugins.export.bids.sidecars import sidecar_of
from gazed_plugins.export.origins import Series, split
from gazed_plugins.export.session import world_size
from gazed_plugins.export.steps import Steps
from gazed_recorder.reader import Recording
from gazed_recorder.reading.table import Table

__all__ = ["PhysioTable", "tables_of", "write_tables"]

# Names that BIDS recommends. The left eye, which is eye 1 in recordings, is so here as well.
_EYES = {1: "eye1", 0: "eye2"}
_GAZE, _FLAT_GAZE = "eye3", "eye4"
_SOURCES = {"pupil": EYE_SOURCES, "gaze": GAZE_SOURCES}


class PhysioTable:
    """One table; ``series`` are those that its rows come from, the main one first."""

    def __init__(
        self, label: str, series: list[Series], columns: list[BidsColumn], size: tuple[int, int] | None
    ) -> None:
        self.label = label
        """What stands behind ``recording-``."""
        self.series = series
        self._columns = columns
        self._size = size
        self._frames = InFrames()
        self._first = self._last = np.nan

    def open(self, stem: Path) -> PackedTsv:
        """Begin the file; ``stem`` is what its name begins with."""
        self._stem = stem.with_name(f"{stem.name}_recording-{self.label}_physio")
        self._file = PackedTsv(self._stem.with_name(f"{self._stem.name}.tsv.gz"))
        return self._file

    def add(self, rows: Table, solid: NDArray[np.bool_]) -> None:
        """Take rows of the log, and which of them are 3-D."""
        self._write(self._frames.add(rows, solid) if self.series[0].log == "pupil" else rows)

    def finish(self, recording: Recording, task: str, start: float) -> None:
        """Write what is left, and the sidecar."""
        if (rest := self._frames.finish()) is not None:
            self._write(rest)
        span = self._last - self._first
        report = recording.manifest.streams.get(f"eye{self.series[0].eye}") if recording.manifest else None
        rate = (self._file.rows - 1) / span if span > 0 else float((report.info.get("fps") if report else 0) or 0)
        told = sidecar_of(recording, self.series, self._columns, rate, self._first, start, self._size)
        content = json_bytes({"TaskName": task, **told})
        self._stem.with_name(f"{self._stem.name}.json").write_bytes(content)

    def _write(self, rows: Table) -> None:
        if len(rows):
            self._file.write([column.values(rows) for column in self._columns])
            self._first = float(rows["timestamp"][0]) if np.isnan(self._first) else self._first
            self._last = float(rows["timestamp"][-1])


def tables_of(recording: Recording, found: Mapping[str, Series]) -> list[PhysioTable]:
    """Return the tables of a recording, the main one last: gaze, if there is any.

    Raises:
        DamagedFile: the video of the world cannot be read.
    """
    size = world_size(recording)
    tables = []
    for eye, label in _EYES.items():
        flat, solid = found.get(f"eye{eye}_2d"), found.get(f"eye{eye}_3d")
        if series := [each for each in (flat, solid) if each]:
            tables.append(PhysioTable(label, series, eye_columns(flat is not None, solid is not None), None))
    flat, solid = found.get("gaze_2d"), found.get("gaze_3d")
    if flat:
        tables.append(PhysioTable(_FLAT_GAZE if solid else _GAZE, [flat], gaze_columns(False, size), size))
    if solid:
        tables.append(PhysioTable(_GAZE, [solid], gaze_columns(True, size), size))
    return tables


def write_tables(
    recording: Recording, tables: list[PhysioTable], stem: Path, task: str, start: float, steps: Steps
) -> None:
    """Write the tables and their sidecars; takes one step a datum.

    Args:
        recording: where the rows come from.
        tables: those of ``tables_of``.
        stem: what the files' names begin with.
        task: what the wearer did.
        start: Pupil time at which the recording began, s.
        steps: of the export.

    Raises:
        DamagedFile: a log cannot be read.
        OSError: a file cannot be written.
    """
    by_series = {series.name: table for table in tables for series in table.series}
    with ExitStack() as opened:
        for table in tables:
            opened.enter_context(table.open(stem))
        for log in dict.fromkeys(series.log for table in tables for series in table.series):
            for rows in recording.batches(log, columns=_SOURCES[log]):
                solid = np.zeros(len(rows), np.bool_)
                chosen = {table.label: np.zeros(len(rows), np.bool_) for table in tables}
                for series, some in split(log, rows):
                    if series.name in by_series:
                        chosen[by_series[series.name].label] |= some
                        solid |= some & series.solid
                for table in tables:
                    if (some := chosen[table.label]).any():
                        table.add(rows[some], solid[some])
                steps.advance(len(rows))
        for table in tables:
            table.finish(recording, task, start)
