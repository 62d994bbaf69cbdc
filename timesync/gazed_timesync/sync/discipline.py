"""How a clock is kept to a leader's: when it may jump, how fast it is bent, and how far off it can be meanwhile.

What is asked of it: Pupil time never runs backwards, and never jumps while a recording holds the clock. A jump is made
for the first time that a leader is known, and later if the clock is off by more than 10 ms; everything else is slewed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from gazed_timesync.clock import MAX_HELD_RATE, MAX_RATE, AdjustableClock, HostNs, PupilTime
from gazed_timesync.errors import ClockHeld
from gazed_timesync.sync.estimator import SKEW_SD, Break, Estimate, Estimator
from gazed_timesync.sync.exchange import Exchange

__all__ = ["Discipline", "SyncEvent", "SyncState", "SyncStatus"]

_STEP_S = 10e-3
_LOCKED_S = 100e-6
_LOST_LOCK_S = 1e-3
_TAU_S, _ACQUIRING_TAU_S = 2.0, 1.0
_SLEW, _ACQUIRING_SLEW, _HELD_SLEW = 500e-6, 5000e-6, 200e-6
# What is further off cannot be made good within a recording, so its rate is not spoilt by trying.
_HELD_REACH_S = 1.0
_SAME_RATE = 1e-9


class SyncState(Enum):
    """What a clock goes by."""

    UNSYNCED = "UNSYNCED"
    """Itself: no leader has been known."""
    ACQUIRING = "ACQUIRING"
    """A leader that it is still being brought to."""
    LOCKED = "LOCKED"
    """A leader, to within 0.1 ms or the estimate's standard deviation."""
    HOLDOVER = "HOLDOVER"
    """The skew against a leader that does not answer."""
    LEADER = "LEADER"
    """Itself, and others go by it."""


@dataclass(frozen=True, slots=True)
class SyncEvent:
    """Something to tell: what happened, the host time, and a size in seconds where there is one.

    - ``first``: the first estimate of this leader; ``size_s`` is how far the clock was off.
    - ``stepped``: the clock jumped by ``size_s``.
    - ``leader-stepped``: the leader's clock jumped; the offset is being found anew.
    - ``rate-bent``: the rate of either clock changed; the skew is being found anew.
    - ``refused``: the clock is off by ``size_s`` and ought to jump, but is held.
    - ``state``: the state changed, to ``state``.
    """

    kind: Literal["first", "stepped", "leader-stepped", "rate-bent", "refused", "state"]
    host: HostNs
    state: SyncState
    size_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """How a clock stands to its leader. Infinite where nothing is known; all zero for a leader itself."""

    state: SyncState
    leader: str
    offset_s: float
    """How far the clock is to be advanced still, in seconds; what is being slewed."""
    skew_ppm: float
    """How much faster the leader's clock runs than the host's."""
    bound_s: float
    """What the clock cannot be off the leader's by, in seconds."""
    sigma_s: float
    """Standard deviation of how far it is off, in seconds."""
    exchanges: int


class Discipline:
    """Keeps a clock to a leader's, by the exchanges with it.

    One thread at a time calls what steers; ``status`` and ``bound`` may be asked from any.
    """

    def __init__(self, clock: AdjustableClock) -> None:
        self.clock = clock
        self._state = SyncState.UNSYNCED
        self._leader = ""
        self._estimator = Estimator()
        self._estimate: Estimate | None = None
        # What a clock runs at that nobody steers; a slew that was left in it would carry it away.
        self._skew = 0.0
        self._fresh = True
        self._refused = False
        self._events: list[SyncEvent] = []

    @property
    def state(self) -> SyncState:
        """What the clock goes by."""
        return self._state

    @property
    def leader(self) -> str:
        """The name of the leader followed now, or last."""
        return self._leader

    @property
    def estimate(self) -> Estimate | None:
        """What is known of the leader's clock."""
        return self._estimate

    def follow(self, leader: str, now: HostNs, skew: float = 0.0, skew_sd: float = SKEW_SD) -> list[SyncEvent]:
        """Go by another leader from now on; until its first answers are in, the clock runs at the last one's rate."""
        self._coast()
        self._leader, self._fresh, self._refused = leader, True, False
        self._estimator, self._estimate = Estimator(skew, skew_sd), None
        self._to(SyncState.ACQUIRING, now)
        return self._take_events()

    def lead(self, name: str, now: HostNs) -> list[SyncEvent]:
        """Be the leader: the timeline is carried on, at the rate of the leader before."""
        self._coast()
        self._leader, self._estimate = name, None
        self._to(SyncState.LEADER, now)
        return self._take_events()

    def stop(self, now: HostNs) -> list[SyncEvent]:
        """Steer no longer: the clock runs on at the leader's rate."""
        self._coast()
        self._lose_leader(now)
        return self._take_events()

    def update(self, exchanges: Iterable[Exchange], now: HostNs) -> list[SyncEvent]:
        """Take in new exchanges with the leader, and steer the clock by what is known then."""
        taken = False
        for exchange in exchanges:
            taken = self._estimator.add(exchange) or taken
        estimate = self._estimator.estimate(now)
        for broken in dict.fromkeys(self._estimator.take_breaks()):
            self._broken(broken, now)
        if estimate is not None:
            self._estimate, self._skew = estimate, estimate.skew
            if taken and self._state in (SyncState.HOLDOVER, SyncState.UNSYNCED):
                self._to(SyncState.ACQUIRING, now)
            self._steer(estimate, now)
        return self._take_events()

    def leader_stepped(self, now: HostNs) -> list[SyncEvent]:
        """Find the offset anew: the leader says that its clock jumped."""
        self._estimator.leader_stepped()
        return self.update([], now)

    def tick(self, now: HostNs, answering: bool) -> list[SyncEvent]:
        """Steer on without new exchanges; to be called about twice a second when none come.

        Args:
            now: the host time.
            answering: whether the leader is still thought to be there. If not, the clock is held over at its skew.
        """
        if not answering:
            self._lose_leader(now)
        if self._estimate is not None:
            self._steer(self._estimate, now)
        return self._take_events()

    def bound(self, host: HostNs) -> float:
        """Return what the clock cannot be off its leader's by at a host time, in seconds; infinite if unknown."""
        return self.status(host).bound_s

    def status(self, host: HostNs) -> SyncStatus:
        """Return how the clock stands at a host time."""
        state, estimate = self._state, self._estimate
        if state is SyncState.LEADER:
            return SyncStatus(state, self._leader, 0.0, 0.0, 0.0, 0.0, 0)
        if estimate is None:
            return SyncStatus(state, self._leader, math.inf, 0.0, math.inf, math.inf, 0)
        # As it is shown: what the newest segment makes good begins a moment later.
        pending = (estimate.pupil_ns_at(host) - round(self.clock.to_pupil(host) * 1e9)) / 1e9
        return SyncStatus(
            state=state,
            leader=self._leader,
            offset_s=pending,
            skew_ppm=estimate.skew * 1e6,
            bound_s=estimate.bound_at(host) + abs(pending),
            sigma_s=math.hypot(estimate.sigma_at(host), pending),
            exchanges=estimate.exchanges,
        )

    def _broken(self, broken: Break, now: HostNs) -> None:
        self._tell(broken, now)
        if broken == "leader-stepped" and self._estimate is not None:
            # Nothing is known of the offset until the next estimate.
            self._coast()
            self._estimate = None
            self._to(SyncState.ACQUIRING, now)

    def _steer(self, estimate: Estimate, now: HostNs) -> None:
        off = self._off(estimate, now)
        if self._fresh:
            self._tell("first", now, off)
        # A clock that is already within what is known of its leader is not disturbed by a jump.
        if abs(off) > (estimate.bound_at(now) if self._fresh else _STEP_S):
            off = self._jump(off, estimate, now)
        self._fresh = False
        held = self.clock.held
        acquiring = self._state is not SyncState.LOCKED
        slew = _HELD_SLEW if held else _ACQUIRING_SLEW if acquiring else _SLEW
        wanted = off / (_ACQUIRING_TAU_S if acquiring and not held else _TAU_S)
        if held and abs(off) > _HELD_REACH_S:
            wanted = 0.0
        limit = MAX_HELD_RATE if held else MAX_RATE
        self._set_rate(max(-limit, min(limit, estimate.skew + max(-slew, min(slew, wanted)))))
        self._judge(off, estimate, now)

    def _judge(self, off: float, estimate: Estimate, now: HostNs) -> None:
        if self._state is SyncState.ACQUIRING and abs(off) <= max(_LOCKED_S, estimate.sigma_s):
            self._to(SyncState.LOCKED, now)
        elif self._state is SyncState.LOCKED and abs(off) > max(_LOST_LOCK_S, 3 * estimate.sigma_s):
            self._to(SyncState.ACQUIRING, now)

    def _jump(self, off: float, estimate: Estimate, now: HostNs) -> float:
        """Jump, unless the clock is held; return how far it is off afterwards, in seconds."""
        try:
            self.clock.jump_to(PupilTime(estimate.pupil_ns_at(now) / 1e9), at=now)
        except ClockHeld:
            if not self._refused:
                self._tell("refused", now, off)
            self._refused = True
            return off
        self._refused = False
        self._tell("stepped", now, off)
        return self._off(estimate, now)

    def _off(self, estimate: Estimate, now: HostNs) -> float:
        return (estimate.pupil_ns_at(now) - self.clock.segment.pupil_ns_at(now)) / 1e9

    def _coast(self) -> None:
        self._set_rate(self._skew)

    def _lose_leader(self, now: HostNs) -> None:
        if self._state in (SyncState.ACQUIRING, SyncState.LOCKED):
            self._to(SyncState.UNSYNCED if self._estimate is None else SyncState.HOLDOVER, now)

    def _set_rate(self, rate: float) -> None:
        if abs(rate - self.clock.segment.rate) <= _SAME_RATE:
            return
        try:
            self.clock.set_rate(rate)
        except ClockHeld:
            # A recording has just begun.
            self.clock.set_rate(max(-MAX_HELD_RATE, min(MAX_HELD_RATE, rate)))

    def _to(self, state: SyncState, now: HostNs) -> None:
        if state is not self._state:
            self._state = state
            self._tell("state", now)

    def _tell(
        self,
        kind: Literal["first", "stepped", "leader-stepped", "rate-bent", "refused", "state"],
        now: HostNs,
        size_s: float = 0.0,
    ) -> None:
        self._events.append(SyncEvent(kind, now, self._state, size_s))

    def _take_events(self) -> list[SyncEvent]:
        events, self._events = self._events, []
        return events
