"""Clocks: host time, Pupil time and what is known of their relation."""

from gazed_timesync.clock import (
    AdjustableClock,
    HostNs,
    PupilClock,
    PupilTime,
    Segment,
    host_now,
)
from gazed_timesync.errors import ClockError, ClockHeld, GazedError
from gazed_timesync.relations import ClockPair, UnixNs, read_clock_pair

__all__ = [
    "AdjustableClock",
    "ClockError",
    "ClockHeld",
    "ClockPair",
    "GazedError",
    "HostNs",
    "PupilClock",
    "PupilTime",
    "Segment",
    "UnixNs",
    "host_now",
    "read_clock_pair",
]
