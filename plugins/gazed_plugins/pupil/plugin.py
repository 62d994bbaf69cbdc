"""The plugin ``Pupil_Detector``: pupils of one eye, live, from the images that its camera publishes."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from gazed_bus.codec import Message
from gazed_bus.frame import frame_topic
from gazed_plugins.arguments import read_number, refuse_unknown, shown
from gazed_plugins.errors import PluginArgument, PluginError
from gazed_plugins.images import read_frame
from gazed_plugins.plugin import PluginContext
from gazed_plugins.pupil.detector import PupilDetector
from gazed_plugins.pupil.intrinsics import EyeCamera, eye_camera
from gazed_plugins.pupil.settings import CAMERA_ARGUMENTS, PROPERTY_NAMES_3D, PupilSettings
from gazed_plugins.status import STATUS, told_of

__all__ = ["PupilDetectorPlugin"]

_NOTIFICATIONS = "notify.pupil_detector."
_CLASSES = ("Detector2DPlugin", "Pye3DPlugin")
_OWN_ARGUMENTS = ("eye", *CAMERA_ARGUMENTS)
# A hiccup of the machine is caught up with; whoever is further behind is too slow.
_WAITING_FRAMES = 4
_TIMED_FRAMES = 400
# Clients ask, and subscribe to the answer in the next line.
_ANSWER_DELAY_S = 0.05
_log = logging.getLogger(__name__)


class PupilDetectorPlugin:
    """Publishes ``pupil.N.2d`` and ``pupil.N.3d`` for the images of the camera of eye N; one process an eye.

    Arguments: ``eye`` (0 = right, 1 = left); of the camera one of ``focal_length`` (px), ``intrinsics`` (a file, or the
    model itself as ``StreamInfo`` has it) and ``camera`` (its name, as "Pupil Cam2 ID0"), without which it is what
    ``gazed.status`` tells of the stream; and the settings ``detect_2d``, ``detect_3d``, ``gate``, ``every_nth``,
    ``roi`` ([min x, min y, max x, max y]), ``is_long_term_model_frozen`` and ``properties`` (of the 2D detector).

    Obeys the notifications ``pupil_detector.set_enabled``, ``.set_roi``, ``.set_properties``,
    ``.broadcast_properties`` and ``.3d.reset_model`` of Pupil Capture, whose names for the two detectors are
    ``Detector2DPlugin`` and ``Pye3DPlugin``. What they set outlives a crash of this process.
    """

    topics: tuple[str, ...] = (_NOTIFICATIONS, STATUS)
    gather_s = 0.0

    def __init__(self, context: PluginContext, args: Mapping[str, Any]) -> None:
        settings = {name: value for name, value in args.items() if name not in _OWN_ARGUMENTS}
        names = [*_OWN_ARGUMENTS, *(each.name for each in fields(PupilSettings))]
        refuse_unknown("Pupil_Detector", "argument", settings, names)
        self._settings = PupilSettings.of(settings).updated(context.remembered())
        self._eye = args.get("eye", 0)
        if type(self._eye) is not int or not 0 <= self._eye <= 9:
            raise PluginArgument(f"eye is a number from 0 (right) and 1 (left) to 9, got {shown(self._eye)}")
        self._args = dict(args)
        self._learns = not any(name in args for name in CAMERA_ARGUMENTS)
        self._told: dict[str, Any] | None = None if self._learns else {}
        # What is wrong with the arguments is told at once, of whatever size the images will be.
        self._camera_of((400, 400))
        self._context = context
        self._topic = frame_topic(f"eye{self._eye}")
        self._detector: PupilDetector | None = None
        self._took: deque[float] = deque(maxlen=_TIMED_FRAMES)
        self._frames = self._detected = 0
        self._skipped = {"every_nth": 0, "unreadable": 0}
        self._refused = 0
        self._listening = False
        self._listen()

    def _camera_of(self, resolution: tuple[int, int]) -> EyeCamera:
        """Return what the arguments say of the camera.

        Raises:
            PluginArgument: an argument is of the wrong kind.
            CameraModelError: the file cannot be read, or is no intrinsics file.
        """
        focal = self._args.get("focal_length")
        if focal is not None:
            focal = read_number("Pupil_Detector", "focal_length (px)", focal, 1, 1e5)
            return EyeCamera(focal, resolution, "argument")
        known, device = self._args.get("intrinsics"), self._args.get("camera", "")
        if not isinstance(device, str):
            raise PluginArgument(f"camera is the name of a camera, got {shown(device)}")
        if isinstance(known, Mapping):
            return eye_camera(resolution, device=device, intrinsics=known)
        if not isinstance(known, str | None):
            raise PluginArgument(f"intrinsics is the path of a file, or what stands in one, got {shown(known)}")
        return eye_camera(resolution, device=device, path=Path(known).expanduser() if known else None)

    def _listen(self) -> None:
        """Ask for images while there is anything to do with them."""
        wanted = self._settings.detect_2d or self._settings.detect_3d
        if wanted and not self._listening:
            self._context.subscribe(self._topic, newest=_WAITING_FRAMES)
        elif self._listening and not wanted:
            self._context.unsubscribe(self._topic)
        self._listening = wanted

    def on_message(self, message: Message) -> None:
        """Detect in an image, or obey a notification."""
        if message.topic.startswith(_NOTIFICATIONS):
            self._on_notification(message.topic.removeprefix(_NOTIFICATIONS), message.payload)
        elif message.topic == STATUS and self._learns:
            self._on_status(message.payload)
        elif message.topic == self._topic and self._listening:
            self._on_frame(message)

    def _on_frame(self, message: Message) -> None:
        self._frames += 1
        if (self._frames - 1) % self._settings.every_nth:
            self._skipped["every_nth"] += 1
            return
        start = time.perf_counter()
        try:
            gray, timestamp = read_frame(message)
        except PluginError as error:
            self._skipped["unreadable"] += 1
            # A flood must not fill the log: 1, 2, 4, 8, …
            if self._skipped["unreadable"] & (self._skipped["unreadable"] - 1) == 0:
                _log.warning("eye %d: %d images cannot be read: %s", self._eye, self._skipped["unreadable"], error)
            return
        for datum in self._detector_for((gray.shape[1], gray.shape[0])).each(gray, timestamp):
            self._context.publish(datum["topic"], datum)
        self._detected += 1
        self._took.append(time.perf_counter() - start)

    def _detector_for(self, resolution: tuple[int, int]) -> PupilDetector:
        """Return the detector; a camera that delivers another image size gets a new one."""
        if self._detector is None or self._detector.camera.resolution != resolution:
            camera = self._camera_of(resolution)
            self._warn_of(camera)
            try:
                self._settings.check_roi(resolution)
            except PluginArgument as error:
                _log.warning("eye %d: %s; the whole image is searched", self._eye, error.message)
                self._settings = self._settings.updated({"roi": None})
            self._detector = PupilDetector(self._eye, camera, self._settings)
        return self._detector

    def _warn_of(self, camera: EyeCamera) -> None:
        """Warn of a camera that is assumed, once everything was heard that there is to hear of it."""
        if camera.origin == "assumed" and self._told is not None:
            _log.warning(
                "eye %d: nothing is known of this camera, its focal length is taken to be %.0f px; 3D data will be"
                " as wrong as that is (give focal_length or intrinsics)",
                self._eye,
                camera.focal_length,
            )

    def _on_status(self, status: Mapping[str, Any]) -> None:
        """Learn from the daemon which camera it is; of another one the detector begins anew."""
        told = told_of(status, f"eye{self._eye}")
        if not told or told == self._told:
            return
        self._told = told
        model = told["info"].get("intrinsics")
        self._args = {"camera": told["device"], "intrinsics": model if isinstance(model, Mapping) else None}
        if self._detector is not None:
            camera = self._camera_of(self._detector.camera.resolution)
            if camera == self._detector.camera:
                self._warn_of(camera)
            else:
                self._detector = None

    def _on_notification(self, subject: str, notification: Mapping[str, Any]) -> None:
        eye = notification.get("id" if subject == "3d.reset_model" else "eye_id")
        if eye is not None and eye != self._eye:
            return
        try:
            self._obey(subject, notification)
        except PluginArgument as error:
            self._refused += 1
            _log.error("eye %d: pupil_detector.%s was refused: %s", self._eye, subject, error.message)

    def _obey(self, subject: str, notification: Mapping[str, Any]) -> None:
        name = notification.get("detector_plugin_class_name")
        if name is not None and name not in _CLASSES:
            raise PluginArgument(f"there is no detector {shown(name)}: wanted one of {', '.join(_CLASSES)}")
        chosen = (name,) if name else _CLASSES
        value = notification.get("value")
        if subject == "set_enabled":
            keys = {"Detector2DPlugin": "detect_2d", "Pye3DPlugin": "detect_3d"}
            self._change({keys[each]: value for each in chosen})
            self._listen()
        elif subject == "set_roi":
            self._change({"roi": value})
        elif subject == "set_properties":
            self._set_properties(name, notification.get("values"))
        elif subject == "broadcast_properties":
            for each in chosen:
                answer = {"subject": f"pupil_detector.properties.{self._eye}.{each}", "values": self._properties(each)}
                self._context.notify({**answer, "delay": _ANSWER_DELAY_S})
        elif subject == "3d.reset_model" and self._detector is not None:
            self._detector.reset_model()

    def _set_properties(self, name: str | None, values: Any) -> None:
        if name is None or not isinstance(values, dict):
            raise PluginArgument("detector_plugin_class_name and values, a map, are needed")
        if name == "Pye3DPlugin":
            refuse_unknown("the 3D detector", "property", values, PROPERTY_NAMES_3D)
            self._change(values)
        else:
            self._change({"properties": values})

    def _properties(self, name: str) -> dict[str, Any]:
        if name == "Detector2DPlugin":
            return self._settings.properties.as_dict()
        return {each: getattr(self._settings, each) for each in PROPERTY_NAMES_3D}

    def _change(self, values: Mapping[str, Any]) -> None:
        settings = self._settings.updated(values)
        if self._detector is not None:
            self._detector.apply(settings)
        self._settings = settings
        self._context.remember(asdict(settings))

    def on_idle(self) -> None:
        """Nothing is due without an image."""

    def stats(self) -> dict[str, Any]:
        """Return counts, and the milliseconds from an image's bytes to its published datums."""
        took = 1000 * np.array(self._took or [0.0])
        camera = self._detector.camera if self._detector else None
        return {
            "eye": self._eye,
            "detected": self._detected,
            "skipped": dict(self._skipped),
            "gated": dict(self._detector.gated) if self._detector else {},
            "refused": self._refused,
            "ms_p50": round(float(np.percentile(took, 50)), 3),
            "ms_p99": round(float(np.percentile(took, 99)), 3),
            "focal_length": camera.focal_length if camera else None,
            "camera": camera.origin if camera else None,
        }

    def close(self) -> None:
        """Ask the camera for nothing any more."""
        if self._listening:
            self._context.unsubscribe(self._topic)
            self._listening = False
