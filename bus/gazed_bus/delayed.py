"""Delayed notifications: kept until they are due, one for each subject."""

from __future__ import annotations

import math
from typing import Any

from gazed_bus.codec import Message
from gazed_bus.errors import MessageError

__all__ = ["DelayedNotifications"]

_MAX_WAITING = 1000
_MAX_DELAY_S = 7 * 86400.0


class DelayedNotifications:
    """Notifications that wait. A new one of the same subject replaces the old one and starts its delay again.

    Times are seconds of one monotonic clock, given by the caller.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[float, dict[str, Any]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: Message, now: float) -> None:
        """Keep the notification of a ``delayed_notify.`` message for the seconds in its ``delay``.

        Raises:
            MessageError: no subject, no sensible delay, or too many are waiting already.
        """
        notification = dict(message.payload)
        subject, delay = notification.get("subject"), notification.pop("delay", None)
        if not isinstance(subject, str) or not subject:
            raise MessageError(f"{message.topic}: a delayed notification needs a subject")
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not math.isfinite(delay):
            raise MessageError(f"{message.topic}: delay must be a number of seconds, got {delay!r}")
        if not 0 <= delay <= _MAX_DELAY_S:
            raise MessageError(f"{message.topic}: delay must be within 0 and {_MAX_DELAY_S:.0f} s, got {delay!r}")
        if subject not in self._waiting and len(self._waiting) >= _MAX_WAITING:
            raise MessageError(f"{message.topic}: {_MAX_WAITING} delayed notifications are waiting already")
        if message.raw:
            notification["__raw_data__"] = message.raw
        self._waiting[subject] = (now + delay, notification)

    def take_due(self, now: float) -> list[dict[str, Any]]:
        """Take out what is due, in the order in which it fell due, ready to be sent as plain notifications."""
        due = sorted((item for item in self._waiting.items() if item[1][0] <= now), key=lambda item: item[1][0])
        return [self._waiting.pop(subject)[1] for subject, _ in due]

    def next_due(self) -> float | None:
        """Return when the next one falls due, if any waits."""
        return min((due for due, _ in self._waiting.values()), default=None)
