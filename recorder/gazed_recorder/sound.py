"""Sound on disk: FLAC, one packet a block, each decoded alone and exact to the sample."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from gazed_recorder.mp4_boxes import Track, sample_description
from gazed_recorder.part import TrackPart
from gazed_recorder.records import FrameRecord
from gazed_recorder.refused import NotSound

__all__ = ["LAYOUTS", "SoundPart", "follow"]

_LARGEST_STEP_S = 0.1
LAYOUTS = dict(enumerate(("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1"), 1))
"""Libav's name of the layout, by the number of channels."""


def follow(
    sequences: npt.NDArray[np.int64], timestamps: npt.NDArray[np.float64], block_s: float
) -> npt.NDArray[np.bool_]:
    """Tell which blocks go on where the one before them ended, within 0.1 s: (n,) and (n,) to (n - 1,).

    ``block_s`` is how long a block lasts, seconds. The clocks of sound card and host drift apart, so that a block is
    compared with the one before it and not with the first.
    """
    steps = np.diff(timestamps) - block_s
    return np.asarray((np.diff(sequences) == 1) & (np.abs(steps) <= _LARGEST_STEP_S), np.bool_)


class SoundPart(TrackPart):
    """A part of continuous sound: blocks of the same length, each beginning where the one before it ended."""

    def __init__(self, folder: Path, stem: str, rate: int, samples: int, channels: int) -> None:
        """Create the files, for blocks of ``samples`` samples of each channel, ``rate`` a second.

        Raises:
            NotSound: FLAC has no such sound.
            FileExistsError, OSError: as ``TrackPart``.
        """
        header = io.BytesIO()
        # Libav's muxer writes no block: it shapes the encoder for mp4 and describes the codec in its header.
        self._container = av.open(header, "w", format="mp4", options={"movflags": "empty_moov"})
        try:
            self._layout = LAYOUTS[channels]
            options = {"frame_size": str(samples)}
            stream = self._container.add_stream("flac", rate, layout=self._layout, format="s16", options=options)
            self._container.start_encoding()
            if stream.codec_context.frame_size != samples:
                raise ValueError(f"the encoder takes {stream.codec_context.frame_size}")
        except (av.error.FFmpegError, LookupError, OverflowError, ValueError) as error:
            self._container.close()
            raise NotSound(
                f"{stem}: wanted sound that FLAC can hold, found {channels} channels at {rate} Hz, {samples} samples a "
                "block",
                hint="check the settings of the microphone",
            ) from error
        self._encoder = stream.codec_context
        self._newest: FrameRecord | None = None
        track = Track("flac", samples, channels, sample_description(header.getvalue()), rate)
        super().__init__(folder, stem, track)

    def takes(self, sequence: int, timestamp: float) -> bool:
        """Tell whether a block goes on where the last one on disk ended; before the first one, any does."""
        last = self._newest
        if last is None:
            return True
        numbers, times = np.array([last.sequence, sequence]), np.array([last.timestamp, timestamp])
        return bool(follow(numbers, times, self.track.width / self.track.timescale)[0])

    def write(self, record: FrameRecord, payload: bytes | memoryview, key: bool = True) -> None:
        """Append a block of interleaved samples, int16 little-endian.

        Raises:
            NotSound: it is not as long as the blocks of this part.
            FrameRefused, OSError: as ``TrackPart``.
        """
        samples, channels = self.track.width, self.track.height
        if len(payload) != 2 * samples * channels:
            raise NotSound(
                f"{self.stem}: a block of {len(payload)} bytes, wanted {samples} samples of {channels} channels",
                hint="this is a mistake in the source of the sound",
            )
        block = av.AudioFrame.from_ndarray(np.frombuffer(payload, "<i2")[None], "s16", self._layout)
        block.sample_rate, block.time_base = self.track.timescale, Fraction(1, self.track.timescale)
        block.pts = self.frames * samples
        [packet] = self._encoder.encode(block)
        super().write(record, memoryview(packet), key)
        self._newest = record

    def close(self) -> None:
        """Finish the files, as ``TrackPart`` does."""
        self._container.close()
        super().close()
