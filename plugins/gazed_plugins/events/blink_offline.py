"""Blinks in a recording, with the whole course of the confidence at hand.

The window is that of ``Blink_Detection``, but centred. Source: Pupil Player's blink detector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gazed_plugins.events.blink import ACTIVITY, HISTORY_S, THRESHOLD

__all__ = ["Blink", "blink_response", "find_blinks"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Blink:
    """One blink in a recording."""

    id: int
    """Counts from 1."""
    start: int
    end: int
    """Indices of the samples at which the onset began and the offset ended."""
    start_timestamp: float
    end_timestamp: float
    """Pupil time, s."""
    confidence: float
    """Mean size of the response from ``start`` to before ``end``, at most 1."""


def blink_response(timestamps: ArrayLike, confidence: ArrayLike, history_length: float = HISTORY_S) -> Floats:
    """Return the response (N,) to the confidence (N,) of 2D pupil datums of one or both eyes, sorted by time in s.

    The window, ``history_length`` s at the mean rate, is centred; what lies beyond the ends counts as confidence 0.
    """
    times, sure = np.asarray(timestamps, np.float64), np.asarray(confidence, np.float64)
    duration = times[-1] - times[0] if len(times) else 0.0
    half = round(len(times) * history_length / duration / 2) if duration > 0 else 0
    if half == 0:
        return np.zeros(len(times))
    total = np.concatenate([np.zeros(half + 1), np.cumsum(sure), np.full(half, sure.sum())])
    before, middle, after = (total[start : start + len(times)] for start in (0, half, 2 * half))
    return np.asarray((2 * middle - before - after) / (2 * half) / ACTIVITY)


def find_blinks(
    timestamps: ArrayLike,
    confidence: ArrayLike,
    *,
    history_length: float = HISTORY_S,
    onset_threshold: float = THRESHOLD,
    offset_threshold: float = THRESHOLD,
) -> list[Blink]:
    """Return the blinks in the confidence (N,) of 2D pupil datums, sorted by time (N,) in s.

    A blink lasts from the first sample of an onset, through an offset, to the last sample of that offset. Where an
    onset follows at once, the next blink starts there (in Pupil Player it starts at the recording's first sample).
    """
    times = np.asarray(timestamps, np.float64)
    response = blink_response(times, confidence, history_length)
    kinds = np.where(response > onset_threshold, 1, np.where(response < -offset_threshold, -1, 0))
    changes = np.flatnonzero(np.diff(kinds, prepend=0))
    blinks: list[Blink] = []
    start, closing = -1, False

    def finish(end: int) -> None:
        strength = float(np.abs(response[start:end]).mean()) if end > start else 0.0
        span = float(times[start]), float(times[end])
        blinks.append(Blink(len(blinks) + 1, start, end, *span, min(strength, 1.0)))

    for index, kind in zip(changes.tolist(), kinds[changes].tolist(), strict=True):
        if start >= 0 and kind == -1:
            closing = True
        elif closing:
            finish(index - 1)
            start, closing = -1, False
        if start < 0 and kind == 1:
            start = index
    if closing:
        finish(len(times) - 1)
    return blinks
