"""One question to a leader and its answer: four times that bound how far apart two clocks are."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from gazed_timesync.clock import HostNs
from gazed_timesync.errors import ClockError

__all__ = ["MAX_LEADER_S", "Exchange", "pack_exchanges", "unpack_exchanges"]

MAX_LEADER_S = 8e9
"""A leader's time beyond this, in seconds either way, is no time; clocks that follow one can be set to 9e9."""
_PACKED = struct.Struct("<qddq")
# A leader cannot hold a question for longer than it was under way, apart from the rates of the two clocks.
_RATE, _RESOLUTION_S = 1e-2, 2e-6


class Exchange(NamedTuple):
    """Asked at ``sent``, come to the leader at ``received_by_leader``, answered at ``replied``, back at ``received``.

    The middle two are Pupil time of the leader, in seconds; a leader that stamps once gives the same twice.
    As no message arrives before it was sent, the leader's clock is ahead of the host's by at most
    ``received_by_leader - sent`` and at least ``replied - received``.
    """

    sent: HostNs
    received_by_leader: float
    replied: float
    received: HostNs

    @property
    def round_trip_s(self) -> float:
        """How long the question and the answer were under way, in seconds, without the leader's part."""
        return (self.received - self.sent) * 1e-9 - (self.replied - self.received_by_leader)

    @property
    def sound(self) -> bool:
        """Whether these can be times at all: finite, in order, and no longer inside than outside."""
        first, last = self.received_by_leader, self.replied
        if not (abs(first) < MAX_LEADER_S and abs(last) < MAX_LEADER_S):
            return False
        outside_s = (self.received - self.sent) * 1e-9
        return outside_s >= 0 and 0 <= last - first <= outside_s * (1 + _RATE) + _RESOLUTION_S


def pack_exchanges(exchanges: Iterable[Exchange]) -> bytes:
    """Pack exchanges for a log, 32 bytes each: int64, float64, float64, int64, little-endian, in the order above."""
    return b"".join(_PACKED.pack(*exchange) for exchange in exchanges)


def unpack_exchanges(packed: bytes) -> list[Exchange]:
    """Read what ``pack_exchanges`` wrote.

    Raises:
        ClockError: the bytes are not a whole number of exchanges.
    """
    if len(packed) % _PACKED.size:
        raise ClockError(f"a log of exchanges has {len(packed)} bytes: wanted a multiple of {_PACKED.size}")
    return [
        Exchange(HostNs(sent), first, last, HostNs(received))
        for sent, first, last, received in _PACKED.iter_unpack(packed)
    ]
