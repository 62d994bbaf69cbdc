"""What comes over the bus, gathered for a while and made into chunks. Times are Pupil time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gazed_bus.codec import decode
from gazed_bus.errors import MessageError
from gazed_plugins.arguments import is_number
from gazed_plugins.export.events import text_of
from gazed_plugins.rerun import calls
from gazed_plugins.rerun.calls import Chunk, Times
from gazed_plugins.rerun.entities import annotation_line, gaze_chunks, pupil_chunks, span_chunk, text_chunk
from gazed_recorder.errors import DamagedFile
from gazed_recorder.reading.logs import Log
from gazed_recorder.reading.packed import PackedLog
from gazed_recorder.reading.table import Table

__all__ = ["LiveData"]

_TABLES = {"pupil.": "pupil", "gaze.": "gaze"}
_EVENTS = ("blinks", "fixations", "annotation", "notify.")
_LATEST_S = 9e9  # beyond it, nanoseconds are no longer whole numbers of 64 bits
_EYES = 10
# A notification may hold all data of a calibration; nobody reads those in a viewer.
_LONG = 16_384
_OF_EACH = ("seq", "subject", "timestamp", "topic")


class LiveData:
    """Gathers pupils, gaze and events; ``chunks`` makes chunks of what was gathered since it was asked last.

    ``counts`` has what was taken so far: ``pupil``, ``gaze``, ``blinks``, ``fixations``, ``annotation``, ``notify``;
    what could not be read is ``unreadable``.
    """

    topics = (*_TABLES, *_EVENTS)
    """What it takes, by prefix."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys((*_TABLES.values(), *(name.strip(".") for name in _EVENTS), "unreadable"), 0)
        self.world: tuple[int, int] | None = None
        """Width and height of the world camera's images, for gaze over them."""
        self._packed: dict[str, list[bytes]] = {log: [] for log in _TABLES.values()}
        self._texts: dict[str, list[tuple[float, str]]] = {"/annotations": [], "/notifications": []}
        self._blinks = _Blinks()
        self._fixations = _Fixations()

    def take(self, frames: Sequence[bytes]) -> None:
        """Take a message as it came: topic and packed map."""
        topic = frames[0].decode("utf-8", "replace")
        for prefix, log in _TABLES.items():
            if topic.startswith(prefix):
                self._packed[log].append(frames[1])
                return
        try:
            datum = decode(frames).payload
        except MessageError:
            self.counts["unreadable"] += 1
            return
        self._take_event(topic, datum, len(frames[1]))

    def _take_event(self, topic: str, datum: Mapping[str, Any], size: int) -> None:
        stamp = datum.get("timestamp")
        if not is_number(stamp) or abs(stamp) > _LATEST_S:
            # Many a notification has no time of its own.
            if not topic.startswith("notify."):
                self.counts["unreadable"] += 1
            return
        name = topic.partition(".")[0]
        if name == "blinks":
            self._blinks.take(stamp, datum)
        elif name == "fixations":
            self._fixations.take(stamp, datum)
        elif name == "annotation":
            self._texts["/annotations"].append((stamp, annotation_line({"label": "", **datum})))
        else:
            more = {} if size > _LONG else {key: datum[key] for key in datum if key not in _OF_EACH}
            lines = [topic.removeprefix("notify."), *([text_of(more)] if more else ())]
            self._texts["/notifications"].append((stamp, "\n".join(lines)))
        self.counts[name] += 1

    def chunks(self) -> Iterator[Chunk]:
        """Yield what has come since the last time."""
        for log, packed in self._packed.items():
            self._packed[log] = []
            table = self._table(log, packed)
            if len(table):
                times = Times(calls.to_ns(table["timestamp"]))
                yield from pupil_chunks(table, times) if log == "pupil" else gaze_chunks(table, times, self.world)
        for entity, spans in (("/blinks", self._blinks), ("/fixations", self._fixations)):
            if edges := spans.edges():
                yield span_chunk(entity, _times(edges), [begins for _, begins in edges])
        for entity, texts in self._texts.items():
            if texts:
                self._texts[entity] = []
                yield text_chunk(entity, _times(texts), [text for _, text in texts])

    def _table(self, log: str, packed: list[bytes]) -> Table:
        """Return the datums that can be read as columns; one that cannot costs the others nothing but time."""
        try:
            table = _columns(log, packed)
        except DamagedFile:
            readable = [each for each in packed if _is_readable(log, each)]
            table = _columns(log, readable)
        fit: NDArray[np.bool_] = np.abs(table["timestamp"]) < _LATEST_S
        if log == "pupil":
            fit &= (table["eye_id"] >= 0) & (table["eye_id"] < _EYES)
        self.counts[log] += int(fit.sum())
        self.counts["unreadable"] += len(packed) - int(fit.sum())
        return table[fit]


def _columns(log: str, packed: Sequence[bytes]) -> Table:
    lengths = np.array([len(each) for each in packed], np.int64)
    found = PackedLog(Path("bus"), np.cumsum(lengths) - lengths, lengths, b"".join(packed))
    table: Table = Log(log, lambda: found).table()
    return table


def _is_readable(log: str, packed: bytes) -> bool:
    try:
        _columns(log, [packed])
    except DamagedFile:
        return False
    return True


def _times(rows: Sequence[tuple[float, Any]]) -> Times:
    return Times(calls.to_ns([stamp for stamp, _ in rows]))


class _Blinks:
    """From the onsets and offsets that are told again and again to when blinks begin and end."""

    def __init__(self) -> None:
        self._closed = False
        self._edges: list[tuple[float, bool]] = []

    def take(self, stamp: float, datum: Mapping[str, Any]) -> None:
        closes = datum.get("type") == "onset"
        if closes != self._closed:
            self._closed = closes
            self._edges.append((stamp, closes))

    def edges(self) -> list[tuple[float, bool]]:
        edges, self._edges = self._edges, []
        return edges


class _Fixations:
    """From fixations that are told again and again while they last to when each begins and ends."""

    def __init__(self) -> None:
        self._id: Any = None
        self._end = 0.0
        self._told = False
        self._edges: list[tuple[float, bool]] = []

    def take(self, stamp: float, datum: Mapping[str, Any]) -> None:
        duration = datum.get("duration")
        end = stamp + duration / 1000 if is_number(duration) else stamp
        if self._id is None or datum.get("id") != self._id:
            self._finish()
            self._edges.append((stamp, True))
            self._id = datum.get("id")
            self._end = end
        self._end = max(self._end, end)
        self._told = True

    def edges(self) -> list[tuple[float, bool]]:
        # One that nothing more was told of since the last time is over.
        if not self._told:
            self._finish()
        self._told = False
        edges, self._edges = self._edges, []
        return edges

    def _finish(self) -> None:
        if self._id is not None:
            self._edges.append((self._end, False))
            self._id = None
