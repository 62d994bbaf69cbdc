"""How long the lens of an eye camera is: the one thing that the 3D model has to know of it.

Source of the built-in values: the intrinsics that Pupil Core ships for its eye cameras. The focal length is the mean of
the two in the camera matrix, as there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gazed_bus.intrinsics import read_intrinsics

__all__ = ["EyeCamera", "eye_camera"]

_FOCAL_PX = {
    ("Pupil Cam1", (320, 240)): 339.0,
    ("Pupil Cam1", (640, 480)): 671.0,
    ("Pupil Cam2", (192, 192)): 282.98,
    ("Pupil Cam2", (400, 400)): 561.47,
    ("Pupil Cam3", (192, 192)): 140.0,
    ("Pupil Cam3", (400, 400)): 278.5,
}


@dataclass(frozen=True, slots=True)
class EyeCamera:
    """A pinhole camera before an eye."""

    focal_length: float
    """Pixels."""
    resolution: tuple[int, int]
    """Width and height in pixels."""
    origin: str
    """Where the focal length comes from: ``argument``, ``file``, ``stream``, ``built-in`` or ``assumed``."""


def eye_camera(
    resolution: tuple[int, int],
    *,
    device: str = "",
    intrinsics: Mapping[str, Any] | None = None,
    path: Path | None = None,
) -> EyeCamera:
    """Return the camera of images of ``resolution`` (width, height in px).

    The first that says anything about that resolution is taken: the file ``path``, the stream's own ``intrinsics``
    (``StreamInfo.intrinsics``), the built-in values for the name of the ``device`` ("Pupil Cam2 ID0"). A camera that
    nobody knows is assumed to see as wide as Pupil Core's 200 Hz eye camera does: 39 degrees.

    Raises:
        CameraModelError: the file cannot be read, or is no intrinsics file.
    """
    focal = _focal_length(read_intrinsics(path).get(resolution)) if path else None
    if focal is not None:
        return EyeCamera(focal, resolution, "file")
    if intrinsics is not None and intrinsics.get("resolution") in (list(resolution), resolution):
        focal = _focal_length(intrinsics)
        if focal is not None:
            return EyeCamera(focal, resolution, "stream")
    name = re.match(r"Pupil Cam\d", device)
    built_in = _FOCAL_PX.get((name[0], resolution)) if name else None
    if built_in is not None:
        return EyeCamera(built_in, resolution, "built-in")
    return EyeCamera(_FOCAL_PX["Pupil Cam2", (400, 400)] * max(resolution) / 400, resolution, "assumed")


def _focal_length(model: Mapping[str, Any] | None) -> float | None:
    """Return the focal length in px; ``None`` where the model has none, or is that of a camera nobody has measured."""
    if model is None or model.get("cam_type") == "dummy":
        return None
    try:
        matrix = model["camera_matrix"]
        focal = (float(matrix[0][0]) + float(matrix[1][1])) / 2
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return focal if math.isfinite(focal) and focal > 0 else None
