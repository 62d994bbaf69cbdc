"""gazed's own requests at the Pupil Remote port: one JSON object in, one JSON object out.

A request is ``{"request": "status" | "start" | "stop" | "annotate", …}``. The answer is ``{"ok": true, …}``, or
``{"ok": false, "error": {"code", "message", "hint"}}``. It comes once the recorder has said what happened, or did not
say anything in time; nobody else waits meanwhile.
"""

from __future__ import annotations

import difflib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from gazed_bus.codec import Message
from gazed_bus.errors import BusError
from gazed_timesync import PupilClock, host_now

__all__ = ["OUTCOME_TOPICS", "Reply", "Requests"]

OUTCOME_TOPICS = (
    "notify.recording.started",
    "notify.recording.stopped",
    "notify.recording.failed",
    "notify.annotation.",
)
"""Topics that ``Requests.on_message`` wants to see."""

Reply = Callable[[bytes], None]

_STATUS_VALID_S = 5.0
_START_WAIT_S = 3.0
_ANNOTATE_WAIT_S = 2.0
_MAX_STOP_WAIT_S = 3600.0
_MAX_PENDING = 1000
_ENVELOPE = {"topic", "subject", "request"}
_ANNOTATION_KEYS = {"topic", "label", "timestamp", "duration"}


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="request", tag="status"):
    """What ``gazed status`` shows."""


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="request", tag="start"):
    """Start a recording; the answer is what ``recording.started`` says."""

    session_name: str = ""
    record_eye: bool = True
    user_info: dict[str, str] | None = None
    mode: Literal["jpeg", "h264", "mpeg4"] | None = None


class Stop(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="request", tag="stop"):
    """Stop the recording; the answer is what ``recording.stopped`` says."""

    timeout: float = 60.0


class Annotate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="request", tag="annotate"):
    """Publish an annotation; the answer says into which recording it was written."""

    label: str
    timestamp: float | None = None
    duration: float = 0.0
    extra: dict[str, Any] = {}


_Request = Status | Start | Stop | Annotate
_KINDS: dict[str, type[_Request]] = {"status": Status, "start": Start, "stop": Stop, "annotate": Annotate}


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request that waits for the outcome of ``key``: its own number, or an annotation's label and time."""

    key: object
    promise: str
    deadline: float
    reply: Reply


class Requests:
    """Answers gazed's requests. ``push(topic, payload)`` sends a message that must arrive."""

    def __init__(self, clock: PupilClock, push: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._clock = clock
        self._push = push
        self._status: tuple[float, Mapping[str, Any]] | None = None
        self._pending: list[_Pending] = []

    def handle(self, body: bytes, reply: Reply) -> None:
        """Take a request; ``reply`` is called once, now or later."""
        try:
            request = _parse(body)
            if len(self._pending) >= _MAX_PENDING:
                _refuse(reply, "busy", f"{_MAX_PENDING} requests are waiting already")
            elif isinstance(request, Start):
                self._start(request, reply)
            elif isinstance(request, Stop):
                self._stop(request, reply)
            elif isinstance(request, Annotate):
                self._annotate(request, reply)
            else:
                self._answer_status(reply)
        except _BadRequest as error:
            _refuse(reply, error.reason, error.message, error.hint)
        except BusError as error:
            _refuse(reply, error.code, error.message, error.hint)

    def show(self, status: Mapping[str, Any]) -> None:
        """Take the daemon's status, for those who ask. From the supervisor alone; may come from another thread."""
        self._status = (time.monotonic(), status)

    def on_message(self, message: Message) -> None:
        """Take note of a message on one of ``OUTCOME_TOPICS``."""
        payload = message.payload
        match message.topic:
            case "notify.recording.started" | "notify.recording.stopped":
                for reply in self._take(payload.get("request")):
                    _accept(reply, {name: value for name, value in payload.items() if name not in _ENVELOPE})
            case "notify.recording.failed":
                code, reason = payload.get("code", "recording-failed"), payload.get("reason", "no reason was given")
                for reply in self._take(payload.get("request")):
                    _refuse(reply, str(code), str(reason), str(payload.get("hint", "")))
            case "notify.annotation.recorded":
                for reply in self._take((payload.get("label"), payload.get("timestamp"))):
                    _accept(reply, {name: value for name, value in payload.items() if name not in _ENVELOPE})
            case "notify.annotation.ignored":
                text = f"the annotation was published but not recorded: {payload.get('reason')}"
                for reply in self._take((payload.get("label"), payload.get("timestamp"))):
                    _refuse(reply, "not-recorded", text, "start a recording first: gazed record start")

    def expire(self, now: float) -> None:
        """Refuse what has waited too long; ``now`` is ``time.monotonic()``."""
        late = [pending for pending in self._pending if pending.deadline <= now]
        for pending in late:
            self._pending.remove(pending)
            message = f"the recorder did not say in time that it {pending.promise}"
            _refuse(pending.reply, "recorder-silent", message, "see in `gazed status` whether the recorder runs")

    def next_deadline(self) -> float | None:
        """Return when ``expire`` has something to do next, if ever."""
        return min((pending.deadline for pending in self._pending), default=None)

    def _answer_status(self, reply: Reply) -> None:
        if self._status is None or time.monotonic() - self._status[0] > _STATUS_VALID_S:
            message = f"the supervisor has said nothing for {_STATUS_VALID_S:.0f} s"
            _refuse(reply, "no-status", message, "is the daemon still starting? try again in a second")
        else:
            _accept(reply, {**self._status[1], "time": self._clock.now()})

    def _start(self, request: Start, reply: Reply) -> None:
        fields = {key: value for key, value in msgspec.structs.asdict(request).items() if value is not None}
        # A recorder that was away must not start what nobody waits for any more.
        fields["expires_ns"] = host_now() + round(_START_WAIT_S * 1e9)
        self._ask("recording.should_start", fields, "started a recording", _START_WAIT_S, reply)

    def _stop(self, request: Stop, reply: Reply) -> None:
        if not 0 < request.timeout <= _MAX_STOP_WAIT_S:
            raise _BadRequest(f"timeout is {request.timeout!r}: wanted up to {_MAX_STOP_WAIT_S:.0f} seconds")
        self._ask("recording.should_stop", {}, "stopped the recording", request.timeout, reply)

    def _ask(self, subject: str, fields: Mapping[str, Any], promise: str, wait: float, reply: Reply) -> None:
        key = secrets.token_hex(8)
        self._push(f"notify.{subject}", {"subject": subject, **fields, "request": key})
        self._pending.append(_Pending(key, promise, time.monotonic() + wait, reply))

    def _annotate(self, request: Annotate, reply: Reply) -> None:
        if taken := _ANNOTATION_KEYS & request.extra.keys():
            raise _BadRequest(f"extra holds {', '.join(sorted(taken))}: these are keys of every annotation")
        timestamp = self._clock.now() if request.timestamp is None else request.timestamp
        datum = {"label": request.label, "timestamp": timestamp, "duration": request.duration, **request.extra}
        self._push("annotation", datum)
        key = (request.label, timestamp)
        self._pending.append(_Pending(key, "recorded the annotation", time.monotonic() + _ANNOTATE_WAIT_S, reply))

    def _take(self, key: object) -> list[Reply]:
        settled = [pending for pending in self._pending if pending.key == key]
        for pending in settled:
            self._pending.remove(pending)
        return [pending.reply for pending in settled]


class _BadRequest(Exception):
    def __init__(self, message: str, *, reason: str = "bad-request", hint: str = "") -> None:
        super().__init__(message)
        self.message, self.reason, self.hint = message, reason, hint


def _parse(body: bytes) -> _Request:
    try:
        fields = msgspec.json.decode(body)
        name = fields.get("request")
        kind = _KINDS.get(name) if isinstance(name, str) else None
        if kind is None:
            near = difflib.get_close_matches(str(name)[:100], _KINDS, 1, 0.0)
            raise _BadRequest(
                f"there is no request {str(name)[:100]!r}", reason="unknown-request", hint=f"nearest: {near[0]}"
            )
        return msgspec.convert(fields, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _BadRequest(
            f"unreadable request: {error}", hint="one JSON object; bus/README.md lists the keys"
        ) from None


def _accept(reply: Reply, fields: Mapping[str, Any]) -> None:
    reply(msgspec.json.encode({**fields, "ok": True}, enc_hook=str))


def _refuse(reply: Reply, code: str, message: str, hint: str = "") -> None:
    reply(msgspec.json.encode({"ok": False, "error": {"code": code, "message": message, "hint": hint}}))
