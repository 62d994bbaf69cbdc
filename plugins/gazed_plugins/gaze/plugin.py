"""The plugin ``Gaze_Mapper``: calibrates, validates, and maps pupils to gaze, live."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gazed_bus.codec import Message
from gazed_bus.errors import MessageError
from gazed_plugins.arguments import read_number, refuse_unknown, shown
from gazed_plugins.errors import PluginArgument, PluginError
from gazed_plugins.gaze.calibrator import Calibrator
from gazed_plugins.gaze.camera import Camera, camera_of_stream, default_camera
from gazed_plugins.gaze.checks import is_pupil, pack, read_references
from gazed_plugins.gaze.choreography import CLASS_NAMES, KINDS, Mode, plan
from gazed_plugins.gaze.errors import ChoreographyRefused
from gazed_plugins.gaze.fitting import Worker, WorkerProcess
from gazed_plugins.gaze.gazer_hmd import GazerHMD3D
from gazed_plugins.gaze.live import LiveMapper
from gazed_plugins.gaze.matching import MIN_CALIBRATION_CONFIDENCE
from gazed_plugins.gaze.registry import GAZERS
from gazed_plugins.gaze.store import calibrations_folder, load_calibration
from gazed_plugins.plugin import PluginContext
from gazed_plugins.status import STATUS, told_of

__all__ = ["GazeMapper"]

_MARKERS = "marker.circle"
_NOTIFY = "notify."
_ARGUMENTS = ("gazer", "choreography", "min_calibration_confidence", "calibration", "folder")
_ASSUMED_SIZE = (1280, 720)
_WARN_EVERY_S = 1.0
_RESULT = "calibration.result.v2"
_log = logging.getLogger(__name__)


class GazeMapper:
    """Publishes gaze as ``gaze.2d.0.``, ``gaze.3d.01.`` and so on, once there is a calibration.

    Arguments: ``gazer`` (Gazer3D, Gazer2D), ``choreography`` (marker, network, hmd), ``min_calibration_confidence``
    (0.8), ``calibration`` (name of a stored one to begin with) and ``folder`` (where calibrations are stored).

    Obeys ``calibration.should_start`` and ``.should_stop`` (also ``C`` and ``c`` of Pupil Remote),
    ``calibration.add_ref_data``, ``calibration.should_load`` with a ``name``, ``validation.should_start`` and
    ``.should_stop``, ``set_min_calibration_confidence``, and ``start_plugin`` with the names of Pupil's gazers
    (``args`` hold ``params`` or ``calib_data``) and choreographies. The ``should_start`` may carry ``choreography``,
    ``gazer`` and ``name``, for that run only. What cannot be begun or loaded is told by ``calibration.failed`` or
    ``validation.failed``; what is refused without an effect on what runs, by ``calibration.refused``.

    Sends ``gaze.extrapolating``, at most once a second, when gaze leaves the part of the world image that was
    calibrated; and, when a recording starts, once more the calibration in use, so that the recording holds it. Sends
    ``calibration.loaded`` when it maps with a calibration made before; that in use outlives a crash of this process.
    """

    topics: tuple[str, ...] = (
        STATUS,
        "notify.calibration.",
        "notify.validation.",
        "notify.start_plugin",
        "notify.set_min_calibration_confidence",
        "notify.recording.started",
    )
    gather_s = 0.0
    worker: Callable[[], Worker] = WorkerProcess
    """Makes what computes a calibration."""

    def __init__(self, context: PluginContext, args: Mapping[str, Any]) -> None:
        refuse_unknown("Gaze_Mapper", "argument", args, _ARGUMENTS)
        self._gazer, self._kind = args.get("gazer", "Gazer3D"), args.get("choreography", "marker")
        self._min_confidence = _confidence(args.get("min_calibration_confidence", MIN_CALIBRATION_CONFIDENCE))
        if self._gazer not in tuple(GAZERS) or self._kind not in KINDS:
            raise PluginArgument(
                f"Gaze_Mapper: gazer is one of {', '.join(GAZERS)} and choreography one of {', '.join(KINDS)}, got "
                f"{shown(self._gazer)} and {shown(self._kind)}"
            )
        name, folder = args.get("calibration", ""), args.get("folder") or str(calibrations_folder())
        if not isinstance(name, str) or not isinstance(folder, str):
            raise PluginArgument("Gaze_Mapper: calibration and folder are strings")
        self._context = context
        self._folder = Path(folder).expanduser()
        self._calibrator = Calibrator(context.notify, context.now, self._folder, self.worker)
        self._camera: Camera = default_camera("", *_ASSUMED_SIZE)
        self._told: dict[str, Any] = {}
        self._live: LiveMapper | None = None
        self._calibration = ""
        self._notes: list[dict[str, Any]] = []
        self._listening: set[str] = set()
        self._warned_at = float("-inf")
        self._refused = 0
        self._handlers: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "calibration.should_start": partial(self._start, "calibration"),
            "validation.should_start": partial(self._start, "validation"),
            "calibration.should_stop": partial(self._stop, "calibration"),
            "validation.should_stop": partial(self._stop, "validation"),
            "calibration.add_ref_data": self._on_references,
            "calibration.should_load": self._on_should_load,
            "set_min_calibration_confidence": self._on_min_confidence,
            "start_plugin": self._on_start_plugin,
            "recording.started": self._on_recording_started,
        }
        if before := context.remembered():
            self._restore(before)
        elif name:
            self._on_should_load({"name": name})

    # --- messages ---------------------------------------------------------------------------------------------------

    def on_message(self, message: Message) -> None:
        """Map a pupil, collect for a calibration, or obey a notification."""
        topic, payload = message.topic, message.payload
        if topic.startswith("pupil."):
            if self._live is not None:
                self._map(self._live, payload)
            if self._calibrator.run is not None:
                self._calibrator.run.add_pupil(payload)
        elif topic == _MARKERS:
            self._on_markers(payload)
        elif topic == STATUS:
            self._on_status(payload)
        elif handler := self._handlers.get(topic.removeprefix(_NOTIFY)):
            handler(payload)
            self._listen()

    def _map(self, live: LiveMapper, pupil: dict[str, Any]) -> None:
        try:
            for gaze in live.map(pupil):
                self._context.publish(gaze["topic"], gaze)
        except MessageError:
            # Somebody put into the datum what cannot be packed.
            live.unusable += 1

    def on_idle(self) -> None:
        """See whether a calibration is computed, and warn of gaze outside of it."""
        fitted = self._calibrator.poll(self._camera, self._live)
        if fitted is not None:
            self._take(fitted.name, fitted.notes)
        if self._live is not None and self._context.now() >= self._warned_at + _WARN_EVERY_S:
            outside = self._live.outside()
            if outside is not None:
                self._context.notify({"subject": "gaze.extrapolating", **outside})
            self._warned_at = self._context.now()

    def _listen(self) -> None:
        """Subscribe to what there is a use for: nothing comes in vain."""
        wanted: set[str] = set()
        run = self._calibrator.run
        if self._live is not None:
            wanted |= {f"pupil.{eye}.{self._live.method}" for eye in (0, 1)}
        if run is not None:
            wanted = {"pupil.", _MARKERS} if run.plan.kind == "marker" else {"pupil."}
        for topic in wanted - self._listening:
            self._context.subscribe(topic)
        for topic in self._listening - wanted:
            self._context.unsubscribe(topic)
        self._listening = wanted

    # --- calibration ------------------------------------------------------------------------------------------------

    def _start(self, mode: Mode, note: Mapping[str, Any]) -> None:
        gazer = self._live.gazer if mode == "validation" and self._live else self._gazer
        if run := self._calibrator.run:
            self._decline(f"{mode}.should_start", f"a {run.plan.mode} runs", "end it first, with should_stop")
            return
        try:
            wanted = plan(mode, note, self._kind, gazer)
            if mode == "validation" and self._live is None and not self._calibrator.waiting:
                raise ChoreographyRefused("There is no calibration to validate.", hint="calibrate first")
        except ChoreographyRefused as error:
            self._refuse(mode, gazer, error)
            return
        self._calibrator.start(wanted, (self._camera.width, self._camera.height), self._min_confidence)

    def _stop(self, mode: Mode, _note: Mapping[str, Any]) -> None:
        run = self._calibrator.run
        # The command c of Pupil Remote, which is the only one there is, ends a validation too.
        if run is None or (mode, run.plan.mode) == ("validation", "calibration"):
            why, then = f"no {mode} runs", f"begin with {mode}.should_start"
            if run is not None:
                why, then = f"{why}, but a calibration", "end it with calibration.should_stop"
            self._decline(f"{mode}.should_stop", why, then)
            return
        self._calibrator.stop()

    def _on_references(self, note: Mapping[str, Any]) -> None:
        run = self._calibrator.run
        try:
            if run is None:
                raise ChoreographyRefused("no calibration or validation runs", hint="begin with should_start")
            run.add_references(note.get("ref_data"))
        except ChoreographyRefused as error:
            self._decline("calibration.add_ref_data", error.message, error.hint)

    def _on_markers(self, payload: Mapping[str, Any]) -> None:
        width, height = payload.get("width"), payload.get("height")
        if not self._told and (width, height) != (self._camera.width, self._camera.height):
            self._see({"info": {"width": width, "height": height}})
        self._calibrator.see_markers(payload)

    def _on_min_confidence(self, note: Mapping[str, Any]) -> None:
        try:
            self._min_confidence = _confidence(note.get("value"))
            if self._calibrator.run is not None:
                self._calibrator.run.min_confidence = self._min_confidence
            self._remember()
        except PluginArgument as error:
            self._decline("set_min_calibration_confidence", error.message, error.hint)

    def _on_should_load(self, note: Mapping[str, Any]) -> None:
        name = note.get("name")
        try:
            if not isinstance(name, str):
                raise ChoreographyRefused(f"calibration.should_load names a calibration, got {shown(name)}")
            self._load(name)
        except PluginError as error:
            self._refuse("calibration", "", error)

    def _load(self, name: str) -> None:
        """Map with a stored calibration.

        Raises:
            UnknownCalibration: there is none of that name, or it cannot be read.
            UnknownGazer, ChoreographyRefused: as ``_use``.
        """
        stored = load_calibration(name, self._folder)
        self._use(stored.name, stored.notifications())

    def _use(self, name: str, notes: list[dict[str, Any]]) -> None:
        """Map with a calibration that was made before, and tell so; ``notes`` as ``_take`` has them.

        Raises:
            UnknownGazer: its parameters are not well formed.
            ChoreographyRefused: it cannot be told, as something in it cannot be packed.
        """
        for note in notes:
            pack(note)
        self._take(name, notes)
        self._on_recording_started({})
        gazer = notes[-1]["gazer_class_name"]
        self._context.notify({"subject": "calibration.loaded", "name": name, "gazer_class_name": gazer})

    def _take(self, name: str, notes: list[dict[str, Any]]) -> None:
        """Map with a calibration: its notifications, of which ``calibration.result.v2`` must be known.

        Raises:
            UnknownGazer: its parameters are not well formed.
        """
        result = next(note for note in notes if note["subject"] == _RESULT)
        references = notes[0].get("calib_data", {}).get("ref_list", [])
        self._live = LiveMapper(result["gazer_class_name"], result["params"], self._camera, references)
        self._calibration, self._notes = name, notes
        self._remember()
        self._listen()

    def _remember(self) -> None:
        self._context.remember(
            {
                "gazer": self._gazer,
                "choreography": self._kind,
                "min_confidence": self._min_confidence,
                "calibration": self._calibration,
                "notes": self._notes,
            }
        )

    def _restore(self, before: Mapping[str, Any]) -> None:
        """Go on as the process did that died."""
        self._gazer, self._kind = before["gazer"], before["choreography"]
        self._min_confidence = before["min_confidence"]
        if before["notes"]:
            self._use(before["calibration"], before["notes"])

    def _on_recording_started(self, _note: Mapping[str, Any]) -> None:
        """Have the calibration in use recorded, with its own timestamps, as Pupil Capture does."""
        for note in self._notes:
            self._context.notify(note)

    def _decline(self, what: str, reason: str, hint: str) -> None:
        """Tell that a notification is not obeyed, and that what runs goes on."""
        self._refused += 1
        _log.error("%s was refused: %s%s", what, reason, f" ({hint})" if hint else "")
        run = self._calibrator.run
        note = {"what": what, "reason": reason, "hint": hint, "running": run.plan.mode if run else None}
        self._context.notify({"subject": "calibration.refused", **note})

    def _refuse(self, mode: Mode, gazer: str, error: PluginError) -> None:
        self._refused += 1
        self._calibrator.fail(mode, gazer, error.message, error.hint)

    # --- start_plugin -----------------------------------------------------------------------------------------------

    def _on_start_plugin(self, note: Mapping[str, Any]) -> None:
        name, args = note.get("name"), note.get("args")
        if not isinstance(name, str):
            return
        try:
            if name in (*GAZERS, *CLASS_NAMES) and not isinstance(args, dict | None):
                raise ChoreographyRefused(f"the arguments of {name} are no map: {shown(args)}")
            args = args if isinstance(args, dict) else {}
            if name in GAZERS:
                self._start_gazer(name, args)
            elif name in CLASS_NAMES:
                self._choose(CLASS_NAMES[name], args.get("selected_gazer_class_name", self._gazer))
            elif name.endswith("ChoreographyPlugin") or "Gazer" in name:
                raise ChoreographyRefused(
                    f"there is no {name:.80} here", hint=f"use one of {', '.join([*GAZERS, *CLASS_NAMES])}"
                )
        except PluginError as error:
            self._refuse("calibration", name[:80], error)

    def _choose(self, kind: str, gazer: object) -> None:
        if gazer not in tuple(GAZERS):
            raise ChoreographyRefused(f"there is no gazer {shown(gazer)}", hint=f"use one of {', '.join(GAZERS)}")
        self._kind, self._gazer = kind, str(gazer)
        if kind != "hmd" and gazer == GazerHMD3D.__name__:
            self._gazer = "Gazer3D"
        self._remember()

    def _start_gazer(self, name: str, args: Mapping[str, Any]) -> None:
        """Map with given parameters, or fit to given data.

        Raises:
            PluginError: the arguments are not well formed.
        """
        params, data = args.get("params"), args.get("calib_data")
        if isinstance(params, dict) and data is None:
            params = LiveMapper(name, params, self._camera).params
            result = {"subject": _RESULT, "gazer_class_name": name, "timestamp": self._context.now()}
            self._use("", [{**result, "params": params, "record": True, "version": 2}])
        elif isinstance(data, dict) and params is None:
            is_hmd = name == GazerHMD3D.__name__
            places = args.get("eye_translations")
            note = {}
            if isinstance(places, list):
                note = {f"translation_eye{eye}": place for eye, place in enumerate(places)}
            wanted = plan("calibration", note, "hmd" if is_hmd else "network", name)
            size = (self._camera.width, self._camera.height)
            refs = read_references(data.get("ref_list"), "mm" if is_hmd else "place", size)
            pupils = data.get("pupil_list")
            if not isinstance(pupils, list) or not all(isinstance(each, dict) for each in pupils):
                raise ChoreographyRefused("calib_data has no pupil_list, a list of pupil datums")
            self._calibrator.fit(wanted, refs, list(map(pack, filter(is_pupil, pupils))), self._min_confidence)
        else:
            raise ChoreographyRefused(f"{name} is started with either params or calib_data, a map")

    # --- the world camera -------------------------------------------------------------------------------------------

    def _on_status(self, payload: Mapping[str, Any]) -> None:
        recording = payload.get("recording")
        self._calibrator.recording = recording if isinstance(recording, str) else ""
        told = told_of(payload, "world")
        if told and told != self._told:
            self._told = told
            self._see(told)

    def _see(self, world: Mapping[str, Any]) -> None:
        """Take what was told of the world camera; nonsense changes nothing."""
        camera = camera_of_stream(world)
        if camera is not None:
            self._camera = camera
            if self._live is not None:
                self._live.look_through(camera)

    # --- the rest ---------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Return what is in use, what runs, and counts."""
        run, live = self._calibrator.run, self._live
        return {
            "gazer": live.gazer if live else None,
            "calibration": self._calibration,
            "mapped": live.mapped if live else 0,
            "unusable": live.unusable if live else 0,
            "collecting": run.plan.mode if run else None,
            "references": len(run.references) if run else 0,
            "pupils": run.pupil_count if run else 0,
            "malformed": run.refused if run else 0,
            "computing": self._calibrator.waiting,
            "refused": self._refused,
            "world_camera": f"{self._camera.kind} {self._camera.width}x{self._camera.height}",
        }

    def close(self) -> None:
        """Give up what is under way."""
        self._calibrator.close()
        for topic in self._listening:
            self._context.unsubscribe(topic)
        self._listening = set()


def _confidence(value: object) -> float:
    return read_number("Gaze_Mapper", "min_calibration_confidence", value, 0, 1)
