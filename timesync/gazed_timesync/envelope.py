"""The line under one-sided noise: how late the fastest messages are, while two clocks drift apart.

A message cannot arrive before it was sent. So ``arrival - stamp`` has a sharp lower edge, a line whose slope is the
skew between the two clocks, and everything above it is transfer and load. The line is the one of highest posterior
probability for a density of ``rho`` messages per second of lateness at the edge and a Gaussian prior of the skew:
the maximum over b of ``rho * min(y - b * x) - ((b - b0) / sd)**2 / 2`` with x counted from its mean. This is concave,
its candidates are the vertices of the lower convex hull, and so it is solved exactly by one walk along the hull.
(Convex hulls for skew: Moon, Skelly, Towsley, "Estimation and removal of clock skew", INFOCOM 1999.)
"""

from __future__ import annotations

from collections import deque
from heapq import nsmallest
from itertools import islice, pairwise

__all__ = ["LowerEnvelope"]

_BLOCK_S = 0.25  # of each block only the lowest point is kept
_WINDOW_S = 60.0
_SETTLED = 4
_RECENT = 8  # blocks that say how far above the line things are now
_EDGE = 12  # the lowest points, which give the density at the edge
_RESOLUTION_S = 2e-6
_EARLY_ERROR_S = 3e-3

Point = tuple[float, float]


class LowerEnvelope:
    """The lower edge of points (x, y), both in seconds, x rising; as a line over the last minute.

    Args:
        skew: the expected slope.
        skew_sd: how far off that may be, as one standard deviation.
        start: a point known to lie on the edge.
    """

    def __init__(self, skew: float, skew_sd: float, start: Point | None = None) -> None:
        self.skew = skew
        self._prior = (skew, skew_sd)
        self._blocks: deque[Point] = deque([start] if start else [])
        self._began = self._centre = start[0] if start else 0.0
        self._level = start[1] if start else float("inf")
        self._lowest: Point | None = None
        self._error = _EARLY_ERROR_S
        self._lift = 0.0

    @property
    def settled(self) -> bool:
        """Whether there is a line worth the name: a second of points."""
        return len(self._blocks) >= _SETTLED

    @property
    def error_s(self) -> float:
        """How far the line may lie below or above the edge now, in seconds."""
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
            while self._blocks[0][0] < x - _WINDOW_S:
                self._blocks.popleft()
            self._began, self._lowest = x, (x, y)
            if len(self._blocks) > 1:
                self._fit()
                return True
        elif y < self._lowest[1]:
            self._lowest = (x, y)
        return False

    def keep_recent(self) -> None:
        """Forget all but the last two seconds, and fit the line to those."""
        self._blocks = deque(self._last_blocks())
        self._fit()

    def _last_blocks(self) -> list[Point]:
        return list(islice(self._blocks, max(0, len(self._blocks) - _RECENT), None))

    def _fit(self) -> None:
        count = len(self._blocks)
        self._centre = sum(x for x, _ in self._blocks) / count
        points = [(x - self._centre, y) for x, y in self._blocks]
        hull = _lower_hull(points)
        edge = max(2, min(_EDGE, count // 4))
        for _ in range(2):
            lowest = nsmallest(edge, (y - self.skew * x for x, y in points))
            softness = max((lowest[-1] - lowest[0]) / (edge - 1), _RESOLUTION_S / edge**0.5)
            self.skew = _best_slope(hull, 1 / softness, *self._prior)
        self._level = min(y - self.skew * x for x, y in hull) - softness
        self._error = 4 * softness
        self._lift = min(y - self.at(x) for x, y in self._last_blocks())


def _lower_hull(points: list[Point]) -> list[Point]:
    """Return the lower convex hull of points in rising order of x."""
    hull: list[Point] = []
    for x, y in points:
        while hull and (
            hull[-1][0] >= x
            or (
                len(hull) > 1
                and (hull[-1][1] - hull[-2][1]) * (x - hull[-2][0]) >= (y - hull[-2][1]) * (hull[-1][0] - hull[-2][0])
            )
        ):
            hull.pop()
        hull.append((x, y))
    return hull


def _best_slope(hull: list[Point], rho: float, skew: float, skew_sd: float) -> float:
    """Return the slope b at the maximum of ``rho * min(y - b * x) - ((b - skew) / skew_sd)**2 / 2``.

    The minimum is at vertex i while b is between the slopes of the hull's edges beside it; there the maximum would be
    at ``skew - rho * x_i * skew_sd**2``, which falls from vertex to vertex while the edges get steeper.
    """
    before = float("-inf")
    for (x, y), (x1, y1) in pairwise(hull):
        after = (y1 - y) / (x1 - x)
        slope = skew - rho * x * skew_sd**2
        if slope <= after:
            return max(slope, before)
        before = after
    return max(skew - rho * hull[-1][0] * skew_sd**2, before)
