"""A leader, a follower's host and the network between them, in simulated time: deterministic, and much faster than it.

True time is in seconds. The profiles have the same least delay both ways, so that a perfect follower could be exact:
what no method can see, a path longer one way than the other, is not in them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gazed_timesync.clock import HostNs
from gazed_timesync.local_clock import LocalClock
from gazed_timesync.sync.discipline import Discipline, SyncEvent
from gazed_timesync.sync.exchange import Exchange
from gazed_timesync.sync.round_trips import RoundTrips
from gazed_timesync.sync.sampling import Bursts

__all__ = ["Course", "Figures", "Network", "Profile", "SimulatedLeader", "SimulatedPeer", "SimulatedSync", "World"]

Profile = Literal["loop", "wired", "wifi", "queued"]

_RETRANSMIT_S = 0.2
_BETWEEN_S = 20e-6


class Course:
    """What a clock shows at a true time: piecewise even, from (true time, ppm) on."""

    def __init__(self, start_s: float, *pieces: tuple[float, float]) -> None:
        self._begins, self._shows, self._rates = [0.0], [start_s], [0.0]
        for begin, ppm in pieces:
            self._shows.append(self.at(begin))
            self._begins.append(begin)
            self._rates.append(ppm * 1e-6)

    def at(self, true_s: float) -> float:
        """Return what the clock shows, in seconds."""
        piece = max(0, bisect_right(self._begins, true_s) - 1)
        return self._shows[piece] + (true_s - self._begins[piece]) * (1 + self._rates[piece])


class Network:
    """One-way delays of a profile, in seconds.

    - loop: 7 us, some more, and now and then a millisecond of a busy processor.
    - wired: 1 +- 0.5 ms. wifi: 5 +- 3 ms, 1 % lost and sent again.
    - queued: WiFi with queues that differ by direction, 1 % lost, and stalls of 20 to 90 ms.
    """

    def __init__(self, profile: Profile, seed: int) -> None:
        self.profile, self._random = profile, Random(f"{profile} {seed}")  # noqa: S311 - a simulation

    def delay(self, back: bool) -> float:
        """Return the delay of one message to the leader, or back."""
        random = self._random
        if self.profile == "loop":
            return 7e-6 + random.expovariate(2e5) + (random.expovariate(1e3) if random.random() < 0.02 else 0.0)
        late = 40e-6 + abs(random.gauss(0, 20e-6))
        if self.profile == "wired":
            return late + random.uniform(0.5e-3, 1.5e-3)
        lost = _RETRANSMIT_S if random.random() < 0.01 else 0.0
        if self.profile == "wifi":
            return late + lost + random.uniform(2e-3, 8e-3)
        stall = random.uniform(0.02, 0.09) if random.random() < 0.005 else 0.0
        return late + lost + stall + 1.2e-3 + (random.expovariate(1 / 1.5e-3) if back else random.gammavariate(2, 2e-3))


@dataclass
class SimulatedLeader:
    """A leader's clock: ahead of true time, off by some ppm, jumping at given true times, and reachable or not."""

    ahead_s: float = 5000.0
    course: Course = field(default_factory=lambda: Course(0.0))
    steps: Sequence[tuple[float, float]] = ()
    away: Sequence[tuple[float, float]] = ()
    garble: Callable[[float], float] | None = None
    """What becomes of an answer under way, in a leader that is broken or lies."""

    def at(self, true_s: float) -> float:
        """Return the leader's time."""
        return self.ahead_s + self.course.at(true_s) + sum(size for begin, size in self.steps if true_s >= begin)

    def answer(self, true_s: float) -> float:
        """Return what it answers."""
        return self.at(true_s) if self.garble is None else self.garble(self.at(true_s))

    def answers(self, true_s: float) -> bool:
        """Whether it is reachable."""
        return not any(begin <= true_s < end for begin, end in self.away)


class World:
    """True time, and a host whose clock is off by ``ppm`` (or by a course of its own)."""

    def __init__(self, ppm: float = 0.0, course: Course | None = None) -> None:
        self.now_s = 0.0
        self._course = course or Course(100.0, (0.0, ppm))

    def host_at(self, true_s: float) -> HostNs:
        """Return the host's clock at a true time."""
        return HostNs(round(self._course.at(true_s) * 1e9))

    def host(self) -> HostNs:
        """Return the host's clock now."""
        return self.host_at(self.now_s)


class Figures(NamedTuple):
    """How a follower did; errors in microseconds from ``begin_s`` on, times in seconds."""

    median_us: float
    p95_us: float
    worst_us: float
    first_clock_s: float
    below_250us_s: float
    """Since when the error has stayed below 250 us; infinite if it has not."""
    inside_bound: float
    """Share of all instants at which the error was within the bound stated."""
    backwards: int
    """How often Pupil time ran backwards without a jump announced."""

    @classmethod
    def of(cls, seen: Sequence[tuple[float, float, float, int]], begin_s: float, backwards: int) -> Figures:
        """Sum up what was seen of a clock: true time, error and stated bound in seconds, and number of steps."""
        rows: NDArray[np.float64] = np.array(seen).reshape(-1, 4)
        late = rows[rows[:, 0] >= begin_s]
        error = np.abs(late[:, 1]) * 1e6 if len(late) else np.array([np.inf])
        wrong = np.flatnonzero(np.abs(rows[:, 1]) >= 250e-6)
        good = 0 if not len(wrong) else int(wrong[-1]) + 1
        return cls(
            median_us=float(np.median(error)),
            p95_us=float(np.percentile(error, 95)),
            worst_us=float(error.max()),
            first_clock_s=float(rows[0, 0]) if len(rows) else np.inf,
            below_250us_s=float(rows[good, 0]) if good < len(rows) else np.inf,
            inside_bound=float(np.mean(np.abs(rows[:, 1]) <= rows[:, 2])) if len(rows) else 0.0,
            backwards=backwards,
        )


class _Sampler:
    """Looks at a clock every ``every_s`` of true time, as somebody who reads it would."""

    def __init__(self, every_s: float) -> None:
        self._every_s, self._next_s = every_s, 0.0
        self.rows: list[tuple[float, float, float, int]] = []

    def until(self, true_s: float, look: Callable[[float], tuple[float, float, int] | None]) -> None:
        """Look at the clock at all times due before ``true_s``: error, bound, number of steps so far."""
        while self._next_s < true_s:
            seen = look(self._next_s)
            if seen is not None:
                self.rows.append((self._next_s, *seen))
            self._next_s += self._every_s


class SimulatedSync:
    """A follower as ``Follower`` is one, its clock and its discipline, over a simulated network.

    Args:
        world: true time and the host's clock.
        leader: whom it asks.
        network: what is between them.
        every_s: how often its clock is looked at for the figures.
    """

    def __init__(
        self, world: World, leader: SimulatedLeader, network: Network, *, seed: int = 0, every_s: float = 0.05
    ) -> None:
        self.world, self.leader, self.network = world, leader, network
        self.clock = LocalClock(world.host)
        self.discipline = Discipline(self.clock)
        self.events: list[tuple[float, SyncEvent]] = []
        self.exchanges: list[Exchange] = []
        self._bursts = Bursts(Random(seed))  # noqa: S311 - a simulation
        self._sampler = _Sampler(every_s)
        self._last: tuple[float, int] = (-np.inf, 0)
        self._backwards = 0
        self._tell(self.discipline.follow("leader", world.host()))

    def run(self, until_s: float) -> SimulatedSync:
        """Let it run up to a true time."""
        began = self.world.now_s
        while self.world.now_s < until_s:
            burst = next(self._bursts)
            began = max(began + burst.after_s, self.world.now_s)
            self._pass(began)
            made = [self._exchange() for _ in range(burst.exchanges) if self.leader.answers(self.world.now_s)]
            self.exchanges += made
            if made:
                self._tell(self.discipline.update(made, self.world.host()))
            else:
                self._pass(self.world.now_s + 0.5)
                self._tell(self.discipline.tick(self.world.host(), answering=False))
        return self

    def figures(self, begin_s: float = 10.0) -> Figures:
        """Return how it did from ``begin_s`` on."""
        return Figures.of(self._sampler.rows, begin_s, self._backwards)

    def errors(self) -> NDArray[np.float64]:
        """Return what was seen of the clock, shape ``(n, 3)``: true time, error and stated bound, in seconds."""
        return np.array(self._sampler.rows)[:, :3]

    def kinds(self) -> list[str]:
        """Return the kinds of the events so far."""
        return [event.kind for _, event in self.events]

    def _exchange(self) -> Exchange:
        sent = self.world.now_s
        there = sent + self.network.delay(back=False)
        back = there + self.network.delay(back=True)
        answer = self.leader.answer(there)
        self._pass(back)
        exchange = Exchange(self.world.host_at(sent), answer, answer, self.world.host_at(back))
        self._pass(back + _BETWEEN_S)
        return exchange

    def _pass(self, true_s: float) -> None:
        self._sampler.until(true_s, self._look)
        self.world.now_s = max(self.world.now_s, true_s)

    def _look(self, true_s: float) -> tuple[float, float, int] | None:
        host = self.world.host_at(true_s)
        shown, steps = self.clock.to_pupil(host), self.clock.steps
        if shown < self._last[0] and steps == self._last[1]:
            self._backwards += 1
        self._last = shown, steps
        if self.discipline.estimate is None and not any(event.kind == "first" for _, event in self.events):
            return None
        return shown - self.leader.at(true_s), self.discipline.bound(host), steps

    def _tell(self, events: list[SyncEvent]) -> None:
        self.events += [(self.world.now_s, event) for event in events]
        self._bursts.heed(events)


class SimulatedPeer:
    """The follower of Pupil Capture, over the same network.

    Every 10 s and up to one more: 60 exchanges, of which the 69 % of shortest round trip count; their mean offset is
    made good at once if above 10 ms, else in steps of at most 0.5 ms every 0.1 s, if above their mean deviation and
    0.1 ms (pupil_src/shared_modules/network_time_sync.py). Its offset is computed from the time at which it asked
    where it ought to be the time of the answer, so it runs ahead by a round trip; ``corrected`` mends that in the
    follower, ``compensated`` in the leader.
    """

    def __init__(
        self,
        world: World,
        leader: SimulatedLeader,
        network: Network,
        *,
        corrected: bool = False,
        compensated: bool = False,
        seed: int = 0,
        every_s: float = 0.05,
    ) -> None:
        self.world, self.leader, self.network, self.corrected = world, leader, network, corrected
        self._round_trips = RoundTrips(network.delay(back=False) + network.delay(back=True)) if compensated else None
        self._base_s: float | None = None
        self._jitter_s = 0.0
        self._random = Random(seed)  # noqa: S311 - a simulation
        self._sampler = _Sampler(every_s)
        self._backwards = 0

    def run(self, until_s: float) -> SimulatedPeer:
        """Let it run up to a true time."""
        while self.world.now_s < until_s:
            offset, jitter = self._measure()
            self._jitter_s = jitter
            if self._base_s is None or abs(offset) > 10e-3:
                self._base_s = (self._base_s or 0.0) + offset
            elif abs(offset) > max(jitter, 0.1e-3):
                for _ in range(20):
                    if abs(offset) <= max(jitter, 0.1e-3):
                        break
                    step = max(-0.5e-3, min(0.5e-3, offset))
                    self._base_s += step
                    self._backwards += step < 0
                    offset -= step
                    self._pass(self.world.now_s + 0.1)
            self._pass(self.world.now_s + 10 + self._random.random())
        return self

    def figures(self, begin_s: float = 10.0) -> Figures:
        """Return how it did from ``begin_s`` on; its bound is the jitter that it reports."""
        return Figures.of(self._sampler.rows, begin_s, self._backwards)

    def _shown(self, true_s: float) -> float:
        return self.world.host_at(true_s) / 1e9 + (self._base_s or 0.0)

    def _early(self, true_s: float) -> float:
        if self._round_trips is None:
            return 0.0
        self._round_trips.asked(true_s)
        self._round_trips.answered(true_s)
        return self._round_trips.mean_s

    def _measure(self) -> tuple[float, float]:
        found = []
        for _ in range(60):
            sent = self.world.now_s
            there = sent + self.network.delay(back=False)
            back = there + self.network.delay(back=True)
            asked, answered, answer = self._shown(sent), self._shown(back), self.leader.answer(there)
            answer -= self._early(there)
            self._pass(back + _BETWEEN_S)
            late = answered if self.corrected else asked
            found.append((answered - asked, answer + (answered - asked) / 2 - late))
        best = [offset for _, offset in sorted(found)[: int(60 * 0.69)]]
        mean = sum(best) / len(best)
        return mean, sum(abs(offset - mean) for offset in best) / len(best)

    def _pass(self, true_s: float) -> None:
        self._sampler.until(true_s, self._look)
        self.world.now_s = max(self.world.now_s, true_s)

    def _look(self, true_s: float) -> tuple[float, float, int] | None:
        if self._base_s is None:
            return None
        return self._shown(true_s) - self.leader.at(true_s), self._jitter_s, 0
