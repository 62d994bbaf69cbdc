"""Reading the images of one video file, of ours or of Pupil Capture's, in order or by number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from gazed_recorder.errors import DamagedFile, RecorderError

__all__ = ["RecordedFrame", "VideoReader"]


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

    def _array(self, layout: str) -> NDArray[np.uint8]:
        if self._image is None:
            try:
                self._image = av.VideoCodecContext.create("mjpeg", "r").decode(av.Packet(self._packet))[0]
            except (av.error.FFmpegError, IndexError) as error:
                raise DamagedFile(f"{self._source}: frame {self.index} cannot be decoded: {error}") from error
        return np.asarray(self._image.to_ndarray(format=layout), np.uint8)


class VideoReader:
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
