import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest
import zmq

from gazed_bus.client import Pusher, Subscriber
from gazed_bus.errors import MessageError, NotGazed, NotReachable, RequestRefused
from gazed_bus.remote import Remote
from gazed_bus.testing import Bus, running_bus
from gazed_timesync import (
    ClockError,
    Discipline,
    Follower,
    GazedError,
    Leader,
    LocalClock,
    PupilTime,
    SyncState,
    host_now,
)


@pytest.fixture
def bus() -> Iterator[Bus]:
    with running_bus() as bus:
        yield bus


@pytest.fixture
def remote(bus: Bus) -> Iterator[Remote]:
    with Remote(port=bus.broker.ports.port, timeout=5) as remote:
        yield remote


@contextmanager
def scripted(answer: Callable[[list[bytes]], bytes | None]) -> Iterator[int]:
    """Run a server that answers as told (``None``: not at all); yield its port."""
    context = zmq.Context.instance()
    router, stop = context.socket(zmq.ROUTER), context.socket(zmq.PULL)
    router.linger = 0
    port = router.bind_to_random_port("tcp://127.0.0.1")
    stop.bind(f"inproc://stop-{port}")

    def serve() -> None:
        poller = zmq.Poller()
        poller.register(router, zmq.POLLIN)
        poller.register(stop, zmq.POLLIN)
        while stop not in dict(poller.poll()):
            identity, empty, *body = router.recv_multipart()
            reply = answer(body)
            if reply is not None:
                router.send_multipart([identity, empty, reply])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield port
    finally:
        with context.socket(zmq.PUSH) as push:
            push.connect(f"inproc://stop-{port}")
            push.send(b"")
            thread.join()
        router.close()
        stop.close()


@contextmanager
def recorder(bus: Bus, **outcomes: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Answer recording requests and annotations on the bus with ``outcomes``; yield what was asked."""
    ready, ended = threading.Event(), threading.Event()
    heard: list[dict[str, Any]] = []

    def run() -> None:
        with (
            Subscriber(bus.run.sub, ["notify.recording.should", "annotation", "probe"]) as inbox,
            Pusher(bus.run.push) as pusher,
        ):
            while not ended.is_set():
                pusher.send("probe", {}) if not ready.is_set() else None
                message = inbox.receive(0.02)
                if message is None:
                    continue
                if message.topic == "probe":
                    ready.set()
                    continue
                heard.append(message.payload)
                outcome = dict(outcomes[message.payload.get("subject", "annotation").rpartition("_")[2]])
                if "request" in message.payload:
                    outcome["request"] = message.payload["request"]
                else:
                    outcome |= {key: message.payload[key] for key in ("label", "timestamp")}
                pusher.notify(outcome)

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(5)
    try:
        yield heard
    finally:
        ended.set()
        thread.join()


def test_time_version_and_offset(bus: Bus, remote: Remote) -> None:
    before, now, after = bus.clock.now(), remote.time(), bus.clock.now()
    assert before <= now <= after
    assert remote.version() == "3.6.0"
    remote.set_time(1000.0)
    offset = remote.clock_offset(samples=5)
    segment = bus.clock.segment
    assert abs(offset.offset_s - (segment.pupil_ns - segment.host) / 1e9) <= offset.error_s + 1e-6
    assert offset.sigma_s > 0
    assert 0 < offset.error_s <= offset.round_trip_s
    assert abs(offset.to_pupil(time.monotonic()) - remote.time()) < 0.5


def test_the_offset_is_found_again_after_a_jump_and_under_slew(bus: Bus, remote: Remote) -> None:
    remote.clock_offset()
    for target, rate in ((5000.0, 0.0), (-3.0, 4e-4), (7e8, -4e-4)):
        remote.set_time(target)
        bus.clock.set_rate(rate)
        remote.clock_offset()
        offset = remote.clock_offset()
        now = host_now()
        assert abs(offset.to_pupil(now / 1e9) - bus.clock.to_pupil(now)) <= offset.error_s + 5e-6


def test_a_clock_that_jumps_all_the_time_cannot_be_measured() -> None:
    times = iter(range(10**6))
    with (
        scripted(lambda _: b"%d" % (1000 * next(times))) as port,
        Remote(port=port, timeout=5) as remote,
        pytest.raises(ClockError, match="jumps too often"),
    ):
        remote.clock_offset()


def test_set_time_is_refused_during_a_recording(bus: Bus, remote: Remote) -> None:
    bus.clock.hold()
    with pytest.raises(RequestRefused, match="during a recording") as caught:
        remote.set_time(5.0)
    assert caught.value.reason == "time-not-set"
    with pytest.raises(RequestRefused, match="'nan' cannot be converted"):
        remote.set_time(float("nan"))


def test_a_recording_from_start_to_stop(bus: Bus, remote: Remote) -> None:
    streams = {"world": {"received": 1, "written": 1, "dropped": 0}}
    started = {"rec_path": "/rec/000/", "session_name": "s", "start_time_synced": 12.5, "streams": streams}
    with recorder(
        bus,
        start={"subject": "recording.started", **started},
        stop={"subject": "recording.stopped", **started},
        annotation={"subject": "annotation.recorded", "rec_path": "/rec/000/"},
    ) as heard:
        begun = remote.start("s", record_eye=False, user_info={"age": "5"})
        assert (begun.rec_path, begun.session_name, begun.start_time) == ("/rec/000/", "s", 12.5)
        assert begun.streams == streams
        acknowledged = remote.annotate("onset", timestamp=3.5, duration=0.5, trial=7)
        assert (acknowledged.label, acknowledged.timestamp, acknowledged.rec_path) == ("onset", 3.5, "/rec/000/")
        stopped = remote.stop()
        assert (stopped.rec_path, stopped.streams) == ("/rec/000/", streams)
    assert heard[0]["user_info"] == {"age": "5"}
    assert heard[0]["record_eye"] is False
    assert heard[1] == {"topic": "annotation", "label": "onset", "timestamp": 3.5, "duration": 0.5, "trial": 7}


def test_refusals_carry_the_daemons_reason(bus: Bus, remote: Remote) -> None:
    failed = {"subject": "recording.failed", "code": "already-recording", "reason": "it runs already", "hint": "stop"}
    ignored = {"subject": "annotation.ignored", "reason": "no recording is running"}
    with recorder(bus, start=failed, annotation=ignored):
        with pytest.raises(RequestRefused, match="it runs already") as caught:
            remote.start()
        assert (caught.value.reason, caught.value.hint) == ("already-recording", "stop")
        with pytest.raises(RequestRefused, match="no recording is running") as caught:
            remote.annotate("x")
        assert caught.value.reason == "not-recorded"
        assert caught.value.as_dict()["reason"] == "not-recorded"


def test_status(bus: Bus, remote: Remote) -> None:
    with pytest.raises(RequestRefused) as caught:
        remote.status()
    assert caught.value.reason == "no-status"
    bus.broker.show({"recording": None, "streams": {"world": {"fps": 30.0}}})
    status = remote.status()
    assert status["streams"] == {"world": {"fps": 30.0}}
    assert status["time"] == pytest.approx(bus.clock.now(), abs=5)
    assert "ok" not in status


def test_subscribe_returns_when_the_subscription_works(bus: Bus, remote: Remote) -> None:
    with remote.subscribe("notify.", "custom") as subscription:
        remote.notify("hello", value=1)
        remote.send("custom.topic", {"__raw_data__": [b"raw"], "n": 2})
        first, second = subscription.receive(5), subscription.receive(5)
        assert first is not None
        assert second is not None
        assert first.payload == {"subject": "hello", "value": 1, "topic": "notify.hello"}
        assert (second.topic, second.raw) == ("custom.topic", (b"raw",))
        assert subscription.lost == {}


def test_subscribe_to_everything_and_to_the_latest(bus: Bus, remote: Remote) -> None:
    with remote.subscribe() as everything, remote.subscribe("t", latest=True) as latest:
        for number in range(20):
            remote.send("t", {"n": number})
        numbers = []
        while len(numbers) < 20:
            message = everything.receive(5)
            assert message is not None
            if message.topic == "t":
                numbers.append(message.payload["n"])
        assert numbers == list(range(20))
        seen = []
        while 19 not in seen:
            message = latest.receive(5)
            assert message is not None
            seen.append(message.payload["n"])
        assert latest.skipped.get("t", 0) + len(seen) == 20


def test_a_delayed_notification_comes_late_and_once(bus: Bus, remote: Remote) -> None:
    with remote.subscribe("notify.later") as subscription:
        start = time.monotonic()
        remote.notify("later", delay=60, n=1)
        remote.notify("later", delay=0.05, n=2)
        message = subscription.receive(5)
        assert message is not None
        assert message.payload == {"subject": "later", "n": 2, "topic": "notify.later"}
        assert time.monotonic() - start >= 0.05
        assert bus.broker.stats()["delayed"] == 0


@pytest.mark.parametrize(
    "request_it",
    [
        lambda remote: remote.send("t", {"__raw_data__": "text"}),
        lambda remote: remote.send("t", {"__raw_data__": None}),
        lambda remote: remote.start("\ud800"),
        lambda remote: remote.stop(float("inf")),
        lambda remote: remote.annotate("x", timestamp=float("nan")),
        lambda remote: remote.annotate("x", thing=object()),
    ],
)
def test_what_cannot_be_sent_is_an_error_of_the_tree(remote: Remote, request_it: Callable[[Remote], object]) -> None:
    with pytest.raises(MessageError):
        request_it(remote)


def test_a_deadline_that_is_over_receives_what_is_there(bus: Bus, remote: Remote) -> None:
    with remote.subscribe("t") as subscription:
        assert subscription.receive(-0.5) is None
        remote.send("t", {"n": 1})
        assert subscription.socket.poll(5000)
        assert subscription.receive(-0.5) is not None


def test_bad_messages_do_not_leave_the_client(remote: Remote) -> None:
    with pytest.raises(MessageError):
        remote.notify("")
    with pytest.raises(MessageError):
        remote.send("t", {"x": object()})
    with pytest.raises(RequestRefused) as caught:
        remote.start(mode="avi")  # type: ignore[arg-type]
    assert caught.value.reason == "bad-request"


# --- other peers ------------------------------------------------------------------------------------------------------


def test_nobody_there() -> None:
    with Remote(port=1, timeout=0.05) as remote:
        with pytest.raises(NotReachable, match=r"127\.0\.0\.1:1 did not answer within 0\.05 s") as caught:
            remote.time()
        assert "gazed run" in caught.value.hint
        with pytest.raises(NotReachable):
            remote.time()


def test_a_request_that_got_no_answer_is_not_sent_later() -> None:
    seen: list[list[bytes]] = []
    silent = True

    def answer(body: list[bytes]) -> bytes | None:
        seen.append(body)
        return None if silent else b"2.5"

    with scripted(answer) as port, Remote(port=port, timeout=0.2) as remote:
        with pytest.raises(NotReachable):
            remote.version()
        silent = False
        assert remote.time() == 2.5
    assert seen == [[b"v"], [b"t"]]


def test_pupil_capture_does_the_basic_part() -> None:
    seen: list[list[bytes]] = []

    def answer(body: list[bytes]) -> bytes:
        seen.append(body)
        if len(body) > 1:
            return b"Message forwarded."
        return {b"t": b"12.25", b"v": b"3.5.1"}.get(body[0], b"Unknown command.")

    with scripted(answer) as port, Remote(port=port) as remote:
        assert remote.time() == 12.25
        assert remote.version() == "3.5.1"
        remote.notify("some.thing", n=1)
        assert seen[-1][0] == b"notify.some.thing"
        assert msgpack.unpackb(seen[-1][1]) == {"subject": "some.thing", "n": 1, "topic": "notify.some.thing"}
        requests: list[Callable[[], object]] = [
            remote.status,
            remote.start,
            remote.stop,
            lambda: remote.annotate("x"),
            remote.subscribe,
        ]
        for request in requests:
            with pytest.raises(NotGazed, match="Unknown command"):
                request()


@pytest.mark.parametrize(
    "reply", [b"\xff\xfe", b"", b"[1]", b"{}", b'{"ok": 1}', b'{"ok": false}', b'{"ok": true}', b'{"error": 5}']
)
def test_odd_answers_are_errors_of_the_tree(reply: bytes) -> None:
    with scripted(lambda _body: reply) as port, Remote(port=port) as remote:
        with pytest.raises((NotGazed, RequestRefused)):
            remote.start()
        with pytest.raises(NotGazed):
            remote.time()


def test_threads_share_a_remote(bus: Bus, remote: Remote) -> None:
    failures: list[Exception] = []

    def ask() -> None:
        try:
            for _ in range(50):
                remote.time()
                assert remote.version() == "3.6.0"
        except (GazedError, AssertionError) as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_wire_is_plain_json(bus: Bus) -> None:
    with zmq.Context.instance().socket(zmq.REQ) as client:
        client.linger = 0
        client.connect(f"tcp://127.0.0.1:{bus.broker.ports.port}")
        client.send(b'{"request": "status"}')
        answer = json.loads(client.recv())
        assert answer["error"]["code"] == "no-status"


def test_a_time_set_while_following_is_accepted_logged_and_undone(
    bus: Bus, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    leads, stepped = LocalClock(), []
    leads.jump_to(PupilTime(5000.0))
    with (
        caplog.at_level(logging.INFO),
        remote.subscribe("notify.timesync.stepped") as told,
        Leader(leads) as leader,
        Follower(Discipline(bus.clock), "127.0.0.1", leader.port, on_events=stepped.extend) as follower,
    ):
        assert follower.wait_for(SyncState.LOCKED, timeout_s=5)
        remote.set_time(77.0)
        message = told.receive(5)
        assert message is not None
        assert (message.payload["cause"], message.payload["timestamp"]) == ("remote", 77.0)
        assert -4930 < message.payload["size_s"] < -4900
        deadline = time.monotonic() + 5
        while bus.clock.steps < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert abs(remote.time() - leads.now()) < 0.5
    assert "a client set Pupil time to 77.0" in caplog.text
    assert [round(event.size_s, -2) for event in stepped if event.kind == "stepped"][1:] == [4900.0]
