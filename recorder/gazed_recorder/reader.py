"""``Recording``: what is in a recording folder, gazed's own or Pupil Capture's, as Python values.

>>> recording = Recording("~/recordings/2026_03_01/000")          # doctest: +SKIP
>>> for frame in recording.frames("world"):                        # doctest: +SKIP
...     print(frame.timestamp, frame.bgr.shape)
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from gazed_bus.frame import AUDIO
from gazed_recorder.arrays import read_array
from gazed_recorder.datalog import STAMP_DTYPE
from gazed_recorder.errors import DamagedFile, NotARecording
from gazed_recorder.info import PLAYER_INFO, duration_s
from gazed_recorder.layout import log_names, stream_parts
from gazed_recorder.manifest import MANIFEST, Manifest
from gazed_recorder.reading.clock import RecordedClock, read_clock
from gazed_recorder.reading.correlate import Rule, correlate
from gazed_recorder.reading.logs import Log, empty_table, offline_logs, pldata_log
from gazed_recorder.reading.sound import RecordedSound, read_sound
from gazed_recorder.reading.table import Table
from gazed_recorder.reading.video import RecordedFrame, Video
from gazed_timesync import ClockPair, HostNs, Segment, UnixNs

__all__ = ["PlayerInfo", "Recording"]


@dataclass(frozen=True, slots=True)
class PlayerInfo:
    """What ``info.player.json`` says; times in seconds."""

    recording_uuid: str
    recording_name: str
    recording_software_name: str
    recording_software_version: str
    start_time_system_s: float
    """Unix time of the start."""
    start_time_synced_s: float
    """Pupil time of the start."""
    duration_s: float
    """0.0 in a recording that was not closed."""
    meta_version: str = "2.3"
    system_info: str = ""


class Recording:
    """A recording folder, read only. Files are opened when they are asked for.

    Raises:
        NotARecording: there is no such folder, or it has no ``info.player.json``.
        DamagedFile: that file or the manifest cannot be read.
    """

    def __init__(self, path: str | Path, *, offline: bool = False) -> None:
        """Open a folder; ``offline`` takes what was computed afterwards in the place of what was recorded."""
        self.path = Path(path).expanduser()
        self.info = _read_info(self.path)
        self.manifest: Manifest | None = Manifest.load(self.path) if (self.path / MANIFEST).exists() else None
        self._parts = stream_parts(self.path)
        self.streams = tuple(sorted(self._parts.keys() - {AUDIO}, key=lambda name: (name != "world", name)))
        """The videos: world, eye0, eye1."""
        self.has_sound = AUDIO in self._parts
        """Whether there is sound."""
        self._logs = {name: pldata_log(self.path / f"{name}.pldata") for name in log_names(self.path)}
        if offline:
            self._logs |= offline_logs(self.path)
        self.logs = tuple(sorted(self._logs))
        """The datum logs: gaze, notify, pupil, …"""

    def __repr__(self) -> str:
        return f"Recording({str(self.path)!r})"

    @property
    def duration(self) -> float:
        """Seconds from the start to the stop; to the last frame or datum if it was not closed in good order."""
        return self.info.duration_s or (duration_s(self.manifest) if self.manifest else 0.0)

    def timestamps(self, name: str) -> NDArray[np.float64]:
        """Return Pupil time in seconds, float64 of shape (n,), of what a stream consists of.

        That is the frames of a video, the datums of a log, or (``audio``) the first samples of the blocks of sound.

        Raises:
            NotARecording: there is no stream of that name; the message lists those there are.
            DamagedFile: a file cannot be read.
        """
        if name in self._logs:
            return self._logs[name].timestamps
        stems = self._stems(name)
        return np.concatenate([read_array(self.path / f"{stem}_timestamps.npy", STAMP_DTYPE) for stem in stems])

    def frames(self, stream: str, start: int = 0) -> Iterator[RecordedFrame]:
        """Iterate over the frames of a video, all parts in order, from number ``start`` on.

        Raises:
            NotARecording, DamagedFile: as ``timestamps``.
        """
        return self._video(stream).frames(start)

    def frame(self, stream: str, index: int) -> RecordedFrame:
        """Return one frame by its number; negative ones count from the end.

        Raises:
            IndexError: there is none of that number.
            NotARecording, DamagedFile: as ``timestamps``.
        """
        return self._video(stream)[index]

    def sound(self) -> Iterator[RecordedSound]:
        """Iterate over the blocks of sound, all parts in order; there may be none.

        Raises (while iterating):
            DamagedFile: a file cannot be read, or ends before its timestamps do.
        """
        for stem in self._parts.get(AUDIO, ()):
            timestamps = read_array(self.path / f"{stem}_timestamps.npy", STAMP_DTYPE)
            yield from read_sound(self.path / f"{stem}.mp4", timestamps)

    def data(self, name: str) -> Iterator[dict[str, Any]]:
        """Iterate over the datums of a log in the order of their arrival: maps with ``topic`` and ``timestamp``.

        A torn end of a recording that was not closed ends the iteration.

        Raises:
            NotARecording: there is no such log; the message lists those there are.
            DamagedFile: it cannot be read.
        """
        return self._log(name).datums()

    def table(self, name: str, columns: Sequence[str] | None = None) -> Table:
        """Return a log as columns, in the order of time; it is read anew each time.

        The logs ``pupil``, ``gaze``, ``fixations``, ``blinks`` and ``notify`` have the columns of
        ``gazed_recorder.reading.schemas``, others one for each key that their datums have.

        Raises:
            NotARecording, DamagedFile: as ``data``.
            KeyError: there is no such column; the message lists those there are.
        """
        return self._log(name).table(columns)

    def batches(self, name: str, rows: int = 65_536, columns: Sequence[str] | None = None) -> Iterator[Table]:
        """Iterate over what ``table`` returns, in tables of so many rows: whoever streams needs no more memory.

        Raises:
            NotARecording, DamagedFile, KeyError: as ``table``.
        """
        return self._log(name).batches(rows, columns)

    @property
    def pupil(self) -> Table:
        """The pupils; empty if there are none. As ``table``, and so are all of the following."""
        return self._table("pupil")

    @property
    def gaze(self) -> Table:
        """The gaze."""
        return self._table("gaze")

    @property
    def fixations(self) -> Table:
        """The fixations that were found live."""
        return self._table("fixations")

    @property
    def blinks(self) -> Table:
        """The onsets and offsets of blinks that were found live."""
        return self._table("blinks")

    @property
    def annotations(self) -> Table:
        """The annotations; one column for each key that any of them has."""
        return self._table("annotation")

    @property
    def notifications(self) -> Table:
        """The notifications; ``datum`` has each of them whole."""
        return self._table("notify")

    @cached_property
    def world(self) -> Video:
        """The video of the world camera.

        Raises:
            NotARecording: there is none.
            DamagedFile: its timestamps cannot be read.
        """
        return self._video("world")

    @cached_property
    def eyes(self) -> dict[int, Video]:
        """The videos of the eye cameras, by the number of the eye: 0 is the right one.

        Raises:
            DamagedFile: timestamps cannot be read.
        """
        return {int(name[3:]): self._video(name) for name in self.streams if name.startswith("eye")}

    def correlate(self, table: Table, rule: Rule = "nearest") -> NDArray[np.int64]:
        """Return for each row of a table the number of the world frame that belongs to it; -1 where none does.

        Raises:
            NotARecording: there is no world video.
        """
        return correlate(table["timestamp"], self.world.timestamps, rule)

    @cached_property
    def clock(self) -> RecordedClock:
        """Pupil time, host time and Unix time of the recording.

        Raises:
            DamagedFile: what was recorded of them cannot be read.
        """
        if self.manifest:
            return read_clock(self.path, self.manifest, self.logs)
        synced, system = (round(each * 1e9) for each in (self.info.start_time_synced_s, self.info.start_time_system_s))
        return RecordedClock([Segment(HostNs(0), 0)], [ClockPair(HostNs(synced), UnixNs(system), 0)])

    @overload
    def to_unix(self, timestamp: float) -> float: ...
    @overload
    def to_unix(self, timestamp: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def to_unix(self, timestamp: float | NDArray[np.float64]) -> float | NDArray[np.float64]:
        """Convert Pupil time to Unix time, both in seconds; as ``clock.to_unix``."""
        return self.clock.to_unix(timestamp)

    def _stems(self, stream: str) -> list[str]:
        try:
            return self._parts[stream]
        except KeyError:
            sound = (AUDIO,) if self.has_sound else ()
            known = ", ".join((*self.streams, *sound, *self.logs)) or "none"
            raise NotARecording(f"{self.path} has no stream {stream!r}, found {known}") from None

    def _log(self, name: str) -> Log:
        try:
            return self._logs[name]
        except KeyError:
            raise NotARecording(f"{self.path} has no log {name!r}, found {', '.join(self.logs) or 'none'}") from None

    def _table(self, name: str) -> Table:
        return self.table(name) if name in self._logs else empty_table(name)

    def _video(self, name: str) -> Video:
        return Video(self.path, name, self._stems(name))


def _read_info(folder: Path) -> PlayerInfo:
    path = folder / PLAYER_INFO
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        torn = (folder / MANIFEST).exists()
        hint = f"gazed repair {folder}" if torn else "name the folder of one recording, such as 2026_03_01/000"
        raise NotARecording(f"{folder} holds no {PLAYER_INFO}", hint=hint) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedFile(f"{path}: {error}", hint=f"gazed repair {folder}") from error
    if not isinstance(found, dict):
        raise DamagedFile(f"{path}: wanted a map, found {type(found).__name__}")
    try:
        return PlayerInfo(
            recording_uuid=str(found.get("recording_uuid", "")),
            recording_name=str(found.get("recording_name", folder.name)),
            recording_software_name=str(found["recording_software_name"]),
            recording_software_version=str(found["recording_software_version"]),
            start_time_system_s=_finite(found["start_time_system_s"]),
            start_time_synced_s=_finite(found["start_time_synced_s"]),
            duration_s=_finite(found["duration_s"]),
            meta_version=str(found.get("meta_version", "2.3")),
            system_info=str(found.get("system_info", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(f"{path}: {error!r}", hint=f"gazed repair {folder}") from error


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no finite number")
    return number
