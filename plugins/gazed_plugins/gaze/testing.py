"""Eyes made of geometry, for tests of whatever calibrates and maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import msgpack
import numpy as np
from numpy.typing import NDArray

from gazed_plugins.gaze.camera import Camera, default_camera
from gazed_plugins.gaze.fitting import solve
from gazed_plugins.gaze.matching import Datum

__all__ = ["GRID", "WORLD", "InlineWorker", "pupil_datums", "reference", "session", "target_at"]

Floats = NDArray[np.float64]

WORLD: Camera = default_camera("Pupil Cam1 ID2", 1280, 720)
"""The world camera that the eyes are in front of."""
GRID: list[tuple[float, float]] = [(x, y) for y in (0.3, 0.5, 0.7) for x in (0.25, 0.5, 0.75)]
"""Norm positions of nine targets."""

_PLACES = {0: np.array([20.0, 15.0, -20.0]), 1: np.array([-40.0, 15.0, -20.0])}
_TURNS = {0: np.array([0.1, 2.9, 0.2]), 1: np.array([0.2, -2.6, 0.3])}
_CENTERS = {0: [1.0, 2.0, 42.0], 1: [-1.5, 3.0, 38.0]}
_FOCAL_PX, _SIZE_PX = 283.0, 192
_RADIUS_MM = 10.392304845413264


def target_at(norm_pos: Sequence[float], depth_mm: float = 500.0) -> Floats:
    """Return the point (3,) in mm that the world camera sees at ``norm_pos``, so far away."""
    return np.asarray(WORLD.rays_of_norm([norm_pos])[0] * depth_mm)


def reference(norm_pos: Sequence[float], timestamp: float) -> Datum:
    """Return a reference as a choreography collects it."""
    pixel = WORLD.to_pixels([norm_pos])[0]
    return {"norm_pos": [float(v) for v in norm_pos], "screen_pos": pixel.tolist(), "timestamp": timestamp}


def pupil_datums(eye: int, target: Floats, timestamp: float, confidence: float = 0.95) -> list[Datum]:
    """Return the 2D and the 3D datum of an eye that looks at a target, with all of Pupil's keys."""
    away = target - _PLACES[eye]
    normal = cv2.Rodrigues(_TURNS[eye])[0].T @ (away / np.linalg.norm(away))
    center = np.array(_CENTERS[eye])
    disc = center + _RADIUS_MM * normal
    place = _SIZE_PX / 2 + _FOCAL_PX * disc[:2] / disc[2]
    norm = [float(place[0]) / _SIZE_PX, 1 - float(place[1]) / _SIZE_PX]
    ellipse = {"center": place.tolist(), "axes": [20.0, 22.0], "angle": 30.0}
    both: Datum = {"id": eye, "timestamp": timestamp, "confidence": confidence, "norm_pos": norm, "diameter": 22.0}
    both["ellipse"] = ellipse
    return [
        {**both, "topic": f"pupil.{eye}.2d", "method": "2d c++"},
        {
            **both,
            "topic": f"pupil.{eye}.3d",
            "method": "pye3d 0.3.2 real-time",
            "location": place.tolist(),
            "sphere": {"center": center.tolist(), "radius": _RADIUS_MM},
            "projected_sphere": {"center": [100.0, 100.0], "axes": [150.0, 150.0], "angle": 0.0},
            "circle_3d": {"center": disc.tolist(), "normal": normal.tolist(), "radius": 2.0},
            "diameter_3d": 4.0,
            "model_confidence": 1.0,
            "theta": float(np.arccos(normal[1])),
            "phi": float(np.arctan2(normal[2], normal[0])),
        },
    ]


def session(
    places: Iterable[Sequence[float]] = GRID, *, start: float = 100.0, each: int = 6, eyes: Sequence[int] = (0, 1)
) -> dict[str, Any]:
    """Return ``ref_list`` and ``pupil_list`` of eyes that look at places one after the other, ``each`` images long."""
    refs, pupils = [], []
    places = [place for place in places for _ in range(each)]
    for row, place in enumerate(places):
        stamp = start + row / 30
        refs.append(reference(place, stamp))
        for eye in eyes:
            pupils += pupil_datums(eye, target_at(place), stamp + 0.002 * (eye + 1))
    return {"ref_list": refs, "pupil_list": pupils}


class InlineWorker:
    """A ``Worker`` without a process of its own: it has the answer when it has the job."""

    def __init__(self) -> None:
        self._answer: dict[str, Any] | None = None

    def start(self, job: Mapping[str, Any]) -> None:
        """Do the job; it and the answer are packed as on the way to a process and back."""
        self._answer = msgpack.unpackb(msgpack.packb(solve(msgpack.unpackb(msgpack.packb(job)))))

    def answer(self) -> dict[str, Any] | None:
        """Return the answer."""
        return self._answer

    def close(self) -> None:
        """There is nothing to end."""
