"""Write an mp4 so that it is whole after every frame (``mp4_boxes`` and ``mp4_fragment`` tell how)."""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gazed_recorder.mp4_boxes import SLOT_AT, Track, closed_slot, index, mjpeg_track, preamble
from gazed_recorder.mp4_fragment import HEAD_SIZE, TAIL_SIZE, fragment_head, fragment_size, fragment_tail
from gazed_recorder.records import FrameRecord
from gazed_recorder.refused import GapTooLong, NotIncreasing

__all__ = ["LONGEST_GAP", "FragmentWriter", "Track", "finish", "mjpeg_track"]

LONGEST_GAP = 2**31 - 1
"""Longest time between two frames, in units of the track (35 min of video): readers take the 32-bit duration for a
signed number."""
_ROW = struct.Struct("<IIB")
_ROW_DTYPE = np.dtype([("size", "<u4"), ("delta", "<u4"), ("key", "u1")])
_MOST_ROWS = 4096 * _ROW.size


class FragmentWriter:
    """One file that is being recorded: one system call a frame, nothing held back.

    What the index needs, 9 bytes a frame, gathers in a nameless file beside it, so that memory stays flat. Not safe for
    use from two threads at once, except ``sync``.
    """

    def __init__(self, path: Path, track: Track) -> None:
        """Create ``path``, which must not exist.

        Raises:
            FileExistsError: it does.
            OSError: it cannot be written.
        """
        self.path = path
        self.track = track
        self._frames = 0
        self._rows = bytearray()
        self._last_dts = 0
        start = preamble(track)
        self._start = len(start)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._end = 0
        try:
            self._put([start], len(start))
            self._spilled = tempfile.TemporaryFile(dir=path.parent, buffering=0)  # noqa: SIM115 - closed with the video
        except OSError:
            os.close(self._fd)
            path.unlink()
            raise

    def write(self, payload: bytes | memoryview, dts: int, record: FrameRecord, key: bool = True) -> None:
        """Append one packet (not copied) of the time ``dts``, in units of the track.

        Raises:
            ValueError: the first frame of a file is not at 0.
            NotIncreasing: ``dts`` is not after that of the frame before.
            GapTooLong: it is more than ``LONGEST_GAP`` after it.
            OSError: it could not be written; the file ends with the frame before.
        """
        delta = dts - self._last_dts
        if not self._frames and dts:
            raise ValueError(f"{self.path}: the first frame is at 0, not at {dts}")
        if self._frames and not 0 < delta <= LONGEST_GAP:
            self._refuse(delta)
        view = memoryview(payload)
        size = view.nbytes
        head = fragment_head(record, size)
        offset = self._end + len(head)
        tail = fragment_tail(self._frames + 1, offset, size, dts, delta or self.track.lone, key)
        self._put([head, view, tail], fragment_size(size))
        self._frames += 1
        self._rows += _ROW.pack(size, delta, key)
        self._last_dts = dts
        if len(self._rows) >= _MOST_ROWS:
            self._spill()

    def undo(self) -> None:
        """Take back the last frame."""
        size, delta, _ = _ROW.unpack(self._rows[-_ROW.size :])
        del self._rows[-_ROW.size :]
        self._frames -= 1
        self._last_dts -= delta
        self._end -= fragment_size(size)
        self._cut()

    def sync(self) -> None:
        """Return when all frames are on the disk."""
        os.fdatasync(self._fd)

    def finalise(self) -> None:
        """Append the index, make the file an ordinary mp4 and close it.

        Raises:
            OSError: there was no room for the index. The file is closed and can be read as ``abandon`` leaves it.
        """
        try:
            self._spilled.seek(0)
            rows = np.frombuffer(self._spilled.read() + self._rows, _ROW_DTYPE)
            sizes = rows["size"].astype(np.int64)
            dts = np.cumsum(rows["delta"], dtype=np.int64)
            keys = np.flatnonzero(rows["key"])
            padded = HEAD_SIZE + sizes + -sizes % 16
            offsets = self._start + np.cumsum(padded + TAIL_SIZE) - sizes - TAIL_SIZE
            finish(self._fd, self._end, index(self.track, sizes, offsets, dts, keys))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file as it is: a fragmented mp4, which ``repair_mp4`` can complete."""
        os.close(self._fd)
        self._spilled.close()

    @property
    def frames(self) -> int:
        """Frames in the file."""
        return self._frames

    @property
    def size(self) -> int:
        """Length of the file."""
        return self._end

    @property
    def last_dts(self) -> int:
        """Time of the last frame, in units of the track; 0 before the first."""
        return self._last_dts

    def _spill(self) -> None:
        """Move all rows but the last, which ``undo`` may want, out of memory; on a full disk they stay."""
        ready = len(self._rows) - _ROW.size
        with contextlib.suppress(OSError):
            del self._rows[: self._spilled.write(self._rows[:ready])]

    def _put(self, parts: Sequence[bytes | memoryview], size: int) -> None:
        try:
            written = os.writev(self._fd, parts)
            if written < size:
                _write_all(self._fd, b"".join(parts)[written:])
        except OSError:
            self._cut()
            raise
        self._end += size

    def _cut(self) -> None:
        os.ftruncate(self._fd, self._end)
        os.lseek(self._fd, self._end, os.SEEK_SET)

    def _refuse(self, delta: int) -> None:
        scale = self.track.timescale
        if delta > LONGEST_GAP:
            raise GapTooLong(
                f"{self.path}: {delta / scale:.0f} s since the last frame, an mp4 holds {LONGEST_GAP / scale:.0f} s",
                hint="a new part of the recording takes it",
            )
        raise NotIncreasing(
            f"{self.path}: the frame is {-delta / scale:.6f} s before the last one, times must grow",
            hint="check the clock of the source",
        )


def finish(fd: int, end: int, moov: bytes) -> None:
    """Make an ordinary mp4 of a file whose whole fragments end at byte ``end``; ``moov`` is its index.

    Raises:
        OSError: there was no room for the index; the file ends at ``end`` and is as readable as before.
    """
    try:
        os.ftruncate(fd, end)
        os.lseek(fd, end, os.SEEK_SET)
        _write_all(fd, moov)
        # The index must be on the disk before the slot says that it is there.
        os.fdatasync(fd)
    except OSError:
        os.ftruncate(fd, end)
        raise
    os.pwrite(fd, closed_slot(end), SLOT_AT)
    os.fdatasync(fd)


def _write_all(fd: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.write(fd, data[written:])
