"""Asking a leader for its time: one exchange after the other, over TCP as any leader answers, or by datagrams."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from gazed_timesync.clock import host_now
from gazed_timesync.sync.exchange import Exchange
from gazed_timesync.sync.probe import PROBE_BYTES, Answer, Question

__all__ = ["Asking", "DatagramAsking", "StreamAsking"]

_TIME = struct.Struct("<d")
_STREAM_TIMEOUT_S = 1.0
_DATAGRAM_TIMEOUT_S = 0.25
_LOST_IN_A_ROW, _LOST_AT_FIRST = 8, 2  # datagrams, until the leader is taken for gone


class Asking(Protocol):
    """A way to a leader."""

    def ask(self) -> Exchange | None:
        """Make an exchange; nothing, if the answer was lost.

        Raises:
            OSError: the leader cannot be reached, does not answer, or has gone.
        """

    def shut(self) -> None:
        """Let an ``ask`` under way in another thread fail at once."""

    def close(self) -> None:
        """Give up the connection; the next ``ask`` makes another."""


class _Connected:
    """A socket that is made when it is needed, and that another thread may shut."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._socket: socket.socket | None = None

    def get(self) -> socket.socket:
        if self._socket is None:
            self._socket = self._connect()
        return self._socket

    def shut(self) -> None:
        connected = self._socket
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        connected, self._socket = self._socket, None
        if connected is not None:
            connected.close()


class StreamAsking(_Connected):
    """The ``sync`` service of Pupil Time Sync: a request, and its answer before the next one, on one connection."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(lambda: _connect_stream(host, port))

    def ask(self) -> Exchange:
        """Make an exchange.

        Raises:
            OSError: the leader cannot be reached, does not answer within a second, or has gone.
        """
        connected = self.get()
        sent = host_now()
        connected.sendall(b"sync")
        answer = b""
        while len(answer) < _TIME.size:
            part = connected.recv(_TIME.size - len(answer))
            received = host_now()
            if not part:
                raise ConnectionError("the leader closed the connection")
            answer += part
        leader: float = _TIME.unpack(answer)[0]
        return Exchange(sent, leader, leader, received)


class DatagramAsking(_Connected):
    """The datagrams of our own leaders, which need not wait for one that was lost.

    Args:
        stepped: called when the leader says that its clock jumped, before the first exchange after.
    """

    def __init__(self, host: str, port: int, stepped: Callable[[], None]) -> None:
        super().__init__(lambda: _connect_datagrams(host, port))
        self._stepped = stepped
        self._number = 0
        self._lost = 0
        self._steps: int | None = None

    def ask(self) -> Exchange | None:
        """Make an exchange; nothing, if there was no answer within 0.25 s.

        Raises:
            OSError: the port is closed, or the eighth answer in a row (the second, if there was none yet) was lost.
        """
        connected = self.get()
        self._number = (self._number + 1) & 0xFFFFFFFF
        question = Question(self._number, host_now())
        connected.send(question.pack())
        answer, received = None, question.sent_ns
        while answer is None or answer.question != question:
            try:
                if received - question.sent_ns > _DATAGRAM_TIMEOUT_S * 1e9:
                    raise TimeoutError("the leader sends anything but answers")
                datagram = connected.recv(PROBE_BYTES + 1)
                if not datagram:
                    raise ConnectionError("the socket was shut, or the leader sends nothing")
                answer = Answer.unpack(datagram)
            except TimeoutError:
                self._lost += 1
                if self._lost >= (_LOST_AT_FIRST if self._steps is None else _LOST_IN_A_ROW):
                    raise
                return None
            received = host_now()
        self._lost = 0
        if self._steps not in (None, answer.steps):
            self._stepped()
        self._steps = answer.steps
        return Exchange(question.sent_ns, answer.received, answer.replied, received)

    def close(self) -> None:
        """Give up the socket; the next ``ask`` makes another."""
        super().close()
        self._lost = 0


def _connect_stream(host: str, port: int) -> socket.socket:
    try:
        connected = socket.create_connection((host, port), _STREAM_TIMEOUT_S)
    except UnicodeError as error:
        raise _no_name(host) from error
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def _connect_datagrams(host: str, port: int) -> socket.socket:
    connected = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connected.settimeout(_DATAGRAM_TIMEOUT_S)
    try:
        connected.connect((host, port))
    except UnicodeError as error:
        connected.close()
        raise _no_name(host) from error
    except OSError:
        connected.close()
        raise
    return connected


def _no_name(host: str) -> OSError:
    return OSError(f"{host!r} is no name of a host")
