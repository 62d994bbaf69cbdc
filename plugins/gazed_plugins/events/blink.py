"""The plugin ``Blink_Detection``: the confidence of the pupil detection falls, and rises again.

A step slides over the confidence: half the window counts positive, half negative. The response, relative to an activity
of 0.45, is positive where the eye closes (onset) and negative where it opens (offset). Source: Pupil Core's blink
detector.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

from gazed_bus.codec import Message
from gazed_plugins.arguments import is_number, read_numbers
from gazed_plugins.plugin import PluginContext

__all__ = ["ACTIVITY", "HISTORY_S", "THRESHOLD", "BlinkDetection"]

HISTORY_S = 0.2
THRESHOLD = 0.5
ACTIVITY = 0.45
_EVERY_S = 1 / 30
_MOST = 10_000  # datums of one window: time may stand still
_ARGUMENTS = {
    "history_length": (HISTORY_S, 0.02, 5.0),
    "onset_confidence_threshold": (THRESHOLD, 0.0, 1.0),
    "offset_confidence_threshold": (THRESHOLD, 0.0, 1.0),
}
_log = logging.getLogger(__name__)


class BlinkDetection:
    """Publishes ``blinks``: an ``onset`` while the lids close, an ``offset`` while they open.

    An event is published at once and, while it lasts, again 30 times a second, as Pupil Capture does with every world
    image. ``confidence`` is the response, at most 1; ``base_data`` the 2D pupil datums of the window, of both eyes, and
    ``timestamp`` that of the middle one.

    Arguments: ``history_length`` (s, 0.2), ``onset_confidence_threshold`` and ``offset_confidence_threshold`` (0.5).
    """

    topics: tuple[str, ...] = ("pupil.",)
    gather_s = 0.02

    def __init__(self, context: PluginContext, args: Mapping[str, Any]) -> None:
        numbers = read_numbers("Blink_Detection", args, _ARGUMENTS)
        self._length_s = numbers["history_length"]
        self._onset, self._offset = numbers["onset_confidence_threshold"], numbers["offset_confidence_threshold"]
        self._context = context
        self._history: deque[dict[str, Any]] = deque(maxlen=_MOST)
        self._last_kind = ""
        self._last_at = 0.0
        self._counts = {"onset": 0, "offset": 0}
        self._unreadable = 0

    def on_message(self, message: Message) -> None:
        """Take one pupil datum."""
        if "2d" not in message.topic:
            return
        datum = message.payload
        if not (is_number(datum.get("timestamp")) and is_number(datum.get("confidence"))):
            self._unreadable += 1
            return
        history, now = self._history, datum["timestamp"]
        # The datums of two eyes overtake each other by some milliseconds; that is no step of the clock. What came from
        # far in the future goes as soon as the present is heard of again: behind it, nothing would ever leave.
        if history and now < max(history[0]["timestamp"], history[-1]["timestamp"] - self._length_s):
            _log.warning("Blink_Detection: time went back by %.3f s, it begins anew", history[-1]["timestamp"] - now)
            history.clear()
            self._last_kind = ""
        history.append(datum)
        while len(history) > 2 and history[1]["timestamp"] < now - self._length_s:
            history.popleft()
        if len(history) >= 2 and now - history[0]["timestamp"] >= self._length_s:
            self._judge(now)

    def _judge(self, now: float) -> None:
        response = self._response()
        kind = "onset" if response > self._onset else "offset" if response < -self._offset else ""
        if kind and (kind != self._last_kind or now - self._last_at >= _EVERY_S):
            self._last_at = now
            self._counts[kind] += 1
            datum = {
                "topic": "blinks",
                "type": kind,
                "confidence": min(abs(response), 1.0),
                "base_data": list(self._history),
                "timestamp": self._history[len(self._history) // 2]["timestamp"],
                "record": True,
            }
            self._context.publish("blinks", datum)
        self._last_kind = kind

    def _response(self) -> float:
        values = [datum["confidence"] for datum in self._history]
        count = len(values)
        # The middle one of an odd number counts for neither half.
        return float((sum(values[: count // 2]) - sum(values[(count + 1) // 2 :])) / count / ACTIVITY)

    def on_idle(self) -> None:
        """Nothing is due without a datum."""

    def stats(self) -> dict[str, Any]:
        """Return how many events were published, and how many datums could not be read."""
        return {**self._counts, "unreadable": self._unreadable}

    def close(self) -> None:
        """Nothing is to be given back."""
