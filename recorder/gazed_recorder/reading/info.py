"""What a recording says of itself, in ``info.player.json``, in ``info.csv``, or in gazed's manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gazed_recorder.atomic import WRITING
from gazed_recorder.classic import PUPIL_DATA
from gazed_recorder.errors import DamagedFile
from gazed_recorder.files import FolderFiles
from gazed_recorder.info import INFO_CSV, PLAYER_INFO, of_manifest
from gazed_recorder.layout import track_files
from gazed_recorder.manifest import MANIFEST, Manifest
from gazed_recorder.reading.key_value import read_key_value

__all__ = ["SIGNS", "PlayerInfo", "holds_recording", "read_info"]

SIGNS = frozenset({PLAYER_INFO, MANIFEST, INFO_CSV, PUPIL_DATA, "pupil.pldata", "gaze.pldata", "notify.pldata"})
"""Files that only a recording has, torn or whole; videos are in exports as well."""
_MOST_BYTES = 1 << 24
# Pupil time and Unix time in s that still are an int64 in ns.
_LATEST = 4e9
_UNKNOWN = float("nan")
_START_SYSTEM, _START_SYNCED = "Start Time (System)", "Start Time (Synced)"
_DATE, _TIME, _DURATION = "Start Date", "Start Time", "Duration Time"
_SOFTWARE, _FORMAT, _NAME = "Capture Software Version", "Data Format Version", "Recording Name"
# Pupil Player's exports have this and, as a recording, a world.mp4.
_EXPORT = "export_info.csv"
_MACHINE = ("User", "Platform", "Machine", "Release", "Version")


@dataclass(frozen=True, slots=True)
class PlayerInfo:
    """What is known of a recording as a whole; times in seconds, NaN where they are not known."""

    recording_uuid: str
    """Empty before Pupil Capture 1.11."""
    recording_name: str
    recording_software_name: str
    recording_software_version: str
    start_time_system_s: float
    """Unix time of the start."""
    start_time_synced_s: float
    """Pupil time of the start."""
    duration_s: float
    """0.0 or NaN in a recording that was not closed."""
    meta_version: str = "2.3"
    """Version of the format: from 2.0 on that of ``info.player.json``, before that of the program that wrote it."""
    system_info: str = ""


def holds_recording(names: Collection[str]) -> bool:
    """Tell whether files of these names are those of a recording, however torn it is; an export of one is none."""
    if _EXPORT in names:
        return False
    tracks = [name.removesuffix(WRITING) for name in names]
    return not SIGNS.isdisjoint(names) or bool(track_files(tracks))


def read_info(
    folder: FolderFiles, manifest: Manifest | None, first: Callable[[], float]
) -> tuple[PlayerInfo, list[str]]:
    """Return what is known, and a sentence for each thing that is not, or not as it should be.

    ``info.player.json`` counts, else gazed's manifest, else ``info.csv``. ``first`` returns the first timestamp of the
    recording, NaN if it has none.

    Raises:
        DamagedFile: the file is there and cannot be read.
    """
    content = folder.read(PLAYER_INFO, _MOST_BYTES)
    if content is not None:
        return _of_json(folder, content), []
    if manifest is not None:
        told = f"{PLAYER_INFO} is missing: what it says was taken from {MANIFEST}"
        return _of_manifest(folder, manifest), [told]
    content = folder.read(INFO_CSV, _MOST_BYTES)
    if content is not None:
        return _of_csv(folder, content, first)
    told = f"{PLAYER_INFO} is missing: when the recording began is not known, its times are Pupil time only"
    return PlayerInfo("", folder.path.absolute().name, "", "", _UNKNOWN, _UNKNOWN, _UNKNOWN, meta_version=""), [told]


def _of_json(folder: FolderFiles, content: bytes) -> PlayerInfo:
    path = folder.path / PLAYER_INFO
    mend = f"gazed repair {folder.path}" if MANIFEST in folder else "move it away to open what else is there"
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path}: {error}", hint=mend) from error
    if not isinstance(found, dict):
        raise DamagedFile(f"{path}: wanted a map, found {type(found).__name__}", hint=mend)
    try:
        return PlayerInfo(
            recording_uuid=str(found.get("recording_uuid", "")),
            recording_name=str(found.get("recording_name", folder.path.absolute().name)),
            recording_software_name=str(found["recording_software_name"]),
            recording_software_version=str(found["recording_software_version"]),
            start_time_system_s=_time(found["start_time_system_s"]),
            start_time_synced_s=_time(found["start_time_synced_s"]),
            duration_s=_time(found["duration_s"]),
            meta_version=str(found.get("meta_version", "2.3")),
            system_info=str(found.get("system_info", "")),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedFile(f"{path}: {error!r}", hint=mend) from error


def _of_manifest(folder: FolderFiles, manifest: Manifest) -> PlayerInfo:
    software, _, version = manifest.software.rpartition(" ")
    times = of_manifest(manifest)
    return PlayerInfo(
        recording_uuid=manifest.recording_uuid,
        recording_name=manifest.session_name or folder.path.absolute().parent.name,
        recording_software_name=software,
        recording_software_version=version,
        start_time_system_s=float(times["start_time_system_s"]),
        start_time_synced_s=float(times["start_time_synced_s"]),
        duration_s=float(times["duration_s"]),
    )


def _of_csv(folder: FolderFiles, content: bytes, first: Callable[[], float]) -> tuple[PlayerInfo, list[str]]:
    path = folder.path / INFO_CSV
    mend = "move it away to open what else is there"
    try:
        found = read_key_value(content)
    except ValueError as error:
        raise DamagedFile(f"{path}: {error}", hint=mend) from error
    if not found.keys() & {_NAME, _DATE, _SOFTWARE, _START_SYNCED}:
        raise DamagedFile(f"{path}: wanted rows such as {_NAME!r} and {_DATE!r}, found none of them", hint=mend)
    told: list[str] = []
    synced, system = _start_synced(found, first, told), _start_system(found, told)
    machine = ", ".join(f"{key}: {found[key]}" for key in _MACHINE if key in found)
    info = PlayerInfo(
        recording_uuid=found.get("Recording UUID", ""),
        recording_name=found.get(_NAME, folder.path.absolute().name),
        recording_software_name=found.get("Capture Software", "Pupil Capture"),
        recording_software_version=found.get(_SOFTWARE, ""),
        start_time_system_s=system,
        start_time_synced_s=synced,
        duration_s=_duration(found, told),
        meta_version=found.get(_FORMAT, found.get(_SOFTWARE, "")).lstrip("v"),
        system_info=found.get("System Info", machine),
    )
    return info, told


def _start_synced(found: dict[str, str], first: Callable[[], float], told: list[str]) -> float:
    try:
        return _time(found[_START_SYNCED])
    except (KeyError, ValueError):
        start = first()
    if not abs(start) < _LATEST:
        told.append(f"{INFO_CSV} has no {_START_SYNCED!r}: the Pupil time of the start is not known")
        return _UNKNOWN
    told.append(f"{INFO_CSV} has no {_START_SYNCED!r}: the first timestamp, {start!r}, is taken for the start")
    return start


def _start_system(found: dict[str, str], told: list[str]) -> float:
    try:
        return _time(found[_START_SYSTEM])
    except (KeyError, ValueError):
        pass
    try:
        day = datetime.strptime(f"{found[_DATE]} {found[_TIME]}", "%d.%m.%Y %H:%M:%S")
        start = _time(day.timestamp())
    except (KeyError, ValueError, OverflowError, OSError):
        told.append(f"{INFO_CSV} has no {_START_SYSTEM!r}: the Unix time of the start is not known")
        return _UNKNOWN
    told.append(
        f"{INFO_CSV} has no {_START_SYSTEM!r}: {_DATE} and {_TIME} are taken for it, whole seconds of local time, "
        "here of the time zone of this machine"
    )
    return start


def _duration(found: dict[str, str], told: list[str]) -> float:
    try:
        hours, minutes, seconds = (int(part) for part in found[_DURATION].split(":"))
        return _time(3600 * hours + 60 * minutes + seconds)
    except (KeyError, ValueError, OverflowError):
        told.append(f"{INFO_CSV} has no {_DURATION!r}, which is written at the stop: the recording was not closed")
        return _UNKNOWN


def _time(value: Any) -> float:
    number = float(value)
    if not abs(number) < _LATEST:
        raise ValueError(f"{value!r:.80} is no time in seconds")
    return number
