"""Read the frames of an mp4 of ours back from the file itself, whole or torn, and complete a torn one.

Only headers are read, some 180 bytes a frame. Nothing is believed: a fragment counts if each of its bytes outside the
packet is what ``mp4_fragment`` writes, and no number from the file decides how much memory is taken.
"""

from __future__ import annotations

import mmap
import os
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gazed_recorder.errors import DamagedFile
from gazed_recorder.mp4_boxes import (
    FTYP,
    SLOT_AT,
    SLOT_OPEN,
    Track,
    find_box,
    index,
    read_track,
)
from gazed_recorder.mp4_fragment import HEAD_SIZE, MAGIC, TAIL_SIZE, read_head, read_tail
from gazed_recorder.mp4_write import LONGEST_GAP, finish
from gazed_recorder.records import FRAME_DTYPE, FrameRecord

__all__ = ["Mp4Scan", "is_stillborn", "last_frame", "repair_mp4", "scan"]

_MOST_PREAMBLE = 4096
_LONGEST_HEAD = HEAD_SIZE + 15
_CLOSED = b"\0\0\0\1mdat"


@dataclass(frozen=True, slots=True, eq=False)
class Mp4Scan:
    """What a file holds."""

    path: Path
    track: Track
    sizes: npt.NDArray[np.int64]
    """Bytes of each packet, shape (n,)."""
    offsets: npt.NDArray[np.int64]
    """Where in the file each packet begins, shape (n,)."""
    dts: npt.NDArray[np.int64]
    """Time of each frame from the first, in units of the track, shape (n,)."""
    keys: npt.NDArray[np.bool_]
    """Whether a frame can be decoded without the ones before it, shape (n,)."""
    records: npt.NDArray[Any]
    """The record of each frame, shape (n,), ``FRAME_DTYPE``."""
    end: int
    """Bytes up to the end of the last whole frame."""
    torn: int
    """Bytes behind ``end`` that belong to no whole frame and no index."""
    cut_frames: int
    """1 if what is torn began as a frame, 0 if as an index or not at all."""
    final: bool
    """Whether the file is an ordinary mp4 with its index."""


class _Frames:
    """The whole fragments from one byte on."""

    def __init__(self, fd: int, start: int, limit: int, lone: int) -> None:
        self._lone = lone
        self.sizes, self.offsets, self.dts = array("q"), array("q"), array("q")
        self.keys, self.records = bytearray(), bytearray()
        self.end = start
        data = os.pread(fd, _LONGEST_HEAD, start)
        while (head := read_head(data)) is not None:
            record, before, size = head
            offset = self.end + before
            if offset + size + TAIL_SIZE > limit:
                break
            data = os.pread(fd, TAIL_SIZE + _LONGEST_HEAD, offset + size)
            tail = read_tail(data, offset, size)
            if tail is None or not self._follows(*tail[:3]):
                break
            self.sizes.append(size)
            self.offsets.append(offset)
            self.dts.append(tail[1])
            self.keys.append(tail[3])
            self.records += record.pack()
            self.end = offset + size + TAIL_SIZE
            data = data[TAIL_SIZE:]

    def _follows(self, number: int, dts: int, duration: int) -> bool:
        if number != len(self.dts) + 1:
            return False
        if not self.dts:
            return dts == 0 and duration == self._lone
        return 0 < duration == dts - self.dts[-1] <= LONGEST_GAP


def scan(path: Path) -> Mp4Scan:
    """Read what ``path`` holds; a torn tail is told apart from the rest, not an error.

    Raises:
        DamagedFile: it is no video of ours, or is damaged before its last whole frame; the message says where.
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _scan(path, fd)
    finally:
        os.close(fd)


def repair_mp4(path: Path) -> Mp4Scan:
    """Cut what is torn off and make ``path`` an ordinary mp4, in place; a file that is one is left alone.

    Returns what the file held before: ``torn`` is what was cut.

    Raises:
        DamagedFile: as ``scan``; nothing was changed.
        OSError: there was no room for the index; the torn tail is cut, the frames can be read.
    """
    found = scan(path)
    if not found.final:
        moov = index(found.track, found.sizes, found.offsets, found.dts, np.flatnonzero(found.keys))
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            finish(fd, found.end, moov)
        finally:
            os.close(fd)
    return found


def is_stillborn(path: Path) -> bool:
    """Tell whether ``path`` ends before the first frame begins, perhaps inside what stands in front of it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(_MOST_PREAMBLE)
    return len(data) < _MOST_PREAMBLE and data.startswith(FTYP[: len(data)]) and MAGIC not in data


def last_frame(path: Path) -> tuple[int, FrameRecord] | None:
    """Return the number (from 1) and the record of the last whole frame, looking from the end of the file only.

    ``None`` if there is none. What stands before that frame is not looked at.

    Raises:
        OSError: the file cannot be read.
    """
    if not path.stat().st_size:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        at = len(data)
        while (at := data.rfind(MAGIC, 0, at)) >= 8:
            head = read_head(data[at - 8 : at - 8 + _LONGEST_HEAD])
            if head is not None:
                record, before, size = head
                offset = at - 8 + before
                tail = read_tail(data[offset + size : offset + size + TAIL_SIZE], offset, size)
                if tail is not None:
                    return tail[0], record
    return None


def _scan(path: Path, fd: int) -> Mp4Scan:
    length = os.fstat(fd).st_size
    track, start, closed_at = _read_preamble(path, os.pread(fd, _MOST_PREAMBLE, 0))
    frames = _Frames(fd, start, min(length, closed_at or length), track.lone)
    final = frames.end == closed_at and _is_moov(os.pread(fd, 8, frames.end), length - frames.end)
    if not final and (_goes_on(fd, frames.end) or frames.end < closed_at <= length):
        raise DamagedFile(
            f"{path}: damaged at byte {frames.end}, after {len(frames.dts)} whole frames; {length - frames.end} bytes "
            "that hold more follow",
            hint="restore the file from a copy; this is no torn end that repair could cut",
        )
    torn = 0 if final else length - frames.end
    return Mp4Scan(
        path=path,
        track=track,
        sizes=np.asarray(frames.sizes, np.int64),
        offsets=np.asarray(frames.offsets, np.int64),
        dts=np.asarray(frames.dts, np.int64),
        keys=np.frombuffer(frames.keys, np.bool_),
        records=np.frombuffer(frames.records, FRAME_DTYPE),
        end=frames.end,
        torn=torn,
        cut_frames=int(torn > 0 and os.pread(fd, 8, frames.end)[4:] != b"moov"),
        final=final,
    )


def _read_preamble(path: Path, data: bytes) -> tuple[Track, int, int]:
    """Return the track, where the first fragment begins, and where a closed file's index should (0: not closed)."""
    moov = data[SLOT_AT + 16 :]
    slot = data[SLOT_AT : SLOT_AT + 16]
    if not data.startswith(FTYP) or len(slot) < 16 or (slot != SLOT_OPEN and not slot.startswith(_CLOSED)):
        raise DamagedFile(f"{path}: does not begin like a video made by gazed, found {data[:32]!r}")
    try:
        after_moov = find_box(moov, (b"moov",))[1]
        start = SLOT_AT + 16 + after_moov + find_box(moov[after_moov:], (b"free",))[1]
        track = read_track(moov)
    except DamagedFile as error:
        raise DamagedFile(f"{path}: the header is damaged: {error.message}") from None
    closed_at = 0 if slot == SLOT_OPEN else SLOT_AT + int.from_bytes(slot[8:], "big")
    return track, start, closed_at


def _is_moov(header: bytes, size: int) -> bool:
    return header[4:] == b"moov" and int.from_bytes(header[:4], "big") == size


def _goes_on(fd: int, end: int) -> bool:
    """Tell whether a whole fragment lies behind ``end``, where none begins."""
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as data:
        at = end
        while (at := data.find(MAGIC, at + 9) - 8) >= 0:
            head = read_head(data[at : at + _LONGEST_HEAD])
            if head is not None:
                offset = at + head[1]
                if read_tail(data[offset + head[2] : offset + head[2] + TAIL_SIZE], offset, head[2]) is not None:
                    return True
    return False
