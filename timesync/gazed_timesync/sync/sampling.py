"""How often a leader is asked: at once a handful for a first clock, then bursts that a network can bear."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import NamedTuple

from gazed_timesync.sync.discipline import SyncEvent

__all__ = ["Burst", "Bursts"]

_FIRST = 8
_STARTS = 5  # at once, one after the other
_FREQUENT, _FREQUENTLY = 8, 120  # 16 a second for the first minute
_USUAL = 4
_GAP_S, _SPREAD = 0.5, 0.1
_CALM = 4  # bursts, before what is heard makes them begin anew: a leader of nonsense is not asked without a pause


class Burst(NamedTuple):
    """So many exchanges, one after the other, ``after_s`` later than the burst before began."""

    exchanges: int
    after_s: float


class Bursts:
    """Bursts without end, ``next`` by next. Their times are spread, so as not to beat with anything periodic."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._made = 0

    def __next__(self) -> Burst:
        made, self._made = self._made, self._made + 1
        if made < _STARTS:
            return Burst(_FIRST, 0.0)
        gap_s = _GAP_S * self._random.uniform(1 - _SPREAD, 1 + _SPREAD)
        return Burst(_FREQUENT if made < _STARTS + _FREQUENTLY else _USUAL, gap_s)

    def begin_anew(self) -> None:
        """Begin again with the handful."""
        self._made = 0

    def heed(self, events: Iterable[SyncEvent]) -> None:
        """Begin anew if what was known is gone, but not again within two seconds."""
        if self._made >= _STARTS + _CALM and any(event.kind in ("leader-stepped", "rate-bent") for event in events):
            self.begin_anew()
