"""The time of a camera's own clock, told from frame stamps that cannot be trusted one by one.

What libuvc hands out (pupil-labs/libuvc, ``_uvc_populate_frame_ts_us``) is the camera's counter scaled to seconds. It
rescales the whole history when it corrects the counter's frequency, so stamps step by up to a second, also backwards;
it takes a counter that goes back for one that wrapped (+286 s at 15 MHz, for good); it returns 0 for the first frame
and one constant for a camera that sends no stamps. The track keeps what is true in all this: the time between frames.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["StampTrack"]

_CONFIRM = 3  # frames that must go on from a jump before it is believed
_DISTRUST, _TRUST = 8.0, 4.0  # of a leaky bucket: one up for a bad stamp, a quarter down for a good one
_LEARN = 0.05
_MAX_TOLERANCE_S = 2e-3
_PROMPT_S = 5e-3  # a stamp and an arrival that agree this well need no frame counter to back them
_TARDY_S = 0.5
_VARYING = 1.5  # odd intervals lately: from here on the frame rate is one that varies


class _Mark(NamedTuple):
    stamp: float
    arrival_s: float
    frames: int
    seconds: float


class StampTrack:
    """Counts the seconds of a camera's clock from frame to frame; jumps of the stamps are taken out.

    Where a stamp is missing or does not fit, the frame counter and the period of a frame stand in for it.

    Args:
        period_s: nominal seconds between two frames; the true ones are learned from the stamps.
    """

    def __init__(self, period_s: float) -> None:
        self.seconds = 0.0
        self.period_s = period_s
        self.jumps = 0
        self.trusted = True
        """Whether stamps that go on from one another are believed; else the seconds come from the frame counter."""
        self._jitter = 250e-6
        self._frames = 0
        self._doubt = 0.0
        self._odd = self._odd_period = 0.0
        self._previous: _Mark | None = None
        # The last frame that goes on from another good one: borne out by its arrival alone, or beyond doubt.
        self._good: _Mark | None = None
        self._firm: _Mark | None = None
        self._chain = 0

    @property
    def stamped(self) -> bool:
        """Whether the seconds rest on stamps now."""
        return self.trusted and self._good is not None

    def advance(self, stamp: float | None, frames: int, arrival_s: float) -> bool:
        """Go on by ``frames`` frames, to one of this stamp and arrival time.

        Return whether the rate of the seconds may have changed: the stamps have jumped, or their trust has.
        """
        self._frames += frames
        self.seconds += frames * self.period_s
        if stamp is None or not 0 < stamp < math.inf:
            return self._judge(good=False)
        mark = _Mark(stamp, arrival_s, self._frames, self.seconds)
        whole = self._learn_interval(mark)
        self._previous = mark
        earlier = firm = self._firm
        if not (firm and self._is_whole(mark, firm)):
            firm, earlier = None, self._good
            if earlier and self._is_whole(mark, earlier):
                firm = earlier
            elif earlier and not self._is_plausible(mark, earlier):
                earlier = None
        if earlier:
            if self.trusted:
                self.seconds = earlier.seconds + mark.stamp - earlier.stamp
                mark = mark._replace(seconds=self.seconds)
            self._good, self._chain = mark, 0
            self._firm = mark if firm else self._firm
            return self._judge(good=True)
        self._chain = self._chain + 1 if whole else 0
        if self._chain < (_CONFIRM if self._good else 1):
            return self._judge(good=False)
        jumped = self.trusted and self._good is not None
        self._good, self._firm, self._chain = mark, mark, 0
        self.jumps += jumped
        return self._judge(good=False) or jumped

    def _judge(self, *, good: bool) -> bool:
        """Update the trust in the stamps; tell whether it has changed."""
        self._doubt = max(0.0, self._doubt - 0.25) if good else min(self._doubt + 1, 2 * _DISTRUST)
        before = self.trusted
        self.trusted = self._doubt < (_DISTRUST if before else _TRUST)
        return self.trusted != before

    def _tolerance(self, passed: float) -> float:
        return min(50e-6 + 8 * self._jitter + 2e-3 * passed, _MAX_TOLERANCE_S)

    def _learn_interval(self, mark: _Mark) -> bool:
        """Learn the period from the interval since the frame before; tell whether that was whole."""
        previous = self._previous
        if not previous:
            return False
        frames, passed = max(1, mark.frames - previous.frames), mark.stamp - previous.stamp
        off = passed - frames * self.period_s
        whole = self._is_whole(mark, previous)
        period, before = passed / frames, self._odd_period
        alike = abs(period - before) <= self._tolerance(period)
        self._odd_period = period if not whole and passed > 0 else 0.0
        self._odd = 0.9 * self._odd + (not whole)
        if self.trusted and abs(off) <= self._tolerance(passed):
            self.period_s += _LEARN * off / frames
            self._jitter += _LEARN * (abs(off) - self._jitter)
        elif self.trusted and self._odd_period and alike and self._is_plausible(mark, previous):
            self.period_s = period  # the exposure rules the frame rate, and has settled on another one
        return whole

    def _is_whole(self, mark: _Mark, earlier: _Mark) -> bool:
        """Tell whether the stamps of two frames lie whole frames apart: as many as were counted, or more.

        More are frames that the driver lost without counting them; the arrivals must then say much the same.
        """
        passed = mark.stamp - earlier.stamp
        off = passed - (mark.frames - earlier.frames) * self.period_s
        tolerance = self._tolerance(abs(passed))
        if abs(off) <= tolerance:
            return True
        if off < self.period_s / 2 or abs(mark.arrival_s - earlier.arrival_s - passed) > _TARDY_S:
            return False
        return abs(math.remainder(passed, self.period_s)) <= min(tolerance, self.period_s / 50)

    def _is_plausible(self, mark: _Mark, earlier: _Mark) -> bool:
        """Tell whether an odd distance between two stamps is borne out by the arrivals.

        One that is off by no more than arrivals scatter proves nothing, unless the frame rate has been varying.
        """
        passed = mark.stamp - earlier.stamp
        off = abs(passed - (mark.frames - earlier.frames) * self.period_s)
        late = abs(mark.arrival_s - earlier.arrival_s - passed)
        return passed > 0 and late <= _PROMPT_S and (off > 2 * _PROMPT_S or self._odd > _VARYING)
