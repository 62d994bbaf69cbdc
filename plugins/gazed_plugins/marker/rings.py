"""Measures one circle marker near a place where it is suspected, or finds that there is none.

The marker is Pupil's v0.4: a ring, in it a ring of the other brightness, in that a dot of the first. A dark ring on
bright paper is ``Ref``, a bright one ``Stop``. The limits of the ratios and contrasts are those of Pupil Core's circle
detector; the edges are measured on rays, each against its own brightness, so that shadows do not shift them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Ellipse", "Gray", "Marker", "measure"]

Gray = NDArray[np.uint8]
Floats = NDArray[np.float64]
Ellipse = tuple[tuple[float, float], tuple[float, float], float]
"""Centre in px, full axes in px (shorter one first), angle in degrees, as ``cv2.fitEllipse`` has them."""

_RAYS = 64
_FEW_RAYS, _FEW_SAMPLES = 16, 60
_REACH = 2.4  # of the radius of the edge between the rings
_STEP_PX = 0.7
_SAMPLES = (48, 320)
_RING_RATIO = {"Ref": (1.2, 2.0), "Stop": (1.3, 2.1)}
_DOT_RATIO = {"Ref": (2.5, 6.0), "Stop": (2.5, 5.0)}
_SPOT = 0.35  # of the dot
_MIN_CONTRAST = 20.0
_MIN_RAYS = 0.75
_MAX_OFF = 0.03  # of the radius
_MIN_OFF_PX = 0.6
_OUTLIER = 4.0  # of the median error
_ROUNDS = 6
_MAX_APART = 0.12
_MIN_RADIUS_PX = 8.0
_MAX_ASPECT = 4.0


@dataclass(frozen=True, slots=True)
class Marker:
    """A circle marker in an image of the world camera."""

    kind: Literal["Ref", "Stop"]
    """``Ref`` is a target to look at; ``Stop`` ends a calibration."""
    center: tuple[float, float]
    """px from the centre of the top left pixel; perspective is allowed for."""
    ellipses: tuple[Ellipse, Ellipse, Ellipse]
    """The edges of outer ring, inner ring and dot."""
    radius: float
    """Mean radius of the outer ring in px."""
    norm_pos: tuple[float, float]
    """The centre as part of width and height, from the bottom left corner."""


@dataclass(frozen=True, slots=True, eq=False)
class _Rays:
    """Brightness along rays from a suspected centre, in the frame in which ``ellipse`` is the unit circle."""

    values: NDArray[np.float32]
    """(rays, samples)"""
    step: float
    """Distance between samples, as part of the radius."""
    axes: Floats
    """(2, 2) the ellipse's half axes as columns, px."""
    center: Floats
    """(2,) px"""

    def at(self, radius: float) -> Floats:
        """Return (rays,) the brightness around ``radius``, the mean of three samples."""
        middle = min(max(1, round(radius / self.step)), self.values.shape[1] - 2)
        return np.asarray(self.values[:, middle - 1 : middle + 2].mean(axis=1), np.float64)


def measure(gray: Gray, edge: Ellipse) -> Marker | None:
    """Return the marker whose edge between outer and inner ring is about ``edge``, or ``None``.

    Args:
        gray: image, uint8 of shape (height, width).
        edge: in px of this image; may be off by a few pixels, or a tenth of its size.
    """
    found = _edges(_cast(gray, edge, _FEW_RAYS, _FEW_SAMPLES))
    if found is None:
        return None
    kind, radii = found
    low, high = _SAMPLES
    rays = _cast(gray, edge, _RAYS, int(np.clip(_REACH * max(edge[1]) / 2 / _STEP_PX, low, high)))
    ellipses = []
    for index, radius in enumerate(radii):
        nearest = min(abs(radius - other) for other in (*radii, 0.0) if other != radius)
        ellipse = _fit(rays, radius, nearest / 2, outer=index == 0)
        if ellipse is None:
            return None
        ellipses.append(ellipse)
    outer, inner, dot = ellipses
    return _accept(gray.shape, kind, outer, inner, dot)


def _cast(gray: Gray, edge: Ellipse, rays: int, samples: int) -> _Rays:
    (x, y), (first, second), degrees = edge
    turn = np.radians(degrees)
    direction = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    axes = direction * np.array([first, second]) / 2
    step = _REACH / (samples - 1)
    radii = np.arange(samples, dtype=np.float32) * np.float32(step)
    to = (_circle(rays) @ axes.T).astype(np.float32)
    across, down = (to[:, [index]] * radii + np.float32(place) for index, place in enumerate((x, y)))
    values = cv2.remap(gray, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return _Rays(values.astype(np.float32), step, axes, np.array([x, y]))


@cache
def _circle(rays: int) -> Floats:
    """Return (rays, 2) directions all around."""
    angle = np.arange(rays) * (2 * np.pi / rays)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _edges(rays: _Rays) -> tuple[Literal["Ref", "Stop"], tuple[float, float, float]] | None:
    """Return the kind and the radii of outer edge, inner edge and dot, from the mean brightness at each radius."""
    levels: list[float] = np.sort(rays.values, axis=0)[len(rays.values) // 2].tolist()

    def between(first: float, last: float) -> list[float]:
        return levels[round(first / rays.step) : round(last / rays.step) + 1]

    kind: Literal["Ref", "Stop"] = "Ref" if sum(between(1.05, 1.25)) < sum(between(0.75, 0.95)) else "Stop"
    if kind == "Stop":
        levels = [255 - level for level in levels]
    low, gap = min(between(1.0, 1.4)), between(0.5, 1.0)
    high = max(gap)
    if high - low < _MIN_CONTRAST:
        return None
    # From the middle of the inner ring outwards: through its edge into the outer one, and out of that again.
    above = [2 * level > high + low for level in levels]
    start = round(0.5 / rays.step) + gap.index(high)
    inner = _leave(above, start, 1)
    above_not = [not each for each in above]
    outer = _leave(above_not, inner, 1)
    dot = _leave(above, start, -1)
    # In the dot there may be a small spot; a larger one is the dot of another kind of marker.
    if outer >= len(above) or dot < 0 or above[round(_SPOT * dot)]:
        return None
    return kind, ((outer - 0.5) * rays.step, (inner - 0.5) * rays.step, (dot + 0.5) * rays.step)


def _leave(mask: list[bool], start: int, step: int) -> int:
    """Return the first index from ``start`` on at which ``mask`` is false; -1 or its length where there is none."""
    while 0 <= start < len(mask) and mask[start]:
        start += step
    return start


def _fit(rays: _Rays, radius: float, reach: float, *, outer: bool) -> Ellipse | None:
    """Return the ellipse through the edge near ``radius``, or ``None`` where there is no such edge all around."""
    # The paper around the marker may be narrow.
    inside, outside = rays.at(radius - reach), rays.at(radius + min(reach, 0.3) if outer else radius + reach)
    contrast = np.median(outside - inside)
    threshold = (inside + outside) / 2
    first = max(0, int((radius - reach) / rays.step))
    last = min(rays.values.shape[1], int(np.ceil((radius + reach) / rays.step)) + 1)
    if last - first < 2:
        return None
    offset = rays.values[:, first:last] - threshold[:, None]
    rises = np.sign(contrast) * offset
    crossing = (rises[:, :-1] < 0) & (rises[:, 1:] >= 0)
    part = rises[:, :-1] / np.where(crossing, rises[:, :-1] - rises[:, 1:], 1.0)
    place = (np.arange(first, last - 1) + part) * rays.step
    away = np.where(crossing, np.abs(place - radius), np.inf)
    nearest = away.argmin(axis=1)
    row = np.arange(len(away))
    usable = good = np.isfinite(away[row, nearest]) & (np.sign(contrast) * (outside - inside) > 0.4 * abs(contrast))
    at = place[row, nearest]
    # What covers a part of the edge has an edge of its own: it goes step by step, and sound rays come back.
    coarsest, finest = _MAX_OFF * radius, _MIN_OFF_PX * radius / _pixels(rays, radius)
    for _ in range(_ROUNDS):
        if good.sum() < _MIN_RAYS * len(good):
            return None
        error = np.abs(at - _smooth(at, good))
        limit = max(min(_OUTLIER * float(np.median(error[good])), coarsest), finest)
        before, good = good, usable & (error < limit)
        if np.array_equal(before, good):
            break
    if good.sum() < _MIN_RAYS * len(good):
        return None
    points = (_circle(_RAYS)[good] * at[good, None]) @ rays.axes.T + rays.center
    (x, y), (minor, major), degrees = cv2.fitEllipse(points.astype(np.float32))
    return (x, y), (minor, major), degrees


def _pixels(rays: _Rays, radius: float) -> float:
    """Return the shorter half axis in px at a radius."""
    return float(radius * np.sqrt((rays.axes**2).sum(axis=0)).min())


def _smooth(at: Floats, good: NDArray[np.bool_]) -> Floats:
    """Return the radii (rays,) of an ellipse near a circle: the first two harmonics of those that are ``good``."""
    basis = _basis()
    used = basis[good]
    return np.asarray(basis @ np.linalg.solve(used.T @ used, used.T @ at[good]))


@cache
def _basis() -> Floats:
    x, y = _circle(_RAYS).T
    return np.stack([np.ones(_RAYS), x, y, x * x - y * y, 2 * x * y], axis=1)


def _accept(
    shape: tuple[int, ...], kind: Literal["Ref", "Stop"], outer: Ellipse, inner: Ellipse, dot: Ellipse
) -> Marker | None:
    """Return the marker of three ellipses if their sizes and places are those of one."""
    sizes = np.array([sum(axes) / 4 for _, axes, _ in (outer, inner, dot)])
    centers = np.array([center for center, _, _ in (outer, inner, dot)])
    low, high = _RING_RATIO[kind]
    if not low <= sizes[0] / sizes[1] <= high:
        return None
    low, high = _DOT_RATIO[kind]
    if not low <= sizes[0] / sizes[2] <= high:
        return None
    if sizes[0] < _MIN_RADIUS_PX or max(outer[1]) > _MAX_ASPECT * min(outer[1]):
        return None
    apart = np.linalg.norm(centers - centers[2], axis=1).max()
    if apart > _MAX_APART * sizes[0]:
        return None
    x, y = _vanishing(sizes, centers)
    height, width = shape[:2]
    return Marker(kind, (x, y), (outer, inner, dot), float(sizes[0]), (x / width, 1 - y / height))


def _vanishing(sizes: Floats, centers: Floats) -> tuple[float, float]:
    """Return where the centre of a circle of no size would be.

    Seen at an angle, the centre of a circle's image is off the image of its centre, in proportion to its area.
    """
    area = sizes**2
    weight = np.sqrt(sizes)
    basis = np.stack([np.ones(3), area / area[0]], axis=1) * weight[:, None]
    x, y = np.linalg.lstsq(basis, centers * weight[:, None], rcond=None)[0][0]
    return float(x), float(y)
