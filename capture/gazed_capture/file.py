"""The source ``file``: a video, or one stream of a recording folder, played as if it were a camera."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from gazed_bus.errors import CameraModelError
from gazed_bus.frame import Frame, StreamInfo
from gazed_bus.intrinsics import read_intrinsics
from gazed_capture.errors import EndOfStream, SourceError, SourceNotFound, SourceOptionError
from gazed_capture.options import refuse_unknown
from gazed_capture.playback import SharedStart, find_parts, folder_span, load_stamps, span_of, stamps_beside
from gazed_capture.source import ClockQuality, Demand, DeviceInfo, SourceStats
from gazed_capture.video import VideoReader
from gazed_timesync import HostNs, host_now

__all__ = ["FileSource"]

_PACES = ("timestamps", "free")
_LONGEST_S = 9e9
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Part:
    video: Path
    stamps: NDArray[np.float64] | None
    """Capture times in seconds, shape (frames,); ``None`` where only the container tells them."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A frame on its way out."""

    sequence: int
    stamp: float
    due: int
    """Host time at which it is to be handed out, in nanoseconds."""
    width: int
    height: int
    jpeg: bytes


class FileSource:
    """Plays recorded video, frame by frame as JPEG, at the times at which it was captured.

    Options:
        path: a video file, or a recording folder, of which the stream's own video is played with all its parts.
        loop: start over at the end (default false).
        pace: ``timestamps`` (default) hands each frame out when it is due and stamps it with that instant, even if it
            is fetched late; ``free`` hands frames out as fast as they are fetched, stamped on the way out.

    The capture times are those of ``<stem>_timestamps.npy`` if there is one, else the container's; ``device_time`` is
    that time as recorded. No frame is skipped for a slow reader. A frame that is damaged, or without a stamp, or
    stamped but not in the video, leaves a gap in ``sequence`` and counts as ``missed``; a damaged one, and one whose
    stamp is not later than the stamp before it, count as ``corrupt`` (the latter is played at once).

    The streams of a folder stay in step, also across processes: see ``gazed_capture.playback``.
    """

    delivers: ClassVar[Literal["images", "sound"]] = "images"

    def __init__(self, stream: str, options: Mapping[str, Any]) -> None:
        refuse_unknown("file", options, ("path", "loop", "pace"))
        path, loop, pace = options.get("path"), options.get("loop", False), options.get("pace", "timestamps")
        if not isinstance(path, str | Path) or not str(path):
            raise SourceOptionError(
                f"{stream}: source 'file' needs a path, got {path!r}", hint="path = 'a video or a recording folder'"
            )
        if not isinstance(loop, bool):
            raise SourceOptionError(f"{stream}: loop is true or false, got {loop!r}")
        if pace not in _PACES:
            raise SourceOptionError(f"{stream}: pace is one of {', '.join(_PACES)}, got {pace!r}")
        self._stream = stream
        self._path = Path(path).expanduser()
        self._loop = loop
        self._paced = pace == "timestamps"
        self._parts: list[_Part] = []
        self._shared: SharedStart | None = None
        self._play: Generator[_Ready | None] | None = None
        self._ready: _Ready | None = None
        self._reset()

    def _reset(self) -> None:
        self._anchor = 0
        """Host time at which ``_start`` is due, in nanoseconds."""
        self._start: float | None = None
        self._period: float | None = None
        self._join_at = 0
        self._last_due = 0
        self._last_captured = 0
        self._expected: int | None = None
        self._delivered = self._missed = self._corrupt = 0

    def find(self) -> Demand:
        """Name the first video.

        Raises:
            SourceNotFound: there is no such file or folder, or the folder has no video of this stream.
        """
        video = self._find()[0]
        return Demand(DeviceInfo("file", video.name, str(video.absolute())))

    def open(self) -> StreamInfo:
        """Find the video and look at its first part."""
        self.close()
        self._reset()
        self._parts = [
            _Part(video, load_stamps(stamps_beside(video)) if stamps_beside(video).is_file() else None)
            for video in self._find()
        ]
        first = self._parts[0]
        with VideoReader(first.video) as video:
            width, height, fps = video.width, video.height, video.fps
        if first.stamps is not None:
            intervals = np.diff(first.stamps)
            usable = intervals[(intervals > 0) & np.isfinite(intervals)]
            fps = 1 / float(np.median(usable)) if usable.size else fps
        self._set_timeline(fps)
        self._play = self._laps()
        return StreamInfo(
            stream=self._stream,
            source="file",
            device=first.video.name,
            serial=str(first.video.absolute()),
            width=width,
            height=height,
            fps=fps,
            format="jpeg",
            clock=self._clock_kind(),
            intrinsics=self._intrinsics(first.video, width, height),
        )

    def _find(self) -> list[Path]:
        if self._path.is_dir():
            return find_parts(self._path, self._stream)
        if not self._path.is_file():
            raise SourceNotFound(f"{self._stream}: there is no file {self._path}", hint="check the option path")
        return [self._path]

    def _intrinsics(self, video: Path, width: int, height: int) -> dict[str, object] | None:
        path = video.with_suffix(".intrinsics")
        if not path.is_file():
            return None
        try:
            return read_intrinsics(path).get((width, height))
        except CameraModelError as error:
            _log.warning("%s: %s; played without", self._stream, error)
            return None

    def _set_timeline(self, fps: float) -> None:
        now = self._anchor = host_now()
        first = self._parts[0].stamps
        if not self._path.is_dir():
            if first is not None and np.isfinite(first).any():
                span = span_of(first[np.isfinite(first)], 1 / fps)
                self._start, self._period = span.start, span.period
            return
        span = folder_span(self._path)
        self._start, self._period = span.start, span.period
        if not self._paced:
            return
        self._shared = SharedStart(self._path)
        self._anchor = self._shared.anchor
        if self._anchor < now:
            self._join_at = now
            if self._loop:
                period = round(span.period * 1e9)
                self._anchor += (now - self._anchor) // period * period

    def _laps(self) -> Generator[_Ready | None]:
        """Yield the frames, lap after lap; ``None`` after a step that brought no frame, so that ``read`` keeps time."""
        sequence = 0
        while True:
            before, lap_start = self._delivered, sequence
            for part in self._parts:
                sequence = yield from self._play_part(part, sequence)
            skipped_only = self._join_at and self._last_due < self._join_at
            if not self._loop or sequence == lap_start or (self._delivered == before and not skipped_only):
                return
            self._anchor += round((self._period or 0) * 1e9)

    def _play_part(self, part: _Part, base: int) -> Generator[_Ready | None, None, int]:
        """Play one video; its first frame has the number ``base``. Returns the number after its last."""
        stamped = 0 if part.stamps is None else len(part.stamps)
        try:
            video = VideoReader(part.video)
        except SourceError as error:
            _log.warning("%s: %s; its %d frames are missing", self._stream, error, stamped)
            self._miss(base + stamped)
            return base + stamped
        with video:
            stamp = 0.0
            for picture in video.pictures():
                if part.stamps is not None and picture.index >= stamped:
                    yield None
                    continue
                stamp = picture.seconds if part.stamps is None else float(part.stamps[picture.index])
                due = self._due(stamp)
                if due < self._join_at:
                    yield None
                    continue
                yield _Ready(base + picture.index, stamp, due, video.width, video.height, video.jpeg(picture))
            if part.stamps is None and self._start is not None and self._period is None:
                self._period = stamp - self._start + 1 / video.fps
            self._report(part, video, stamped)
        end = base + max(stamped, video.count)
        self._miss(end)
        return end

    def _due(self, stamp: float) -> int:
        if self._start is None and math.isfinite(stamp):
            self._start = stamp
        seconds = stamp - self._start if self._start is not None else math.nan
        due = self._anchor + round(seconds * 1e9) if abs(seconds) < _LONGEST_S else 0
        if due <= self._last_due:
            self._corrupt += 1
            due = max(self._last_due, self._anchor) + 1
        self._last_due = due
        return due

    def _report(self, part: _Part, video: VideoReader, stamped: int) -> None:
        self._corrupt += video.damaged
        if video.torn:
            _log.warning("%s: %s ends early, after %d frames: %s", self._stream, part.video, video.count, video.torn)
        if part.stamps is not None and video.count != stamped:
            _log.warning(
                "%s: %s has %d frames but %d timestamps; played as far as both go",
                self._stream,
                part.video,
                video.count,
                stamped,
            )

    def _miss(self, upto: int) -> None:
        """Count what is missing before the number ``upto``, once a first frame was delivered or none came at all."""
        if self._expected is None and self._join_at:
            return
        expected = self._expected or 0
        self._missed += upto - expected
        self._expected = upto

    def read(self, timeout: float) -> Frame | None:
        """Return the next frame when it is due; see the class for what is counted when."""
        if self._play is None:
            raise SourceError(f"{self._stream}: the source of {self._path} is not open")
        deadline = host_now() + round(timeout * 1e9)
        while self._ready is None:
            try:
                self._ready = next(self._play)
            except StopIteration:
                raise EndOfStream(f"{self._path} is at its end after {self._delivered} frames") from None
            if self._ready is None and host_now() >= deadline:
                return None
        if self._paced and not _wait_until(self._ready.due, deadline):
            return None
        ready, self._ready = self._ready, None
        return self._hand_out(ready)

    def _hand_out(self, ready: _Ready) -> Frame:
        now = host_now()
        captured = ready.due if self._paced else max(now, self._last_captured + 1)
        self._last_captured = captured
        self._miss(ready.sequence)
        self._expected = ready.sequence + 1
        self._delivered += 1
        return Frame(
            stream=self._stream,
            sequence=ready.sequence,
            host_ns=HostNs(max(now, captured)),
            captured_ns=HostNs(captured),
            device_time=ready.stamp,
            width=ready.width,
            height=ready.height,
            format="jpeg",
            payload=ready.jpeg,
        )

    def stats(self) -> SourceStats:
        """Return the counts since the last ``open``."""
        clock = ClockQuality(self._clock_kind(), 0.0 if self._paced else None)
        return SourceStats(self._delivered, self._missed, self._corrupt, clock)

    def _clock_kind(self) -> str:
        return "file" if self._paced else "arrival"

    def close(self) -> None:
        """Close the video and leave the others who play the folder."""
        if self._play is not None:
            self._play.close()
        if self._shared is not None:
            self._shared.close()
        self._play = self._ready = self._shared = None

    @classmethod
    def devices(cls) -> list[DeviceInfo]:
        """Return nothing: files are named, not found."""
        return []


def _wait_until(due: int, deadline: int) -> bool:
    """Sleep until ``due`` or the deadline, whichever comes first; tell whether it is due."""
    until = min(due, deadline)
    while (left := until - host_now()) > 0:
        time.sleep(left / 1e9)
    return due <= deadline or due <= host_now()
