"""Pupil Remote: the commands that experiments send, and their replies, byte for byte as Pupil Capture 3.x gives them.

A request of several frames is a message for the bus and is forwarded as it is. One frame is a command, told by its
first letter, or, if it begins with ``{``, one of gazed's own requests (``gazed_bus.requests``). Pupil Capture answers
those with ``Unknown command.``; so a client can tell the two apart.

Differences from Pupil Capture: an empty or non-UTF-8 request is answered, ``T`` is refused while a recording runs or
has been asked for within the last second, and a command longer than 16 KiB is unknown.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from gazed_bus.errors import NotDelivered
from gazed_bus.requests import Reply, Requests
from gazed_timesync import ClockError, ClockHeld, PupilClock, PupilTime, host_now

__all__ = ["PUPIL_VERSION", "PupilRemote"]

PUPIL_VERSION = "3.6.0"
"""The answer to ``v``: the Pupil Capture whose interface this is, because clients compare it with what they need."""

_log = logging.getLogger(__name__)
_MAX_COMMAND = 16_384
_UNKNOWN = "Unknown command."
_HELD = "Time cannot be set during a recording."
# A recording that was asked for holds the clock after some milliseconds.
_STARTING_S = 1.0


class Part(Protocol):
    """One frame of a request, not copied yet."""

    @property
    def bytes(self) -> bytes:
        """The content."""

    def __len__(self) -> int: ...


class PupilRemote:
    """Answers requests.

    ``ports`` are PUB_PORT and SUB_PORT. ``notify(topic, payload)`` and ``forward(frames)`` hand something to the bus
    that must arrive there; they raise ``NotDelivered`` when it cannot.
    """

    def __init__(
        self,
        clock: PupilClock,
        ports: tuple[int, int],
        requests: Requests,
        notify: Callable[[str, Mapping[str, Any]], None],
        forward: Callable[[Sequence[Any]], None],
    ) -> None:
        self._clock = clock
        self._ports = ports
        self._requests = requests
        self._notify = notify
        self._forward = forward
        self._starting_until_s = 0.0

    def handle(self, body: Sequence[Part], reply: Reply) -> None:
        """Act upon the frames of one request; ``reply`` is called once, now or, for gazed's own, later."""
        try:
            if len(body) > 1:
                self._forward(body)
                reply(b"Message forwarded.")
            elif not body or len(body[0]) > _MAX_COMMAND:
                reply(_UNKNOWN.encode())
            elif (content := body[0].bytes).startswith(b"{"):
                self._requests.handle(content, reply)
            else:
                reply(self._command(content).encode())
        except NotDelivered as error:
            reply(f"Not delivered: {error.message}".encode())

    def _command(self, content: bytes) -> str:
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return _UNKNOWN
        match text[:1]:
            case "S" if text == "SUB_PORT":
                return str(self._ports[1])
            case "P" if text == "PUB_PORT":
                return str(self._ports[0])
            case "R":
                self._starting_until_s = time.monotonic() + _STARTING_S
                return self._tell("recording.should_start", session_name=text[2:])
            case "r":
                self._starting_until_s = 0.0
                return self._tell("recording.should_stop")
            case "C" if text == "C":
                return self._tell("calibration.should_start")
            case "c" if text == "c":
                return self._tell("calibration.should_stop")
            case "T":
                return self._set_time(text[2:])
            case "t":
                return repr(float(self._clock.now()))
            case "v":
                return PUPIL_VERSION
        return _UNKNOWN

    def _tell(self, subject: str, **fields: str) -> str:
        self._notify(f"notify.{subject}", {"subject": subject, **fields})
        return "OK"

    def _set_time(self, argument: str) -> str:
        at = host_now()
        before = self._clock.to_pupil(at)
        try:
            target = PupilTime(float(argument))
            if time.monotonic() < self._starting_until_s:
                return _HELD
            self._clock.jump_to(target, at)
        except ClockHeld:
            return _HELD
        except (ValueError, ClockError):
            return f"'{argument}' cannot be converted to float."
        size_s = target - before
        _log.info("a client set Pupil time to %.6f s, by %+.6f s", target, size_s)
        subject = "timesync.stepped"
        try:
            self._notify(
                f"notify.{subject}", {"subject": subject, "size_s": size_s, "cause": "remote", "timestamp": target}
            )
        except NotDelivered as error:
            _log.warning("nobody was told that Pupil time was set: %s", error.message)
        return "Timesync successful."
