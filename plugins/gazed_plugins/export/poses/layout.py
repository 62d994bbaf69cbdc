"""The datasets of ``movement``, made of a recording without ``movement`` itself.

Each stream is one ``xarray.Dataset``: ``position`` (time, space, keypoints, individuals), ``confidence`` (time,
keypoints, individuals), and the values of the datums, each (time, individuals), under the names that the columns of
``Recording`` have. Time is the irregular Pupil time of each datum in seconds; ``unix_ns`` is the same as Unix time, if
the recording tells. Source of the layout: movement 0.15 and, with two dimensions of other names, 0.17.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.arguments import shown
from gazed_plugins.errors import PluginArgument
from gazed_plugins.export.errors import NothingToExport
from gazed_plugins.export.poses.streams import Method, Poses, read_poses
from gazed_plugins.export.session import known_clock
from gazed_recorder.reader import Recording

if TYPE_CHECKING:
    import xarray

__all__ = ["Dims", "load_dataset", "read_choice", "to_dataset", "unix_ns"]

Dims = Literal["plural", "singular"]
"""``plural``: dimensions ``keypoints`` and ``individuals``, as movement 0.15 and 0.16 call them; ``singular``:
``keypoint`` and ``individual``, as it does from 0.17 on."""

_DIMS: dict[str, tuple[str, str]] = {"plural": ("keypoints", "individuals"), "singular": ("keypoint", "individual")}
_UNITS = {
    "ellipse_axis_a": "px",
    "ellipse_axis_b": "px",
    "ellipse_angle": "deg",
    "diameter": "px",
    "diameter_3d": "mm",
    "circle_3d_radius": "mm",
    "sphere_radius": "mm",
    "theta": "rad",
    "phi": "rad",
}
_FRAMES = {"2": "px from the upper left corner of the image, x to the right, y down", "3": "mm in the camera's space"}


def load_dataset(
    recording: Recording | str | Path,
    stream: str,
    *,
    method: Method | None = None,
    dims: Dims = "plural",
    rate: float | None = None,
) -> xarray.Dataset:
    """Return one stream of a recording as a dataset for ``movement``; needs ``gazed[export]``.

    Args:
        recording: the recording, or its folder.
        stream: ``eye0``, ``eye1`` (pupils, px), ``gaze`` (px of the world's image), ``eye0_3d``, ``eye1_3d``,
            ``gaze_3d`` (mm).
        method: that of the pupils, ``2d`` or ``3d``; if not given, ``3d`` where there is any.
        dims: how two of the dimensions are called.
        rate: samples a second, interpolated on a regular grid that all streams share. Without it each datum has its
            own time, and there is no ``fps``.

    Raises:
        NotARecording, DamagedFile: the recording cannot be read.
        NothingToExport: it has no such stream; the message lists those it has.
    """
    recording = recording if isinstance(recording, Recording) else Recording(recording)
    for poses in read_poses(recording, method, flat=not stream.endswith("_3d")):
        if poses.stream == stream:
            return to_dataset(poses.resampled(rate) if rate else poses, recording, dims)
    known = ", ".join(poses.stream for poses in read_poses(recording, method)) or "none"
    raise NothingToExport(f"{recording.path} has no poses {stream!r:.80}, found {known}")


def to_dataset(poses: Poses, recording: Recording, dims: Dims = "plural") -> xarray.Dataset:
    """Return poses in the layout of ``movement``; every attribute can be written to netCDF."""
    import xarray as xr

    keypoint, individual = _DIMS[dims]
    position = poses.position[..., np.newaxis]
    confidence = np.repeat(poses.confidence[:, np.newaxis, np.newaxis], len(poses.kind.keypoints), axis=1)
    variables: dict[str, Any] = {
        "position": (("time", "space", keypoint, individual), position),
        "confidence": (("time", keypoint, individual), confidence),
    }
    for name in poses.kind.own:
        variables[name] = (
            ("time", individual),
            poses.values[name][:, np.newaxis],
            {"unit": _UNITS[name]} if name in _UNITS else {},
        )
    coords: dict[str, Any] = {
        "time": poses.times,
        "space": list(poses.kind.space),
        keypoint: list(poses.kind.keypoints),
        individual: [poses.individual],
    }
    unix = unix_ns(recording, poses.times)
    if unix is not None:
        coords["unix_ns"] = ("time", unix)
    return xr.Dataset(variables, coords, _dataset_attrs(poses, recording))


def unix_ns(recording: Recording, times: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Return Pupil times, s, as Unix times, int64 ns of the same shape; ``None`` if the recording does not tell."""
    clock = known_clock(recording)
    return clock.to_unix_ns(times) if clock else None


def read_choice(owner: str, args: Mapping[str, Any], name: str, kind: Any) -> Any:
    """Return an argument that is one of the values of the ``Literal`` ``kind``, or ``None`` where it is not given.

    Raises:
        PluginArgument: it is another one.
    """
    value, known = args.get(name), get_args(kind)
    if value is not None and value not in known:
        raise PluginArgument(f"{owner}: {name} is {' or '.join(known)}, got {shown(value)}")
    return value


def _dataset_attrs(poses: Poses, recording: Recording) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "source_software": "gazed",
        "ds_type": "poses",
        "time_unit": "seconds",
        # No path: the same recording gives the same bytes, wherever it lies.
        "source_file": recording.info.recording_name,
        "recording_uuid": recording.info.recording_uuid,
        "coordinates_are": _FRAMES[str(len(poses.kind.space))],
    }
    if poses.rate is not None:
        attrs["fps"] = poses.rate
    elif poses.usual_rate is not None:
        attrs["nominal_rate"] = poses.usual_rate
    if poses.size is not None:
        attrs["image_width"], attrs["image_height"] = poses.size
    if poses.method:
        attrs["method"] = poses.method
    return attrs
