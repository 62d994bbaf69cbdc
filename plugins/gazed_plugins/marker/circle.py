"""Finds circle markers: nested round contours in a small image say where to look, and ``rings`` measures there.

Pupil Core's detector has the same two stages and the same working scale. Its three thresholds are here one threshold
at several scales, each for markers of about its size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from gazed_plugins.marker.rings import Ellipse, Gray, Marker, measure

__all__ = ["CircleDetector", "Marker"]

_FULL_SEARCH_EVERY = 30
_BLOCK = 15
_OFFSET = 8
_LARGEST_RADIUS = 14  # in a scaled image: beyond, the block does not reach from the ring's middle to its edges
_LEVELS = 4
_CONTOUR = (8, 200)  # points
_TRACKED_RADIUS = 10.0
_TRACKED_REACH = 2.5


class CircleDetector:
    """Finds and follows circle markers in the images of one camera, which come in order."""

    def __init__(self) -> None:
        self._last: list[Marker] = []
        self._tracked = 0

    def detect(self, gray: Gray) -> list[Marker]:
        """Return the markers in an image, the largest first.

        Near the markers of the image before it takes a fraction of the time; the whole image is searched where there
        were none or one was lost, and every 30th time in any case.

        Args:
            gray: uint8 of shape (height, width).
        """
        found = self._follow(gray) if self._tracked < _FULL_SEARCH_EVERY else []
        self._tracked += 1
        if not found or len(found) < len(self._last):
            found = _search(gray)
            self._tracked = 0
        self._last = sorted(found, key=lambda marker: -marker.radius)
        return self._last

    def _follow(self, gray: Gray) -> list[Marker]:
        found: list[Marker] = []
        for marker in self._last:
            x, y = marker.center
            reach = _TRACKED_REACH * max(marker.ellipses[0][1]) / 2
            left, top = (max(0, int(value - reach)) for value in (x, y))
            window = gray[top : int(y + reach) + 2, left : int(x + reach) + 2]
            scale = min(1.0, _TRACKED_RADIUS / marker.radius)
            if min(window.shape) * scale >= _BLOCK:
                _add(found, gray, _suspects(_scaled(window, scale), window.shape), (left, top))
        return found


def _search(gray: Gray) -> list[Marker]:
    width = gray.shape[1]
    scale = min(0.5, 960 / width) if width >= 1280 else min(1.0, 640 / width)
    found: list[Marker] = []
    small = _scaled(gray, scale)
    for _ in range(_LEVELS):
        if min(small.shape) < _BLOCK:
            break
        _add(found, gray, _suspects(small, gray.shape), (0, 0))
        small = _scaled(small, 0.5)
    return found


def _scaled(gray: Gray, scale: float) -> Gray:
    if scale == 1:
        return gray
    return np.asarray(cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _add(found: list[Marker], gray: Gray, suspects: Iterator[Ellipse], origin: tuple[int, int]) -> None:
    """Measure around each suspected edge and add the markers that are new."""
    for (x, y), axes, degrees in suspects:
        if any(np.hypot(x + origin[0] - one.center[0], y + origin[1] - one.center[1]) < one.radius for one in found):
            continue
        marker = measure(gray, ((x + origin[0], y + origin[1]), axes, degrees))
        if marker is not None and not any(_overlap(marker, other) for other in found):
            found.append(marker)


def _overlap(one: Marker, other: Marker) -> bool:
    apart = np.hypot(one.center[0] - other.center[0], one.center[1] - other.center[1])
    return bool(apart < max(one.radius, other.radius))


def _suspects(small: Gray, shape: tuple[int, ...]) -> Iterator[Ellipse]:
    """Yield what may be the edge between outer and inner ring of markers that are small here, in px of the full image.

    It is a contour around the centre of which lies another one, inside or outside.
    """
    dark = cv2.adaptiveThreshold(small, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, _BLOCK, _OFFSET)
    contours, tree = cv2.findContours(dark, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return
    lengths = np.fromiter(map(len, contours), np.int64, len(contours))
    parents = tree[0, :, 3]
    child = np.flatnonzero(parents >= 0)
    parent = parents[child]
    inner, outer = lengths[child], lengths[parent]
    likely = (inner >= _CONTOUR[0]) & (outer <= _CONTOUR[1]) & (outer > 1.1 * inner) & (outer < 6 * inner)
    back = np.array([shape[1] / small.shape[1], shape[0] / small.shape[0]])
    pairs = zip(child[likely].tolist(), parent[likely].tolist(), strict=True)
    counts: dict[int, int] = {}
    for pair in pairs:
        if _concentric(cv2.boundingRect(contours[pair[0]]), cv2.boundingRect(contours[pair[1]])):
            for index in pair:
                counts[index] = counts.get(index, 0) + 1
    # A contour with one inside and one outside first: where that is a marker, the others need no look.
    for index in sorted(counts, key=lambda index: -counts[index]):
        ellipse = _ellipse(contours[index], back)
        if ellipse is not None:
            yield ellipse


def _concentric(first: Sequence[int], second: Sequence[int]) -> bool:
    """Tell whether two boxes (x, y, width, height) have about the same centre and shape."""
    (x, y, w, h), (left, top, wide, high) = first, second
    limit = 2 * max(1.5, 0.1 * max(wide, high))
    return (
        abs(2 * x + w - 2 * left - wide) <= limit
        and abs(2 * y + h - 2 * top - high) <= limit
        and w < wide
        and h < high
        and max(wide, high) <= 2.5 * _LARGEST_RADIUS * 2
    )


def _ellipse(contour: MatLike, back: NDArray[np.float64]) -> Ellipse | None:
    """Return the ellipse of a contour, scaled ``back``, or ``None`` if it is none."""
    if len(contour) < 5:
        return None
    (x, y), (minor, major), degrees = cv2.fitEllipse(contour)
    if not 2 <= minor <= major <= 4 * minor:
        return None
    area = cv2.contourArea(contour) + len(contour) / 2
    if not 0.8 < area / (np.pi / 4 * (minor + 0.5) * (major + 0.5)) < 1.25:
        return None
    # Pixels of the contour lie half a pixel inside the edge, or outside around a hole.
    scale = float(back.mean())
    place = (np.array([x, y]) + 0.5) * back - 0.5
    return (float(place[0]), float(place[1])), (minor * scale, major * scale), degrees
