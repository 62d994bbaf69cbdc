"""Videos as mp4 files in which each frame has the time that it was recorded at, to the microsecond.

Frames are never dropped, added or moved: a file has as many as its ``<stem>_timestamps.npy`` has rows, each at
``round((time - zero) * 1e6)`` in units of 1/1,000,000 s. That is read back before a file counts as written.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.errors import ExportError
from gazed_recorder.errors import DamagedFile
from gazed_recorder.reading.video import Video

__all__ = ["TIME_BASE", "Piece", "copies", "copy_packets", "pieces", "stamps_us", "write_mp4", "write_stamps"]

TIME_BASE = Fraction(1, 1_000_000)
# Readers take the time between two frames, 32 bits, for a signed number.
_LONGEST_GAP_US = 2**31 - 1
_LONE_FRAME_US = 33_333
# Times of whole tracks are kept in ms if nothing else is said; and no name of a library is in the file.
_OPTIONS = {"movie_timescale": "1000000", "fflags": "+bitexact"}

_log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Packets = Iterator["av.Packet[Any]"]
Begin = Callable[[av.container.OutputContainer], Packets]
"""Adds a stream to a file and returns its packets, in order."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The frames of a video, one part after the other, that go into one file."""

    stem: str
    start: int
    """The number of its first frame in the stream."""
    timestamps: Floats
    """(n,) Pupil time in s."""
    parts: tuple[tuple[Path, int], ...]
    """The recorded files, and how many frames of each."""


def pieces(video: Video, *, copied: bool, cut: bool = False) -> list[Piece]:
    """Return the frames of a video in as few files as possible.

    Parts go into one file if their images have the same size, their codec (where the packets are copied) is set up
    alike, and no more than 35 minutes lie between them. With ``cut``, a part that has fewer frames than timestamps
    ends with its last frame, as in Pupil Player; without, that is told when it is read.

    Raises:
        DamagedFile: a part cannot be read.
    """
    found: list[Piece] = []
    last: Any = None
    for path, start, end in zip(video.paths, video.starts, (*video.starts[1:], len(video)), strict=True):
        shape, frames = _described(path, copied=copied)
        if cut and 0 < frames < end - start:
            _log.warning("%s: has %d frames and %d timestamps, those in excess are left out", path, frames, end - start)
            end = start + frames
        if end == start:
            continue
        times = video.timestamps[start:end]
        joins = shape == last and (times[0] - found[-1].timestamps[-1]) * 1e6 <= _LONGEST_GAP_US
        if found and joins and found[-1].start + len(found[-1].timestamps) == start:
            before = found.pop()
            parts = (*before.parts, (path, end - start))
            found.append(Piece(before.stem, before.start, np.concatenate([before.timestamps, times]), parts))
        else:
            stem = f"{video.name}_{len(found):03d}" if found else video.name
            found.append(Piece(stem, start, times, ((path, end - start),)))
        last = shape
    return found


def _described(path: Path, *, copied: bool) -> tuple[tuple[Any, ...], int]:
    """Return what has to be alike for parts to be joined, and how many frames there are, 0 if that is not known."""
    with _reading(path), av.open(path) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        setup = (codec.name, bytes(codec.extradata or b"")) if copied else ()
        return (stream.width, stream.height, *setup), stream.frames


def copies(video: Video) -> bool:
    """Tell whether its packets can be copied as they are: shown in the order in which they are stored.

    Raises:
        DamagedFile: a part cannot be read.
    """
    for path in video.paths:
        with _reading(path), av.open(path) as container:
            codec = container.streams.video[0].codec_context
            if codec.name not in ("mjpeg", "h264", "mpeg4") or codec.has_b_frames:
                return False
    return True


def stamps_us(timestamps: Floats, zero: float) -> Ints:
    """Return the times of frames, (n,) Pupil time in s, in µs after ``zero``.

    Frames less than a microsecond apart are shown one microsecond apart.
    """
    number = np.arange(len(timestamps))
    exact = np.rint((timestamps - zero) * 1e6).astype(np.int64)
    return np.asarray(np.maximum.accumulate(exact - number) + number)


def write_stamps(folder: Path, stem: str, timestamps: Floats, us: Ints) -> None:
    """Write ``<stem>_timestamps.npy`` and ``<stem>_timestamps.csv``, as Pupil Player does.

    Raises:
        OSError: they cannot be written.
    """
    with (folder / f"{stem}_timestamps.npy").open("wb") as file:
        np.lib.format.write_array(file, np.asarray(timestamps, "<f8"), version=(1, 0))
    with (folder / f"{stem}_timestamps.csv").open("w", newline="") as text:
        text.write("# timestamps [seconds],pts\n")
        for first in range(0, len(us), 4096):
            rows = zip(timestamps[first : first + 4096].tolist(), us[first : first + 4096].tolist(), strict=True)
            text.write("".join(f"{time:f},{pts}\n" for time, pts in rows))


def copy_packets(piece: Piece, us: Ints) -> Begin:
    """Return what copies the packets of a piece as they were recorded; ``us`` (n,) are their times."""

    def begin(container: av.container.OutputContainer) -> Packets:
        path = piece.parts[0][0]
        with _reading(path), av.open(path) as source:
            stream = container.add_stream_from_template(source.streams.video[0])
        stream.time_base = TIME_BASE
        times = us.tolist()
        spans = [*np.diff(us).tolist(), _last_span(us)]

        def packets() -> Packets:
            for packet, pts, span in zip(_recorded(piece), times, spans, strict=True):
                packet.stream, packet.time_base = stream, TIME_BASE
                packet.pts = packet.dts = pts
                packet.duration = span
                yield packet

        return packets()

    return begin


def _last_span(us: Ints) -> int:
    # The mean of the others: OpenCV takes the mean rate to find frames by their number.
    return round(int(us[-1] - us[0]) / (len(us) - 1)) if len(us) > 1 else _LONE_FRAME_US


def _recorded(piece: Piece) -> Packets:
    for path, frames in piece.parts:
        count = 0
        with _reading(path), av.open(path) as source:
            packets = (packet for packet in source.demux(source.streams.video[0]) if packet.size)
            for packet in islice(packets, frames):
                count += 1
                yield packet
        if count < frames:
            raise DamagedFile(
                f"{path}: ends after {count} frames, there are {frames} timestamps",
                hint=f"gazed repair {path.parent}",
            )


def write_mp4(path: Path, us: Ints, begin: Begin, others: Iterable[Begin], advance: Callable[[int], None]) -> None:
    """Write a file and read it back.

    ``begin`` starts the video, ``others`` what goes along; ``us`` (n,) are the times that its frames have to have.
    ``advance`` is called with 1 for each of them.

    Raises:
        OSError: it cannot be written.
        DamagedFile: what was recorded cannot be read.
        ExportError: the file is not as it has to be.
    """
    with _writing(path), av.open(path, "w", format="mp4", options=_OPTIONS) as container:
        video = _told(begin(container), advance)
        rest = [other(container) for other in others]
        # The sound waits for its turn, so that little is in memory.
        for packet in heapq.merge(video, *rest, key=_seconds) if rest else video:
            container.mux_one(packet)
    found = _times(path)
    if not np.array_equal(found, us):
        raise ExportError(
            f"{path.name}: wanted {len(us)} frames at their times, read back {len(found)}",
            hint="this should not happen, please report it with the recording's manifest.json",
        )


def _told(packets: Packets, advance: Callable[[int], None]) -> Packets:
    for packet in packets:
        yield packet
        advance(1)


def _seconds(packet: av.Packet[Any]) -> float:
    return float((packet.dts or 0) * packet.time_base)


def _times(path: Path) -> Ints:
    with _reading(path), av.open(path) as container:
        stream = container.streams.video[0]
        times = [packet.pts for packet in container.demux(stream) if packet.size]
        if stream.time_base != TIME_BASE:
            return np.zeros(0, np.int64)
    return np.array(times, np.int64)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tell libav's failures to write as the system's own."""
    try:
        yield
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise DamagedFile(f"{path}: cannot be read: {error}") from error
