"""The recorded sound along with a video: AAC, each packet at the time at which its samples were recorded.

A sound card's clock is not the computer's. Its samples are not stretched: the times of the packets follow the
timestamps of the blocks, as they drift, so that sound and images stay together however long a recording is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import av
import av.container

from gazed_recorder.reading.sound import RecordedSound

__all__ = ["sound_packets"]

# Samples in a packet of AAC; the first packet is the encoder's own, and lies in front of the sound.
_PACKET = 1024
_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
_USUAL_RATE = 48_000
_LAYOUTS = dict(enumerate(("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1"), 1))

Packets = Iterator["av.Packet[Any]"]


def sound_packets(
    blocks: Iterable[RecordedSound], zero: float, end: float
) -> Callable[[av.container.OutputContainer], Packets]:
    """Return what adds the sound to a file: that from ``zero`` to ``end``, Pupil time in s; ``zero`` is time 0 there.

    There may be none.
    """

    def begin(container: av.container.OutputContainer) -> Packets:
        rest = iter(blocks)
        first = next(rest, None)
        if first is None:
            return iter(())
        rate = first.rate if first.rate in _RATES else _USUAL_RATE
        layout = "mono" if first.samples.shape[1] == 1 else "stereo"
        # The usual coder takes four times as long.
        stream = container.add_stream("aac", rate, layout=layout, options={"aac_coder": "fast"})
        return _encoded(stream, chain([first], rest), zero, end)

    return begin


def _encoded(stream: av.AudioStream, blocks: Iterable[RecordedSound], zero: float, end: float) -> Packets:
    rate = stream.rate
    fitted = av.AudioResampler("fltp", stream.layout, rate, frame_size=_PACKET)
    times = _Times()
    count = -1
    last = -_PACKET - 1
    for packet in _packets(stream, fitted, blocks, times, end):
        # What lies in front of the first image is left out, but for what the decoder warms up with.
        pts = max(round((times.of(count * _PACKET / rate) - zero) * rate), last + 1)
        count += 1
        if pts > -2 * _PACKET:
            last = pts
            packet.pts = packet.dts = pts
            packet.stream = stream
            yield packet


def _packets(
    stream: av.AudioStream, fitted: av.AudioResampler, blocks: Iterable[RecordedSound], times: _Times, end: float
) -> Packets:
    for block in blocks:
        if block.timestamp > end:
            break
        times.add(block)
        frame = av.AudioFrame.from_ndarray(block.samples.reshape(1, -1), "s16", _LAYOUTS[block.samples.shape[1]])
        frame.sample_rate = block.rate
        for each in fitted.resample(frame):
            yield from _encode(stream, each)
    for each in fitted.resample(None):
        yield from _encode(stream, each)
    yield from stream.encode(None)


def _encode(stream: av.AudioStream, frame: av.AudioFrame | None) -> Iterable[av.Packet[Any]]:
    if frame is None:
        return ()
    # Libav stamps the last frame that was resampled and no other, and then refuses it.
    frame.pts = None
    return stream.encode(frame)


class _Times:
    """Pupil times of samples, by their place in the sound that was recorded, in seconds of the sound card's clock."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[float, float]] = deque(maxlen=64)
        self._length = 0.0

    def add(self, block: RecordedSound) -> None:
        """Go on by a block."""
        self._blocks.append((self._length, block.timestamp))
        self._length += len(block.samples) / block.rate

    def of(self, place: float) -> float:
        """Return the time of a sample of the last blocks; of one in front of the first, by the nominal rate."""
        for begun, timestamp in reversed(self._blocks):
            if begun <= place + 1e-9:
                return timestamp + place - begun
        begun, timestamp = self._blocks[0]
        return timestamp + place - begun
