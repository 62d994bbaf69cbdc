"""A Pupil clock within one process: for experiments that follow a leader, and for simulations."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gazed_timesync.clock import BentClock, HostNs, PupilTime, Segment, host_now

__all__ = ["LocalClock"]

_KEPT = 64


class LocalClock(BentClock):
    """An adjustable clock as ``PupilClock`` is one, but in the memory of one process.

    Reading is lock-free and may be done in any thread. Pupil time is at first the host's monotonic time in seconds.

    Args:
        host: where host time comes from; a simulation gives its own.
    """

    _HELD, _HINT = "while it is held", "release it first"

    def __init__(self, host: Callable[[], HostNs] = host_now) -> None:
        self._source = host
        self._segments: tuple[Segment, ...] = (Segment(HostNs(0), 0),)
        self._written: tuple[Segment, ...] = self._segments
        self._lock = threading.Lock()
        self._held = False

    @property
    def segment(self) -> Segment:
        """The newest segment. One that only changes the rate begins 20 ms after it was set."""
        return self._segments[-1]

    @property
    def held(self) -> bool:
        """Whether the clock must not jump."""
        return self._held

    def hold(self) -> None:
        """Refuse jumps from now on, as during a trial."""
        with self._lock:
            self._held = True

    def release(self) -> None:
        """Allow jumps again."""
        self._held = False

    def to_pupil(self, host: HostNs) -> PupilTime:
        """Convert host time to Pupil time."""
        segments = self._segments
        for segment in reversed(segments):
            if segment.host <= host:
                return segment.to_pupil(host)
        return segments[0].to_pupil(host)

    def to_host(self, timestamp: PupilTime) -> HostNs:
        """Convert Pupil time to host time, on the times since the last jump."""
        wanted, segments = round(timestamp * 1e9), self._segments
        since = [segment for segment in segments if segment.steps == segments[-1].steps]
        return next((each for each in reversed(since) if each.pupil_ns <= wanted), since[0]).to_host(timestamp)

    def _host(self) -> HostNs:
        return self._source()

    def _writing(self) -> threading.Lock:
        return self._lock

    def _write(self, segment: Segment) -> None:
        self._written = (*self._segments[1 - _KEPT :], segment)

    def _publish(self, _: int) -> None:
        self._segments = self._written
