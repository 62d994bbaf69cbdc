"""What an eye camera sees of the eye, as geometry: pupil and limbus ellipses and the glints, in pixels.

The pupil is seen through the cornea, which refracts: its rim is traced and the ellipse that fits best is what the
renderer draws, so that the ellipse is exact for the image by construction. Limbus and glints lie on the surface.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gazed_capture.wearer.rig import (
    CORNEA_CENTER_MM,
    CORNEA_INDEX,
    CORNEA_RADIUS_MM,
    IRIS_RADIUS_MM,
    LIGHTS_MM,
    PUPIL_PLANE_MM,
)

__all__ = ["ELLIPSE", "fit_ellipses", "glints", "limbus_ellipses", "project", "pupil_ellipses"]

Floats = NDArray[np.float64]

ELLIPSE = np.dtype([(name, "f8") for name in ("cx", "cy", "minor", "major", "angle_deg")])
"""An ellipse in pixels: centre, full lengths of the axes, and the direction of the minor axis from +x towards +y.

Pupil's convention for ``ellipse``: axes [minor, major], angle of the major axis less 90 degrees; here in [-90, 90).
"""

_RIM_POINTS = 32


def project(points: Floats, camera: Floats) -> Floats:
    """Project points (..., 3) in mm through a pinhole ``camera`` (3, 3) to pixels (..., 2)."""
    return np.asarray(points[..., :2] / points[..., 2:] * camera[0, 0] + camera[:2, 2])


def fit_ellipses(points: Floats) -> NDArray[np.void]:
    """Fit an ellipse to each row of points (N, M, 2), by least squares on the conic; returns (N,) of ``ELLIPSE``."""
    middle = points.mean(axis=1, keepdims=True)
    scale = np.abs(points - middle).max(axis=(1, 2), keepdims=True)
    x, y = np.moveaxis((points - middle) / scale, -1, 0)
    design = np.stack([x * x, x * y, y * y, x, y], axis=-1)
    gram = np.swapaxes(design, 1, 2) @ design
    a, b, c, d, e = np.linalg.solve(gram, design.sum(axis=1)[..., None])[..., 0].T
    form = np.stack([np.stack([a, b / 2], -1), np.stack([b / 2, c], -1)], -2)
    linear = np.stack([d, e], -1)
    center = -0.5 * np.linalg.solve(form, linear[..., None])[..., 0]
    level = 1 - 0.5 * (linear * center).sum(-1)
    values, vectors = np.linalg.eigh(form / level[:, None, None])
    semi = 1 / np.sqrt(values)  # eigenvalues rise, so the second axis is the minor one
    fitted = np.empty(len(points), ELLIPSE)
    fitted["cx"], fitted["cy"] = (center * scale[:, 0] + middle[:, 0]).T
    fitted["minor"], fitted["major"] = 2 * semi[:, 1] * scale[:, 0, 0], 2 * semi[:, 0] * scale[:, 0, 0]
    angle = np.degrees(np.arctan2(vectors[:, 1, 1], vectors[:, 0, 1]))
    fitted["angle_deg"] = (angle + 90) % 180 - 90
    return fitted


def _rim(gaze: Floats, eyeball: Floats, radius: Floats) -> Floats:
    """Return (N, M, 3) points on circles of ``radius`` (N,) around the gaze axis in the pupil's plane."""
    turn = np.linspace(0, 2 * np.pi, _RIM_POINTS, endpoint=False)
    across = np.cross(gaze, [0.0, 1.0, 0.0])
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    up = np.cross(across, gaze)
    ring = np.cos(turn)[:, None] * across[:, None, :] + np.sin(turn)[:, None] * up[:, None, :]
    return np.asarray((eyeball + PUPIL_PLANE_MM * gaze)[:, None, :] + radius[:, None, None] * ring)


def _refract(aim: Floats, gaze: Floats, eyeball: Floats) -> Floats:
    """Follow rays from the camera to ``aim`` (N, M, 3) through the cornea into the pupil's plane, by Snell's law."""
    ray = aim / np.linalg.norm(aim, axis=-1, keepdims=True)
    cornea = (eyeball + CORNEA_CENTER_MM * gaze)[:, None, :]
    along = (ray * cornea).sum(-1, keepdims=True)
    depth = along**2 - (cornea**2).sum(-1, keepdims=True) + CORNEA_RADIUS_MM**2
    surface = (along - np.sqrt(depth)) * ray
    normal = (surface - cornea) / CORNEA_RADIUS_MM
    ratio = 1 / CORNEA_INDEX
    facing = -(normal * ray).sum(-1, keepdims=True)
    inside = ratio * ray + (ratio * facing - np.sqrt(1 - ratio**2 * (1 - facing**2))) * normal
    plane = (eyeball + PUPIL_PLANE_MM * gaze)[:, None, :]
    axis = gaze[:, None, :]
    reach = ((plane - surface) * axis).sum(-1, keepdims=True) / (inside * axis).sum(-1, keepdims=True)
    return np.asarray(surface + reach * inside)


def pupil_ellipses(gaze: Floats, pupil_mm: Floats, eyeball: Floats, camera: Floats) -> NDArray[np.void]:
    """Return the pupils as the camera sees them through the cornea, (N,) of ``ELLIPSE``.

    ``gaze`` (N, 3) are unit vectors and ``eyeball`` (3,) is in mm, both in the camera's frame; ``pupil_mm`` (N,) are
    diameters.
    """
    rim = _rim(gaze, eyeball, pupil_mm / 2)
    aim = rim
    for _ in range(10):  # each step leaves about an eighth of the error
        aim = aim + rim - _refract(aim, gaze, eyeball)
    return fit_ellipses(project(aim, camera))


def limbus_ellipses(gaze: Floats, eyeball: Floats, camera: Floats) -> NDArray[np.void]:
    """Return the outer edges of the irises, (N,) of ``ELLIPSE``; arguments as for ``pupil_ellipses``."""
    return fit_ellipses(project(_rim(gaze, eyeball, np.full(len(gaze), IRIS_RADIUS_MM)), camera))


def glints(gaze: Floats, eyeball: Floats, camera: Floats, *, upside_down: bool, count: int = 2) -> Floats:
    """Return the mirror images of the camera's first ``count`` lights in the cornea, (N, count, 2) in pixels.

    A light is seen where the cornea's normal halves the angle between camera and light.
    """
    lights = np.array(LIGHTS_MM)[:count] * (np.array([-1.0, -1.0, 1.0]) if upside_down else 1.0)
    cornea = (eyeball + CORNEA_CENTER_MM * gaze)[:, None, :]
    normal = np.repeat(-cornea / np.linalg.norm(cornea, axis=-1, keepdims=True), len(lights), axis=1)
    for _ in range(12):
        surface = cornea + CORNEA_RADIUS_MM * normal
        to_light = lights - surface
        normal = to_light / np.linalg.norm(to_light, axis=-1, keepdims=True)
        normal = normal - surface / np.linalg.norm(surface, axis=-1, keepdims=True)
        normal = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    return project(cornea + CORNEA_RADIUS_MM * normal, camera)
