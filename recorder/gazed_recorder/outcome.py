"""What the recorder says about a recording, and how it closes one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from gazed_bus.client import Pusher
from gazed_recorder.course import Course
from gazed_recorder.errors import RecordingRefused
from gazed_recorder.session import Session
from gazed_timesync import GazedError, PupilClock

__all__ = ["complete", "describe", "echo", "failure", "refusal"]

_log = logging.getLogger(__name__)


def echo(request: Mapping[str, Any]) -> dict[str, str | int]:
    """Return the number by which the asker knows the answer, if ``request`` has one."""
    number = request.get("request")
    return {"request": number} if isinstance(number, str | int) else {}


def refusal(message: str, reason: str, hint: str) -> RecordingRefused:
    """Return the error of a command that is not carried out."""
    return RecordingRefused(message, reason=reason, hint=hint)


def failure(error: Exception) -> dict[str, Any]:
    """Return the fields of ``recording.failed``."""
    body = {"code": "os-error", "hint": ""} | (error.as_dict() if isinstance(error, GazedError) else {})
    body.pop("message", None)
    return {**body, "code": body.pop("reason", body["code"]), "reason": str(error)}


def describe(session: Session) -> dict[str, Any]:
    """Return what ``recording.started`` and ``recording.stopped`` tell of a recording."""
    return {
        "rec_path": f"{session.folder}/",
        "session_name": session.manifest.session_name,
        "record_eye": any(stream.startswith("eye") for stream in session.cameras.values()),
        "compression": session.manifest.mode == "jpeg",
        "start_time_synced": session.manifest.start.timestamp,
        "streams": session.stats(),
    }


def complete(session: Session, course: Course, pusher: Pusher, clock: PupilClock, hurry: Callable[[], bool]) -> None:
    """Close all files of a recording that has ended and say so; remove one that never began. ``pusher`` is closed."""
    outcome: dict[str, Any] = {"subject": "recording.stopped"}
    with pusher:
        try:
            if not course.started:
                session.abandon()
                return
            session.complete(hurry)
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever asked hears of it
            _log.exception("%s could not be completed; gazed repair will do it once there is room", session.folder)
            reason = f"the recording is safe but not complete: {error}"
            hint = f"gazed repair {session.folder}"
            outcome = {"subject": "recording.failed", "code": "not-complete", "reason": reason, "hint": hint}
        stopped = {**describe(session), "reason": course.stop_reason, **course.request}
        pusher.notify({**stopped, "timestamp": clock.now(), **outcome})
