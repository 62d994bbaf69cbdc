"""Camera intrinsics as they lie beside a video: ``<stem>.intrinsics``.

Source of the format: Pupil Core's camera models. A msgpack map of ``"(width, height)"`` to ``{camera_matrix,
dist_coefs, cam_type, resolution}``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgpack

from gazed_capture.errors import SourceError

__all__ = ["load_intrinsics"]

_MAX_BYTES = 1 << 20


def load_intrinsics(path: Path, width: int, height: int) -> dict[str, object] | None:
    """Return the intrinsics for one resolution; ``None`` if the file does not know that resolution.

    Raises:
        SourceError: the file is no such map, or what it holds for the resolution is not well formed.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SourceError(f"{path} is larger than {_MAX_BYTES} bytes")
        content = msgpack.unpackb(path.read_bytes(), strict_map_key=False)
    except (OSError, ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise SourceError(f"{path} is no intrinsics file: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path} is no intrinsics file: it holds no map")
    entry = content.get(f"({width}, {height})")
    if entry is None:
        return None
    if not isinstance(entry, dict) or not _is_camera(entry):
        raise SourceError(f"{path}: the entry of {width}x{height} needs a 3x3 camera_matrix, dist_coefs and a cam_type")
    return {
        "camera_matrix": entry["camera_matrix"],
        "dist_coefs": entry["dist_coefs"],
        "cam_type": entry["cam_type"],
        "resolution": [width, height],
    }


def _is_camera(entry: dict[Any, Any]) -> bool:
    matrix, distortion = entry.get("camera_matrix"), entry.get("dist_coefs")
    return (
        isinstance(matrix, list)
        and len(matrix) == 3
        and all(isinstance(row, list) and len(row) == 3 and _are_numbers(row) for row in matrix)
        and isinstance(distortion, list)
        and (_are_numbers(distortion) or all(isinstance(row, list) and _are_numbers(row) for row in distortion))
        and isinstance(entry.get("cam_type"), str)
    )


def _are_numbers(values: list[Any]) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)
