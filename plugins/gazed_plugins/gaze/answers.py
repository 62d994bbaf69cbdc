"""What the gaze mapper answers to those who ask over the bus."""

from __future__ import annotations

import time
from typing import Any

from gazed_bus.client import Subscriber
from gazed_plugins.errors import PluginError
from gazed_plugins.gaze.errors import CalibrationFailed

__all__ = ["ANSWERS", "REFUSED", "await_answer"]

ANSWERS = ("notify.calibration.", "notify.validation.", "notify.accuracy.result", "notify.process.died")
"""Topics to subscribe to before asking."""
REFUSED = "calibration.refused"
"""Subject of the answer to what is not obeyed."""


def await_answer(heard: Subscriber, seconds: float, *subjects: str) -> dict[str, Any] | None:
    """Return the first notification with one of these subjects; ``None`` if there is none in that time.

    Raises:
        CalibrationFailed: the calibration or validation came to nothing; the reason is the mapper's.
        PluginError: the mapper died.
    """
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        message = heard.receive(left)
        if message is None:
            continue
        note, subject = message.payload, message.payload.get("subject")
        # A recording that starts has the mapper repeat what it knows of the calibration in use.
        if subject in subjects and not note.get("repeated"):
            return note
        if subject == "process.died" and note.get("name") == "gaze":
            raise PluginError(f"the gaze mapper died: {note.get('reason')}", hint="it is started again: begin anew")
        if subject in ("calibration.failed", "validation.failed"):
            reason, hint = str(note.get("reason")), str(note.get("hint", ""))
            raise CalibrationFailed(reason, hint=hint, what=str(subject).partition(".")[0])
    return None
