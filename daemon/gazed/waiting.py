"""Waiting until a daemon does its work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from gazed.analysis import plan_analysis
from gazed.config import Config
from gazed.errors import StartFailed
from gazed_bus.errors import NotReachable, RequestRefused
from gazed_bus.remote import Remote

__all__ = ["wait_until_computing", "wait_until_streaming"]

_POLL_S = 0.05
_LOAD_S = 60.0


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


def wait_until_computing(remote: Remote, config: Config) -> None:
    """Return as soon as every pupil detector detects and every other plugin that runs from the start is ready.

    Raises:
        StartFailed: it took too long; the message says what is missing.
    """
    deadline = time.monotonic() + _LOAD_S
    wanted = {*plan_analysis(config, config.enabled_streams), *config.plugins.start}
    late = sorted(wanted)
    while late:
        # A machine that is busy with loading all of them may not answer at once.
        with contextlib.suppress(NotReachable):
            plugins = remote.status()["plugins"]
            late = [name for name in sorted(wanted) if not plugins.get(name, {}).get("detected", name in plugins)]
        if late and time.monotonic() > deadline:
            raise StartFailed(f"not ready after {_LOAD_S:g} s: {', '.join(late)}", hint="gazed status shows why")
        time.sleep(_POLL_S)
