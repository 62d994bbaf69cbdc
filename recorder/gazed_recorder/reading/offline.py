"""What was computed after a recording, in the folder ``offline_data`` in which Pupil Player and gazed keep it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from gazed_recorder.errors import DamagedFile, UnknownMapping
from gazed_recorder.files import FolderFiles

__all__ = ["OfflineData", "find_offline"]

_FOLDER, _MAPPINGS, _MAPPERS = "offline_data", "gaze-mappings", "gaze_mappers.msgpack"
_PUPIL, _PUPIL_DONE = "offline_pupil.pldata", "offline_pupil.meta"
_LOGS = {
    _PUPIL: "pupil",
    "fixations.pldata": "fixations",
    "blinks.pldata": "blinks",
    "surfaces.pldata": "surfaces",
    "annotation_player.pldata": "annotation",
    "camera_pose.pldata": "head_pose",
}
_MOST_BYTES = 1 << 24
_UNPACKING = (ValueError, TypeError, LookupError, AttributeError, RecursionError, msgpack.UnpackException)


@dataclass(frozen=True, slots=True)
class OfflineData:
    """What was computed after a recording."""

    logs: dict[str, Path]
    """By the name of the log that it may take the place of, but for gaze."""
    mappings: dict[str, Path]
    """The gaze mappings, by the names that they have in Pupil Player, or else those of their files; sorted."""
    stamps: dict[Path, Path]
    """The arrays of timestamps, by the ``.pldata`` file that they belong to."""
    notes: tuple[str, ...] = ()
    """What is left out of it, and why."""

    def mapping(self, name: str | None, folder: Path) -> Path | None:
        """Return the file of a gaze mapping, or of the only one there is; ``None`` if there is none at all.

        Raises:
            UnknownMapping: there is none of that name, or no name is given and there are several.
        """
        listed = ", ".join(map(repr, self.mappings)) or "none"
        if name is None and len(self.mappings) > 1:
            raise UnknownMapping(
                f"{folder} has {len(self.mappings)} gaze mappings: {listed}",
                hint="say which of them: offline='its name'",
            )
        if name is None:
            return next(iter(self.mappings.values()), None)
        named = self.mappings | {path.stem: path for path in self.mappings.values()}
        if name not in named:
            raise UnknownMapping(f"{folder} has no gaze mapping {name!r:.200}, found {listed}")
        return named[name]


def find_offline(recording: FolderFiles) -> OfflineData:
    """Find what was computed after a recording; files are not read, but for the names of the gaze mappings.

    Raises:
        NotARecording: the folder cannot be looked into.
    """
    folder = recording.folder(_FOLDER)
    if folder is None:
        return OfflineData({}, {}, {})
    notes: list[str] = []
    logs = {log: folder.path / name for name, log in _LOGS.items() if name in folder}
    if "pupil" in logs and _PUPIL_DONE not in folder:
        del logs["pupil"]
        notes.append(f"{_FOLDER}/{_PUPIL} has no {_PUPIL_DONE}: that detection never ended, its pupils are left out")
    stamps = _stamps(folder, [path.name for path in logs.values()])
    mapped = folder.folder(_MAPPINGS)
    names = sorted(name for name in mapped.names if name.endswith(".pldata")) if mapped else []
    if not mapped or not names:
        return OfflineData(logs, {}, stamps, tuple(notes))
    titles = _titles(folder, notes)
    mappings: dict[str, Path] = {}
    for name in names:
        stem = name.removesuffix(".pldata")
        title = titles.get(stem, stem)
        mappings[stem if title in mappings else title] = mapped.path / name
    return OfflineData(logs, dict(sorted(mappings.items())), stamps | _stamps(mapped, names), tuple(notes))


def _stamps(folder: FolderFiles, names: list[str]) -> dict[Path, Path]:
    pairs = ((name, f"{name.removesuffix('.pldata')}_timestamps.npy") for name in names)
    return {folder.path / name: folder.path / stamps for name, stamps in pairs if stamps in folder}


def _titles(folder: FolderFiles, notes: list[str]) -> dict[str, str]:
    """Return the names of Pupil Player's gaze mappers, by the stems of the files that they are written to."""
    try:
        content: Any = msgpack.unpackb(folder.read(_MAPPERS, _MOST_BYTES) or b"\x80", strict_map_key=False)
        entries = content.get("data", [])
        return {_stem(*entry[:2]): str(entry[1]) for entry in entries}
    except (DamagedFile, *_UNPACKING) as error:
        notes.append(f"{_FOLDER}/{_MAPPERS} cannot be read: {error!r:.200}; gaze mappings are called as their files")
        return {}


def _stem(identity: object, name: object) -> str:
    # Pupil Player's rule for the name of a file.
    return re.sub(r"[^-_a-zA-Z0-9.]", "", f"{name}-{identity}".replace(" ", "_"))
