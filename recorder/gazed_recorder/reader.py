"""``Recording``: what is in a recording folder, gazed's own or Pupil Capture's, as Python values.

>>> recording = Recording("~/recordings/2026_03_01/000")          # doctest: +SKIP
>>> for frame in recording.frames("world"):                        # doctest: +SKIP
...     print(frame.timestamp, frame.bgr.shape)
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import msgpack
import numpy as np
from numpy.typing import NDArray

from gazed_bus.frame import AUDIO
from gazed_recorder.arrays import read_array
from gazed_recorder.datalog import STAMP_DTYPE, PldataReader, unpack_datum
from gazed_recorder.errors import DamagedFile, NotARecording
from gazed_recorder.info import PLAYER_INFO, duration_s
from gazed_recorder.layout import log_names, stream_parts
from gazed_recorder.manifest import MANIFEST, Manifest
from gazed_recorder.recorded_clock import RecordedClock, read_clock
from gazed_recorder.sound_read import RecordedSound, read_sound
from gazed_recorder.video_read import RecordedFrame, VideoReader
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

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.info = _read_info(self.path)
        self.manifest: Manifest | None = Manifest.load(self.path) if (self.path / MANIFEST).exists() else None
        self._parts = stream_parts(self.path)
        self.streams = tuple(sorted(self._parts.keys() - {AUDIO}, key=lambda name: (name != "world", name)))
        """The videos: world, eye0, eye1."""
        self.has_sound = AUDIO in self._parts
        """Whether there is sound."""
        self.logs = tuple(log_names(self.path))
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
        stems = [name] if name in self.logs else self._stems(name)
        return np.concatenate([read_array(self.path / f"{stem}_timestamps.npy", STAMP_DTYPE) for stem in stems])

    def frames(self, stream: str, start: int = 0) -> Iterator[RecordedFrame]:
        """Iterate over the frames of a video, all parts in order, from number ``start`` on.

        Raises:
            NotARecording, DamagedFile: as ``timestamps``.
        """
        first = 0
        for stem in self._stems(stream):
            timestamps = read_array(self.path / f"{stem}_timestamps.npy", STAMP_DTYPE)
            if start < first + len(timestamps):
                yield from VideoReader(self.path / f"{stem}.mp4", first, timestamps).frames(max(0, start - first))
            first += len(timestamps)

    def frame(self, stream: str, index: int) -> RecordedFrame:
        """Return one frame by its number; negative ones count from the end.

        Raises:
            IndexError: there is none of that number.
            NotARecording, DamagedFile: as ``timestamps``.
        """
        count = len(self.timestamps(stream))
        if not -count <= index < count:
            raise IndexError(f"{self.path}: {stream} has {count} frames, none of number {index}")
        return next(self.frames(stream, index % count))

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
        if name not in self.logs:
            raise NotARecording(f"{self.path} has no log {name!r}, found {', '.join(self.logs) or 'none'}")
        return self._datums(name)

    def annotations(self) -> Iterator[dict[str, Any]]:
        """Iterate over the annotations, of which there may be none."""
        return self._datums("annotation") if "annotation" in self.logs else iter(())

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

    def _datums(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.path / f"{name}.pldata"
        reader = PldataReader(path)
        for topic, payload in reader:
            try:
                yield {"topic": topic.decode(), **unpack_datum(payload)}
            except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
                raise DamagedFile(f"{path}: record {reader.count - 1} cannot be unpacked: {error}") from error


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
