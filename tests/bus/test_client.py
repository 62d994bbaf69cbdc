import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
import zmq

from gazed_bus.client import Publisher, Pusher, Subscriber
from gazed_bus.codec import read_sequence
from gazed_bus.errors import MessageError, NotDelivered
from gazed_bus.rundir import RunDir
from gazed_bus.testing import Bus, await_subscriber, running_bus

BROKER = """
import sys
from pathlib import Path
from gazed_bus.broker import Broker
from gazed_bus.rundir import RunDir
from gazed_timesync import PupilClock
run = RunDir(Path(sys.argv[1]))
broker = Broker(run, PupilClock(run.clock), port=0)
broker.start()
print("ready", flush=True)
sys.stdin.read()
broker.close()
"""


@pytest.fixture
def bus() -> Iterator[Bus]:
    with running_bus() as bus:
        yield bus


def received(subscriber: Subscriber, count: int) -> list[int]:
    values = []
    for _ in range(count):
        message = subscriber.receive(5)
        assert message is not None
        values.append(message.payload["n"])
    return values


def test_a_message_arrives_as_it_was_sent(bus: Bus) -> None:
    with Publisher(bus.run.pub) as publisher, Subscriber(bus.run.sub, ["frame."]) as subscriber:
        await_subscriber(publisher, "frame.world")
        publisher.send("frame.world", {"width": 2, "__raw_data__": [b"ab", memoryview(b"cd")]})
        message = subscriber.receive(5)
        assert message is not None
        assert message.topic == "frame.world"
        assert message.payload == {"width": 2, "topic": "frame.world"}
        assert message.raw == (b"ab", b"cd")
        assert subscriber.receive(0.01) is None


def test_packed_messages_keep_their_bytes_but_for_seq(bus: Bus) -> None:
    packed = msgpack.packb({"topic": "pupil.0.3d", "id": 0})
    with Publisher(bus.run.pub) as publisher, Subscriber(bus.run.sub, ["pupil."]) as subscriber:
        await_subscriber(publisher, "pupil.0.3d")
        publisher.send_packed(b"pupil.0.3d", packed, [b"raw"])
        frames = subscriber.receive_packed(5)
        assert frames is not None
        assert frames[::2] == [b"pupil.0.3d", b"raw"]
        assert {**msgpack.unpackb(packed), "seq": 0} == {**msgpack.unpackb(frames[1]), "seq": 0}
        with pytest.raises(MessageError):
            publisher.send_packed("x", b"\x01")


def test_has_subscribers_follows_subscriptions(bus: Bus) -> None:
    with Publisher(bus.run.pub) as publisher, Subscriber(bus.run.sub, []) as subscriber:
        assert not publisher.has_subscribers("frame.world")
        subscriber.subscribe("frame.")
        await_subscriber(publisher, "frame.world")
        assert not publisher.has_subscribers("fram")
        subscriber.unsubscribe("frame.")
        subscriber.unsubscribe("never subscribed")
        await_subscriber(publisher, "frame.world", present=False)
        subscriber.subscribe("")
        await_subscriber(publisher, "frame.world")


def test_junk_from_subscribers_neither_makes_nor_hides_one(bus: Bus) -> None:
    context = zmq.Context.instance()
    with Publisher(bus.run.pub) as publisher, context.socket(zmq.XSUB) as junk:
        junk.linger = 0
        junk.connect(f"tcp://127.0.0.1:{bus.broker.ports.sub_port}")
        for frames in ([b""], [b"\x02frame."], [b"hello", b"frame."], [b"\xff" * 1000], [b"", b"", b""]):
            junk.send_multipart(frames)
        junk.send(b"\x01real")
        await_subscriber(publisher, "real.topic")
        assert not publisher.has_subscribers("frame.world")
        junk.send(b"\x00real")
        await_subscriber(publisher, "real.topic", present=False)


def test_several_publishers_of_a_topic_are_no_loss(bus: Bus) -> None:
    with (
        Publisher(bus.run.pub) as first,
        Publisher(bus.run.pub) as second,
        Subscriber(bus.run.sub, ["t"]) as subscriber,
    ):
        await_subscriber(first, "t")
        await_subscriber(second, "t")
        for number in range(50):
            first.send("t", {"n": number})
            second.send("t", {"n": number})
        assert sorted(received(subscriber, 100)) == sorted([*range(50), *range(50)])
        with Publisher(bus.run.pub) as restarted:
            await_subscriber(restarted, "t")
            restarted.send("t", {"n": 1})
            assert received(subscriber, 1) == [1]
        assert subscriber.lost == {}


def test_every_message_dropped_on_the_way_is_counted(bus: Bus) -> None:
    total = 50_000
    packed = msgpack.packb({"n": 0, "x": "y" * 1000})
    with Publisher(bus.run.pub) as publisher, Subscriber(bus.run.sub, ["t"], hwm=10) as subscriber:
        await_subscriber(publisher, "t")
        publisher.send_packed("t", packed)
        assert received(subscriber, 1) == [0]
        for _ in range(total):
            publisher.send_packed("t", packed)
        count = 0
        while subscriber.receive_packed(0.2) is not None:
            count += 1
        publisher.send_packed("t", packed)
        assert subscriber.receive(5) is not None
        assert 0 < count < total
        assert subscriber.lost == {"t": total - count}


def test_what_was_unsubscribed_is_not_lost(bus: Bus) -> None:
    with Publisher(bus.run.pub) as publisher, Subscriber(bus.run.sub, ["a"]) as subscriber:
        await_subscriber(publisher, "a")
        publisher.send("a", {"n": 0})
        assert received(subscriber, 1) == [0]
        subscriber.unsubscribe("a")
        await_subscriber(publisher, "a", present=False)
        publisher.send("a", {"n": 1})
        subscriber.subscribe("a")
        await_subscriber(publisher, "a")
        publisher.send("a", {"n": 2})
        assert received(subscriber, 1) == [2]
        assert subscriber.lost == {}


def test_garbage_is_counted_and_skipped(bus: Bus) -> None:
    with Publisher(bus.run.pub) as publisher, Subscriber(bus.run.sub, [""]) as subscriber:
        await_subscriber(publisher, "x")
        garbage = [
            [b"alone"],
            [b""],
            [b"", b""],
            [b"t", b"\xc1"],
            [b"t", msgpack.packb({1: 2})],
            [b"t", msgpack.packb({"a": {1: 2}})],
            [b"\xff\xfe", msgpack.packb({})],
            [b"t", b"\x91" * 5000],
            [b"t", msgpack.packb([1])],
            [b"t", msgpack.packb({"a": 1})[:-1]],
            [b"t", b"\x80\xa3seq\xcf\x00\x00\x00\x01\x00\x00\x00\x00"],
        ]
        with Pusher(bus.run.push) as pusher:
            for frames in garbage:
                pusher.forward(frames)
            pusher.send("t", {"n": 5})
            assert received(subscriber, 1) == [5]
        assert subscriber.undecodable == len(garbage)


def test_latest_hands_out_the_newest_of_each_topic(bus: Bus) -> None:
    with Publisher(bus.run.pub) as publisher, Subscriber(bus.run.sub, ["t"], latest=True, hwm=1000) as subscriber:
        await_subscriber(publisher, "t")
        for number in range(100):
            publisher.send("t.fast", {"n": number})
            if number % 10 == 0:
                publisher.send("t.slow", {"n": number})
        newest: dict[str, int] = {}
        seen = 0
        while newest.get("t.fast") != 99 or newest.get("t.slow") != 90:
            message = subscriber.receive(5)
            assert message is not None
            assert message.payload["n"] > newest.get(message.topic, -1)
            newest[message.topic] = message.payload["n"]
            seen += 1
        assert seen + sum(subscriber.skipped.values()) == 110
        assert subscriber.lost == {}
        assert subscriber.receive(0) is None


def test_latest_gives_every_topic_its_turn(bus: Bus) -> None:
    with Publisher(bus.run.pub) as publisher, Subscriber(bus.run.sub, ["t"], latest=True, hwm=1000) as subscriber:
        await_subscriber(publisher, "t")
        served = []
        for number in range(10):
            for topic in ("t.0", "t.1", "t.2", "t.2"):
                publisher.send(topic, {"n": number})
            assert subscriber.socket.poll(5000)
            message = subscriber.receive(5)
            assert message is not None
            served.append(message.topic)
        assert {served.count(topic) for topic in ("t.0", "t.1", "t.2")} <= {2, 3, 4, 5}


def test_iteration_ends_with_the_reader(bus: Bus) -> None:
    with Publisher(bus.run.pub) as publisher, Subscriber(bus.run.sub, ["t"]) as subscriber:
        await_subscriber(publisher, "t")
        for number in range(3):
            publisher.send("t", {"n": number})
        seen = []
        for message in subscriber:
            seen.append(message.payload["n"])
            if len(seen) == 3:
                break
        assert seen == [0, 1, 2]


def test_pushed_messages_wait_for_the_broker_and_refuse_when_full(tmp_path: Path) -> None:
    with Pusher(f"ipc://{tmp_path}/nobody", hwm=10) as pusher:
        for number in range(10):
            pusher.notify({"subject": "x", "n": number})
        with pytest.raises(NotDelivered, match="10 are waiting"):
            pusher.notify({"subject": "x", "n": 10})
        with pusher.sibling() as other, zmq.Context.instance().socket(zmq.PULL) as pull:
            other.notify({"subject": "y"})
            pull.linger = 0
            pull.bind(f"ipc://{tmp_path}/nobody")
            got = [pull.recv_multipart() for _ in range(11)]
        assert sorted(frames[0] for frames in got) == [b"notify.x"] * 10 + [b"notify.y"]


def test_everybody_finds_a_restarted_broker(run_dir: RunDir, clock: object) -> None:
    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", BROKER, str(run_dir.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    broker = start()
    try:
        with Publisher(run_dir.pub) as publisher, Pusher(run_dir.push) as pusher:
            with Subscriber(run_dir.sub, ["t", "notify."]) as subscriber:
                await_subscriber(publisher, "t")
                publisher.send("t", {"n": 0})
                assert received(subscriber, 1) == [0]
                broker.kill()
                broker.communicate()
                # Subscriptions die with the broker that held them, or a camera would publish for nobody.
                await_subscriber(publisher, "t", present=False)
                publisher.send("t", {"n": 1})
                pusher.notify({"subject": "kept", "n": 7})
                broker = start()
                numbers: list[int] = []
                while 2 not in numbers:
                    # A subscriber renews its subscriptions while it receives.
                    message = subscriber.receive(0.02)
                    if message is not None:
                        numbers.append(message.payload["n"])
                    elif publisher.has_subscribers("t"):
                        publisher.send("t", {"n": 2})
                assert subscriber.lost == {"t": 1}
            await_subscriber(publisher, "t", present=False)
    finally:
        broker.communicate()


def test_topics_that_clients_make_up_do_not_fill_the_memory_and_are_no_loss(bus: Bus) -> None:
    publishers = set()
    with Pusher(bus.run.push) as pusher, Subscriber(bus.run.sub, ["notify."], hwm=20_000) as subscriber:
        while subscriber.receive(0.02) is None:
            pusher.notify({"subject": "probe"})
        for number in range(9000):
            pusher.notify({"subject": f"made.up.{number}"})
            pusher.notify({"subject": "always"})
        always = 0
        while always < 9000:
            frames = subscriber.receive_packed(5)
            assert frames is not None
            always += frames[0] == b"notify.always"
            publishers.add(read_sequence(frames[1])[0])
        assert subscriber.lost == {}
    assert len(publishers) == 2


def test_a_closed_publisher_leaves_no_descriptor_behind(bus: Bus) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(3):
        Publisher(bus.run.pub).close()
        Subscriber(bus.run.sub, ["t"]).close()
    before = descriptors()
    for _ in range(20):
        Publisher(bus.run.pub).close()
        Subscriber(bus.run.sub, ["t"]).close()
    deadline = time.monotonic() + 5
    while descriptors() > before + 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert descriptors() <= before + 3
