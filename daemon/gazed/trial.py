"""A daemon of one's own for a while: started as a user would start it, used through the real remote API, ended."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
from types import TracebackType

from gazed.config import Config
from gazed.errors import StartFailed
from gazed.waiting import wait_until_streaming
from gazed_bus.errors import PortInUse
from gazed_bus.remote import Remote

__all__ = ["Trial"]

_READY_S = 90.0
_END_S = 12.0


class Trial:
    """``gazed run`` in a process of its own, with a free port. Use as a context manager.

    ``remote`` talks to it, ``process`` is its pid. The log is shown only where something fails. The daemon ends
    with this process, even if that is killed.

    Raises:
        StartFailed: the daemon ended, or not all its streams run in time.
        PortInUse: no port was free, three times.
    """

    def __init__(self, config: Config) -> None:
        # Files without a name, so that nothing is left behind however this process ends.
        self._files = contextlib.ExitStack()
        self._config_file = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed by close()
        self._config_file.write(config.to_toml().encode())
        self._config_file.flush()
        self._log = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed by close()

    def __enter__(self) -> Trial:
        for _ in range(3):
            self._start(_free_port())
            try:
                self._wait_until_ready()
            except PortInUse:
                self._end()
            except BaseException:
                self.close()
                raise
            else:
                return self
        self.close()
        raise PortInUse("three free ports in a row were taken by another program before the daemon had them")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the daemon in good order, or after a while without."""
        self._end()
        self._files.close()

    def _start(self, port: int) -> None:
        config = self._config_file.fileno()
        # The pipe closes with this process, whatever ends it.
        command = [sys.executable, "-m", "gazed", "run", "--until-eof"]
        command += ["--config", f"/dev/fd/{config}", "--port", str(port)]
        self._log.seek(0)
        self._log.truncate()
        # A session of its own: Ctrl-C then ends the trial first, and the trial ends the daemon.
        self._daemon = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(config,),
            start_new_session=True,
        )
        self.process = self._daemon.pid
        self.port = port
        self.remote = Remote("127.0.0.1", port, timeout=1.0)

    def _wait_until_ready(self) -> None:
        try:
            wait_until_streaming(self.remote, _READY_S, still_alive=self._check_alive)
        except StartFailed as error:
            raise StartFailed(f"{error.message}\n{self._tail()}", hint=error.hint) from error

    def _check_alive(self) -> None:
        code = self._daemon.poll()
        if code == PortInUse.exit_code:
            raise PortInUse(f"port {self.port} was taken by another program")
        if code is not None:
            raise StartFailed(f"the daemon ended with exit code {code}", hint="gazed doctor")

    def _tail(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-2000:].strip()

    def _end(self) -> None:
        self.remote.close()
        assert self._daemon.stdin is not None  # noqa: S101 - it is a pipe
        self._daemon.stdin.close()
        try:
            self._daemon.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
