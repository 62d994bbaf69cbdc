"""Reading the images of a video, of ours or of Pupil Capture's, in order, by number or by time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, overload

import av
import av.error
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gazed_recorder.arrays import read_array
from gazed_recorder.datalog import STAMP_DTYPE
from gazed_recorder.errors import DamagedFile, RecorderError
from gazed_recorder.reading.correlate import nearest

__all__ = ["RecordedFrame", "Video"]


class RecordedFrame:
    """One frame of a video; its image is decoded when it is asked for."""

    def __init__(self, index: int, timestamp: float, source: str, packet: bytes, image: av.VideoFrame | None) -> None:
        self.index = index
        """Its number in the stream, from 0."""
        self.timestamp = timestamp
        """Pupil time in seconds."""
        self._source = source
        self._packet = packet
        self._image = image

    def __repr__(self) -> str:
        return f"RecordedFrame({self._source!r}, index={self.index}, timestamp={self.timestamp:.6f})"

    @property
    def jpeg(self) -> bytes:
        """The JPEG as the camera delivered it.

        Raises:
            RecorderError: the recording was made in another mode than ``jpeg``.
        """
        if not self._packet:
            raise RecorderError(f"{self._source} holds no JPEGs", hint="use .bgr or .gray")
        return self._packet

    @property
    def bgr(self) -> NDArray[np.uint8]:
        """The image, uint8 of shape (height, width, 3), channels blue, green, red.

        Raises:
            DamagedFile: it cannot be decoded.
        """
        return self._array("bgr24")

    @property
    def gray(self) -> NDArray[np.uint8]:
        """The brightness, uint8 of shape (height, width), black is 0 and white is 255.

        Raises:
            DamagedFile: it cannot be decoded.
        """
        return self._array("gray")

    @property
    def image(self) -> av.VideoFrame:
        """The image as libav decodes it, in the layout of pixels that it is stored in.

        Raises:
            DamagedFile: it cannot be decoded.
        """
        if self._image is None:
            try:
                self._image = av.VideoCodecContext.create("mjpeg", "r").decode(av.Packet(self._packet))[0]
            except (av.error.FFmpegError, IndexError) as error:
                raise DamagedFile(f"{self._source}: frame {self.index} cannot be decoded: {error}") from error
        return self._image

    def _array(self, layout: str) -> NDArray[np.uint8]:
        return np.asarray(self.image.to_ndarray(format=layout), np.uint8)


class Video(Sequence[RecordedFrame]):
    """One video of a recording, all its parts in order: a sequence of ``RecordedFrame``.

    ``video[10]`` is a frame, ``video[10:20]`` a list of frames, iterating goes through all.

    Raises:
        DamagedFile: its timestamps cannot be read.
    """

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        self.name = name
        """It is ``world``, ``eye0``, ``eye1``, …"""
        self.paths = tuple(paths)
        """Its files."""
        self._stamps = [read_array(path.with_name(f"{path.stem}_timestamps.npy"), STAMP_DTYPE) for path in paths]
        self.timestamps: NDArray[np.float64] = np.concatenate(self._stamps)
        """Pupil time in seconds of each frame, float64 of shape (n,)."""
        self.starts = tuple(accumulate((len(stamps) for stamps in self._stamps[:-1]), initial=0))
        """The number of the first frame of each of its files."""

    def __repr__(self) -> str:
        return f"<Video {self.name} of {len(self)} frames>"

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height in px of its first part.

        Raises:
            DamagedFile: it cannot be read.
        """
        return self._described[:2]

    @property
    def codec(self) -> str:
        """Name the codec of its first part, as FFmpeg does: ``mjpeg``, ``h264``, ``mpeg4``.

        Raises:
            DamagedFile: it cannot be read.
        """
        return self._described[2]

    @cached_property
    def _described(self) -> tuple[int, int, str]:
        try:
            with av.open(self.paths[0]) as container:
                video = container.streams.video[0]
                return video.width, video.height, video.codec_context.name
        except (av.error.FFmpegError, IndexError, ValueError) as error:
            raise DamagedFile(f"{self.paths[0]}: no video in it: {error}") from error

    def __len__(self) -> int:
        return len(self.timestamps)

    @overload
    def __getitem__(self, key: int) -> RecordedFrame: ...
    @overload
    def __getitem__(self, key: slice) -> list[RecordedFrame]: ...
    def __getitem__(self, key: int | slice) -> RecordedFrame | list[RecordedFrame]:
        """Return a frame by its number, negative ones count from the end; or those of a slice.

        Raises:
            IndexError: there is none of that number.
            DamagedFile: it cannot be read.
        """
        count = len(self)
        if isinstance(key, slice):
            wanted = range(count)[key]
            if not wanted:
                return []
            first, last = min(wanted), max(wanted)
            found = {
                frame.index: frame for frame in islice(self.frames(first), last - first + 1) if frame.index in wanted
            }
            return [found[index] for index in wanted]
        if not -count <= key < count:
            raise IndexError(f"{self.paths[0].parent}: {self.name} has {count} frames, none of number {key}")
        return next(self.frames(key % count))

    def __iter__(self) -> Iterator[RecordedFrame]:
        return self.frames()

    def frames(self, start: int = 0) -> Iterator[RecordedFrame]:
        """Iterate over the frames from number ``start`` on.

        Raises (while iterating):
            DamagedFile: a file cannot be read, or ends before its timestamps do.
        """
        first = 0
        for path, stamps in zip(self.paths, self._stamps, strict=True):
            if start < first + len(stamps):
                yield from _VideoFile(path, first, stamps).frames(max(0, start - first))
            first += len(stamps)

    def nearest(self, timestamps: ArrayLike) -> NDArray[np.int64]:
        """Return the numbers of the frames nearest to Pupil times in seconds, int64 of the same shape.

        Raises:
            IndexError: there are no frames.
        """
        if not len(self):
            raise IndexError(f"{self.paths[0].parent}: {self.name} has no frames")
        return np.asarray(nearest(np.asarray(timestamps, np.float64), self.timestamps))

    def at(self, timestamp: float) -> RecordedFrame:
        """Return the frame nearest to a Pupil time in seconds.

        Raises:
            IndexError, DamagedFile: as for a number.
        """
        return self[int(self.nearest(timestamp))]


class _VideoFile:
    """One file. Opens it for each call, so that nothing has to be closed.

    ``first`` is the number of its first frame in the stream, ``timestamps`` (n,) are Pupil time in seconds.
    """

    def __init__(self, path: Path, first: int, timestamps: NDArray[np.float64]) -> None:
        self._path = path
        self._first = first
        self._timestamps = timestamps

    def frames(self, start: int = 0) -> Iterator[RecordedFrame]:
        """Iterate from frame number ``start`` of this file to its last.

        Raises (while iterating):
            DamagedFile: the file cannot be read, or ends before its timestamps do.
        """
        position = start
        try:
            with av.open(self._path) as container:
                video = container.streams.video[0]
                video.thread_type = "AUTO"
                position = _seek(container, video, start)
                images = (
                    _packets(container, video) if video.codec_context.name == "mjpeg" else _decoded(container, video)
                )
                for packet, image in images:
                    if position >= len(self._timestamps):
                        return
                    if position >= start:
                        timestamp = float(self._timestamps[position])
                        yield RecordedFrame(self._first + position, timestamp, str(self._path), packet, image)
                    position += 1
        except (av.error.FFmpegError, IndexError, ValueError) as error:
            raise DamagedFile(f"{self._path}: cannot be read at frame {position}: {error}") from error
        if position < len(self._timestamps):
            raise DamagedFile(
                f"{self._path}: ends after {position} frames, there are {len(self._timestamps)} timestamps",
                hint=f"gazed repair {self._path.parent}",
            )


def _packets(container: Any, video: Any) -> Iterator[tuple[bytes, None]]:
    for packet in container.demux(video):
        if packet.size:
            yield bytes(packet), None


def _decoded(container: Any, video: Any) -> Iterator[tuple[bytes, av.VideoFrame]]:
    for image in container.decode(video):
        yield b"", image


def _seek(container: Any, video: Any, number: int) -> int:
    """Go to the last key frame at or before frame ``number``; return its number. A file without index starts at 0."""
    entries = video.index_entries
    if not 0 < number < len(entries):
        return 0
    key = number
    while key and not entries[key].is_keyframe:
        key -= 1
    container.seek(entries[key].timestamp, stream=video, backward=True)
    return key
