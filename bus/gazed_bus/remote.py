"""``Remote``: control a running daemon from Python, on this machine or another one.

>>> with Remote() as remote:
...     started = remote.start("session-1")
...     remote.annotate("stimulus")
...     stopped = remote.stop()

Times, notifications, messages and subscriptions work with Pupil Capture as well; the rest raises ``NotGazed`` there.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import msgspec
import zmq

from gazed_bus.client import Subscriber
from gazed_bus.codec import Raw, encode, notification_topic
from gazed_bus.errors import MessageError, NotGazed, NotReachable, RequestRefused
from gazed_timesync import ClockError, host_now
from gazed_timesync.sync.exchange import Exchange

if TYPE_CHECKING:
    from gazed_timesync import Estimator

__all__ = ["Acknowledged", "ClockOffset", "Remote", "Started", "Stopped"]

_START_S = 3.5
_ANNOTATE_S = 2.5
_MARGIN_S = 1.0
_FIRST_PROBE_S = 0.005
_LEAST_SAMPLES = 8
_MOST_BURSTS = 4


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """Pupil time minus this machine's CLOCK_MONOTONIC, in seconds; the truth is within ``error_s`` of ``offset_s``."""

    offset_s: float
    error_s: float
    """Half of what the requests leave open: no answer was given before its question, nor after it came."""
    round_trip_s: float
    """The fastest of the requests."""
    sigma_s: float
    """Standard deviation of ``offset_s``: what to expect, where ``error_s`` is what is proven."""
    skew: float
    """How much faster than this machine's clock Pupil time runs: 50e-6 for 50 ppm."""
    measured_s: float
    """When this was so: seconds of ``time.monotonic()``."""

    def to_pupil(self, monotonic_s: float) -> float:
        """Convert seconds of this machine's ``time.monotonic()`` to Pupil time."""
        return monotonic_s + self.offset_s + (monotonic_s - self.measured_s) * self.skew


class Started(msgspec.Struct, frozen=True, rename={"start_time": "start_time_synced"}):
    """A recording runs: the first frame of each stream is on the daemon's disk."""

    rec_path: str
    """Folder on the daemon's machine."""
    session_name: str
    start_time: float
    """Pupil time, seconds."""
    streams: dict[str, Any]
    """Counts of each stream so far."""


class Stopped(msgspec.Struct, frozen=True):
    """A recording is closed and complete."""

    rec_path: str
    streams: dict[str, Any]
    """Final counts of each stream: ``received``, ``written``, ``dropped`` …"""


class Acknowledged(msgspec.Struct, frozen=True):
    """An annotation is in the recording at ``rec_path``."""

    label: str
    timestamp: float
    """Pupil time, seconds."""
    rec_path: str


class _Refusal(msgspec.Struct, frozen=True):
    message: str = "refused without a reason"
    code: str = "refused"
    hint: str = ""


_T = TypeVar("_T")


class Remote:
    """A connection to a daemon's Pupil Remote port; ``timeout`` in seconds is for each request.

    Threads may share it. Nothing is sent before the first request. After a request without an answer the next one
    starts afresh; the one before is not sent later.

    Every method raises ``NotReachable`` when nobody answers in time, and ``MessageError`` for arguments that cannot be
    sent.
    """

    def __init__(self, address: str = "127.0.0.1", port: int = 50020, timeout: float = 2.0) -> None:
        self.address = address
        self.port = port
        self.timeout = timeout
        self._lock = threading.Lock()
        self._measuring = threading.Lock()
        self._estimator: Estimator | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None

    def time(self) -> float:
        """Return the daemon's Pupil time in seconds, as it was somewhere during the request."""
        return self._number(self._ask([b"t"]).decode("utf-8", "replace"))

    def version(self) -> str:
        """Return the version of Pupil Capture whose interface the daemon has."""
        return self._ask([b"v"]).decode("utf-8", "replace")

    def clock_offset(self, samples: int = 32) -> ClockOffset:
        """Measure the offset between the clocks by ``samples`` requests (eight at least), and those of the last 90 s.

        It is fitted as a follower of Pupil Time Sync does. Ask before each block or trial, and stamp what happens with
        ``offset.to_pupil(time.monotonic())``; the more often it is asked within 90 s, the better it gets.

        Raises:
            ClockError: Pupil time jumps too often to be measured.
        """
        from gazed_timesync import Estimator

        with self._measuring:
            if self._estimator is None:
                self._estimator = Estimator()
            for _ in range(_MOST_BURSTS):
                trips = [self._exchange(self._estimator) for _ in range(max(_LEAST_SAMPLES, samples))]
                now = host_now()
                if found := self._estimator.estimate(now):
                    return ClockOffset(found.offset_s, found.bound_s, min(trips), found.sigma_s, found.skew, now / 1e9)
        raise ClockError(
            f"Pupil time of {self.address}:{self.port} jumps too often to be measured",
            hint="somebody sets it again and again with T",
        )

    def _exchange(self, estimator: Estimator) -> float:
        """Ask for the time once; return how long it took, in seconds."""
        sent = host_now()
        pupil = self.time()
        received = host_now()
        estimator.add(Exchange(sent, pupil, pupil, received))
        return (received - sent) / 1e9

    def set_time(self, timestamp: float) -> None:
        """Set the daemon's Pupil time, in seconds, to ``timestamp`` as the request arrives.

        That is late by the way there, which ``clock_offset().round_trip_s / 2`` comes near: add it, or leave the
        daemon's clock alone and convert with ``clock_offset``. A daemon that follows a leader goes back to its time.

        Raises:
            RequestRefused: a recording runs, or ``timestamp`` is no possible time.
        """
        reply = self._ask([f"T {float(timestamp)!r}".encode()]).decode("utf-8", "replace")
        if reply != "Timesync successful.":
            raise RequestRefused(reply, reason="time-not-set", hint="stop the recording first: gazed record stop")

    def start(
        self,
        session_name: str = "",
        *,
        record_eye: bool = True,
        user_info: Mapping[str, str] | None = None,
        mode: Literal["jpeg", "h264", "mpeg4"] | None = None,
    ) -> Started:
        """Start a recording; return when the first frame of each stream is on the disk.

        Raises:
            RequestRefused: it did not start; ``reason`` tells why (``already-recording``, ``no-frames`` …).
            NotGazed: the peer does not know this request.
        """
        wanted = {"session_name": session_name, "record_eye": record_eye, "user_info": user_info, "mode": mode}
        fields = {key: value for key, value in wanted.items() if value is not None}
        return self._request("start", Started, _START_S, **fields)

    def stop(self, timeout: float = 60.0) -> Stopped:
        """Stop the recording; return when its files are closed and complete, which may take ``timeout`` seconds.

        Raises:
            RequestRefused: nothing is being recorded, or the recording could not be completed.
            NotGazed: the peer does not know this request.
        """
        return self._request("stop", Stopped, timeout, timeout=timeout)

    def annotate(
        self, label: str, *, timestamp: float | None = None, duration: float = 0.0, **extra: Any
    ) -> Acknowledged:
        """Add an annotation at a Pupil time (default: now); return when it is in the recording.

        Raises:
            RequestRefused: nothing is being recorded (``not-recorded``); the annotation was published all the same.
            NotGazed: the peer does not know this request.
        """
        fields: dict[str, Any] = {"label": label, "duration": duration, "extra": extra}
        if timestamp is not None:
            fields["timestamp"] = timestamp
        return self._request("annotate", Acknowledged, _ANNOTATE_S, **fields)

    def status(self) -> dict[str, Any]:
        """Return what ``gazed status`` shows: ``time``, ``recording``, ``streams``, ``processes``, ``listen`` and more.

        Raises:
            RequestRefused: the supervisor has said nothing for 5 s (``no-status``).
            NotGazed: the peer does not know this request.
        """
        return self._request("status", dict[str, Any], self.timeout)

    def notify(self, subject: str, **fields: Any) -> None:
        """Send a notification.

        Raises:
            MessageError: ``subject`` is empty, or a field cannot be packed.
            RequestRefused: it was not delivered.
        """
        notification = {**fields, "subject": subject}
        self.send(notification_topic(notification), notification)

    def send(self, topic: str, payload: Mapping[str, Any]) -> None:
        """Send a message over the bus; ``__raw_data__`` in it travels as extra frames.

        Raises:
            MessageError: the payload cannot be packed.
            RequestRefused: it was not delivered.
        """
        reply = self._ask(encode(topic, payload)).decode("utf-8", "replace")
        if reply.startswith("Not delivered"):
            raise RequestRefused(reply, reason="not-delivered")

    def subscribe(self, *topics: str, latest: bool = False) -> Subscriber:
        """Subscribe to topics by prefix (none: everything); return once the daemon has the subscription.

        ``latest`` hands out only the newest message of each topic, for readers that are slower than the data.
        """
        port = round(self._number(self._ask([b"SUB_PORT"]).decode("utf-8", "replace")))
        # Subscriptions travel in order: once the probe comes back, those of the topics have arrived as well.
        probe = f"gazed.probe.{secrets.token_hex(8)}"
        subscription = Subscriber(f"tcp://{self.address}:{port}", [*(topics or ("",)), probe], latest=latest)
        try:
            self._await_probe(subscription, probe)
        except BaseException:
            subscription.close()
            raise
        subscription.unsubscribe(probe)
        return subscription

    def _await_probe(self, subscription: Subscriber, probe: str) -> None:
        deadline = time.monotonic() + self.timeout
        pause = _FIRST_PROBE_S
        while (now := time.monotonic()) < deadline:
            self.send(probe, {})
            again, pause = min(deadline, now + pause), 2 * pause
            while (now := time.monotonic()) < again:
                message = subscription.receive(again - now)
                if message is not None and message.topic == probe:
                    return
        raise self._silent("the bus")

    def close(self) -> None:
        """Close the connection; subscriptions live on."""
        with self._lock:
            self._drop()
            self._context.term()

    def _request(self, name: str, kind: type[_T], wait: float, **fields: Any) -> _T:
        # JSON would turn such a number into null, and null means the default.
        if not all(math.isfinite(value) for value in fields.values() if isinstance(value, float)):
            raise MessageError(f"request {name!r} holds a number that is not finite: {fields!r:.300}")
        try:
            body = msgspec.json.encode({"request": name, **fields})
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise MessageError(f"request {name!r} cannot be packed: {error}") from error
        reply = self._ask([body], max(self.timeout, wait + _MARGIN_S))
        try:
            answer = msgspec.json.decode(reply, type=dict[str, Any])
            if answer.pop("ok", False) is True:
                return msgspec.convert(answer, kind)
            refusal = msgspec.convert(answer.get("error", {}), _Refusal)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise NotGazed(
                f"{self.address}:{self.port} does not know the request {name!r}: it answered {reply[:100]!r}",
                hint="is this Pupil Capture, or another port of the daemon?",
            ) from None
        raise RequestRefused(refusal.message, reason=refusal.code, hint=refusal.hint)

    def _ask(self, frames: Sequence[Raw], timeout: float | None = None) -> bytes:
        with self._lock:
            if self._socket is None:
                self._socket = self._context.socket(zmq.REQ)
                self._socket.linger = 0
                self._socket.connect(f"tcp://{self.address}:{self.port}")
            try:
                self._socket.send_multipart(frames)
                if self._socket.poll(round(1000 * (timeout or self.timeout))):
                    return self._socket.recv()
            except BaseException:
                self._drop()
                raise
            # A REQ socket that missed an answer is of no more use, and what it has not sent yet must never be sent.
            self._drop()
        raise self._silent("the daemon", timeout)

    def _silent(self, who: str, timeout: float | None = None) -> NotReachable:
        return NotReachable(
            f"{who} at {self.address}:{self.port} did not answer within {timeout or self.timeout:g} s",
            hint="is it running there? gazed run; from another machine it needs --listen",
        )

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None

    def _number(self, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise NotGazed(
                f"{self.address}:{self.port} answered {text[:100]!r} where a number was wanted",
                hint="is this the Pupil Remote port?",
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
