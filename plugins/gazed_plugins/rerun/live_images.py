"""Images from the bus as JPEGs, of each camera so many a second at most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

from gazed_bus.codec import Message
from gazed_bus.frame import AUDIO, is_stream_name
from gazed_plugins.arguments import is_number
from gazed_plugins.rerun import calls
from gazed_plugins.rerun.calls import Chunk, Times
from gazed_plugins.rerun.entities import image_entity
from gazed_recorder.encoder import Encoder
from gazed_recorder.refused import NotAnImage

__all__ = ["LiveImages"]

_TOPIC = "frame."
_LARGEST = 8192
_LATEST_S = 9e9
_ANY_RATE = 30.0  # JPEGs do not depend on it
# A camera of just the rate that is wanted must not lose images to its jitter.
_GRACE = 0.9


class LiveImages:
    """Gathers images; ``chunks`` makes chunks of those gathered since it was asked last.

    ``most_fps`` is what a stream may have a second. ``counts`` has how many were taken, by stream, ``thinned`` how many
    came too soon after another, ``unreadable`` how many were no images.
    """

    topics = (_TOPIC,)
    """What it takes, by prefix."""

    def __init__(self, most_fps: float) -> None:
        self.counts: dict[str, int] = {}
        self.thinned = 0
        self.unreadable = 0
        self.sizes: dict[str, tuple[int, int]] = {}
        """Width and height of the last image, by stream."""
        self._least_s = _GRACE / most_fps
        self._last: dict[str, float] = {}
        self._images: dict[str, list[tuple[float, bytes]]] = {}
        self._encoders: dict[str, tuple[tuple[str, int, int], Encoder]] = {}

    def take(self, message: Message) -> None:
        """Take a message ``frame.*``."""
        stream = message.topic.removeprefix(_TOPIC).replace("eye.", "eye")
        stamp = message.payload.get("timestamp")
        if not is_stream_name(stream) or stream == AUDIO or not is_number(stamp) or abs(stamp) > _LATEST_S:
            self.unreadable += 1
            return
        # Time may have been set back meanwhile.
        if 0 <= stamp - self._last.get(stream, float("-inf")) < self._least_s:
            self.thinned += 1
            return
        try:
            jpeg, size = self._jpeg(stream, message)
        except NotAnImage:
            self.unreadable += 1
            return
        self._last[stream] = stamp
        self.sizes[stream] = size
        self.counts[stream] = self.counts.get(stream, 0) + 1
        self._images.setdefault(stream, []).append((stamp, jpeg))

    def _jpeg(self, stream: str, message: Message) -> tuple[bytes, tuple[int, int]]:
        kind, width, height = (message.payload.get(name) for name in ("format", "width", "height"))
        if not message.raw or not _is_side(width) or not _is_side(height):
            raise NotAnImage(f"{message.topic}: no image, or one without a size")
        if kind == "jpeg":
            return message.raw[0], (width, height)
        if kind not in ("gray", "bgr", "yuv"):
            raise NotAnImage(f"{message.topic}: a format that is not known")
        form = kind, width, height
        known, encoder = self._encoders.get(stream, (None, None))
        if encoder is None or known != form:
            if encoder is not None:
                encoder.close()
            encoder = Encoder("jpeg", width, height, _ANY_RATE, kind)
            self._encoders[stream] = form, encoder
        return bytes(encoder.encode(message.raw[0])[0]), (width, height)

    def chunks(self) -> Iterator[Chunk]:
        """Yield what has come since the last time."""
        for stream, images in self._images.items():
            if images:
                times = Times(calls.to_ns([stamp for stamp, _ in images]))
                yield calls.chunk(image_entity(stream), times, calls.images([jpeg for _, jpeg in images]))
        self._images.clear()

    def close(self) -> None:
        """Let the encoders go."""
        for _, encoder in self._encoders.values():
            encoder.close()
        self._encoders.clear()


def _is_side(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 < value <= _LARGEST
