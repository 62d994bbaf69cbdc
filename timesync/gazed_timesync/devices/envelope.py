"""The line under one-sided noise: how late the fastest messages are, while two clocks drift apart.

A message cannot arrive before it was sent. So ``arrival - stamp`` has a lower edge, a line whose slope is the skew
between the two clocks, and everything above it is transfer and load. Of each quarter of a second only the lowest point
is kept; the line is the regression of a low quantile of these (Koenker, Bassett, "Regression quantiles", Econometrica
46, 1978) with a Gaussian prior of the slope: the maximum of the posterior for asymmetric Laplace noise, by iteratively
reweighted least squares. The lowest points alone (a convex hull) would make it lean on one frame in ten thousand.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

__all__ = ["LowerEnvelope"]

_BLOCK_S = 0.25
_WINDOW = 480  # blocks: two minutes
_SETTLED = 4
_RECENT = 8  # blocks that say how far above the line things are now
_OFTEN = 40  # blocks up to which each of them moves the line
_SELDOM = 4
_QUANTILE = 0.15  # lower is steadier under load, higher is steadier where frames and USB transfers beat
_ROUNDS = 2  # from the last line on, which is close
_RESOLUTION_S = 10e-6
_YOUNG_ERROR_S, _YOUNG_S = 2.5e-3, 3.0  # what a line leans by, and the length from which on it stands firmer

Point = tuple[float, float]


class LowerEnvelope:
    """The lower edge of points (x, y), both in seconds, x rising; as a line over the last two minutes.

    Args:
        skew: the expected slope.
        skew_sd: how far off that may be, as one standard deviation.
        start: a point known to lie on the edge.
    """

    def __init__(self, skew: float, skew_sd: float, start: Point | None = None) -> None:
        self.skew = skew
        self._prior = (skew, skew_sd)
        self._blocks: deque[Point] = deque([start] if start else [], maxlen=_WINDOW)
        self._began = self._centre = start[0] if start else 0.0
        self._level = start[1] if start else float("inf")
        self._lowest: Point | None = None
        self._unused = 0
        self._error = _YOUNG_ERROR_S
        self._lift = 0.0

    @property
    def settled(self) -> bool:
        """Whether there is a line worth the name: a second of points."""
        return len(self._blocks) >= _SETTLED

    @property
    def full(self) -> bool:
        """Whether the line rests on two minutes of points."""
        return len(self._blocks) == _WINDOW

    @property
    def error_s(self) -> float:
        """Bound of the distance between the line and the edge now, in seconds."""
        return self._error + self._lift

    @property
    def lift_s(self) -> float:
        """How far above the line the lowest point of the last two seconds lies, in seconds."""
        return self._lift

    def at(self, x: float) -> float:
        """Return the height of the edge at ``x``; infinite while there is no point."""
        return self._level + self.skew * (x - self._centre)

    def add(self, x: float, y: float) -> bool:
        """Take in a point; tell whether the line was fitted anew."""
        if not self.settled:
            self._level = min(self._level, y - self.skew * (x - self._centre))
        if self._lowest is None:
            self._began, self._lowest = x, (x, y)
        elif x - self._began >= _BLOCK_S:
            self._blocks.append(self._lowest)
            self._began, self._lowest = x, (x, y)
            self._unused += 1
            if len(self._blocks) > 1 and (len(self._blocks) <= _OFTEN or self._unused >= _SELDOM):
                self._fit()
                return True
        elif y < self._lowest[1]:
            self._lowest = (x, y)
        return False

    def keep_recent(self, skew_sd: float) -> None:
        """Forget all but the last two seconds, and fit the line to those; its slope is known to ``skew_sd`` only."""
        self._prior = (self.skew, skew_sd)
        self._blocks = deque(self._last_blocks(), maxlen=_WINDOW)
        self._fit()

    def _last_blocks(self) -> list[Point]:
        return list(islice(self._blocks, max(0, len(self._blocks) - _RECENT), None))

    def _fit(self) -> None:
        """Fit the line: level and slope at the centre of the points."""
        count, (expected, sd) = len(self._blocks), self._prior
        level, skew, centre = self._level, self.skew, self._centre
        for _ in range(_ROUNDS if count > _SETTLED else 4 * _ROUNDS):
            total = sx = sy = sxx = sxy = loss = 0.0
            for px, py in self._blocks:
                x = px - centre
                y = py - level - skew * x
                side = _QUANTILE if y > 0 else 1 - _QUANTILE
                weight = side / (abs(y) + _RESOLUTION_S)
                loss += side * abs(y)
                total += weight
                sx += weight * x
                sy += weight * y
                sxx += weight * x * x
                sxy += weight * x * y
            scale = loss / count + _RESOLUTION_S
            # The prior in the units of the weights, which lack the factor 1 / scale.
            stiff = scale / sd**2
            mean_x, mean_y = sx / total, sy / total
            change = (sxy - sx * mean_y + stiff * (expected - skew)) / (sxx - sx * mean_x + stiff)
            level += mean_y + skew * mean_x
            centre += mean_x
            skew += change
        self._level, self.skew, self._centre = level, skew, centre
        self._unused = 0
        young = _YOUNG_S / (_YOUNG_S + self._blocks[-1][0] - self._blocks[0][0])
        self._error = 4 * scale / count**0.5 + young * _YOUNG_ERROR_S
        self._lift = max(0.0, min(y - self.at(x) for x, y in self._last_blocks()))
