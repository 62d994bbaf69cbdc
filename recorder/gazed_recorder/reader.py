"""``Recording``: what is in a recording folder, gazed's own or Pupil Capture's, as Python values.

>>> recording = Recording("~/recordings/2026_03_01/000")          # doctest: +SKIP
>>> for frame in recording.frames("world"):                        # doctest: +SKIP
...     print(frame.timestamp, frame.bgr.shape)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from gazed_bus.frame import AUDIO
from gazed_bus.intrinsics import Intrinsics
from gazed_recorder.arrays import read_array
from gazed_recorder.clock_log import CLOCK, TIMESYNC
from gazed_recorder.datalog import STAMP_DTYPE
from gazed_recorder.errors import DamagedFile, NotARecording, UnknownUnixTime
from gazed_recorder.files import FolderFiles
from gazed_recorder.info import PLAYER_INFO, USER_INFO, duration_s
from gazed_recorder.layout import stamps_of, track_files
from gazed_recorder.manifest import MANIFEST, Manifest
from gazed_recorder.reading.clock import RecordedClock, read_clock
from gazed_recorder.reading.correlate import Rule, correlate
from gazed_recorder.reading.info import PlayerInfo, holds_recording, read_info
from gazed_recorder.reading.intrinsics import recorded_intrinsics
from gazed_recorder.reading.key_value import read_key_value
from gazed_recorder.reading.logs import Log, empty_table, pldata_log
from gazed_recorder.reading.missing import missing_of_folder, missing_of_logs, missing_of_tracks
from gazed_recorder.reading.offline import OfflineData, find_offline
from gazed_recorder.reading.recorded_logs import find_logs, with_annotations
from gazed_recorder.reading.sound import RecordedSound, read_sound
from gazed_recorder.reading.table import Table
from gazed_recorder.reading.video import RecordedFrame, Video
from gazed_timesync import ClockPair, HostNs, Segment, UnixNs

__all__ = ["OfflineData", "PlayerInfo", "Recording"]

_MOST_BYTES = 1 << 24


class Recording:
    """A recording folder, read only. Files are opened when they are asked for.

    Any version of Pupil Capture's from 0.7 on will do, and a torn one: what is there is there, and ``missing`` tells
    what is not. Links that lead out of the folder are not followed.

    Args:
        path: the folder.
        offline: whether to take what was computed afterwards, in ``offline_data``, in the place of what was recorded;
            where there is none, what was recorded is left. The name of a gaze mapping chooses among several.

    Raises:
        NotARecording: there is no such folder, or nothing of a recording is in it.
        DamagedFile: its description or its manifest cannot be read.
        UnknownMapping: there is no gaze mapping of that name, or several and no name was given.
    """

    def __init__(self, path: str | Path, *, offline: bool | str = False) -> None:
        self.path = _expanded(path)
        self._folder = FolderFiles(self.path)
        if not holds_recording(self._folder.names):
            hint = "name the folder of one recording, such as 2026_03_01/000"
            raise NotARecording(f"{self.path} holds no {PLAYER_INFO}, nor anything else of a recording", hint=hint)
        self.manifest: Manifest | None = Manifest.load(self.path) if MANIFEST in self._folder else None
        self._found = track_files(self._folder.names)
        tracks = {
            name: [self.path / file for file in files if self._folder.file(stamps_of(file))]
            for name, files in self._found.items()
        }
        self._tracks = {name: paths for name, paths in tracks.items() if paths}
        self.info, self._unknown = read_info(self._folder, self.manifest, lambda: self._extent()[0])
        """What is known of the recording as a whole."""
        self.streams = tuple(sorted(self._tracks.keys() - {AUDIO}, key=lambda name: (name != "world", name)))
        """The videos: world, eye0, eye1."""
        self.has_sound = AUDIO in self._tracks
        """Whether there is sound."""
        self._offline: dict[str, Log] = self._choose(offline) if offline else {}

    def __repr__(self) -> str:
        return f"Recording({str(self.path)!r})"

    @property
    def duration(self) -> float:
        """Seconds from the start to the stop; to the last frame or datum if it was not closed in good order."""
        if self.info.duration_s > 0:
            return self.info.duration_s
        if self.manifest:
            return duration_s(self.manifest)
        first, last = self._extent()
        start = self.info.start_time_synced_s
        length = last - (first if np.isnan(start) else start)
        return max(0.0, length) if np.isfinite(length) else 0.0

    @cached_property
    def logs(self) -> tuple[str, ...]:
        """The names of the datum logs: gaze, notify, pupil and so on.

        Raises:
            DamagedFile: ``pupil_data``, in which they lie in recordings before 1.8, cannot be read.
        """
        return tuple(sorted(self._logs))

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """What is missing, torn or in the way, and what follows from it: a sentence each; empty if all is well.

        Looks into every video, and into logs that were not closed in good order.
        """
        whole = self.manifest is None or self.manifest.state != "recording"
        return tuple(
            chain(
                missing_of_folder(self._folder, self.manifest),
                self._unknown,
                missing_of_tracks(self._folder, self._found, whole),
                self._missing_of_logs(),
                self.offline.notes if self._offline else (),
            )
        )

    @cached_property
    def offline(self) -> OfflineData:
        """What was computed after the recording, whether or not it is taken."""
        return find_offline(self._folder)

    @cached_property
    def user_info(self) -> dict[str, str]:
        """What the user said about the recording, such as ``name``.

        Raises:
            DamagedFile: it cannot be read.
        """
        content = self._folder.read(USER_INFO, _MOST_BYTES)
        if content is None:
            return dict(self.manifest.user_info) if self.manifest else {}
        try:
            return read_key_value(content)
        except ValueError as error:
            raise DamagedFile(f"{self.path / USER_INFO}: {error}") from error

    def intrinsics(self, camera: str) -> Intrinsics | None:
        """Return the model of a camera for the size of its images, ``None`` if there is none.

        It is the map ``{camera_matrix, dist_coefs, cam_type, resolution}`` of ``gazed_bus.intrinsics``.

        Raises:
            NotARecording: there is no video of that camera.
            DamagedFile: the model, or the video, cannot be read.
        """
        models = recorded_intrinsics(self._folder, camera)
        return models.get(self._video(camera).size) if models else None

    def timestamps(self, name: str) -> NDArray[np.float64]:
        """Return Pupil time in seconds, float64 of shape (n,), of what a stream consists of.

        That is the frames of a video, the datums of a log, or (``audio``) the first samples of the blocks of sound.

        Raises:
            NotARecording: there is no stream of that name; the message lists those there are.
            DamagedFile: a file cannot be read.
        """
        if name not in self._tracks and name in self._logs:
            return self._logs[name].timestamps
        return np.concatenate([_stamps(path) for path in self._paths(name)])

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
        for path in self._tracks.get(AUDIO, ()):
            yield from read_sound(path, _stamps(path))

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
            UnknownUnixTime: nothing was.
        """
        if self.manifest:
            logs = [name for name in (CLOCK, TIMESYNC) if f"{name}.pldata" in self._folder]
            return read_clock(self.path, self.manifest, logs)
        times = self.info.start_time_synced_s, self.info.start_time_system_s
        if np.isnan(times).any():
            raise UnknownUnixTime(
                f"{self.path} does not say when it began, so that its times are Pupil time only",
                hint=f"if you know it, write an {PLAYER_INFO} with start_time_system_s and start_time_synced_s",
            )
        synced, system = (round(each * 1e9) for each in times)
        return RecordedClock([Segment(HostNs(0), 0)], [ClockPair(HostNs(synced), UnixNs(system), 0)])

    @overload
    def to_unix(self, timestamp: float) -> float: ...
    @overload
    def to_unix(self, timestamp: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def to_unix(self, timestamp: float | NDArray[np.float64]) -> float | NDArray[np.float64]:
        """Convert Pupil time to Unix time, both in seconds; as ``clock.to_unix``."""
        return self.clock.to_unix(timestamp)

    @cached_property
    def _recorded(self) -> tuple[dict[str, Log], list[str]]:
        growing = self.manifest is not None and self.manifest.state == "recording"
        return find_logs(self._folder, growing)

    @cached_property
    def _logs(self) -> dict[str, Log]:
        return with_annotations(self._recorded[0], self.info.meta_version) | self._offline

    def _choose(self, offline: bool | str) -> dict[str, Log]:
        found = self.offline
        files = dict(found.logs)
        mapping = found.mapping(offline if isinstance(offline, str) else None, self.path)
        if mapping is not None:
            files["gaze"] = mapping
        return {name: pldata_log(path, name, found.stamps.get(path)) for name, path in files.items()}

    def _missing_of_logs(self) -> Iterator[str]:
        try:
            logs, told = self._recorded
        except DamagedFile as error:
            yield error.message
            return
        yield from told
        yield from missing_of_logs(self._folder, logs)

    def _extent(self) -> tuple[float, float]:
        """Return the first and the last timestamp of the videos, or of the logs if there are none; NaN without any."""
        found = [np.zeros(0)]
        for path in chain.from_iterable(self._tracks.values()):
            with suppress(DamagedFile):  # ``missing`` tells
                found.append(_stamps(path))
        if len(found) == 1:
            with suppress(DamagedFile):
                found += [log.timestamps for log in self._recorded[0].values()]
        times = np.concatenate(found)
        times = times[np.isfinite(times)]
        return (float(times.min()), float(times.max())) if len(times) else (np.nan, np.nan)

    def _paths(self, stream: str) -> list[Path]:
        try:
            return self._tracks[stream]
        except KeyError:
            sound = (AUDIO,) if self.has_sound else ()
            known = ", ".join((*self.streams, *sound, *self.logs)) or "none"
            raise NotARecording(f"{self.path} has no stream {stream!r:.200}, found {known}") from None

    def _log(self, name: str) -> Log:
        try:
            return self._logs[name]
        except KeyError:
            raise NotARecording(f"{self.path} has no log {name!r}, found {', '.join(self.logs) or 'none'}") from None

    def _table(self, name: str) -> Table:
        return self.table(name) if name in self._logs else empty_table(name)

    def _video(self, name: str) -> Video:
        return Video(name, self._paths(name))


def _expanded(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise NotARecording(f"{path}: {error}") from error


def _stamps(path: Path) -> NDArray[np.float64]:
    return read_array(path.with_name(stamps_of(path.name)), STAMP_DTYPE)
