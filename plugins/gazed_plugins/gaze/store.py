"""Calibrations on disk: one file each, in a folder of the user's, and those inside recordings.

A file ``<name>.calib`` is the msgpack map of a ``Calibration``. It is written beside, then linked to its name: it is
whole or not there, and none is ever overwritten. In recordings, ``notify.pldata`` holds the notifications
``calibration.setup.v2`` and ``calibration.result.v2``.
"""

from __future__ import annotations

import difflib
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gazed_plugins.gaze.errors import UnknownCalibration
from gazed_plugins.gaze.matching import MIN_CALIBRATION_CONFIDENCE, Datum
from gazed_recorder.folder import clean_session_name
from gazed_recorder.reader import Recording

__all__ = [
    "Calibration",
    "CalibrationInfo",
    "calibrations_folder",
    "list_calibrations",
    "load_calibration",
    "player_id",
    "recorded_calibrations",
    "save_calibration",
]

_SUFFIX = ".calib"
_MOST_BYTES = 256 << 20
_MOST_NUMBER = 10_000
_VERSION = 1
# Pupil Player's namespace for the ids of calibrations that it finds in recordings.
_PLAYER_IDS = uuid.UUID("8ea5d78e-e022-5ee4-a198-1bc002516ff0")
_log = logging.getLogger(__name__)

_Info = TypeVar("_Info", bound="CalibrationInfo")


class CalibrationInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a list of calibrations shows."""

    name: str
    unique_id: str
    gazer_class_name: str
    date: str
    """When it was made, UTC, as ISO 8601."""
    timestamp: float
    """Pupil time of the result, in seconds."""
    recording: str = ""
    """The folder of the recording that it was made in or comes from; empty if there was none."""
    min_confidence: float = MIN_CALIBRATION_CONFIDENCE
    accuracy: dict[str, Any] | None = None
    """On its own data, as ``accuracy.result`` tells it; ``None`` if it was not measured."""


class Calibration(CalibrationInfo, frozen=True, kw_only=True):
    """A calibration with all that it takes to map with it, and to fit it again."""

    params: dict[str, dict[str, Any]]
    """The gazer's parameters; empty in a recording whose calibration failed."""
    calib_data: dict[str, list[Datum]]
    """``ref_list`` and ``pupil_list``; empty if only the parameters are known."""
    eye_translations: list[list[float]] | None = None
    version: int = _VERSION

    def notifications(self) -> list[dict[str, Any]]:
        """Return ``calibration.setup.v2``, ``calibration.result.v2`` and, if it is known, ``accuracy.result``."""
        same = {"gazer_class_name": self.gazer_class_name, "timestamp": self.timestamp, "record": True}
        notes = [
            {"subject": "calibration.setup.v2", "calib_data": self.calib_data, "version": 2, **same},
            {"subject": "calibration.result.v2", "params": self.params, "version": 2, **same},
        ]
        if self.accuracy is not None:
            known = {"data": "calibration", "name": self.name, "repeated": True}
            notes.append({"subject": "accuracy.result", **self.accuracy, **known, **same})
        return notes


def calibrations_folder() -> Path:
    """Return where calibrations are stored: ``$XDG_DATA_HOME/gazed/calibrations``, by default in ``~/.local/share``."""
    home = os.environ.get("XDG_DATA_HOME")
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".local" / "share"
    return base / "gazed" / "calibrations"


def save_calibration(calibration: Calibration, folder: Path | None = None) -> str:
    """Store a calibration and return the name it got.

    What a file's name cannot hold is replaced. A name in use gets a number behind it, and an empty one is made of
    gazer and date.

    Raises:
        OSError: it cannot be written.
    """
    folder = folder or calibrations_folder()
    folder.mkdir(parents=True, exist_ok=True)
    wanted = _clean(calibration.name) or f"{calibration.gazer_class_name}-{_compact(calibration.date)}"
    beside = folder / f".{uuid.uuid4().hex}"
    try:
        for number in range(1, _MOST_NUMBER):
            name = wanted if number == 1 else f"{wanted}-{number}"
            path = folder / f"{name}{_SUFFIX}"
            if path.exists():
                continue
            with beside.open("wb") as file:
                file.write(msgspec.msgpack.encode(msgspec.structs.replace(calibration, name=name)))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(beside, path)
                return name
        raise FileExistsError(f"{folder} holds {_MOST_NUMBER} calibrations named {wanted}")
    finally:
        beside.unlink(missing_ok=True)


def load_calibration(name: str, folder: Path | None = None) -> Calibration:
    """Return the calibration stored under a name.

    Raises:
        UnknownCalibration: there is none of that name, or its file cannot be read.
    """
    folder = folder or calibrations_folder()
    path = folder / f"{_clean(name)}{_SUFFIX}"
    if not path.is_file():
        names = [each.stem for each in _files(folder)]
        near = difflib.get_close_matches(name[:200], names, 1)
        raise UnknownCalibration(
            f"there is no calibration {name!r:.100} in {folder}",
            hint=f"did you mean {near[0]!r}?" if near else "see: gazed calibrate list",
        )
    return _read(path, Calibration)


def list_calibrations(folder: Path | None = None) -> list[CalibrationInfo]:
    """Return what is stored, oldest first; files that cannot be read are left out, with a warning."""
    found = []
    for path in _files(folder or calibrations_folder()):
        try:
            found.append(_read(path, CalibrationInfo))
        except UnknownCalibration as error:
            _log.warning("left out: %s", error.message)
    return sorted(found, key=lambda info: (info.date, info.name))


def recorded_calibrations(recording: Recording) -> list[Calibration]:
    """Return the calibrations in a recording, in the order in which they were made.

    Raises:
        DamagedFile: its notifications cannot be read.
    """
    found: list[Calibration] = []
    setups: dict[str, dict[str, list[Datum]]] = {}
    for note in recording.data("notify") if "notify" in recording.logs else ():
        gazer, data, params = note.get("gazer_class_name"), note.get("calib_data"), note.get("params")
        if not isinstance(gazer, str):
            continue
        if note["topic"] == "notify.calibration.setup.v2" and isinstance(data, dict):
            setups[gazer] = data
        if note["topic"] != "notify.calibration.result.v2" or not isinstance(params, dict):
            continue
        number = len(found) + 1
        content = {
            "name": "Recorded Calibration" + (f" {number}" if number > 1 else ""),
            "unique_id": player_id(str(note["timestamp"])),
            "gazer_class_name": gazer,
            "date": datetime.fromtimestamp(recording.to_unix(float(note["timestamp"])), UTC).isoformat(),
            "timestamp": note["timestamp"],
            "recording": str(recording.path),
            "params": params,
            "calib_data": setups.pop(gazer, {}),
        }
        with suppress(msgspec.ValidationError):
            found.append(msgspec.convert(content, Calibration))
    return found


def player_id(text: str) -> str:
    """Return the id that Pupil Player makes of a text; for a calibration in a recording, of its result's timestamp."""
    return str(uuid.uuid5(_PLAYER_IDS, text))


def _clean(name: str) -> str:
    flat = name.replace("/", "_").strip(" .")
    return clean_session_name(flat, datetime.now(UTC)) if flat else ""


def _compact(date: str) -> str:
    return "".join(char for char in date[:19] if char.isdigit() or char == "T")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob(f"[!.]*{_SUFFIX}")) if path.is_file())


def _read(path: Path, kind: type[_Info]) -> _Info:
    try:
        with path.open("rb") as file:
            found = msgspec.msgpack.decode(file.read(_MOST_BYTES), type=kind)
    except (OSError, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UnknownCalibration(f"{path} is no calibration: {error}", hint="calibrate again") from error
    # Somebody may have renamed or copied the file.
    return msgspec.structs.replace(found, name=path.stem)
