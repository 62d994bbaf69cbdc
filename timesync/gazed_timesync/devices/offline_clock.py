"""The exposure times of recorded frames, found once more from what was kept of each: its stamp and its arrival.

``DeviceClock`` knows the past alone. After the fact each instant has frames on both sides, so that the first seconds of
a stream are as good as the rest, and no line has to be caught up with.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gazed_timesync.devices.stamp_track import StampTrack

__all__ = ["refit_arrivals"]

Floats = NDArray[np.float64]

_GAP_S = 1.0
_SHORTEST_S = 5.0
_BLOCK_S = 0.25
_KNOT_S, _WINDOW_S = 10.0, 60.0
_SKEW_SD = 100e-6
_QUANTILE = 0.15  # of the lower edge, as ``LowerEnvelope`` has it
_ROUNDS = 12
_RESOLUTION_S = 10e-6
_MIN_STEP_NS = 1000


def refit_arrivals(
    stamps: Floats, arrivals: NDArray[np.int64], sequence: NDArray[np.int64], period_s: float
) -> NDArray[np.int64]:
    """Return how long after its exposure each frame arrived at the earliest that was ever seen; ns, shape (n,).

    A constant delay, that of the fastest frames, is in no clock and not in the result either: it is about 0 for these.
    Where the stamps cannot be used, or not for 5 s on end, it is -1.

    Args:
        stamps: of the device, seconds, shape (n,); NaN for none.
        arrivals: host times at which the frames were taken from the driver, ns, rising.
        sequence: numbers of the frames; a gap means lost frames.
        period_s: nominal seconds from frame to frame.
    """
    late = np.full(len(stamps), -1, np.int64)
    for first, device_s in _stretches(stamps, arrivals, sequence, period_s):
        rows = slice(first, first + len(device_s))
        since = (arrivals[rows] - arrivals[first]) / 1e9
        if since[-1] >= _SHORTEST_S:
            late[rows] = np.maximum(0, np.rint(_above_edge(device_s, since - device_s) * 1e9)).astype(np.int64)
    return late


def _stretches(
    stamps: Floats, arrivals: NDArray[np.int64], sequence: NDArray[np.int64], period_s: float
) -> list[tuple[int, Floats]]:
    """Return where the device's time goes on without a break: the first frame, and the seconds of each from there."""
    found: list[tuple[int, list[float]]] = []
    track = StampTrack(period_s)
    seconds: list[float] = []
    rows = zip(stamps.tolist(), (arrivals / 1e9).tolist(), sequence.tolist(), strict=True)
    last_arrival, last_number = -np.inf, 0
    for index, (stamp, arrival, number) in enumerate(rows):
        before = track.seconds
        broken = number <= last_number or arrival - last_arrival > _GAP_S
        changed = False
        if not broken:
            changed = track.advance(stamp, number - last_number, arrival)
            broken = abs(track.seconds - before - (arrival - last_arrival)) > _GAP_S
        if broken:
            track = StampTrack(period_s)
            track.advance(stamp, 0, arrival)
        if broken or changed or not track.stamped:
            seconds = []
            found.append((index, seconds))
        seconds.append(track.seconds)
        last_arrival, last_number = arrival, number
    return [(first, np.array(each) - each[0]) for first, each in found]


def _above_edge(x: Floats, y: Floats) -> Floats:
    """Return how far points lie above their lower edge: a line for each 10 s from the minute on either side."""
    begins = np.flatnonzero(np.diff(np.floor(x / _BLOCK_S), prepend=-1.0))
    lowest = np.array([begin + int(np.argmin(y[begin:end])) for begin, end in pairwise([*begins.tolist(), len(y)])])
    block_x, block_y = x[lowest], y[lowest]
    overall = _edge(block_x, block_y, float(x[-1] / 2), 0.0, _SKEW_SD * 10)[1]
    knots = np.linspace(0.0, x[-1], max(2, round(x[-1] / _KNOT_S) + 1))
    levels = []
    for knot in knots.tolist():
        near = slice(*np.searchsorted(block_x, (knot - _WINDOW_S, knot + _WINDOW_S)).tolist())
        levels.append(_edge(block_x[near], block_y[near], knot, overall, _SKEW_SD)[0])
    return y - np.interp(x, knots, levels)


def _edge(x: Floats, y: Floats, at: float, skew: float, skew_sd: float) -> tuple[float, float]:
    """Fit the lower edge of points by a line; return its height at ``at`` and its slope.

    The quantile regression of ``envelope.LowerEnvelope``, by iteratively reweighted least squares.
    """
    expected, away = skew, x - at
    level = float(np.quantile(y - skew * away, _QUANTILE))
    for _ in range(_ROUNDS):
        off = y - level - skew * away
        side = np.where(off > 0, _QUANTILE, 1 - _QUANTILE)
        weight = side / (np.abs(off) + _RESOLUTION_S)
        scale = float((side * np.abs(off)).mean()) + _RESOLUTION_S
        stiff = scale / skew_sd**2
        mean_x, mean_y = np.average(away, weights=weight), np.average(off, weights=weight)
        spread = float((weight * (away - mean_x) ** 2).sum())
        change = (float((weight * (away - mean_x) * off).sum()) + stiff * (expected - skew)) / (spread + stiff)
        level += float(mean_y - change * mean_x)
        skew += change
    return level, skew
