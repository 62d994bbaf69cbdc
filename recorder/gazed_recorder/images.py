"""Images as they come from a camera, decoded for an encoder."""

from __future__ import annotations

from typing import cast

import av
import av.error
import numpy as np
from av.video.reformatter import ColorRange

from gazed_bus.frame import PayloadFormat
from gazed_recorder.refused import NotAnImage

__all__ = ["ImageReader"]

_PIXELS = {"gray": "gray", "bgr": "bgr24", "yuv": "yuvj422p"}


class ImageReader:
    """Reads images of one size and one format. Use it from one thread."""

    def __init__(self, kind: PayloadFormat, width: int, height: int) -> None:
        self._kind = kind
        self._width, self._height = width, height
        self._wanted = f"{'JPEG' if kind == 'jpeg' else kind} of {width}x{height}"
        half = (width + 1) // 2
        self._rows = {"gray": (width,), "bgr": (3 * width,), "yuv": (width, half, half)}.get(kind, ())
        self._decoder = av.VideoCodecContext.create("mjpeg", "r")
        self._decoder.thread_count = 1

    def read(self, payload: bytes | memoryview) -> av.VideoFrame:
        """Return the image, whose samples use the whole range of 0 to 255.

        Raises:
            NotAnImage: it cannot be decoded, or has another size; the next one may be in order.
        """
        return self._decode(payload) if self._kind == "jpeg" else self._copy(payload)

    def _decode(self, jpeg: bytes | memoryview) -> av.VideoFrame:
        # To libav an empty packet is the end of the stream.
        if not len(jpeg):
            raise NotAnImage(f"a frame without bytes: wanted a {self._wanted}")
        try:
            images = self._decoder.decode(av.Packet(cast(bytes, jpeg)))
        except av.error.FFmpegError as error:
            raise NotAnImage(f"a frame of {len(jpeg)} bytes is no {self._wanted}: {error.strerror}") from error
        if not images or (images[0].width, images[0].height) != (self._width, self._height):
            found = f"{images[0].width}x{images[0].height}" if images else "no image"
            raise NotAnImage(f"a frame of {len(jpeg)} bytes: wanted a {self._wanted}, found {found}")
        return images[0]

    def _copy(self, samples: bytes | memoryview) -> av.VideoFrame:
        size = self._height * sum(self._rows)
        if not size or len(samples) != size:
            raise NotAnImage(
                f"a frame of {len(samples)} bytes: a {self._wanted} has {size}",
                hint="this is a mistake in the source of the images",
            )
        image = av.VideoFrame(self._width, self._height, _PIXELS[self._kind])
        image.color_range = ColorRange.JPEG
        at = 0
        for plane, row in zip(image.planes, self._rows, strict=True):
            end = at + self._height * row
            # Libav's rows may be longer than the image is wide.
            to = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            to[: self._height, :row] = np.frombuffer(samples[at:end], np.uint8).reshape(self._height, row)
            at = end
        # Libav's direct way from BGR to 4:2:0 makes images darker.
        return image.reformat(format="yuvj422p") if self._kind == "bgr" else image
