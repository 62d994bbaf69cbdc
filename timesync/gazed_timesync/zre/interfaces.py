"""The IPv4 interfaces of this machine, as they are at this moment."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from array import array
from dataclasses import dataclass

__all__ = ["Interface", "read_interfaces"]

# linux/sockios.h and linux/if.h
_SIOCGIFCONF, _SIOCGIFFLAGS, _SIOCGIFNETMASK, _SIOCGIFINDEX = 0x8912, 0x8913, 0x891B, 0x8933
_UP, _BROADCAST, _LOOPBACK = 0x1, 0x2, 0x8
_ENTRY = struct.Struct("16s16s8x" if struct.calcsize("P") == 8 else "16s16s")
_MOST = 128


@dataclass(frozen=True, slots=True)
class Interface:
    """An address of an interface. ``broadcast`` is empty where nothing can be broadcast."""

    name: str
    index: int
    address: str
    broadcast: str
    loopback: bool
    up: bool
    """Whether it is switched on; it may have no link all the same."""


def read_interfaces(network: socket.socket) -> list[Interface]:
    """Return all interfaces with an IPv4 address in the network that a socket belongs to, up to 128 addresses.

    Raises:
        OSError: the system does not tell.
    """
    room = array("B", bytes(_ENTRY.size * _MOST))
    start, length = room.buffer_info()
    (size, _) = struct.unpack("iP", fcntl.ioctl(network, _SIOCGIFCONF, struct.pack("iP", length, start)))
    found = []
    for name, address in _ENTRY.iter_unpack(room[:size].tobytes()):
        try:
            found.append(_describe(network, name, address))
        except OSError as error:
            # It went away between the two questions.
            if error.errno not in (errno.ENODEV, errno.EADDRNOTAVAIL):
                raise
    return found


def _describe(network: socket.socket, name: bytes, address: bytes) -> Interface:
    def ask(what: int) -> bytes:
        return fcntl.ioctl(network, what, _ENTRY.pack(name, address))

    (flags,) = struct.unpack_from("H", ask(_SIOCGIFFLAGS), 16)
    (index,) = struct.unpack_from("i", ask(_SIOCGIFINDEX), 16)
    mask = int.from_bytes(ask(_SIOCGIFNETMASK)[20:24], "big")
    everybody = int.from_bytes(address[4:8], "big") | ~mask & 0xFFFFFFFF
    # Networks of one or two addresses have no broadcast.
    broadcast = socket.inet_ntoa(everybody.to_bytes(4, "big")) if flags & _BROADCAST and ~mask & 0xFFFFFFFE else ""
    return Interface(
        name.split(b"\0")[0].decode(errors="replace"),
        index,
        socket.inet_ntoa(address[4:8]),
        broadcast,
        bool(flags & _LOOPBACK),
        bool(flags & _UP),
    )
