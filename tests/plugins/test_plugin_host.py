"""The process around a plugin, on a real broker."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import zmq

from gazed_bus.broker import Broker
from gazed_bus.client import Publisher, Pusher, Subscriber
from gazed_bus.codec import Message
from gazed_bus.rundir import RunDir
from gazed_plugins.errors import PluginError
from gazed_plugins.frame_publisher import FramePublisher
from gazed_plugins.host import Host
from gazed_timesync import PupilClock
from gazed_timesync.namespace_testing import Namespace, namespaces_refused
from gazed_timesync.zre.node import ZRE_PORT

REFUSED = namespaces_refused()


@pytest.fixture
def bus(run_dir: RunDir, clock: PupilClock) -> Iterator[RunDir]:
    broker = Broker(run_dir, clock, port=0)
    broker.start()
    yield run_dir
    broker.close()


def wait_for(truth: Callable[[], object], step: Callable[[], object] = lambda: None) -> Any:
    end = time.monotonic() + 20
    while not (value := truth()):
        assert time.monotonic() < end, "it never came true"
        step()
        time.sleep(0.005)
    return value


class Stumbling:
    """Fails when told to."""

    topics = ("say.",)
    gather_s = 0.0

    def __init__(self, context, _):
        self.context = context
        self.heard: list[Message] = []
        self.closed = False
        Stumbling.last = self

    def on_message(self, message):
        if message.payload.get("fail"):
            raise RuntimeError("told to fail")
        self.heard.append(message)

    def on_idle(self):
        pass

    def stats(self):
        return {"heard": len(self.heard)}

    def close(self):
        self.closed = True


@pytest.fixture
def host(bus: RunDir, clock: PupilClock) -> Iterator[Host]:
    host = Host("Stumbling", Stumbling, {}, bus, clock)
    yield host
    host.close()
    assert Stumbling.last.closed


@pytest.fixture
def say(bus: RunDir, host: Host) -> Iterator[Publisher]:
    with Publisher(bus.pub) as publisher:
        wait_for(lambda: publisher.has_subscribers("say.x"))
        yield publisher


def test_messages_arrive(host: Host, say: Publisher) -> None:
    say.send("say.x", {"number": 1, "__raw_data__": [b"raw"]})
    wait_for(lambda: Stumbling.last.heard, host.turn)
    (message,) = Stumbling.last.heard
    assert (message.payload, message.raw) == ({"topic": "say.x", "number": 1}, (b"raw",))
    assert host.stats() == {"received": 1, "lost": 0, "behind": 0, "failed": 0, "heard": 1}


def test_a_plugin_that_stumbles_goes_on(host: Host, say: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        for _ in range(9):
            say.send("say.x", {"fail": True})
        say.send("say.x", {})
    with caplog.at_level(logging.ERROR):
        wait_for(lambda: len(Stumbling.last.heard) == 3, host.turn)
    assert host.stats()["failed"] == 27
    assert caplog.records[0].exc_info


def test_ten_failures_in_a_row_are_the_end(host: Host, say: Publisher) -> None:
    for _ in range(10):
        say.send("say.x", {"fail": True})
    with pytest.raises(PluginError, match=r"10 times in a row.*say\.x.*told to fail"):
        wait_for(lambda: False, host.turn)


def test_a_plugin_that_falls_behind_gets_the_newest(host: Host, say: Publisher) -> None:
    Stumbling.last.context.subscribe("frame.", newest=2)
    wait_for(lambda: say.has_subscribers("frame.a"))
    for number in range(10):
        say.send("frame.a", {"number": number})
        say.send("say.x", {"number": number})
        if number == 4:
            say.send("frame.b", {"number": number})
    heard = Stumbling.last.heard
    wait_for(lambda: sum(message.topic == "say.x" for message in heard) == 10, host.turn)
    host.turn()

    def numbers(topic: str) -> list[int]:
        return [message.payload["number"] for message in heard if message.topic == topic]

    assert numbers("say.x") == list(range(10))
    assert numbers("frame.b") == [4]
    found = numbers("frame.a")
    assert found == sorted(found)
    assert found[-2:] == [8, 9]
    # Messages arrive one by one: how many waited at once is not ours to say.
    assert len(found) + host.stats()["behind"] == 10
    order = [message.payload["number"] for message in heard if message.topic != "frame.b"]
    assert order == sorted(order)


def test_a_plugin_wakes_itself_from_a_thread_of_its_own(host: Host) -> None:
    turns = []
    Stumbling.last.on_idle = lambda: turns.append(time.monotonic())
    host.turn()
    host.turn()
    assert len(turns) == 1
    wait = zmq.Poller()
    for source in host.sources:
        wait.register(source, zmq.POLLIN)
    waker = threading.Thread(target=Stumbling.last.context.wake)
    waker.start()
    assert wait.poll(5000)
    waker.join()
    host.turn()
    host.turn()
    assert len(turns) == 2
    assert not wait.poll(0)


def test_what_a_plugin_remembers_is_there_for_its_next_process_only(bus: RunDir, host: Host, clock: PupilClock) -> None:
    context = Stumbling.last.context
    assert context.remembered() == {}
    for number in (1, 2):
        context.remember({"numbers": [number, 2.5], "map": {"of": None}})
    for args, expected in (({}, {"numbers": [2, 2.5], "map": {"of": None}}), ({"eye": 1}, {})):
        next_one = Host("Stumbling", Stumbling, args, bus, clock)
        assert Stumbling.last.context.remembered() == expected
        next_one.close()


def test_where_nothing_can_be_kept_it_goes_on(
    bus: RunDir, host: Host, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Stumbling.last.context
    monkeypatch.setattr(context, "_memory", bus.path / "no such folder" / "memory")
    context.remember({"a": 1})
    assert "will be lost" in caplog.text
    assert context.remembered() == {}


def test_it_tells_what_it_is(bus: RunDir, host: Host) -> None:
    with Subscriber(bus.sub, ["notify.meta.doc"]) as answers, Pusher(bus.push) as pusher:

        def ask() -> Message | None:
            pusher.notify({"subject": "meta.should_doc"})
            host.turn()
            return answers.receive(0.02)

        message = wait_for(ask)
    assert message.payload["actor"] == "Stumbling"
    assert message.payload["doc"] == "Fails when told to."
    assert Stumbling.last.heard == []


def test_what_a_plugin_may_ask_of_the_bus(bus: RunDir, host: Host, say: Publisher, clock: PupilClock) -> None:
    context = Stumbling.last.context
    assert abs(context.now() - clock.now()) < 1
    with Subscriber(bus.sub, ["out", "notify.done"]) as listener:
        wait_for(lambda: context.has_subscribers("out"))
        context.publish("out", {"x": 1})
        assert listener.receive(5).payload == {"topic": "out", "x": 1}
        context.notify({"subject": "done"})
        assert listener.receive(5).payload["timestamp"] == pytest.approx(clock.now(), abs=5)
    context.subscribe("more")
    wait_for(lambda: say.has_subscribers("more"))
    say.send("more", {})
    wait_for(lambda: Stumbling.last.heard, host.turn)
    context.unsubscribe("more")
    wait_for(lambda: not say.has_subscribers("more"))


def test_cameras_send_nothing_while_nobody_listens(bus: RunDir, clock: PupilClock) -> None:
    image = np.full((48, 64), 90, np.uint8)
    frame = {"width": 64, "height": 48, "index": 3, "timestamp": 2.0, "format": "jpeg"}
    frame["__raw_data__"] = [cv2.imencode(".jpg", image)[1].tobytes()]
    host = Host("Frame_Publisher", FramePublisher, {"format": "gray"}, bus, clock)
    with Publisher(bus.pub) as camera:
        with Subscriber(bus.sub, ["frame.eye.0"]) as viewer:
            wait_for(lambda: camera.has_subscribers("camera.eye0"), host.turn)
            assert not camera.has_subscribers("camera.world")
            camera.send("camera.eye0", frame)
            message = wait_for(lambda: viewer.receive(0), host.turn)
        assert np.abs(np.frombuffer(message.raw[0], np.uint8).astype(int) - 90).max() < 4
        wait_for(lambda: not camera.has_subscribers("camera.eye0"), host.turn)
    host.close()


class _Started:
    """The host as the supervisor starts it."""

    def __init__(self, run: RunDir, *arguments: str) -> None:
        self.status, write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gazed_plugins.host", *arguments],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "GAZED_RUN": str(run.path), "GAZED_STATUS_FD": str(write)},
            pass_fds=[write],
        )
        os.close(write)

    def lines(self) -> Iterator[dict[str, Any]]:
        with os.fdopen(self.status) as pipe:
            for line in pipe:
                yield json.loads(line)

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


def test_the_process_is_ready_beats_and_ends(bus: RunDir) -> None:
    started = _Started(bus, "Frame_Publisher", '{"format": "bgr"}')
    lines = started.lines()
    assert next(lines) == {"ready": {}}
    counts = {"received": 0, "lost": 0, "behind": 0, "failed": 0}
    assert next(lines)["beat"] == {**counts, "published": 0, "unreadable": 0}
    started.process.terminate()
    code, errors = started.end()
    lines.close()
    assert (code, errors) == (0, "")


def test_the_process_ends_with_its_parent(bus: RunDir) -> None:
    started = _Started(bus, "Frame_Publisher")
    lines = started.lines()
    assert next(lines) == {"ready": {}}
    assert started.end()[0] == 0
    lines.close()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["No_Such_Plugin"], "no plugin named 'No_Such_Plugin'"),
        (["Frame_Publisher", '{"format": "png"}'], "png"),
        (["Frame_Publisher", "[]"], "JSON object"),
        (["Frame_Publisher", "{"], "no JSON"),
    ],
)
def test_what_cannot_start_says_why(run_dir: RunDir, clock: PupilClock, arguments: list[str], text: str) -> None:
    started = _Started(run_dir, *arguments)
    os.close(started.status)
    code, errors = started.end()
    assert code == 2
    assert text in errors
    assert "Traceback" not in errors
    assert Path(run_dir.clock).exists()


@pytest.mark.root
@pytest.mark.skipif(bool(REFUSED), reason=REFUSED)
@pytest.mark.parametrize("name", ["Time_Sync", "Pupil_Groups"])
def test_a_plugin_whose_port_is_taken_is_never_ready_and_says_so_in_one_line(bus: RunDir, name: str) -> None:
    with Namespace() as space, space.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", ZRE_PORT))
        started = _Started(bus, name)
        assert list(started.lines()) == []
        code, errors = started.end()
    assert code == 1
    assert len(errors.splitlines()) == 1
    assert "cannot listen at UDP port 5670" in errors
