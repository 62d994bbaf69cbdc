"""Messages and beacons of ZRE version 2, the discovery protocol of Pupil Groups and Pupil Time Sync.

A beacon is 22 bytes by UDP: ``ZRE``, 1, the sender's uuid, the port of its mailbox (big endian; 0: it leaves).

A message has a head frame ``AA A1 | kind | 2 | sequence (u16, big endian) | body``; content frames follow it in WHISPER
and SHOUT. Strings are preceded by their length in bytes: one byte for short ones, four for long ones.

Source of the format: ZRE version 2 (rfc.zeromq.org/spec/36), and what pyre 0.3 sends.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from gazed_timesync.errors import ZreMalformed

__all__ = [
    "MAX_FRAME",
    "Hello",
    "Join",
    "Leave",
    "Ping",
    "PingOk",
    "Shout",
    "Whisper",
    "ZreMessage",
    "check_group",
    "decode_beacon",
    "decode_message",
    "encode_beacon",
    "encode_message",
]

MAX_FRAME = 1 << 18
"""Bytes that a frame may have; longer ones are neither sent nor taken."""

_BEACON = struct.Struct(">3sB16sH")
_HEAD = struct.Struct(">HBBH")
_SIGNATURE, _VERSION = 0xAAA1, 2
_MAX_CONTENT, _MAX_HEAD = 16, 1 << 16
_MAX_ENTRIES = 256


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a connection: who speaks, where it is reached, and its groups; ``status`` counts changes."""

    endpoint: str
    groups: tuple[str, ...] = ()
    status: int = 0
    name: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Whisper:
    """Content for one peer."""

    content: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Shout:
    """Content for a group."""

    group: str
    content: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Join:
    """The sender is in a group from now on."""

    group: str
    status: int


@dataclass(frozen=True, slots=True)
class Leave:
    """The sender is no longer in a group."""

    group: str
    status: int


@dataclass(frozen=True, slots=True)
class Ping:
    """The sender wants a sign of life."""


@dataclass(frozen=True, slots=True)
class PingOk:
    """A sign of life."""


ZreMessage = Hello | Whisper | Shout | Join | Leave | Ping | PingOk
_KINDS: tuple[type[ZreMessage], ...] = (Hello, Whisper, Shout, Join, Leave, Ping, PingOk)


def encode_beacon(uuid: UUID, port: int) -> bytes:
    """Return the 22 bytes that announce a node; port 0 says that it leaves."""
    return _BEACON.pack(b"ZRE", 1, uuid.bytes, port)


def decode_beacon(data: bytes) -> tuple[UUID, int]:
    """Return the uuid and the port of a beacon.

    Raises:
        ZreMalformed: this is no beacon.
    """
    if len(data) != _BEACON.size or data[:4] != b"ZRE\x01":
        raise ZreMalformed(
            f"a beacon has {_BEACON.size} bytes and begins with ZRE 1, got {data[:4]!r}, {len(data)} bytes"
        )
    _, _, uuid, port = _BEACON.unpack(data)
    return UUID(bytes=uuid), port


def encode_message(message: ZreMessage, sequence: int) -> list[bytes]:
    """Return the frames of a message.

    Raises:
        ZreMalformed: it does not fit into the format: a name above 255 bytes, or more or longer frames than are taken.
    """
    body = b""
    content: tuple[bytes, ...] = ()
    match message:
        case Hello(endpoint, groups, status, name, headers):
            body = _short(endpoint) + _count(groups) + b"".join(map(_long, groups)) + _byte(status) + _short(name)
            body += _count(headers) + b"".join(_short(key) + _long(value) for key, value in headers.items())
        case Whisper(content):
            pass
        case Shout(group, content):
            body = _short(group)
        case Join(group, status) | Leave(group, status):
            body = _short(group) + _byte(status)
    frames = [_HEAD.pack(_SIGNATURE, _KINDS.index(type(message)) + 1, _VERSION, sequence) + body, *content]
    _check_frames(frames)
    return frames


def check_group(group: str) -> None:
    """Make sure that a group can be called so.

    Raises:
        ZreMalformed: the name is longer than 255 bytes.
    """
    encode_message(Join(group, 0), 0)


def decode_message(frames: Sequence[bytes]) -> tuple[int, ZreMessage]:
    """Return the sequence number and the message. Text that is no UTF-8 is taken with replacement characters.

    Raises:
        ZreMalformed: this is no message, or one that is larger than any is.
    """
    if not frames:
        raise ZreMalformed("a message has a frame at least")
    _check_frames(frames)
    read = _Reader(frames[0])
    signature, kind, version, sequence = read.values(_HEAD)
    if signature != _SIGNATURE or version != _VERSION:
        raise ZreMalformed(f"signature {signature:#x}, version {version}: wanted {_SIGNATURE:#x}, version {_VERSION}")
    content = tuple(frames[1:])
    match kind:
        case 1:
            return sequence, _read_hello(read)
        case 2:
            return sequence, Whisper(content)
        case 3:
            return sequence, Shout(read.short(), content)
        case 4:
            return sequence, Join(read.short(), read.byte())
        case 5:
            return sequence, Leave(read.short(), read.byte())
        case 6:
            return sequence, Ping()
        case 7:
            return sequence, PingOk()
    raise ZreMalformed(f"message of the kind {kind}: there are 1 to {len(_KINDS)}")


def _read_hello(read: _Reader) -> Hello:
    endpoint = read.short()
    groups = tuple([read.long() for _ in range(read.count())])
    status, name = read.byte(), read.short()
    headers = {}
    for _ in range(read.count()):
        key = read.short()
        headers[key] = read.long()
    return Hello(endpoint, groups, status, name, headers)


def _check_frames(frames: Sequence[bytes]) -> None:
    longest = max(map(len, frames))
    if len(frames) > 1 + _MAX_CONTENT or longest > MAX_FRAME or len(frames[0]) > _MAX_HEAD:
        raise ZreMalformed(
            f"{len(frames)} frames, the longest of {longest} bytes: wanted at most {1 + _MAX_CONTENT} of {MAX_FRAME}, "
            f"the first of {_MAX_HEAD}"
        )


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def values(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack(self._take(form.size))

    def byte(self) -> int:
        return self._take(1)[0]

    def count(self) -> int:
        count = int.from_bytes(self._take(4), "big")
        if count > _MAX_ENTRIES:
            raise ZreMalformed(f"a list of {count} entries: wanted at most {_MAX_ENTRIES}")
        return count

    def short(self) -> str:
        return self._take(self.byte()).decode(errors="replace")

    def long(self) -> str:
        return self._take(int.from_bytes(self._take(4), "big")).decode(errors="replace")

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise ZreMalformed(f"a message of {len(self._data)} bytes ends where {count} more were announced")
        self._at, start = end, self._at
        return self._data[start:end]


def _byte(value: int) -> bytes:
    return bytes((value & 0xFF,))


def _count(entries: Sequence[str] | Mapping[str, str]) -> bytes:
    if len(entries) > _MAX_ENTRIES:
        raise ZreMalformed(f"a list of {len(entries)} entries: wanted at most {_MAX_ENTRIES}")
    return len(entries).to_bytes(4, "big")


def _short(text: str) -> bytes:
    data = text.encode(errors="replace")
    if len(data) > 255:
        raise ZreMalformed(f"{text[:40]!r} has {len(data)} bytes: wanted at most 255")
    return bytes((len(data),)) + data


def _long(text: str) -> bytes:
    data = text.encode(errors="replace")
    return len(data).to_bytes(4, "big") + data
