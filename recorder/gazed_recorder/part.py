"""One part of a recorded stream: the mp4 and the two arrays that are kept in step with it.

``<stem>.mp4`` with as many frames (of sound: blocks) as ``<stem>_timestamps.npy`` (float64, Pupil time in seconds) and
``<stem>_frames.npy`` (``FRAME_DTYPE``) have rows. The stem of a stream's first part is its name, then ``world_001``,
``world_002``, …, as Pupil Capture counts them. The mp4 is written first and holds every record itself, so that the
arrays can always be made again from it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from gazed_recorder.arrays import array_file
from gazed_recorder.atomic import replace_file
from gazed_recorder.mp4_boxes import Track
from gazed_recorder.mp4_scan import is_stillborn, repair_mp4
from gazed_recorder.mp4_write import FragmentWriter
from gazed_recorder.npy import GrowingArray
from gazed_recorder.records import FRAME_DTYPE, FrameRecord
from gazed_recorder.refused import FrameRefused, NotAnImage, NotIncreasing

__all__ = ["FrameRefused", "NotIncreasing", "PartRepair", "TrackPart", "next_stem", "part_files", "repair_part"]

_TIMESTAMP = struct.Struct("<d")
_JPEG_START = b"\xff\xd8"


def part_files(folder: Path, stem: str) -> tuple[Path, Path, Path]:
    """Return the mp4, the timestamps and the frames file of a part."""
    return folder / f"{stem}.mp4", folder / f"{stem}_timestamps.npy", folder / f"{stem}_frames.npy"


def next_stem(folder: Path, stream: str) -> str:
    """Return the stem of the next part of ``stream``: one of which no file exists yet."""
    stem, number = stream, 0
    while any(path.exists() for path in part_files(folder, stem)):
        number += 1
        stem = f"{stream}_{number:03d}"
    return stem


class TrackPart:
    """The files of one part while they are recorded, each frame on disk when ``write`` returns.

    Not safe for use from two threads at once, except ``sync``.
    """

    def __init__(self, folder: Path, stem: str, track: Track) -> None:
        """Create the three files, none of which may exist.

        Raises:
            FileExistsError: one does.
            OSError: they cannot be written.
        """
        self.stem = stem
        self.track = track
        self.first: float | None = None
        self.last: float | None = None
        self.last_captured_ns = 0
        self.dropped: dict[str, int] = {}
        self._closed = False
        self._paths = part_files(folder, stem)
        mp4, timestamps, frames = self._paths
        with ExitStack() as undo:
            self._file = FragmentWriter(mp4, track)
            undo.callback(_remove, [mp4])
            undo.callback(self._file.abandon)
            self._timestamps = GrowingArray(timestamps, "<f8")
            undo.callback(_remove, [timestamps])
            undo.callback(self._timestamps.close)
            self._frames = GrowingArray(frames, FRAME_DTYPE)
            undo.pop_all()

    def write(self, record: FrameRecord, payload: bytes | memoryview, key: bool = True) -> None:
        """Append a frame: ``payload`` is the packet as stored, its checksum is put into the record here.

        Raises:
            FrameRefused: the frame cannot go into this file; ``code`` tells why. Nothing was written.
            OSError: there is no room, or the disk failed. The files end with the frame before and agree.
        """
        view = memoryview(payload)
        time = record.timestamp
        self._check(time, view)
        record = record._replace(checksum=xxhash.xxh3_64_intdigest(view))
        self._file.write(view, self._dts(time), record, key)
        try:
            self._timestamps.append(_TIMESTAMP.pack(time))
            self._frames.append(record.pack())
        except OSError:
            self._file.undo()
            self._timestamps.truncate(self._file.frames)
            self._frames.truncate(self._file.frames)
            raise
        self.last = time
        self.last_captured_ns = record.captured_ns
        if self.first is None:
            self.first = time

    def sync(self) -> None:
        """Return when every frame written so far is on the disk.

        Raises:
            OSError: the disk failed.
        """
        for file in (self._file, self._timestamps, self._frames):
            file.sync()

    def close(self) -> None:
        """Finish the files; a part without frames is removed, as no player opens it. Closing twice is harmless.

        Raises:
            OSError: there was no room for the index of the mp4, or the disk failed. The files are closed and
                readable, ``repair_part`` completes them.
        """
        if self._closed:
            return
        self._closed = True
        self._timestamps.close()
        self._frames.close()
        if self._file.frames:
            self._file.finalise()
        else:
            self._file.abandon()
            _remove(self._paths)

    @property
    def frames(self) -> int:
        """Frames in the files."""
        return self._file.frames

    @property
    def size(self) -> int:
        """Bytes of the mp4."""
        return self._file.size

    def _dts(self, time: float) -> int:
        if self.track.sound:
            return self._file.frames * self.track.width
        if self.first is None:
            return 0
        # Frames less than a microsecond apart are shown one microsecond apart.
        return max(round((time - self.first) * self.track.timescale), self._file.last_dts + 1)

    def _check(self, time: float, view: memoryview) -> None:
        mp4 = self._paths[0]
        if not (math.isfinite(time) and (self.last is None or time > self.last)):
            raise NotIncreasing(
                f"{mp4}: a frame at {time!r} s cannot follow one at {self.last!r} s, times must grow",
                hint="check the clock of the source",
            )
        if self.track.name == "mjpeg" and view[:2] != _JPEG_START:
            raise NotAnImage(
                f"{mp4}: a frame of {view.nbytes} bytes is no JPEG, it begins with {bytes(view[:2])!r}",
                hint="check the cable, or lower the frame rate or the image size of the camera",
            )


@dataclass(frozen=True, slots=True, eq=False)
class PartRepair:
    """What ``repair_part`` found and did."""

    records: npt.NDArray[Any]
    """The records of all frames of the part, shape (n,), ``FRAME_DTYPE``."""
    lost: int
    """Frames that were being written and are not whole."""
    changed: bool
    """Whether anything had to be repaired."""


def repair_part(folder: Path, stem: str) -> PartRepair:
    """Make the files of a part whole and agree: the mp4 is cut after its last whole frame, the arrays follow it.

    A part in which no frame is whole is removed. Nothing is done to a part that is in order.

    Raises:
        DamagedFile: the mp4 is damaged before its end; nothing was changed.
        OSError: a file cannot be read, or there is no room for the index.
    """
    mp4, timestamps, frames = part_files(folder, stem)
    if is_stillborn(mp4):
        _remove(part_files(folder, stem))
        return PartRepair(np.zeros(0, FRAME_DTYPE), 0, changed=True)
    found = repair_mp4(mp4)
    if not len(found.records):
        _remove(part_files(folder, stem))
        return PartRepair(found.records, int(found.torn > 0), changed=True)
    surplus = _replace_array(timestamps, found.records["timestamp"])
    of_frames = _replace_array(frames, found.records)
    changed = not found.final or surplus is not None or of_frames is not None
    return PartRepair(found.records, max(surplus or 0, found.cut_frames), changed)


def _replace_array(path: Path, rows: npt.NDArray[Any]) -> int | None:
    """Make ``path`` hold ``rows``; return how many more it had, ``None`` if it held exactly these."""
    new = array_file(rows)
    old = path.read_bytes() if path.exists() else b""
    if old == new:
        return None
    replace_file(path, new)
    return max(0, len(old) - len(new)) // rows.itemsize


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
