"""The blink gate: tells whether a lid hides the pupil that the 2D engine believes to have found.

During a blink the engine fits ellipses to lashes, folds and what is left of the pupil, often with high confidence. A
few such ellipses in the 3D model's memory spoil it for half a minute. The gate looks at the image under the ellipse:

- a pupil is dark and what surrounds it is not (``bright``),
- there is an edge, dark inside, along most of its rim (``no-edge``),
- it ends there: one fitted to what a lid leaves of it, and to the lid, has more pupil on both sides (``cut``),
- it does not change its size (``size``), nor lose a part of its rim (``covered``), nor become brighter (``faded``) from
  one moment to the next.

The last three compare with the frames that passed before, up to three seconds ago: an eye that opens again is believed
as soon as it looks as it did. One whose pupil or lids really have changed is believed when it did not look as usual for
half a second, and looked the same for a tenth: what is found under moving or closed lids does not.

What the gate cannot tell: how much of a pupil is hidden by a lid that has hung there for longer. An ellipse passes that
is fitted to the rest of its rim, and the less is left, the worse it fits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["REASONS", "BlinkGate"]

REASONS = ("bright", "no-edge", "cut", "size", "covered", "faded")

_POINTS = 32
_TURN = np.linspace(0.0, 2 * np.pi, _POINTS, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)])
# Samples inside at these parts of the radius; reflections of lamps may fill a quarter of them.
_INSIDE = (0.25, 0.5, 0.75)
_CONTRAST = 8.0  # gray levels
_EDGE_PART = 0.35  # of the contrast between pupil and surroundings makes an edge
_RIM = 0.45
# What lies beside the rim and is less than this part of the contrast brighter than the pupil, is pupil as well; single
# points may be noise or lashes.
_PUPIL_PART, _CUT = 0.3, 0.08
_MEAN_S, _MEMORY_S = 0.15, 3.0
_PATIENCE_S, _STEADY_S = 0.5, 0.1
_RIM_LOSS = 0.15
# How far the logarithm of the diameter may be off: at once, more for each second since, and at most. Pupils narrow by
# as much as their own size in a second, behind a closed lid as well.
_CHANGE, _CHANGE_PER_S, _CHANGE_AT_MOST = 0.25, 1.5, 0.5
_FADING = 0.3


class BlinkGate:
    """Judges the frames of one eye, in order."""

    def __init__(self) -> None:
        self._usual: NDArray[np.float64] | None = None
        self._passed_at = 0.0
        # What was refused last, and since when it has looked the same.
        self._other: NDArray[np.float64] | None = None
        self._other_since = self._other_at = 0.0

    def judge(self, gray: NDArray[np.uint8], datum: Mapping[str, Any]) -> str:
        """Return why the pupil is not believed, one of ``REASONS``, or "" if it is.

        Args:
            gray: image, uint8 of shape (height, width).
            datum: what an engine found in it (``ellipse`` and ``timestamp``), with an ellipse that has axes.
        """
        ellipse, now = datum["ellipse"], datum["timestamp"]
        if not 0 <= now - self._passed_at <= _MEMORY_S:
            self._usual = None
        inside, within, outside = _sample(gray, ellipse)
        if not outside.size or not inside.size:
            return "no-edge"
        dark, brighter, bright = _part(inside, 1 / 2), _part(inside, 3 / 4), _part(outside, 1 / 2)
        contrast = bright - dark
        if contrast < _CONTRAST or brighter > (dark + bright) / 2:
            return "bright"
        if np.count_nonzero(outside < dark + _PUPIL_PART * contrast) > _CUT * _POINTS:
            return "cut"
        rim = float(np.count_nonzero(outside - within > _EDGE_PART * contrast)) / _POINTS
        if rim < _RIM:
            return "no-edge"
        found = np.array([ellipse["axes"][1], rim, dark, bright])
        reason = "" if self._usual is None else _change(self._usual, found, now - self._passed_at)
        if reason in ("size", "covered") and self._is_steady(found, now):
            reason, self._usual = "", None
        if not reason:
            self._remember(found, now)
        return reason

    def _is_steady(self, found: NDArray[np.float64], now: float) -> bool:
        """Return whether nothing else was found for a while, and nothing as usual for longer."""
        since = now - self._other_at
        if self._other is None or since > _PATIENCE_S or _change(self._other, found, since):
            self._other_since = now
        self._other, self._other_at = found, now
        return now - self._other_since >= _STEADY_S and now - self._passed_at >= _PATIENCE_S

    def _remember(self, found: NDArray[np.float64], now: float) -> None:
        if self._usual is None:
            self._usual = found
        else:
            self._usual = self._usual + (1 - math.exp(-(now - self._passed_at) / _MEAN_S)) * (found - self._usual)
        self._passed_at, self._other = now, None


def _change(before: NDArray[np.float64], found: NDArray[np.float64], since: float) -> str:
    """Return what no eye does in ``since`` seconds, one of ``REASONS``, or ""."""
    size, rim, dark, bright = before
    if found[2] > dark + _FADING * (bright - dark):
        return "faded"
    if abs(math.log(found[0] / size)) > min(_CHANGE + _CHANGE_PER_S * since, _CHANGE_AT_MOST):
        return "size"
    return "covered" if found[1] < rim - _RIM_LOSS else ""


def _part(levels: NDArray[np.float64], part: float) -> float:
    """Return the level that this part of them does not exceed; several times as fast as ``np.percentile``."""
    at = int(part * len(levels))
    return float(np.partition(levels, at)[at])


def _sample(
    gray: NDArray[np.uint8], ellipse: Mapping[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return gray levels in the ellipse, and just within and just outside its rim (pairs on the same radius)."""
    (x, y), (minor, major), angle = ellipse["center"], ellipse["axes"], math.radians(ellipse["angle"])
    height, width = gray.shape
    margin = 1.5 + 0.08 * major / 2
    radii = [(part * minor / 2, part * major / 2) for part in _INSIDE]
    radii += [(max(1.0, minor / 2 + step), max(1.0, major / 2 + step)) for step in (-margin, margin)]
    along, across = np.array(radii).T[:, :, None] * _CIRCLE[:, None, :]
    cosine, sine = math.cos(angle), math.sin(angle)
    column = np.rint(x + along * cosine - across * sine).astype(np.intp)
    row = np.rint(y + along * sine + across * cosine).astype(np.intp)
    seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column[~seen] = row[~seen] = 0
    level = gray[row, column].astype(np.float64)
    pairs = seen[3] & seen[4]
    return level[:3][seen[:3]], level[3][pairs], level[4][pairs]
