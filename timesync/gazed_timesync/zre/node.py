"""A ZRE node: finds other nodes on the local network and exchanges messages with them and with groups of them.

It speaks with pyre and zyre, so with Pupil Groups and Pupil Time Sync. Beacons go out on every interface, also on those
that come later; a network that goes down is tried again each second. A machine that has only its loopback interface
finds the nodes on itself.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from uuid import UUID, uuid4

import zmq

from gazed_timesync.errors import ZreError
from gazed_timesync.zre.codec import MAX_FRAME, Hello, check_group, encode_beacon, encode_message
from gazed_timesync.zre.interfaces import Interface, read_interfaces
from gazed_timesync.zre.session import ZreEvent, ZrePeer, ZreSession

__all__ = ["ZRE_PORT", "ZreNode"]

ZRE_PORT = 5670
_MULTICAST = "225.25.25.25"
_LOOPBACK, _LOOPBACK_BROADCAST = "127.0.0.1", "127.255.255.255"
_TICK_S = 1.0
_BATCH = 100
_SEND_HWM, _RECEIVE_HWM = 1000, 100
_IP_PKTINFO = 8  # linux/in.h; socket.IP_PKTINFO is missing in some builds of Python
_PKTINFO = struct.Struct("=i4s4s")
_log = logging.getLogger(__name__)


class ZreNode:
    """One node in a thread of its own, from ``start`` to ``close``.

    ``on_event`` is called in that thread for what peers do; it returns soon. All other methods may be called by any
    thread, also by ``on_event``. Groups given at once are known to peers from the first word.

    Args:
        name: what peers are shown.
        on_event: takes what happens.
        groups: groups to be in.
        headers: what peers are told with HELLO.
        interfaces: names of the interfaces to speak and be found on; empty means all.
        port: of the beacons.

    Raises:
        ZreMalformed: a name, group or header is too long.
        ZreError: the sockets cannot be had.
    """

    def __init__(
        self,
        name: str,
        on_event: Callable[[ZreEvent], None],
        *,
        groups: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
        interfaces: Sequence[str] = (),
        port: int = ZRE_PORT,
    ) -> None:
        self.uuid = uuid4()
        self._on_event = on_event
        groups = tuple(groups)
        encode_message(Hello("", groups, 0, name, headers or {}), 1)
        for group in groups:
            check_group(group)
        self._links = _Links(port, interfaces)
        self._peers: tuple[ZrePeer, ...] = ()
        self._orders: deque[Callable[[], object]] = deque()
        self._stopping = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._inbox, self._port = _open_inbox(self._context)
            self._links.open()
        except (OSError, zmq.ZMQError) as error:
            self._links.close()
            self._context.destroy(0)
            raise ZreError(
                f"node {name!r} cannot listen at UDP port {port}: {error}", hint="is it taken? see: ss -lupn"
            ) from error
        self._session = ZreSession(self.uuid, name, _Mailboxes(self._context, self.uuid, self._port), groups, headers)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="zre", daemon=True)

    def start(self) -> None:
        """Be seen from now on."""
        self._thread.start()

    def check(self) -> None:
        """Make sure that the node still runs.

        Raises:
            ZreError: it has ended.
        """
        if not self._thread.is_alive():
            raise ZreError(f"node {self._session.name!r} has ended", hint="see the log for the reason")

    @property
    def peers(self) -> tuple[ZrePeer, ...]:
        """The peers that are there."""
        return self._peers

    @property
    def refused(self) -> dict[str, int]:
        """How much was not taken, by reason: beacon, message, stranger, gap, full, peer."""
        return dict(self._session.refused)

    def join(self, group: str) -> None:
        """Be in a group from now on.

        Raises:
            ZreMalformed: its name is longer than 255 bytes.
        """
        check_group(group)
        self._order(lambda: self._session.join(group))

    def leave(self, group: str) -> None:
        """Be in a group no longer."""
        self._order(lambda: self._session.leave(group))

    def shout(self, group: str, *content: bytes) -> None:
        """Send to all peers in a group."""
        self._order(lambda: self._session.shout(group, content))

    def whisper(self, uuid: UUID, *content: bytes) -> None:
        """Send to one peer; one that is gone is not told."""
        self._order(lambda: self._session.whisper(uuid, content))

    def close(self) -> None:
        """Say goodbye and give everything back. Closing twice is fine."""
        if self._stopping:
            return
        self._stopping = True
        if self._thread.ident is not None:
            os.eventfd_write(self._wake, 1)
            self._thread.join()
        self._links.close()
        self._context.destroy(0)
        os.close(self._wake)

    def __enter__(self) -> ZreNode:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _order(self, order: Callable[[], object]) -> None:
        if not self._stopping:
            self._orders.append(order)
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        poller = zmq.Poller()
        for source in (self._inbox, self._links.socket, self._wake):
            poller.register(source, zmq.POLLIN)
        tick_at = time.monotonic()
        while not self._stopping:
            if (now := time.monotonic()) >= tick_at:
                tick_at = now + _TICK_S
                self._links.send(encode_beacon(self.uuid, self._port))
                self._session.tick(now)
            poller.poll(max(0, round((tick_at - time.monotonic()) * 1000)))
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            self._receive()
            while self._orders:
                self._attempt(self._orders.popleft())
            self._tell()
        self._links.send(encode_beacon(self.uuid, 0))

    def _receive(self) -> None:
        for data, host in self._links.receive(_BATCH):
            self._session.on_beacon(data, host, time.monotonic())
        for _ in range(_BATCH):
            try:
                identity, *frames = self._inbox.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            host = _sender_of(frames[0]) if frames else ""
            parts = [frame.bytes for frame in frames]
            self._session.on_message(identity.bytes, parts, host, time.monotonic())

    def _tell(self) -> None:
        while self._session.events:
            events, self._session.events = self._session.events, []
            self._peers = self._session.peers()
            for event in events:
                self._attempt(lambda event=event: self._on_event(event))  # type: ignore[misc]

    def _attempt(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception:  # noqa: BLE001 - whatever the callback raises, the other nodes are still there
            _log.exception("node %s goes on", self._session.name)


class _Links:
    """Beacons on all interfaces, by one UDP socket."""

    def __init__(self, port: int, interfaces: Sequence[str]) -> None:
        self._port, self._wanted = port, frozenset(interfaces)
        self._silent: set[str] = set()
        self._missing: frozenset[str] = frozenset()
        self._multicast = False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.socket.setblocking(False)

    def open(self) -> None:
        for option in (socket.SO_BROADCAST, socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            self.socket.setsockopt(socket.SOL_SOCKET, option, 1)
        self.socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self.socket.bind(("", self._port))

    def close(self) -> None:
        self.socket.close()

    def receive(self, most: int) -> Iterable[tuple[bytes, str]]:
        for _ in range(most):
            try:
                data, extra, _, (host, _) = self.socket.recvmsg(64, socket.CMSG_SPACE(_PKTINFO.size))
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    _log.warning("beacons: %s", error)
                return
            if not self._wanted or self._wanted & {_name_of(info) for *_, info in extra}:
                yield data, host

    def send(self, beacon: bytes) -> None:
        try:
            found = read_interfaces(self.socket)
        except OSError as error:
            _log.warning("no beacon: %s; tried again in a second", error)
            return
        there = [interface for interface in found if interface.up]
        if self._wanted:
            self._warn_of_missing({interface.name for interface in found})
            there = [interface for interface in there if interface.name in self._wanted]
        real = [interface for interface in there if interface.broadcast]
        # Link-local addresses are for want of better ones.
        real = [interface for interface in real if not interface.address.startswith("169.254.")] or real
        self._silent, silent_before = set(), self._silent
        for interface in real:
            if failure := self._send_to(interface, interface.broadcast, beacon):
                self._silent.add(interface.name)
                if interface.name not in silent_before:
                    _log.warning("no beacon on %s: %s; tried again each second", interface.name, failure)
        if len(self._silent) >= len({interface.name for interface in real}):
            self._send_to_self(there, beacon)

    def _warn_of_missing(self, names: set[str]) -> None:
        missing = self._wanted - names
        for name in missing - self._missing:
            there = ", ".join(sorted(names)) or "none"
            _log.warning("no interface %s with an address, there are %s; looked for each second", name, there)
        self._missing = missing

    def _send_to_self(self, there: Iterable[Interface], beacon: bytes) -> None:
        for interface in there:
            if interface.address == _LOOPBACK:
                self._join_multicast()
                # Peers of other makes listen to the first, and on a bare loopback only the second gets through.
                for target in (_MULTICAST, _LOOPBACK_BROADCAST):
                    self._send_to(interface, target, beacon)

    def _send_to(self, interface: Interface, target: str, beacon: bytes) -> OSError | None:
        where = _PKTINFO.pack(interface.index, socket.inet_aton(interface.address), b"")
        try:
            self.socket.sendmsg([beacon], [(socket.IPPROTO_IP, _IP_PKTINFO, where)], 0, (target, self._port))
        except OSError as error:
            return error
        return None

    def _join_multicast(self) -> None:
        if not self._multicast:
            membership = socket.inet_aton(_MULTICAST) + socket.inet_aton(_LOOPBACK)
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(_LOOPBACK))
                self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
                self._multicast = True


class _Mailboxes:
    """The connections to the peers: a DEALER each, with the own uuid as identity."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], uuid: UUID, port: int) -> None:
        self._context, self._identity, self._port = context, b"\x01" + uuid.bytes, port
        self._sockets: dict[UUID, zmq.Socket[bytes]] = {}

    def connect(self, uuid: UUID, host: str, port: int) -> None:
        try:
            mailbox = self._context.socket(zmq.DEALER)
        except zmq.ZMQError as error:
            # Sending to it then fails, and its next beacon is the next try.
            _log.warning("no connection to %s: %s", host, error)
            return
        self._sockets[uuid] = mailbox
        mailbox.linger, mailbox.sndhwm, mailbox.identity = 0, _SEND_HWM, self._identity
        # Nobody speaks on this side of the connection.
        mailbox.rcvhwm, mailbox.maxmsgsize = 1, 64
        mailbox.connect(f"tcp://{host}:{port}")

    def endpoint_for(self, host: str) -> str:
        return f"tcp://{_address_towards(host)}:{self._port}"

    def send(self, uuid: UUID, frames: Sequence[bytes]) -> bool:
        mailbox = self._sockets.get(uuid)
        try:
            if mailbox:
                mailbox.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return mailbox is not None

    def disconnect(self, uuid: UUID) -> None:
        if mailbox := self._sockets.pop(uuid, None):
            mailbox.close()


def _open_inbox(context: zmq.Context[zmq.Socket[bytes]]) -> tuple[zmq.Socket[bytes], int]:
    inbox = context.socket(zmq.ROUTER)
    inbox.linger, inbox.router_handover, inbox.maxmsgsize, inbox.rcvhwm = 0, 1, MAX_FRAME, _RECEIVE_HWM
    inbox.bind("tcp://*:*")
    return inbox, int(str(inbox.get_string(zmq.LAST_ENDPOINT)).rpartition(":")[2])


def _name_of(info: bytes) -> str:
    """Return the interface that a datagram came by."""
    try:
        return socket.if_indextoname(_PKTINFO.unpack(info)[0])
    except OSError:
        return ""


def _sender_of(frame: zmq.Frame) -> str:
    try:
        return str(frame.get("Peer-Address"))
    except zmq.ZMQError:
        # Whoever closed the connection at once has none.
        return ""


def _address_towards(host: str) -> str:
    """Return the address that packets to ``host`` come from."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, ZRE_PORT))
            return str(probe.getsockname()[0])
    except OSError:
        return _LOOPBACK
