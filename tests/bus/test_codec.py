from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_bus.codec import (
    Message,
    add_sequence,
    decode,
    encode,
    notification_topic,
    read_sequence,
    strip_sequence,
)
from gazed_bus.errors import MessageError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PAYLOADS = st.dictionaries(st.text(max_size=8).filter(lambda key: key != "__raw_data__"), VALUES, max_size=40)
GOLDEN = (
    "86a5746f706963ab6672616d652e776f726c64a5776964746802a668656967687401a5696e64657807"
    "a974696d657374616d70cb3ff0000000000000a6666f726d6174a467726179"
)
PUBLISHERS = st.integers(1, 2**21 - 1)


def test_golden_frame_message() -> None:
    payload = {
        "topic": "frame.world",
        "width": 2,
        "height": 1,
        "index": 7,
        "timestamp": 1.0,
        "format": "gray",
        "__raw_data__": [b"\x01\x02"],
    }
    frames = encode("frame.world", payload)
    assert [bytes(frame).hex() for frame in frames] == [
        b"frame.world".hex(),
        GOLDEN,
        "0102",
    ]


@given(PAYLOADS, st.lists(st.binary(max_size=20), max_size=3))
def test_what_is_encoded_can_be_decoded(payload: dict[str, Any], raw: list[bytes]) -> None:
    frames = encode("any.topic", {**payload, "__raw_data__": raw})
    assert decode(frames) == Message("any.topic", {**payload, "topic": "any.topic"}, tuple(raw))


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_decode_only_ever_raises_message_error(frames: list[bytes]) -> None:
    try:
        message = decode(frames)
    except MessageError:
        return
    assert all(isinstance(key, str) for key in message.payload)


@pytest.mark.parametrize(
    "payload",
    [{1: 2}, {"a": {1: 2}}, {"a": [{"b": ({3: 4},)}]}, {"a": object()}, {"a": 2**70}, {"a": "\ud800"}, {b"a": 1}],
)
def test_encode_refuses_what_others_could_not_read(payload: dict[Any, Any]) -> None:
    with pytest.raises(MessageError, match=r"'some\.topic'"):
        encode("some.topic", payload)


def test_encode_refuses_endless_nesting() -> None:
    payload: dict[str, Any] = {}
    payload["self"] = payload
    with pytest.raises(MessageError):
        encode("x", payload)


@pytest.mark.parametrize(
    ("notification", "topic"),
    [
        ({"subject": "a.b"}, "notify.a.b"),
        ({"subject": "a", "delay": 0}, "notify.a"),
        ({"subject": "a", "delay": 0.5}, "delayed_notify.a"),
        ({"subject": "a", "delay": 0.5, "remote_notify": "all"}, "remote_notify.a"),
        ({"subject": "a", "remote_notify": ""}, "notify.a"),
    ],
)
def test_notification_topics(notification: dict[str, Any], topic: str) -> None:
    assert notification_topic(notification) == topic


@pytest.mark.parametrize("notification", [{}, {"subject": ""}, {"subject": 5}, {"subject": None}])
def test_a_notification_needs_a_subject(notification: dict[str, Any]) -> None:
    with pytest.raises(MessageError, match="subject"):
        notification_topic(notification)


# --- seq --------------------------------------------------------------------------------------------------------------


@given(PAYLOADS, PUBLISHERS, st.integers(0, 2**32 - 1))
def test_seq_is_added_read_and_taken_off_without_a_trace(payload: dict[str, Any], publisher: int, counter: int) -> None:
    packed = msgpack.packb(payload)
    numbered = add_sequence(packed, publisher, counter)
    assert read_sequence(numbered) == (publisher, counter)
    assert strip_sequence(numbered) == packed


@given(st.integers(0, 20), PUBLISHERS)
def test_a_numbered_map_is_what_msgpack_would_write(size: int, publisher: int) -> None:
    payload = {f"key{number}": number for number in range(size)}
    numbered = add_sequence(msgpack.packb(payload), publisher, 5)
    assert numbered == msgpack.packb({**payload, "seq": publisher << 32 | 5})
    assert publisher << 32 | 5 < 2**53


def test_seq_of_a_map_too_large_to_grow_is_refused() -> None:
    assert read_sequence(add_sequence(msgpack.packb({str(key): 0 for key in range(65534)}), 1, 0)) == (1, 0)
    with pytest.raises(MessageError):
        add_sequence(msgpack.packb({str(key): 0 for key in range(65535)}), 1, 0)


@pytest.mark.parametrize("packed", [b"", b"\x90", b"\xc0", msgpack.packb("text")])
def test_only_maps_get_a_seq(packed: bytes) -> None:
    with pytest.raises(MessageError):
        add_sequence(packed, 1, 0)


@given(st.binary(max_size=80) | st.binary(max_size=40).map(lambda head: head + b"\xa3seq\xcf" + bytes(range(8))))
def test_reading_and_stripping_survive_garbage(packed: bytes) -> None:
    read_sequence(packed)
    assert len(strip_sequence(packed)) <= len(packed)


@pytest.mark.parametrize("value", [0, 7, 2**32 - 1, 2**53, 2**64 - 1, "text", 1.5])
def test_a_seq_of_somebody_else_is_left_alone(value: object) -> None:
    packed = msgpack.packb({"seq": value})
    assert read_sequence(packed) is None
    assert strip_sequence(packed) == packed
