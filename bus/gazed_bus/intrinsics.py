"""The intrinsics of a camera, and the file ``<stream>.intrinsics`` in which they lie beside its video.

Intrinsics are the map ``{camera_matrix, dist_coefs, cam_type, resolution}``: 3x3 in px; OpenCV's coefficients, in one
list or in lists of a list; ``radial``, ``fisheye`` or, of a camera that nobody has measured, ``dummy``; width and
height in px. The file is a msgpack map of ``version`` 1 and, under ``"(width, height)"``, the intrinsics for each size
of images. Source of the format: Pupil Core's camera models.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack

from gazed_bus.errors import CameraModelError

__all__ = ["Intrinsics", "dummy_intrinsics", "pack_intrinsics", "read_intrinsics", "unpack_intrinsics"]

Intrinsics = dict[str, object]

_LARGEST_BYTES = 1 << 20
_KINDS = ("radial", "fisheye", "dummy")
_DUMMY_FOCAL_PX = 1000.0
_HINT = "calibrate the camera again, or remove the file to use what is built in"


def read_intrinsics(path: Path) -> dict[tuple[int, int], Intrinsics]:
    """Return the intrinsics in a file by width and height of the images.

    Raises:
        CameraModelError: the file cannot be read, or what it holds is not well formed; the message names it.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise CameraModelError(f"{path} is no intrinsics file: {error}", hint=_HINT) from error
    return unpack_intrinsics(packed, path)


def unpack_intrinsics(packed: bytes, path: Path) -> dict[tuple[int, int], Intrinsics]:
    """Return the intrinsics in the content of a file, as ``read_intrinsics``; ``path`` is for messages.

    Raises:
        CameraModelError: they are not well formed.
    """
    try:
        if len(packed) > _LARGEST_BYTES:
            raise ValueError(f"it is larger than {_LARGEST_BYTES} bytes")
        content = msgpack.unpackb(packed, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise CameraModelError(f"{path} is no intrinsics file: {error}", hint=_HINT) from error
    if not isinstance(content, dict):
        raise CameraModelError(f"{path} is no intrinsics file: it holds no map", hint=_HINT)
    return {
        (int(size[1]), int(size[2])): _checked(path, int(size[1]), int(size[2]), entry)
        for key, entry in content.items()
        if isinstance(key, str) and (size := re.fullmatch(r"\(([0-9]{1,5}), ([0-9]{1,5})\)", key))
    }


def pack_intrinsics(intrinsics: Mapping[str, object], width: int, height: int) -> bytes:
    """Return the content of a file with the intrinsics for images of this size in px."""
    # The key is the text of a tuple: Pupil's readers compare it literally.
    packed: bytes = msgpack.packb({"version": 1, f"({width}, {height})": intrinsics})
    return packed


def dummy_intrinsics(width: int, height: int) -> Intrinsics:
    """Return Pupil's intrinsics for a camera that nobody knows."""
    focal = _DUMMY_FOCAL_PX
    return {
        "camera_matrix": [[focal, 0.0, width / 2.0], [0.0, focal, height / 2.0], [0.0, 0.0, 1.0]],
        "dist_coefs": [[0.0] * 5],
        "resolution": [width, height],
        "cam_type": "dummy",
    }


def _checked(path: Path, width: int, height: int, entry: Any) -> Intrinsics:
    if not isinstance(entry, dict) or not _is_camera(entry):
        raise CameraModelError(
            f"{path}: the entry of {width}x{height} needs a 3x3 camera_matrix, dist_coefs and a cam_type of "
            f"{', '.join(_KINDS)}",
            hint=_HINT,
        )
    if entry.get("resolution", [width, height]) != [width, height]:
        raise CameraModelError(f"{path}: the entry of {width}x{height} is for another resolution", hint=_HINT)
    known = {key: entry[key] for key in ("camera_matrix", "dist_coefs", "cam_type")}
    return {**known, "resolution": [width, height]}


def _is_camera(entry: Mapping[Any, Any]) -> bool:
    matrix, distortion = entry.get("camera_matrix"), entry.get("dist_coefs")
    return (
        isinstance(matrix, list)
        and len(matrix) == 3
        and all(_are_numbers(row) and len(row) == 3 for row in matrix)
        and min(matrix[0][0], matrix[1][1]) > 0
        and isinstance(distortion, list)
        and (_are_numbers(distortion) or all(map(_are_numbers, distortion)))
        and entry.get("cam_type") in _KINDS
    )


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(each) in (int, float) and math.isfinite(each) for each in values)
