"""The world camera: from pixels to rays and back.

Camera frames are OpenCV's: x right, y down, z forward, mm. Pixels count from the image's top left corner; norm
positions have x right and y up, 0..1 over the image.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from gazed_bus.errors import CameraModelError
from gazed_bus.intrinsics import dummy_intrinsics, read_intrinsics

__all__ = ["Camera", "camera_of_stream", "default_camera", "read_camera", "read_camera_file"]

Floats = NDArray[np.float64]

_SIZES = {"radial": (4, 5, 8, 12, 14), "fisheye": (4,), "dummy": (4, 5, 8, 12, 14)}
_LARGEST_SIZE = 20_000
_log = logging.getLogger(__name__)
_SETTLED = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 200, 1e-12)
# Two measured world cameras: fx, fy, cx, cy in px, then the distortion. Source: Pupil Core's camera models.
_DEFAULTS: dict[tuple[str, int, int], tuple[Literal["radial", "fisheye"], tuple[float, ...], tuple[float, ...]]] = {
    ("Pupil Cam1 ID2", 640, 480): (
        "radial",
        (406.74054872359386, 392.27339466867005, 332.0196776862145, 242.29314229816816),
        (-0.4261945257015305, 0.18094740350081978, 0.0007881996581097361, 0.00026392537649318074, -0.0367144553787145),
    ),
    ("Pupil Cam1 ID2", 1280, 720): (
        "radial",
        (829.3510515270362, 799.5709408845464, 659.9293047259697, 373.0776462356668),
        (-0.43738542863224966, 0.190570781428104, -0.00125233833830639, 0.0018723428760170056, -0.039219091259637684),
    ),
    ("Pupil Cam1 ID2", 1920, 1080): (
        "fisheye",
        (843.364676204713, 819.1042187528645, 983.8920955744197, 537.1633514857654),
        (-0.1804359422372346, 0.042312699050507684, -0.048304496525298606, 0.022210236517363622),
    ),
    ("Logitech Webcam C930e", 640, 480): (
        "radial",
        (509.1810293948491, 489.7219438561515, 329.6996826114546, 243.26037641451043),
        (0.10313391355051804, -0.24657063652830105, -0.001003806785350075, -0.00046556297715377905, 0.1445780352338783),
    ),
    ("Logitech Webcam C930e", 1280, 720): (
        "radial",
        (773.1676910077922, 743.1525324268981, 646.7114347564985, 363.1646522363395),
        (
            0.10152808562655541,
            -0.23953332793667598,
            -0.0021208895917640205,
            -0.00023898995918166237,
            0.1098748288957075,
        ),
    ),
    ("Logitech Webcam C930e", 1920, 1080): (
        "radial",
        (1120.4309938089518, 1077.3409390197398, 968.3563459802797, 545.695766886239),
        (
            0.09961660299292627,
            -0.21847900301383041,
            -0.0010681464641609897,
            -0.0014568525518904656,
            0.09417837101183982,
        ),
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """The intrinsics of one camera at one resolution."""

    matrix: Floats
    """(3, 3) in px."""
    distortion: Floats
    """(N,) OpenCV's coefficients: of the pinhole model, or the four of the fisheye model."""
    width: int
    height: int
    kind: Literal["radial", "fisheye", "dummy"]
    """``dummy`` is a pinhole whose numbers are a guess: angles that rest on it are guesses too."""

    def unproject(self, pixels: ArrayLike) -> Floats:
        """Return unit rays (N, 3) through pixels (N, 2)."""
        points = np.asarray(pixels, np.float64).reshape(-1, 1, 2)
        if not len(points):
            return np.empty((0, 3))
        if self.kind == "fisheye":
            plane = cv2.fisheye.undistortPoints(points, self.matrix, self.distortion, criteria=_SETTLED)
        else:
            plane = cv2.undistortPointsIter(points, self.matrix, self.distortion, np.eye(3), np.eye(3), _SETTLED)
        rays = np.concatenate([plane.reshape(-1, 2), np.ones((len(points), 1))], axis=1)
        return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))

    def project(self, points: ArrayLike) -> Floats:
        """Return the pixels (N, 2) of points (N, 3); a point behind the camera has those of its mirror image."""
        solid = np.asarray(points, np.float64).reshape(-1, 1, 3)
        if not len(solid):
            return np.empty((0, 2))
        still = np.zeros(3)
        model = cv2.fisheye if self.kind == "fisheye" else cv2
        pixels, _ = model.projectPoints(solid, still, still, self.matrix, self.distortion)
        return np.asarray(pixels, np.float64).reshape(-1, 2)

    def to_norm(self, pixels: ArrayLike) -> Floats:
        """Return norm positions (N, 2) of pixels (N, 2)."""
        return np.asarray(np.asarray(pixels, np.float64) / [self.width, -self.height] + [0.0, 1.0])

    def to_pixels(self, norm: ArrayLike) -> Floats:
        """Return pixels (N, 2) of norm positions (N, 2)."""
        return np.asarray((np.asarray(norm, np.float64) - [0.0, 1.0]) * [self.width, -self.height])

    def rays_of_norm(self, norm: ArrayLike) -> Floats:
        """Return unit rays (N, 3) through norm positions (N, 2)."""
        return self.unproject(self.to_pixels(np.asarray(norm, np.float64).reshape(-1, 2)))


def default_camera(device: str, width: int, height: int) -> Camera:
    """Return what is known of a camera by its name; a ``dummy`` if nothing is known."""
    known = _DEFAULTS.get((device, width, height))
    if known is None:
        return read_camera(dummy_intrinsics(width, height), width, height)
    kind, numbers, distortion = known
    return Camera(_matrix(*numbers), np.array(distortion), width, height, kind)


def camera_of_stream(stream: Mapping[str, Any]) -> Camera | None:
    """Return the camera of a stream as ``gazed.status`` has it: ``device``, and ``info`` with size and intrinsics.

    ``None`` if the size of its images is not known. Intrinsics that are not well formed are left aside.
    """
    info = stream.get("info")
    if not isinstance(info, Mapping):
        return None
    width, height, intrinsics = info.get("width"), info.get("height"), info.get("intrinsics")
    for side in (width, height):
        if type(side) is not int or not 0 < side <= _LARGEST_SIZE:
            return None
    if isinstance(intrinsics, Mapping):
        try:
            return read_camera(intrinsics, width, height)  # type: ignore[arg-type]
        except CameraModelError as error:
            _log.warning("the world camera's intrinsics are not used: %s", error.message)
    device = stream.get("device") or info.get("device")
    return default_camera(device if isinstance(device, str) else "", width, height)  # type: ignore[arg-type]


def read_camera(intrinsics: Mapping[str, Any], width: int, height: int) -> Camera:
    """Return the camera of ``{camera_matrix 3x3, dist_coefs, cam_type}`` for images of this size in px.

    Raises:
        CameraModelError: the map is not of this form, or it says that it is for another size.
    """
    kind = intrinsics.get("cam_type")
    try:
        matrix = np.array(intrinsics["camera_matrix"], np.float64)
        distortion = np.array(intrinsics["dist_coefs"], np.float64).ravel()
        size = [int(value) for value in intrinsics.get("resolution") or (width, height)]
    except (KeyError, TypeError, ValueError) as error:
        raise CameraModelError(f"intrinsics are not well formed: {error!r}", hint=_HINT) from error
    if size != [width, height]:
        raise CameraModelError(f"intrinsics are for {size} px, the images are {[width, height]}", hint=_HINT)
    if kind not in _SIZES:
        raise CameraModelError(f"intrinsics have cam_type {kind!r}: wanted one of {', '.join(_SIZES)}", hint=_HINT)
    good = np.isfinite(matrix).all() and np.isfinite(distortion).all()
    if matrix.shape != (3, 3) or distortion.size not in _SIZES[kind] or not good or np.diag(matrix).min() <= 0:
        raise CameraModelError(
            f"intrinsics of a {kind} camera need a finite 3x3 camera_matrix and {_SIZES[kind]} dist_coefs: found "
            f"{matrix.shape} and {distortion.size}",
            hint=_HINT,
        )
    return Camera(matrix, distortion, width, height, kind)


def read_camera_file(path: Path, width: int, height: int) -> Camera:
    """Return the camera of an ``*.intrinsics`` file for images of this size in px.

    Raises:
        CameraModelError: the file cannot be read, is no intrinsics file, or does not know this size.
    """
    known = read_intrinsics(path).get((width, height))
    if known is None:
        raise CameraModelError(f"{path} has no intrinsics for {width}x{height}", hint=_HINT)
    return read_camera(known, width, height)


_HINT = "calibrate the world camera again, or remove its intrinsics to use the built-in ones"


def _matrix(fx: float, fy: float, cx: float, cy: float) -> Floats:
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
