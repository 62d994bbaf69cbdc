"""A whole recording as chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.events import annotation_events, blink_events, fixation_events, notification_events
from gazed_plugins.export.session import known_clock
from gazed_plugins.rerun import calls
from gazed_plugins.rerun.calls import Chunk, Times
from gazed_plugins.rerun.entities import (
    LOG_ENTITIES,
    annotation_line,
    gaze_chunks,
    image_entity,
    pupil_chunks,
    pupil_entities,
    span_chunk,
    text_chunk,
)
from gazed_plugins.rerun.videos import video_chunks
from gazed_recorder.reader import Recording
from gazed_recorder.reading.correlate import nearest
from gazed_recorder.reading.table import Table

__all__ = ["entities_of", "id_of", "recording_chunks"]

Advance = Callable[[int], None]
_ROWS = 16_384


def id_of(recording: Recording) -> str:
    """Return what a recording is called in its file: its UUID, or its path where it has none."""
    return recording.info.recording_uuid or "-".join(recording.path.absolute().parts[-2:])


def recording_chunks(
    recording: Recording, *, videos: bool = True, ellipses: bool = True, datums: bool = True, advance: Advance
) -> Iterator[Chunk]:
    """Yield a recording: its properties, videos, pupils, gaze and events; ``advance`` is told of frames and datums.

    Raises (while iterating):
        DamagedFile: a file of the recording cannot be read.
    """
    world = recording.world if "world" in recording.streams and len(recording.world) else None

    clock = known_clock(recording)

    def when(timestamps: NDArray[np.float64]) -> Times:
        frames = None if world is None else nearest(timestamps, world.timestamps)
        return Times(calls.to_ns(timestamps), clock.to_unix_ns(timestamps) if clock else None, frames)

    yield from _properties(recording)
    for table in recording.batches("pupil", _ROWS) if "pupil" in recording.logs else ():
        yield from pupil_chunks(table, when(table["timestamp"]), ellipses=ellipses, datums=datums)
        advance(len(table))
    size = None if world is None else world.size
    for table in recording.batches("gaze", _ROWS) if "gaze" in recording.logs else ():
        yield from gaze_chunks(table, when(table["timestamp"]), size, datums=datums)
        advance(len(table))
    yield from _events(recording, when)
    # They come last: plots are there at once.
    shown = [recording.world] if "world" in recording.streams else []
    for chunk in video_chunks([*shown, *recording.eyes.values()], when) if videos else ():
        yield chunk
        advance(0 if chunk.is_static else chunk.num_rows)


def entities_of(recording: Recording, *, videos: bool = True) -> set[str]:
    """Return the entities of a recording that views show.

    Raises:
        DamagedFile: the pupils cannot be read.
    """
    found = {image_entity(stream) for stream in recording.streams} if videos else set[str]()
    if "pupil" in recording.logs:
        for table in recording.batches("pupil", _ROWS, ("eye_id", "topic", "method")):
            found |= pupil_entities(table)
    for log, entities in LOG_ENTITIES.items():
        if log in recording.logs and len(recording.timestamps(log)):
            found |= set(entities)
    return found


def _properties(recording: Recording) -> Iterator[Chunk]:
    info = recording.info
    starts = {"start_pupil_time_ns": info.start_time_synced_s, "start_unix_ns": info.start_time_system_s}
    known = {name: round(start * 1e9) for name, start in starts.items() if np.isfinite(start)}
    values = {
        "recording_uuid": info.recording_uuid,
        "recording_software": f"{info.recording_software_name} {info.recording_software_version}".strip(),
        **known,
        "duration_s": recording.duration,
    }
    yield from calls.properties(info.recording_name or recording.path.name, known.get("start_unix_ns"), values)


def _events(recording: Recording, when: Callable[[NDArray[np.float64]], Times]) -> Iterator[Chunk]:
    for entity, spans in (("/blinks", blink_events(recording)), ("/fixations", fixation_events(recording))):
        if len(spans):
            stamps, begins = _edges(spans)
            yield span_chunk(entity, when(stamps), begins.tolist())
    notes = annotation_events(recording)
    if len(notes):
        yield text_chunk("/annotations", when(notes["timestamp"]), [annotation_line(note) for note in notes])
    told = notification_events(recording)
    if len(told):
        pairs = zip(told["subject"].tolist(), told["content"].tolist(), strict=True)
        lines = [f"{subject}\n{content}".strip() for subject, content in pairs]
        yield text_chunk("/notifications", when(told["timestamp"]), lines)


def _edges(spans: Table) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return when spans begin and end, in the order of time, and which is which; an end that is not known is none."""
    starts = spans["timestamp"]
    stamps = np.concatenate([starts + spans["duration"], starts])
    begins = np.arange(len(stamps)) >= len(starts)
    order = np.argsort(stamps, kind="stable")
    order = order[np.isfinite(stamps[order])]
    return stamps[order], begins[order]
