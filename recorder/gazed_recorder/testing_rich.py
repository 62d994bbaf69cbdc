"""A recording with all that a wearer of a headset gives, made of formulas: for tests and benches of what reads it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import msgpack
import numpy as np

from gazed_recorder.clock_log import CLOCK, PAIR, SEGMENT
from gazed_recorder.datalog import DatumLog
from gazed_recorder.finish import finish
from gazed_recorder.folder import make_folder
from gazed_recorder.info import write_player_info, write_user_info
from gazed_recorder.manifest import ClockReading, Manifest, Part, StreamReport
from gazed_recorder.mp4_boxes import mjpeg_track
from gazed_recorder.part import TrackPart
from gazed_recorder.records import FrameRecord
from gazed_recorder.testing_datums import EYE_SIZE, WORLD_SIZE, Datum, Wearer

__all__ = ["make_rich_recording"]

_EPOCH_NS = 1_000_000_000_000
_UNIX_NS = 1_772_323_200_000_000_000
# The host's clock runs 20 millionths fast: Unix time is no constant away from Pupil time.
_DRIFT = 20e-6
_IMAGES = 16


def make_rich_recording(
    root: Path,
    *,
    seconds: float = 2.0,
    rate: float = 120.0,
    eyes: tuple[int, ...] = (0, 1),
    methods: tuple[str, ...] = ("2d", "3d"),
    fps: float = 30.0,
    videos: bool = True,
    classic: bool = True,
    session: str = "rich",
    number: int = 0,
) -> Path:
    """Make a recording and return its folder; the same arguments make the same recording.

    It has the logs pupil, gaze (binocular, in a blink of one eye that of the other), fixations, blinks, annotation,
    notify and clock, and videos of the world and of each eye. Two seconds take less than one.

    Args:
        root: a folder for recordings.
        seconds: how long.
        rate: frames a second of each eye camera.
        eyes: those that have a camera; 0 is the right one.
        methods: which pupils there are, ``2d`` and ``3d``; gaze is 3-D if pupils are.
        fps: frames a second of the world camera.
        videos: whether there are videos.
        classic: whether a recording of more than 1000 datums has ``pupil_data``, which holds all once more.
        session: the name of the session; the second recording of a session is ``001``.
        number: recordings of different numbers have other UUIDs, times and values.
    """
    folder = make_folder(root, session, datetime(2026, 3, 1, tzinfo=UTC)).path
    start = 100.0 + number % 1000
    names = ("world", *(f"eye{eye}" for eye in eyes)) if videos else ()
    reports = {name: StreamReport(kind="video", expected=True) for name in names}
    manifest = Manifest(str(uuid.UUID(int=number + 1)), "gazed test", _reading(start), session, streams=reports)
    manifest.user_info = {"name": f"P {number}"}
    manifest.clock.append(manifest.start)
    write_player_info(folder, manifest)
    write_user_info(folder, manifest)
    wearer = Wearer(start + 0.1, seconds, rate, eyes, methods, 0.37 * number)
    for name, report in reports.items():
        if name == "world":
            _record(folder, name, fps, WORLD_SIZE, start + 0.1 + np.arange(round(seconds * fps)) / fps, report)
        else:
            _record(folder, name, rate, EYE_SIZE, wearer.eye_times(int(name[3:]), 0, wearer.frames), report)
    _log_pupils_and_gaze(folder, wearer, reports)
    logs = {
        "fixations": wearer.fixations(),
        "blinks": wearer.blinks(),
        "annotation": _annotations(start, seconds),
        "notify": _notifications(start, seconds, folder),
        CLOCK: _clock(start, seconds),
    }
    for name, datums in logs.items():
        _log(folder, name, datums, reports)
    manifest.stop = _reading(start + seconds + 0.2)
    manifest.stop_reason = "asked"
    manifest.clock.append(manifest.stop)
    finish(folder, manifest, hurry=lambda: not classic)
    return folder


def _reading(timestamp: float) -> ClockReading:
    return ClockReading(_EPOCH_NS + round(timestamp * 1e9), _unix_ns(timestamp), 500, timestamp)


def _unix_ns(timestamp: float) -> int:
    return _UNIX_NS + round(timestamp * (1 - _DRIFT) * 1e9)


def _record(folder: Path, name: str, rate: float, size: tuple[int, int], times: Any, report: StreamReport) -> None:
    report.info = {"stream": name, "source": "test", "width": size[0], "height": size[1], "fps": rate}
    images = _images(*size)
    part = TrackPart(folder, name, mjpeg_track(*size))
    for index, timestamp in enumerate(times.tolist()):
        captured = _EPOCH_NS + round(timestamp * 1e9)
        part.write(FrameRecord(index, timestamp, captured + 5_000_000, captured, timestamp, 0), images[index % _IMAGES])
    report.first, report.last = part.first, part.last
    report.received = report.written = part.frames
    report.parts.append(Part(f"{name}.mp4", part.frames))
    part.close()


def _images(width: int, height: int) -> list[bytes]:
    """Return the JPEGs that a video shows again and again: a dark disc that goes round on a gray slope."""
    slope = np.linspace(90, 200, width * height, dtype=np.float32).reshape(height, width).astype(np.uint8)
    images = []
    for number in range(_IMAGES):
        angle = 2 * np.pi * number / _IMAGES
        center = (round(width * (0.5 + 0.2 * np.cos(angle))), round(height * (0.5 + 0.2 * np.sin(angle))))
        image = cv2.circle(slope.copy(), center, height // 8, 20, -1)
        images.append(cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))[1].tobytes())
    return images


def _log(folder: Path, name: str, datums: Iterable[Datum], reports: dict[str, StreamReport]) -> None:
    log = DatumLog(folder, name)
    for datum in datums:
        log.append(*datum)
    _close(log, reports)


def _log_pupils_and_gaze(folder: Path, wearer: Wearer, reports: dict[str, StreamReport]) -> None:
    logs = DatumLog(folder, "pupil"), DatumLog(folder, "gaze")
    for datums in wearer.datums():
        for log, some in zip(logs, datums, strict=True):
            for datum in some:
                log.append(*datum)
    for log in logs:
        _close(log, reports)


def _close(log: DatumLog, reports: dict[str, StreamReport]) -> None:
    log.flush()
    reports[log.name] = StreamReport(kind="data", received=log.count, written=log.count, size=log.size)
    log.close()


def _annotations(start: float, seconds: float) -> Iterator[Datum]:
    for number in range(int(seconds * 2)):
        at = start + 0.15 + 0.5 * number
        datum: dict[str, Any] = {"topic": "annotation", "label": f"trial {number // 2}", "timestamp": at}
        if number % 2:
            datum = {**datum, "label": "Knopf gedrückt", "duration": 0.0, "button": number % 3, "side": "left"}
        else:
            datum = {**datum, "duration": 0.4, "trial": number // 2}
        yield "annotation", at, msgpack.packb(datum)


def _notifications(start: float, seconds: float, folder: Path) -> Iterator[Datum]:
    end = start + seconds
    for at, subject, more in (
        (start, "recording.started", {"rec_path": f"/recordings/{folder.parent.name}/{folder.name}"}),
        (start + 0.05, "calibration.result.v2", {"gazer_class_name": "Gazer3D", "params": {}, "version": 2}),
        (start + seconds / 2, "stimulus", {"name": "fixation cross", "position": [0.5, 0.5], "record": True}),
        (end, "recording.stopped", {}),
    ):
        topic = f"notify.{subject}"
        yield topic, at, msgpack.packb({"subject": subject, **more, "timestamp": at, "topic": topic})


def _clock(start: float, seconds: float) -> Iterator[Datum]:
    segment = {"topic": SEGMENT, "host_ns": _EPOCH_NS, "pupil_ns": 0, "rate": 0.0, "steps": 0, "number": 0}
    yield SEGMENT, start, msgpack.packb({**segment, "timestamp": start})
    for second in range(int(seconds) + 1):
        at = start + second
        host = _EPOCH_NS + round(at * 1e9)
        pair = {"topic": PAIR, "host_ns": host, "unix_ns": _unix_ns(at), "error_ns": 500}
        yield PAIR, at, msgpack.packb({**pair, "timestamp": at})
