"""Which world frame belongs to a datum: two rules, Pupil Player's and that of its early versions."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rule", "correlate", "nearest"]

Rule = Literal["nearest", "midpoint"]
"""``nearest``: the frame nearest in time, of two equally near the later one (Pupil Player). ``midpoint``: the first
frame whose midpoint to the next one is not before the datum; none behind the last midpoint (Player's early versions,
and the ``correlate_data`` of its documentation)."""


def correlate(timestamps: NDArray[np.float64], frames: NDArray[np.float64], rule: Rule) -> NDArray[np.int64]:
    """Return the number of the frame for each timestamp, -1 where there is none; all in seconds."""
    if not len(frames):
        return np.full(len(timestamps), -1)
    if rule == "nearest":
        return nearest(timestamps, frames)
    if rule != "midpoint":
        raise ValueError(f"rule {rule!r}: wanted nearest or midpoint")
    order = np.argsort(frames, kind="stable")
    rising = frames[order]
    with np.errstate(invalid="ignore"):  # a damaged recording may have times that are no finite numbers
        middles = (rising[:-1] + rising[1:]) / 2
    index = np.searchsorted(middles, timestamps, side="left")
    return np.where(index < len(frames) - 1, order[np.minimum(index, len(frames) - 1)], -1)


def nearest(timestamps: NDArray[np.float64], frames: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the nearest frame for each timestamp, of two equally near the later one.

    The times of the frames need not increase: a few recordings of Pupil Capture's have some that go back.
    """
    order = np.argsort(frames, kind="stable")
    return np.asarray(order[_nearest_rising(timestamps, frames[order])])


def _nearest_rising(timestamps: NDArray[np.float64], frames: NDArray[np.float64]) -> NDArray[np.int64]:
    after = np.clip(np.searchsorted(frames, timestamps), min(1, len(frames) - 1), len(frames) - 1)
    before = np.maximum(after - 1, 0)
    with np.errstate(invalid="ignore"):
        earlier = timestamps - frames[before] < frames[after] - timestamps
    return np.where(earlier, before, after)
