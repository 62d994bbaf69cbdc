"""The broker process: the bus itself, Pupil Remote, and delayed notifications.

Two C loops of libzmq move the messages (XSUB to XPUB, and PULL to XSUB); they never hold Python's lock. One Python
thread (``gazed_bus.server``) answers requests and keeps delayed notifications.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import zmq

from gazed_bus.backlog import Backlog
from gazed_bus.child import Child
from gazed_bus.client import Pusher, Subscriber
from gazed_bus.errors import BusError, PortInUse
from gazed_bus.rundir import RunDir
from gazed_bus.server import Server
from gazed_timesync import PupilClock

__all__ = ["Broker", "Ports"]

_MAX_MESSAGE = 32 << 20
# One queue for each peer. The backlog bounds the bytes; this bounds what small messages can pile up in one second.
_QUEUE = 10_000
_HELD_BYTES = 36_000_000
_REQUESTS_WAITING = 16
_HUNG_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports: Pupil Remote's, and those at which peers publish and subscribe."""

    port: int
    pub_port: int
    sub_port: int


class Broker:
    """The bus of one daemon. Binds in the constructor, works between ``start`` and ``close``.

    ``listen`` is an IPv4 address of this machine, or 0.0.0.0 for all of them; loopback works in any case. A port of 0
    takes a free one.

    Raises:
        PortInUse: a port is taken.
        BusError: ``listen`` is no address of this machine, or a port is out of bounds.
    """

    def __init__(
        self,
        run: RunDir,
        clock: PupilClock,
        listen: str = "127.0.0.1",
        port: int = 50020,
        pub_port: int = 0,
        sub_port: int = 0,
    ) -> None:
        self._context = zmq.Context()
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None
        try:
            router = self._socket(zmq.ROUTER, queue=_REQUESTS_WAITING)
            self._xsub, self._xpub, self._pull = (self._socket(kind) for kind in (zmq.XSUB, zmq.XPUB, zmq.PULL))
            self._bridge = self._socket(zmq.PUB)
            # What was pushed must arrive: the bridge waits where a publisher would drop.
            self._bridge.setsockopt(zmq.XPUB_NODROP, 1)
            self.ports = Ports(
                _bind_tcp(router, listen, port, "--port"),
                _bind_tcp(self._xsub, listen, pub_port, "--pub-port"),
                _bind_tcp(self._xpub, listen, sub_port, "--sub-port"),
            )
            for socket, endpoint in ((self._xsub, run.pub), (self._xpub, run.sub), (self._pull, run.push)):
                socket.bind(endpoint)
                socket.bind(f"inproc://{endpoint}")
            self._bridge.connect(f"inproc://{run.pub}")
        except BaseException:
            self._context.destroy(0)
            raise
        self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._backlog = Backlog((run.sub, f"tcp port {self.ports.sub_port}"), _HELD_BYTES)
        self._server = Server(
            router,
            Pusher(f"inproc://{run.push}", context=self._context),
            Subscriber(f"inproc://{run.sub}", Server.topics, context=self._context, hwm=1000),
            clock,
            (self.ports.pub_port, self.ports.sub_port),
            self._backlog,
            self._stop_fd,
        )

    def _socket(self, kind: int, queue: int = _QUEUE) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.sndhwm = _QUEUE
        socket.rcvhwm = queue
        socket.maxmsgsize = _MAX_MESSAGE
        socket.tcp_keepalive = 1
        socket.tcp_keepalive_idle = 30
        return socket

    def start(self) -> None:
        """Begin to work."""
        self._run("proxy", lambda: _proxy(self._xsub, self._xpub))
        self._run("bridge", lambda: _proxy(self._pull, self._bridge))
        self._run("server", self._server.run)

    def _run(self, name: str, loop: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                loop()
            except BaseException as error:  # noqa: BLE001 - kept for check(), which raises it
                self._failure = error

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def check(self) -> None:
        """See to it that everything works.

        Raises:
            BusError: one of the threads has ended or hangs.
        """
        if self._failure is not None:
            raise BusError(f"a thread of the broker has failed: {self._failure!r}") from self._failure
        if time.monotonic() - self._server.turned > _HUNG_AFTER_S:
            raise BusError(f"the server has not turned for {_HUNG_AFTER_S:.0f} s")

    def show(self, status: Mapping[str, Any]) -> None:
        """Take the daemon's status from the supervisor, for clients that ask."""
        self._server.show(status)

    def stats(self) -> dict[str, Any]:
        """Return counts: requests answered, malformed messages, delayed notifications, slow subscribers cut."""
        return {
            "answered": self._server.answered,
            "malformed": self._server.malformed,
            "delayed": self._server.delayed,
            "cut": self._backlog.cut,
            "held_bytes": self._backlog.held,
        }

    def close(self) -> None:
        """End the threads and give the ports back."""
        os.eventfd_write(self._stop_fd, 1)
        if not self._threads:
            self._run("server", self._server.run)
            _close(self._xsub, self._xpub, self._pull, self._bridge)
        # The C loops end when their context does, and close their sockets; only then this returns.
        self._context.term()
        for thread in self._threads:
            thread.join()
        os.close(self._stop_fd)


def _proxy(front: zmq.Socket[bytes], back: zmq.Socket[bytes]) -> None:
    try:
        while True:
            # A peer can end libzmq's proxy: XPUB swallows a known subscription that stands last in a longer message.
            with contextlib.suppress(zmq.Again):
                zmq.proxy(front, back)
    except zmq.ContextTerminated:
        return
    finally:
        _close(front, back)


def _close(*sockets: zmq.Socket[bytes]) -> None:
    for socket in sockets:
        socket.close(0)


def _bind_tcp(socket: zmq.Socket[bytes], listen: str, port: int, option: str) -> int:
    """Bind at ``listen`` and at loopback; return the port."""
    if not 0 <= port <= 65_535:
        raise BusError(f"{option} is {port}: wanted a port from 0 to 65535")
    everywhere = listen == "0.0.0.0"  # noqa: S104 - what the user asked for
    for host in [listen] if everywhere or listen.startswith("127.") else ["127.0.0.1", listen]:
        try:
            socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(
                    f"port {port} on {host} is taken by another program", hint=f"choose another one: {option} N"
                ) from error
            raise BusError(
                f"cannot listen on {host}:{port}: {error.strerror}", hint="see `ip addr` for this machine's addresses"
            ) from error
        endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        port = int(endpoint.rpartition(":")[2])
    return port


def _parse(argv: Sequence[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="gazed_bus.broker", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=50020)
    parser.add_argument("--pub-port", type=int, default=0)
    parser.add_argument("--sub-port", type=int, default=0)
    return vars(parser.parse_args(argv))


def main(argv: Sequence[str]) -> None:
    """Run the broker until the daemon ends; a taken port ends it with exit code 4."""
    arguments = _parse(argv)
    with Child.start("broker") as child:
        broker = Broker(child.run, child.clock, **arguments)
        try:
            broker.start()
            child.ready(asdict(broker.ports))
            shown = child.told
            while not child.stopping:
                broker.check()
                if child.told is not shown:
                    shown = child.told
                    broker.show(shown)
                child.beat(broker.stats)
                select.select([child.wake_fd], [], [], 0.2)
        finally:
            broker.close()


if __name__ == "__main__":
    main(sys.argv[1:])
