"""What ``gazed status`` shows: every stream and process of a daemon, with rates."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from gazed.processes import ManagedProcess
from gazed_recorder.space import estimate_gb_per_hour

__all__ = ["PLUGIN_HOST", "StatusReport"]

PLUGIN_HOST = "gazed_plugins.host"
# What a plugin counts that is a rate worth showing.
_COUNTS = ("detected", "mapped", "frames")


class StatusReport:
    """Puts together the body of ``gazed.status``; remembers what rates need."""

    def __init__(self, processes: Mapping[str, ManagedProcess]) -> None:
        self._processes = processes
        self._rates: dict[str, _Rates] = {}

    def body(self, enabled: Iterable[str]) -> dict[str, Any]:
        """Return the state of the ``enabled`` streams and of all processes, as of now."""
        recorder = self._processes.get("recorder")
        accounts = recorder.stats if recorder else {}
        names = list(enabled)
        streams = {name: self._stream(name, accounts.get("streams", {}).get(name)) for name in names}
        rates = {name: stream["bytes_per_s"] for name, stream in streams.items()}
        for name, report in accounts.get("streams", {}).items():
            streams.setdefault(name, {"state": "data", **report})
        plugins = [process for process in self._processes.values() if process.module == PLUGIN_HOST]
        return {
            "recording": accounts.get("recording"),
            "streams": streams,
            "plugins": {process.name: self._plugin(process) for process in plugins if process.state == "ready"},
            "processes": {name: process.describe() for name, process in self._processes.items()},
            "ports": self._processes["broker"].info,
            "free_gb": None if accounts.get("free_bytes") is None else accounts["free_bytes"] / 1e9,
            # In mode ``jpeg``; ``None`` until each camera has shown its rate.
            "gb_per_hour": estimate_gb_per_hour(rates) if all(rates.values()) else None,
            "version": version("gazed"),
            "pid": os.getpid(),
        }

    def _stream(self, name: str, accounts: Mapping[str, Any] | None) -> dict[str, Any]:
        process = self._processes.get(name)
        stats = process.stats if process and process.state == "ready" else {}
        state = stats.get("state", process.state if process else "stopped")
        rates = self._rates.setdefault(name, _Rates()).update(stats.get("frames", 0), stats.get("bytes", 0))
        if process and state in ("restarting", "failed"):
            stats = {"reason": process.describe()["reason"]}
        return {"received": 0, "written": 0, "dropped": 0, **stats, **(accounts or {}), **rates, "state": state}

    def _plugin(self, process: ManagedProcess) -> dict[str, Any]:
        count = next((process.stats[key] for key in _COUNTS if key in process.stats), 0)
        rates = self._rates.setdefault(process.name, _Rates()).update(count, 0)
        return {**process.stats, "per_s": rates["fps"]}


class _Rates:
    """Frames and bytes a second of one process, over the last second or so."""

    def __init__(self) -> None:
        self._then = (time.monotonic(), 0, 0)
        self._rates = {"fps": 0.0, "bytes_per_s": 0.0}

    def update(self, frames: int, size: int) -> dict[str, float]:
        now = time.monotonic()
        then, frames_then, size_then = self._then
        if frames < frames_then or not frames_then:
            self._then = (now, frames, size)
        elif now - then >= 1.0:
            self._rates = {
                "fps": round((frames - frames_then) / (now - then), 2),
                "bytes_per_s": round((size - size_then) / (now - then)),
            }
            self._then = (now, frames, size)
        return self._rates
