"""Counting the frames a camera made, also those that its driver never heard of."""

from __future__ import annotations

from collections import deque
from statistics import median

from gazed_timesync import HostNs

__all__ = ["FrameCounter"]

_REMEMBERED = 15
_DRIFT = 200e-6


class FrameCounter:
    """Gives each frame its number among all that the camera made since the first.

    A driver numbers what reached it. A frame that was never sent, or lost on the bus as a whole, shows only as a hole
    of a frame period or more between the camera's stamps. The period is the median of the last intervals, so that a
    camera that exposes longer in the dark, and with it delivers less, is believed after some frames.

    A stamp that jumps ahead for another reason (drivers correct their clocks) is told apart by causality: the frame
    would have to have arrived earlier after its stamp than any other of late.

    Args:
        period_s: nominal time from frame to frame.
    """

    def __init__(self, period_s: float) -> None:
        self.missed = 0
        """Frames that were made and never handed out."""
        self._periods = deque([period_s], _REMEMBERED)
        self._shortest = period_s / 4
        self._index: int | None = None
        self._sequence = 0
        self._stamp: float | None = None
        self._floor_s = 0.0

    def count(self, index: int, stamp: float | None, arrival_ns: HostNs) -> int:
        """Return the sequence number of a frame: 0 for the first, and rising.

        Args:
            index: number that the driver gave it, rising.
            stamp: the camera's time in seconds, if there is one.
            arrival_ns: when it was taken out of the driver.
        """
        arrived = arrival_ns / 1e9
        if self._index is not None:
            made = index - self._index
            if stamp is not None and self._stamp is not None:
                made = max(made, self._made(made, stamp - self._stamp, arrived - stamp))
            self._sequence += made
            self.missed += made - 1
        if stamp is not None and self._stamp is None:
            self._floor_s = arrived - stamp
        self._index, self._stamp = index, stamp
        return self._sequence

    def _made(self, numbered: int, step_s: float, late_s: float) -> int:
        """Return how many frames the camera made in a step of its stamps."""
        period = median(self._periods)
        if step_s < self._shortest or late_s < self._floor_s - period / 2:
            # The stamps did not go on, but jumped.
            self._floor_s = late_s
            return numbered
        self._floor_s = min(late_s, self._floor_s + _DRIFT * step_s)
        self._periods.append(step_s / numbered)
        return round(step_s / period)
