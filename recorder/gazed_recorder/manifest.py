"""``manifest.json``: what a recording promises to hold, and what happened to every frame and datum.

It is replaced as a whole (write beside, rename), once a second while recording and a last time at the end, so that a
reader finds a complete one at every instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from gazed_bus.frame import AUDIO
from gazed_recorder.atomic import replace_file
from gazed_recorder.errors import DamagedFile, NotARecording

__all__ = [
    "MANIFEST",
    "MOST_GAPS",
    "ClockReading",
    "FileSum",
    "Gap",
    "Int64",
    "Manifest",
    "Mode",
    "Part",
    "StreamReport",
    "codec_of",
    "kind_of",
]

Mode = Literal["jpeg", "h264", "mpeg4"]
MANIFEST = "manifest.json"
_MOST_BYTES = 1 << 28
MOST_GAPS = 1000
Int64 = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
"""Nanoseconds; twice as many still are an int64."""


def codec_of(stream: str, mode: Mode) -> str:
    """Return the name of the codec in which a mode writes a stream, as ``Part`` has it."""
    if kind_of(stream) == "audio":
        return "flac"
    return "mjpeg" if mode == "jpeg" else mode


def kind_of(stream: str) -> Literal["video", "audio"]:
    """Return what kind of stream the frames on the recorder's lane make."""
    return "audio" if stream == AUDIO else "video"


class ClockReading(msgspec.Struct, frozen=True):
    """One instant on all three clocks."""

    host_ns: Int64
    unix_ns: Int64
    error_ns: Int64
    timestamp: Annotated[float, msgspec.Meta(gt=-1e10, lt=1e10)]


class Gap(msgspec.Struct, frozen=True):
    """A hole in a stream: ``frames`` are missing between the timestamps ``after`` and ``before``."""

    after: float
    before: float
    frames: int
    reason: str


class Part(msgspec.Struct):
    """One mp4 of a stream."""

    file: str
    frames: int = 0
    codec: str = "mjpeg"


class FileSum(msgspec.Struct, frozen=True):
    """Size in bytes and xxh3_128 (hex) of a finished file.

    The sum is empty for an mp4, each of whose frames has a checksum of its own, and where there was no time for it.
    """

    size: int
    xxh3_128: str


class StreamReport(msgspec.Struct):
    """The accounts of one stream: ``received == written + sum(dropped.values()) + lost`` once it is closed."""

    kind: Literal["video", "audio", "data"]
    expected: bool = False
    info: dict[str, Any] = {}
    received: int = 0
    written: int = 0
    dropped: dict[str, int] = {}
    size: int = 0
    """Bytes of the log that hold ``written`` datums; 0 for video and sound."""
    missed: int = 0
    """Frames the source knows it never got; of sound, blocks with silence in the place of lost samples."""
    lost: int = 0
    """Frames, blocks or datums that were in flight when a process died."""
    first: float | None = None
    last: float | None = None
    gaps: list[Gap] = []
    gap_count: int = 0
    parts: list[Part] = []
    cameras: dict[str, tuple[int, int, int]] = {}
    """Each camera process that served the stream: frames it received, dropped, missed."""

    def add_gap(self, gap: Gap) -> None:
        """Count a gap; the first 1000 are kept one by one, so that the manifest stays small."""
        self.gap_count += 1
        if len(self.gaps) < MOST_GAPS:
            self.gaps.append(gap)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count frames or datums that were received and not written."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count


class Manifest(msgspec.Struct):
    """The whole of ``manifest.json``. ``state`` is ``recording`` until the folder is closed in good order."""

    recording_uuid: str
    software: str
    start: ClockReading
    session_name: str = ""
    user_info: dict[str, str] = {}
    format: int = 1
    state: Literal["recording", "complete", "repaired"] = "recording"
    mode: Mode = "jpeg"
    stop: ClockReading | None = None
    stop_reason: str = ""
    clock: list[ClockReading] = []
    streams: dict[str, StreamReport] = {}
    events: list[dict[str, Any]] = []
    files: dict[str, FileSum] = {}

    def save(self, folder: Path, *, durable: bool = False) -> None:
        """Replace the manifest of ``folder`` in one step; a ``durable`` one waits for the disk.

        Raises:
            OSError: it cannot be written; the old one is still there.
        """
        data = msgspec.json.format(msgspec.json.encode(self), indent=2)
        replace_file(folder / MANIFEST, data, durable=durable)

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read the manifest of ``folder``.

        Raises:
            NotARecording: there is none.
            DamagedFile: it cannot be read; the message says where.
        """
        path = folder / MANIFEST
        try:
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                raise ValueError(f"more than {_MOST_BYTES} bytes")
            manifest = msgspec.json.decode(content, type=cls)
        except FileNotFoundError:
            raise NotARecording(f"{folder} holds no {MANIFEST}", hint="is it a recording made by gazed?") from None
        except (msgspec.DecodeError, ValueError, RecursionError, OSError) as error:
            raise DamagedFile(f"{path}: {error}", hint=f"gazed repair {folder}") from error
        parts = (part.file for report in manifest.streams.values() for part in report.parts)
        for name in (*manifest.streams, *parts, *manifest.files):
            if not _is_name(name):
                raise DamagedFile(
                    f"{path}: {name!r:.200} is the name of nothing in a recording", hint=f"gazed repair {folder}"
                )
        return manifest


def _is_name(name: str) -> bool:
    """Tell whether a name leads to nowhere but into the folder that it is looked up in."""
    return name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}
