"""For tests: a small daemon of one's own, and what can happen to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from gazed.config import load_config
from gazed.trial import Trial

__all__ = ["pid_of", "small_daemon", "wait_for"]

T = TypeVar("T")


@contextmanager
def small_daemon(
    root: Path,
    *,
    cables: Path | None = None,
    recorder: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    **streams: Mapping[str, Any],
) -> Iterator[Trial]:
    """Run a daemon whose simulated cameras are small and cheap, with its recordings in ``root``.

    With ``cables``, a file ``<cables>/<stream>`` unplugs that camera for as long as it exists. ``more`` are
    other tables of the configuration, ``streams`` add options.
    """
    tables: dict[str, Any] = {}
    for stream, size in (("world", (320, 240, 30)), ("eye0", (96, 96, 60)), ("eye1", (96, 96, 60))):
        sizes = zip(("width", "height", "fps"), size, strict=True)
        options = {**dict(sizes), "seconds": 2, **streams.get(stream, {})}
        if cables is not None:
            options["cable"] = str(cables / stream)
        tables[stream] = {"source": "simulated", "options": options}
    settings = {"root": str(root), "floor_mb": 1, "warn_mb": 100, **(recorder or {})}
    with Trial(load_config(overrides={"recorder": settings, "streams": tables, **(more or {})})) as trial:
        yield trial


def wait_for(look: Callable[[], T], timeout: float = 15.0) -> T:
    """Look again and again until what is seen is true, and return it.

    Raises:
        TimeoutError: it was never true.
    """
    deadline = time.monotonic() + timeout
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not seen within {timeout} s; last: {seen!r}")
        time.sleep(0.02)
    return seen


def pid_of(trial: Trial, name: str) -> int:
    """Return the pid of a process of the daemon, as soon as it is ready."""

    def look() -> int:
        process = trial.remote.status()["processes"].get(name, {})
        return process.get("pid") or 0 if process.get("state") == "ready" else 0

    return wait_for(look)
