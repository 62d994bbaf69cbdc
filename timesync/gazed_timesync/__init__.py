"""Clocks: host time, Pupil time and what is known of their relation; a leader's time, and how to follow it.

What follows a leader computes with numpy, and is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from gazed_timesync.clock import (
    AdjustableClock,
    HostNs,
    PupilClock,
    PupilTime,
    Segment,
    host_now,
)
from gazed_timesync.errors import ClockError, ClockHeld, GazedError
from gazed_timesync.local_clock import LocalClock
from gazed_timesync.relations import ClockPair, UnixNs, read_clock_pair

if TYPE_CHECKING:
    from gazed_timesync.sync.discipline import Discipline, SyncEvent, SyncState, SyncStatus
    from gazed_timesync.sync.estimator import Estimate, Estimator
    from gazed_timesync.sync.exchange import Exchange
    from gazed_timesync.sync.follower import Follower
    from gazed_timesync.sync.leader import Leader
    from gazed_timesync.sync.node import TimeSyncNode

__all__ = [
    "AdjustableClock",
    "ClockError",
    "ClockHeld",
    "ClockPair",
    "Discipline",
    "Estimate",
    "Estimator",
    "Exchange",
    "Follower",
    "GazedError",
    "HostNs",
    "Leader",
    "LocalClock",
    "PupilClock",
    "PupilTime",
    "Segment",
    "SyncEvent",
    "SyncState",
    "SyncStatus",
    "TimeSyncNode",
    "UnixNs",
    "host_now",
    "read_clock_pair",
]

_HOMES = {
    "Discipline": "gazed_timesync.sync.discipline",
    "Estimate": "gazed_timesync.sync.estimator",
    "Estimator": "gazed_timesync.sync.estimator",
    "Exchange": "gazed_timesync.sync.exchange",
    "Follower": "gazed_timesync.sync.follower",
    "Leader": "gazed_timesync.sync.leader",
    "SyncEvent": "gazed_timesync.sync.discipline",
    "SyncState": "gazed_timesync.sync.discipline",
    "SyncStatus": "gazed_timesync.sync.discipline",
    "TimeSyncNode": "gazed_timesync.sync.node",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'gazed_timesync' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
