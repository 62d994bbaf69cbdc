"""Ellipses through keypoints, and pupils made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gazed_plugins.keypoints.tracks import AXIS_ENDS, Points

__all__ = ["Circle", "Ellipse", "fit_circle", "fit_ellipse", "pupils"]

Floats = NDArray[np.float64]
Datum = dict[str, Any]

_LEAST_POINTS = 5
_FLATTEST = 0.02


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse, as Pupil's 2D detector tells of one."""

    center: tuple[float, float]
    """Pixels."""
    axes: tuple[float, float]
    """The whole length of the shorter and of the longer axis, px."""
    angle: float
    """Direction of the shorter axis, degrees from x to y, 0 to 180."""


@dataclass(frozen=True, slots=True)
class Circle:
    """A circle in space."""

    center: tuple[float, float, float]
    normal: tuple[float, float, float]
    """Of length 1, towards the origin."""
    radius: float


def fit_ellipse(points: Floats) -> Ellipse | None:
    """Return the ellipse that fits five or more points best, shape (n, 2); ``None`` if they are on none.

    Source of the method: Fitzgibbon, Pilu and Fisher's direct least squares, as OpenCV has it.
    """
    # The fit works in single precision: near the origin that is finer.
    middle = points.mean(axis=0)
    try:
        (x, y), (width, height), angle = cv2.fitEllipseDirect((points - middle).astype(np.float32))
    except cv2.error:
        return None
    if width > height:
        width, height, angle = height, width, angle + 90
    reach = float(np.abs(points - middle).max())
    # Points on a line or on an open curve are fitted by what is flat, or far larger than they are.
    if not (width > _FLATTEST * height and height <= 8 * reach and math.hypot(x, y) <= 4 * reach):
        return None
    return Ellipse((float(middle[0]) + x, float(middle[1]) + y), (float(width), float(height)), float(angle) % 180)


def ellipse_of_ends(points: Floats) -> Ellipse | None:
    """Return the ellipse whose axes end in these points, shape (4, 2), in the order of ``AXIS_ENDS``."""
    major, minor = points[0] - points[1], points[2] - points[3]
    axes = sorted((float(np.hypot(*minor)), float(np.hypot(*major))))
    center = points.mean(axis=0)
    if not axes[0] > 0:
        return None
    along = minor if np.hypot(*minor) <= np.hypot(*major) else major
    angle = math.degrees(math.atan2(along[1], along[0])) % 180
    return Ellipse((float(center[0]), float(center[1])), (axes[0], axes[1]), angle)


def fit_circle(points: Floats) -> Circle | None:
    """Return the circle that fits three or more points in space, shape (n, 3); ``None`` if they are on a line.

    It lies in the plane through them (least squares), where its centre is that of the algebraic fit of Kåsa.
    """
    middle = points.mean(axis=0)
    _, sizes, axes = np.linalg.svd(points - middle, full_matrices=False)
    if not sizes[1] > 1e-9 * max(1.0, sizes[0]):
        return None
    flat = (points - middle) @ axes[:2].T
    equations = np.column_stack([2 * flat, np.ones(len(flat))])
    (u, v, rest), *_ = np.linalg.lstsq(equations, (flat**2).sum(axis=1))
    center = middle + u * axes[0] + v * axes[1]
    normal = axes[2] if axes[2] @ center <= 0 else -axes[2]
    radius = math.sqrt(max(0.0, float(rest + u * u + v * v)))
    return Circle(tuple(center.tolist()), tuple(normal.tolist()), radius)


def pupils(
    points: Points, eye: int, size: tuple[int, int], threshold: float, focal_length: float | None = None
) -> Iterator[Datum]:
    """Yield the pupil of each frame, without its timestamp.

    The ellipse is fitted to those keypoints whose confidence is at least ``threshold``; the pupil's confidence is the
    mean of theirs, times the share of the keypoints that they are. Where fewer than five are left (of the ends of the
    axes, not all four), or they are on no ellipse, it is 0, and the ellipse has no axes, as Pupil's detector tells it.

    Args:
        points: the keypoints.
        eye: 0 (right) … 9.
        size: width and height in px of the eye's image.
        threshold: least confidence of a keypoint, 0 to 1.
        focal_length: px; of points in space, which are in mm from the eye's camera (x to the right, y down, z away).
            Their pupils have ``circle_3d`` and ``diameter_3d`` as well.
    """
    ends = set(points.names) == set(AXIS_ENDS)
    order = [points.names.index(name) for name in AXIS_ENDS] if ends else list(range(len(points.names)))
    least = len(AXIS_ENDS) if ends else _LEAST_POINTS
    for position, confidence in zip(points.position.transpose(0, 2, 1), points.confidence, strict=True):
        place, sure = position[order], np.clip(confidence[order], 0.0, 1.0)
        good = (sure >= threshold) & np.isfinite(place).all(axis=1)
        if focal_length is not None:
            good &= place[:, 2] > 0
        used = place[good]
        seen = used if focal_length is None else focal_length * used[:, :2] / used[:, 2:] + np.array(size) / 2
        fit = ellipse_of_ends if ends else fit_ellipse
        ellipse = fit(seen) if len(used) >= least else None
        mean = float(sure[good].mean() * len(used) / len(place)) if ellipse else 0.0
        datum = _datum(eye, points.source, size, ellipse, mean)
        if ellipse and focal_length is not None and (circle := fit_circle(used)):
            datum["circle_3d"] = {"center": circle.center, "normal": circle.normal, "radius": circle.radius}
            datum["diameter_3d"] = 2 * circle.radius
        yield datum


def _datum(eye: int, source: str, size: tuple[int, int], ellipse: Ellipse | None, confidence: float) -> Datum:
    found = ellipse or Ellipse((0.0, 0.0), (0.0, 0.0), 0.0)
    x, y = found.center
    return {
        "id": eye,
        "topic": f"pupil.{eye}.2d",
        "method": f"keypoints {source}",
        "norm_pos": [x / size[0], 1 - y / size[1]],
        "diameter": found.axes[1],
        "confidence": confidence,
        "ellipse": {"center": [x, y], "axes": list(found.axes), "angle": found.angle},
    }
