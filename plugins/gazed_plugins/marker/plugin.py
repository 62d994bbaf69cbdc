"""The plugin ``Circle_Detector``: circle markers in the images of the world camera, live."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

from gazed_bus.codec import Message
from gazed_bus.frame import frame_topic
from gazed_plugins.arguments import refuse_unknown
from gazed_plugins.errors import PluginError
from gazed_plugins.images import read_frame
from gazed_plugins.marker.circle import CircleDetector
from gazed_plugins.plugin import PluginContext

__all__ = ["MARKER_TOPIC", "CirclePlugin"]

MARKER_TOPIC = "marker.circle"
_FRAMES = frame_topic("world")
_TIMED_FRAMES = 300
_log = logging.getLogger(__name__)


class CirclePlugin:
    """Publishes the circle markers (Pupil's v0.4) that the world camera sees as ``marker.circle``.

    One message for each image, also where nothing was found: ``timestamp``, ``width`` and ``height`` of the image (px)
    and ``markers``, the largest first, each with ``kind`` (``Ref``, a target, or ``Stop``), ``norm_pos``,
    ``screen_pos`` (px from the top left) and ``size_px`` (diameter). While nobody subscribes to it, no image is asked
    for. It takes no arguments.
    """

    topics: tuple[str, ...] = ()
    gather_s = 0.0

    def __init__(self, context: PluginContext, args: Mapping[str, Any]) -> None:
        refuse_unknown("Circle_Detector", "argument", args, [])
        self._context = context
        self._detector = CircleDetector()
        self._listening = False
        self._frames = self._unreadable = self._found = 0
        self._took: deque[float] = deque(maxlen=_TIMED_FRAMES)

    def on_idle(self) -> None:
        """Ask for images while somebody listens."""
        wanted = self._context.has_subscribers(MARKER_TOPIC)
        if wanted and not self._listening:
            self._detector = CircleDetector()
            self._context.subscribe(_FRAMES, newest=1)
        elif self._listening and not wanted:
            self._context.unsubscribe(_FRAMES)
        self._listening = wanted

    def on_message(self, message: Message) -> None:
        """Search one image and publish what is in it."""
        if message.topic != _FRAMES or not self._listening:
            return
        start = time.perf_counter()
        self._frames += 1
        try:
            gray, timestamp = read_frame(message)
        except PluginError as error:
            self._unreadable += 1
            # A flood must not fill the log: 1, 2, 4, 8, …
            if self._unreadable & (self._unreadable - 1) == 0:
                _log.warning("Circle_Detector: %d images cannot be read: %s", self._unreadable, error)
            return
        markers = [
            {
                "norm_pos": list(marker.norm_pos),
                "screen_pos": list(marker.center),
                "kind": marker.kind,
                "size_px": 2 * marker.radius,
            }
            for marker in self._detector.detect(gray)
        ]
        height, width = gray.shape
        body = {"topic": MARKER_TOPIC, "timestamp": timestamp, "markers": markers, "width": width, "height": height}
        self._context.publish(MARKER_TOPIC, body)
        self._found += bool(markers)
        self._took.append(time.perf_counter() - start)

    def stats(self) -> dict[str, Any]:
        """Return counts, and the milliseconds from an image's bytes to its published markers."""
        return {
            "frames": self._frames,
            "unreadable": self._unreadable,
            "found": self._found,
            "ms_p50": round(1000 * median(self._took or [0.0]), 3),
        }

    def close(self) -> None:
        """Ask for no more images."""
        if self._listening:
            self._context.unsubscribe(_FRAMES)
            self._listening = False
