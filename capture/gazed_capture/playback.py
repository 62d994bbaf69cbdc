"""When the frames of a recording are played: the stamps of a folder, and one start for all who play it.

A folder is played by several processes, one for each stream. They keep the streams in step without talking to each
other: all of them count from the earliest stamp of the folder, repeat it after the same period, and share one instant
at which it starts. That instant is held in the kernel, as the position of a shared lock on a file of the folder, for as
long as anybody plays it; nothing is written.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gazed_capture.errors import SourceError, SourceNotFound
from gazed_timesync import HostNs, host_now

__all__ = ["SharedStart", "Span", "find_parts", "folder_span", "load_stamps", "stamps_beside"]

_EXTENSIONS = (".mp4", ".mjpeg", ".h264", ".mkv", ".avi")
_STAMPS = re.compile(r"(world|eye\d)(_\d{3})?_timestamps\.npy")
# struct flock of Linux: type, whence, start, length, pid.
_FLOCK = "hhqqi4x"
_GRACE_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """The stretch of recorded time that is played: its first stamp, and the seconds until it starts over."""

    start: float
    period: float


def stamps_beside(video: Path) -> Path:
    """Return where the stamps of a video are kept: ``<stem>_timestamps.npy``."""
    return video.with_name(f"{video.stem}_timestamps.npy")


def load_stamps(path: Path) -> NDArray[np.float64]:
    """Load the capture times of a video: float64, shape (frames,), seconds.

    Raises:
        SourceError: the file is no such array.
    """
    try:
        stamps = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(
            f"{path} cannot be read: {error}", hint="complete the recording with: gazed repair"
        ) from error
    if not isinstance(stamps, np.ndarray) or stamps.ndim != 1 or stamps.dtype.kind not in "fiu":
        raise SourceError(f"{path} should hold one row of numbers")
    return stamps.astype(np.float64)


def find_parts(folder: Path, stream: str) -> list[Path]:
    """Return the videos of a stream in a recording folder, in order: ``world.mp4``, ``world_001.mp4`` and so on.

    Raises:
        SourceNotFound: the folder has no video of that stream, or one without its timestamps.
    """
    for extension in _EXTENSIONS:
        name = re.compile(rf"{re.escape(stream)}(_\d{{3}})?{re.escape(extension)}")
        parts = sorted(path for path in folder.iterdir() if name.fullmatch(path.name))
        for part in parts:
            if not stamps_beside(part).is_file():
                raise SourceNotFound(
                    f"{part} has no {stamps_beside(part).name}, which keeps it in step with the other streams",
                    hint=f"play the video alone: path = {str(part)!r}",
                )
        if parts:
            return parts
    raise SourceNotFound(
        f"{folder} holds no video of the stream {stream!r}",
        hint=f"a recording folder has {stream}.mp4; or give the path of a video file",
    )


def folder_span(folder: Path) -> Span:
    """Return the span that all streams of a recording folder share.

    It starts with the earliest stamp and lasts to the latest, and for one interval of the slowest stream beyond it.
    """
    stamps = [load_stamps(path) for path in sorted(folder.iterdir()) if _STAMPS.fullmatch(path.name)]
    stamps = [usable for array in stamps if (usable := array[np.isfinite(array)]).size]
    if not stamps:
        raise SourceError(f"{folder}: no stream has a timestamp")
    interval = max(span_of(array, 1 / 30).period / array.size for array in stamps)
    start = float(min(array[0] for array in stamps))
    return Span(start, float(max(array.max() for array in stamps)) - start + interval)


def span_of(stamps: NDArray[np.float64], interval: float) -> Span:
    """Return the span of one stream; ``interval`` (seconds) is assumed where a single stamp does not tell."""
    first, last = float(stamps[0]), float(stamps.max())
    if len(stamps) > 1 and last > first:
        interval = (last - first) / (len(stamps) - 1)
    return Span(first, last - first + interval)


class SharedStart:
    """The host time at which a folder starts to play, the same for all who play it at the same time.

    The first one sets it to one second from now, so that the others are in time for the first frame; one who comes
    later joins what is going on.

    Raises:
        SourceError: the file system of the folder knows no locks.
    """

    def __init__(self, folder: Path) -> None:
        file = min(path for path in folder.iterdir() if _STAMPS.fullmatch(path.name))
        self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.anchor = self._agree()
        except OSError as error:
            os.close(self._descriptor)
            raise SourceError(
                f"{file} cannot be locked: {error.strerror}", hint="copy the recording to a local disk"
            ) from error

    def _agree(self) -> HostNs:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        everything = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        held, _, start, _, _ = struct.unpack(_FLOCK, fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, everything))
        if held == fcntl.F_UNLCK:
            start = host_now() + _GRACE_NS
        mine = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, start, 1, 0)
        fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, mine)
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return HostNs(start)

    def close(self) -> None:
        """Leave; the start is forgotten when the last one has left."""
        os.close(self._descriptor)
