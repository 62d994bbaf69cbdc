"""Every call of the Rerun SDK that data takes, here and nowhere else: its interface changes with each minor version.

``tests/plugins/test_rerun_calls.py`` holds each of them against what comes out. What a view looks like is in
``blueprint``, what the bytes of a file are in ``rrd``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rerun as rr
from numpy.typing import ArrayLike, NDArray
from rerun.chunk import Chunk, LazyChunkStream, RrdReader
from rerun.error_utils import catch_and_log_exceptions

from gazed_plugins.errors import PluginError

__all__ = [
    "APPLICATION",
    "FRAME",
    "PUPIL_TIME",
    "UNIX",
    "Chunk",
    "Columns",
    "LiveRecording",
    "Times",
    "chunk",
    "datums",
    "ellipse_style",
    "give_back",
    "images",
    "packets",
    "point_style",
    "points",
    "properties",
    "read_chunks",
    "read_ids",
    "scalars",
    "series_style",
    "state_style",
    "states",
    "static",
    "strips",
    "texts",
    "to_ns",
    "video_codec",
    "write_chunks",
]

APPLICATION = "gazed"
"""The application of all recordings of ours: what a viewer keeps its layouts by."""
PUPIL_TIME = "pupil_time"
"""The timeline of Pupil time: a duration."""
UNIX = "unix"
"""The timeline of Unix time: a timestamp."""
FRAME = "world_frame"
"""The timeline of the numbers of the world camera's frames: a sequence."""

_PATIENCE_S = 10.0

Columns = Any
"""Components of an entity, one value (or several, or none) a row."""
Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Times:
    """When rows are: int64 of shape (n,) each, ns or the number of a frame; ``None`` for a timeline they are not on."""

    pupil: NDArray[np.int64]
    unix: NDArray[np.int64] | None = None
    frame: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.pupil)

    def at(self, rows: NDArray[Any] | slice) -> Times:
        """Return those of some rows."""
        parts = (self.pupil, self.unix, self.frame)
        return Times(*(part if part is None else part[rows] for part in parts))  # type: ignore[arg-type]


def to_ns(seconds: ArrayLike) -> NDArray[np.int64]:
    """Return seconds as whole nanoseconds: once, here, so that the same instant is the same on every timeline."""
    return np.rint(np.asarray(seconds, np.float64) * 1e9).astype(np.int64)


def chunk(entity: str, times: Times, columns: Columns) -> Chunk:
    """Return rows of an entity."""
    indexes = [rr.TimeColumn(PUPIL_TIME, duration=times.pupil.astype("timedelta64[ns]"))]
    if times.unix is not None:
        indexes.append(rr.TimeColumn(UNIX, timestamp=times.unix.astype("datetime64[ns]")))
    if times.frame is not None:
        indexes.append(rr.TimeColumn(FRAME, sequence=times.frame))
    return Chunk.from_columns(entity, indexes, columns)


def static(entity: str, columns: Columns) -> Chunk:
    """Return what an entity has at all times."""
    return Chunk.from_columns(entity, [], columns)


def properties(name: str, start_unix_ns: int | None, values: Mapping[str, Any]) -> Iterator[Chunk]:
    """Yield the properties of a recording: its name and start as viewers show them, and ``values`` under ``gazed``."""
    with _strictly():
        start = None if start_unix_ns is None else [start_unix_ns]
        info = rr.archetypes.RecordingInfo.columns(name=[name], start_time=start)
        yield static("/__properties", info)
        yield Chunk.from_property("gazed", rr.AnyValues(**values))


def scalars(values: NDArray[np.float64], known: NDArray[np.bool_] | None = None) -> Columns:
    """Return numbers (n,), or (n, k) for k to a row; rows that are not ``known`` have none."""
    with _strictly():
        if known is not None:
            values = values[known]
        columns = rr.Scalars.columns(scalars=values.ravel())
        if known is None and values.ndim == 1:
            return columns
        count = values.shape[1] if values.ndim > 1 else 1
        rows = np.ones(len(values), np.int64) if known is None else known.astype(np.int64)
        return columns.partition(rows * count)


def points(positions: NDArray[np.float64], shown: NDArray[np.bool_]) -> Columns:
    """Return points (n, 2) in px, a row; rows that are not ``shown`` have none."""
    with _strictly():
        return rr.Points2D.columns(positions=positions[shown]).partition(shown.astype(np.int64))


def strips(lines: NDArray[np.float32], shown: NDArray[np.bool_]) -> Columns:
    """Return lines (n, points, 2) in px, a row; rows that are not ``shown`` have none."""
    with _strictly():
        return rr.LineStrips2D.columns(strips=lines[shown]).partition(shown.astype(np.int64))


def images(jpegs: Sequence[bytes]) -> Columns:
    """Return JPEGs, one a row."""
    with _strictly():
        return rr.EncodedImage.columns(blob=list(jpegs), media_type=["image/jpeg"] * len(jpegs))


def packets(samples: Sequence[bytes], keys: Sequence[bool]) -> Columns:
    """Return the packets of a video, one a row, and which of them are key frames."""
    with _strictly():
        return rr.VideoStream.columns(sample=list(samples), is_keyframe=list(keys))


def video_codec() -> Columns:
    """Return that a video is H.264, for ``static``."""
    with _strictly():
        return rr.VideoStream.columns(codec=[rr.VideoCodec.H264])


def texts(lines: Sequence[str], level: str = "INFO") -> Columns:
    """Return texts, one a row."""
    with _strictly():
        return rr.TextLog.columns(text=list(lines), level=[level] * len(lines))


def states(changes: Sequence[str | None]) -> Columns:
    """Return what begins with each row; ``None`` ends what was before."""
    with _strictly():
        known = [state for state in changes if state is not None]
        return rr.StateChange.columns(state=known).partition([state is not None for state in changes])


def datums(kind: str, columns: Mapping[str, NDArray[Any]]) -> Columns:
    """Return columns (n,) of numbers or texts as they are, under the name of an archetype such as ``gazed.Pupil``."""
    import pyarrow as pa

    with _strictly():
        arrays = {
            name: pa.array(column, pa.string() if column.dtype == object else None) for name, column in columns.items()
        }
        return rr.DynamicArchetype.columns(kind, components=arrays)


def series_style(names: Sequence[str], colors: Sequence[Color]) -> Columns:
    """Return what the lines of a plot are called, and their colours, for ``static``."""
    with _strictly():
        found = rr.SeriesLines.columns(names=list(names), colors=list(colors))
        return found.partition([len(names)])


def point_style(color: Color, radius_px: float) -> Columns:
    """Return how points look, for ``static``; the radius is in px of the screen."""
    with _strictly():
        return rr.Points2D.columns(colors=[color], radii=[-radius_px])


def ellipse_style(color: Color, width_px: float) -> Columns:
    """Return how lines look, for ``static``; the width is in px of the screen."""
    with _strictly():
        return rr.LineStrips2D.columns(colors=[color], radii=[-width_px / 2])


def state_style(colors: Mapping[str, Color]) -> Columns:
    """Return the colours of states, for ``static``."""
    with _strictly():
        found = rr.StateConfiguration.columns(values=list(colors), colors=list(colors.values()))
        return found.partition([len(colors)])


def write_chunks(path: Path, recording_id: str, chunks: Iterable[Chunk]) -> None:
    """Write a file, chunk by chunk.

    Raises:
        OSError: it cannot be written.
        Exception: what ``chunks`` raises.
    """
    raised: list[BaseException] = []

    def guarded() -> Iterator[Chunk]:
        try:
            yield from chunks
        except BaseException as error:
            raised.append(error)
            raise

    try:
        LazyChunkStream.from_iter(guarded()).write_rrd(path, application_id=APPLICATION, recording_id=recording_id)
    except RuntimeError as error:
        if raised:
            raise raised[0] from None
        raise _os_error(path, error) from error


def _os_error(path: Path, error: RuntimeError) -> OSError:
    """Return what the system said, which the SDK only tells in its text."""
    import os

    found = re.search(r"\(os error (\d+)\)", str(error))
    if found is None:
        return OSError(f"{path}: {error}")
    number = int(found.group(1))
    return OSError(number, os.strerror(number), str(path))


def read_ids(path: Path) -> tuple[str, str]:
    """Return the application and the recording of a file."""
    (entry,) = RrdReader(path).recordings()
    return entry.application_id, entry.recording_id


def read_chunks(path: str | Path, *, blueprint: bool = False) -> list[Chunk]:
    """Return the chunks of the recording in a file, or of its blueprint, as they were written."""
    reader = RrdReader(path)
    (entry,) = reader.blueprints() if blueprint else reader.recordings()
    chunks: list[Chunk] = reader.stream(store=entry).to_chunks()
    return chunks


class LiveRecording:
    """A recording that viewers watch while it grows: a server on this machine.

    ``url`` is what viewers connect to. One that comes late gets what was sent before, the newest 512 MB of it.
    """

    def __init__(self, recording_id: str, port: int, blueprint: Any) -> None:
        self.url = f"rerun+http://127.0.0.1:{port}/proxy"
        self._stream = rr.RecordingStream(APPLICATION, recording_id=recording_id, send_properties=False)
        sink = rr.GrpcServerSink("127.0.0.1", port, server_memory_limit="512MB")
        self._stream.set_sinks(sink, default_blueprint=blueprint)

    def send(self, chunks: Iterable[Chunk]) -> None:
        """Send chunks to where viewers get them, whether one watches or not.

        Raises:
            PluginError: the server has ended.
        """
        self._stream.send_chunks(chunks)
        try:
            self._stream.flush(timeout_sec=_PATIENCE_S)
        except (RuntimeError, ValueError) as error:
            raise PluginError(f"{self.url} takes no more data: {error}") from error

    def close(self) -> None:
        """End it, and the server."""
        self._stream.disconnect()


def give_back() -> None:
    """Let the SDK end the threads of streams that nobody uses any more; by itself it does so only here."""
    rr.init(APPLICATION, init_logging=False)


def _strictly() -> catch_and_log_exceptions:
    """Let what is wrong raise, where the SDK would only warn; in this block and thread."""
    return catch_and_log_exceptions(strict=True)
