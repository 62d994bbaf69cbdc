"""Waiting until a daemon does its work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from gazed.errors import StartFailed
from gazed_bus.errors import NotReachable, RequestRefused
from gazed_bus.remote import Remote

__all__ = ["wait_until_streaming"]

_POLL_S = 0.05


def wait_until_streaming(
    remote: Remote, timeout: float, *, still_alive: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Return the status of a daemon as soon as each of its cameras streams, or has come to its end.

    ``still_alive`` is called between two looks and may raise; ``timeout`` is in seconds.

    Raises:
        StartFailed: it took too long; the message says what is missing.
    """
    deadline = time.monotonic() + timeout
    waiting = "the daemon does not answer"
    while time.monotonic() < deadline:
        still_alive()
        # A daemon on its way up does not answer, or has no status yet.
        with contextlib.suppress(NotReachable, RequestRefused):
            status = remote.status()
            states = {name: stream["state"] for name, stream in status["streams"].items()}
            late = [f"{name}: {state}" for name, state in states.items() if state not in ("streaming", "ended", "data")]
            if states and not late:
                return status
            waiting = ", ".join(late) or "there are no streams yet"
        time.sleep(_POLL_S)
    raise StartFailed(f"not ready after {timeout:g} s: {waiting}", hint="gazed doctor")
