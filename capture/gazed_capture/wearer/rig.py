"""The head and the headset in millimetres: where the eyes and the cameras are, and what their lenses do.

The eye is LeGrand's schematic eye as Dierkes, Kassner and Bulling use it ("A novel approach to single camera,
glint-free 3D eye model fitting including corneal refraction", ETRA 2018): a sphere and, in front of it, a
spherical cornea that meets it in the limbus. Camera frames are OpenCV's: x right, y down, z forward. The rig is fixed
to the head, and the world camera's frame is the frame of the rig.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sin, sqrt

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CORNEA_CENTER_MM",
    "CORNEA_INDEX",
    "CORNEA_RADIUS_MM",
    "EYEBALL_RADIUS_MM",
    "IRIS_RADIUS_MM",
    "LIGHTS_MM",
    "PUPIL_PLANE_MM",
    "EyeRig",
    "camera_matrix",
    "eye_rig",
]

EYEBALL_RADIUS_MM = 12.0
IRIS_RADIUS_MM = 6.0
PUPIL_PLANE_MM = sqrt(EYEBALL_RADIUS_MM**2 - IRIS_RADIUS_MM**2)
"""From the centre of the eyeball to the centre of pupil and iris: 10.392 mm."""
CORNEA_RADIUS_MM = 7.8
CORNEA_CENTER_MM = PUPIL_PLANE_MM - sqrt(CORNEA_RADIUS_MM**2 - IRIS_RADIUS_MM**2)
"""From the centre of the eyeball to that of the cornea's sphere: 5.408 mm."""
CORNEA_INDEX = 1.3375
LIGHTS_MM = ((-9.0, -3.0, 0.0), (9.0, -3.0, 0.0), (0.0, 8.0, 0.0), (0.0, -8.0, 0.0), (-7.0, 6.0, 0.0), (7.0, 6.0, 0.0))
"""Infrared lights around the lens of an eye camera, in the frame of an upright one; those of a Pupil Core first."""

_EYE_CENTER = {"eye0": (31.0, 20.0, -20.0), "eye1": (-31.0, 20.0, -20.0)}
_CAMERA_DISTANCE_MM = 40.0
_CAMERA_BELOW_DEG, _CAMERA_TEMPORAL_DEG = 22.0, 12.0
_EYE_FOCAL_PX = {192: 283.0, 400: 561.5}  # the presets of Pupil Core's 200 Hz eye camera, by image width
_WORLD_FOCAL_PX = 800.0  # at 1280 pixels: 77 degrees across


@dataclass(frozen=True, slots=True, eq=False)
class EyeRig:
    """One eye and the camera before it. All vectors are float64."""

    center_mm: NDArray[np.float64]
    """(3,) centre of the eyeball in the world camera's frame."""
    camera_mm: NDArray[np.float64]
    """(3,) position of the eye camera in the world camera's frame."""
    rotation: NDArray[np.float64]
    """(3, 3) turns directions of the world camera's frame into the eye camera's."""
    temple: int
    """+1 if the temple is on the right of the upright image, -1 if on the left."""
    upside_down: bool
    """Whether the camera is mounted head first, as the right one of a Pupil Core is."""

    @property
    def eyeball_mm(self) -> NDArray[np.float64]:
        """(3,) centre of the eyeball in the eye camera's frame."""
        return self.rotation @ (self.center_mm - self.camera_mm)

    def gaze(self, target_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the unit vectors (N, 3), in the eye camera's frame, from the eyeball's centre to targets (N, 3).

        Targets are in the world camera's frame, in millimetres. Optical and visual axis are one.
        """
        away = (target_mm - self.center_mm) @ self.rotation.T
        return np.asarray(away / np.linalg.norm(away, axis=-1, keepdims=True))


def eye_rig(stream: str) -> EyeRig:
    """Return the rig of ``eye0`` (the wearer's right eye) or ``eye1`` (the left one)."""
    center = np.array(_EYE_CENTER[stream])
    right = stream == "eye0"
    below, temporal = radians(_CAMERA_BELOW_DEG), radians(_CAMERA_TEMPORAL_DEG) * (1 if right else -1)
    from_eye = np.array([sin(temporal) * cos(below), sin(below), cos(temporal) * cos(below)])
    camera = center + _CAMERA_DISTANCE_MM * from_eye
    # Aimed between eyeball and pupil, so that the pupil of a gaze straight ahead is near the middle of the image.
    forward = center + np.array([0.0, 0.0, 0.75 * PUPIL_PLANE_MM]) - camera
    forward /= np.linalg.norm(forward)
    across = np.cross([0.0, 1.0, 0.0], forward)
    across /= np.linalg.norm(across)
    rotation = np.stack([across, np.cross(forward, across), forward])
    if right:
        rotation = np.diag([-1.0, -1.0, 1.0]) @ rotation
    return EyeRig(center, camera, rotation, temple=-1 if right else 1, upside_down=right)


def camera_matrix(stream: str, width: int, height: int) -> NDArray[np.float64]:
    """Return the (3, 3) pinhole matrix, in pixels, of a stream's camera; no camera of the rig has distortion."""
    if stream == "world":
        focal = _WORLD_FOCAL_PX * width / 1280
    else:
        focal = _EYE_FOCAL_PX.get(width, _EYE_FOCAL_PX[400] * width / 400)
    return np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])
