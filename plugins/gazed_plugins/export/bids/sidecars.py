"""What BIDS wants to be said beside a table of eye tracking: which eye, which clock, which calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gazed_plugins.export.bids.columns import BidsColumn
from gazed_plugins.export.events import clean_text
from gazed_plugins.export.origins import Series
from gazed_plugins.export.session import unix_time
from gazed_recorder.reader import Recording

__all__ = ["sidecar_of"]

_EYE_SYSTEM = (
    "Pixels of the image of the eye camera, which is fixed to the head: (0, 0) is its upper left corner, x to the "
    "right, y down. This is where the pupil is, not where the eye looks."
)
_WORLD_SYSTEM = (
    "Pixels of the image of the world camera, which is fixed to the head and looks ahead: (0, 0) is its upper left "
    "corner, x to the right, y down. The lens is as it is, nothing was undistorted."
)
_NORM_SYSTEM = (
    "Parts of the image of the world camera, which is fixed to the head and looks ahead: (0, 0) is its lower left "
    "corner, (1, 1) its upper right one."
)


class _Score(msgspec.Struct):
    degrees: float | None = None


class _Target(msgspec.Struct):
    norm_pos: tuple[float, float]
    accuracy: _Score


class _Accuracy(msgspec.Struct):
    """The notification ``accuracy.result``."""

    accuracy: _Score
    precision: _Score
    data: str = "calibration"
    targets: list[_Target] = []


def sidecar_of(
    recording: Recording,
    series: Sequence[Series],
    columns: Sequence[BidsColumn],
    rate: float,
    first: float,
    start: float,
    world_size: tuple[int, int] | None,
) -> dict[str, Any]:
    """Return the sidecar of a table with these columns.

    Args:
        recording: where it comes from.
        series: of which pupils or gaze it was made, the main one first.
        columns: those of the table.
        rate: rows a second.
        first: Pupil time of the first row, s.
        start: Pupil time at which the recording began, s.
        world_size: width and height of the world's image in px, if they are known.
    """
    main = series[0]
    is_gaze = main.log == "gaze"
    system = (_WORLD_SYSTEM if world_size else _NORM_SYSTEM) if is_gaze else _EYE_SYSTEM
    methods = "; ".join(each.method or each.name for each in series)
    way = {"GazeMappingMethod": "3D" if main.solid else "2D"} if is_gaze else {"PupilDetector": clean_text(methods)}
    return {
        "PhysioType": "eyetrack",
        "RecordedEye": "cyclopean" if is_gaze else main.side,
        "SampleCoordinateSystem": "custom",
        "SampleCoordinateSystemDescription": system,
        "SampleCoordinateUnits": "pixel" if world_size or not is_gaze else "normalized",
        "SamplingFrequency": rate,
        "StartTime": first - start,
        "EyeTrackingMethod": "video of the eye, dark pupil, without corneal reflections",
        "PupilFitMethod": "ellipse",
        **way,
        **_recording_of(recording, start),
        **(_calibration_of(recording, world_size) if is_gaze else _camera(recording, f"eye{main.eye}")),
        **_columns_of(columns),
    }


def _columns_of(columns: Sequence[BidsColumn]) -> dict[str, Any]:
    """Return what is said of columns: their names in order, and of each what it means."""
    told: dict[str, Any] = {"Columns": [column.name for column in columns]}
    for column in columns:
        units = {"Units": column.units} if column.units else {}
        kind = {"Levels": {level: level for level in column.levels}} if column.levels else {"Format": "number"}
        told[column.name] = {"Description": column.description, **units, **kind}
    return told


def _recording_of(recording: Recording, start: float) -> dict[str, Any]:
    """Return what is the same for all tables of a recording: the program, and how its clock goes."""
    info = recording.info
    software = recording.manifest.software if recording.manifest else ""
    unix = unix_time(recording, start)
    return {
        "SoftwareVersions": clean_text(
            software or f"{info.recording_software_name} {info.recording_software_version}".strip()
        ),
        "RecordingUuid": clean_text(info.recording_uuid),
        "PupilTimeOfStart": start,
        **({} if unix is None else {"UnixTimeOfStart": unix}),
    }


def _calibration_of(recording: Recording, world_size: tuple[int, int] | None) -> dict[str, Any]:
    """Return what the recording tells of calibrations: how many, and how good, by a validation if there was one.

    Raises:
        DamagedFile: the notifications cannot be read.
    """
    count, gazer = 0, ""
    found: dict[str, _Accuracy] = {}
    for note in recording.data("notify") if "notify" in recording.logs else ():
        subject = note.get("subject")
        if subject == "calibration.result.v2":
            count += 1
            gazer = clean_text(str(note.get("gazer_class_name", "")))
        elif subject == "accuracy.result":
            try:
                accuracy = msgspec.convert(note, _Accuracy)
            except msgspec.ValidationError:
                continue
            found[accuracy.data] = accuracy
    told: dict[str, Any] = {"CalibrationCount": count}
    if gazer:
        told["GazeMapper"] = gazer
    best = found.get("validation") or found.get("calibration")
    return told | _accuracy(best, world_size) if best else told


def _accuracy(found: _Accuracy, world_size: tuple[int, int] | None) -> dict[str, Any]:
    places = [target.norm_pos for target in found.targets]
    errors = [target.accuracy.degrees for target in found.targets if target.accuracy.degrees is not None]
    told: dict[str, Any] = {
        "CalibrationErrorMeasuredBy": found.data,
        "CalibrationType": f"{len(places)} targets",
        "AverageCalibrationError": found.accuracy.degrees,
        "MaximalCalibrationError": max(errors, default=None),
        "CalibrationPrecision": found.precision.degrees,
    }
    if places and world_size:
        width, height = world_size
        told["CalibrationPosition"] = [[x * width, (1 - y) * height] for x, y in places]
        told["CalibrationUnit"] = "pixel"
    return {key: value for key, value in told.items() if value is not None}


def _camera(recording: Recording, stream: str) -> dict[str, Any]:
    report = recording.manifest.streams.get(stream) if recording.manifest else None
    info = report.info if report else {}
    names = {"ManufacturersModelName": "device", "DeviceSerialNumber": "serial"}
    return {name: clean_text(str(info[key])) for name, key in names.items() if info.get(key)}
