"""One supervised process: started, watched, restarted within a budget, ended in good order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal

from gazed_bus.rundir import RunDir

__all__ = ["ManagedProcess", "ProcessState"]

ProcessState = Literal["starting", "ready", "restarting", "failed", "stopped"]

_BUDGET = 5
_BUDGET_WINDOW_S = 60.0
_SLOW_RETRY_S = 30.0
_LONGEST_BACKOFF_S = 2.0
_START_S = 90.0
_HUNG_S = 3.0
_MOST_UNREAD = 1 << 20
_LONGEST_LINE = 1 << 20
_KILLED_S = 1.0
_log = logging.getLogger(__name__)


class ManagedProcess:
    """Runs ``python -m <module> <arguments>`` and keeps it running.

    A process that dies is started again, at once the first time and then with growing pauses; after five deaths in a
    minute it is ``failed`` and tried again every half minute. One that shows no heartbeat for three seconds is killed,
    unless its last one asked for more patience (``patience_s``).
    ``arguments`` is called before each start. ``on_change`` is called whenever ``state`` changes.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Callable[[], Sequence[str]],
        run: RunDir,
        on_change: Callable[[ManagedProcess], None] = lambda _process: None,
    ) -> None:
        self.name = name
        self.state: ProcessState = "stopped"
        self.restarts = 0
        self.last_exit: int | None = None
        self.info: dict[str, Any] = {}
        self.stats: dict[str, Any] = {}
        self.module = module
        self._arguments = arguments
        self._run = run
        self._on_change = on_change
        self._process: asyncio.subprocess.Process | None = None
        self._deaths: deque[float] = deque(maxlen=_BUDGET + 1)
        self._wanted = False
        self._ending = False
        self._task: asyncio.Task[None] | None = None
        self._one_end = asyncio.Lock()
        self._was_ready = False
        self._first_news = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Process number, while there is a process."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def runs(self) -> bool:
        """Whether it is up or coming up, and nobody asked it to stop."""
        return self._wanted and self.state in ("starting", "ready")

    def start(self) -> None:
        """Start the process and keep it running until ``stop``; one that is being stopped is started again then."""
        self._wanted = True
        if self._task is None:
            self._deaths.clear()
            self._task = asyncio.get_running_loop().create_task(self._keep_running(), name=self.name)

    async def wait_ready(self) -> bool:
        """Wait for the first ``ready``; false if the process ended before it got there."""
        await self._first_news.wait()
        return self._was_ready

    def stop(self, grace: float) -> Coroutine[Any, Any, None]:
        """End the process: SIGTERM, and SIGKILL after ``grace`` seconds. To be awaited.

        The wish counts from the call on: a ``start`` that follows it starts the process again.
        """
        self._wanted = False
        return self._end(grace)

    async def _end(self, grace: float) -> None:
        async with self._one_end:
            self._ending = True
            await self._end_process(grace)
            if self._task:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
                self._task = None
            self._ending = False
            self._set("stopped")
            if self._wanted:
                self.start()

    async def _end_process(self, grace: float) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            _log.error("%s did not end within %.1f s and is killed", self.name, grace)
            self.kill()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _KILLED_S)

    def kill(self) -> None:
        """End the process at once."""
        if self._process and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)

    def tell(self, message: Mapping[str, Any]) -> None:
        """Hand the process a message (``Child.told``), if it takes any."""
        pipe = self._process.stdin if self._process and self.state == "ready" else None
        if pipe and pipe.transport.get_write_buffer_size() < _MOST_UNREAD and not pipe.is_closing():
            pipe.write(json.dumps(message).encode() + b"\n")

    def describe(self) -> dict[str, Any]:
        """Return what ``gazed status`` shows of this process."""
        died = "" if self.last_exit is None else f"ended with {_reason(self.last_exit)}"
        last = {"last_exit": self.last_exit, "reason": died}
        return {"state": self.state, "restarts": self.restarts, "pid": self.pid, **last}

    def _set(self, state: ProcessState) -> None:
        if state != self.state:
            self.state = state
            self._on_change(self)

    async def _keep_running(self) -> None:
        while True:
            self._set("starting")
            code = await self._run_once()
            if self._ending:
                return
            self._first_news.set()
            self.last_exit = code
            self.restarts += 1
            now = time.monotonic()
            self._deaths.append(now)
            recent = sum(now - death < _BUDGET_WINDOW_S for death in self._deaths)
            if recent > _BUDGET:
                _log.critical("%s died %d times in a minute; next try in %.0f s", self.name, recent, _SLOW_RETRY_S)
                self._set("failed")
                await asyncio.sleep(_SLOW_RETRY_S)
                self._deaths.clear()
            else:
                _log.error("%s ended with %s and is started again", self.name, _reason(code))
                self._set("restarting")
                await asyncio.sleep(min(_LONGEST_BACKOFF_S, 0.1 * 2 ** (recent - 2)) if recent > 1 else 0)

    async def _run_once(self) -> int:
        reader, writer = os.pipe()
        environment = {
            **os.environ,
            "GAZED_RUN": str(self._run.path),
            "GAZED_STATUS_FD": str(writer),
            # Thread pools of numerical libraries cost processor time and gain nothing here.
            "OPENBLAS_NUM_THREADS": "1",
            "OPENCV_FOR_THREADS_NUM": "1",
            "OMP_NUM_THREADS": "1",
        }
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self.module, *self._arguments(),
                stdin=asyncio.subprocess.PIPE, stdout=sys.stderr.fileno(), pass_fds=(writer,), env=environment,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            _log.error("%s cannot be started: %s", self.name, error)
            os.close(reader)
            return os.EX_OSERR
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        watch = asyncio.ensure_future(self._watch(reader))
        try:
            return await self._process.wait()
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _watch(self, descriptor: int) -> None:
        """Read the status pipe; kill the process when it has been silent for too long."""
        stream = asyncio.StreamReader(_LONGEST_LINE)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb", 0)
        )
        try:
            while True:
                limit = _START_S if self.state == "starting" else self.stats.get("patience_s") or _HUNG_S
                try:
                    line = await asyncio.wait_for(stream.readline(), limit)
                except TimeoutError:
                    if self._ending:
                        # It has its grace instead: whoever closes files may have no time for a heartbeat.
                        continue
                    _log.error("%s (%s) has shown no sign of life for %.0f s and is killed", self.name, self.pid, limit)
                    self.kill()
                    return
                if not line:
                    return
                self._on_status(json.loads(line))
        except ValueError as error:
            _log.error("%s (%s) says what cannot be read and is killed: %s", self.name, self.pid, error)
            self.kill()
        finally:
            transport.close()

    def _on_status(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self.info = message["ready"]
            self.stats = {"patience_s": _START_S}
            self._set("ready")
            self._was_ready = True
            self._first_news.set()
        else:
            self.stats = message["beat"]


def _reason(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
