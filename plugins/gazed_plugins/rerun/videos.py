"""The videos of a recording as chunks: JPEGs and H.264 as they were recorded, everything else as JPEGs made anew."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import av.error
import cv2
import numpy as np
from av.bitstream import BitStreamFilterContext
from numpy.typing import NDArray

from gazed_plugins.rerun import calls
from gazed_plugins.rerun.calls import Chunk, Columns, Times
from gazed_plugins.rerun.entities import image_entity
from gazed_recorder.errors import DamagedFile
from gazed_recorder.reading.video import Video

__all__ = ["video_chunks"]

When = Callable[[NDArray[np.float64]], Times]
"""From Pupil time in s to the places on all timelines."""
_CHUNK_BYTES = 2_000_000
_CHUNK_FRAMES = 256
_FINE = (cv2.IMWRITE_JPEG_QUALITY, 95)


def video_chunks(videos: Iterable[Video], when: When) -> Iterator[Chunk]:
    """Yield the frames of videos, some at a time and all videos side by side, so that a viewer can show the beginning.

    Raises (while iterating):
        DamagedFile: a file cannot be read, or ends before its timestamps do.
    """
    for _, chunk in heapq.merge(*(_chunks(video, when) for video in videos), key=lambda pair: pair[0]):
        yield chunk


def _chunks(video: Video, when: When) -> Iterator[tuple[float, Chunk]]:
    """Yield chunks and when each begins, Pupil time in s."""
    entity, done = image_entity(video.name), 0
    if _as_packets(video):
        yield -np.inf, calls.static(entity, calls.video_codec())
        batches = _batched(_packets(video), lambda rows: calls.packets(*zip(*rows, strict=True)))
    else:
        frames = ((jpeg, True) for jpeg in _jpegs(video))
        batches = _batched(frames, lambda rows: calls.images([jpeg for jpeg, _ in rows]))
    for count, columns in batches:
        timestamps = video.timestamps[done : done + count]
        yield float(timestamps[0]), calls.chunk(entity, when(timestamps), columns)
        done += count


def _batched(
    frames: Iterator[tuple[bytes, bool]], columns: Callable[[list[tuple[bytes, bool]]], Columns]
) -> Iterator[tuple[int, Columns]]:
    batch, size = list[tuple[bytes, bool]](), 0
    for frame in frames:
        batch.append(frame)
        size += len(frame[0])
        if size >= _CHUNK_BYTES or len(batch) == _CHUNK_FRAMES:
            yield len(batch), columns(batch)
            batch, size = [], 0
    if batch:
        yield len(batch), columns(batch)


def _as_packets(video: Video) -> bool:
    """Tell whether viewers take the packets: they cannot put frames in order."""
    if video.codec != "h264":
        return False
    with _opened(video.paths[0]) as (_, stream):
        return not stream.codec_context.has_b_frames


def _packets(video: Video) -> Iterator[tuple[bytes, bool]]:
    """Yield the packets, with start codes and with the parameters before each key frame, and which are key frames."""
    ends = [*video.starts[1:], len(video)]
    for path, start, end in zip(video.paths, video.starts, ends, strict=True):
        left = end - start
        with _opened(path) as (container, stream):
            marked = BitStreamFilterContext("h264_mp4toannexb", stream)
            for packet in container.demux(stream):
                for out in marked.filter(packet) if packet.size and left else ():
                    left -= 1
                    yield bytes(out), out.is_keyframe
        if left:
            raise DamagedFile(
                f"{path}: ends {left} frames before its timestamps do", hint=f"gazed repair {path.parent}"
            )


def _jpegs(video: Video) -> Iterator[bytes]:
    recorded = video.codec == "mjpeg"
    for frame in video:
        yield frame.jpeg if recorded else cv2.imencode(".jpg", frame.bgr, _FINE)[1].tobytes()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Yield a file and its video; what libav says of it becomes ``DamagedFile``."""
    try:
        with av.open(path) as container:
            yield container, container.streams.video[0]
    except (av.error.FFmpegError, IndexError) as error:
        raise DamagedFile(f"{path}: cannot be read: {error}") from error
