"""A bus for tests: real sockets, in this process, gone afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gazed_bus.broker import Broker
from gazed_bus.client import Publisher
from gazed_bus.rundir import RunDir
from gazed_timesync import PupilClock

__all__ = ["Bus", "await_subscriber", "running_bus"]


@dataclass(frozen=True, slots=True)
class Bus:
    """A running broker and where to find it."""

    run: RunDir
    clock: PupilClock
    broker: Broker


@contextmanager
def running_bus() -> Iterator[Bus]:
    """Run a broker on free ports; on the way out, raise what went wrong inside it."""
    run = RunDir.create()
    try:
        with PupilClock.create(run.clock) as clock:
            broker = Broker(run, clock, port=0)
            broker.start()
            try:
                yield Bus(run, clock, broker)
                broker.check()
            finally:
                broker.close()
    finally:
        run.remove()


def await_subscriber(publisher: Publisher, topic: str, *, present: bool = True, timeout: float = 5.0) -> None:
    """Wait until ``topic`` has a subscriber, or none any more; ``timeout`` is in seconds.

    Raises:
        TimeoutError: it took longer.
    """
    deadline = time.monotonic() + timeout
    while publisher.has_subscribers(topic) is not present:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{topic!r}: waited {timeout:g} s for a subscriber to {'come' if present else 'go'}")
        time.sleep(0.002)
