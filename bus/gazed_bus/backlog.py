"""Bounds what subscribers that do not keep up cost the broker.

libzmq bounds a subscriber's queue in messages, and a message is anything from 50 bytes to a megabyte. So the broker
looks at its heap instead. When it holds more than allowed, the connection is cut whose queue in the kernel has not been
empty for half a second and is the largest. That subscriber connects again by itself and goes on with what is new; its
gap counter shows what it missed. Nobody else notices.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["Backlog"]

_CHECKS_BEHIND = 5


class _MallInfo2(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def _heap_reader() -> ctypes._NamedFuncPointer | None:
    try:
        read = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    read.restype = _MallInfo2
    return read


class Backlog:
    """Watches the connections that were accepted at ``endpoints`` (``tcp://…`` or ``ipc://…``).

    ``limit`` is in bytes of heap above the heap at construction. Call ``check`` ten times a second.
    """

    def __init__(self, endpoints: Sequence[str], limit: int) -> None:
        self.cut = 0
        self._endpoints = frozenset(endpoints)
        self._limit = limit
        self._mallinfo = _heap_reader()
        self._behind: dict[tuple[int, int], int] = {}
        self._base = self._heap()

    @property
    def held(self) -> int:
        """Bytes of heap above the start."""
        return max(0, self._heap() - self._base)

    def check(self) -> None:
        """Cut the worst connection if there is need; ``cut`` counts them."""
        if self.held <= self._limit:
            self._behind.clear()
            return
        queued = {connection: _queued(connection[0]) for connection in self._connections()}
        self._behind = {item: self._behind.get(item, 0) + 1 for item, size in queued.items() if size}
        late = [item for item, times in self._behind.items() if times >= _CHECKS_BEHIND]
        if late:
            worst = max(late, key=lambda item: queued[item])
            del self._behind[worst]
            with contextlib.suppress(OSError), _borrowed(worst[0]) as connection:
                connection.shutdown(socket.SHUT_RDWR)
                self.cut += 1

    def _heap(self) -> int:
        if self._mallinfo is not None:
            info = self._mallinfo()
            return int(info.uordblks + info.hblkhd)
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _connections(self) -> Iterator[tuple[int, int]]:
        """Yield (descriptor, inode) of each accepted connection at the endpoints."""
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are what is needed
            # Sockets come and go while we look.
            with contextlib.suppress(OSError), _borrowed(int(name)) as connection:
                listening = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if not listening and _endpoint(connection) in self._endpoints:
                    yield int(name), os.fstat(int(name)).st_ino


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """Look at a descriptor that belongs to libzmq as a socket; it stays open."""
    connection = socket.socket(fileno=descriptor)
    try:
        yield connection
    finally:
        connection.detach()


def _endpoint(connection: socket.socket) -> str:
    address = connection.getsockname()
    if connection.family == socket.AF_UNIX:
        return f"ipc://{address}"
    return f"tcp port {address[1]}" if connection.family == socket.AF_INET else ""


def _queued(descriptor: int) -> int:
    try:
        (size,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
    except OSError:
        return 0
    return int(size)
