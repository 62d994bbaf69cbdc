"""The source of pushed frames, against real senders on a real bus."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import cv2
import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gazed_bus.client import Publisher
from gazed_bus.codec import add_sequence, encode
from gazed_bus.frame import Frame
from gazed_bus.testing import Bus, await_subscriber, running_bus
from gazed_capture.errors import DeviceLost, SourceError, SourceNotFound, SourceOptionError
from gazed_capture.jpeg import jpeg_size
from gazed_capture.network import NetworkSource
from gazed_capture.testing import check_source
from gazed_timesync import HostNs, host_now

TOPIC = "hmd_streaming.world"
MATRIX = [100.0, 0.0, 4.0, 0.0, 100.0, 3.0, 0.0, 0.0, 1.0]
GRAY = np.arange(48, dtype=np.uint8).reshape(6, 8)


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    with running_bus() as bus:
        monkeypatch.setenv("GAZED_RUN", str(bus.run.path))
        yield bus


class Sender:
    """Sends the frames of a list one after the other, again and again if it is asked to, from a thread of its own."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.publisher = Publisher(bus.run.pub)

    def frame(self, number: int, **changes: Any) -> dict[str, Any]:
        message = {
            "width": 8,
            "height": 6,
            "index": number,
            "timestamp": float(self.bus.clock.now()),
            "format": "gray",
            "projection_matrix": MATRIX,
            "__raw_data__": [GRAY.tobytes()],
        }
        return {key: value for key, value in {**message, **changes}.items() if value is not None}

    def send(self, number: int, **changes: Any) -> None:
        self.publisher.send(TOPIC, self.frame(number, **changes))

    def open(self, source: NetworkSource, **changes: Any):
        """Open a source, with frame number 0 as its first."""

        def first() -> None:
            await_subscriber(self.publisher, TOPIC)
            self.send(0, **changes)

        source.close()
        await_subscriber(self.publisher, TOPIC, present=False)
        thread = threading.Thread(target=first)
        thread.start()
        try:
            return source.open()
        finally:
            thread.join()


@pytest.fixture
def sender(bus: Bus) -> Iterator[Sender]:
    sender = Sender(bus)
    yield sender
    sender.publisher.close()


@pytest.fixture
def source(bus: Bus) -> Iterator[NetworkSource]:
    source = NetworkSource("world", {})
    yield source
    source.close()


def take(source: NetworkSource) -> Frame:
    frame = source.read(5.0)
    assert frame is not None
    return frame


def read_on(source: NetworkSource, meanwhile: Callable[[], None] = lambda: None) -> None:
    for _ in range(100):
        meanwhile()
        assert source.read(0.05) is None


SENDER = """
import time, msgpack, zmq
pub = zmq.Context().socket(zmq.PUB)
print(pub.bind_to_random_port("tcp://127.0.0.1"), flush=True)
index = 0
while True:
    head = {"width": 8, "height": 6, "index": index, "timestamp": time.monotonic(), "format": "gray"}
    pub.send_multipart([b"hmd_streaming.world", msgpack.packb(head), bytes(48)])
    time.sleep(0.005)
    index += 1
"""


def test_it_keeps_the_contract() -> None:
    # The sender is a process of its own: the contract counts the open files of this one.
    with subprocess.Popen([sys.executable, "-c", SENDER], stdout=subprocess.PIPE, text=True) as sender:
        assert sender.stdout is not None
        try:
            address = f"tcp://127.0.0.1:{sender.stdout.readline().strip()}"
            check_source(lambda: NetworkSource("world", {"address": address}), frames=20)
        finally:
            sender.kill()


def test_a_frame_arrives_as_it_was_sent(sender: Sender, source: NetworkSource) -> None:
    assert source.find().device.name == TOPIC
    info = sender.open(source, distortion_coeffs=[0.1, 0.2, 0.0, 0.0, 0.3])
    assert (info.width, info.height, info.format, info.clock, info.device) == (8, 6, "gray", "sender", TOPIC)
    assert info.intrinsics == {
        "camera_matrix": [[100.0, 0.0, 4.0], [0.0, 100.0, 3.0], [0.0, 0.0, 1.0]],
        "dist_coefs": [[0.1, 0.2, 0.0, 0.0, 0.3]],
        "cam_type": "radial",
        "resolution": [8, 6],
    }
    first = take(source)
    assert (first.sequence, first.payload) == (0, GRAY.tobytes())
    assert first.device_time is not None
    assert sender.bus.clock.to_pupil(first.captured_ns) == pytest.approx(first.device_time, abs=1e-6)
    assert source.read(0.01) is None


def test_rgb_is_turned_the_right_way_up(sender: Sender, source: NetworkSource) -> None:
    image = np.random.default_rng(1).integers(0, 255, (6, 8, 3), np.uint8)
    flipped = image[::-1, :, ::-1]
    info = sender.open(source, format="rgb", __raw_data__=[flipped.tobytes()])
    assert info.format == "bgr"
    assert take(source).payload == image.tobytes()
    sender.send(1, format="bgr", __raw_data__=[image.tobytes()])
    assert take(source).payload == image.tobytes()


def test_a_jpeg_passes_untouched(sender: Sender, source: NetworkSource) -> None:
    jpeg = cv2.imencode(".jpg", GRAY)[1].tobytes()
    assert sender.open(source, format="jpeg", __raw_data__=[jpeg]).format == "jpeg"
    sender.send(1, format="jpeg", __raw_data__=[cv2.imencode(".jpg", GRAY[:4])[1].tobytes()])
    sender.send(2, format="jpeg", __raw_data__=[jpeg])
    assert [take(source).payload, take(source).payload] == [jpeg, jpeg]
    assert source.stats().corrupt == 1


def test_gaps_are_missed_and_a_new_start_is_none(sender: Sender, source: NetworkSource) -> None:
    sender.open(source)
    for index in (1, 4, 0, 1, 1, 1 << 62, (1 << 62) + 2):
        sender.send(index)
    assert [take(source).sequence for _ in range(8)] == [0, 1, 4, 5, 6, 7, 8, 10]
    assert source.stats().missed == 3


def test_a_loss_on_the_bus_shows_without_an_index(sender: Sender, source: NetworkSource) -> None:
    sender.open(source)
    take(source)
    *_, raw = encode(TOPIC, sender.frame(0))
    packed = msgpack.packb({key: value for key, value in sender.frame(0).items() if key != "__raw_data__"})
    with zmq.Context() as context, context.socket(zmq.XPUB) as pub:
        pub.connect(sender.bus.run.pub)
        while pub.recv() != b"\x01" + TOPIC.encode():
            pass
        for counter in (7, 9):
            pub.send_multipart([TOPIC.encode(), add_sequence(packed, 5, counter), raw])
        assert take(source).sequence == 1
        assert take(source).sequence == 3
    assert source.stats().missed == 1


@pytest.mark.parametrize("offset", [0.5, -6.0, 1e300, -1e300])
def test_a_stamp_that_cannot_be_is_kept_and_not_believed(sender: Sender, source: NetworkSource, offset: float) -> None:
    before = host_now()
    stamp = sender.bus.clock.now() + offset
    assert sender.open(source, timestamp=stamp).clock == "arrival"
    frame = take(source)
    assert frame.device_time == stamp
    assert before < frame.captured_ns <= frame.host_ns


def test_capture_times_rise_whatever_the_stamps_do(sender: Sender, source: NetworkSource) -> None:
    now = float(sender.bus.clock.now())
    sender.open(source, timestamp=now)
    for index, offset in enumerate((-1.0, 0.0, -3.0, 9.0, -0.5), start=1):
        sender.send(index, timestamp=now + offset)
    frames = [take(source) for _ in range(6)]
    assert all(b.captured_ns - a.captured_ns >= 1000 for a, b in pairwise(frames))
    assert all(frame.captured_ns <= frame.host_ns for frame in frames)


HOSTILE = [
    {"width": 7},
    {"width": 0},
    {"width": -8, "height": -6},
    {"height": None},
    {"width": "8"},
    {"width": True},
    {"index": -1},
    {"index": None},
    {"index": 1.5},
    {"timestamp": "now"},
    {"timestamp": float("nan")},
    {"format": "webp"},
    {"format": ["gray"]},
    {"format": "jpeg"},
    {"format": "jpeg", "__raw_data__": [b"\xff\xd8\xff\xc0"]},
    {"__raw_data__": []},
    {"__raw_data__": [b""]},
    {"__raw_data__": [GRAY.tobytes(), b""]},
    {"width": 1 << 40, "height": 1 << 40},
    {"format": "bgr", "__raw_data__": [bytes(144)]},
    {"width": 6, "height": 8},
]


def test_what_is_no_frame_is_counted(sender: Sender, source: NetworkSource) -> None:
    sender.open(source)
    for changes in HOSTILE:
        sender.send(1, **changes)
    sender.publisher.send_packed(TOPIC, b"\x81\xa1x\xc1")
    sender.publisher.send_packed("hmd_streaming.world2", b"\x80")
    sender.send(1)
    assert [take(source).sequence for _ in range(2)] == [0, 1]
    assert source.read(0.02) is None
    assert source.stats().corrupt == len(HOSTILE) + 1
    assert source.stats().missed == 0


def test_matrices_that_are_none_leave_the_camera_unknown(sender: Sender, source: NetworkSource) -> None:
    for matrix in ([1.0] * 8, ["1"] * 9, "matrix", {"a": 1}, [float("inf")] * 9):
        assert sender.open(source, projection_matrix=matrix).intrinsics is None


def test_nobody_sends(bus: Bus, source: NetworkSource) -> None:
    with pytest.raises(SourceNotFound, match=r"nobody sends 'hmd_streaming.world' on the daemon's bus"):
        source.open()


def test_a_silent_sender_is_lost_and_comes_back(sender: Sender, source: NetworkSource) -> None:
    sender.open(source)
    take(source)
    with pytest.raises(DeviceLost, match="is silent"):
        read_on(source)
    source.close()
    assert sender.open(source).width == 8
    assert take(source).sequence == 0


def test_a_sender_of_another_size_is_a_loss_too(sender: Sender, source: NetworkSource) -> None:
    other = {"width": 6, "height": 8}
    sender.open(source)
    take(source)
    with pytest.raises(DeviceLost):
        read_on(source, lambda: sender.send(1, **other))
    source.close()
    assert sender.open(source, **other).width == 6


def test_an_address_is_a_publisher_that_binds(monkeypatch: pytest.MonkeyPatch) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    pub = context.socket(zmq.XPUB)
    pub.linger = 0
    port = pub.bind_to_random_port("tcp://127.0.0.1")
    source = NetworkSource("eye0", {"address": f"tcp://127.0.0.1:{port}", "topic": "renderer"})

    def first() -> None:
        assert pub.recv() == b"\x01renderer"
        body = {"width": 8, "height": 6, "index": 5, "timestamp": 0.0, "format": "gray"}
        pub.send_multipart([b"renderer", msgpack.packb(body), GRAY.tobytes()])

    thread = threading.Thread(target=first)
    thread.start()
    try:
        info = source.open()
        assert (info.clock, info.serial) == ("arrival", f"tcp://127.0.0.1:{port}")
        frame = take(source)
        assert HostNs(0) < frame.captured_ns <= frame.host_ns
        pub.send_multipart([b"renderer", b"garbage", bytes(10)])
        assert source.read(0.05) is None
        assert source.stats().corrupt == 1
    finally:
        thread.join()
        source.close()
        pub.close()
        context.term()


def test_what_makes_no_sense_is_refused() -> None:
    addresses = ({"address": address} for address in ("10.0.0.1:5", "tcp://nowhere", 5))
    for options in ({"topic": ""}, {"topic": 3}, *addresses, {"fps": 0}, {"fps": "30"}):
        with pytest.raises(SourceOptionError):
            NetworkSource("world", options)
    with pytest.raises(SourceError, match="no daemon"):
        NetworkSource("world", {}).open()
    with pytest.raises(SourceError, match="cannot connect"):
        NetworkSource("world", {"address": "ipc:///" + "x" * 200}).open()


@given(st.binary(max_size=200), st.integers(1, 70), st.integers(1, 70))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_size_of_a_jpeg_is_read_or_there_is_none(garbage: bytes, width: int, height: int) -> None:
    jpeg = cv2.imencode(".jpg", np.zeros((height, width), np.uint8))[1].tobytes()
    assert jpeg_size(jpeg) == (width, height)
    assert jpeg_size(b"\xff\xd8\xff\xfe" + (len(garbage) + 2).to_bytes(2, "big") + garbage + jpeg[2:]) == (
        width,
        height,
    )
    for data in (garbage, b"\xff\xd8" + garbage, b"\xff\xd8\xff" + garbage, jpeg[: len(garbage)]):
        size = jpeg_size(data)
        assert size is None or len(size) == 2
