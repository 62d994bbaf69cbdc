import math
import threading
from collections.abc import Iterator

import msgpack
import pytest
import zmq

from gazed_bus.client import Publisher, Subscriber
from gazed_bus.pupil_remote import PUPIL_VERSION
from gazed_bus.testing import Bus, await_subscriber, running_bus


@pytest.fixture
def bus() -> Iterator[Bus]:
    with running_bus() as bus:
        yield bus


@pytest.fixture
def client(bus: Bus) -> Iterator[zmq.Socket[bytes]]:
    with connect(bus, zmq.REQ) as socket:
        yield socket


def connect(bus: Bus, kind: int) -> zmq.Socket[bytes]:
    socket = zmq.Context.instance().socket(kind)
    socket.linger = 0
    socket.rcvtimeo = 10_000
    socket.connect(f"tcp://127.0.0.1:{bus.broker.ports.port}")
    return socket


def ask(client: zmq.Socket[bytes], *frames: bytes) -> bytes:
    client.send_multipart(frames)
    (reply,) = client.recv_multipart()
    return reply


@pytest.mark.parametrize(
    ("request_text", "reply"),
    [
        (b"R", b"OK"),
        (b"R my name/1", b"OK"),
        (b"Rfoo", b"OK"),
        (b"r", b"OK"),
        (b"recover", b"OK"),
        (b"C", b"OK"),
        (b"c", b"OK"),
        (b"C ", b"Unknown command."),
        (b"calibrate", b"Unknown command."),
        (b"T 100.5", b"Timesync successful."),
        (b"T 0.0", b"Timesync successful."),
        (b"T 1795181716.94377637", b"Timesync successful."),
        (b"T  1_0 ", b"Timesync successful."),
        (b"T", b"'' cannot be converted to float."),
        (b"T5", b"'' cannot be converted to float."),
        (b"T abc", b"'abc' cannot be converted to float."),
        (b"Timesync", b"'mesync' cannot be converted to float."),
        (b"T nan", b"'nan' cannot be converted to float."),
        (b"T inf", b"'inf' cannot be converted to float."),
        (b"T -inf", b"'-inf' cannot be converted to float."),
        (b"T 1e300", b"'1e300' cannot be converted to float."),
        (b"v", PUPIL_VERSION.encode()),
        (b"version", PUPIL_VERSION.encode()),
        (b"", b"Unknown command."),
        (b" ", b"Unknown command."),
        (b"\xff\xfe", b"Unknown command."),
        (b"t\xff", b"Unknown command."),
        (b"\x00", b"Unknown command."),
        (b"SUB_PORT ", b"Unknown command."),
        (b"sub_port", b"Unknown command."),
        (b"PUB", b"Unknown command."),
        (b"LAST_DATA", b"Unknown command."),
        (b"t" * 20_000, b"Unknown command."),
        (b"R" * 10_000_000, b"Unknown command."),
        ("ü".encode(), b"Unknown command."),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_reply(client: zmq.Socket[bytes], request_text: bytes, reply: bytes) -> None:
    assert ask(client, request_text) == reply


def test_ports_time_and_version(bus: Bus, client: zmq.Socket[bytes]) -> None:
    assert ask(client, b"SUB_PORT") == str(bus.broker.ports.sub_port).encode()
    assert ask(client, b"PUB_PORT") == str(bus.broker.ports.pub_port).encode()
    before, text, after = bus.clock.now(), ask(client, b"t"), bus.clock.now()
    assert before <= float(text) <= after
    assert repr(float(text)).encode() == text
    assert float(ask(client, b"time please")) >= after
    assert [int(part) for part in PUPIL_VERSION.split(".")] >= [3, 0, 0]


def test_set_time_moves_the_clock_unless_a_recording_holds_it(bus: Bus, client: zmq.Socket[bytes]) -> None:
    assert ask(client, b"T 100.5") == b"Timesync successful."
    assert 100.5 <= float(ask(client, b"t")) < 110
    bus.clock.hold()
    assert ask(client, b"T 5") == b"Time cannot be set during a recording."
    assert 100.5 <= float(ask(client, b"t")) < 110
    assert ask(client, b"T x") == b"'x' cannot be converted to float."
    bus.clock.release()
    assert ask(client, b"T 5") == b"Timesync successful."
    assert bus.clock.steps == 2


def test_a_recording_that_was_asked_for_keeps_its_time(bus: Bus, client: zmq.Socket[bytes]) -> None:
    """The recorder holds the clock some milliseconds later, and what is set meanwhile would stay wrong to its end."""
    assert ask(client, b"R first") == b"OK"
    assert ask(client, b"T 5") == b"Time cannot be set during a recording."
    assert ask(client, b"r") == b"OK"
    assert ask(client, b"T 5") == b"Timesync successful."
    assert bus.clock.steps == 1


def test_who_listens_hears_that_the_time_was_set(bus: Bus, client: zmq.Socket[bytes]) -> None:
    with Subscriber(bus.run.sub, ["notify.timesync.stepped"]) as subscriber:
        publisher = Publisher(bus.run.pub)
        await_subscriber(publisher, "notify.timesync.stepped")
        publisher.close()
        before = bus.clock.now()
        ask(client, b"T 100.5")
        message = subscriber.receive(5)
    assert message is not None
    assert message.payload["cause"] == "remote"
    assert message.payload["timestamp"] == 100.5
    assert message.payload["size_s"] == pytest.approx(100.5 - before, abs=5)


@pytest.mark.parametrize(
    ("request_text", "notification"),
    [
        (b"R", {"subject": "recording.should_start", "session_name": ""}),
        (b"R a name/with more", {"subject": "recording.should_start", "session_name": "a name/with more"}),
        (b"r", {"subject": "recording.should_stop"}),
        (b"C", {"subject": "calibration.should_start"}),
        (b"c", {"subject": "calibration.should_stop"}),
    ],
)
def test_commands_become_notifications(
    bus: Bus, client: zmq.Socket[bytes], request_text: bytes, notification: dict[str, str]
) -> None:
    with Subscriber(bus.run.sub, ["notify."]) as subscriber:
        await_heard(client, subscriber)
        assert ask(client, request_text) == b"OK"
        message = subscriber.receive(5)
        assert message is not None
        topic = f"notify.{notification['subject']}"
        assert (message.topic, message.payload) == (topic, {**notification, "topic": topic})


def test_several_frames_are_forwarded_as_they_are(bus: Bus, client: zmq.Socket[bytes]) -> None:
    packed = msgpack.packb({"topic": "annotation", "label": "x"})
    with Subscriber(bus.run.sub, [""]) as subscriber:
        await_heard(client, subscriber)
        for frames in ([b"annotation", packed], [b"any", b"thing", b"", b"\xff" * 10], [b"big", bytes(10_000_000)]):
            assert ask(client, *frames) == b"Message forwarded."
            assert subscriber.receive_packed(5) == frames


def test_meta_should_doc_is_answered(bus: Bus, client: zmq.Socket[bytes]) -> None:
    with Subscriber(bus.run.sub, ["notify.meta.doc"]) as subscriber:
        notification = {"topic": "notify.meta.should_doc", "subject": "meta.should_doc"}
        # The answer comes a little later on purpose: this subscription is still on its way.
        assert ask(client, b"notify.meta.should_doc", msgpack.packb(notification)) == b"Message forwarded."
        message = subscriber.receive(5)
        assert message is not None
        assert message.payload["actor"] == "pupil_remote"
        assert "Pupil Remote" in message.payload["doc"]


def await_heard(client: zmq.Socket[bytes], subscriber: Subscriber) -> None:
    """Wait until the subscription works."""
    probe = msgpack.packb({"subject": "probe"})
    while ask(client, b"notify.probe", probe) and subscriber.receive(0.02) is None:
        pass
    while subscriber.receive(0.02) is not None:
        pass


# --- hostile and busy -------------------------------------------------------------------------------------------------


def test_a_hundred_clients_at_once(bus: Bus) -> None:
    clients = [connect(bus, zmq.REQ) for _ in range(100)]
    try:
        for _ in range(5):
            for client in clients:
                client.send(b"t")
            times = [float(client.recv()) for client in clients]
            assert all(math.isfinite(moment) for moment in times)
    finally:
        for client in clients:
            client.close()


def test_the_time_is_answered_while_others_are_a_burden(bus: Bus, client: zmq.Socket[bytes]) -> None:
    ended = threading.Event()

    def burden() -> None:
        with connect(bus, zmq.DEALER) as other:
            while not ended.is_set():
                other.send_multipart([b"", b"x" * 10_000_000])
                other.send_multipart([b"", b"frame", b"x" * 1_000_000])
                other.send_multipart([b"", b'{"request": "stop"}'])
                other.send_multipart([b"", b'{"a":' * 3000])
                for _ in range(3):
                    other.recv_multipart()

    thread = threading.Thread(target=burden)
    thread.start()
    try:
        # A server that waits for the recorder or for a slow peer would let this client's patience run out.
        for _ in range(50):
            assert math.isfinite(float(ask(client, b"t")))
    finally:
        ended.set()
        thread.join()


def test_malformed_envelopes_are_dropped_and_nobody_else_suffers(bus: Bus, client: zmq.Socket[bytes]) -> None:
    with connect(bus, zmq.DEALER) as dealer:
        for frames in ([b"t"], [b"a", b"b"], [b"x"] * 40, [b"x"] * 40 + [b"", b"t"]):
            dealer.send_multipart(frames)
        dealer.send_multipart([b"", b"t"])
        assert math.isfinite(float(dealer.recv_multipart()[1]))
        dealer.send_multipart([b"request id", b"another hop", b"", b"v"])
        assert dealer.recv_multipart() == [b"request id", b"another hop", b"", PUPIL_VERSION.encode()]
        dealer.send_multipart([b""])
        assert dealer.recv_multipart() == [b"", b"Unknown command."]
    assert bus.broker.stats()["malformed"] == 4
    assert math.isfinite(float(ask(client, b"t")))


def test_a_client_that_does_not_listen_is_no_burden(bus: Bus, client: zmq.Socket[bytes]) -> None:
    with connect(bus, zmq.DEALER) as deaf:
        deaf.rcvhwm = 1
        for _ in range(30_000):
            try:
                deaf.send_multipart([b"", b"T " + b"x" * 1000], zmq.NOBLOCK)
            except zmq.Again:
                break
        assert math.isfinite(float(ask(client, b"t")))
