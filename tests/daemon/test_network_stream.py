"""Frames that another program pushes over the bus, through the whole daemon and back out of the recording."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import msgpack
import numpy as np
import pytest
import zmq

from gazed.config import load_config
from gazed.testing import wait_for
from gazed.trial import Trial
from gazed_recorder.manifest import Manifest
from gazed_recorder.reader import Recording
from gazed_recorder.verify import verify

WIDTH, HEIGHT = 64, 48
CELL = 16


def image(number: int) -> np.ndarray:
    """Return a picture, BGR, whose upper rows hold a number and whose lower rows are blue."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for bit in range(8):
        row, column = divmod(bit, WIDTH // CELL)
        on = number >> bit & 1
        picture[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = 255 * on
    picture[2 * CELL :, :, 0] = 255
    return picture


def read_number(picture: np.ndarray) -> int:
    centres = picture[CELL // 2 : 2 * CELL : CELL, CELL // 2 :: CELL, 1].ravel() > 127
    return int(sum(bool(on) << bit for bit, on in enumerate(centres)))


class Sender(threading.Thread):
    """Sends a numbered picture every 10 ms, as a renderer with Pupil's library does: bottom-up RGB; some are lost."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.sent: dict[int, float] = {}
        self.done = threading.Event()
        self.port = port

    def run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
            publisher.linger = 0
            publisher.connect(f"tcp://127.0.0.1:{self.port}")
            number = 0
            while not self.done.wait(0.01):
                number += 1
                if number % 40 == 7:
                    continue
                self.sent[number] = time.monotonic()
                head = {
                    "topic": "hmd_streaming.world",
                    "width": WIDTH,
                    "height": HEIGHT,
                    "index": number,
                    "timestamp": self.sent[number],
                    "format": "rgb",
                    "projection_matrix": [100.0, 0.0, 32.0, 0.0, 100.0, 24.0, 0.0, 0.0, 1.0],
                }
                pixels = image(number)[::-1, :, ::-1].tobytes()
                publisher.send_multipart([b"hmd_streaming.world", msgpack.packb(head), pixels])


@pytest.fixture
def sender() -> Iterator[Sender]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sender = Sender(port)
    sender.start()
    yield sender
    sender.done.set()
    sender.join()


def test_pushed_frames_are_recorded_at_the_times_of_their_sender(sender: Sender, tmp_path: Path) -> None:
    settings = {
        "daemon": {"pub_port": sender.port},
        "recorder": {"root": str(tmp_path), "floor_mb": 1, "warn_mb": 100},
        "streams": {
            "world": {"source": "network", "options": {"fps": 100}},
            "eye0": {"enabled": False},
            "eye1": {"enabled": False},
        },
    }
    with Trial(load_config(overrides=settings)) as daemon:
        folder = Path(daemon.remote.start("pushed").rec_path)
        before = daemon.remote.status()["streams"]["world"]["written"]
        wait_for(lambda: daemon.remote.status()["streams"]["world"]["written"] > before + 100)
        daemon.remote.stop()
    sender.done.set()
    sender.join()
    assert verify(folder).problems == []
    report = Manifest.load(folder).streams["world"]
    stamps = np.load(folder / "world_timestamps.npy")
    numbers = [min(sender.sent, key=lambda number: abs(sender.sent[number] - stamp)) for stamp in stamps]
    assert np.abs(stamps - [sender.sent[number] for number in numbers]).max() < 2e-6
    absent = numbers[-1] - numbers[0] + 1 - len(numbers)
    assert absent >= 2
    assert absent == report.missed + sum(report.dropped.values()) + report.lost
    for frame, number in zip(Recording(folder).frames("world"), numbers, strict=True):
        picture = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert read_number(picture) == number & 0xFF
        blue, green, red = picture[-4, WIDTH // 2]
        assert blue > 200
        assert max(green, red) < 60
    [(size, camera)] = [
        (key, value)
        for key, value in msgpack.unpackb((folder / "world.intrinsics").read_bytes()).items()
        if key != "version"
    ]
    assert (size, camera["camera_matrix"][0][2]) == (f"({WIDTH}, {HEIGHT})", 32.0)
