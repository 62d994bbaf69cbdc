"""The plugin ``Frame_Publisher``: camera images on the bus in formats that the cameras do not deliver.

Cameras publish their own JPEG themselves. When another format is wanted they publish it under ``camera.<stream>``
instead, and this plugin turns it into what is wanted under ``frame.<…>``. Source of the format: Pupil Core's Frame
Publisher: a map with topic, width, height, index, timestamp and format, and one raw frame.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gazed_bus.codec import Message
from gazed_bus.frame import frame_topic
from gazed_plugins.arguments import refuse_unknown, shown
from gazed_plugins.errors import PluginArgument, PluginError
from gazed_plugins.plugin import PluginContext

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

__all__ = ["FramePublisher"]

_FORMATS = ("jpeg", "bgr", "gray", "yuv")
_STREAMS = ("world", *(f"eye{number}" for number in range(10)))
_PREFIX = "camera."
_log = logging.getLogger(__name__)


class FramePublisher:
    """Publishes the images of all cameras as ``frame.world``, ``frame.eye.0`` and ``frame.eye.1``.

    Argument ``format``: ``jpeg`` (default: as the cameras deliver, nothing to do), ``bgr`` (height x width x 3 bytes),
    ``gray`` (height x width bytes) or ``yuv`` (the planes Y, U and V one after the other, in the subsampling of the
    camera; only Y for a gray camera). Streams that nobody subscribes to cost nothing, neither here nor in the camera.
    """

    topics: tuple[str, ...] = ()
    gather_s = 0.0

    def __init__(self, context: PluginContext, args: Mapping[str, Any]) -> None:
        refuse_unknown("Frame_Publisher", "argument", args, ["format"])
        self._format: str = args.get("format", "jpeg")
        if self._format not in _FORMATS:
            raise PluginArgument(f"Frame_Publisher: format is one of {', '.join(_FORMATS)}, got {shown(self._format)}")
        self._context = context
        self._wanted: set[str] = set()
        self._published = self._unreadable = 0
        self._decoders: dict[str, VideoCodecContext] = {}

    def on_idle(self) -> None:
        """Ask the cameras for those streams that somebody listens to."""
        if self._format == "jpeg":
            return
        wanted = {stream for stream in _STREAMS if self._context.has_subscribers(frame_topic(stream))}
        for stream in wanted - self._wanted:
            self._context.subscribe(_PREFIX + stream)
        for stream in self._wanted - wanted:
            self._context.unsubscribe(_PREFIX + stream)
        self._wanted = wanted

    def on_message(self, message: Message) -> None:
        """Decode one camera image and publish it."""
        stream = message.topic.removeprefix(_PREFIX)
        if stream not in self._wanted:
            return
        topic = frame_topic(stream)
        try:
            height, width, data = self._convert(stream, message)
            payload = {
                "topic": topic,
                "width": width,
                "height": height,
                "index": message.payload["index"],
                "timestamp": message.payload["timestamp"],
                "format": self._format,
                "__raw_data__": [data],
            }
        except (PluginError, KeyError) as error:
            if not self._unreadable:
                _log.warning("Frame_Publisher: %s cannot be published as %s: %s", stream, self._format, error)
            self._unreadable += 1
            return
        self._context.publish(topic, payload)
        self._published += 1

    def _convert(self, stream: str, message: Message) -> tuple[int, int, bytes]:
        """Return (height, width, bytes) of the image in the wanted format.

        Raises:
            PluginError: the image is damaged, or of a format that cannot be turned into the wanted one.
        """
        source, data = message.payload.get("format"), message.raw[0] if message.raw else b""
        # To libav an empty packet would be the end of the stream.
        if source == "jpeg" and self._format == "yuv" and data:
            return self._planes(stream, data)
        from gazed_plugins.images import bgr_jpeg, gray_image, gray_jpeg

        if source == "jpeg":
            image = gray_jpeg(data) if self._format == "gray" else bgr_jpeg(data)
        elif source == "gray":
            image = gray_image(message)
            if self._format == "bgr":
                image = np.repeat(image[..., None], 3, axis=2)
        else:
            raise PluginError(f"an image of the format {shown(source)}: wanted jpeg or gray")
        return image.shape[0], image.shape[1], image.tobytes()

    def _planes(self, stream: str, jpeg: bytes) -> tuple[int, int, bytes]:
        import av
        from av.video.codeccontext import VideoCodecContext

        if stream not in self._decoders:
            decoder = VideoCodecContext.create("mjpeg", "r")
            # Threads of the decoder would hold frames back.
            decoder.thread_count = 1
            self._decoders[stream] = decoder
        try:
            frames = self._decoders[stream].decode(av.Packet(jpeg))
        except av.FFmpegError as error:
            raise PluginError(f"a damaged JPEG: {error}") from error
        if not frames:
            raise PluginError("a damaged JPEG")
        frame = frames[0]
        planes = []
        for plane in frame.planes:
            # libav pads its lines.
            lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            planes.append(lines[: plane.height, : plane.width].tobytes())
        return frame.height, frame.width, b"".join(planes)

    def stats(self) -> dict[str, Any]:
        """Return how many images went out and how many could not be read."""
        return {"published": self._published, "unreadable": self._unreadable}

    def close(self) -> None:
        """Ask the cameras for nothing any more."""
        for stream in self._wanted:
            self._context.unsubscribe(_PREFIX + stream)
        self._wanted = set()
