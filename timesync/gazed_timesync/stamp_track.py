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
        self._odd_period = 0.0
        self._previous: _Mark | None = None
        self._good: _Mark | None = None
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
        previous, self._previous = self._previous, mark
        regular = previous is not None and self._is_regular(mark, previous)
        odd_period = 0.0
        if previous and not regular and not self._is_multiple(mark, previous):
            odd_period = (mark.stamp - previous.stamp) / max(1, mark.frames - previous.frames)
        twice_odd = odd_period > 0 and self._odd_period > 0
        self._odd_period, last_odd = odd_period, self._odd_period
        if self._good and (
            (regular and self._good is previous)
            or self._is_regular(mark, self._good)
            or self._is_multiple(mark, self._good)
            or self._agrees(mark, self._good, ambiguous=twice_odd)
        ):
            if self.trusted:
                self.seconds = self._good.seconds + mark.stamp - self._good.stamp
                mark = self._previous = mark._replace(seconds=self.seconds)
                if twice_odd and abs(odd_period - last_odd) <= self._tolerance(odd_period):
                    self.period_s = odd_period  # the exposure rules the frame rate
            self._good, self._chain = mark, 0
            return self._judge(good=True)
        self._chain = self._chain + 1 if regular else 0
        if self._chain < (_CONFIRM if self._good else 1):
            return self._judge(good=False)
        jumped = self.trusted and self._good is not None
        self._good, self._chain = mark, 0
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

    def _is_regular(self, mark: _Mark, earlier: _Mark) -> bool:
        """Tell whether the stamps of two frames lie as far apart as the frames do; learn the period if so."""
        frames = mark.frames - earlier.frames
        wanted = frames * self.period_s
        off = mark.stamp - earlier.stamp - wanted
        if abs(off) > self._tolerance(wanted):
            return False
        if self.trusted and frames:
            self.period_s += _LEARN * off / frames
            self._jitter += _LEARN * (abs(off) - self._jitter)
        return True

    def _is_multiple(self, mark: _Mark, earlier: _Mark) -> bool:
        """Tell whether frames lie between two that the driver lost without counting them."""
        passed = mark.stamp - earlier.stamp
        more = passed - (mark.frames - earlier.frames + 0.5) * self.period_s
        late = abs(mark.arrival_s - earlier.arrival_s - passed)
        tight = min(self._tolerance(passed), self.period_s / 50)
        return more > 0 and late <= _TARDY_S and abs(math.remainder(passed, self.period_s)) <= tight

    def _agrees(self, mark: _Mark, earlier: _Mark, *, ambiguous: bool) -> bool:
        """Tell whether an unexpected distance between two stamps is borne out by the arrivals.

        A distance that is off by no more than arrivals scatter says nothing by itself: ``ambiguous`` decides.
        """
        passed = mark.stamp - earlier.stamp
        off = abs(passed - (mark.frames - earlier.frames) * self.period_s)
        late = abs(mark.arrival_s - earlier.arrival_s - passed)
        return passed > 0 and late <= _PROMPT_S and (ambiguous or off > 2 * _PROMPT_S)
