"""The camera models in a recording: ``<camera>.intrinsics``, or ``camera_calibration`` as it was up to 0.9.13."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack

from gazed_bus.errors import CameraModelError
from gazed_bus.intrinsics import Intrinsics, pack_intrinsics, unpack_intrinsics
from gazed_recorder.errors import DamagedFile
from gazed_recorder.files import FolderFiles
from gazed_recorder.reading.pickled import is_pickle, repack_pickle

__all__ = ["recorded_intrinsics"]

_OLD = "camera_calibration"
_MOST_BYTES = 1 << 20


def recorded_intrinsics(folder: FolderFiles, camera: str) -> dict[tuple[int, int], Intrinsics]:
    """Return the models of a camera by width and height of its images; empty if nothing was recorded of it.

    Raises:
        DamagedFile: the file that is there cannot be read.
    """
    name = f"{camera}.intrinsics"
    content = folder.read(name, _MOST_BYTES)
    try:
        if content is not None:
            return unpack_intrinsics(content, folder.path / name)
        content = folder.read(_OLD, _MOST_BYTES) if camera == "world" else None
        return _of_calibration(content, folder) if content is not None else {}
    except CameraModelError as error:
        raise DamagedFile(error.message) from error


def _of_calibration(content: bytes, folder: FolderFiles) -> dict[tuple[int, int], Intrinsics]:
    path = folder.path / _OLD
    packed = repack_pickle(content, path) if is_pickle(content[:2]) else content
    try:
        found: Any = msgpack.unpackb(packed, strict_map_key=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise DamagedFile(f"{path}: {error}") from error
    match found:
        case {"resolution": [int(width), int(height)], "camera_matrix": matrix, "dist_coefs": coefficients}:
            model: Mapping[str, Any] = {"camera_matrix": matrix, "dist_coefs": coefficients, "cam_type": "radial"}
            return unpack_intrinsics(pack_intrinsics(model, width, height), path)
    raise DamagedFile(f"{path}: wanted a map with resolution, camera_matrix and dist_coefs")
