"""Following a leader: ask it for its time, and keep a clock to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from random import Random
from types import TracebackType

from gazed_timesync.clock import host_now
from gazed_timesync.errors import ClockError
from gazed_timesync.sync.ask import Asking, DatagramAsking, StreamAsking
from gazed_timesync.sync.discipline import Discipline, SyncEvent, SyncState, SyncStatus
from gazed_timesync.sync.estimator import SKEW_SD
from gazed_timesync.sync.exchange import Exchange
from gazed_timesync.sync.sampling import Bursts

__all__ = ["Follower"]

_GONE_S = 3.0
_RETRY_S, _RETRY_MOST_S = 0.1, 2.0
_LONGEST_BURST_NS = 500_000_000


def _ignore(_: object) -> None:
    """Take no notice."""


class Follower:
    """Keeps a clock to a leader of Pupil Time Sync, from a thread of its own, until it is closed.

    An experiment gives a clock of its own, asks it for the time, and the follower how good that is::

        from gazed_timesync import Discipline, Follower, LocalClock, SyncState

        clock = LocalClock()
        with Follower(Discipline(clock), "192.168.1.5", 51699) as follower:
            follower.wait_for(SyncState.LOCKED, timeout_s=5)
            print(clock.now(), follower.status().bound_s)

    Where the leader listens it announces to its group; ``gazed timesync watch`` shows it. A leader that does not answer
    for three seconds is held over, and asked again until it answers. The discipline may be handed on to the next
    follower, which so knows of the clock what this one did.

    Args:
        discipline: the clock that is kept to the leader's, and how.
        host: the leader's address or name.
        port: the TCP port of its clock service; None for a leader of ours that compensates Capture's followers, which
            over TCP would mislead this one.
        udp_port: its port for our own datagrams, if it has one. What it does not answer there is asked over TCP.
        name: what the leader is called in the status.
        skew: how much faster the leader's clock is expected to run than the host's, from an earlier acquaintance.
        skew_sd: how far off that may be.
        on_exchanges: called with each burst of exchanges, in the follower's thread; must not raise.
        on_events: called with what happened, as above.

    Raises:
        ClockError: there is neither ``port`` nor ``udp_port``, or one of them is none.
    """

    def __init__(
        self,
        discipline: Discipline,
        host: str,
        port: int | None,
        *,
        udp_port: int | None = None,
        name: str = "",
        skew: float = 0.0,
        skew_sd: float = SKEW_SD,
        on_exchanges: Callable[[Sequence[Exchange]], None] = _ignore,
        on_events: Callable[[Sequence[SyncEvent]], None] = _ignore,
    ) -> None:
        self.discipline = discipline
        for each in (port, udp_port):
            if each is not None and not 0 < each < 65536:
                raise ClockError(f"leader {name or host}: there is no port {each!r}", hint="ports are 1 to 65535")
        self._asking: list[Asking] = []
        if udp_port is not None:
            self._asking.append(DatagramAsking(host, udp_port, self._leader_stepped))
        if port is not None:
            self._asking.append(StreamAsking(host, port))
        if not self._asking:
            raise ClockError(f"leader {name or host} has no port to ask at", hint="give port or udp_port")
        self._on_exchanges, self._on_events = on_exchanges, on_events
        self._bursts = Bursts(Random())  # noqa: S311 - no secret
        self._made: list[Exchange] = []
        self._answered = host_now()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._tell(discipline.follow(name or f"{host}:{udp_port if port is None else port}", host_now(), skew, skew_sd))
        self._thread = threading.Thread(target=self._run, name="clock follower", daemon=True)
        self._thread.start()

    def status(self) -> SyncStatus:
        """Return how the clock stands to the leader's now."""
        return self.discipline.status(host_now())

    def wait_for(self, *states: SyncState, timeout_s: float) -> bool:
        """Wait until the clock is in one of these states; tell whether it came to it in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.discipline.state in states, timeout_s)

    def check(self) -> None:
        """Make sure that it still follows.

        Raises:
            ClockError: it has ended.
        """
        if not self._thread.is_alive():
            raise ClockError(f"following {self.discipline.leader} has ended", hint="was it closed? or see the log")

    def close(self) -> None:
        """Stop following; the clock runs on at the leader's rate. Closing twice is fine."""
        self._closing.set()
        for asking in self._asking:
            asking.shut()
        self._thread.join()

    def __enter__(self) -> Follower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        retry_s, wait_s = _RETRY_S, 0.0
        try:
            while not self._closing.wait(wait_s):
                began = host_now()
                burst = next(self._bursts)
                try:
                    self._make(burst.exchanges)
                except OSError:
                    self._unanswered()
                    wait_s, retry_s = retry_s, min(2 * retry_s, _RETRY_MOST_S)
                    continue
                retry_s = _RETRY_S
                spent_s = (host_now() - began) / 1e9
                wait_s = max(0.0, burst.after_s - spent_s)
        finally:
            for asking in self._asking:
                asking.close()
            self._tell(self.discipline.stop(host_now()))

    def _make(self, exchanges: int) -> None:
        """Make a burst of exchanges, and let the clock be steered by those that there are."""
        end = host_now() + _LONGEST_BURST_NS
        try:
            for _ in range(exchanges):
                # A clock that is being slewed must be steered again soon, however slow the leader.
                if self._closing.is_set() or host_now() > end:
                    return
                exchange = self._asking[0].ask()
                if exchange is not None:
                    self._made.append(exchange)
        finally:
            self._take()

    def _take(self) -> None:
        made, self._made = self._made, []
        now = host_now()
        if not made:
            self._tell(self.discipline.tick(now, answering=self._is_answering()))
            return
        if not self._is_answering():
            self._bursts.begin_anew()
        self._answered = now
        self._on_exchanges(made)
        self._tell(self.discipline.update(made, now))

    def _leader_stepped(self) -> None:
        if self._made:
            self._take()
        self._tell(self.discipline.leader_stepped(host_now()))

    def _unanswered(self) -> None:
        self._asking[0].close()
        # Where datagrams do not come through, a connection may, and the other way round.
        self._asking.append(self._asking.pop(0))

    def _is_answering(self) -> bool:
        return host_now() - self._answered < _GONE_S * 1e9

    def _tell(self, events: list[SyncEvent]) -> None:
        self._bursts.heed(events)
        if events:
            self._on_events(events)
            with self._changed:
                self._changed.notify_all()
