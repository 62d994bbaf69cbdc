"""Pupils and gaze as NWB has them: sizes, places, directions and confidences, and ellipses as poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.nwb.series import EmptySeries
from gazed_plugins.export.origins import EYES, Series, eyes_of_gaze
from gazed_plugins.export.poses.streams import ellipse_points
from gazed_recorder.reader import PlayerInfo
from gazed_recorder.reading.table import Table

__all__ = ["COLUMNS", "KEYPOINTS", "add_ellipses", "add_series"]

KEYPOINTS = ("center", "major_a", "major_b", "minor_a", "minor_b")
"""The points of a pupil's ellipse: its centre, and the ends of its axes."""
_MM = 1e-3
_EYE_IMAGE = "image of the eye camera: (0, 0) is top left, x to the right, y down"
_EYE_CAMERA = "eye camera: x to the right, y down, z away from the camera, (0, 0, 0) is the camera"
_WORLD_CAMERA = "world camera: x to the right, y down, z ahead, (0, 0, 0) is the camera"
_ELLIPSE = ("ellipse_center_x", "ellipse_center_y", "ellipse_axis_a", "ellipse_axis_b", "ellipse_angle")
_OF_EYE = {
    "sphere_center": "Centre of the eyeball",
    "circle_3d_center": "Centre of the pupil",
    "circle_3d_normal": "Direction in which the eye looks, a vector of length 1",
}
_OF_GAZE = {
    "gaze_point_3d": "Point that is looked at",
    "eye_center0_3d": "Centre of the right eyeball",
    "eye_center1_3d": "Centre of the left eyeball",
    "gaze_normal0": "Direction in which the right eye looks, a vector of length 1",
    "gaze_normal1": "Direction in which the left eye looks, a vector of length 1",
}
COLUMNS: dict[str, tuple[str, ...]] = {
    "pupil": (
        *("confidence", "diameter", "diameter_3d", "model_confidence", *_ELLIPSE),
        *(f"{name}_{axis}" for name in _OF_EYE for axis in "xyz"),
    ),
    "gaze": (
        *("confidence", "norm_pos_x", "norm_pos_y", "base0_id", "base1_id"),
        *(f"{name}_{axis}" for name in _OF_GAZE for axis in "xyz"),
    ),
}
"""The columns that the series are filled from, by the name of the log."""


def add_series(module: Any, made: EmptySeries, found: Mapping[str, Series], world_size: tuple[int, int] | None) -> None:
    """Add ``PupilTracking``, ``EyeTracking`` and ``BehavioralTimeSeries`` to a module, as far as there is something.

    ``world_size`` is that of the world's image in px; ``None`` if nothing tells it.
    """
    from pynwb.behavior import BehavioralTimeSeries, EyeTracking, PupilTracking

    sizes, places, sure = [], [], []
    for each in found.values():
        if each.log == "pupil":
            sizes += _sizes(made, each)
            places += _vectors(made, each, _OF_EYE, f", of the {each.side} eye", _EYE_CAMERA)
        else:
            places += _gaze(made, each, world_size)
            places += _vectors(made, each, _OF_GAZE, "", _WORLD_CAMERA)
        sure += _confidences(made, each)
    for kind, option, series in (
        (PupilTracking, "time_series", sizes),
        (EyeTracking, "spatial_series", places),
        (BehavioralTimeSeries, "time_series", sure),
    ):
        if series:
            module.add(kind(**{option: series}))


def add_ellipses(
    module: Any,
    made: EmptySeries,
    eyes: Sequence[Series],
    cameras: Mapping[str, tuple[Any, Any]],
    software: PlayerInfo,
) -> None:
    """Add a ``PoseEstimation`` for each of some series of pupils; the first has the name that readers of poses expect.

    ``cameras`` are device and video (or ``None``) of each eye, by ``eye0``, ….
    """
    from ndx_pose import PoseEstimation, Skeleton, Skeletons

    edges = np.array([[0, number] for number in range(1, len(KEYPOINTS))], np.uint8)
    skeleton = Skeleton(name="pupil_ellipse", nodes=list(KEYPOINTS), edges=edges)
    if eyes:
        module.add(Skeletons(skeletons=[skeleton]))
    for number, eye in enumerate(eyes):
        device, video = cameras.get(f"eye{eye.eye}", (None, None))
        pose = PoseEstimation(
            name=f"PoseEstimation_{eye.name}" if number else "PoseEstimation",
            pose_estimation_series=_points(made, eye),
            description=f"Ellipse of the pupil of the {eye.side} eye ({eye.name}).",
            device=device,
            scorer=eye.method or None,
            source_software=software.recording_software_name or "unknown",
            source_software_version=software.recording_software_version or None,
            skeleton=skeleton,
            source_video=video,
        )
        module.add(pose)


def _sizes(made: EmptySeries, eye: Series) -> list[Any]:
    from pynwb import TimeSeries

    of = f"of the {eye.side} eye ({eye.method or eye.name})"
    text = f"Diameter of the pupil's ellipse in the image of the eye camera, {of}."
    sizes = [made.make(TimeSeries, eye, "diameter", description=text, unit="pixels")]
    if eye.solid:
        text = f"Diameter of the pupil, {of}; the data are in mm."
        sizes.append(made.make(TimeSeries, eye, "diameter_3d", description=text, unit="meters", conversion=_MM))
    return sizes


def _vectors(made: EmptySeries, of: Series, meanings: Mapping[str, str], more: str, frame: str) -> list[Any]:
    from pynwb.behavior import SpatialSeries

    vectors = []
    for column, meaning in meanings.items() if of.solid else ():
        options = {"unit": "n.a."} if "normal" in column else {"unit": "meters", "conversion": _MM}
        text = f"{meaning}{more}{'' if 'normal' in column else '; the data are in mm'}."
        vectors.append(made.make(SpatialSeries, of, column, "xyz", description=text, reference_frame=frame, **options))
    return vectors


def _gaze(made: EmptySeries, gaze: Series, world_size: tuple[int, int] | None) -> list[Any]:
    from pynwb.behavior import SpatialSeries

    text = f"Where in the world camera's image the wearer looks, {'3-D' if gaze.solid else '2-D'} gaze."
    frame = "image of the world camera: (0, 0) is bottom left, (1, 1) is top right"
    (whose,) = made.data(gaze, [0], lambda rows: [eyes_of_gaze(rows)], np.uint8)
    control = {"control": whose, "control_description": [f"pupils of: {eyes}" for eyes in EYES]}
    options = {"description": text, "reference_frame": frame, "unit": "n.a.", **control}
    places = [made.make(SpatialSeries, gaze, "norm_pos", "xy", **options)]
    if world_size:
        width, height = world_size

        def pixels(rows: Table) -> list[NDArray[np.float64]]:
            return [np.stack([rows["norm_pos_x"] * width, (1 - rows["norm_pos_y"]) * height], axis=1)]

        (data,) = made.data(gaze, [2], pixels)
        frame = f"image of the world camera, {width} x {height} px: (0, 0) is top left, x to the right, y down"
        options = {"description": text, "reference_frame": frame, "unit": "pixels"}
        places.append(made.share(SpatialSeries, gaze, name=f"{gaze.name}_pixel_pos", data=data, **options))
    return places


def _confidences(made: EmptySeries, of: Series) -> list[Any]:
    from pynwb import TimeSeries

    columns = {"confidence": f"Confidence of {of.name}, from 0 to 1."}
    if of.log == "pupil" and of.solid:
        columns["model_confidence"] = f"Confidence in the model of the {of.side} eye, from 0 to 1."
    return [made.make(TimeSeries, of, column, description=text, unit="n.a.") for column, text in columns.items()]


def _points(made: EmptySeries, eye: Series) -> list[Any]:
    from ndx_pose import PoseEstimationSeries

    def places(rows: Table) -> list[NDArray[np.float64]]:
        points = ellipse_points({name: rows[name] for name in _ELLIPSE})
        return [points[:, :, number] for number in range(len(KEYPOINTS))]

    sure = made.data(eye, [0] * len(KEYPOINTS), lambda rows: [rows["confidence"]] * len(KEYPOINTS))
    return [
        made.share(
            PoseEstimationSeries,
            eye,
            name=name,
            data=data,
            confidence=confidence,
            confidence_definition="confidence of the pupil, the same for each of its points",
            reference_frame=_EYE_IMAGE,
            unit="pixels",
            description=f"{name} of the pupil's ellipse.",
        )
        for name, data, confidence in zip(KEYPOINTS, made.data(eye, [2] * len(KEYPOINTS), places), sure, strict=True)
    ]
