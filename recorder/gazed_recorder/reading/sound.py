"""Reading sound, of ours or of Pupil Capture's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from gazed_recorder.errors import DamagedFile

__all__ = ["RecordedSound", "read_sound"]


@dataclass(frozen=True, slots=True, eq=False)
class RecordedSound:
    """One block of sound."""

    timestamp: float
    """Pupil time of the first sample, seconds."""
    samples: NDArray[np.int16]
    """Shape (samples, channels); as they came from the sound card, where gazed recorded them."""
    rate: int
    """Samples a second, by the sound card's own clock; the timestamps tell how fast it really was."""


def read_sound(path: Path, timestamps: NDArray[np.float64]) -> Iterator[RecordedSound]:
    """Iterate over the blocks of one file; ``timestamps`` (n,) are Pupil time in seconds, one for each packet.

    Raises (while iterating):
        DamagedFile: the file cannot be read, or ends before its timestamps do.
    """
    count = 0
    try:
        with av.open(path) as container:
            to_int16 = av.AudioResampler(format="s16")
            for packet in container.demux(container.streams.audio[0]):
                if not packet.size or count == len(timestamps):
                    continue
                timestamp = float(timestamps[count])
                count += 1
                for block in (each for frame in packet.decode() for each in to_int16.resample(frame)):
                    samples = np.asarray(block.to_ndarray(), np.int16).reshape(-1, block.layout.nb_channels)
                    yield RecordedSound(timestamp, samples, block.sample_rate)
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise DamagedFile(f"{path}: cannot be read at block {count}: {error}") from error
    if count < len(timestamps):
        raise DamagedFile(
            f"{path}: ends after {count} blocks, there are {len(timestamps)} timestamps",
            hint=f"gazed repair {path.parent}",
        )
