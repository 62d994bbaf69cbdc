"""Events as NWB has them: a table for each kind, and one that tells which Unix time an instant was."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.events import (
    annotation_events,
    blink_events,
    clean_text,
    fixation_events,
    free_name,
    notification_events,
)
from gazed_plugins.export.session import known_clock
from gazed_recorder.reader import Recording
from gazed_recorder.reading.table import Table

__all__ = ["add_events"]

_LIVE = "found while the recording was made"
_FIXATIONS = {
    "confidence": "Mean confidence of the gaze, from 0 to 1.",
    "dispersion": "Largest angle between two directions of gaze, in degrees.",
    "norm_pos_x": "Mean place of gaze in the world camera's image, 0 is left, 1 is right.",
    "norm_pos_y": "Mean place of gaze in the world camera's image, 0 is bottom, 1 is top.",
    "method": "Which gaze it was found in.",
}
_CLOCK = {
    "pupil_time": "Pupil time, the clock of the recording, in seconds.",
    "host_ns": "CLOCK_MONOTONIC of the machine that recorded, in nanoseconds.",
    "unix_ns": "Unix time at the same instant, in nanoseconds.",
    "error_ns": "How far apart the two may have been read, in nanoseconds.",
}
_RESERVED = ("id", "timestamp", "duration", "annotation", "name", "description", "columns", "colnames")


def add_events(content: Any, recording: Recording, zero: float) -> None:
    """Add the tables ``blinks``, ``fixations``, ``annotations``, ``notifications`` and ``clock`` to an ``NWBFile``.

    A table without rows is left out. ``zero`` is the Pupil time in s that is 0 in the file.

    Raises:
        DamagedFile: a log cannot be read.
    """
    told = {"confidence": "Highest response of the detector, from 0 to 1."}
    _add(content, "blinks", f"Blinks of both eyes, {_LIVE}.", blink_events(recording), told, zero)
    _add(content, "fixations", f"Fixations, {_LIVE}.", fixation_events(recording), _FIXATIONS, zero)
    annotations = annotation_events(recording)
    annotations = annotations.select(name for name in annotations.columns if name != "label").with_columns(
        annotation=annotations["label"]
    )
    more = dict.fromkeys(annotations.columns, "As it was sent with the annotation.")
    _add(content, "annotations", "Annotations, sent by an experiment or a person.", annotations, more, zero)
    told = {"subject": "What it is about.", "content": "The rest of it, a line for each value."}
    text = "Notifications of the recording, of calibrations and of others that asked to be recorded."
    _add(content, "notifications", text, notification_events(recording), told, zero)
    _add(content, "clock", "Instants on the clocks of the recording.", _clock(recording), _CLOCK, zero)


def _clock(recording: Recording) -> Table:
    clock = known_clock(recording)
    if clock is None:
        return Table({"timestamp": np.zeros(0)})
    pairs = clock.pairs
    hosts = np.array([pair.host for pair in pairs], np.int64)
    stamps = clock.to_pupil(hosts)
    return Table(
        {
            "timestamp": stamps,
            "pupil_time": stamps,
            "host_ns": hosts,
            "unix_ns": np.array([pair.unix for pair in pairs], np.int64),
            "error_ns": np.array([pair.error_ns for pair in pairs], np.int64),
        }
    )


def _add(content: Any, name: str, text: str, rows: Table, meanings: dict[str, str], zero: float) -> None:
    from hdmf.common import VectorData
    from pynwb.event import DurationVectorData, EventsTable, TimestampVectorData

    if not len(rows):
        return
    times = "Seconds from the start of the session."
    columns = [TimestampVectorData(name="timestamp", description=times, data=rows["timestamp"] - zero)]
    if "duration" in rows:
        columns.append(DurationVectorData(name="duration", description="Seconds.", data=rows["duration"]))
    taken = set(_RESERVED)
    for column in rows.columns:
        if column not in ("timestamp", "duration"):
            known = column if column == "annotation" else free_name(_storable(column), taken)
            about = "Label." if column == "annotation" else meanings[column]
            columns.append(VectorData(name=known, description=about, data=_stored(rows[column])))
    content.add_events_table(EventsTable(name=name, description=text, columns=columns))


def _storable(column: str) -> str:
    """Return a name that HDF5 can hold."""
    return clean_text("".join("_" if char in "/:\\" or not char.isprintable() else char for char in column)).strip(". ")


def _stored(column: NDArray[Any]) -> Any:
    return column.tolist() if column.dtype == object else column
