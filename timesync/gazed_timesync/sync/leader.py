"""The clock service of a leader: Pupil Time Sync's, over TCP, and our own datagrams.

A follower of Pupil Time Sync sends ``sync`` and is answered with the leader's Pupil time, a little-endian float64 in
seconds, as often as it likes on one connection (pupil_src/shared_modules/network_time_sync.py).
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from gazed_timesync.clock import PupilTime
from gazed_timesync.errors import ClockError
from gazed_timesync.sync.probe import PROBE_BYTES, Answer, Question
from gazed_timesync.sync.round_trips import RoundTrips

__all__ = ["Leader", "LeaderClock"]

_SYNC = b"sync"
_TIME = struct.Struct("<d")
_BACKLOG = 64
_MOST_CONNECTIONS = 128
_IDLE_S = 120.0
_BUFFER_BYTES = 32_768  # of a connection in the kernel, each way: all that somebody can heap up
_TURN_BYTES = 256  # of a connection, and datagrams of the socket, before others have their turn
_TURN_DATAGRAMS = 64
_OUT_OF_FILES_S = 0.05
_REMEMBERED = 256
_TCP_INFO_BYTES, _TCP_INFO_RTT = 104, 68


class LeaderClock(Protocol):
    """What a leader needs of the clock that it hands out."""

    @property
    def steps(self) -> int:
        """How often the clock has jumped."""

    def now(self) -> PupilTime:
        """Return the Pupil time of this instant."""


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    address: str
    used_s: float
    round_trips: RoundTrips
    rest: bytes = b""


class Leader:
    """Hands out a clock, from a thread of its own, until it is closed.

    ::

        with Leader(clock, "192.168.1.5") as leader:
            print(leader.port)

    Requests may come split or several at once. Who sends anything else, does not take its answers, or has been silent
    for two minutes, is disconnected; beyond 128 connections, who has been silent for the longest.

    Args:
        clock: what is handed out: ``PupilClock``, ``LocalClock``, or one's own.
        host: the address to bind to; ``""`` for all.
        port: the TCP port; 0 for any that is free. Datagrams have a port of their own, ``udp_port``.
        compensate: answer followers over TCP a round trip early. Those of Pupil Capture set themselves a round trip
            ahead by a slip in their formula, and are right then; a follower that computes rightly is late by as much.

    Raises:
        ClockError: the address or port cannot be had.
    """

    def __init__(self, clock: LeaderClock, host: str = "127.0.0.1", port: int = 0, *, compensate: bool = False) -> None:
        self._clock, self._compensate = clock, compensate
        self._connections: dict[int, _Connection] = {}
        self._known: dict[str, float] = {}
        self.answered = 0
        """Requests answered so far, both ways."""
        self.refused = 0
        """Connections ended and datagrams dropped because of what they brought."""
        with contextlib.ExitStack() as made:
            try:
                if not 0 <= port < 65536:
                    raise OSError("there is no such port")
                self._tcp = made.enter_context(socket.create_server((host, port), backlog=_BACKLOG))
                for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    self._tcp.setsockopt(socket.SOL_SOCKET, buffer, _BUFFER_BYTES)
                self._udp = made.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                self._udp.bind((host, 0))
            except (OSError, UnicodeError) as error:
                raise ClockError(
                    f"clock service on {host or '*'}:{port}: {getattr(error, 'strerror', None) or error}",
                    hint="choose an address of this machine and a port that is free (0: any)",
                ) from error
            made.pop_all()
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for each in (self._tcp, self._udp, self._woken):
            each.setblocking(False)
            self._selector.register(each, selectors.EVENT_READ)
        self.port: int = self._tcp.getsockname()[1]
        self.udp_port: int = self._udp.getsockname()[1]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="clock leader", daemon=True)
        self._thread.start()

    @property
    def connections(self) -> int:
        """How many followers are connected over TCP."""
        return len(self._connections)

    def close(self) -> None:
        """End the service; closing twice is fine."""
        if not self._closing.is_set():
            self._closing.set()
            self._wake.send(b"\0")
            self._thread.join()
            for connection in self._connections.values():
                connection.socket.close()
            self._connections.clear()
            self._selector.close()
            for each in (self._tcp, self._udp, self._wake, self._woken):
                each.close()

    def __enter__(self) -> Leader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        swept_s = time.monotonic()
        while not self._closing.is_set():
            ready = self._selector.select(_IDLE_S / 4)
            now_s = time.monotonic()
            for key, _ in ready:
                if key.fileobj is self._udp:
                    self._answer_datagrams()
                elif key.fileobj is self._tcp:
                    self._accept(now_s)
                elif key.fd in self._connections:
                    self._answer(self._connections[key.fd], now_s)
            if now_s - swept_s > _IDLE_S / 4:
                swept_s = now_s
                for idle in [each for each in self._connections.values() if now_s - each.used_s > _IDLE_S]:
                    self._drop(idle)

    def _answer_datagrams(self) -> None:
        for _ in range(_TURN_DATAGRAMS):
            try:
                datagram, address = self._udp.recvfrom(PROBE_BYTES + 1)
            except OSError:
                # Nothing more, or an earlier answer that found no port.
                return
            received = self._clock.now()
            question = Question.unpack(datagram)
            if question is None:
                self.refused += 1
                continue
            answer = Answer(question, received, 0.0, self._clock.steps)
            try:
                self._udp.sendto(answer._replace(replied=self._clock.now()).pack(), address)
                self.answered += 1
            except OSError:
                self.refused += 1

    def _accept(self, now_s: float) -> None:
        for _ in range(_BACKLOG):
            try:
                accepted, (address, *_) = self._tcp.accept()
            except BlockingIOError:
                return
            except OSError:
                # Out of files, most likely: the one that waits would wake us for ever.
                self._drop_idlest()
                self._closing.wait(_OUT_OF_FILES_S)
                return
            if len(self._connections) >= _MOST_CONNECTIONS:
                self._drop_idlest()
            self._connect(accepted, address, now_s)

    def _connect(self, accepted: socket.socket, address: str, now_s: float) -> None:
        accepted.setblocking(False)
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            first_s = self._known.get(address) or (_kernel_round_trip(accepted) if self._compensate else 0.0)
        except OSError:
            # Gone already.
            accepted.close()
            return
        self._connections[accepted.fileno()] = _Connection(accepted, address, now_s, RoundTrips(first_s))
        self._selector.register(accepted, selectors.EVENT_READ)

    def _answer(self, connection: _Connection, now_s: float) -> None:
        try:
            came = connection.socket.recv(_TURN_BYTES)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        if not came:
            self._drop(connection)
            return
        connection.used_s = now_s
        waiting = connection.rest + came
        whole = len(waiting) // len(_SYNC)
        connection.rest = waiting[whole * len(_SYNC) :]
        if waiting[: whole * len(_SYNC)] != _SYNC * whole or not _SYNC.startswith(connection.rest):
            self.refused += 1
            self._drop(connection)
            return
        if not whole:
            return
        answers = b""
        for _ in range(whole):
            early_s = self._round_trip(connection) if self._compensate else 0.0
            answers += _TIME.pack(self._clock.now() - early_s)
        try:
            sent = connection.socket.send(answers)
        except OSError:
            sent = 0
        if sent != len(answers):
            # It does not take its answers.
            self.refused += 1
            self._drop(connection)
            return
        connection.round_trips.answered(time.monotonic())
        self.answered += whole

    def _round_trip(self, connection: _Connection) -> float:
        trips = connection.round_trips
        trips.asked(time.monotonic())
        if trips.known:
            self._known.pop(connection.address, None)
            self._known[connection.address] = trips.mean_s
            if len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]
        return trips.mean_s

    def _drop_idlest(self) -> None:
        if self._connections:
            self._drop(min(self._connections.values(), key=lambda each: each.used_s))

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection.socket.fileno()]
        self._selector.unregister(connection.socket)
        connection.socket.close()


def _kernel_round_trip(connection: socket.socket) -> float:
    """Return what the kernel knows of the round trip, in seconds: ``tcpi_rtt`` of Linux, or 0 elsewhere."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return 0.0
    info = connection.getsockopt(socket.IPPROTO_TCP, option, _TCP_INFO_BYTES)
    return float(struct.unpack_from("=I", info, _TCP_INFO_RTT)[0]) * 1e-6
