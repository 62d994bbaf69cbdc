"""The source ``tone``: simulated sound, a quiet tone with a click at every whole second of the host's clock.

What each sample is follows from when it is taken, so a recording can be held against the formula: sample ``n`` of the
card is taken at ``n / (rate (1 + ppm / 1e6))`` seconds of the host's clock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np
import xxhash

from gazed_bus.frame import Frame, StreamInfo
from gazed_capture.errors import DeviceLost, SourceError, SourceNotFound
from gazed_capture.options import read_losses, read_number, read_path, refuse_unknown
from gazed_capture.sound import BLOCK
from gazed_capture.source import ClockQuality, Demand, DeviceInfo, SourceStats
from gazed_timesync import HostNs, host_now

__all__ = ["ToneSource"]

_TONE = 1_600  # amplitudes, of 32767
_CLICK = 26_000
_CLICK_NS = 1_000_000
_KEPT_NS = 2_000_000_000  # what a sound system keeps for a slow reader
_LOOK_NS = 100_000_000  # how often a waiting read looks at the cable
_DEVICE = DeviceInfo("tone", "Simulated microphone", "tone-1", ((48_000, 1, 0.0),))


class ToneSource:
    """A simulated microphone.

    Options: ``rate`` (48000) and ``channels`` (1), ``tone_hz`` (440), ``click_every_s`` (1.0), ``ppm`` (0): how much
    faster than the host's the card's clock runs, ``lose`` (0): blocks that are lost and become silence, a part of all
    or a list of block numbers, ``cable``: path of a file; the microphone is unplugged while it exists.

    Raises:
        SourceOptionError: as ``Source``.
    """

    delivers: ClassVar[Literal["images", "sound"]] = "sound"

    def __init__(self, stream: str, options: Mapping[str, Any]) -> None:
        names = ("rate", "channels", "tone_hz", "click_every_s", "ppm", "lose", "cable")
        refuse_unknown("tone", options, names)
        self._stream = stream
        self._rate = int(read_number(stream, options, "rate", 48_000, 8_000, 192_000))
        self._channels = int(read_number(stream, options, "channels", 1, 1, 8))
        self._tone_hz = read_number(stream, options, "tone_hz", 440.0, 1.0, 20_000.0)
        self._click_ns = round(read_number(stream, options, "click_every_s", 1.0, 0.01, 3600.0) * 1e9)
        ppm = read_number(stream, options, "ppm", 0.0, -10_000.0, 10_000.0)
        self._lose = read_losses(stream, options, "lose")
        self._cable = read_path(stream, options, "cable")
        # Exact, so that no rounding adds up.
        self._period_ns = 1_000_000_000 / (self._rate * (1 + Fraction(str(ppm)) / 1_000_000))
        self._open = False
        self._first = self._next = 0
        self._delivered = self._missed = 0

    def find(self) -> Demand:
        """Name the microphone.

        Raises:
            SourceNotFound: the cable is pulled.
        """
        if self._unplugged():
            raise SourceNotFound(f"{_DEVICE.name} is unplugged: {self._cable} exists", hint=f"rm {self._cable}")
        return Demand(_DEVICE)

    def open(self) -> StreamInfo:
        """Start with the next block.

        Raises:
            SourceNotFound: the cable is pulled.
        """
        self.find()
        self._first = self._next = int(host_now() / (BLOCK * self._period_ns)) + 1
        self._delivered = self._missed = 0
        self._open = True
        return StreamInfo(
            stream=self._stream,
            source="tone",
            device=_DEVICE.name,
            serial=_DEVICE.serial,
            width=BLOCK,
            height=self._channels,
            fps=self._rate / BLOCK,
            format="pcm",
            clock="simulated",
            sample_rate=self._rate,
        )

    def read(self, timeout: float) -> Frame | None:
        """Return the next block, or ``None`` after ``timeout`` seconds.

        A reader that comes more than two seconds late finds silence.

        Raises:
            DeviceLost: the cable is pulled.
            SourceError: the source is not open.
        """
        if not self._open:
            raise SourceError(f"{_DEVICE.name} is not open", hint="call open() first")
        deadline = host_now() + round(timeout * 1e9)
        due = self._captured_ns(self._next + 1)
        while True:
            if self._unplugged():
                raise DeviceLost(f"{_DEVICE.name} was unplugged: {self._cable} exists", hint=f"rm {self._cable}")
            now = host_now()
            if now >= due:
                return self._take(now, lost=now - due > _KEPT_NS or self._is_lost(self._next - self._first))
            if now >= deadline:
                return None
            time.sleep(min(due - now, deadline - now, _LOOK_NS) / 1e9)

    def stats(self) -> SourceStats:
        """Return the counts since the last ``open``; ``missed`` are the blocks of silence."""
        return SourceStats(self._delivered, self._missed, clock=ClockQuality("simulated", 0.0))

    def close(self) -> None:
        """Stop."""
        self._open = False

    @classmethod
    def devices(cls) -> list[DeviceInfo]:
        """List the one microphone that there is."""
        return [_DEVICE]

    def _unplugged(self) -> bool:
        return self._cable is not None and self._cable.exists()

    def _is_lost(self, sequence: int) -> bool:
        if isinstance(self._lose, frozenset):
            return sequence in self._lose
        return xxhash.xxh3_64_intdigest(f"{self._stream} {sequence}".encode()) < self._lose * 2**64

    def _captured_ns(self, block: int) -> int:
        return round(block * BLOCK * self._period_ns)

    def _take(self, now: HostNs, *, lost: bool) -> Frame:
        block = self._next
        captured = self._captured_ns(block)
        frame = Frame(
            stream=self._stream,
            sequence=block - self._first,
            host_ns=now,
            captured_ns=HostNs(captured),
            device_time=None if lost else block * BLOCK / self._rate,
            width=BLOCK,
            height=self._channels,
            format="pcm",
            payload=bytes(2 * BLOCK * self._channels) if lost else self._sound(block, captured),
        )
        self._next += 1
        self._delivered += 1
        self._missed += lost
        return frame

    def _sound(self, block: int, captured_ns: int) -> bytes:
        numbers = np.arange(BLOCK)
        wave = _TONE * np.sin(2 * np.pi * self._tone_hz / self._rate * (block * BLOCK + numbers))
        since_click = (captured_ns % self._click_ns + numbers * float(self._period_ns)) % self._click_ns
        wave[since_click < _CLICK_NS] = _CLICK
        return np.repeat(wave.astype("<i2"), self._channels).tobytes()
