"""The source ``microphone``: sound by PortAudio, from ALSA, or through it from PulseAudio or PipeWire.

Frames are blocks of 1024 samples without a gap in their sequence: what was lost on the way is silence, and counted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from gazed_bus.frame import Frame, StreamInfo
from gazed_capture.errors import DeviceLost, DeviceRefused, SourceError, SourceNotFound
from gazed_capture.options import read_number, refuse_unknown
from gazed_capture.portaudio import Capture, default_input, inputs
from gazed_capture.selection import SELECTION, Wanted, pick
from gazed_capture.sound import BLOCK, Blocks
from gazed_capture.source import ClockQuality, Demand, DeviceInfo, SourceStats

__all__ = ["MicrophoneSource"]

_FIRST_S = 3.0  # what a device may take to start
_STALL_S = 0.8
_LOOK_S = 0.05
_NODES = Path("/dev/snd")


class MicrophoneSource:
    """A microphone, or any other sound input.

    Options: ``serial``, ``path`` (USB devices) and ``name`` select it; without any it is the sound system's default
    input. ``rate`` in samples a second (48000), ``channels`` (1), ``latency_ms``: constant delay from the sound to the
    sound system's stamp (0), subtracted from the capture times. ``device_time`` is that stamp.

    Raises:
        SourceOptionError: as ``Source``.
    """

    delivers: ClassVar[Literal["images", "sound"]] = "sound"

    def __init__(self, stream: str, options: Mapping[str, Any]) -> None:
        refuse_unknown("microphone", options, (*SELECTION, "rate", "channels", "latency_ms"))
        self._stream = stream
        self._wanted = Wanted.read(stream, "microphone", options)
        self._any = not any(option in options for option in SELECTION)
        self._rate = int(read_number(stream, options, "rate", 48_000, 8_000, 192_000))
        self._channels = int(read_number(stream, options, "channels", 1, 1, 8))
        self._latency_s = read_number(stream, options, "latency_ms", 0.0, 0.0, 1000.0) / 1000
        self._capture: Capture | None = None
        self._blocks = self._new_blocks()
        self._name = ""
        self._delivered = 0
        self._quiet_s = 0.0
        self._patience_s = _FIRST_S
        self._looked = 0.0

    def find(self) -> Demand:
        """Tell which input ``open`` would take.

        Raises:
            SourceNotFound: no input fits.
            DeviceAmbiguous: more than one does.
            DeviceRefused: this user may not use the sound devices.
            SourceError: PortAudio cannot be loaded or started.
        """
        return Demand(self._locate()[1])

    def _locate(self) -> tuple[int, DeviceInfo]:
        there = inputs()
        default = default_input() if self._any else None
        if default in there:
            return default, there[default]
        try:
            device = pick(self._wanted, list(there.values()))
        except SourceNotFound:
            _refuse_forbidden(self._stream)
            raise
        return next(item for item in there.items() if item[1] is device)

    def open(self) -> StreamInfo:
        """Start the device.

        Raises:
            SourceNotFound, DeviceAmbiguous: as ``find``.
            DeviceRefused: this user may not use it, or another program has it.
            SourceError: it has no such rate or not as many channels, or PortAudio cannot be loaded or started.
        """
        self.close()
        index, device = self._locate()
        self._capture = Capture(index, device.name, self._rate, self._channels)
        self._blocks = self._new_blocks()
        self._name = device.name
        self._delivered = 0
        self._quiet_s, self._patience_s, self._looked = 0.0, _FIRST_S, time.monotonic()
        return StreamInfo(
            stream=self._stream,
            source="microphone",
            device=device.name,
            serial=device.serial or device.path,
            width=BLOCK,
            height=self._channels,
            fps=self._rate / BLOCK,
            format="pcm",
            clock="hardware",
            sample_rate=self._rate,
        )

    def read(self, timeout: float) -> Frame | None:
        """Return the next block, or ``None`` when none was full within ``timeout`` seconds.

        Raises:
            DeviceLost: the device is gone, or nothing came from it for 0.8 s.
            SourceError: the source is not open.
        """
        if self._capture is None:
            raise SourceError(f"{self._stream}: the microphone is not open", hint="call open() first")
        deadline = time.monotonic() + timeout
        while (frame := self._blocks.take()) is None:
            left = deadline - time.monotonic()
            chunk = self._capture.get(min(max(left, 0.0), _LOOK_S))
            if chunk is not None:
                self._quiet_s, self._patience_s, self._looked = 0.0, _STALL_S, time.monotonic()
                self._blocks.add(chunk)
                continue
            self._note_quiet(self._capture)
            if left <= 0:
                return None
        self._delivered += 1
        return frame

    def _note_quiet(self, capture: Capture) -> None:
        """Count the time in which nothing came, but not that in which nobody looked: then it was us who stood still."""
        now = time.monotonic()
        self._quiet_s += min(now - self._looked, 2 * _LOOK_S)
        self._looked = now
        if not capture.running:
            raise DeviceLost(
                f"{self._stream}: microphone {self._name!r} has ended", hint="is the sound system running?"
            )
        if self._quiet_s > self._patience_s:
            raise DeviceLost(
                f"{self._stream}: nothing has come from microphone {self._name!r} for {self._quiet_s:.1f} s"
            )

    def stats(self) -> SourceStats:
        """Return the counts since the last ``open``; ``missed`` are blocks with silence for samples that were lost."""
        clock = ClockQuality("hardware", self._blocks.error_s)
        return SourceStats(self._delivered, self._blocks.missed, clock=clock)

    def close(self) -> None:
        """Give the device back."""
        if self._capture is not None:
            self._capture.close()
            self._capture = None

    @classmethod
    def devices(cls) -> list[DeviceInfo]:
        """List all sound inputs, as (samples a second, channels at most, 0).

        Raises:
            SourceError: the package sounddevice is not installed, or PortAudio cannot be loaded or started.
        """
        return list(inputs().values())

    def _new_blocks(self) -> Blocks:
        return Blocks(self._stream, self._rate, self._channels, latency_s=self._latency_s)


def _refuse_forbidden(stream: str) -> None:
    """Tell of sound inputs that are there and that this user may not use: PortAudio does not list them."""
    for node in sorted(_NODES.glob("pcm*c")):
        if not os.access(node, os.R_OK | os.W_OK):
            raise DeviceRefused(
                f"{stream}: no permission for {node}",
                hint="join the group audio (sudo usermod -aG audio $USER) and log in again",
            )
