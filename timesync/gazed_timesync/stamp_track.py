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
_TARDY_S = 0.1


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
        self.trusted = True
        """Whether stamps that go on from one another are believed; else the seconds come from the frame counter."""
        self.jumps = 0
        self.period_s = period_s
        self._jitter = 250e-6
        self._slower = period_s
        self._frames = 0
        self._doubt = 0.0
        self._good: _Mark | None = None
        self._suspect: _Mark | None = None
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
        guess = self.seconds + frames * self.period_s
        usable = stamp is not None and 0 < stamp < math.inf
        mark = _Mark(stamp if usable and stamp else 0.0, arrival_s, self._frames, guess)
        if usable and self._good and self._follows(mark, self._good):
            if self.trusted:
                mark = mark._replace(seconds=self._good.seconds + mark.stamp - self._good.stamp)
            self.seconds, self._good, self._chain = mark.seconds, mark, 0
            self._doubt = max(0.0, self._doubt - 0.25)
            return self._judge()
        self.seconds = guess
        self._doubt = min(self._doubt + 1, 2 * _DISTRUST)
        if not usable:
            return self._judge()
        self._chain = self._chain + 1 if self._suspect and self._follows(mark, self._suspect) else 0
        self._suspect = mark
        if self._good is None and self._chain:
            self._good = mark
        elif self._chain >= _CONFIRM:
            self._good, self._chain = mark, 0
            self.jumps += 1
            self._judge()
            return True
        return self._judge()

    def _judge(self) -> bool:
        """Update the trust in the stamps; tell whether it has changed."""
        before = self.trusted
        if self._doubt >= _DISTRUST:
            self.trusted = False
        elif self._doubt <= _TRUST:
            self.trusted = True
        return self.trusted != before

    def _follows(self, mark: _Mark, earlier: _Mark) -> bool:
        """Tell whether the stamps of two frames lie as far apart as the frames do; learn the period if so."""
        passed, frames = mark.stamp - earlier.stamp, mark.frames - earlier.frames
        wanted = frames * self.period_s
        off = passed - wanted
        tolerance = min(50e-6 + 8 * self._jitter + 2e-3 * wanted, _MAX_TOLERANCE_S)
        if abs(off) <= tolerance:
            self.period_s += _LEARN * off / frames
            self._jitter += _LEARN * (abs(off) - self._jitter)
            return True
        late = abs(mark.arrival_s - earlier.arrival_s - passed)
        if passed <= 0 or late > _TARDY_S:
            return False
        if off > 0 and abs(math.remainder(passed, self.period_s)) <= tolerance:
            return True  # frames that the driver lost without counting them
        if late > _PROMPT_S:
            return False
        if abs(passed - frames * self._slower) <= tolerance:
            self.period_s = self._slower  # twice alike: the exposure rules the frame rate
        self._slower = passed / frames
        return True
