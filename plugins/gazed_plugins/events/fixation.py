"""The plugin ``Fixation_Detector``: gaze stays in one place for a while.

Source: Pupil Core's fixation detector, based on the dispersion of a window of fixed length.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gazed_bus.codec import Message
from gazed_plugins.arguments import is_vector, read_numbers, shown
from gazed_plugins.errors import PluginArgument
from gazed_plugins.events.window import DirectionWindow
from gazed_plugins.plugin import PluginContext
from gazed_plugins.status import STATUS, told_of

if TYPE_CHECKING:
    from gazed_plugins.gaze.camera import Camera, Floats

__all__ = ["FixationDetector", "Method", "fixation_datum", "is_gaze"]

Method = Literal["2d gaze", "3d gaze"]

_MIN_SAMPLES = 3
_EVERY_S = 1 / 30
_MOST = 10_000  # datums of one window: time may stand still
_ARGUMENTS = {
    "max_dispersion": (3.0, 0.01, 90.0),
    "min_duration": (300.0, 1.0, 10_000.0),
    "confidence_threshold": (0.6, 0.0, 1.0),
}
_CAMERA_ARGUMENTS = ("camera", "intrinsics", "resolution")
_log = logging.getLogger(__name__)


class FixationDetector:
    """Publishes ``fixations``: all gaze of the last 300 ms lies within 3 degrees.

    A fixation is published at once and, while it lasts, again 30 times a second with the same ``id``, as Pupil Capture
    does with every image of its world camera; ``duration`` (ms) is that of the window. ``method`` is ``3d gaze`` where
    all gaze in the window has a ``gaze_point_3d``, else ``2d gaze``.

    Arguments: ``max_dispersion`` (degrees, 3), ``min_duration`` (ms, 300), ``confidence_threshold`` (0.6); for 2D gaze,
    of the world camera, ``resolution`` ([1280, 720]) and one of ``intrinsics`` (a file) and ``camera`` (its name);
    without any of them it is what ``gazed.status`` tells of it.
    """

    topics: tuple[str, ...] = ("gaze.", STATUS)
    gather_s = 0.02

    def __init__(self, context: PluginContext, args: Mapping[str, Any]) -> None:
        numbers = read_numbers("Fixation_Detector", args, _ARGUMENTS, *_CAMERA_ARGUMENTS)
        self._camera_args = _checked({name: args[name] for name in _CAMERA_ARGUMENTS if name in args})
        self._told: Mapping[str, Any] = {}
        self._camera: Camera | None = _camera(self._camera_args, {}) if "intrinsics" in args else None
        self._min_confidence = numbers["confidence_threshold"]
        self._length_s = numbers["min_duration"] / 1000
        self._context = context
        self._history: deque[dict[str, Any]] = deque()
        self._flat = 0
        self._method: Method = "3d gaze"
        self._window = DirectionWindow(numbers["max_dispersion"])
        self._fixating = False
        self._published_at = 0.0
        self._fixations = self._unreadable = 0

    def on_message(self, message: Message) -> None:
        """Take one gaze datum, or what is told of the world camera."""
        datum = message.payload
        if message.topic == STATUS:
            self._on_status(datum)
            return
        if not is_gaze(datum):
            self._unreadable += 1
            return
        if datum["confidence"] < self._min_confidence:
            return
        now = datum["timestamp"]
        self._begin_anew_if_due(now)
        self._add(datum)
        oldest = now - self._length_s
        while len(self._history) > _MOST or (len(self._history) > 2 and self._history[1]["timestamp"] < oldest):
            self._flat -= "gaze_point_3d" not in self._history.popleft()
            self._window.pop_first()
        self._use("2d gaze" if self._flat else "3d gaze")
        first = self._history[0]["timestamp"]
        long_enough = len(self._history) >= _MIN_SAMPLES and now - first >= self._length_s
        if not (long_enough and self._window.is_close):
            self._fixating = False
            return
        if not self._fixating:
            self._fixations += 1
        if not self._fixating or now - self._published_at >= _EVERY_S:
            self._published_at = now
            dispersion = self._window.dispersion_deg()
            self._context.publish(
                "fixations", fixation_datum(self._fixations - 1, self._method, dispersion, self._history)
            )
        self._fixating = True

    def _on_status(self, status: Mapping[str, Any]) -> None:
        """Learn from the daemon which camera the world camera is, where the arguments do not say so."""
        told = told_of(status, "world")
        if told and told != self._told and not self._camera_args:
            self._told, self._camera = told, None

    def _begin_anew_if_due(self, now: float) -> None:
        if not self._history:
            return
        oldest, newest = self._history[0]["timestamp"], self._history[-1]["timestamp"]
        if now < oldest:
            _log.warning("Fixation_Detector: time went back by %.3f s, it begins anew", newest - now)
        # Over a gap as long as a fixation nobody knows where the eyes have been.
        if now < oldest or now - newest > self._length_s:
            self._history.clear()
            self._window.clear()
            self._flat = 0
            self._fixating = False

    def _add(self, datum: dict[str, Any]) -> None:
        self._history.append(datum)
        self._flat += "gaze_point_3d" not in datum
        self._window.append(self._direction(datum))

    def _use(self, method: Method) -> None:
        if method != self._method:
            self._method = method
            self._window.clear()
            for datum in self._history:
                self._window.append(self._direction(datum))

    def _direction(self, datum: Mapping[str, Any]) -> Sequence[float] | Floats:
        if "gaze_point_3d" in datum and (self._method == "3d gaze" or "norm_pos" not in datum):
            point: Sequence[float] = datum["gaze_point_3d"]
            return point
        if self._camera is None:
            self._camera = _camera(self._camera_args, self._told)
        ray: Floats = self._camera.rays_of_norm(datum["norm_pos"])[0]
        return ray

    def on_idle(self) -> None:
        """Nothing is due without a datum."""

    def stats(self) -> dict[str, Any]:
        """Return how many fixations there were, and how many datums could not be read."""
        return {"fixations": self._fixations, "unreadable": self._unreadable}

    def close(self) -> None:
        """Nothing is to be given back."""


def fixation_datum(
    number: int, method: Method, dispersion_deg: float, gaze: Sequence[Mapping[str, Any]] | deque[dict[str, Any]]
) -> dict[str, Any]:
    """Return Pupil's datum of a fixation that consists of these gaze datums."""
    begin, end = gaze[0]["timestamp"], gaze[-1]["timestamp"]
    datum: dict[str, Any] = {"topic": "fixations"}
    if all("norm_pos" in each for each in gaze):
        datum["norm_pos"] = _mean([each["norm_pos"] for each in gaze])
    datum |= {
        "dispersion": dispersion_deg,
        "method": method,
        "base_data": [[each["topic"], each["timestamp"]] for each in gaze],
        "timestamp": begin,
        "duration": (end - begin) * 1000,
        "confidence": sum(each["confidence"] for each in gaze) / len(gaze),
    }
    if method == "3d gaze":
        datum["gaze_point_3d"] = _mean([each["gaze_point_3d"] for each in gaze])
    datum["id"] = number
    return datum


def is_gaze(datum: Mapping[str, Any]) -> bool:
    """Tell whether a datum has what fixations are found by: topic, timestamp, confidence, and a direction."""
    solid, flat = datum.get("gaze_point_3d"), datum.get("norm_pos")
    return (
        isinstance(datum.get("topic"), str)
        and is_vector((datum.get("timestamp"), datum.get("confidence")), 2)
        and (solid is not None or flat is not None)
        and (solid is None or (is_vector(solid, 3) and any(solid)))
        and (flat is None or is_vector(flat, 2))
    )


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def _checked(args: dict[str, Any]) -> dict[str, Any]:
    size = args.get("resolution", [1280, 720])
    if not is_vector(size, 2) or not all(type(each) is int and each > 0 for each in size):
        raise PluginArgument(f"Fixation_Detector: resolution is [width, height] in px, got {shown(size)}")
    for name in ("camera", "intrinsics"):
        if not isinstance(args.get(name, ""), str):
            raise PluginArgument(f"Fixation_Detector: {name} is a string, got {shown(args[name])}")
    return args


def _camera(args: Mapping[str, Any], told: Mapping[str, Any]) -> Camera:
    """Return the world camera by the arguments, else by what was told of it.

    Raises:
        CameraModelError: the file cannot be read, or does not know this resolution.
    """
    # Needs OpenCV, which 3D gaze does without.
    from gazed_plugins.gaze.camera import camera_of_stream, default_camera, read_camera_file

    width, height = args.get("resolution", (1280, 720))
    if "intrinsics" in args:
        return read_camera_file(Path(args["intrinsics"]).expanduser(), width, height)
    return camera_of_stream(told) or default_camera(args.get("camera", ""), width, height)
