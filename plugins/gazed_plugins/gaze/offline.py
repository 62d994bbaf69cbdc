"""Gaze in a recording anew, from its pupils and a calibration, beside what was recorded.

The results are a gaze mapper of Pupil Player's: ``offline_data/gaze-mappings/<name>-<id>.pldata`` with its timestamps,
each record under the topic ``gaze``, and an entry in ``offline_data/gaze_mappers.msgpack``, a msgpack map of
``version`` 1 and ``data``, a list of 12-tuples; the entries of others stay as they are. Source of the format: Pupil
Player's gaze mapper storage.

What was recorded is never touched. The same calibration mapped again replaces its own results, at the end.
"""

from __future__ import annotations

import heapq
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgpack
import msgspec

from gazed_bus.errors import CameraModelError
from gazed_bus.intrinsics import read_intrinsics
from gazed_plugins.errors import PluginError
from gazed_plugins.gaze.accuracy import Accuracy, measure
from gazed_plugins.gaze.camera import Camera, camera_of_stream, default_camera
from gazed_plugins.gaze.checks import is_pupil, usable_data
from gazed_plugins.gaze.cross import leave_one_target_out
from gazed_plugins.gaze.errors import CalibrationFailed, UnknownCalibration
from gazed_plugins.gaze.gazer import Gazer
from gazed_plugins.gaze.gazer_hmd import GazerHMD3D
from gazed_plugins.gaze.matching import Datum, LiveMatcher
from gazed_plugins.gaze.registry import load_gazer, make_gazer
from gazed_plugins.gaze.store import Calibration, load_calibration, player_id, recorded_calibrations
from gazed_plugins.offline_data import OFFLINE_FOLDER, Progress, locked_folder, open_closed, write_log
from gazed_recorder.atomic import replace_file
from gazed_recorder.datalog import PldataReader, unpack_datum
from gazed_recorder.errors import DamagedFile
from gazed_recorder.reader import Recording

__all__ = ["MappingResult", "map_recording"]

_MAPPERS = "gaze_mappers.msgpack"
_MAPPINGS = "gaze-mappings"
_VERSION = 1
_ASSUMED_SIZE = (1280, 720)
_OUTLIER_DEG = 5.0
_WAITING = 1000
_TELL_EVERY = 1000
_log = logging.getLogger(__name__)


class MappingResult(msgspec.Struct, frozen=True):
    """What ``map_recording`` did."""

    gazer: str
    calibration: str
    """Its name."""
    pupils: int
    """Pupil datums read."""
    source: str
    """The log that they were read from."""
    gaze: int
    """Gaze datums written."""
    path: str
    """The ``.pldata`` file."""
    leave_one_out: dict[str, Any] | None
    """Accuracy at each target when it took no part in the calibration; ``None`` if that cannot be computed."""
    validations: list[dict[str, Any]]
    """Accuracy of this gaze at the targets of each validation in the recording."""


def map_recording(
    folder: str | Path,
    *,
    calibration: str | None = None,
    gazer: str | None = None,
    calibrations: Path | None = None,
    progress: Progress | None = None,
) -> MappingResult:
    """Map the pupils of a recording to gaze.

    Args:
        folder: the recording.
        calibration: name of a stored calibration, or of one in the recording; the last in the recording if not given.
        gazer: class name, to fit it anew to the data of the calibration; that of the calibration if not given.
        calibrations: where calibrations are stored; the user's folder if not given.
        progress: called now and then with the pupil datums done and those there are.

    Raises:
        NotARecording, DamagedFile: the recording cannot be read.
        RecordingRefused: another detection or mapping works on this recording.
        UnknownCalibration: there is no such calibration, or none at all.
        UnknownGazer, CalibrationFailed: the gazer cannot be made of it.
        PluginError: there are no pupils, or the recording is not closed.
        DiskFull: there is no room for the results.
        OSError: they cannot be written.
    """
    recording = open_closed(folder)
    camera = _world_camera(recording)
    chosen = _usable(_choose(recording, calibration, calibrations), camera)
    name = gazer or chosen.gazer_class_name
    fitted = _gazer(chosen, name, camera)
    source, total = _pupil_log(recording)
    with locked_folder(recording) as offline:
        mappers = _read_mappers(offline / _MAPPERS)
        label = f"gazed {name} {chosen.name}"
        identity = player_id(f"gazed {name} {chosen.unique_id}")
        # Pupil Player's rule for the name of a file.
        stem = re.sub(r"[^-_a-zA-Z0-9.]", "", f"{label}-{identity}".replace(" ", "_"))
        held_out = _leave_one_out(chosen, name, camera)
        validations = _validations(recording, chosen, name, camera)
        count = _write(offline, stem, _mapped(fitted, _pupils(source, total, progress)))
        best = validations[-1] if validations else held_out
        entry = _entry(recording, identity, label, chosen, best)
        mappers = [*(known for known in mappers if known[0] != identity), entry]
        replace_file(offline / _MAPPERS, msgpack.packb({"version": _VERSION, "data": mappers}))
    path = offline / _MAPPINGS / f"{stem}.pldata"
    return MappingResult(
        name, chosen.name, total, str(source.relative_to(recording.path)), count, str(path), held_out, validations
    )


def _choose(recording: Recording, name: str | None, folder: Path | None) -> Calibration:
    recorded = [each for each in recorded_calibrations(recording) if each.params or each.calib_data]
    for each in reversed(recorded):
        if name in (None, each.name):
            return each
    if name is None:
        raise UnknownCalibration(
            f"{recording.path} holds no calibration",
            hint="name a stored one with --calibration; gazed calibrate list shows them",
        )
    try:
        return load_calibration(name, folder)
    except UnknownCalibration as error:
        known = ", ".join(repr(each.name) for each in recorded) or "none"
        raise UnknownCalibration(error.message, hint=f"{error.hint}; in the recording: {known}") from error


def _usable(chosen: Calibration, camera: Camera) -> Calibration:
    """Return the calibration without those of its data that are not well formed."""
    if not chosen.calib_data:
        return chosen
    wanted: Literal["place", "mm"] = "mm" if chosen.gazer_class_name == GazerHMD3D.__name__ else "place"
    data = usable_data(chosen.calib_data, wanted, (camera.width, camera.height))
    left_out = sum(len(chosen.calib_data.get(key, ())) - len(kept) for key, kept in data.items())
    if left_out:
        _log.warning("calibration %r: %d of its data are not well formed and left out", chosen.name, left_out)
    return msgspec.structs.replace(chosen, calib_data=data)


def _world_camera(recording: Recording) -> Camera:
    """Return the world camera as the recording knows it, else what is known of such a camera by its name."""
    report = recording.manifest.streams.get("world") if recording.manifest else None
    info = dict(report.info) if report else {}
    if "world" in recording.streams and not {"width", "height"} <= info.keys():
        first = next(recording.frames("world"), None)
        if first is not None:
            info["height"], info["width"] = first.gray.shape
    path = recording.path / "world.intrinsics"
    if not info.get("intrinsics") and path.exists():
        try:
            info["intrinsics"] = read_intrinsics(path).get((info.get("width", 0), info.get("height", 0)))
        except CameraModelError as error:
            _log.warning("%s", error.message)
    return camera_of_stream({"info": info}) or default_camera("", *_ASSUMED_SIZE)


def _gazer(chosen: Calibration, name: str, camera: Camera) -> Gazer:
    """Return the gazer with the calibration's parameters, or fitted to its data where it has none for it."""
    seen = None if name == GazerHMD3D.__name__ and camera.kind == "dummy" else camera
    if name == chosen.gazer_class_name and chosen.params:
        return load_gazer(name, chosen.params, seen)
    if not chosen.calib_data:
        raise CalibrationFailed(
            f"calibration {chosen.name!r} holds no data to fit {name} to", hint=f"use {chosen.gazer_class_name}"
        )
    fitted = make_gazer(name, seen, chosen.eye_translations)
    fitted.fit(chosen.calib_data, chosen.min_confidence)
    return fitted


def _pupil_log(recording: Recording) -> tuple[Path, int]:
    """Return the log of pupils, of a later detection if there was one, and how many it holds."""
    found = recording.path / OFFLINE_FOLDER / "offline_pupil.pldata"
    if not (found.exists() and found.with_suffix(".meta").exists()):
        found = recording.path / "pupil.pldata"
    total = sum(1 for _ in PldataReader(found)) if found.exists() else 0
    if not total:
        raise PluginError(f"{recording.path} holds no pupils", hint=f"detect them first: gazed detect {recording.path}")
    return found, total


def _pupils(source: Path, total: int, progress: Progress | None) -> Iterator[Datum]:
    for done, (_, payload) in enumerate(PldataReader(source), 1):
        try:
            datum = unpack_datum(payload)
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
            raise DamagedFile(f"{source}: record {done - 1} cannot be unpacked: {error}") from error
        if is_pupil(datum):
            yield datum
        if progress is not None and (done % _TELL_EVERY == 0 or done == total):
            progress(done, total)


def _mapped(gazer: Gazer, pupils: Iterator[Datum]) -> Iterator[Datum]:
    """Map pupils in the order of time; they come nearly so, and never have to be in memory all at once."""
    matcher = LiveMatcher()
    waiting: list[tuple[float, int, Datum]] = []
    for number, pupil in enumerate(filter(gazer.accepts, pupils)):
        heapq.heappush(waiting, (float(pupil["timestamp"]), number, pupil))
        if len(waiting) > _WAITING:
            yield from gazer.map(matcher.add(heapq.heappop(waiting)[2]))
    while waiting:
        yield from gazer.map(matcher.add(heapq.heappop(waiting)[2]))


def _write(offline: Path, stem: str, gaze: Iterator[Datum]) -> int:
    """Write the gaze in a folder beside, then bring it to its place; return how many datums."""
    work, place = offline / ".map", offline / _MAPPINGS
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        count = write_log(work, stem, (("gaze", float(datum["timestamp"]), msgpack.packb(datum)) for datum in gaze))
        place.mkdir(exist_ok=True)
        for suffix in ("_timestamps.npy", ".pldata"):
            (work / f"{stem}{suffix}").replace(place / f"{stem}{suffix}")
    finally:
        shutil.rmtree(work)
    return count


def _leave_one_out(chosen: Calibration, name: str, camera: Camera) -> dict[str, Any] | None:
    if name == GazerHMD3D.__name__ or not chosen.calib_data.get("ref_list"):
        return None
    try:
        return leave_one_target_out(name, chosen.calib_data, camera, chosen.min_confidence).as_dict()
    except CalibrationFailed as error:
        _log.warning("the accuracy at targets left out cannot be computed: %s", error.message)
        return None


def _validations(recording: Recording, chosen: Calibration, name: str, camera: Camera) -> list[dict[str, Any]]:
    """Measure the gazer at the targets of the recording's validations, with the pupils of that time."""
    found: list[Accuracy] = []
    for note in recording.data("notify") if "notify" in recording.logs else ():
        if note["topic"] == "notify.validation.data":
            data = usable_data(note, "place", (camera.width, camera.height))
            if data["ref_list"]:
                gazer = _gazer(chosen, name, camera)
                found.append(measure(gazer.map_all(data["pupil_list"]), data["ref_list"], camera))
    return [accuracy.as_dict() for accuracy in found]


def _read_mappers(path: Path) -> list[list[Any]]:
    """Return the gaze mappers that are listed already.

    Raises:
        PluginError: the list cannot be read; it is not ours to lose.
    """
    if not path.exists():
        return []
    try:
        content = msgpack.unpackb(path.read_bytes())
        if content["version"] == _VERSION:
            return [list(entry) for entry in content["data"] if entry[0]]
        reason = f"version {content['version']}"
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError, msgpack.UnpackException) as error:
        reason = repr(error)
    raise PluginError(f"{path} cannot be read: {reason}", hint="move it away, Pupil Player makes a new one")


def _entry(
    recording: Recording, identity: str, label: str, chosen: Calibration, accuracy: dict[str, Any] | None
) -> list[Any]:
    """Return the tuple in which Pupil Player keeps a gaze mapper."""
    frames = len(recording.timestamps("world")) if "world" in recording.streams else 0
    everything = [0, max(0, frames - 1)]
    scores = [_words(accuracy[key]) if accuracy else "" for key in ("accuracy", "precision")]
    # id, name, calibration, range of the mapping and of the validation, outliers from degrees, manual correction x and
    # y, whether it is shown, status, accuracy and precision in words
    return [
        identity, label, chosen.unique_id, everything, everything, _OUTLIER_DEG, 0.0, 0.0, True, "Mapped by gazed",
        *scores,
    ]  # fmt: skip


def _words(score: dict[str, Any]) -> str:
    if score["degrees"] is None:
        return ""
    return f"{score['degrees']:.3f} degrees, {score['used']} of {score['total']} samples"
