"""The recorder lane over real sockets: nothing is lost, and what does not fit is counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from gazed_bus.frame import Frame, StreamInfo
from gazed_bus.lane import Ended, FrameHeader, Hello, LaneReceiver, LaneSender
from gazed_bus.rundir import RunDir
from gazed_timesync import HostNs, PupilTime

INFO = StreamInfo("world", "test", "camera", "1", 4, 3, 30.0, "jpeg", "arrival")


def frame(number: int, size: int = 10) -> Frame:
    at = HostNs(1000 + number)
    return Frame("world", number, at, at, None, 4, 3, "jpeg", bytes(size))


class Pair:
    """A camera and a recorder that can be exchanged."""

    def __init__(self, limit_bytes: int = 1 << 20) -> None:
        self.context = zmq.Context()
        self.run = RunDir.create()
        self.address = self.run.lane
        self.recorder = LaneReceiver(self.address, context=self.context)
        self.camera = LaneSender(self.address, "world", limit_bytes=limit_bytes, context=self.context)
        self.camera.announce("streaming", INFO)

    def restart_recorder(self) -> None:
        self.recorder.close()
        self.recorder = LaneReceiver(self.address, context=self.context)

    def until(self, wanted: Callable[[object], bool]) -> list[object]:
        """Turn both ends until an event is as wanted; return all events up to it."""
        seen: list[object] = []
        while True:
            self.camera.turn()
            if self.recorder.socket.poll(20):
                event = self.recorder.receive()
                if event is not None:
                    seen.append(event)
                    if wanted(event):
                        return seen

    def hello(self) -> bytes:
        event = self.until(lambda event: isinstance(event, Hello))[-1]
        assert isinstance(event, Hello)
        assert event.info == INFO
        return event.identity

    def start(self, session: int = 7, after_ns: int = 0) -> bytes:
        identity = self.hello()
        self.recorder.start(identity, session, after_ns)
        while not self.camera.recording:
            self.camera.socket.poll(20)
            self.camera.turn()
        return identity

    def stop(self, identity: bytes, session: int = 7) -> tuple[list[FrameHeader], Ended]:
        self.recorder.stop(identity, session)
        events = self.until(lambda event: isinstance(event, Ended))
        ended = events[-1]
        assert isinstance(ended, Ended)
        return [event[1] for event in events if isinstance(event, tuple)], ended

    def close(self) -> None:
        self.camera.close()
        self.recorder.close()
        self.context.term()
        self.run.remove()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def test_nothing_is_sent_before_a_recording(pair: Pair) -> None:
    pair.camera.offer(frame(0), PupilTime(0.0))
    assert (pair.camera.received, pair.camera.held) == (0, 0)


def test_every_frame_arrives_once_and_in_order(pair: Pair) -> None:
    identity = pair.start()
    for number in range(1000):
        pair.camera.offer(frame(number), PupilTime(float(number)))
        if number % 50 == 0:
            while (event := pair.recorder.receive()) is not None:
                assert isinstance(event, tuple | Hello)
                if isinstance(event, tuple):
                    pair.recorder.confirm(identity, event[1].captured_ns)
            pair.camera.turn()
    assert pair.camera.received == 1000
    assert pair.camera.dropped == 0


def test_frames_before_the_start_are_not_part_of_it(pair: Pair) -> None:
    identity = pair.start(after_ns=1004)
    for number in range(10):
        pair.camera.offer(frame(number), PupilTime(float(number)))
    headers, ended = pair.stop(identity)
    assert [header.sequence for header in headers] == [5, 6, 7, 8, 9]
    assert ended.received == 5


def test_a_new_recorder_gets_everything_behind_what_is_on_disk(pair: Pair) -> None:
    pair.start()
    for number in range(20):
        pair.camera.offer(frame(number), PupilTime(float(number)), missed=number == 3)
    pair.until(lambda event: isinstance(event, tuple) and event[1].sequence == 9)
    pair.restart_recorder()
    for number in range(20, 30):
        pair.camera.offer(frame(number), PupilTime(float(number)))
    identity = pair.hello()
    pair.recorder.start(identity, 7, frame(6).captured_ns)
    headers, ended = pair.stop(identity)
    assert [header.sequence for header in headers] == list(range(7, 30))
    assert (ended.received, ended.dropped, ended.missed) == (30, 0, 1)


def test_a_full_queue_drops_and_counts_and_goes_on(pair: Pair) -> None:
    small = Pair(limit_bytes=100)
    try:
        identity = small.start()
        for number in range(15):
            small.camera.offer(frame(number), PupilTime(float(number)))
        assert small.camera.dropped == 5
        small.recorder.confirm(identity, frame(9).captured_ns)
        while small.camera.held:
            small.camera.socket.poll(20)
            small.camera.turn()
        small.camera.offer(frame(15), PupilTime(15.0))
        headers, ended = small.stop(identity)
        assert [header.sequence for header in headers] == [*range(10), 15]
        assert headers[-1].dropped == 5
        assert (ended.received, ended.dropped) == (16, 5)
    finally:
        small.close()


def test_a_second_recording_counts_from_zero(pair: Pair) -> None:
    identity = pair.start(session=1)
    pair.camera.offer(frame(0), PupilTime(0.0))
    pair.stop(identity, session=1)
    pair.recorder.done(identity, 1)
    pair.recorder.start(identity, 2, 0)
    while pair.camera.received:
        pair.camera.socket.poll(20)
        pair.camera.turn()
    pair.camera.offer(frame(5), PupilTime(5.0))
    headers, ended = pair.stop(identity, session=2)
    assert [header.sequence for header in headers] == [5]
    assert (ended.session, ended.received) == (2, 1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["frame", "read", "confirm", "restart", "turn"]), max_size=60), st.integers(20, 200))
def test_received_is_delivered_plus_dropped_whatever_happens(steps: list[str], limit: int) -> None:
    pair = Pair(limit)
    disk: list[FrameHeader] = []
    try:
        identity = pair.start()
        sent = itertools.count()

        def read() -> None:
            while (event := pair.recorder.receive()) is not None:
                if isinstance(event, tuple):
                    disk.append(event[1])
                elif isinstance(event, Hello) and event.identity not in known:
                    known.add(event.identity)
                    pair.recorder.start(event.identity, 7, disk[-1].captured_ns if disk else 0)

        known = {identity}
        for step in steps:
            if step == "frame":
                number = next(sent)
                pair.camera.offer(frame(number), PupilTime(float(number)))
            elif step == "read":
                read()
            elif step == "confirm" and disk:
                pair.recorder.confirm(identity, disk[-1].captured_ns)
            elif step == "restart":
                pair.restart_recorder()
                known.clear()
            else:
                pair.camera.turn()
        while not known:
            pair.camera.announce("streaming", INFO)
            pair.recorder.socket.poll(20)
            read()
        pair.recorder.stop(identity, 7)
        while True:
            pair.camera.turn()
            pair.recorder.socket.poll(5)
            event = pair.recorder.receive()
            if isinstance(event, tuple):
                disk.append(event[1])
            if isinstance(event, Ended):
                break
        numbers = [header.sequence for header in disk]
        assert numbers == sorted(set(numbers))
        assert event.received == len(numbers) + event.dropped == next(sent)
    finally:
        pair.close()
