"""What every process of the daemon has in common: it announces itself, shows that it lives, ends with its parent.

The supervisor starts a process with three things: ``GAZED_RUN`` (the run directory), ``GAZED_STATUS_FD`` (a pipe on
which the child writes one JSON object a line: ``{"ready": …}`` once, ``{"beat": …}`` at least once a second) and a
pipe as standard input. On it the supervisor tells what it knows, one JSON object a line; it closes when the supervisor
is gone, however it went. Neither pipe can be reached from the network.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import zmq

from gazed_bus.log import log_to_bus
from gazed_bus.rundir import RunDir
from gazed_timesync import GazedError, PupilClock

__all__ = ["Child"]

_BEAT_EVERY = 0.5
_GRACE_AFTER_PARENT = 8.0
_log = logging.getLogger(__name__)


class Child:
    """The running process, seen from inside. Use as a context manager around the process's main loop.

    Raises:
        GazedError: the process was not started by a supervisor.
    """

    def __init__(self, name: str) -> None:
        try:
            self.run = RunDir(Path(os.environ["GAZED_RUN"]))
            self._status = int(os.environ["GAZED_STATUS_FD"])
        except (KeyError, ValueError):
            raise GazedError(f"{name} is a part of the daemon", hint="start the daemon with: gazed run") from None
        self.name = name
        self.clock = PupilClock(self.run.clock)
        self.stopping = False
        self.told: dict[str, Any] = {}
        """The last thing that the supervisor told: the status of the whole daemon."""
        self._beaten = 0.0
        self._closed = False
        os.set_blocking(self._status, False)
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @classmethod
    def start(cls, name: str) -> Child:
        """Take over the signals and the log of this process and watch the parent."""
        child = cls(name)
        # A driver that crashes says at least where, on standard error.
        faulthandler.enable()
        signal.signal(signal.SIGTERM, child._on_signal)
        log_to_bus(name, child.run)
        threading.Thread(target=child._watch_parent, name="parent", daemon=True).start()
        return child

    def ready(self, info: Mapping[str, Any] | None = None) -> None:
        """Tell the supervisor that this process does its work from now on."""
        self._tell({"ready": dict(info or {})})

    def beat(self, stats: Callable[[], Mapping[str, Any]]) -> None:
        """Show that the main loop turns. Cheap: only one call in half a second asks for ``stats`` and sends them."""
        now = time.monotonic()
        if now - self._beaten >= _BEAT_EVERY:
            self._beaten = now
            self._tell({"beat": dict(stats())})

    def stop(self) -> None:
        """Ask the main loop to end."""
        self.stopping = True
        os.eventfd_write(self.wake_fd, 1)

    def _tell(self, message: Mapping[str, Any]) -> None:
        try:
            os.write(self._status, json.dumps(message, allow_nan=False, default=str).encode() + b"\n")
        except BlockingIOError:
            _log.warning("%s: the supervisor does not read its status pipe", self.name)
        except BrokenPipeError:
            self.stop()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stop()

    def _watch_parent(self) -> None:
        # Not by sys.stdin: its lock, held by this thread, would abort the interpreter's shutdown.
        pending = b""
        while block := os.read(0, 65536):
            *lines, pending = (pending + block).split(b"\n")
            if lines:
                self.told = json.loads(lines[-1])
        if self._closed:
            return
        self.stop()
        time.sleep(_GRACE_AFTER_PARENT)
        os._exit(1)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, GazedError):
            # It says enough of itself; where it came from is for what nobody foresaw.
            _log.error("%s ends: %s%s", self.name, error.message, f" ({error.hint})" if error.hint else "")
        elif error is not None and not isinstance(error, SystemExit):
            _log.error("%s ends: %s", self.name, error, exc_info=error)
        self._closed = True
        logging.shutdown()
        # What was sent last still has a moment to leave.
        zmq.Context.instance().destroy(linger=200)
        os.close(self.wake_fd)
        self.clock.close()
        if isinstance(error, GazedError):
            raise SystemExit(error.exit_code)
