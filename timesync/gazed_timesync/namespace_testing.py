"""Networks of one's own for tests: namespaces of this machine with cables between them. Needs root, on Linux."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

__all__ = ["Cable", "Namespace", "namespaces_refused"]

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_HERE = Path("/proc/thread-self/ns/net")
_libc = ctypes.CDLL(None, use_errno=True)


def namespaces_refused() -> str:
    """Return why no namespace can be made here, or nothing if one can."""
    try:
        Namespace().close()
    except OSError as error:
        return f"needs network namespaces, as root: {error}"
    return ""


class Namespace:
    """A network without any other machine in it, gone with ``close`` and the last socket.

    Raises:
        OSError: this user may not make one.
    """

    def __init__(self) -> None:
        before = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.unshare(_CLONE_NEWNET))
            try:
                self.fd = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
            finally:
                _check(_libc.setns(before, _CLONE_NEWNET))
        finally:
            os.close(before)
        self.run("ip", "link", "set", "lo", "up")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread be in the namespace: sockets, threads and processes made meanwhile stay in it."""
        before = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self.fd, _CLONE_NEWNET))
            try:
                yield
            finally:
                _check(_libc.setns(before, _CLONE_NEWNET))
        finally:
            os.close(before)

    def run(self, *command: str) -> None:
        """Run a command in the namespace.

        Raises:
            OSError: it failed; the text says how.
        """
        with self.entered():
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
        if done.returncode:
            raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")

    def close(self) -> None:
        """Give it up."""
        os.close(self.fd)

    def __enter__(self) -> Namespace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Cable:
    """A network cable between two namespaces, with an address (as 10.1.0.1/24) at each end."""

    def __init__(self, near: Namespace, near_address: str, far: Namespace, far_address: str, name: str = "net") -> None:
        self._near, self._name = near, name
        near.run(
            "ip", "link", "add", f"{name}0", "type", "veth",
            "peer", "name", f"{name}1", "netns", f"/proc/{os.getpid()}/fd/{far.fd}",
        )  # fmt: skip
        for end, (space, address) in enumerate(((near, near_address), (far, far_address))):
            space.run("ip", "addr", "add", address, "dev", f"{name}{end}")
            space.run("ip", "link", "set", f"{name}{end}", "up")

    def unplug(self) -> None:
        """Take it out, as both ends see it."""
        self._near.run("ip", "link", "set", f"{self._name}0", "down")

    def plug(self) -> None:
        """Put it back in."""
        self._near.run("ip", "link", "set", f"{self._name}0", "up")


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
