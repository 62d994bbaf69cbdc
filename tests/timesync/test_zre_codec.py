"""ZRE messages: what goes in comes out, and what is no message is refused."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_timesync.errors import ZreMalformed
from gazed_timesync.zre.codec import (
    Hello,
    Join,
    Leave,
    Ping,
    PingOk,
    Shout,
    Whisper,
    decode_beacon,
    decode_message,
    encode_beacon,
    encode_message,
)

names = st.text(max_size=60)
texts = st.text(max_size=300)
content = st.lists(st.binary(max_size=100), max_size=8).map(tuple)
status = st.integers(0, 255)
messages = st.one_of(
    st.builds(
        Hello,
        names,
        st.lists(texts, max_size=6).map(tuple),
        status,
        names,
        st.dictionaries(names, texts, max_size=6),
    ),
    st.builds(Whisper, content),
    st.builds(Shout, names, content),
    st.builds(Join, names, status),
    st.builds(Leave, names, status),
    st.just(Ping()),
    st.just(PingOk()),
)


@given(messages, st.integers(0, 65535))
def test_a_message_comes_back_as_it_was(message, sequence):
    assert decode_message(encode_message(message, sequence)) == (sequence, message)


@given(st.uuids(), st.integers(0, 65535))
def test_a_beacon_comes_back_as_it_was(uuid, port):
    assert decode_beacon(encode_beacon(uuid, port)) == (uuid, port)


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_random_frames_are_refused(frames):
    with pytest.raises(ZreMalformed):
        decode_message(frames)


@given(messages, st.data())
def test_a_cut_message_is_refused_or_another_message(message, data):
    head, *rest = encode_message(message, 1)
    cut = data.draw(st.integers(0, len(head) - 1))
    try:
        sequence, other = decode_message([head[:cut], *rest])
    except ZreMalformed:
        return
    assert sequence == 1
    assert type(other) is type(message)


@given(st.binary(max_size=40))
def test_random_datagrams_are_no_beacons(data):
    with pytest.raises(ZreMalformed):
        decode_beacon(data)


def test_bytes_as_pupil_capture_sends_them():
    head = bytes.fromhex("aaa101020001") + b"\x15tcp://10.77.0.2:35877" + bytes.fromhex("0000000100000014")
    head += b"default-time_sync-v1" + b"\x01\x04Capt" + bytes(4)
    hello = Hello("tcp://10.77.0.2:35877", ("default-time_sync-v1",), 1, "Capt", {})
    assert decode_message([head]) == (1, hello)
    assert encode_message(hello, 1) == [head]
    beacon = bytes.fromhex("5a524501dc50b800555f48d698c9e235274d73608c25")
    assert decode_beacon(beacon) == (UUID("dc50b800555f48d698c9e235274d7360"), 35877)


def test_a_name_that_its_sender_cut_within_a_letter_is_taken():
    whole, *_ = encode_message(Hello("tcp://1.2.3.4:5", (), 0, "", {}), 1)
    cut = "aü".encode()[:2]
    assert decode_message([whole[:-5] + b"\x02" + cut + bytes(4)])[1].name == "a\ufffd"


@pytest.mark.parametrize(
    "message",
    [
        Join("g" * 256, 0),
        Whisper((bytes(1 << 18), b"", bytes((1 << 18) + 1))),
        Whisper((b"",) * 17),
        Hello("", ("g",) * 257),
        Hello("", ("g" * 70_000,)),
    ],
)
def test_what_is_too_large_is_not_sent(message):
    with pytest.raises(ZreMalformed):
        encode_message(message, 1)


def test_a_list_that_claims_to_be_endless_is_refused():
    head = bytes.fromhex("aaa101020001") + b"\x00" + b"\xff\xff\xff\xff"
    with pytest.raises(ZreMalformed, match="4294967295"):
        decode_message([head])
