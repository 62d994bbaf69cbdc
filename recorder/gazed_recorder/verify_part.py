"""Proving one part of a stream: that what players decode is what was received, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import xxhash
from numpy.typing import NDArray

from gazed_recorder.arrays import read_array
from gazed_recorder.datalog import STAMP_DTYPE
from gazed_recorder.errors import DamagedFile
from gazed_recorder.layout import is_sound
from gazed_recorder.mp4_boxes import FTYP, SLOT_OPEN, Track, closed_slot, index, preamble
from gazed_recorder.mp4_scan import Mp4Scan, scan
from gazed_recorder.part import part_files
from gazed_recorder.records import FRAME_DTYPE
from gazed_recorder.sound import follow

__all__ = ["PartCheck", "check_part"]

_MOST_PROBLEMS = 20


@dataclass(slots=True)
class PartCheck:
    """What was found of one part."""

    frames: int = 0
    """Frames that a player gets to see: decoded if the check was deep, demuxed otherwise."""
    timestamps: NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    records: NDArray[Any] | None = None
    """The rows of ``<stem>_frames.npy``; ``None`` where there is no such file."""
    track: Track | None = None
    """The track of a file of ours; ``None`` where it could not be read."""
    problems: list[str] = field(default_factory=list)

    def run(self, step: Callable[..., None], *arguments: Any) -> None:
        """Take one step of the check; what stops it is a problem, and the next one is taken all the same."""
        try:
            step(self, *arguments)
        except DamagedFile as error:
            self.add(error.message)
        except OSError as error:
            self.add(f"{error.filename}: {error.strerror}")

    def add(self, problem: str) -> None:
        """Keep a problem; of many in one file, the first twenty."""
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)


def check_part(folder: Path, stem: str, *, ours: bool, deep: bool, seen: Callable[[int], None]) -> PartCheck:
    """Check ``<stem>.mp4`` against its arrays. ``ours``: it was made by gazed, so that records and checksums are there.

    ``seen`` is told the bytes of each packet that was read.
    """
    mp4, stamps, frames = part_files(folder, stem)
    check = PartCheck()
    check.run(_read_timestamps, stamps, ours)
    if ours:
        check.run(_read_records, mp4, frames)
    check.run(_read_mp4, mp4, ours, deep, seen)
    if check.frames != len(check.timestamps):
        check.add(f"{mp4.name}: {check.frames} frames, {len(check.timestamps)} timestamps in {stamps.name}")
    return check


def _read_timestamps(check: PartCheck, path: Path, strict: bool) -> None:
    check.timestamps = read_array(path, STAMP_DTYPE)
    for problem in _order_problems(path.name, check.timestamps, strict):
        check.add(problem)


def _order_problems(name: str, timestamps: NDArray[Any], strict: bool) -> Iterator[str]:
    """Yield the first timestamp that is not finite, and the first that is not behind the one before."""
    wild = np.flatnonzero(~np.isfinite(timestamps))
    if len(wild):
        yield f"{name}: timestamp {wild[0]} is {timestamps[wild[0]]}, wanted a finite number"
        return
    steps = np.diff(timestamps)
    bad = np.flatnonzero(steps <= 0 if strict else steps < 0)
    if len(bad):
        at = int(bad[0])
        yield (
            f"{name}: timestamp {at + 1} ({timestamps[at + 1]:.6f} s) is not after timestamp {at} "
            f"({timestamps[at]:.6f} s); {len(bad)} such in all"
        )


def _read_records(check: PartCheck, mp4: Path, frames: Path) -> None:
    check.records = read_array(frames, FRAME_DTYPE)
    if not np.array_equal(check.records["timestamp"], check.timestamps):
        check.add(f"{frames.name}: its timestamps are not those of {mp4.stem}_timestamps.npy")
    found = scan(mp4)
    check.track = found.track
    if not found.final:
        check.add(f"{mp4.name}: was not closed; {found.torn} bytes behind its last whole frame")
    elif not _has_its_index(found):
        check.add(f"{mp4.name}: its index, from byte {found.end} on, is not that of its frames")
    elif not _has_its_header(found):
        check.add(f"{mp4.name}: its first bytes, up to the first frame, are not as they were written")
    if len(found.records) != len(check.records):
        check.add(f"{mp4.name}: holds the records of {len(found.records)} frames, {frames.name} {len(check.records)}")
    elif found.records.tobytes() != check.records.tobytes():
        rows = zip(found.records, check.records, strict=True)
        at = next(index for index, (ours, theirs) in enumerate(rows) if ours.tobytes() != theirs.tobytes())
        check.add(f"{frames.name}: row {at} is not the record of frame {at} in {mp4.name}")
    _check_continuity(check, frames.name, found)


def _check_continuity(check: PartCheck, name: str, found: Mp4Scan) -> None:
    track, rows = found.track, found.records
    if track.sound:
        on = follow(rows["sequence"].astype(np.int64), rows["timestamp"], track.width / track.timescale)
        for number in np.flatnonzero(~on):
            check.add(f"{name}: block {number + 1} does not begin where block {number} ends")


def _has_its_index(found: Mp4Scan) -> bool:
    """Tell whether the index, by which all players read, is to the byte the one that belongs to the frames."""
    with found.path.open("rb") as file:
        file.seek(found.end)
        return file.read() == index(found.track, found.sizes, found.offsets, found.dts, np.flatnonzero(found.keys))


def _has_its_header(found: Mp4Scan) -> bool:
    """Tell whether the file begins as it did while it was recorded, but for the slot that closing it changed."""
    written = preamble(found.track)
    with found.path.open("rb") as file:
        head = file.read(len(written))
    return head == FTYP + closed_slot(found.end) + written[len(FTYP) + len(SLOT_OPEN) :]


def _read_mp4(check: PartCheck, path: Path, ours: bool, deep: bool, seen: Callable[[int], None]) -> None:
    """Demux, and decode if it is ``deep``, the way a player does."""
    sound = is_sound(path.stem)
    times = _wanted_times(check, sound) if ours else np.zeros(0, np.int64)
    packets, zero = 0, 0
    try:
        with av.open(path) as container:
            stream: Any = container.streams.audio[0] if sound else container.streams.video[0]
            stream.thread_type = "AUTO"
            for packet in container.demux(stream):
                if packet.size:
                    zero = zero if packets else packet.pts or 0
                    if packets < len(times):
                        _check_packet(check, path, packets, packet, zero, int(times[packets]))
                    packets += 1
                    seen(packet.size)
                if deep:
                    check.frames += _decode(check, path, packets, packet)
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        check.add(f"{path.name}: cannot be read behind frame {packets}: {error}")
    # What other encoders put in front of the sound is in the file, but players do not get to hear it.
    if not deep or (sound and not ours):
        check.frames = packets


def _wanted_times(check: PartCheck, sound: bool) -> NDArray[np.int64]:
    """Return the presentation times in units of the track: those of the timestamps, each at least one behind the last.

    Blocks of sound follow each other without a gap.
    """
    timestamps = check.timestamps
    if not np.isfinite(timestamps).all() or not len(timestamps):
        return np.zeros(0, np.int64)
    steps = np.arange(len(timestamps))
    if sound:
        return steps * check.track.width if check.track else steps[:0]
    rounded = np.rint(np.clip(timestamps - timestamps[0], 0, 1e12) * 1e6).astype(np.int64)
    return np.maximum.accumulate(rounded - steps) + steps


def _check_packet(check: PartCheck, path: Path, number: int, packet: av.Packet[Any], zero: int, wanted_at: int) -> None:
    if check.records is not None and number < len(check.records):
        found, wanted = xxhash.xxh3_64_intdigest(bytes(packet)), int(check.records["checksum"][number])
        if found != wanted:
            check.add(f"{path.name}: frame {number} is damaged: checksum {found:016x}, wanted {wanted:016x}")
    scale = check.track.timescale if check.track else 1_000_000
    if packet.pts is None or packet.time_base is None:
        check.add(f"{path.name}: frame {number} has no presentation time")
    elif (found_at := round((packet.pts - zero) * packet.time_base * scale)) != wanted_at:
        at, wanted_s = found_at / scale, wanted_at / scale
        check.add(f"{path.name}: frame {number} is shown at {at:.6f} s, its timestamp wants {wanted_s:.6f} s")


def _decode(check: PartCheck, path: Path, number: int, packet: av.Packet[Any]) -> int:
    try:
        frames: list[Any] = packet.decode()
    except av.error.FFmpegError as error:
        check.add(f"{path.name}: frame {number - 1} cannot be decoded: {error}")
        return 0
    for frame in frames:
        if isinstance(frame, av.AudioFrame) and check.track:
            found, wanted = (frame.samples, frame.layout.nb_channels), (check.track.width, check.track.height)
            if found != wanted:
                check.add(f"{path.name}: block {number - 1} has {found} samples and channels, wanted {wanted}")
    return len(frames)
