"""One recording, from its folder to its last file."""

from __future__ import annotations

import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from gazed_bus.frame import StreamInfo
from gazed_bus.lane import Ended, FrameHeader
from gazed_recorder.atomic import sync_folder
from gazed_recorder.clock_log import ClockLog
from gazed_recorder.datums import Annotation, DatumWriter
from gazed_recorder.errors import RecordingRefused
from gazed_recorder.finish import finish
from gazed_recorder.folder import FolderLock, NewFolder, make_folder
from gazed_recorder.info import write_player_info, write_user_info
from gazed_recorder.manifest import ClockReading, Manifest, Mode, StreamReport, kind_of
from gazed_recorder.repair import resume_point, settle
from gazed_recorder.space import DiskGuard, Reserve
from gazed_recorder.stream import StreamWriter
from gazed_timesync import HostNs, PupilClock, read_clock_pair

__all__ = ["RecorderSettings", "Session", "StartRequest", "read_clocks"]

# Room for indexes and json when the disk is full: enough for an hour of three cameras.
_RESERVE_BYTES = 4 << 20
_SAVE_EVERY = 1.0
_CLOCKS_EVERY = 60.0
_log = logging.getLogger(__name__)


class RecorderSettings(msgspec.Struct, frozen=True):
    """What the recorder process is told when it starts."""

    root: str
    streams: list[str]
    mode: Mode = "jpeg"
    session_name: str = ""
    floor_bytes: int = 1_000_000_000
    warn_bytes: int = 5_000_000_000
    start_timeout_s: float = 2.0
    user_info: dict[str, str] = {}
    config: str = ""
    """The effective configuration as TOML, kept in each recording."""


class StartRequest(msgspec.Struct, frozen=True):
    """What ``recording.should_start`` may ask for, beside what Pupil Capture knows of it."""

    session_name: str | None = None
    """Empty or ``None`` keeps the name of the configuration."""
    record_eye: bool | int = True
    user_info: dict[str, str] | None = None
    mode: Mode | None = None
    expires_ns: int | None = None
    """Host time after which nobody waits for the recording any more."""

    @classmethod
    def parse(cls, notification: Mapping[str, Any]) -> StartRequest:
        """Read a notification.

        Raises:
            RecordingRefused: a field is of the wrong kind.
        """
        try:
            return msgspec.convert(notification, cls)
        except msgspec.ValidationError as error:
            raise RecordingRefused(
                f"recording.should_start: {error}", reason="bad-request", hint="see bus/README.md"
            ) from error


def read_clocks(clock: PupilClock) -> ClockReading:
    """Read all three clocks at one instant."""
    pair = read_clock_pair()
    return ClockReading(pair.host, pair.unix, pair.error_ns, clock.to_pupil(pair.host))


class Session:
    """A recording that is being written. The caller feeds it and calls ``tick`` about twenty times a second."""

    def __init__(
        self, folder: Path, lock: FolderLock, manifest: Manifest, settings: RecorderSettings, clock: PupilClock
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.number = uuid.UUID(manifest.recording_uuid).int >> 64
        self._clock = clock
        self._guard = DiskGuard(Path(settings.root), settings.floor_bytes, settings.warn_bytes)
        self._settings = settings
        self._lock = lock
        self._reserve = Reserve(folder)
        self._reserve.hold(_RESERVE_BYTES)
        self.cameras: dict[bytes, str] = {}
        self.infos: dict[str, StreamInfo] = {}
        self._writers: dict[str, StreamWriter] = {}
        self.datums = DatumWriter(folder, manifest.streams)
        self._clock_log = ClockLog(clock, HostNs(manifest.start.host_ns))
        self._ended: set[bytes] = set()
        self._awaited: set[str] = set()
        self._saved_at = self._clocks_at = time.monotonic()
        self._announced_drops: dict[str, int] = {}
        self._warned_low = False
        self._torn = False
        self._syncing = threading.Lock()
        self._stop_sync = threading.Event()
        self._sync_error: OSError | None = None
        self._syncer = threading.Thread(target=self._sync_loop, name="sync", daemon=True)
        self._syncer.start()

    @classmethod
    def begin(cls, settings: RecorderSettings, clock: PupilClock, request: StartRequest, streams: list[str]) -> Session:
        """Make a new folder and everything in it that does not wait for a frame.

        Raises:
            DiskFull: less than the floor is free.
            RecordingRefused: the folder cannot be made.
        """
        root = Path(settings.root)
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordingRefused(
                f"recordings root {root}: {error.strerror}",
                reason="root-not-writable",
                hint="check that it is a folder you may write to, or set recorder.root",
            ) from error
        DiskGuard(root, settings.floor_bytes, settings.warn_bytes).check()
        made = make_folder(root, request.session_name or settings.session_name, datetime.now().astimezone())
        if made.notice:
            _log.warning("%s", made.notice)
        lock = FolderLock(made.path)
        try:
            clock.hold()
            return cls(made.path, lock, cls._first_manifest(made, settings, clock, request, streams), settings, clock)
        except BaseException:
            lock.release()
            shutil.rmtree(made.path)
            raise

    @staticmethod
    def _first_manifest(
        made: NewFolder, settings: RecorderSettings, clock: PupilClock, request: StartRequest, streams: list[str]
    ) -> Manifest:
        """Write what can be known at the start, so that a torn folder tells what it is."""
        manifest = Manifest(
            recording_uuid=str(uuid.uuid4()),
            software=f"gazed {version('gazed')}",
            start=read_clocks(clock),
            session_name=made.session,
            mode=request.mode or settings.mode,
            user_info={**settings.user_info, **(request.user_info or {})},
            streams={name: StreamReport(kind=kind_of(name), expected=True) for name in streams},
        )
        manifest.clock.append(manifest.start)
        if settings.config:
            (made.path / "gazed.toml").write_text(settings.config)
        manifest.save(made.path)
        write_player_info(made.path, manifest)
        write_user_info(made.path, manifest)
        return manifest

    @classmethod
    def resume(cls, folder: Path, settings: RecorderSettings, clock: PupilClock) -> Session:
        """Go on with a recording whose recorder died, in the next parts; what it left torn is settled at the end.

        Raises:
            RecordingRefused: somebody else writes there, or the folder is gone.
            NotARecording, DamagedFile: the manifest cannot be read.
            OSError, DiskFull: there is no room.
        """
        clock.hold()
        lock = FolderLock(folder)
        try:
            manifest = Manifest.load(folder)
            last = resume_point(folder, manifest)
            manifest.events.append({"event": "recorder-restarted", "timestamp": clock.now()})
            session = cls(folder, lock, manifest, settings, clock)
        except BaseException:
            lock.release()
            raise
        # Cameras that served the recording may hold frames of it, and have yet to say that they are there.
        session._awaited = {name for name, report in manifest.streams.items() if report.kind != "data"}
        for stream, captured_ns in last.items():
            session._add_writer(stream, captured_ns)
        session._torn = True
        session._save()
        return session

    def join(self, camera: bytes, stream: str, info: StreamInfo) -> int:
        """Let a camera take part; returns the ``captured_ns`` behind which its frames are wanted."""
        self.cameras[camera] = stream
        self.infos[stream] = info
        self._ended.discard(camera)
        self._awaited.discard(stream)
        if stream not in self._writers:
            self._add_writer(stream, None)
        self._writers[stream].report.info = msgspec.to_builtins(info)
        return max(self._writers[stream].confirmed_ns, self.manifest.start.host_ns)

    def take_frame(self, camera: bytes, header: FrameHeader, payload: Any) -> None:
        """Write one frame.

        Raises:
            OSError: the disk refused it.
        """
        stream = self.cameras[camera]
        self._writers[stream].take(camera, header, payload, self.infos.get(stream))

    def refuse_frame(self, camera: bytes, header: FrameHeader, reason: str) -> None:
        """Account for a frame that comes after the disk is full."""
        self._writers[self.cameras[camera]].refuse(camera, header, reason)

    def camera_ended(self, ended: Ended) -> None:
        """Take a camera's last word."""
        if stream := self.cameras.get(ended.identity):
            self._writers[stream].end(ended)
            self._ended.add(ended.identity)

    def leave(self, camera: bytes) -> None:
        """Stop waiting for a camera that is gone."""
        self._ended.add(camera)

    @property
    def all_ended(self) -> bool:
        """Whether every camera that took part has said its last word."""
        return not self._awaited and self._ended >= set(self.cameras)

    @property
    def missing(self) -> list[str]:
        """The expected streams that have no frame on disk yet."""
        return sorted(
            name
            for name, report in self.manifest.streams.items()
            if report.kind != "data" and report.expected and not report.written
        )

    def confirmed_ns(self, stream: str) -> int:
        """``captured_ns`` up to which everything of a stream is on disk."""
        return self._writers[stream].confirmed_ns

    def tick(self) -> tuple[list[Annotation], dict[str, int]]:
        """Flush, save and watch the disk; returns annotations now on disk and new drops by stream.

        Raises:
            DiskFull: less than the floor is free.
            OSError: the disk refused a write.
        """
        if self._sync_error:
            raise self._sync_error
        self._log_clocks()
        annotations = self.datums.flush()
        now = time.monotonic()
        if now - self._saved_at < _SAVE_EVERY:
            return annotations, {}
        self._saved_at = now
        if now - self._clocks_at >= _CLOCKS_EVERY:
            self._clocks_at = now
            self.manifest.clock.append(read_clocks(self._clock))
        self._save()
        self._watch_disk()
        return annotations, self._new_drops()

    def _log_clocks(self) -> None:
        for topic, packed in self._clock_log.news():
            self.datums.take(topic, packed, self._clock.now())

    def _watch_disk(self) -> None:
        space = self._guard.check()
        if space.low and not self._warned_low:
            floor = self._settings.floor_bytes / 1e9
            _log.warning("%.2f GB are free; the recording stops at %.2f GB", space.free / 1e9, floor)
        self._warned_low = space.low

    def stats(self) -> dict[str, dict[str, Any]]:
        """Return the accounts of each stream, for status."""
        for writer in self._writers.values():
            writer.refresh()
        return {
            name: {"received": r.received, "written": r.written, "dropped": sum(r.dropped.values()), "last": r.last}
            for name, r in self.manifest.streams.items()
        }

    @property
    def bytes_written(self) -> int:
        """Bytes of frames so far, as they came."""
        return sum(writer.bytes for writer in self._writers.values())

    def end(self, reason: str) -> None:
        """Nothing comes any more; ``complete`` or ``abandon`` is next, and may run in a thread."""
        # What a full disk refuses is counted as dropped.
        with suppress(OSError):
            self._log_clocks()
        self.manifest.stop = read_clocks(self._clock)
        self.manifest.stop_reason = reason
        self.manifest.clock.append(self.manifest.stop)

    def _close_streams(self) -> list[OSError]:
        """Close everything, and return what went wrong."""
        self._stop_sync.set()
        self._syncer.join()
        self._reserve.release()
        errors: list[OSError] = []
        closings: list[Callable[[], None]] = [writer.close for writer in self._writers.values()]
        for close in (*closings, self.datums.close):
            try:
                close()
            except OSError as error:
                errors.append(error)
        for name, report in self.manifest.streams.items():
            if report.kind != "data" and report.expected and not report.written:
                self.manifest.events.append({"event": "stream-empty", "stream": name})
        return errors

    def complete(self, hurry: Callable[[], bool]) -> None:
        """Close every stream and write what can only be known at the end. Takes seconds for long recordings.

        Once ``hurry`` says yes, what ``gazed repair`` can make later is left out.

        Raises:
            OSError: something cannot be written; ``gazed repair`` completes the folder.
        """
        try:
            if errors := self._close_streams():
                # The folder stays open, for ``gazed repair``.
                raise errors[0]
            problems = settle(self.folder, self.manifest).problems if self._torn else []
            for problem in [*problems, *finish(self.folder, self.manifest, hurry=hurry)]:
                _log.error("%s: %s", self.folder, problem)
        finally:
            self._lock.release()

    def abandon(self) -> None:
        """Remove a recording that never began."""
        try:
            self._close_streams()
            shutil.rmtree(self.folder)
        finally:
            self._lock.release()

    def _add_writer(self, stream: str, last_captured_ns: int | None) -> None:
        report = self.manifest.streams.setdefault(stream, StreamReport(kind=kind_of(stream)))
        writer = StreamWriter(self.folder, stream, self.manifest.mode, report, last_captured_ns=last_captured_ns)
        with self._syncing:
            self._writers[stream] = writer

    def _save(self) -> None:
        for writer in self._writers.values():
            writer.refresh()
        self.manifest.save(self.folder)

    def _new_drops(self) -> dict[str, int]:
        totals = {name: sum(report.dropped.values()) for name, report in self.manifest.streams.items()}
        new = {name: count - self._announced_drops.get(name, 0) for name, count in totals.items()}
        self._announced_drops = totals
        return {name: count for name, count in new.items() if count}

    def _sync_loop(self) -> None:
        # A power cut may cost a second; a sync may take as long as the disk likes without delaying a frame.
        while not self._stop_sync.wait(1.0):
            with self._syncing:
                writers = list(self._writers.values())
            try:
                for writer in writers:
                    _sync_part(writer)
                self.datums.sync()
                # The names of new files are kept apart from what is in them.
                for place in (self.folder, *self.folder.parents[:2]):
                    sync_folder(place)
            except OSError as error:
                self._sync_error = error


def _sync_part(writer: StreamWriter) -> None:
    part = writer.part
    try:
        if part:
            part.sync()
    except OSError:
        # A part that was closed meanwhile is on the disk already.
        if part is writer.part:
            raise
