"""What comes over the bus into a recording: pupil, gaze, notifications, annotations and whatever plugins make."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import msgpack
import msgspec

from gazed_bus.codec import strip_sequence
from gazed_bus.errors import MessageError
from gazed_recorder.datalog import DatumLog, check_datum, log_name
from gazed_recorder.manifest import StreamReport
from gazed_timesync import PupilTime

__all__ = ["RECORDED_TOPICS", "Annotation", "DatumWriter"]

_DATA_TOPICS = ("pupil.", "gaze.", "annotation", "fixations", "blinks", "surfaces.", "head_pose", "timesync.")
RECORDED_TOPICS = (*_DATA_TOPICS, "notify.")
"""Prefixes of the topics that a recording keeps; of the notifications, those with a true ``record``."""

# Each log takes two file descriptors, and topics are made up by whoever publishes.
_MOST_STREAMS = 32
_OTHER = "data_other"
_log = logging.getLogger(__name__)


class Annotation(msgspec.Struct, frozen=True):
    """An annotation that went into the recording."""

    label: str
    timestamp: float


class DatumWriter:
    """Appends datums to one log for each kind, made when its first datum comes."""

    def __init__(self, folder: Path, reports: dict[str, StreamReport]) -> None:
        self._folder = folder
        self._reports = reports
        self._logs: dict[str, DatumLog] = {}
        self._lost: dict[str, int] = {}
        self._dropped: dict[str, int] = {}
        self._annotations: list[Annotation] = []
        self._unreadable = 0
        # Readers of both generations look for these three, whether or not anything came.
        for name in ("notify", "pupil", "gaze"):
            self._log(name)

    def take(self, topic: str, packed: bytes, now: PupilTime) -> None:
        """Store one datum as it came, without the bus's sequence number.

        A notification without a timestamp gets ``now``, as in Pupil Capture; any other datum without one is dropped.

        Raises:
            OSError: the disk refused it; it is counted as dropped.
        """
        is_notification = topic.startswith("notify.")
        if is_notification and not _is_to_be_recorded(packed):
            return
        name = self._name(topic)
        report = self._report(name)
        report.received += 1
        packed = strip_sequence(packed)
        try:
            if is_notification:
                packed = _completed(packed, topic, now)
            label, timestamp = check_datum(packed)
            self._log(name).append(label, timestamp, packed)
        except MessageError as error:
            self._unreadable += 1
            # A flood must not fill the log: 1, 2, 4, 8, …
            if self._unreadable & (self._unreadable - 1) == 0:
                _log.warning("%d datums were not recorded, the last of %s: %s", self._unreadable, topic, error)
            report.drop("unreadable")
            return
        except OSError:
            # Nobody may be told of an annotation that went with it.
            self._annotations.clear()
            raise
        report.first = timestamp if report.first is None else report.first
        report.last = timestamp
        if name == "annotation":
            self._annotations.append(Annotation(str(msgpack.unpackb(packed).get("label")), timestamp))

    def note_losses(self, lost: Mapping[str, int]) -> None:
        """Account for datums the bus lost; ``lost`` counts by topic since the subscription began."""
        for topic, count in lost.items():
            new = count - self._lost.get(topic, 0)
            if new and topic.startswith(_DATA_TOPICS):
                report = self._report(self._name(topic))
                report.received += new
                report.drop("bus", new)
            self._lost[topic] = count

    def forgive_losses(self, lost: Mapping[str, int]) -> None:
        """Start counting from here: what was lost before belongs to no recording."""
        self._lost = dict(lost)

    def flush(self) -> list[Annotation]:
        """Write what is buffered and return the annotations that are on disk since the last flush.

        Raises:
            OSError: the disk refused; what was buffered is counted as dropped.
        """
        done, self._annotations = self._annotations, []
        try:
            for log in self._logs.values():
                log.flush()
        finally:
            self._account()
        return done

    def sync(self) -> None:
        """Bring everything flushed so far to the device."""
        for log in list(self._logs.values()):
            log.sync()

    def close(self) -> None:
        """Flush and close all logs.

        Raises:
            OSError: the disk refused; all logs are closed, and what was buffered is counted as dropped.
        """
        with ExitStack() as closing:
            closing.callback(self._account)
            for log in self._logs.values():
                closing.callback(log.close)

    def _account(self) -> None:
        for name, log in self._logs.items():
            report = self._report(name)
            report.written, report.size = log.count, log.size
            if new := log.dropped - self._dropped.get(name, 0):
                self._dropped[name] = log.dropped
                report.drop("disk", new)

    def _name(self, topic: str) -> str:
        name = log_name(topic)
        return name if name in self._reports or len(self._reports) < _MOST_STREAMS else _OTHER

    def _report(self, name: str) -> StreamReport:
        return self._reports.setdefault(name, StreamReport(kind="data"))

    def _log(self, name: str) -> DatumLog:
        if name not in self._logs:
            report = self._report(name)
            self._logs[name] = DatumLog(self._folder, name, known=(report.written, report.size))
            self._report(name).written = self._logs[name].count
        return self._logs[name]


def _is_to_be_recorded(packed: bytes) -> bool:
    if b"\xa6record" not in packed:
        return False
    try:
        body = msgpack.unpackb(packed)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        return False
    return isinstance(body, dict) and bool(body.get("record"))


def _completed(packed: bytes, topic: str, now: PupilTime) -> bytes:
    body = msgpack.unpackb(packed)
    if "topic" in body and "timestamp" in body:
        return packed
    completed: bytes = msgpack.packb({"topic": topic, "timestamp": now, **body})
    return completed
