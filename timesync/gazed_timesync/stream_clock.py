"""Which clock a sound stream tells its times on, and what it reads compared with the host's.

PortAudio's stream time is CLOCK_MONOTONIC on a kernel PCM and CLOCK_REALTIME through the PulseAudio plugin; nothing
in its interface says which, and the second one steps whenever somebody sets the computer's clock. So it is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from gazed_timesync.clock import HostNs, host_now

__all__ = ["StreamClock"]

_SAME_CLOCK_NS = 50_000_000  # further apart than any reading takes on a machine that is still of use
_SLEW = 1e-3  # the kernel turns a clock by 500 ppm at most when it is not set
_STEP_NS = 1_000_000


class StreamClock:
    """Measures a clock that can only be read, again and again, against the host's.

    ``read`` returns the stream's time in seconds; ``host`` and ``unix`` are the clocks to compare it with, in ns.
    It is measured once at construction; call ``measure`` about once a second from then on.
    """

    def __init__(
        self,
        read: Callable[[], float],
        *,
        host: Callable[[], int] = host_now,
        unix: Callable[[], int] = time.time_ns,
    ) -> None:
        self._read, self._host, self._unix = read, host, unix
        self._steps = 0
        self._offset, self._error, self._at = self._compare()
        self._kind = self._recognise()

    @property
    def kind(self) -> Literal["monotonic", "realtime", "other"]:
        """The clock that the stream's time was found to be at the last measurement."""
        return self._kind

    @property
    def steps(self) -> int:
        """How often the stream's clock has jumped against the host's (more than 1 ms at once)."""
        return self._steps

    @property
    def error_s(self) -> float:
        """Bound of the error of the last measurement, in seconds."""
        return self._error / 1e9

    def measure(self) -> bool:
        """Measure again; tell whether the clock has jumped since the last time.

        Times of before a jump that are converted after it are off by the jump: at most those of one measuring interval.
        """
        offset, error, at = self._compare()
        slewed = abs(at - self._at) * _SLEW
        stepped = abs(offset - self._offset) > _STEP_NS + slewed + error + self._error
        self._offset, self._error, self._at = offset, error, at
        self._steps += stepped
        self._kind = self._recognise()
        return stepped

    def to_host(self, stream_s: float) -> HostNs:
        """Convert a time of the stream, in seconds, by the last measurement."""
        return HostNs(round(stream_s * 1e9) - self._offset)

    def _compare(self) -> tuple[int, int, int]:
        """Return stream time minus host time, half the width of the reading, and when it was: the tightest of five."""
        readings = []
        for _ in range(5):
            before, stream_s, after = self._host(), self._read(), self._host()
            readings.append((after - before, round(stream_s * 1e9) - (before + after) // 2, after))
        width, offset, at = min(readings)
        return offset, (width + 1) // 2, at

    def _recognise(self) -> Literal["monotonic", "realtime", "other"]:
        if abs(self._offset) <= _SAME_CLOCK_NS + self._error:
            return "monotonic"
        if abs(self._offset + self._host() - self._unix()) <= _SAME_CLOCK_NS + self._error:
            return "realtime"
        return "other"
