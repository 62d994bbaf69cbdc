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
    """Return the number of the frame for each timestamp, -1 where there is none; all in seconds, ``frames`` rising."""
    if not len(frames):
        return np.full(len(timestamps), -1)
    if rule == "nearest":
        return nearest(timestamps, frames)
    if rule != "midpoint":
        raise ValueError(f"rule {rule!r}: wanted nearest or midpoint")
    index = np.searchsorted((frames[:-1] + frames[1:]) / 2, timestamps, side="left")
    return np.where(index < len(frames) - 1, index, -1)


def nearest(timestamps: NDArray[np.float64], frames: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the nearest frame for each timestamp, of two equally near the later one."""
    after = np.clip(np.searchsorted(frames, timestamps), min(1, len(frames) - 1), len(frames) - 1)
    before = np.maximum(after - 1, 0)
    earlier = timestamps - frames[before] < frames[after] - timestamps
    return np.where(earlier, before, after)
