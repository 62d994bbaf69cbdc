"""The videos of a recording as files in a folder, each with its timestamps and the first with the sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from gazed_plugins.export.video.encode import Encoding, encode_packets
from gazed_plugins.export.video.file import (
    Begin,
    Ints,
    Piece,
    copies,
    copy_packets,
    pieces,
    stamps_us,
    write_mp4,
    write_stamps,
)
from gazed_plugins.export.video.sound import sound_packets
from gazed_recorder.reader import Recording
from gazed_recorder.reading.video import Video

__all__ = ["copy_videos", "video_of", "write_video"]

Make = Callable[[Piece, Ints], Begin]
"""Returns what makes the frames of a piece, at these times in µs."""


def video_of(recording: Recording, stream: str) -> Video:
    """Return a video by the name of its stream, one of ``recording.streams``."""
    return recording.world if stream == "world" else recording.eyes[int(stream.removeprefix("eye"))]


def copy_videos(folder: Path, recording: Recording, streams: Sequence[str], advance: Callable[[int], None]) -> None:
    """Write videos as they were recorded; time 0 of all of them is the earliest frame of any.

    Video that shows its frames in another order than it stores them cannot be copied, and is encoded.

    Raises:
        OSError, DamagedFile, ExportError: as ``write_mp4``.
    """
    found = [video_of(recording, name) for name in streams]
    zero = min((float(video.timestamps[0]) for video in found if len(video)), default=0.0)
    for number, video in enumerate(found):
        copied = copies(video)
        make: Make = copy_packets if copied else partial(encode_packets, video, encoding=Encoding())
        write_video(folder, recording, video, make, advance, zero=zero, copied=copied, sound=number == 0)


def write_video(
    folder: Path,
    recording: Recording,
    video: Video,
    make: Make,
    advance: Callable[[int], None],
    *,
    zero: float | None,
    copied: bool,
    sound: bool,
) -> None:
    """Write a video into as few files as possible, with ``<stem>_timestamps.npy`` and ``.csv`` beside each.

    A video of Pupil Capture's that has fewer frames than timestamps ends with its last frame.

    Args:
        folder: where they go.
        recording: where the sound comes from.
        video: the video.
        make: what makes its frames.
        advance: called with 1 for each frame.
        zero: Pupil time, s, that is time 0 of the first file; that of its first frame if not given, and so of others.
        copied: whether ``make`` copies packets.
        sound: whether the sound goes along.

    Raises:
        OSError, DamagedFile, ExportError: as ``write_mp4``.
    """
    # What gazed records has a frame for each timestamp, or can be repaired; of others nothing better is to be had.
    cut = recording.manifest is None
    for number, piece in enumerate(pieces(video, copied=copied, cut=cut)):
        first, last = float(piece.timestamps[0]), float(piece.timestamps[-1])
        begun = first if zero is None or number else zero
        us = stamps_us(piece.timestamps, begun)
        others = [sound_packets(recording.sound(), begun, last)] if sound and recording.has_sound else []
        write_mp4(folder / f"{piece.stem}.mp4", us, make(piece, us), others, advance)
        write_stamps(folder, piece.stem, piece.timestamps, us)
