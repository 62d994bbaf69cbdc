"""From what a sound system hands over to blocks of sound on the host's clock, without a sound system.

Audio time never slips: every sample has a number, and where samples were lost, silence takes their numbers. That they
were lost shows in one of two ways: whoever took them from the sound system says so, or all that comes after is stamped
later than the samples before it allow, and stays so.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gazed_bus.frame import Frame
from gazed_capture.errors import DeviceLost
from gazed_timesync import HostNs
from gazed_timesync.devices.sample_clock import SampleClock

__all__ = ["BLOCK", "Blocks", "Chunk"]

BLOCK = 1024
"""Samples of each channel in one block: what an audio codec packs into one packet."""

_WIDTH = 2  # bytes of a sample
_START_S = 0.5  # the stamps of a sound system that has just started are of no use until they agree for that long
_START_ANYWAY_S = 3.0
_LATE_NS = 20_000_000  # stamps through PulseAudio are off by 5 ms at most, on a busy machine
_LATE_AFTER_OVERFLOW_NS = 6_000_000
_WAIT_S = 0.25  # for a stamp that is not late: then nothing was lost
_LONGEST_S = 10.0  # of silence; a device that was away for longer was away


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some samples as the sound system handed them over."""

    first: int
    """Number of the first sample, counted from the start of the stream, those that were thrown away included."""
    data: bytes
    """Interleaved signed 16-bit little-endian samples of all channels."""
    device_s: float
    """The sound system's stamp of the first sample, on whatever clock it has."""
    adc_ns: HostNs
    """The same on the host's clock."""
    arrived_ns: HostNs
    overflowed: bool = False
    """Whether the sound system says that it lost samples before these."""


class Blocks:
    """Cuts chunks into frames of ``BLOCK`` samples, with silence for what was lost.

    Args:
        stream: name of the stream.
        rate: nominal samples a second.
        channels: interleaved in each chunk.
        latency_s: how much later than the sound a sample is stamped, always.
    """

    def __init__(self, stream: str, rate: int, channels: int, *, latency_s: float = 0.0) -> None:
        self._stream, self._rate, self._channels = stream, rate, channels
        self._latency_ns = round(latency_s * 1e9)
        self._clock = SampleClock(rate)
        self._started = False
        self._held: list[Chunk] = []
        self._filled = 0  # samples of silence that take no number of a chunk
        self._end = 0  # number of the sample after the last one in the buffer
        self._buffer = bytearray()
        self._stamps: deque[tuple[int, float]] = deque()
        self._silent: deque[tuple[int, int]] = deque()
        self._ready: deque[tuple[Frame, bool]] = deque()
        self._sequence = 0
        self._last_ns = 0
        self._missed = 0

    @property
    def missed(self) -> int:
        """Blocks handed out that hold silence for lost samples."""
        return self._missed

    @property
    def error_s(self) -> float:
        """Bound of the error of the capture times, apart from the constant latency."""
        return self._clock.error_s

    @property
    def skew_ppm(self) -> float:
        """How much longer than nominal a second of sound lasts, in millionths."""
        return self._clock.skew_ppm

    def add(self, chunk: Chunk) -> None:
        """Take what the sound system handed over.

        Raises:
            DeviceLost: it comes more than ten seconds after what came before.
        """
        self._held.append(chunk)
        if self._started:
            self._sort()
            return
        self._start()

    def take(self) -> Frame | None:
        """Return the next block, if one is full."""
        if not self._ready:
            return None
        frame, silent = self._ready.popleft()
        self._missed += silent
        return frame

    def _start(self) -> None:
        """Begin as soon as the newest stamps agree with one another; the older ones are forgotten."""
        newest = self._held[-1].first
        recent = [chunk for chunk in self._held if newest - chunk.first <= _START_S * self._rate]
        offsets = [chunk.adc_ns - chunk.first * 1_000_000_000 // self._rate for chunk in recent]
        agree = len(recent) < len(self._held) and max(offsets) - min(offsets) < _LATE_NS
        if agree or self._held_s() > _START_ANYWAY_S:
            for chunk in recent:
                self._clock.observe(chunk.first, chunk.adc_ns)
            self._started = True
            self._pass_on(len(self._held))

    def _held_s(self) -> float:
        return (self._held[-1].first - self._held[0].first) / self._rate

    def _sort(self) -> None:
        """Pass on all chunks up to the last one that comes in time; where none does, samples were lost before them."""
        while self._held:
            overflowed = any(chunk.overflowed for chunk in self._held)
            limit = _LATE_AFTER_OVERFLOW_NS if overflowed else _LATE_NS
            late = [chunk.adc_ns - self._clock.time_of(chunk.first + self._filled) for chunk in self._held]
            in_time = [index for index, by in enumerate(late) if by <= limit]
            if in_time:
                for index in in_time:
                    self._clock.observe(self._held[index].first + self._filled, self._held[index].adc_ns)
                self._pass_on(in_time[-1] + 1)
            elif self._held_s() >= _WAIT_S:
                # What is lost does not come back: the least late one tells what all of them miss.
                self._fill(min(late))
            else:
                return

    def _fill(self, late_ns: int) -> None:
        if late_ns > _LONGEST_S * 1e9:
            raise DeviceLost(f"{self._stream}: {late_ns / 1e9:.1f} s of sound are missing: the device stood still")
        self._filled += round(late_ns * self._rate / 1e9)

    def _pass_on(self, count: int) -> None:
        for chunk in self._held[:count]:
            self._append(chunk, chunk.first + self._filled)
        del self._held[:count]

    def _append(self, chunk: Chunk, first: int) -> None:
        width = _WIDTH * self._channels
        if first > self._end:
            self._buffer += bytes((first - self._end) * width)
            self._silent.append((self._end, first))
        self._buffer += chunk.data
        self._end = first + len(chunk.data) // width
        self._stamps.append((first, chunk.device_s))
        while len(self._buffer) >= BLOCK * width:
            payload = bytes(self._buffer[: BLOCK * width])
            del self._buffer[: BLOCK * width]
            self._cut(payload, chunk.arrived_ns)

    def _cut(self, payload: bytes, arrived_ns: HostNs) -> None:
        first = self._sequence * BLOCK
        while len(self._stamps) > 1 and self._stamps[1][0] <= first:
            self._stamps.popleft()
        while self._silent and self._silent[0][1] <= first:
            self._silent.popleft()
        silent = bool(self._silent) and self._silent[0][0] < first + BLOCK
        stamped, device_s = self._stamps[0]
        # A block begins at least as long before the arrival as what has come of it lasts, whatever its stamps say.
        latest = arrived_ns - (self._end - first) * 1_000_000_000 // self._rate
        captured = min(self._clock.time_of(first) - self._latency_ns, latest)
        self._last_ns = max(captured, self._last_ns + 1)
        frame = Frame(
            stream=self._stream,
            sequence=self._sequence,
            host_ns=arrived_ns,
            captured_ns=HostNs(self._last_ns),
            device_time=None if silent else device_s + (first - stamped) / self._rate,
            width=BLOCK,
            height=self._channels,
            format="pcm",
            payload=payload,
        )
        self._sequence += 1
        self._ready.append((frame, silent))
