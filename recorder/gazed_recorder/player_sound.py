"""``audio.mp4``: the sound once more, as AAC, for Pupil Player. It plays what Pupil Capture wrote and ends on FLAC."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import av
import av.container
import av.error
import numpy as np
from numpy.typing import NDArray

from gazed_bus.frame import AUDIO
from gazed_recorder.arrays import array_file, read_array
from gazed_recorder.atomic import replace_file, replacing
from gazed_recorder.datalog import STAMP_DTYPE
from gazed_recorder.errors import DamagedFile
from gazed_recorder.layout import SOUND
from gazed_recorder.part import part_files
from gazed_recorder.reading.sound import read_sound
from gazed_recorder.sound import LAYOUTS

__all__ = ["PACKET", "played_stem", "write_player_sound"]

PACKET = 1024
"""Samples in a packet of AAC."""
_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
_USUAL_RATE = 48_000


def played_stem(stem: str) -> str:
    """Return the stem of what players get for a part of sound: ``audio_001`` for ``sound_001``."""
    return AUDIO + stem.removeprefix(SOUND)


def write_player_sound(folder: Path, stems: Iterable[str], hurry: Callable[[], bool] = lambda: False) -> str:
    """Make ``audio*.mp4`` and ``audio*_timestamps.npy`` from the closed parts of sound.

    A second of sound takes about 5 ms. There is one timestamp for each packet. The first packet is the encoder's own:
    it belongs to the 1024 samples in front of the sound. Returns why a file was not written: no room, no such sound in
    AAC, or ``hurry`` said so; empty if all were.

    Raises:
        DamagedFile: a part of sound is not in order, the others are done; repair it first.
        OSError: the disk failed.
    """
    damaged: list[DamagedFile] = []
    try:
        for stem in stems:
            try:
                _write(folder, stem, hurry)
            except DamagedFile as error:
                damaged.append(error)
    except _Hurried:
        return "there was no time"
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return "the disk became full"
    except av.error.FFmpegError as error:
        return f"it cannot be encoded: {error.strerror}"
    if damaged:
        raise damaged[0]
    return ""


def _write(folder: Path, stem: str, hurry: Callable[[], bool]) -> None:
    mp4, timestamps, _ = part_files(folder, played_stem(stem))
    try:
        with replacing(mp4) as file:
            replace_file(timestamps, array_file(_encode_part(file, folder, stem, hurry)))
    except BaseException:
        timestamps.unlink(missing_ok=True)
        raise


def _encode_part(file: BinaryIO, folder: Path, stem: str, hurry: Callable[[], bool]) -> NDArray[np.float64]:
    """Write the mp4 and return the times of its packets, (packets,)."""
    timestamps = read_array(folder / f"{stem}_timestamps.npy", STAMP_DTYPE)
    blocks = read_sound(folder / f"{stem}.mp4", timestamps)
    first = next(blocks, None)
    if first is None:
        raise DamagedFile(f"{folder / stem}.mp4: wanted sound, found no block of it", hint=f"gazed repair {folder}")
    samples, channels = first.samples.shape
    rate = first.rate if first.rate in _RATES else _USUAL_RATE
    layout = "mono" if channels == 1 else "stereo"
    fitted = av.AudioResampler("fltp", layout, rate, frame_size=PACKET)
    count = 0
    # Not all players heed an edit list, by which the encoder's own packet could be hidden.
    options = {"use_editlist": "0"}
    with av.open(file, "w", format="mp4", options=options) as container:
        # The usual coder takes four times as long, while the user waits for the stop.
        stream = container.add_stream("aac", rate, layout=layout, options={"aac_coder": "fast"})
        for number, block in enumerate(chain([first], blocks)):
            if number % 1024 == 0 and hurry():
                raise _Hurried
            frame = av.AudioFrame.from_ndarray(block.samples.reshape(1, -1), "s16", LAYOUTS[channels])
            frame.sample_rate = first.rate
            count += _encode(container, stream, fitted.resample(frame))
        count += _encode(container, stream, [*fitted.resample(None), None])
    starts = np.arange(-1, count - 1, dtype=np.float64) * (PACKET * first.rate / rate)
    return _times(starts, timestamps, samples, first.rate)


def _encode(
    container: av.container.OutputContainer, stream: av.AudioStream, frames: Iterable[av.AudioFrame | None]
) -> int:
    count = 0
    for frame in frames:
        if frame is not None:
            # Libav stamps the last frame that was resampled and no other, and then refuses it.
            frame.pts = None
        packets = stream.encode(frame)
        container.mux(packets)
        count += len(packets)
    return count


def _times(numbers: NDArray[np.float64], timestamps: NDArray[np.float64], block: int, rate: int) -> NDArray[np.float64]:
    """Return the times of some samples by their ``numbers``, (n,), from those of the blocks' first samples, (blocks,).

    Inside, time runs between two blocks as they say; in front of the first and from the last on, at the nominal rate.
    """
    known = np.arange(len(timestamps)) * float(block)
    outside = (np.minimum(numbers, 0.0) + np.maximum(numbers - known[-1], 0.0)) / rate
    return np.asarray(np.interp(numbers, known, timestamps) + outside, np.float64)


class _Hurried(Exception):
    pass
