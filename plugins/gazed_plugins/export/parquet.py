"""``parquet``: a dataset of many recordings, to be asked with ``gazed query`` or by whatever reads Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from gazed_plugins.arguments import refuse_unknown
from gazed_plugins.export.errors import NothingToExport
from gazed_plugins.export.session import known_clock
from gazed_plugins.export.steps import Steps
from gazed_plugins.offline_data import Progress
from gazed_recorder.reader import Recording
from gazed_recorder.reading.table import Table

if TYPE_CHECKING:
    import pyarrow

__all__ = ["TABLES", "ParquetExporter"]

_LOGS = {
    "pupil": "pupil",
    "gaze": "gaze",
    "fixations": "fixations",
    "blinks": "blinks",
    "annotations": "annotation",
    "notifications": "notify",
}
TABLES = (*_LOGS, "frames", "recording")
"""The tables of a recording, each in a file of its own."""
_ROWS = 65_536
# What an int64 of nanoseconds holds.
_FARTHEST_S = 9e9
_COMMON = ("timestamp", "topic", "label", "duration")


class ParquetExporter:
    """Parquet: one dataset for many recordings, made for SQL.

    Each recording becomes a folder ``recording=<label>`` with the files pupil, gaze, fixations, blinks, annotations,
    notifications, frames and recording (``.parquet``), all of them always, with the same columns in every recording.
    Readers of Hive-partitioned datasets, such as duckdb, add the column ``recording``. Numbers are kept as they were
    recorded (float64); what a datum lacks is null. Besides ``timestamp`` (Pupil time, s) each row has ``pupil_ns``, the
    same in whole nanoseconds, and ``unix_ns``. Rows are in the order of time.
    """

    extra: ClassVar[str] = "batch"
    dataset: ClassVar[str] = "parquet"

    def __init__(self, args: Mapping[str, Any]) -> None:
        refuse_unknown("parquet", "argument", args, ())

    def name(self, recording: Recording, label: str) -> str:  # noqa: ARG002 - its label is enough
        """Return the folder of the recording in the dataset."""
        return f"recording={label}"

    def write(self, recording: Recording, target: Path, progress: Progress) -> None:
        """Write the files; as ``Exporter.write``."""
        lengths = {name: len(recording.timestamps(name)) for name in (*_LOGS.values(), *recording.streams)
                   if name in (*recording.logs, *recording.streams)}  # fmt: skip
        if not any(lengths.values()):
            raise NothingToExport(f"{recording.path} has neither datums nor frames")
        steps = Steps(progress, sum(lengths.values()))
        target.mkdir()
        counts = {
            table: _write(target / f"{table}.parquet", _batches(recording, table), steps)
            for table in (*_LOGS, "frames")
        }
        _write(target / "recording.parquet", [_description(recording, counts)], steps)
        steps.finish()

    def complete(self, output: Path) -> None:
        """Do nothing: the dataset is the folders of its recordings."""


def _write(path: Path, batches: Iterator[pyarrow.Table] | list[pyarrow.Table], steps: Steps) -> int:
    """Write a file of one row group a batch; return how many rows."""
    from pyarrow import parquet

    writer, rows = None, 0
    try:
        for batch in batches:
            writer = writer or parquet.ParquetWriter(path, batch.schema, **_options(batch.schema))
            writer.write_table(batch, row_group_size=_ROWS)
            rows += len(batch)
            steps.advance(len(batch))
    finally:
        if writer is not None:
            writer.close()
    return rows


def _options(schema: pyarrow.Schema) -> dict[str, Any]:
    """Return the encodings: of those that duckdb, polars and pandas read, the smallest for smooth numbers."""
    kinds = {"int64": "DELTA_BINARY_PACKED", "double": "BYTE_STREAM_SPLIT"}
    types = {field.name: str(field.type) for field in schema}
    encodings = {name: kinds[kind] for name, kind in types.items() if kind in kinds}
    texts = [name for name, kind in types.items() if kind == "string"]
    return {"compression": "zstd", "use_dictionary": texts, "column_encoding": encodings}


def _batches(recording: Recording, table: str) -> Iterator[pyarrow.Table]:
    """Iterate over a table of a recording; there is at least one batch, which may be empty."""
    if table == "frames":
        yield from _frames(recording)
        return
    log = _LOGS[table]
    empty = True
    for batch in recording.batches(log, _ROWS) if log in recording.logs else ():
        empty = False
        yield _with_times(recording, _annotations(batch) if table == "annotations" else batch)
    if empty:
        none: Table = getattr(recording, table)
        yield _with_times(recording, _annotations(none) if table == "annotations" else none)


def _annotations(table: Table) -> Table:
    """Return annotations with the columns that all have, and one, ``more``, with a map of all others."""
    rows = len(table)
    columns: dict[str, NDArray[Any]] = {name: table[name] for name in _COMMON if name in table}
    columns.setdefault("topic", np.full(rows, None, object))
    columns.setdefault("label", np.full(rows, None, object))
    columns["timestamp"] = _numbers(columns["timestamp"])
    columns["duration"] = _numbers(columns.get("duration", np.full(rows, np.nan)))
    columns["topic"], columns["label"] = columns["topic"].astype(object), columns["label"].astype(object)
    others = table.select(name for name in table.columns if name not in _COMMON)
    more = np.full(rows, None, object)
    for place, row in enumerate(others):
        more[place] = row or None
    return Table({name: columns[name] for name in _COMMON} | {"more": more})


def _numbers(column: NDArray[Any]) -> NDArray[np.float64]:
    if column.dtype != object:
        return column.astype(np.float64)
    return np.array([value if isinstance(value, float | int) else np.nan for value in column.tolist()], np.float64)


def _frames(recording: Recording) -> Iterator[pyarrow.Table]:
    """Iterate over the frames of all videos, one video after the other."""
    empty = Table({"stream": np.zeros(0, object), "frame": np.zeros(0, np.int64), "timestamp": np.zeros(0)})
    yield _with_times(recording, empty)
    for stream in recording.streams:
        stamps = recording.timestamps(stream)
        for first in range(0, len(stamps), _ROWS):
            some = stamps[first : first + _ROWS]
            names = np.full(len(some), stream, object)
            numbers = np.arange(first, first + len(some))
            yield _with_times(recording, Table({"stream": names, "frame": numbers, "timestamp": some}))


def _with_times(recording: Recording, table: Table) -> pyarrow.Table:
    """Return a table with both times in nanoseconds, as Parquet is to have it."""
    import pyarrow as pa

    stamps = table["timestamp"]
    known = np.abs(stamps) < _FARTHEST_S
    finite = np.where(known, stamps, 0.0)
    columns = {name: _arrow(table[name]) for name in table.columns}
    columns["pupil_ns"] = pa.array(np.rint(finite * 1e9).astype(np.int64), pa.int64(), mask=~known)
    clock = known_clock(recording)
    columns["unix_ns"] = (
        pa.array(clock.to_unix_ns(finite), pa.int64(), mask=~known) if clock else pa.nulls(len(table), pa.int64())
    )
    return pa.table(columns)


def _arrow(column: NDArray[Any]) -> pyarrow.Array:
    """Return a column with nulls for what is missing: NaN, -1, ``None``; maps and lists become JSON."""
    import pyarrow as pa

    if column.dtype == np.float64:
        return pa.array(column, pa.float64(), mask=np.isnan(column))
    if column.dtype == np.int64:
        return pa.array(column, pa.int64(), mask=column == -1)
    return pa.array([_text(value) for value in column.tolist()], pa.string())


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value, enc_hook=repr).decode()


def _description(recording: Recording, counts: Mapping[str, int]) -> pyarrow.Table:
    """Return the one row that tells what a recording is."""
    import pyarrow as pa

    info, clock = recording.info, known_clock(recording)
    texts = {
        "recording_uuid": info.recording_uuid,
        "recording_name": info.recording_name,
        "software": info.recording_software_name,
        "software_version": info.recording_software_version,
    }
    start = info.start_time_synced_s
    numbers = {
        "start_unix_ns": clock.to_unix_ns(start) if clock and np.isfinite(start) else None,
        **{f"{table}_count": count for table, count in counts.items()},
    }
    times = {"start_timestamp": start if np.isfinite(start) else None, "duration": recording.duration}
    return pa.table(
        {name: pa.array([value], pa.string()) for name, value in texts.items()}
        | {name: pa.array([value], pa.float64()) for name, value in times.items()}
        | {name: pa.array([value], pa.int64()) for name, value in numbers.items()}
    )
