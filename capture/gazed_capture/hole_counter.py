"""Counting the frames that the kernel never heard of, by the holes that they leave between its stamps."""

from __future__ import annotations

from collections import deque
from statistics import median

__all__ = ["HoleCounter"]

_REMEMBERED = 15
_CONFIRMED_AFTER = 8
_PART = 0.6
_SLOWER = 1.4


class HoleCounter:
    """Gives each frame its number among all that the camera made since the first.

    A driver numbers what reaches it; a frame that is lost on the bus as a whole is not in its count. It leaves a hole
    of a period between the stamps, but so does a stamp that was taken late, which a busy kernel does. The two are told
    apart by what follows: after a late stamp the next ones come the sooner. A hole is therefore counted when seven more
    frames have not filled it, and the gap in the numbers stands there.

    A camera that exposes longer in the dark, and with it makes much fewer frames, is believed after some of them.

    Args:
        period_s: nominal time from frame to frame.
    """

    def __init__(self, period_s: float) -> None:
        self.missed = 0
        """Frames that were made and never handed out."""
        self._nominal = period_s
        self._steps = deque([period_s], _REMEMBERED)
        self._excess: deque[float] = deque(maxlen=_CONFIRMED_AFTER)
        self._index = self._sequence = self._counted = 0
        self._stamp: float | None = None

    def count(self, index: int, stamp_s: float | None) -> int:
        """Return the sequence number of a frame.

        Args:
            index: number that the driver gave it: 0 for the first that it made, and rising.
            stamp_s: the kernel's time in seconds; ``None`` if it gave none.
        """
        made = index - self._index
        lost = 0
        if stamp_s is not None and self._stamp is not None:
            lost = self._lost(stamp_s - self._stamp, made)
        self._index, self._stamp = index, stamp_s
        self._sequence += made + lost
        self._counted += 1
        self.missed = self._sequence + 1 - self._counted
        return self._sequence

    def _lost(self, step_s: float, made: int) -> int:
        """Return how many frames the oldest hole stands for that can be told now."""
        self._steps.append(step_s / made)
        usual = median(self._steps)
        period = usual if usual > _SLOWER * self._nominal else self._nominal
        self._excess.append(step_s - made * period)
        if len(self._excess) < _CONFIRMED_AFTER or self._excess[0] < _PART * period:
            return 0
        lasting = sum(self._excess)
        if lasting < _PART * period:
            return 0
        self._excess.clear()
        return round(lasting / period)
