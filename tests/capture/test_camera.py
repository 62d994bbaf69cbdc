"""The camera process's loop, with a source that has no device."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
import zmq

from gazed_bus.client import Subscriber
from gazed_bus.frame import Frame, StreamInfo
from gazed_bus.lane import Hello, LaneReceiver
from gazed_bus.rundir import RunDir
from gazed_bus.testing import await_subscriber, running_bus
from gazed_capture.camera import Camera, CameraSettings
from gazed_capture.errors import SourceError
from gazed_capture.source import Demand, DeviceInfo, SourceStats
from gazed_capture.testing import FakeSource
from gazed_timesync import HostNs, PupilClock, PupilTime, Segment, host_now


class Endless:
    """A source that has a frame whenever it is asked."""

    def __init__(self, stream: str = "eye0", options: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        self._sequence = 0

    def find(self) -> Demand:
        return Demand(DeviceInfo("test", "camera", "1"))

    def open(self) -> StreamInfo:
        return StreamInfo("eye0", "test", "camera", "1", 64, 48, 100.0, "jpeg", "arrival")

    def read(self, timeout: float) -> Frame | None:  # noqa: ARG002
        self._sequence += 1
        now = host_now()
        return Frame("eye0", self._sequence, now, now, None, 64, 48, "jpeg", b"\xff\xd8")

    def stats(self) -> SourceStats:
        return SourceStats()

    def close(self) -> None:
        self._sequence = 0

    @classmethod
    def devices(cls) -> list[DeviceInfo]:
        return []


@pytest.fixture
def recorder(run_dir: RunDir) -> Iterator[LaneReceiver]:
    receiver = LaneReceiver(run_dir.lane)
    yield receiver
    receiver.close()


def recording_camera(run: RunDir, clock: PupilClock, recorder: LaneReceiver) -> tuple[Camera, bytes]:
    camera = Camera(CameraSettings("eye0", "test"), Endless(), run, clock)
    identity = b""
    while not identity:
        camera.turn()
        while (event := recorder.receive()) is not None:
            if isinstance(event, Hello) and event.state == "streaming":
                identity = event.identity
    recorder.start(identity, 7, 0)
    while not camera.stats()["held"]:
        camera.turn()
    return camera, identity


def test_a_camera_that_ends_hands_over_what_it_holds(
    run_dir: RunDir, clock: PupilClock, recorder: LaneReceiver
) -> None:
    camera, _ = recording_camera(run_dir, clock, recorder)
    for _ in range(1000):
        camera.turn()
    held = camera.stats()["held"]
    ending = threading.Thread(target=camera.close)
    ending.start()
    got = 0
    while ending.is_alive():
        recorder.socket.poll(10, zmq.POLLIN)
        while (event := recorder.receive()) is not None:
            if isinstance(event, tuple):
                got += 1
                recorder.confirm(event[0], event[1].captured_ns)
    ending.join()
    assert held > 1000
    assert got == held


def test_the_loop_makes_no_garbage_for_the_collector_that_is_off(
    run_dir: RunDir, clock: PupilClock, recorder: LaneReceiver
) -> None:
    camera, _ = recording_camera(run_dir, clock, recorder)

    def turns(count: int) -> None:
        for _ in range(count):
            camera.turn()
            while (event := recorder.receive()) is not None:
                if isinstance(event, tuple):
                    recorder.confirm(event[0], event[1].captured_ns)

    turns(200)
    gc.collect()
    gc.disable()
    try:
        turns(2000)
        assert gc.collect() < 50
    finally:
        gc.enable()
        camera.close()


def test_a_clock_that_jumps_while_a_frame_is_stamped_is_obeyed(
    run_dir: RunDir, clock: PupilClock, recorder: LaneReceiver
) -> None:
    class Jumping(PupilClock):
        armed = False

        def segment_at(self, host: HostNs) -> Segment:
            before = super().segment_at(host)
            if self.armed:
                self.armed = False
                self.jump_to(PupilTime(-1e6))
            return before

    with Jumping(run_dir.clock) as jumping:
        camera, _ = recording_camera(run_dir, jumping, recorder)
        jumping.armed = True
        stamps: list[float] = []
        while len(stamps) < 10:
            camera.turn()
            while (event := recorder.receive()) is not None:
                if isinstance(event, tuple):
                    stamps.append(event[1].timestamp)
                    recorder.confirm(event[0], event[1].captured_ns)
        camera.close()
    assert stamps[-1] < 0


class Slow(Endless):
    """A device that takes its time to open, or for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def open(self) -> StreamInfo:
        assert self.go.wait(10)
        return super().open()


def test_the_lane_is_served_while_a_device_opens(run_dir: RunDir, clock: PupilClock, recorder: LaneReceiver) -> None:
    slow = Slow()
    camera = Camera(CameraSettings("eye0", "test"), slow, run_dir, clock)
    states: set[str] = set()
    while len(states) < 2:
        camera.turn()
        while (event := recorder.receive()) is not None:
            assert isinstance(event, Hello)
            states.add(event.state)
        if states == {"waiting"} and camera.stats()["state"] == "opening":
            slow.go.set()
    assert states == {"waiting", "streaming"}
    camera.close()


def test_a_device_that_never_opens_ends_the_process(run_dir: RunDir, clock: PupilClock) -> None:
    slow = Slow()
    camera = Camera(CameraSettings("eye0", "test"), slow, run_dir, clock, open_limit_s=0.05)
    with pytest.raises(SourceError, match=r"eye0: the device has not answered for 0\.05 s"):
        deque(iter(camera.turn, 1), maxlen=0)
    slow.go.set()
    camera.close()


def test_silence_is_told_once_and_so_is_its_end() -> None:
    script = {"steps": ["frame", *["timeout"] * 14, "frame", *["timeout"] * 3]}
    with running_bus() as bus:
        heard = Subscriber(bus.run.sub, ["notify.camera."])
        camera = Camera(CameraSettings("eye0", "fake"), FakeSource("eye0", script), bus.run, bus.clock)
        await_subscriber(camera._publisher, "notify.camera.")
        subjects: list[str] = []
        states: set[str] = set()
        while camera.stats()["state"] != "ended":
            camera.turn()
            states.add(camera.stats()["state"])
        while len(subjects) < 2:
            message = heard.receive(5)
            assert message is not None
            subjects.append(message.payload["subject"])
        camera.close()
        heard.close()
    assert subjects == ["camera.silent", "camera.heard"]
    assert {"streaming", "silent", "ended"} <= states


def test_what_the_source_missed_travels_with_the_frames(
    run_dir: RunDir, clock: PupilClock, recorder: LaneReceiver
) -> None:
    class Sparse(Endless):
        def stats(self) -> SourceStats:
            return SourceStats(self._sequence, missed=3 * self._sequence)

    camera = Camera(CameraSettings("eye0", "test"), Sparse(), run_dir, clock)
    headers = []
    while len(headers) < 5:
        camera.turn()
        while (event := recorder.receive()) is not None:
            if isinstance(event, tuple):
                headers.append(event[1])
            elif isinstance(event, Hello) and event.state == "streaming" and not event.session:
                recorder.start(event.identity, 7, 0)
    camera.close()
    assert [after.missed - before.missed for before, after in pairwise(headers)][:4] == [3] * 4


def test_what_was_missed_is_not_forgotten_when_a_camera_comes_back(run_dir: RunDir, clock: PupilClock) -> None:
    script = {"steps": ["frame", "missed", "missed", "frame", "lost", "frame", "missed", "frame"]}
    camera = Camera(CameraSettings("eye0", "fake"), FakeSource("eye0", script), run_dir, clock)
    while camera.stats()["state"] != "ended":
        camera.turn()
    camera.close()
    assert (camera.stats()["frames"], camera.stats()["missed"]) == (4, 3)
