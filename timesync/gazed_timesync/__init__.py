"""Clocks: host time, Pupil time and what is known of their relation."""

from gazed_timesync.clock import (
    ClockPair,
    HostNs,
    PupilClock,
    PupilTime,
    UnixNs,
    host_now,
    read_clock_pair,
)
from gazed_timesync.errors import ClockError, ClockHeld, GazedError

__all__ = [
    "ClockError",
    "ClockHeld",
    "ClockPair",
    "GazedError",
    "HostNs",
    "PupilClock",
    "PupilTime",
    "UnixNs",
    "host_now",
    "read_clock_pair",
]
