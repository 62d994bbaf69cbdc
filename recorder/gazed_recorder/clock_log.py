"""The log ``clock``: what the Pupil clock and the Unix clock did during a recording, to relate times by later.

Its datums and those of ``timesync`` are in FORMAT.md.
"""

from __future__ import annotations

import logging
from typing import Any

import msgpack

from gazed_timesync import HostNs, PupilClock, host_now, read_clock_pair
from gazed_timesync.relations import UnixWatch

__all__ = ["CLOCK", "PAIR", "SEGMENT", "TIMESYNC", "UNIX_STEP", "ClockLog"]

CLOCK = "clock"
"""Name of the log."""
TIMESYNC = "timesync"
"""Name of the log of exchanges with a leader."""
SEGMENT, PAIR, UNIX_STEP = "clock.segment", "clock.pair", "clock.unix_step"

_PAIR_NS = 1_000_000_000
_log = logging.getLogger(__name__)


class ClockLog:
    """Watches the clocks from host time ``since`` on."""

    def __init__(self, clock: PupilClock, since: HostNs) -> None:
        self._clock = clock
        self._number = clock.segment_at(since).number - 1
        self._pair_at = since
        self._watch = UnixWatch(read_clock_pair())

    def news(self) -> list[tuple[str, bytes]]:
        """Return the datums that are due, topic and msgpack: new segments, a pair each second, steps of Unix time."""
        now = host_now()
        found: list[dict[str, Any]] = []
        if self._clock.segment.number != self._number:
            for segment in self._clock.segments(after=self._number):
                fields = segment._asdict()
                found.append({"topic": SEGMENT, "host_ns": fields.pop("host"), **fields})
                self._number = segment.number
        if now >= self._pair_at:
            self._pair_at = HostNs(now + _PAIR_NS)
            pair = read_clock_pair()
            if step_ns := self._watch.step_ns(pair):
                _log.warning("somebody set the Unix clock by %+.6f s", step_ns / 1e9)
                found.append({"topic": UNIX_STEP, "host_ns": pair.host, "by_ns": step_ns})
            found.append({"topic": PAIR, "host_ns": pair.host, "unix_ns": pair.unix, "error_ns": pair.error_ns})
        timestamp = self._clock.to_pupil(now)
        return [(datum["topic"], msgpack.packb({**datum, "timestamp": timestamp})) for datum in found]
