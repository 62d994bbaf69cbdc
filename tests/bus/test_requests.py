import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_bus.codec import Message
from gazed_bus.errors import NotDelivered
from gazed_bus.requests import OUTCOME_TOPICS, Requests
from gazed_timesync import PupilClock, host_now

LATER = 1e12


class Desk:
    """Requests with a bus that only remembers."""

    def __init__(self, clock: PupilClock) -> None:
        self.pushed: list[tuple[str, dict[str, Any]]] = []
        self.requests = Requests(clock, self.push)

    def push(self, topic: str, payload: Mapping[str, Any]) -> None:
        self.pushed.append((topic, dict(payload)))

    def ask(self, **request: Any) -> list[dict[str, Any]]:
        """Return the list in which the answer will be."""
        return self.ask_raw(json.dumps(request).encode())

    def ask_raw(self, body: bytes) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        self.requests.handle(body, lambda reply: answers.append(json.loads(reply)))
        return answers

    def hear(self, topic: str, **payload: Any) -> None:
        assert topic.startswith(OUTCOME_TOPICS)
        self.requests.on_message(Message(topic, {"topic": topic, **payload}))


@pytest.fixture
def desk(clock: PupilClock) -> Desk:
    return Desk(clock)


def refusal(answers: list[dict[str, Any]]) -> dict[str, str]:
    (answer,) = answers
    assert answer["ok"] is False
    error: dict[str, str] = answer["error"]
    assert set(error) == {"code", "message", "hint"}
    return error


def test_status_is_the_supervisors_latest_word_with_the_time(desk: Desk, clock: PupilClock) -> None:
    assert refusal(desk.ask(request="status"))["code"] == "no-status"
    status = {"time": 1.0, "recording": None, "streams": {"world": {"fps": float("nan"), "id": b"\xff"}}}
    desk.requests.show(status)
    (answer,) = desk.ask(request="status")
    assert answer["ok"] is True
    assert answer["recording"] is None
    assert answer["streams"] == {"world": {"fps": None, "id": "/w=="}}
    assert 0 <= clock.now() - answer["time"] < 5


def test_start_is_answered_when_its_recording_has_started(desk: Desk) -> None:
    answers = desk.ask(request="start", session_name="a b", record_eye=False, user_info={"name": "x"}, mode="h264")
    ((topic, payload),) = desk.pushed
    request = payload.pop("request")
    assert 0 < payload.pop("expires_ns") - host_now() <= 3_000_000_000
    assert topic == "notify.recording.should_start"
    assert payload == {
        "subject": "recording.should_start",
        "session_name": "a b",
        "record_eye": False,
        "user_info": {"name": "x"},
        "mode": "h264",
    }
    desk.hear("notify.recording.started", subject="recording.started", rec_path="/other")
    desk.hear("notify.recording.started", subject="recording.started", rec_path="/other", request="another")
    assert answers == []
    desk.hear("notify.recording.started", subject="recording.started", rec_path="/rec", request=request, streams={})
    assert answers == [{"ok": True, "rec_path": "/rec", "streams": {}}]
    desk.hear("notify.recording.started", subject="recording.started", rec_path="/rec", request=request)
    assert len(answers) == 1


def test_start_has_defaults(desk: Desk) -> None:
    desk.ask(request="start")
    fields = {"subject": "recording.should_start", "session_name": "", "record_eye": True}
    assert {key: value for key, value in desk.pushed[0][1].items() if key not in ("request", "expires_ns")} == fields


@pytest.mark.parametrize("request_name", ["start", "stop"])
def test_a_failure_is_passed_on_with_its_reason(desk: Desk, request_name: str) -> None:
    answers = desk.ask(request=request_name)
    request = desk.pushed[0][1]["request"]
    failed = {"subject": "recording.failed", "code": "disk-full", "reason": "no room", "hint": "make room"}
    desk.hear("notify.recording.failed", **failed)
    assert answers == []
    desk.hear("notify.recording.failed", **failed, request=request)
    assert refusal(answers) == {"code": "disk-full", "message": "no room", "hint": "make room"}


def test_stop_is_answered_when_its_recording_has_stopped(desk: Desk) -> None:
    answers = desk.ask(request="stop", timeout=10)
    request = desk.pushed[0][1]["request"]
    assert desk.pushed == [("notify.recording.should_stop", {"subject": "recording.should_stop", "request": request})]
    desk.hear("notify.recording.stopped", subject="recording.stopped", rec_path="/an/earlier/one")
    assert answers == []
    desk.hear("notify.recording.stopped", subject="recording.stopped", rec_path="/rec", request=request)
    assert answers == [{"ok": True, "rec_path": "/rec"}]


def test_annotations_are_clean_and_acknowledged_by_label_and_time(desk: Desk, clock: PupilClock) -> None:
    first = desk.ask(request="annotate", label="a", timestamp=1.5, duration=2, extra={"trial": 3})
    second = desk.ask(request="annotate", label="a")
    (_, datum), (topic, now) = desk.pushed
    assert datum == {"label": "a", "timestamp": 1.5, "duration": 2.0, "trial": 3}
    assert topic == "annotation"
    assert 0 <= clock.now() - now["timestamp"] < 5
    ignored = {"subject": "annotation.ignored", "label": "a", "timestamp": now["timestamp"], "reason": "no recording"}
    desk.hear("notify.annotation.ignored", **ignored)
    assert refusal(second)["code"] == "not-recorded"
    assert "no recording" in refusal(second)["message"]
    assert first == []
    recorded = {"subject": "annotation.recorded", "label": "a", "timestamp": 1.5, "rec_path": "/rec"}
    desk.hear("notify.annotation.recorded", **recorded)
    assert first == [{"ok": True, "label": "a", "timestamp": 1.5, "rec_path": "/rec"}]


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [({"request": "start"}, 3), ({"request": "stop", "timeout": 7}, 7), ({"request": "annotate", "label": "x"}, 2)],
)
def test_a_silent_recorder_is_an_error_in_time(desk: Desk, fields: dict[str, Any], seconds: float) -> None:
    answers = desk.ask(**fields)
    deadline = desk.requests.next_deadline()
    assert deadline is not None
    assert 0 < deadline - time.monotonic() <= seconds
    desk.requests.expire(deadline - 0.001)
    assert answers == []
    desk.requests.expire(deadline)
    assert refusal(answers)["code"] == "recorder-silent"
    assert desk.requests.next_deadline() is None


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (b"{", "bad-request", "unreadable"),
        (b"{}", "unknown-request", "None"),
        (b'{"request": "strat"}', "unknown-request", "strat"),
        (b'{"request": 5}', "unknown-request", "5"),
        (b'{"request": ["start"]}', "unknown-request", "start"),
        (b'{"request": "start", "session_name": 5}', "bad-request", "session_name"),
        (b'{"request": "start", "session": "x"}', "bad-request", "session"),
        (b'{"request": "start", "mode": "avi"}', "bad-request", "mode"),
        (b'{"request": "start", "user_info": {"age": 5}}', "bad-request", "user_info"),
        (b'{"request": "stop", "timeout": -1}', "bad-request", "timeout"),
        (b'{"request": "stop", "timeout": 1e999}', "bad-request", "unreadable"),
        (b'{"request": "annotate"}', "bad-request", "label"),
        (b'{"request": "annotate", "label": "x", "extra": {"timestamp": 5}}', "bad-request", "timestamp"),
        (b'{"request": "annotate", "label": "x", "timestamp": NaN}', "bad-request", "unreadable"),
        (b'{"request": "status", "more": 1}', "bad-request", "more"),
        (b'{"a":' * 3000, "bad-request", "unreadable"),
        (b'{"request": "status"} {"request": "status"}', "bad-request", "unreadable"),
        (b'{"request": "\xff"}', "bad-request", "unreadable"),
    ],
    ids=lambda value: str(value[:40]),
)
def test_bad_requests_are_refused_and_do_nothing(desk: Desk, body: bytes, code: str, text: str) -> None:
    error = refusal(desk.ask_raw(body))
    assert error["code"] == code
    assert text in error["message"]
    assert desk.pushed == []


def test_an_unknown_request_names_the_nearest(desk: Desk) -> None:
    assert "start" in refusal(desk.ask(request="strat"))["hint"]


def test_an_annotation_that_cannot_be_packed_is_refused(clock: PupilClock) -> None:
    def full(_topic: str, _payload: Mapping[str, Any]) -> None:
        raise NotDelivered("the queue is full", hint="wait")

    answers: list[bytes] = []
    requests = Requests(clock, full)
    requests.handle(b'{"request": "annotate", "label": "x"}', answers.append)
    assert json.loads(answers[0])["error"]["code"] == "not-delivered"
    assert requests.next_deadline() is None


def test_the_number_of_waiting_requests_is_bounded(desk: Desk) -> None:
    for _ in range(1000):
        assert desk.ask(request="stop") == []
    assert refusal(desk.ask(request="stop"))["code"] == "busy"
    desk.requests.expire(LATER)
    assert desk.ask(request="stop") == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def module_clock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PupilClock]:
    with PupilClock.create(tmp_path_factory.mktemp("clock") / "clock") as clock:
        yield clock


KEYS = st.sampled_from(
    ["session_name", "record_eye", "user_info", "mode", "timeout", "label", "timestamp", "duration", "extra"]
)


@given(request=st.sampled_from(["status", "start", "stop", "annotate"]), fields=st.dictionaries(KEYS, JSON, max_size=5))
def test_every_request_is_answered_exactly_once(module_clock: PupilClock, request: str, fields: dict[str, Any]) -> None:
    desk = Desk(module_clock)
    answers = desk.ask_raw(json.dumps({"request": request, **fields}).encode())
    desk.requests.expire(LATER)
    assert len(answers) == 1
