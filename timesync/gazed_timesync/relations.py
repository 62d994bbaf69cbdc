"""How other clocks of this machine stand to the host clock: Unix, the raw counter, LSL's, PTP hardware.

None of them can be read at the very instant at which the host clock is. Each is read between two readings of the host
clock, and half of their distance bounds the error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NewType

from gazed_timesync.clock import HostNs

__all__ = ["ClockPair", "Relation", "UnixNs", "UnixWatch", "read_clock_pair", "read_relations"]

UnixNs = NewType("UnixNs", int)
"""Nanoseconds since 1970-01-01 UTC."""

_TRIES = 5
# The kernel turns CLOCK_MONOTONIC and CLOCK_REALTIME alike; between them, only somebody who sets the clock makes this.
_STEP_NS = 1_000_000
_CLOCKFD = 3


@dataclass(frozen=True, slots=True)
class ClockPair:
    """One instant on both clocks; ``error_ns`` bounds how far apart the two readings can be."""

    host: HostNs
    unix: UnixNs
    error_ns: int


@dataclass(frozen=True, slots=True)
class Relation:
    """What a clock showed, less what the host clock showed at ``host``; the truth is within ``error_ns``.

    ``offset_ns`` is ``None`` for a clock that is there and cannot be read; ``note`` then says why.
    """

    clock: str
    host: HostNs
    offset_ns: int | None
    error_ns: int
    note: str = ""


def _bracket(read: Callable[[], int]) -> tuple[HostNs, int, int]:
    """Return a host time, what ``read`` returned then, and the bound: of the tightest of five brackets."""
    brackets = [(time.monotonic_ns(), read(), time.monotonic_ns()) for _ in range(_TRIES)]
    before, value, after = min(brackets, key=lambda bracket: bracket[2] - bracket[0])
    half = (after - before + 1) // 2
    return HostNs(before + half), value, half


def read_clock_pair() -> ClockPair:
    """Read the host and the Unix clock at one instant."""
    host, unix, error_ns = _bracket(time.time_ns)
    return ClockPair(host, UnixNs(unix), error_ns)


class UnixWatch:
    """Notices when somebody sets the Unix clock (``settimeofday``, a leap second, a virtual machine that woke up)."""

    def __init__(self, first: ClockPair) -> None:
        self._last = first

    def step_ns(self, pair: ClockPair) -> int:
        """Return by how much the Unix clock was set since the pair before; 0 if it was not, by more than 1 ms."""
        last, self._last = self._last, pair
        step = (pair.unix - pair.host) - (last.unix - last.host)
        return step if abs(step) > _STEP_NS + pair.error_ns + last.error_ns else 0


def read_relations(devices: Path = Path("/dev"), system: Path = Path("/sys/class/ptp")) -> list[Relation]:
    """Read every other clock that is here; PTP hardware clocks as ``ptp0``, … from ``devices``."""
    pair = read_clock_pair()
    unix = Relation("unix", pair.host, pair.unix - pair.host, pair.error_ns, "UTC as the kernel has it")
    counter = partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC_RAW)
    raw = _relation("raw", counter, "CLOCK_MONOTONIC_RAW, which NTP does not turn")
    return [unix, raw, _lsl(), *_ptp(devices, system)]


def _relation(clock: str, read: Callable[[], int], note: str) -> Relation:
    host, value, error_ns = _bracket(read)
    return Relation(clock, host, value - host, error_ns, note)


def _lsl() -> Relation:
    """Relate to lab streaming layer's clock: std::chrono::steady_clock (lsl_local_clock), on Linux the host clock.

    Where pylsl is installed it is measured all the same.
    """
    try:
        import pylsl  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except (ImportError, RuntimeError, OSError) as error:
        why = "needs gazed[lsl]" if isinstance(error, ModuleNotFoundError) else str(error).partition("\n")[0]
        note = f"CLOCK_MONOTONIC by construction; not measured: {why}"
        return Relation("lsl", HostNs(time.monotonic_ns()), 0, 0, note)
    return _relation("lsl", lambda: round(pylsl.local_clock() * 1e9), f"pylsl {pylsl.__version__}")


def _ptp(devices: Path, system: Path) -> Iterator[Relation]:
    """Relate to PTP hardware clocks; an open device is a clock (``FD_TO_CLOCKID``, clock_getres(2))."""
    for device in sorted(devices.glob("ptp[0-9]*")):
        try:
            name = (system / device.name / "clock_name").read_text().strip()
            descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
            try:
                read = partial(time.clock_gettime_ns, (~descriptor << 3) | _CLOCKFD)
                yield _relation(device.name, read, name)
            finally:
                os.close(descriptor)
        except OSError as error:
            yield Relation(device.name, HostNs(time.monotonic_ns()), None, 0, f"{device}: {error.strerror}")
