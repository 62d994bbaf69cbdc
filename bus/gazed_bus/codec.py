"""Pupil's wire format: ``topic | msgpack map | raw frames …``.

The map repeats the topic under ``topic``. Extra frames travel as ``__raw_data__`` inside a payload dict, as Pupil's
own tools have it. A gazed publisher ends each map with ``seq``, one integer below 2**53: the publisher's number
(21 bits, never 0) and a counter per topic (32 bits). It stands last and has a fixed width, so that a subscriber sees a
loss without decoding anything, and the recorder can take it off again.

Source of the format: Pupil Core's ``zmq_tools`` as documented for its network interface.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from gazed_bus.errors import MessageError

__all__ = [
    "Message",
    "Raw",
    "add_sequence",
    "decode",
    "encode",
    "notification_topic",
    "read_sequence",
    "strip_sequence",
]

_KEY = b"\xa3seq\xcf"
_TAIL = len(_KEY) + 8
_COUNTER_BITS = 32
_LIMIT = 1 << 53
Raw = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Message:
    """A decoded message: its topic, its map, and the raw frames behind it."""

    topic: str
    payload: dict[str, Any]
    raw: tuple[bytes, ...] = ()


def encode(topic: str, payload: Mapping[str, Any]) -> list[Raw]:
    """Return the frames of a message; ``__raw_data__`` in ``payload`` becomes extra frames.

    Raises:
        MessageError: the payload holds something msgpack cannot carry, a key (at any depth) that is no string, or
            extra frames that are no bytes.
    """
    body = dict(payload)
    raw: Sequence[Raw] = body.pop("__raw_data__", ())
    body["topic"] = topic
    try:
        _check_keys(body)
        packed: bytes = msgpack.packb(body)
        return [topic.encode(), packed, *(part if isinstance(part, bytes) else memoryview(part) for part in raw)]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MessageError(f"message {topic!r} cannot be packed: {error}") from error


def _check_keys(mapping: Mapping[Any, Any]) -> None:
    # Pupil's receivers refuse a whole message for one integer key, however deep.
    for key in mapping:
        if not isinstance(key, str):
            raise TypeError(f"map keys must be strings, got {key!r}")
    _check_items(mapping.values())


def _check_items(items: Iterable[Any]) -> None:
    for item in items:
        # Exact types: this runs for every datum, and msgpack's answer to a subclass is the same.
        kind = type(item)
        if kind is dict:
            _check_keys(item)
        elif kind is list or kind is tuple:
            _check_items(item)


def decode(frames: Sequence[Raw]) -> Message:
    """Decode the frames of a message.

    Raises:
        MessageError: fewer than two frames, a topic that is not UTF-8, a body that is no msgpack map with string keys.
    """
    if len(frames) < 2:
        raise MessageError(f"a message has a topic and a map, got {len(frames)} frame(s)")
    try:
        topic = str(frames[0], "utf-8")
        payload = msgpack.unpackb(frames[1])
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise MessageError(f"unreadable message of {len(frames)} frames: {error}") from error
    if not isinstance(payload, dict) or not all(isinstance(key, str) for key in payload):
        raise MessageError(f"message {topic!r}: the body is no map with string keys")
    return Message(topic, payload, tuple(bytes(frame) for frame in frames[2:]))


def notification_topic(notification: Mapping[str, Any]) -> str:
    """Return the topic under which Pupil sends a notification: plain, delayed or remote.

    Raises:
        MessageError: ``subject`` is missing, empty or no string.
    """
    subject = notification.get("subject")
    if not isinstance(subject, str) or not subject:
        raise MessageError("a notification needs a subject: a string that is not empty")
    if notification.get("remote_notify"):
        return f"remote_notify.{subject}"
    return f"delayed_notify.{subject}" if notification.get("delay") else f"notify.{subject}"


def add_sequence(packed: bytes, publisher: int, counter: int) -> bytes:
    """Append ``seq`` to a packed map; ``publisher`` is 1 … 2**21 - 1, ``counter`` wraps at 2**32.

    Raises:
        MessageError: ``packed`` is no map, or one too large to grow.
    """
    head = packed[0] if packed else 0
    tail = _KEY + (publisher << _COUNTER_BITS | counter & 0xFFFFFFFF).to_bytes(8, "big")
    if 0x80 <= head < 0x8F:
        return bytes((head + 1,)) + packed[1:] + tail
    if head == 0x8F:
        return b"\xde\x00\x10" + packed[1:] + tail
    if head == 0xDE and packed[1:3] != b"\xff\xff":
        return b"\xde" + (int.from_bytes(packed[1:3], "big") + 1).to_bytes(2, "big") + packed[3:] + tail
    raise MessageError("only a map of fewer than 65535 entries can be published")


def read_sequence(packed: Raw) -> tuple[int, int] | None:
    """Return (publisher, counter) of a packed map, or ``None`` where it has no ``seq`` of ours."""
    if len(packed) <= _TAIL or packed[-_TAIL:-8] != _KEY:
        return None
    value = int.from_bytes(packed[-8:], "big")
    # A publisher's number is never 0: msgpack itself would write a smaller value in fewer bytes.
    if not 1 << _COUNTER_BITS <= value < _LIMIT:
        return None
    return value >> _COUNTER_BITS, value & 0xFFFFFFFF


def strip_sequence(packed: bytes) -> bytes:
    """Return a packed map as it was before ``add_sequence``; one without ``seq`` comes back unchanged."""
    if read_sequence(packed) is None:
        return packed
    head = packed[0]
    if 0x81 <= head <= 0x8F:
        return bytes((head - 1,)) + packed[1:-_TAIL]
    if head == 0xDE and (count := int.from_bytes(packed[1:3], "big")):
        opening = b"\x8f" if count == 16 else b"\xde" + (count - 1).to_bytes(2, "big")
        return opening + packed[3:-_TAIL]
    return packed
