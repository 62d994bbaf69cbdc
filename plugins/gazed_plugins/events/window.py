"""A sliding window over gaze directions that always knows whether all of them are close together.

The dispersion of a window is the largest angle between any two of its directions, as in Pupil Core. To know whether it
is below a limit, each new direction is compared once with those before it: windows that begin after the last one that
is too far from a later one are fine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["DirectionWindow", "dispersion_deg"]

Floats = NDArray[np.float64]

_ROOM = 256


class DirectionWindow:
    """Unit vectors of a row of samples, added at one end and removed at the other; ``limit_deg`` is the dispersion."""

    def __init__(self, limit_deg: float) -> None:
        self._limit = math.cos(math.radians(limit_deg))
        self._rows: Floats = np.empty((_ROOM, 3))
        self.clear()

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def is_close(self) -> bool:
        """Whether no two directions are further apart than the limit."""
        return self._good_from <= self._begin

    def clear(self) -> None:
        """Forget everything."""
        self._begin = self._end = self._good_from = 0

    def append(self, direction: Sequence[float] | Floats) -> None:
        """Add a direction (3,) at the end; its length does not matter, but is not zero."""
        if self._end == len(self._rows):
            self._make_room()
        row = self._rows[self._end]
        row[:] = direction
        row /= math.sqrt(row @ row)
        # Not above the limit, rather than below it, so that what is no number is far from everything.
        far = np.flatnonzero(~(self._rows[self._begin : self._end] @ row > self._limit))
        if len(far):
            self._good_from = max(self._good_from, self._begin + int(far[-1]) + 1)
        self._end += 1

    def pop_first(self) -> None:
        """Remove the oldest direction."""
        self._begin += 1

    def dispersion_deg(self) -> float:
        """Return the largest angle between any two directions, in degrees."""
        return _spread_deg(self._rows[self._begin : self._end])

    def _make_room(self) -> None:
        kept = self._rows[self._begin : self._end]
        rows = np.empty((max(_ROOM, 2 * len(kept)), 3))
        rows[: len(kept)] = kept
        self._good_from = max(0, self._good_from - self._begin)
        self._rows, self._begin, self._end = rows, 0, len(kept)


def dispersion_deg(directions: Floats) -> float:
    """Return the largest angle between any two of the directions (N, 3), N > 0, in degrees."""
    return _spread_deg(directions / np.linalg.norm(directions, axis=1, keepdims=True))


def _spread_deg(units: Floats) -> float:
    return math.degrees(math.acos(max(-1.0, min(1.0, float((units @ units.T).min())))))
