"""Host time, Pupil time, and the epoch between them.

Inside gazed every time is an ``int``: nanoseconds of CLOCK_MONOTONIC (``HostNs``). On the wire and on disk
it is Pupil time: ``float64`` seconds, ``(host - epoch) / 1e9`` (``PupilTime``). The epoch is one 64-bit integer
in a small shared file, so that every process of a daemon converts alike and a change is seen at once.
"""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NewType

from gazed_timesync.errors import ClockError, ClockHeld

__all__ = ["ClockPair", "HostNs", "PupilClock", "PupilTime", "UnixNs", "host_now", "read_clock_pair"]

HostNs = NewType("HostNs", int)
"""Nanoseconds of CLOCK_MONOTONIC."""
PupilTime = NewType("PupilTime", float)
"""Seconds since the Pupil epoch, as published and recorded."""
UnixNs = NewType("UnixNs", int)
"""Nanoseconds since 1970-01-01 UTC."""

_SIZE = 64
_MAGIC = 0x317A6167  # "gaz1"
_SLOT_MAGIC, _SLOT_EPOCH, _SLOT_STEPS, _SLOT_HOLD = range(4)


def host_now() -> HostNs:
    """Return the host clock, in nanoseconds of CLOCK_MONOTONIC."""
    return HostNs(time.monotonic_ns())


@dataclass(frozen=True, slots=True)
class ClockPair:
    """One instant on both clocks; ``error_ns`` bounds how far apart the two readings can be."""

    host: HostNs
    unix: UnixNs
    error_ns: int


def read_clock_pair() -> ClockPair:
    """Read the host and the Unix clock at one instant: the tightest of five bracketed readings."""
    best: ClockPair | None = None
    for _ in range(5):
        before, unix, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        half = (after - before + 1) // 2
        if best is None or half < best.error_ns:
            best = ClockPair(HostNs(before + half), UnixNs(unix), half)
    assert best is not None  # noqa: S101 - the loop ran
    return best


class PupilClock:
    """The adjustable Pupil clock, shared by all processes of one daemon through a file.

    Reading is lock-free. ``jump_to`` is refused with ``ClockHeld`` while a recording holds the epoch.
    A clock is made once with ``create`` (by the supervisor) and opened by everybody else.

    Raises:
        ClockError: the file is missing or is not a clock.
    """

    def __init__(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise ClockError(f"clock file {path}: {error.strerror}", hint="is the daemon running?") from error
        try:
            if os.fstat(descriptor).st_size != _SIZE:
                raise ClockError(f"clock file {path} has {os.fstat(descriptor).st_size} bytes, wanted {_SIZE}")
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self._slots = memoryview(self._map).cast("q")
        if self._slots[_SLOT_MAGIC] != _MAGIC:
            self.close()
            raise ClockError(f"{path} is not a gazed clock file")

    @classmethod
    def create(cls, path: Path) -> PupilClock:
        """Make a new clock with epoch 0: Pupil time is then the host's monotonic time in seconds."""
        path.write_bytes(_MAGIC.to_bytes(8, "little") + bytes(_SIZE - 8))
        return cls(path)

    @property
    def epoch(self) -> HostNs:
        """The host time at which Pupil time is zero."""
        return HostNs(self._slots[_SLOT_EPOCH])

    @property
    def steps(self) -> int:
        """How often the epoch has jumped."""
        return self._slots[_SLOT_STEPS]

    @property
    def held(self) -> bool:
        """Whether a recording holds the epoch."""
        return bool(self._slots[_SLOT_HOLD])

    def hold(self) -> None:
        """Refuse jumps from now on; the recorder calls this when a recording starts."""
        self._slots[_SLOT_HOLD] = 1

    def release(self) -> None:
        """Allow jumps again."""
        self._slots[_SLOT_HOLD] = 0

    def to_pupil(self, host: HostNs) -> PupilTime:
        """Convert host time to Pupil time."""
        return PupilTime((host - self._slots[_SLOT_EPOCH]) / 1e9)

    def to_host(self, timestamp: PupilTime) -> HostNs:
        """Convert Pupil time to host time; to the nanosecond within 50 days of the epoch."""
        return HostNs(self._slots[_SLOT_EPOCH] + round(timestamp * 1e9))

    def now(self) -> PupilTime:
        """Return the Pupil time of this instant."""
        return self.to_pupil(host_now())

    def jump_to(self, target: PupilTime, at: HostNs | None = None) -> None:
        """Set the epoch so that Pupil time is ``target`` at host time ``at`` (now, if not given).

        Raises:
            ClockHeld: a recording is running.
            ClockError: ``target`` is not a finite number within +-9e9 seconds.
        """
        if not -9e9 < target < 9e9:
            raise ClockError(f"Pupil time {target!r} is out of range: wanted seconds between -9e9 and 9e9")
        if self.held:
            raise ClockHeld(
                "the clock cannot be set during a recording",
                hint="stop the recording first: gazed record stop",
            )
        self._slots[_SLOT_EPOCH] = (host_now() if at is None else at) - round(target * 1e9)
        self._slots[_SLOT_STEPS] += 1

    def close(self) -> None:
        """Give the shared page back; the clock is unusable afterwards. Closing twice is fine."""
        if not self._map.closed:
            self._slots.release()
            self._map.close()

    def __enter__(self) -> PupilClock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
