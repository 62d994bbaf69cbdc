"""When each sample of a sound card was taken, on the host's clock.

A card counts its samples by a crystal of its own; the sound system stamps a buffer now and then, with noise to both
sides. The clock is a straight line through the stamps of the last two minutes, fitted by least squares in which a
stamp weighs less the further off it lies (Cauchy weights, scale from the median absolute residual), with the prior
that a crystal is within 100 ppm of its name.
"""

from __future__ import annotations

from collections import deque
from statistics import median

from gazed_timesync.clock import HostNs

__all__ = ["SampleClock"]

_BLOCK_S = 0.25
_WINDOW = 480  # blocks: two minutes
_SKEW_SD = 100e-6
_NOISE_S = 50e-6  # stamps are never trusted beyond this
_OFTEN, _SELDOM = 40, 8  # blocks up to which each of them moves the line; how many it takes to move it then
_PIECES = 5  # of at least a block each: a second of answers that are the same whenever they are asked for
_CATCH_UP_S = 2.5
_SLEW = 0.1
_AGREEING = 8  # blocks that agree with one another and not with the line: the line is of another time
_STEP_S = 5e-3


class SampleClock:
    """A line from sample numbers to host time, continuous and strictly increasing.

    Args:
        rate: the card's nominal samples per second.

    ``time_of`` answers alike for each sample from a second before the newest one asked for on. The delay between the
    air and the converter is in no stamp and not in the result.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._origin: tuple[int, HostNs] | None = None
        self._block: list[tuple[float, float]] = []
        self._blocks: deque[tuple[float, float]] = deque(maxlen=_WINDOW)
        self._skew = 0.0
        self._error = _STEP_S
        self._unused = 0
        self._asked: float | None = None
        # Pieces of the line, each from a time of sound on: (seconds of sound, seconds of host time, skew).
        self._pieces: deque[tuple[float, float, float]] = deque([(0.0, 0.0, 0.0)], maxlen=_PIECES)

    @property
    def skew_ppm(self) -> float:
        """How much longer than nominal a second of sound lasts on the host's clock, in millionths."""
        return self._skew * 1e6

    @property
    def rate_hz(self) -> float:
        """Samples per second of host time."""
        return self._rate / (1 + self._skew)

    @property
    def error_s(self) -> float:
        """Three standard deviations of what ``time_of`` returns for the newest sample, and what is still slewed."""
        return self._error

    def observe(self, sample: int, host_ns: HostNs) -> None:
        """Take in that sample number ``sample`` was at the converter at ``host_ns``; numbers rise."""
        if self._origin is None:
            self._origin = (sample, host_ns)
        x = (sample - self._origin[0]) / self._rate
        if self._block and x - self._block[0][0] >= _BLOCK_S:
            self._close_block()
            if len(self._blocks) <= _OFTEN or self._unused >= _SELDOM:
                self._steer(x)
        self._block.append((x, (host_ns - self._origin[1]) / 1e9 - x))

    def time_of(self, sample: int) -> HostNs:
        """Return when ``sample`` was at the converter.

        Raises:
            ValueError: nothing was observed yet.
        """
        if self._origin is None:
            raise ValueError("no sample was observed yet")
        x = (sample - self._origin[0]) / self._rate
        if self._asked is None:
            self._close_block()
            self._steer(x)
            self._asked = x
        self._asked = max(self._asked, x)
        return HostNs(self._origin[1] + round(self._seconds_of(x) * 1e9))

    def _seconds_of(self, x: float) -> float:
        start, host_s, skew = next((piece for piece in reversed(self._pieces) if piece[0] <= x), self._pieces[0])
        return host_s + (x - start) * (1 + skew)

    def _close_block(self) -> None:
        """Add the median of the block to the points."""
        if self._block:
            self._blocks.append((self._block[len(self._block) // 2][0], median(offset for _, offset in self._block)))
            self._block.clear()
            self._unused += 1

    def _steer(self, x: float) -> None:
        """Fit the line and make for it from ``x`` on: at once while nobody has asked, without a step later."""
        self._unused = 0
        level, centre, scale = self._fit()
        last = list(self._blocks)[-_AGREEING:]
        beside = [y - level - self._skew * (x_ - centre) for x_, y in last]
        off = median(beside)
        if (
            len(self._blocks) > len(last) == _AGREEING
            and abs(off) > _STEP_S + 3 * scale
            and all(abs(value - off) < _STEP_S for value in beside)
        ):
            self._blocks = deque(last, maxlen=_WINDOW)
            level, centre, scale = self._fit()
        if self._asked is None:
            self._pieces[0] = (x, x + level + self._skew * (x - centre), self._skew)
            behind = 0.0
        else:
            now = max(x, self._asked)
            host_s = self._seconds_of(now)
            behind = now + level + self._skew * (now - centre) - host_s
            slew = max(-_SLEW, min(_SLEW, behind / _CATCH_UP_S))
            if now == self._pieces[-1][0]:
                self._pieces.pop()
            self._pieces.append((now, host_s, self._skew + slew))
        self._error = abs(behind) + 6 * scale / len(self._blocks) ** 0.5

    def _fit(self) -> tuple[float, float, float]:
        """Fit the line; return its level at the centre, the centre, and the noise of a block (all seconds)."""
        count = len(self._blocks)
        centre = sum(x for x, _ in self._blocks) / count
        points = [(x - centre, y) for x, y in self._blocks]
        level, skew = median(y - self._skew * x for x, y in points), self._skew
        scale = _STEP_S
        for _ in range(3):
            residuals = [y - level - skew * x for x, y in points]
            scale = 1.5 * median(map(abs, residuals)) + _NOISE_S
            weights = [1 / (1 + (r / (2 * scale)) ** 2) for r in residuals]
            total = sum(weights)
            x0 = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
            y0 = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
            xx = sum(w * (x - x0) ** 2 for w, (x, _) in zip(weights, points, strict=True))
            xy = sum(w * (x - x0) * (y - y0) for w, (x, y) in zip(weights, points, strict=True))
            skew = xy / (xx + (scale / _SKEW_SD) ** 2)
            level = y0 - skew * x0
        self._skew = skew
        return level, centre, scale
