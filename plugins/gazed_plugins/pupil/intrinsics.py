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

import msgpack

from gazed_plugins.errors import PluginArgument

__all__ = ["EyeCamera", "eye_camera", "known_cameras", "read_intrinsics"]

_FOCAL_PX = {
    ("Pupil Cam1", (320, 240)): 339.0,
    ("Pupil Cam1", (640, 480)): 671.0,
    ("Pupil Cam2", (192, 192)): 282.98,
    ("Pupil Cam2", (400, 400)): 561.47,
    ("Pupil Cam3", (192, 192)): 140.0,
    ("Pupil Cam3", (400, 400)): 278.5,
}
_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class EyeCamera:
    """A pinhole camera before an eye."""

    focal_length: float
    """Pixels."""
    resolution: tuple[int, int]
    """Width and height in pixels."""
    origin: str
    """Where the focal length comes from: ``argument``, ``file``, ``stream``, ``built-in`` or ``assumed``."""


def known_cameras() -> list[str]:
    """Return the names of the cameras whose intrinsics are built in."""
    return sorted({name for name, _ in _FOCAL_PX})


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
        PluginArgument: the file cannot be read, or holds no intrinsics.
    """
    found = read_intrinsics(path, resolution) if path else None
    if found is not None:
        return EyeCamera(found, resolution, "file")
    if intrinsics is not None and intrinsics.get("resolution") in (list(resolution), resolution):
        focal = _focal_length(intrinsics)
        if focal is not None:
            return EyeCamera(focal, resolution, "stream")
    name = re.match(r"Pupil Cam\d", device)
    built_in = _FOCAL_PX.get((name[0], resolution)) if name else None
    if built_in is not None:
        return EyeCamera(built_in, resolution, "built-in")
    return EyeCamera(_FOCAL_PX["Pupil Cam2", (400, 400)] * max(resolution) / 400, resolution, "assumed")


def read_intrinsics(path: Path, resolution: tuple[int, int]) -> float | None:
    """Return the focal length (px) that an ``*.intrinsics`` file has for a resolution; ``None`` if it has none.

    A ``dummy`` model, which stands for a camera nobody has measured, says nothing.

    Raises:
        PluginArgument: the file cannot be read, or is no intrinsics file.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise PluginArgument(f"{path} is larger than {_LARGEST} bytes")
        content = msgpack.unpackb(path.read_bytes(), strict_map_key=False)
    except (OSError, ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise PluginArgument(f"{path} is no intrinsics file: {error}") from error
    if not isinstance(content, dict):
        raise PluginArgument(f"{path} is no intrinsics file: it holds no map")
    # The text of a tuple: Pupil's files are keyed so.
    entry = content.get(str(tuple(resolution)))
    if entry is None:
        return None
    if not isinstance(entry, dict) or (entry.get("cam_type") != "dummy" and _focal_length(entry) is None):
        raise PluginArgument(f"{path}: the entry of {resolution[0]}x{resolution[1]} needs a 3x3 camera_matrix")
    return _focal_length(entry)


def _focal_length(model: Mapping[Any, Any]) -> float | None:
    if model.get("cam_type") == "dummy":
        return None
    try:
        matrix = model["camera_matrix"]
        focal = (float(matrix[0][0]) + float(matrix[1][1])) / 2
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return focal if math.isfinite(focal) and focal > 0 else None
