"""How often a leader is asked: at once a handful for a first clock, then bursts that a network can bear."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

from gazed_timesync.discipline import SyncEvent

__all__ = ["Burst", "bursts", "calls_for_restart"]

_FIRST, _START, _STARTS = 8, 8, 4
_FREQUENT, _FREQUENTLY = 8, 120  # 16 a second for the first minute
_USUAL = 4
_GAP_S, _SPREAD = 0.5, 0.1


class Burst(NamedTuple):
    """So many exchanges, one after the other, ``after_s`` later than the burst before began."""

    exchanges: int
    after_s: float


def bursts(random: Random) -> Iterator[Burst]:
    """Yield bursts without end. Their times are spread, so as not to beat with anything periodic."""
    yield Burst(_FIRST, 0.0)
    for _ in range(_STARTS):
        yield Burst(_START, 0.0)
    made = 0
    while True:
        yield Burst(_FREQUENT if made < _FREQUENTLY else _USUAL, _GAP_S * random.uniform(1 - _SPREAD, 1 + _SPREAD))
        made += 1


def calls_for_restart(events: Iterable[SyncEvent]) -> bool:
    """Whether what was known is gone, so that bursts begin anew."""
    return any(event.kind in ("leader-stepped", "rate-bent") for event in events)
