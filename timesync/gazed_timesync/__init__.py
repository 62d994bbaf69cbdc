"""Clocks: host time, Pupil time and what is known of their relation."""

from gazed_timesync.clock import (
    AdjustableClock,
    ClockPair,
    HostNs,
    PupilClock,
    PupilTime,
    Segment,
    UnixNs,
    host_now,
    read_clock_pair,
)
from gazed_timesync.errors import ClockError, ClockHeld, GazedError

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
