"""Videos as camera frames: one JPEG after the other, of anything PyAV opens, without ever holding the whole video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from gazed_capture.errors import SourceError

__all__ = ["Picture", "VideoReader"]

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_FINEST = 2
"""The best quantiser of libavcodec's MJPEG encoder that every decoder accepts."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a video, not yet turned into a JPEG."""

    index: int
    """Position in the video; damaged images count too."""
    seconds: float
    """Presentation time as the container has it."""
    data: bytes | av.VideoFrame
    """A JPEG as it lies in the file, or a decoded image."""


class VideoReader:
    """One video, read forward once; a context manager.

    MJPEG packets are handed on untouched. Other codecs are decoded and encoded again as JPEG of the finest quality, in
    the colour subsampling of the video (4:2:0 or 4:2:2).

    Raises:
        SourceError: the file holds no video that can be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            # An absolute path, so that libav never takes a name with a colon for an address. Read without an index,
            # a file is taken as it comes, and one that is torn inside a box header opens as well.
            self._container = av.open(str(path.absolute()), options={"fflags": "+ignidx"}, metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            raise SourceError(
                f"{path} cannot be opened as a video: {error.strerror}",
                hint="a recording that was cut off can be completed with: gazed repair",
            ) from error
        readable = [stream for stream in self._container.streams.video if stream.codec_context is not None]
        if not readable:
            self.close()
            raise SourceError(f"{path} holds no video stream of a known codec")
        self._stream = readable[0]
        codec = self._stream.codec_context
        codec.thread_count = 1
        self.width, self.height = codec.width, codec.height
        if not self.width or not self.height:
            self.close()
            raise SourceError(f"{path}: the video says nothing of its size")
        self.fps = float(self._stream.average_rate or self._stream.guessed_rate or 30)
        """Nominal frames per second, as the container has it."""
        self.passes_jpeg = codec.name == "mjpeg"
        self.count = 0
        """Images met so far, the damaged ones included."""
        self.damaged = 0
        self.torn = ""
        """Why reading ended before the end of the file; empty if it did not."""
        self._encoder: VideoCodecContext | None = None

    def pictures(self) -> Iterator[Picture]:
        """Yield the images in order of presentation. Damaged ones are left out, counted in ``damaged``."""
        try:
            for packet in self._container.demux(self._stream):
                yield from self._whole(packet) if self.passes_jpeg else self._decoded(packet)
        except (av.FFmpegError, OSError) as error:
            self.torn = str(error)

    def _whole(self, packet: av.Packet[VideoStream]) -> Iterator[Picture]:
        if packet.size == 0:
            return
        index, self.count = self.count, self.count + 1
        data = bytes(packet)
        # Cameras pad their images, so the end need not be the last two bytes; cut data has none.
        if packet.is_corrupt or not data.startswith(_JPEG_START) or data.rfind(_JPEG_END) < 0:
            self.damaged += 1
        else:
            yield Picture(index, self._seconds(packet.pts, index), data)

    def _decoded(self, packet: av.Packet[VideoStream]) -> Iterator[Picture]:
        try:
            frames = self._stream.codec_context.decode(packet)
        except av.FFmpegError:
            self.count += 1
            self.damaged += 1
            return
        for frame in frames:
            index, self.count = self.count, self.count + 1
            if frame.is_corrupt:
                self.damaged += 1
            else:
                yield Picture(index, self._seconds(frame.pts, index), frame)

    def _seconds(self, pts: int | None, index: int) -> float:
        # Bare streams (.h264, .mjpeg) carry no times.
        if pts is None or self._stream.time_base is None:
            return index / self.fps
        return float(pts * self._stream.time_base)

    def jpeg(self, picture: Picture) -> bytes:
        """Return the image as a JPEG of ``width`` x ``height``."""
        if isinstance(picture.data, bytes):
            return picture.data
        frame = picture.data
        if self._encoder is None:
            self._encoder = self._make_encoder("yuvj420p" if "420" in frame.format.name else "yuvj422p")
        image = frame.reformat(self.width, self.height, self._encoder.pix_fmt)
        image.pts, image.time_base = picture.index, self._encoder.time_base
        return b"".join(bytes(packet) for packet in self._encoder.encode(image))

    def _make_encoder(self, pixels: str) -> VideoCodecContext:
        encoder = VideoCodecContext.create("mjpeg", "w")
        assert isinstance(encoder, VideoCodecContext)  # noqa: S101 - mjpeg is a video codec
        encoder.width, encoder.height, encoder.pix_fmt = self.width, self.height, pixels
        encoder.time_base = Fraction(1, 1000)
        encoder.qmin = encoder.qmax = _FINEST
        # Frame threads would hold images back.
        encoder.thread_count = 1
        return encoder

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
