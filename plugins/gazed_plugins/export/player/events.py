"""Fixations, blinks and annotations as Pupil Player exports them.

Fixations and blinks are those that Player finds afterwards, over the whole recording; what was found live is in the
recording. Source: Pupil Player's fixation detector, blink detector and annotation player.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.arguments import read_numbers
from gazed_plugins.errors import PluginArgument
from gazed_plugins.events.blink import HISTORY_S, THRESHOLD
from gazed_plugins.events.blink_offline import blink_response, find_blinks
from gazed_plugins.events.fixation_offline import (
    MAX_DISPERSION_DEG,
    MAX_DURATION_MS,
    MIN_CONFIDENCE,
    MIN_DURATION_MS,
    fixation_frames,
    fixation_spans,
)
from gazed_plugins.events.window import dispersion_deg
from gazed_plugins.export.player.tables import TableFile, Window, write_rows
from gazed_recorder.reader import Recording
from gazed_recorder.reading.correlate import nearest
from gazed_recorder.reading.table import Table

if TYPE_CHECKING:
    from gazed_plugins.gaze.camera import Camera

__all__ = ["EVENT_NUMBERS", "EventSettings", "write_annotations", "write_blinks", "write_fixations"]

EVENT_NUMBERS = {
    "max_dispersion": (MAX_DISPERSION_DEG, 0.01, 90.0),
    "min_duration": (MIN_DURATION_MS, 1.0, 10_000.0),
    "max_duration": (MAX_DURATION_MS, 1.0, 10_000.0),
    "history_length": (HISTORY_S, 0.02, 5.0),
    "onset_confidence_threshold": (THRESHOLD, 0.0, 1.0),
    "offset_confidence_threshold": (THRESHOLD, 0.0, 1.0),
}
"""The arguments that set how events are found: default, smallest and largest."""
_FIXATIONS = (
    "id", "start_timestamp", "duration", "start_frame_index", "end_frame_index", "norm_pos_x", "norm_pos_y",
    "dispersion", "confidence", "method", "gaze_point_3d_x", "gaze_point_3d_y", "gaze_point_3d_z", "base_data",
)  # fmt: skip
_BLINKS = (
    "id", "start_timestamp", "duration", "end_timestamp", "start_frame_index", "index", "end_frame_index",
    "confidence", "filter_response", "base_data",
)  # fmt: skip
_ANNOTATION = ("index", "timestamp", "label", "duration")
_ASSUMED_SIZE = (1280, 720)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EventSettings:
    """How fixations and blinks are found; as the arguments of ``csv`` are called."""

    max_dispersion: float
    min_duration: float
    max_duration: float
    history_length: float
    onset_confidence_threshold: float
    offset_confidence_threshold: float

    @classmethod
    def of(cls, owner: str, args: Mapping[str, Any], *others: str) -> Self:
        """Read them from arguments; those named in ``others`` are left to the caller.

        Raises:
            PluginArgument: one is unknown or out of range.
        """
        settings = cls(**read_numbers(owner, args, EVENT_NUMBERS, *others))
        if settings.max_duration < settings.min_duration:
            raise PluginArgument(
                f"{owner}: max_duration is {settings.max_duration:g} ms, wanted min_duration, "
                f"{settings.min_duration:g} ms, or more"
            )
        return settings


def write_fixations(
    folder: Path, recording: Recording, gaze: Table, frames: Floats, settings: EventSettings, window: Window
) -> None:
    """Write ``fixations.csv`` and ``fixation_report.csv``.

    ``gaze`` has, in the order of time, at least the columns ``timestamp``, ``confidence``, ``norm_pos_…`` and
    ``gaze_point_3d_…``; ``frames`` (n,) are the times of the world's frames, s.

    Raises:
        OSError: they cannot be written.
        CameraModelError, DamagedFile: the world camera, which 2D gaze needs, is not described well.
    """
    used, solid = _usable(gaze)
    method = "3d gaze" if solid else "2d gaze"
    point = np.column_stack([used[f"gaze_point_3d_{axis}"] for axis in "xyz"])
    place = np.column_stack([used["norm_pos_x"], used["norm_pos_y"]])
    directions = point if solid else _camera(recording).rays_of_norm(place)
    times, sure = used["timestamp"], used["confidence"]
    limits = {name: getattr(settings, name) for name in ("max_dispersion", "min_duration", "max_duration")}
    count = 0
    with TableFile(folder, "fixations", _FIXATIONS, recording) as file:
        for number, (start, end) in enumerate(fixation_spans(times, directions, **limits)):
            span = times[start:end].tolist()
            if window and not (span[-1] >= window[0] and span[0] < window[1]):
                continue
            count += 1
            among = slice(start, end)
            row = (
                number, span[0], (span[-1] - span[0]) * 1000, *fixation_frames(frames, span[0], span[-1]),
                *_means(place[among]), dispersion_deg(directions[among]), *_means(sure[among, np.newaxis]), method,
                *(_means(point[among]) if solid else [None] * 3), " ".join(map(repr, span)),
            )  # fmt: skip
            file.row(row, span[0])
    report = [
        ("fixation classifier", "Dispersion_Duration"),
        ("max_dispersion", f"{settings.max_dispersion:.3f} deg"),
        ("min_duration", f"{settings.min_duration:.0f} ms"),
        ("max_duration", f"{settings.max_duration:.0f} ms"),
        (),
        ("fixation_count", count),
    ]
    write_rows(folder / "fixation_report.csv", report)


def write_blinks(
    folder: Path, recording: Recording, pupils: Table, frames: Floats, settings: EventSettings, window: Window
) -> None:
    """Write ``blinks.csv`` and ``blink_detection_report.csv``.

    ``pupils`` has, in the order of time, at least the columns ``timestamp`` and ``confidence``, of those pupils that
    blinks are found in; ``frames`` (n,) are the times of the world's frames, s.

    Raises:
        OSError: they cannot be written.
    """
    times, sure = pupils["timestamp"], pupils["confidence"]
    response = blink_response(times, sure, settings.history_length)
    found = find_blinks(
        times,
        sure,
        history_length=settings.history_length,
        onset_threshold=settings.onset_confidence_threshold,
        offset_threshold=settings.offset_confidence_threshold,
    )
    count = 0
    with TableFile(folder, "blinks", _BLINKS, recording) as file:
        for blink in found:
            start, end = blink.start_timestamp, blink.end_timestamp
            if window and not (end >= window[0] and start < window[1]):
                continue
            count += 1
            first, last = fixation_frames(frames, start, end)
            samples = slice(blink.start, blink.end)
            row = (
                blink.id, start, end - start, end, first, (first + last) // 2, last, blink.confidence,
                " ".join(map(repr, response[samples].tolist())), " ".join(map(repr, times[samples].tolist())),
            )  # fmt: skip
            file.row(row, start)
    report = [
        ("key", "value"),
        ("history_length", settings.history_length),
        ("onset_confidence_threshold", settings.onset_confidence_threshold),
        ("offset_confidence_threshold", settings.offset_confidence_threshold),
        ("blinks_exported", count),
    ]
    write_rows(folder / "blink_detection_report.csv", report)


def write_annotations(folder: Path, recording: Recording, frames: Floats, window: Window) -> None:
    """Write ``annotations.csv``, one column for each key that any annotation has.

    Raises:
        DamagedFile: they cannot be read.
        OSError: they cannot be written.
    """
    found = list(recording.data("annotation")) if "annotation" in recording.logs else []
    found.sort(key=_time)
    others = sorted({str(key) for datum in found for key in datum} - {*_ANNOTATION, "topic"})
    header = (*_ANNOTATION, *others)
    times = np.array([_time(datum) for datum in found], np.float64)
    index = nearest(times, frames).tolist()
    with TableFile(folder, "annotations", header, recording) as file:
        for datum, time, frame in zip(found, times.tolist(), index, strict=True):
            if window is None or window[0] <= time < window[1]:
                row = {str(key): value for key, value in datum.items()} | {"index": frame}
                file.row([row.get(name, "") for name in header], time)


def _usable(gaze: Table) -> tuple[Table, bool]:
    """Return the gaze in which fixations are looked for, and whether by its points in space."""
    point = np.column_stack([gaze[f"gaze_point_3d_{axis}"] for axis in "xyz"])
    place = np.column_stack([gaze["norm_pos_x"], gaze["norm_pos_y"]])
    no_point, no_place = np.isnan(point).all(axis=1), np.isnan(place).all(axis=1)
    good_point = np.isfinite(point).all(axis=1) & point.any(axis=1)
    good_place = np.isfinite(place).all(axis=1)
    used = np.isfinite(gaze["timestamp"]) & (gaze["confidence"] > MIN_CONFIDENCE) & np.isfinite(gaze["confidence"])
    used &= (good_point | no_point) & (good_place | no_place) & ~(no_point & no_place)
    if not no_point[used].any():
        return gaze[used], True
    return gaze[used & good_place], False


def _camera(recording: Recording) -> Camera:
    """Return the world camera as the recording knows it, else what is known of such a camera by its name."""
    # Needs OpenCV, which 3D gaze does without.
    from gazed_plugins.gaze.camera import camera_of_stream, default_camera, read_camera

    if "world" not in recording.streams:
        return default_camera("", *_ASSUMED_SIZE)
    width, height = recording.world.size
    model = recording.intrinsics("world")
    if model is not None:
        return read_camera(model, width, height)
    report = recording.manifest.streams.get("world") if recording.manifest else None
    info = {**(report.info if report else {}), "width": width, "height": height}
    return camera_of_stream({"info": info}) or default_camera("", width, height)


def _means(rows: Floats) -> list[float | None]:
    """Return the means of the columns, added up one after the other; of one that has gaps, ``None``."""
    means = [sum(column) / len(rows) for column in rows.T.tolist()]
    return [mean if mean == mean else None for mean in means]


def _time(datum: Mapping[str, Any]) -> float:
    value = datum.get("timestamp")
    return float(value) if isinstance(value, int | float) else math.nan
