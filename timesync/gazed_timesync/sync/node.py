"""A participant in Pupil Time Sync: finds the others, and leads them or keeps its clock to the one that does."""

from __future__ import annotations

import logging
import queue
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Thread
from types import TracebackType
from typing import Protocol
from uuid import UUID

from gazed_timesync.clock import AdjustableClock, host_now
from gazed_timesync.errors import ZreError, ZreMalformed
from gazed_timesync.sync.discipline import Discipline, SyncEvent, SyncState, SyncStatus
from gazed_timesync.sync.election import GROUP_SUFFIX, Announcement, Election, group_name, parse_announcement
from gazed_timesync.sync.estimator import SKEW_SD
from gazed_timesync.sync.exchange import Exchange
from gazed_timesync.sync.follower import Follower
from gazed_timesync.sync.leader import Leader, LeaderClock
from gazed_timesync.zre.codec import check_group
from gazed_timesync.zre.node import ZRE_PORT, ZreNode
from gazed_timesync.zre.session import ZreEvent, ZrePeer

__all__ = ["Participant", "SyncClock", "TimeSyncNode"]

# What our nodes tell each other with HELLO; others ignore it.
_OURS, _DATAGRAMS = "X-PTX", "X-PTX-UDP"
# Its answers over TCP are early on purpose.
_EARLY = "X-PTX-EARLY"
_SETTLE_S, _LED_S = 2.5, 1.0
_TAKE_OVER_S = 5.0
# The network may have failed a leader that is well and says nothing more of itself.
_ASK_AGAIN_S = 30.0
_TURN_S = 0.1
_LEAST_SKEW_SD = 3e-6  # crystals warm and cool meanwhile
_LONGEST_SAID, _MOST_WAITING = 128, 10_000
_log = logging.getLogger(__name__)


class SyncClock(AdjustableClock, LeaderClock, Protocol):
    """A clock that can be kept to a leader's, and be handed out."""


@dataclass(frozen=True, slots=True)
class Participant:
    """Somebody in the group. ``rank`` and ``port`` are of its announcement."""

    name: str
    host: str
    port: int
    rank: float
    leads: bool
    ours: bool
    """Whether it is one of gazed's."""


@dataclass(frozen=True, slots=True)
class _Followed:
    uuid: UUID
    host: str
    port: int | None
    udp_port: int | None


def _ignore(*_: object) -> None:
    """Take no notice."""


class TimeSyncNode:
    """Takes part in a group, from ``start`` to ``close``, with threads of its own.

    The participant with the highest rank leads. Who finds nobody leads too, after 2.5 s. A leader that does not answer
    is held over after three seconds; if it is one of ours, the next one takes over after five, until it is back. Every
    30 s it is asked again.

    Args:
        clock: kept to the leader's while another one leads; handed out to those who ask.
        group: the first part of the group's name.
        name: what others are shown; the host's name, if not given.
        bias: 1.0 is everybody's; one above 2 leads those who have 1.0, whatever they have been.
        may_lead: without it, the node stays unsynced where nobody else leads.
        compensate: see ``Leader``.
        interfaces: names of the network interfaces to be found on; empty means all.
        on_events: called with what happens to the clock; must not raise.
        on_exchanges: called with a leader's uuid and a burst of exchanges with it; must not raise.
        port: of the beacons.

    Raises:
        ZreMalformed: a name is too long.
        ZreError, ClockError: a socket cannot be had.
    """

    def __init__(
        self,
        clock: SyncClock,
        *,
        group: str = "default",
        name: str = "",
        bias: float = 1.0,
        may_lead: bool = True,
        compensate: bool = False,
        interfaces: Sequence[str] = (),
        on_events: Callable[[Sequence[SyncEvent]], None] = _ignore,
        on_exchanges: Callable[[UUID, Sequence[Exchange]], None] = _ignore,
        port: int = ZRE_PORT,
    ) -> None:
        self.name = name or socket.gethostname()
        self.discipline = Discipline(clock)
        self._group = group_name(group)
        self._may_lead = may_lead
        self._on_events, self._on_exchanges = on_events, on_exchanges
        # Who never leads has no port open.
        self._leader = Leader(clock, "", compensate=compensate) if may_lead else None
        headers = {_OURS: "1"}
        if self._leader:
            headers |= {_DATAGRAMS: str(self._leader.udp_port)} | ({_EARLY: "1"} if compensate else {})
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        try:
            self._zre = ZreNode(
                self.name,
                self._hear,
                groups=[self._group],
                headers=headers,
                interfaces=interfaces,
                port=port,
            )
        except BaseException:
            self._close_leader()
            raise
        port_of_leader = self._leader.port if self._leader else 0
        self._election = Election(self._zre.uuid, port_of_leader, bias=bias, candidate=may_lead)
        self._peers: dict[UUID, ZrePeer] = {}
        self._skews: dict[UUID, tuple[float, float]] = {}
        self._follower: Follower | None = None
        self._followed: _Followed | None = None
        self._answered_s = self._settled_s = self._ask_again_s = 0.0
        self._synced = False
        self._announce_s = 0.0
        self.refused = 0
        """Announcements that were none."""
        self._announced: Announcement | None = None
        self._participants: tuple[Participant, ...] = ()
        self._thread = Thread(target=self._run, name="time sync", daemon=True)
        self._closed = False

    def start(self) -> None:
        """Take part from now on."""
        self._settle()
        self._thread.start()
        self._zre.start()

    def check(self) -> None:
        """Make sure that the node still runs.

        Raises:
            ZreError: it has ended, or what it runs on.
        """
        self._zre.check()
        if not self._thread.is_alive():
            raise ZreError(f"time sync of {self.name!r} has ended", hint="see the log for the reason")

    def status(self) -> SyncStatus:
        """Return how the clock stands to the leader's."""
        return self.discipline.status(host_now())

    @property
    def participants(self) -> tuple[Participant, ...]:
        """Who has announced itself, this node left out, highest rank first."""
        return self._participants

    @property
    def groups(self) -> list[str]:
        """First parts of the names of all groups that share a clock here, this node's own only if others are in it."""
        found = {group for peer in self._zre.peers for group in peer.groups if group.endswith(GROUP_SUFFIX)}
        return sorted(group.removesuffix(GROUP_SUFFIX) for group in found)

    def change_group(self, group: str) -> None:
        """Go over to another group.

        Raises:
            ZreMalformed: its name is too long.
        """
        name = group_name(group)
        check_group(name)
        self._work.put(lambda: self._change_group(name))

    def close(self) -> None:
        """Leave, and give everything back; the clock runs on. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        if self._thread.ident is not None:
            self._work.put(None)
            self._thread.join()
        self._zre.close()
        self._close_leader()

    def _close_leader(self) -> None:
        if self._leader:
            self._leader.close()

    def __enter__(self) -> TimeSyncNode:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while True:
                try:
                    work = self._work.get(timeout=_TURN_S)
                    if work is None:
                        return
                    work()
                    # More may wait; one announcement and one decision serve all.
                    while not self._work.empty():
                        if (work := self._work.get()) is None:
                            return
                        work()
                except queue.Empty:
                    pass
                if self._follower:
                    self._follower.check()
                self._doubt_silent_leader()
                self._decide()
        finally:
            self._stop_following()

    def _hear(self, event: ZreEvent) -> None:
        """Take what a peer did, in the thread of the ZRE node."""
        content = event.kind in ("shout", "whisper")
        # What can be no announcement, or comes faster than it is looked at, must not pile up.
        if content and (sum(map(len, event.content)) > _LONGEST_SAID or self._work.qsize() > _MOST_WAITING):
            self.refused += 1
        else:
            self._work.put(lambda: self._on_peer(event))

    def _on_peer(self, event: ZreEvent) -> None:
        peer = event.peer
        if event.kind == "exit" or (event.kind == "leave" and event.group == self._group):
            self._peers.pop(peer.uuid, None)
            self._election.forget(peer.uuid)
        elif event.kind == "back":
            self._election.trust(peer.uuid)
        elif event.group == self._group:
            self._peers[peer.uuid] = peer
            if event.kind == "join":
                self._announced = None
            elif event.kind == "shout":
                self._on_announcement(peer, event.content)

    def _on_announcement(self, peer: ZrePeer, content: Sequence[bytes]) -> None:
        try:
            self._election.hear(peer.uuid, parse_announcement(content))
        except ZreMalformed as error:
            if not self.refused:
                _log.warning("%s (%s): %s; the next ones are counted", peer.name, peer.host, error.message)
            self.refused += 1

    def _change_group(self, group: str) -> None:
        if group != self._group:
            self._zre.leave(self._group)
            self._stop_following()
            self._election.clear()
            self._group = group
            self._peers = {peer.uuid: peer for peer in self._zre.peers if group in peer.groups}
            self._zre.join(group)
            self._announced = None
            self._settle()

    def _settle(self) -> None:
        """Wait a moment for others before leading nobody."""
        self._settled_s = time.monotonic() + _SETTLE_S

    def _doubt_silent_leader(self) -> None:
        followed, now = self._followed, time.monotonic()
        if followed and followed.udp_port and now - self._answered_s > _TAKE_OVER_S:
            _log.warning("the leader %s has not answered for %.0f s", self.discipline.leader, _TAKE_OVER_S)
            self._election.doubt(followed.uuid)
            self._ask_again_s = now + _ASK_AGAIN_S
        elif self._election.doubts and now >= self._ask_again_s:
            self._election.trust_all()

    def _decide(self) -> None:
        now = time.monotonic()
        if self._synced and now >= self._settled_s + _LED_S:
            # Not before the leader of nodes that start together knows that it is one: the lead would go round.
            self._election.has_synced = True
        leader = self._election.leader
        if leader not in (None, self._zre.uuid):
            self._follow(leader)
        else:
            self._stop_following()
            if leader and now >= self._settled_s:
                self._lead()
        if self._may_lead and now >= self._announce_s and (said := self._election.own) != self._announced:
            # Many may join at once: one announcement serves all of them.
            self._announced, self._announce_s = said, now + _TURN_S
            self._zre.shout(self._group, *said.encode())
        self._describe(leader)

    def _lead(self) -> None:
        if self._election.others and not self._election.doubts:
            # Nobody is led as long as nobody is there, and whoever is passed over may come back.
            self._election.has_led = True
        if self.discipline.state is not SyncState.LEADER:
            self._tell(self.discipline.lead(self.name, host_now()))

    def _follow(self, uuid: UUID) -> None:
        peer = self._peers[uuid]
        udp_port = _datagram_port(peer)
        port = None if udp_port and _EARLY in peer.headers else self._election.others[uuid].port
        wanted = _Followed(uuid, peer.host, port, udp_port)
        if wanted == self._followed:
            return
        self._stop_following()
        self._followed, self._answered_s = wanted, time.monotonic()
        skew, skew_sd = self._skews.get(uuid, (0.0, SKEW_SD))
        self._follower = Follower(
            self.discipline,
            wanted.host,
            wanted.port,
            udp_port=wanted.udp_port,
            name=peer.name,
            on_events=self._tell,
            on_exchanges=lambda exchanges: self._on_answers(uuid, exchanges),
            skew=skew,
            skew_sd=skew_sd,
        )

    def _stop_following(self) -> None:
        if self._follower and self._followed:
            self._follower.close()
            if estimate := self.discipline.estimate:
                self._skews[self._followed.uuid] = estimate.skew, max(3 * estimate.sigma_skew, _LEAST_SKEW_SD)
                if len(self._skews) > 16:
                    del self._skews[next(iter(self._skews))]
        self._follower = self._followed = None

    def _on_answers(self, leader: UUID, exchanges: Sequence[Exchange]) -> None:
        self._answered_s = time.monotonic()
        self._on_exchanges(leader, exchanges)

    def _tell(self, events: Sequence[SyncEvent]) -> None:
        if any(event.kind == "state" and event.state is SyncState.LOCKED for event in events):
            self._synced = True
        self._on_events(events)

    def _describe(self, leader: UUID | None) -> None:
        board = sorted(self._election.others.items(), key=lambda entry: -entry[1].rank)
        self._participants = tuple(_describe(self._peers[uuid], said, uuid == leader) for uuid, said in board)


def _describe(peer: ZrePeer, said: Announcement, leads: bool) -> Participant:
    return Participant(peer.name, peer.host, said.port, said.rank, leads, _OURS in peer.headers)


def _datagram_port(peer: ZrePeer) -> int | None:
    text = peer.headers.get(_DATAGRAMS, "")
    return int(text) if text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 65536 else None
