"""Images that are not stored as they came, encoded in a thread of their own.

JPEGs become H.264 or MPEG-4, for a smaller file; images that are no JPEG become one, or H.264 or MPEG-4 as well.

Every frame becomes one packet at once (no B-frames, no look-ahead), so that what is on disk trails the camera by the
queue alone. Libav lets go of the interpreter while it works: the caller is not slowed.
"""

from __future__ import annotations

import io
import queue
import threading
from pathlib import Path
from typing import cast

import av
import av.error
from av.video.frame import PictureType

from gazed_bus.frame import PayloadFormat
from gazed_recorder.images import ImageReader
from gazed_recorder.manifest import Mode
from gazed_recorder.mp4_boxes import Track, sample_description
from gazed_recorder.part import TrackPart
from gazed_recorder.records import FrameRecord
from gazed_recorder.refused import EncoderBehind, FrameRefused, NotAnImage, NotIncreasing

__all__ = ["EncodedPart", "Encoder"]

_LEAST_QUEUE = 64
_QUEUE_S = 2
_CRF = "20"
_QSCALE = {"mpeg4": 4, "jpeg": 2}
_CODECS = {"jpeg": "mjpeg", "h264": "libx264", "mpeg4": "mpeg4"}


class Encoder:
    """Turns one image after the other into packets of ``track``. Use it from one thread."""

    def __init__(self, mode: Mode, width: int, height: int, fps: float, kind: PayloadFormat = "jpeg") -> None:
        """Make an encoder of images of ``width`` x ``height`` pixels that come as ``kind``.

        The mode ``jpeg`` makes JPEGs of the finest usual quality: 4:2:2, of gray images 4:2:0 without any colour. H.264
        and MPEG-4 get a key frame about every second.

        Raises:
            NotAnImage: the codec takes no images of this size.
        """
        self._images = ImageReader(kind, width, height)
        self._range = "JPEG" if mode == "jpeg" else "MPEG"
        self._pixels = "yuv420p" if mode != "jpeg" else "yuvj420p" if kind == "gray" else "yuvj422p"
        rate = max(1, round(fps))
        header = io.BytesIO()
        # Libav's muxer writes no frame: it shapes the encoder for mp4 and describes the codec in its header.
        self._container = av.open(header, "w", format="mp4", options={"movflags": "empty_moov"})
        options = {"g": str(rate)}
        if mode == "h264":
            # Without start codes, packets are what mp4 stores.
            options |= {"preset": "ultrafast", "tune": "zerolatency", "crf": _CRF, "x264-params": "annexb=0"}
        stream = cast(av.VideoStream, self._container.add_stream(_CODECS[mode], rate, options=options))
        self._encoder = stream.codec_context
        self._encoder.width, self._encoder.height, self._encoder.pix_fmt = width, height, self._pixels
        self._encoder.max_b_frames = 0
        self._encoder.thread_count = 1
        if mode in _QSCALE:
            self._encoder.qmin = self._encoder.qmax = _QSCALE[mode]
        try:
            self._container.start_encoding()
        except av.error.FFmpegError as error:
            self._container.close()
            raise NotAnImage(
                f"images of {width}x{height}: {_CODECS[mode]} takes none of this size: {error.strerror}",
                hint="choose another size of the camera's images, or record in mode jpeg",
            ) from error
        self.track = Track("mjpeg" if mode == "jpeg" else mode, width, height, sample_description(header.getvalue()))
        self._count = 0

    def encode(self, payload: bytes | memoryview) -> tuple[memoryview, bool]:
        """Return the packet of an image and whether it is a key frame.

        Raises:
            NotAnImage: it cannot be decoded, or has another size; the stream goes on without it.
        """
        # A JPEG uses the whole range of brightness; a video that does not say so is shown with too much contrast.
        image = self._images.read(payload).reformat(format=self._pixels, dst_color_range=self._range)
        # A decoded JPEG is marked as an I picture: x264 would make every frame a key frame.
        image.pict_type = PictureType.NONE
        image.time_base, image.pts = self._encoder.time_base, self._count
        self._count += 1
        [packet] = self._encoder.encode(image)
        return memoryview(packet), packet.is_keyframe

    def close(self) -> None:
        """Let the encoder go."""
        self._container.close()


class EncodedPart:
    """A part like ``TrackPart``, filled by a thread that encodes: a frame is on disk some time after ``write``.

    Frames are settled in order: what was captured up to ``last_captured_ns`` is on disk or counted in ``dropped``.
    """

    def __init__(
        self, folder: Path, stem: str, mode: Mode, width: int, height: int, fps: float, kind: PayloadFormat = "jpeg"
    ) -> None:
        """Create the files as ``TrackPart`` does; the queue holds two seconds, 64 frames at least.

        Raises:
            NotAnImage: as ``Encoder``.
            FileExistsError, OSError: as ``TrackPart``.
        """
        self.stem = stem
        self.dropped: dict[str, int] = {}
        """Frames that were taken and then could not be written, by reason."""
        self.last_captured_ns = 0
        self._encoder = Encoder(mode, width, height, fps, kind)
        self._part = TrackPart(folder, stem, self._encoder.track)
        self._queue: queue.Queue[tuple[FrameRecord, bytes | memoryview] | None]
        self._queue = queue.Queue(max(_LEAST_QUEUE, round(fps * _QUEUE_S)))
        self._newest: float | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"encode-{stem}", daemon=True)
        self._thread.start()

    def write(self, record: FrameRecord, payload: bytes | memoryview) -> None:
        """Take an image as it came; it is not copied and must not change.

        Raises:
            FrameRefused: the frame cannot go into this file, or the encoder is behind; ``code`` tells which.
            OSError: an earlier frame could not be written; nothing is taken any more.
        """
        if self._error:
            raise self._error
        if self._newest is not None and not record.timestamp > self._newest:
            raise NotIncreasing(
                f"{self.stem}: a frame at {record.timestamp!r} s cannot follow one at {self._newest!r} s",
                hint="check the clock of the source",
            )
        try:
            self._queue.put_nowait((record, payload))
        except queue.Full:
            raise EncoderBehind(
                f"{self.stem}: {self._queue.qsize()} frames wait for the encoder, which is the most it takes",
                hint="record the camera's own JPEGs (mode jpeg), or lower the frame rate",
            ) from None
        self._newest = record.timestamp

    def sync(self) -> None:
        """Return when every frame encoded so far is on the disk."""
        self._part.sync()

    def close(self) -> None:
        """Encode what waits and finish the files, as ``TrackPart.close`` does. Closing twice is harmless."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
            self._encoder.close()
        self._part.close()

    @property
    def backlog(self) -> int:
        """Frames that wait for the encoder."""
        return self._queue.qsize()

    @property
    def frames(self) -> int:
        """Frames in the files."""
        return self._part.frames

    @property
    def size(self) -> int:
        """Bytes of the mp4."""
        return self._part.size

    @property
    def first(self) -> float | None:
        """Time of the first frame in the files, seconds."""
        return self._part.first

    @property
    def last(self) -> float | None:
        """Time of the last frame in the files, seconds."""
        return self._part.last

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            record, image = item
            reason = "disk"
            try:
                if self._error is None:
                    packet, key = self._encoder.encode(image)
                    self._part.write(record, packet, key)
                    reason = ""
            except FrameRefused as error:
                reason = error.code
            except Exception as error:  # noqa: BLE001 - whatever it is, the next write raises it
                self._error = error
            if reason:
                # A new dict, since the caller's thread may be walking through the old one.
                self.dropped = {**self.dropped, reason: self.dropped.get(reason, 0) + 1}
            self.last_captured_ns = record.captured_ns
