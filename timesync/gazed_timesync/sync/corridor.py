"""The corridor that exchanges leave to a leader's clock, and the line through it.

Every exchange proves that the leader's clock is ahead by at most ``received_by_leader - sent`` and at least
``replied - received``. Over a window these are an upper and a lower wall, with a line ``offset + skew * x`` in between.
Near the walls one-way delays have a density of ``rho`` exchanges per second of delay; so for a skew ``b``, with the
distances ``upper(b)`` and ``lower(b)`` of the walls at the mean time of the window, the logarithm of its posterior is

    rho_upper * upper(b) - rho_lower * lower(b) - (b - expected)**2 / (2 * deviation**2)

which is concave in ``b``. The mean of the posterior, not its peak, is the estimate: half the tails, and a deviation
comes with it. The error falls with the number of exchanges, not with its root.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gazed_timesync.sync.edge import lower_edge

__all__ = ["CorridorFit", "fit_corridor"]

_GOLDEN = (5**0.5 - 1) / 2
_STEPS = 28
_ROUNDS = 3
_DENSITY_COUNT = 20
_EDGE_COUNT = 30
_EDGE_MIN = 12  # exchanges from which on the walls' soft edges can be told
_MAX_SKEW = 500e-6
_POINTS = 49
_DROP = 8.0  # of the log posterior: what lies below counts no more
_FLOOR_S = 1e-6

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CorridorFit:
    """How far the leader is ahead of the local clock, in seconds, at the time asked for.

    ``half_s`` is half the width of the corridor with what the line is out of its middle: not more than the offset can
    be wrong if the skew is right. It is negative if no line fits between the walls: the clocks did not run evenly.
    """

    offset_s: float
    skew: float
    sigma_s: float
    sigma_skew: float
    half_s: float
    centre_s: float
    """The mean time of the window, to which ``half_s`` belongs."""


class _Walls:
    """The walls of a window, around its mean time and an expected skew."""

    def __init__(self, rows: Array, expected: float) -> None:
        sent, leader_in, leader_out, received = rows.T
        # There the sum of what the fastest messages are late by does not depend on the skew.
        self.centre = float(sent.mean() + received.mean()) / 2
        # A leader's time between its two stamps is known, so it is taken out of the way back.
        back = received - (leader_out - leader_in)
        self.x_up, self.x_low = sent - self.centre, back - self.centre
        self.up = leader_in - sent - expected * self.x_up
        self.low = leader_in - back - expected * self.x_low

    def at(self, skew: float) -> tuple[float, float]:
        return float((self.up - skew * self.x_up).min()), float((self.low - skew * self.x_low).max())

    def on_grid(self, skews: Array) -> tuple[Array, Array]:
        up = (self.up[None, :] - skews[:, None] * self.x_up[None, :]).min(axis=1)
        low = (self.low[None, :] - skews[:, None] * self.x_low[None, :]).max(axis=1)
        return up, low

    def delays(self, skew: float) -> tuple[Array, Array]:
        """Return the one-way delays, each way but for a constant."""
        return self.up - skew * self.x_up, skew * self.x_low - self.low

    def densities(self, skew: float) -> tuple[float, float]:
        up, low = self.delays(skew)
        if len(up) < 4:
            wide = 1.0 / max(float((self.up - self.low).min()) / 2, _FLOOR_S)
            return wide, wide
        return _density(up), _density(low)


def fit_corridor(rows: Array, at_s: float, skew: float = 0.0, skew_sd: float = 50e-6) -> CorridorFit:
    """Fit a line between the walls.

    Args:
        rows: shape ``(n, 4)``, n >= 1: sent, received by the leader, replied, received; in seconds on clocks whose
            zeros are near, so that a float64 keeps the nanoseconds.
        at_s: the local time that the offset is wanted for.
        skew: the expected rate of the leader against the local clock, less one.
        skew_sd: how far off that may be, as one standard deviation.
    """
    walls = _Walls(rows, skew)
    peak, up_density, low_density = _peak(walls, skew_sd)

    def posterior(slope: float) -> float:
        up, low = walls.at(slope)
        return up_density * up - low_density * low - 0.5 * (slope / skew_sd) ** 2

    left, right = (_reach(posterior, peak, side) for side in (-1, 1))
    slopes = np.linspace(peak - left, peak + right, _POINTS)
    up, low = walls.on_grid(slopes)
    log = up_density * up - low_density * low - 0.5 * (slopes / skew_sd) ** 2
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    mean = float(weight @ slopes)
    sigma_skew = float(weight @ (slopes - mean) ** 2) ** 0.5
    offsets = 0.5 * (up + low)
    middle = float(weight @ offsets)
    if len(rows) < _EDGE_MIN:
        shift = -0.5 * (1 / up_density - 1 / low_density)
        spread = 0.25 * (up_density**-2 + low_density**-2)
    else:
        # Where the walls' edges really are at the mean slope; how they move with the slope is known from the grid.
        count = max(6, min(_EDGE_COUNT, len(rows) // 3))
        (up_edge, up_sd), (low_edge, low_sd) = (lower_edge(each, count) for each in walls.delays(mean))
        shift = 0.5 * (up_edge - low_edge) - float(offsets[np.argmin(np.abs(slopes - mean))])
        spread = 0.25 * (up_sd**2 + low_sd**2)
    ahead_s = at_s - walls.centre
    along = offsets + shift + (skew + slopes) * ahead_s
    offset = float(weight @ along)
    width = float(weight @ (up - low)) / 2
    return CorridorFit(
        offset_s=offset,
        skew=skew + mean,
        sigma_s=(float(weight @ (along - offset) ** 2) + spread) ** 0.5,
        sigma_skew=sigma_skew,
        half_s=width + abs(offset - middle - (skew + mean) * ahead_s) if width >= 0 else width,
        centre_s=walls.centre,
    )


def _density(delays: Array) -> float:
    """Return how many delays there are per second of delay where they begin: from the K-th order statistic."""
    count = max(2, min(_DENSITY_COUNT, len(delays) // 4))
    lowest = np.partition(delays, count - 1)[:count]
    return float((count - 1) / max(float(lowest.max() - lowest.min()), _FLOOR_S * (count - 1) ** 0.5))


def _peak(walls: _Walls, skew_sd: float) -> tuple[float, float, float]:
    """Return the most likely slope, and the densities at both walls there."""
    slope, densities = 0.0, walls.densities(0.0)
    limit = min(_MAX_SKEW, 4 * skew_sd)
    for turn in range(_ROUNDS):
        if turn:
            # Damped, or it goes back and forth between two sets of exchanges.
            new = walls.densities(slope)
            densities = (densities[0] * new[0]) ** 0.5, (densities[1] * new[1]) ** 0.5
        up_density, low_density = densities

        def posterior(at: float, up_density: float = up_density, low_density: float = low_density) -> float:
            up, low = walls.at(at)
            return up_density * up - low_density * low - 0.5 * (at / skew_sd) ** 2

        slope = _maximum(posterior, -limit, limit)
    return slope, *densities


def _maximum(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a concave function is greatest: golden section."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(_STEPS):
        if at_left > at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2


def _reach(posterior: Callable[[float], float], peak: float, side: int) -> float:
    """Return how far from the peak the posterior has fallen so far that the rest counts no more."""
    top, step = posterior(peak), 1e-9
    while step < 1e-3 and top - posterior(peak + side * step) < _DROP:
        step *= 2
    return step
