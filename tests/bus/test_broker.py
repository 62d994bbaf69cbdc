import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import msgpack
import pytest
import zmq

from gazed_bus.broker import Broker
from gazed_bus.client import Publisher, Pusher, Subscriber
from gazed_bus.errors import BusError, PortInUse
from gazed_bus.rundir import RunDir
from gazed_bus.testing import Bus, await_subscriber, running_bus
from gazed_timesync import PupilClock


@pytest.fixture
def bus() -> Iterator[Bus]:
    with running_bus() as bus:
        yield bus


def ask(bus: Bus, text: bytes) -> bytes:
    with zmq.Context.instance().socket(zmq.REQ) as client:
        client.linger, client.rcvtimeo = 0, 10_000
        client.connect(f"tcp://127.0.0.1:{bus.broker.ports.port}")
        client.send(text)
        return client.recv()


# --- ports ------------------------------------------------------------------------------------------------------------


def test_only_loopback_listens_by_default(bus: Bus) -> None:
    for port in (bus.broker.ports.port, bus.broker.ports.pub_port, bus.broker.ports.sub_port):
        with socket.create_connection(("127.0.0.1", port), 5):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), 5)


def test_one_more_address_is_beside_loopback_and_not_instead(run_dir: RunDir, clock: PupilClock) -> None:
    broker = Broker(run_dir, clock, "0.0.0.0", 0)  # noqa: S104 - loopback is all this machine's test network has
    for host in ("127.0.0.1", "127.0.0.2"):
        with socket.create_connection((host, broker.ports.sub_port), 5):
            pass
    broker.close()


@pytest.mark.parametrize("option", ["port", "pub_port", "sub_port"])
def test_a_taken_port_is_named_with_the_option_that_mends_it(run_dir: RunDir, clock: PupilClock, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {number} on 127.0.0.1 is taken") as caught:
            Broker(run_dir, clock, **{"port": 0, option: number})
    assert f"--{option.replace('_', '-')} N" in caught.value.hint
    assert caught.value.exit_code == 4
    broker = Broker(run_dir, clock, **{"port": 0, option: number})
    assert getattr(broker.ports, option) == number
    broker.close()


@pytest.mark.parametrize(
    ("listen", "port", "text"),
    [
        ("203.0.113.7", 0, "cannot listen on"),
        ("no such host", 0, "cannot listen on"),
        ("127.0.0.1", 70_000, "--port is 70000"),
    ],
)
def test_an_impossible_address_is_refused(
    run_dir: RunDir, clock: PupilClock, listen: str, port: int, text: str
) -> None:
    with pytest.raises(BusError, match=text):
        Broker(run_dir, clock, listen, port)


def test_the_process_announces_its_ports_and_ends_with_its_parent(run_dir: RunDir, clock: PupilClock) -> None:
    def spawn(*arguments: str) -> tuple[subprocess.Popen[bytes], int]:
        reader, writer = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-m", "gazed_bus.broker", *arguments],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[writer],
            env={**os.environ, "GAZED_RUN": str(run_dir.path), "GAZED_STATUS_FD": str(writer)},
        )
        os.close(writer)
        return process, reader

    process, status = spawn("--port", "0")
    with os.fdopen(status) as lines:
        ports = json.loads(lines.readline())["ready"]
        assert "answered" in json.loads(lines.readline())["beat"]
        second, other_status = spawn("--port", str(ports["port"]))
        message = second.communicate(timeout=20)[1].decode()
        os.close(other_status)
        assert second.returncode == 4
        assert f"port {ports['port']}" in message
        process.communicate(timeout=20)
    assert process.returncode == 0


# --- delivery ---------------------------------------------------------------------------------------------------------


def test_delayed_notifications_are_kept_whichever_way_they_come(bus: Bus) -> None:
    with (
        Publisher(bus.run.pub) as publisher,
        Pusher(bus.run.push) as pusher,
        Subscriber(bus.run.sub, ["notify."]) as subscriber,
    ):
        await_subscriber(publisher, "notify.x")
        await_subscriber(publisher, "delayed_notify.x")
        start = time.monotonic()
        pusher.notify({"subject": "pushed", "delay": 0.03})
        publisher.send("delayed_notify.published", {"subject": "published", "delay": 0.04, "__raw_data__": [b"r"]})
        pusher.notify({"subject": "plain", "delay": 0})
        messages = [subscriber.receive(5) for _ in range(3)]
        assert time.monotonic() - start >= 0.04
        assert [message.payload for message in messages if message] == [
            {"subject": "plain", "delay": 0, "topic": "notify.plain"},
            {"subject": "pushed", "topic": "notify.pushed"},
            {"subject": "published", "topic": "notify.published"},
        ]
        assert messages[2] is not None
        assert messages[2].raw == (b"r",)
        assert subscriber.lost == {}


def test_pushed_messages_are_not_dropped_however_fast_they_come(bus: Bus) -> None:
    with Pusher(bus.run.push, hwm=30_000) as pusher, Subscriber(bus.run.sub, ["notify."], hwm=30_000) as subscriber:
        while subscriber.receive(0.02) is None:
            pusher.notify({"subject": "probe"})
        for number in range(20_000):
            pusher.notify({"subject": "n", "n": number})
        numbers = []
        while len(numbers) < 20_000:
            message = subscriber.receive(5)
            assert message is not None
            if message.topic == "notify.n":
                numbers.append(message.payload["n"])
        assert numbers == list(range(20_000))


def test_a_subscriber_that_sleeps_is_bounded_and_only_its_own_loss(bus: Bus) -> None:
    frame = os.urandom(144_000)
    with Publisher(bus.run.pub) as publisher, Subscriber(bus.run.sub, ["frame."]) as awake:
        tcp = f"tcp://127.0.0.1:{bus.broker.ports.sub_port}"
        with Subscriber(tcp, ["frame.world"], hwm=10) as asleep:
            await_subscriber(publisher, "frame.world")
            while asleep.receive_packed(0.01) is None:
                publisher.send("frame.world", {"n": 0, "__raw_data__": [frame]})
                assert awake.receive_packed(5) is not None
            sent, highest, deadline = 0, 0, time.monotonic() + 20
            while not bus.broker.stats()["cut"]:
                assert time.monotonic() < deadline
                publisher.send("frame.world", {"n": sent, "__raw_data__": [frame]})
                assert awake.receive_packed(5) is not None
                sent += 1
                highest = max(highest, bus.broker.stats()["held_bytes"])
                time.sleep(0.002 if bus.broker.stats()["held_bytes"] < 36_000_000 else 0.03)
            assert 36_000_000 < highest < 50_000_000
            got = 0
            while asleep.receive_packed(0.05) is not None:
                got += 1
            while (frames := asleep.receive_packed(0.01)) is None:
                publisher.send("frame.world", {"n": sent, "__raw_data__": [frame]})
                sent += 1
            assert frames[2] == frame
            assert sum(asleep.lost.values()) > 0
            assert awake.lost == {}
            while bus.broker.stats()["held_bytes"] > 10_000_000:
                assert time.monotonic() < deadline
                time.sleep(0.01)


# --- hostile ----------------------------------------------------------------------------------------------------------


def junk(rng: random.Random) -> list[bytes]:
    pieces = [
        b"",
        b"\x00",
        b"\x01",
        b"\xff\xfe",
        b"delayed_notify.x",
        b"notify.meta.should_doc",
        b"gazed.status",
        b"notify.recording.started",
        b"notify.annotation.recorded",
        b"logging.info",
        rng.randbytes(rng.randrange(300)),
        msgpack.packb({1: {2: 3}}),
        msgpack.packb({"subject": "x", "delay": rng.choice([1e-3, -1, "1", None, 1e300, float("nan")])}),
        msgpack.packb({"subject": rng.randbytes(3), "delay": 0.001}),
        msgpack.packb([1, 2, 3]),
        msgpack.packb({"request": [1], "label": {"x": 1}, "timestamp": b"z"}),
        b"\xdf\xff\xff\xff\xff",
        b"\xc1",
        b"\x91" * 3000,
        b"\xde\x00\x00\xa3seq\xcf\x00\x00\x00\x01\x00\x00\x00\x00",
        b'{"request": "status"',
        b'{"request": "annotate", "label": "x", "extra": {"a": 1e400}}',
    ]
    return [rng.choice(pieces) for _ in range(rng.randrange(1, 6))]


def test_ten_thousand_malformed_messages_on_every_door(bus: Bus) -> None:
    rng = random.Random(5)
    ports = bus.broker.ports
    doors = [
        (zmq.DEALER, f"tcp://127.0.0.1:{ports.port}"),
        (zmq.REQ, f"tcp://127.0.0.1:{ports.port}"),
        (zmq.PUB, f"tcp://127.0.0.1:{ports.pub_port}"),
        (zmq.XPUB, bus.run.pub),
        (zmq.XSUB, f"tcp://127.0.0.1:{ports.sub_port}"),
        (zmq.PUSH, bus.run.push),
    ]
    context = zmq.Context.instance()
    sockets = [context.socket(kind) for kind, _ in doors]
    with Subscriber(bus.run.sub, [""]) as witness:
        for sock, (kind, endpoint) in zip(sockets, doors, strict=True):
            sock.linger = 0
            if kind == zmq.REQ:
                sock.setsockopt(zmq.REQ_RELAXED, 1)
            sock.connect(endpoint)
        for _ in range(10_000 // len(sockets) + 1):
            for sock in sockets:
                try:
                    sock.send_multipart(junk(rng), zmq.NOBLOCK)
                except zmq.Again:
                    continue
            witness.receive(0)
        assert float(ask(bus, b"t")) > 0
        bus.broker.check()
        with Pusher(bus.run.push) as pusher:
            pusher.notify({"subject": "still.alive"})
            message = witness.receive(5)
            while message is not None and message.topic != "notify.still.alive":
                message = witness.receive(5)
            assert message is not None
        assert witness.undecodable > 100
    for sock in sockets:
        sock.close()


def test_a_subscription_behind_another_frame_does_not_end_the_proxy(bus: Bus) -> None:
    with zmq.Context.instance().socket(zmq.XSUB) as peer, Publisher(bus.run.pub) as publisher:
        peer.linger = 0
        peer.connect(f"tcp://127.0.0.1:{bus.broker.ports.sub_port}")
        for _ in range(50):
            peer.send_multipart([b"\x02", b"\x01twice"])
            peer.send_multipart([b"\x01first", b"\x02", b"\x01first"])
        with Subscriber(bus.run.sub, ["end"]) as other:
            await_subscriber(publisher, "end")
            publisher.send("end", {"n": 1})
            assert other.receive(5) is not None
    bus.broker.check()


@pytest.mark.parametrize("port_name", ["port", "pub_port", "sub_port"])
def test_bytes_that_are_no_zeromq_close_only_their_own_connection(bus: Bus, port_name: str) -> None:
    rng = random.Random(6)
    hellos = [b"GET / HTTP/1.1\r\n\r\n", rng.randbytes(500), b"\xff" + bytes(8) + b"\x7f\x03" + bytes(53), b"\x00", b""]
    for hello in hellos:
        with socket.create_connection(("127.0.0.1", getattr(bus.broker.ports, port_name)), 5) as peer:
            peer.sendall(hello)
    assert float(ask(bus, b"t")) > 0
    bus.broker.check()


def test_a_message_above_the_limit_costs_its_sender_the_connection(bus: Bus) -> None:
    with zmq.Context.instance().socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(f"tcp://127.0.0.1:{bus.broker.ports.port}")
        monitor = client.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        client.send_multipart([b"", bytes(33 << 20)])
        assert monitor.poll(10_000)
        client.disable_monitor()
        monitor.close()
    assert float(ask(bus, b"t")) > 0
