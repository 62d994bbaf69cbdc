"""A Pupil clock within one process: for experiments that follow a leader, and for simulations."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gazed_timesync.clock import MAX_HELD_RATE, MAX_RATE, HostNs, PupilTime, Segment, host_now
from gazed_timesync.errors import ClockError, ClockHeld

__all__ = ["LocalClock"]

# A new rate begins this much later than it is set, so that no thread has yet converted what it changes.
_LEAD_NS = 20_000_000
_KEPT = 64


class LocalClock:
    """An adjustable clock as ``PupilClock`` is one, but in the memory of one process.

    Reading is lock-free and may be done in any thread. Pupil time is at first the host's monotonic time in seconds.

    Args:
        host: where host time comes from; a simulation gives its own.
    """

    def __init__(self, host: Callable[[], HostNs] = host_now) -> None:
        self._host = host
        self._segments: tuple[Segment, ...] = (Segment(HostNs(0), 0),)
        self._lock = threading.Lock()
        self._held = False

    @property
    def segment(self) -> Segment:
        """The newest segment. One that only changes the rate begins 20 ms after it was set."""
        return self._segments[-1]

    @property
    def rate(self) -> float:
        """How much faster than the host clock Pupil time runs: 0.0 alike, 50e-6 for 50 ppm faster."""
        return self.segment.rate

    @property
    def steps(self) -> int:
        """How often the clock has jumped."""
        return self.segment.steps

    @property
    def held(self) -> bool:
        """Whether the clock must not jump."""
        return self._held

    def hold(self) -> None:
        """Refuse jumps from now on, as during a trial."""
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

    def now(self) -> PupilTime:
        """Return the Pupil time of this instant."""
        return self.to_pupil(self._host())

    def set_rate(self, rate: float, at: HostNs | None = None) -> None:
        """Run ``rate`` faster than the host clock from ``at`` on (in 20 ms, if not given), without a step.

        Raises:
            ClockError: ``rate`` is beyond +-5000e-6.
            ClockHeld: the clock is held, and ``rate`` is beyond +-1000e-6.
        """
        if not abs(rate) <= MAX_RATE:
            raise ClockError(f"clock rate {rate!r} is out of range: wanted at most {MAX_RATE} either way")
        if self._held and abs(rate) > MAX_HELD_RATE:
            raise ClockHeld(f"clock rate {rate!r} while held: wanted at most {MAX_HELD_RATE}", hint="release it first")
        with self._lock:
            last = self.segment
            begin = HostNs(max(last.host, self._host() + _LEAD_NS if at is None else at))
            self._append(Segment(begin, last.pupil_ns_at(begin), rate, last.steps, last.number + 1))

    def jump_to(self, target: PupilTime, at: HostNs | None = None) -> None:
        """Let Pupil time be ``target`` at host time ``at`` (now, if not given), and go on from there at the same rate.

        Raises:
            ClockHeld: the clock is held.
            ClockError: ``target`` is not a finite number within +-9e9 seconds.
        """
        if not -9e9 < target < 9e9:
            raise ClockError(f"Pupil time {target!r} is out of range: wanted seconds between -9e9 and 9e9")
        if self._held:
            raise ClockHeld("the clock is held and cannot be set", hint="release it first")
        with self._lock:
            last = self.segment
            begin = self._host() if at is None else at
            self._append(Segment(begin, round(target * 1e9), last.rate, last.steps + 1, last.number + 1))

    def _append(self, segment: Segment) -> None:
        self._segments = (*self._segments[1 - _KEPT :], segment)
