"""The simulated wearer as a source: three cameras of one head, paced and lossy like cameras on a USB bus.

Frame k of a stream is exposed at k periods of the host's clock, and what it shows follows from that time alone, so that
cameras in different processes see the same head at the same moment.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar, Literal

import xxhash

from gazed_bus.frame import Frame, StreamInfo
from gazed_capture.errors import DeviceLost, SourceError, SourceNotFound
from gazed_capture.source import ClockQuality, Demand, DeviceInfo, SourceStats
from gazed_capture.wearer.bank import Bank, open_bank
from gazed_capture.wearer.options import read_options
from gazed_capture.wearer.rig import camera_matrix
from gazed_timesync import HostNs, host_now

__all__ = ["SimulatedSource"]

_TRANSFER_NS = 2_000_000  # from exposure to the driver, without jitter
_DRIVER_QUEUE = 4  # frames that a driver keeps for a slow reader
_LOOK_NS = 100_000_000  # how often a waiting read looks at the cable
_ROLES = {"world": "world camera", "eye0": "right eye camera", "eye1": "left eye camera"}


class SimulatedSource:
    """A camera of the simulated wearer; ``gazed_capture.wearer.options`` lists the options."""

    delivers: ClassVar[Literal["images", "sound"]] = "images"

    def __init__(self, stream: str, options: Mapping[str, Any]) -> None:
        self._stream = stream
        self._options = read_options(stream, options)
        spec = self._options.bank
        # Exact, so that no rounding adds up: exposure k is at k periods, in whole ns.
        rate = Fraction(spec.fps).limit_denominator(1000) * (1 + Fraction(str(self._options.ppm)) / 1_000_000)
        self._period = 1_000_000_000 / rate
        self._bank: Bank | None = None
        self._lost = False
        self._first = self._next = 0
        self._arrived_ns = 0
        self._delivered = self._missed = 0

    def find(self) -> Demand:
        """Name the camera.

        Raises:
            SourceNotFound: the cable is pulled.
        """
        if self._unplugged():
            raise SourceNotFound(
                f"{self._serial} is unplugged: {self._options.cable} exists",
                hint=f"plug it in: rm {self._options.cable}",
            )
        return Demand(DeviceInfo("simulated", self._name, self._serial))

    def open(self) -> StreamInfo:
        """Start the camera; renders the loop if this machine has not done so yet, which takes seconds.

        Raises:
            SourceNotFound: the cable is pulled.
        """
        self.close()
        self.find()
        spec = self._options.bank
        self._bank = open_bank(spec)
        self._lost = False
        self._first = self._next = host_now() * self._period.denominator // self._period.numerator + 1
        self._arrived_ns = self._delivered = self._missed = 0
        return StreamInfo(
            stream=self._stream,
            source="simulated",
            device=self._name,
            serial=self._serial,
            width=spec.width,
            height=spec.height,
            fps=spec.fps,
            format="jpeg",
            clock="simulated",
            intrinsics={
                "camera_matrix": camera_matrix(self._stream, spec.width, spec.height).tolist(),
                "dist_coefs": [[0.0] * 5],
                "cam_type": "radial",
                "resolution": [spec.width, spec.height],
            },
        )

    def read(self, timeout: float) -> Frame | None:
        """Return the next frame, or ``None`` after ``timeout`` seconds.

        A reader that comes late finds the four newest frames; older ones are missed.

        Raises:
            DeviceLost: the cable was pulled since ``open``.
            SourceError: the source is not open.
        """
        if self._bank is None:
            raise SourceError(f"{self._serial} is not open", hint="call open() first")
        deadline = host_now() + round(timeout * 1e9)
        self._skip_lost()
        due = self._due(self._next)
        while True:
            if self._lost or self._unplugged():
                self._lost = True
                raise DeviceLost(
                    f"{self._serial} was unplugged: {self._options.cable} exists",
                    hint=f"plug it in again: rm {self._options.cable}",
                )
            now = host_now()
            if now >= due:
                return self._take(self._bank, now, due)
            if now >= deadline:
                return None
            time.sleep(min(due - now, deadline - now, _LOOK_NS) / 1e9)

    def stats(self) -> SourceStats:
        """Return the counts since the last ``open``."""
        return SourceStats(self._delivered, self._missed, clock=ClockQuality("simulated", 0.0))

    def close(self) -> None:
        """Let go of the images."""
        if self._bank is not None:
            self._bank.close()
            self._bank = None

    @classmethod
    def devices(cls) -> list[DeviceInfo]:
        """List the three cameras of the default wearer."""
        eye = ((400, 400, 120.0), (192, 192, 200.0))
        modes = {"world": ((1280, 720, 30.0),), "eye0": eye, "eye1": eye}
        return [
            DeviceInfo("simulated", f"Simulated {role}", f"wearer-1-{stream}", modes[stream])
            for stream, role in _ROLES.items()
        ]

    @property
    def _name(self) -> str:
        return f"Simulated {_ROLES[self._stream]}"

    @property
    def _serial(self) -> str:
        return f"wearer-{self._options.bank.seed}-{self._stream}"

    def _unplugged(self) -> bool:
        return self._options.cable is not None and self._options.cable.exists()

    def _captured(self, k: int) -> int:
        return k * self._period.numerator // self._period.denominator

    def _due(self, k: int) -> int:
        """Return when frame ``k`` is in the driver; frames never overtake each other."""
        jitter = round(self._options.jitter_ms * 1e6 * self._chance("jitter", k))
        return max(self._captured(k) + _TRANSFER_NS + jitter, self._arrived_ns)

    def _chance(self, use: str, number: int) -> float:
        """Return a number in [0, 1) that is always the same for this use."""
        return float(xxhash.xxh3_64_intdigest(f"{self._serial} {use} {number}".encode()) >> 11) / 2**53

    def _is_skipped(self, sequence: int) -> bool:
        skip = self._options.skip
        if isinstance(skip, frozenset):
            return sequence in skip
        return skip > 0 and self._chance("skip", sequence) < skip

    def _skip_lost(self) -> None:
        """Pass over the frames that fell out of the driver's queue or never arrive."""
        arrived = host_now() - _TRANSFER_NS - round(self._options.jitter_ms * 1e6)
        newest = arrived * self._period.denominator // self._period.numerator
        oldest_kept = max(self._next, newest - _DRIVER_QUEUE + 1)
        self._missed += oldest_kept - self._next
        self._next = oldest_kept
        while self._is_skipped(self._next - self._first):
            self._missed += 1
            self._next += 1

    def _take(self, bank: Bank, now: HostNs, due: int) -> Frame:
        k, spec = self._next, self._options.bank
        captured = self._captured(k)
        self._next += 1
        self._arrived_ns = due
        self._delivered += 1
        offset_s = 100 + 900 * self._chance("device clock", 0)
        return Frame(
            stream=self._stream,
            sequence=k - self._first,
            host_ns=now,
            captured_ns=HostNs(captured),
            device_time=offset_s + k / spec.fps,
            width=spec.width,
            height=spec.height,
            format="jpeg",
            payload=bank.jpeg(bank.row_at(captured)),
        )
