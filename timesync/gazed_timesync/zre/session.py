"""The rules of ZRE without sockets or time: who the peers are, what they say, and when they are gone.

Whoever runs a session hands in what arrives (``on_beacon``, ``on_message``), tells the time (``tick``), and does what
the session asks of its ``Transport``. ``gazed_timesync.zre.node.ZreNode`` is the one over real sockets.

Source of the rules: ZRE version 2 (rfc.zeromq.org/spec/36) and the behaviour of pyre 0.3: sequence numbers are counted
modulo 65535, the status counter goes up by one with each JOIN and LEAVE.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from gazed_timesync.errors import ZreMalformed
from gazed_timesync.zre.codec import (
    Hello,
    Join,
    Leave,
    Ping,
    PingOk,
    Shout,
    Whisper,
    ZreMessage,
    decode_beacon,
    decode_message,
    encode_message,
)

__all__ = ["ZreEvent", "ZreKind", "ZrePeer", "ZreSession", "ZreTransport"]

_MAX_PEERS = 256
_MAX_UNHEARD = 64
_MAX_GROUPS = 64
_EVASIVE_S, _EXPIRED_S = 10.0, 30.0
# Beacons come each second: whoever has missed three may have been away.
_SILENT_S = 3.5
_SEQUENCES = 65535
_ENDPOINT = re.compile(r"tcp://(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]{2,45}\]|[\w.-]{1,200}):(\d{1,5})", re.ASCII)
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}", re.ASCII)

ZreKind = str
"""``enter``, ``exit``, ``join``, ``leave``, ``shout``, ``whisper``, or ``back``: heard again after some silence."""


@dataclass(frozen=True, slots=True)
class ZrePeer:
    """Another node: ``host`` is the address at which it is reached from here."""

    uuid: UUID
    name: str
    host: str
    groups: frozenset[str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ZreEvent:
    """What a peer did. ``group`` is set for join, leave and shout, ``content`` for shout and whisper."""

    kind: ZreKind
    peer: ZrePeer
    group: str = ""
    content: tuple[bytes, ...] = ()


class ZreTransport(Protocol):
    """What a session asks for."""

    def connect(self, uuid: UUID, host: str, port: int) -> None:
        """Make a connection to a peer's mailbox; there is none yet."""

    def endpoint_for(self, host: str) -> str:
        """Return where the peer at ``host`` reaches the own mailbox."""

    def send(self, uuid: UUID, frames: Sequence[bytes]) -> bool:
        """Send to a connected peer, without waiting; false if its queue is full."""

    def disconnect(self, uuid: UUID) -> None:
        """Close the connection; what has not left is lost."""


@dataclass(slots=True)
class _Peer:
    uuid: UUID
    host: str
    port: int
    since: float
    heard: float
    ready: bool = False
    sent: int = 0
    received: int = 0
    name: str = ""
    groups: set[str] = field(default_factory=set)
    headers: Mapping[str, str] = field(default_factory=dict)

    def view(self) -> ZrePeer:
        return ZrePeer(self.uuid, self.name, self.host, frozenset(self.groups), self.headers)


class ZreSession:
    """The peers of one node and the conversation with each.

    ``events`` fills with what happens, for the caller to take out. ``refused`` counts by reason what was not taken.
    Times are seconds of any clock that does not go backwards. It is used by one thread.
    """

    def __init__(
        self,
        uuid: UUID,
        name: str,
        transport: ZreTransport,
        groups: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.uuid, self.name = uuid, name
        self.events: list[ZreEvent] = []
        self.refused: Counter[str] = Counter()
        self._transport = transport
        self._groups = list(dict.fromkeys(groups))
        self._headers = dict(headers or {})
        self._status = len(self._groups)
        self._peers: dict[UUID, _Peer] = {}

    def peers(self) -> tuple[ZrePeer, ...]:
        """Return the peers that have said HELLO."""
        return tuple(peer.view() for peer in self._peers.values() if peer.ready)

    def on_beacon(self, data: bytes, host: str, now: float) -> None:
        """Take a datagram that came from ``host``."""
        try:
            uuid, port = decode_beacon(data)
        except ZreMalformed:
            self.refused["beacon"] += 1
            return
        if uuid == self.uuid:
            return
        peer = self._peers.get(uuid)
        if peer is None:
            if port:
                self._greet(uuid, host, port, now)
        elif host == peer.host:
            if port:
                self._hear(peer, now)
            else:
                self._drop(peer)

    def on_message(self, identity: bytes, frames: Sequence[bytes], host: str, now: float) -> None:
        """Take a message with the identity that its connection has, and the address it comes from."""
        try:
            if len(identity) != 17 or identity[0] != 1:
                raise ZreMalformed("an identity is 1 and a uuid")
            uuid = UUID(bytes=identity[1:])
            sequence, message = decode_message(frames)
            if uuid == self.uuid:
                raise ZreMalformed("a message with the own uuid")
            if isinstance(message, Hello):
                self._on_hello(uuid, sequence, message, host, now)
            elif (peer := self._peers.get(uuid)) is None or not peer.ready:
                self.refused["stranger"] += 1
            else:
                self._on_talk(peer, sequence, message, now)
        except ZreMalformed:
            self.refused["message"] += 1

    def tick(self, now: float) -> None:
        """Ask silent peers for a sign of life, and give up those that show none; called once a second."""
        for peer in list(self._peers.values()):
            silence = now - (peer.heard if peer.ready else peer.since)
            if silence >= _EXPIRED_S:
                self._drop(peer)
            elif peer.ready and silence >= _EVASIVE_S:
                self._send(peer, Ping())

    def join(self, group: str) -> None:
        """Be in a group from now on."""
        if group not in self._groups:
            self._groups.append(group)
            self._status = (self._status + 1) & 0xFF
            self._send_all(Join(group, self._status))

    def leave(self, group: str) -> None:
        """Be in a group no longer."""
        if group in self._groups:
            self._groups.remove(group)
            self._status = (self._status + 1) & 0xFF
            self._send_all(Leave(group, self._status))

    def shout(self, group: str, content: Sequence[bytes]) -> int:
        """Send to all peers in a group; return to how many.

        Raises:
            ZreMalformed: the content is larger than what is taken.
        """
        return self._send_all(Shout(group, tuple(content)), group)

    def whisper(self, uuid: UUID, content: Sequence[bytes]) -> bool:
        """Send to one peer; false if there is none of that uuid.

        Raises:
            ZreMalformed: the content is larger than what is taken.
        """
        peer = self._peers.get(uuid)
        return peer is not None and peer.ready and self._send(peer, Whisper(tuple(content)))

    def _on_hello(self, uuid: UUID, sequence: int, hello: Hello, host: str, now: float) -> None:
        port = _port_of(hello.endpoint)
        if sequence != 1 or len(hello.groups) > _MAX_GROUPS:
            raise ZreMalformed(f"HELLO with the sequence number {sequence} and {len(hello.groups)} groups")
        peer = self._peers.get(uuid)
        if peer is not None and peer.ready:
            # It has forgotten this node and begins anew.
            self._drop(peer)
            peer = None
        for other in list(self._peers.values()):
            # A new node where another one was: that one has died.
            if other.uuid != uuid and (other.host, other.port) == (host, port):
                self._drop(other)
        peer = peer or self._greet(uuid, host, port, now)
        if peer is None:
            return
        peer.ready, peer.received, peer.heard = True, 1, now
        peer.name, peer.headers, peer.groups = hello.name, hello.headers, set(hello.groups)
        self._tell("enter", peer)
        for group in hello.groups:
            self._tell("join", peer, group)

    def _on_talk(self, peer: _Peer, sequence: int, message: ZreMessage, now: float) -> None:
        peer.received = (peer.received + 1) % _SEQUENCES
        if sequence != peer.received:
            self.refused["gap"] += 1
            self._drop(peer)
            return
        self._hear(peer, now)
        match message:
            case Whisper(content):
                self._tell("whisper", peer, content=content)
            case Shout(group, content):
                self._tell("shout", peer, group, content)
            case Join(group) if group not in peer.groups:
                if len(peer.groups) >= _MAX_GROUPS:
                    raise ZreMalformed(f"{peer.name!r} joins more than {_MAX_GROUPS} groups")
                peer.groups.add(group)
                self._tell("join", peer, group)
            case Leave(group) if group in peer.groups:
                peer.groups.remove(group)
                self._tell("leave", peer, group)
            case Ping():
                self._send(peer, PingOk())

    def _hear(self, peer: _Peer, now: float) -> None:
        silence, peer.heard = now - peer.heard, now
        if peer.ready and silence > _SILENT_S:
            self._tell("back", peer)

    def _greet(self, uuid: UUID, host: str, port: int, now: float) -> _Peer | None:
        """Connect to a new peer and say HELLO to it; nothing if there is no room for it."""
        unheard = [peer for peer in self._peers.values() if not peer.ready]
        if len(self._peers) - len(unheard) >= _MAX_PEERS or not _ADDRESS.fullmatch(host):
            self.refused["peer"] += 1
            return None
        if len(unheard) >= _MAX_UNHEARD:
            # Forged beacons must not keep out those who answer.
            self.refused["peer"] += 1
            self._drop(unheard[0])
        peer = self._peers[uuid] = _Peer(uuid, host, port, now, now)
        self._transport.connect(uuid, host, port)
        endpoint = self._transport.endpoint_for(host)
        hello = Hello(endpoint, tuple(self._groups), self._status, self.name, self._headers)
        return peer if self._send(peer, hello) else None

    def _send_all(self, message: ZreMessage, group: str | None = None) -> int:
        # One that cannot be sent to is dropped on the way.
        peers = [peer for peer in self._peers.values() if group is None or (peer.ready and group in peer.groups)]
        return sum(self._send(peer, message) for peer in peers)

    def _send(self, peer: _Peer, message: ZreMessage) -> bool:
        sequence = (peer.sent + 1) % _SEQUENCES
        if self._transport.send(peer.uuid, encode_message(message, sequence)):
            peer.sent = sequence
            return True
        self.refused["full"] += 1
        self._drop(peer)
        return False

    def _drop(self, peer: _Peer) -> None:
        del self._peers[peer.uuid]
        self._transport.disconnect(peer.uuid)
        if peer.ready:
            self._tell("exit", peer)

    def _tell(self, kind: ZreKind, peer: _Peer, group: str = "", content: tuple[bytes, ...] = ()) -> None:
        self.events.append(ZreEvent(kind, peer.view(), group, content))


def _port_of(endpoint: str) -> int:
    found = _ENDPOINT.fullmatch(endpoint)
    if found is None or not 0 < int(found[1]) < 65536:
        raise ZreMalformed(f"no endpoint: {endpoint[:80]!r}")
    return int(found[1])
