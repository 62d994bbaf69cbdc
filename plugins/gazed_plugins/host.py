"""The process around one plugin: it listens for it, speaks for it, and outlives its mistakes.

Started by the supervisor as ``python -m gazed_plugins.host NAME [ARGUMENTS AS JSON]``.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgpack
import zmq

from gazed_bus.child import Child
from gazed_bus.client import Publisher, Pusher, Subscriber
from gazed_bus.codec import Message
from gazed_bus.rundir import RunDir
from gazed_plugins.errors import PluginArgument, PluginError
from gazed_plugins.plugin import Plugin, find_plugin
from gazed_recorder.atomic import replace_file
from gazed_timesync import PupilClock, PupilTime

__all__ = ["Host"]

_IDLE_S = 0.1
_BATCH = 64
_FAILURES_IN_A_ROW = 10
_SHOULD_DOC = "notify.meta.should_doc"
_log = logging.getLogger(__name__)


class _BusContext:
    """``PluginContext`` over the real bus."""

    def __init__(self, run: RunDir, clock: PupilClock, memory: str) -> None:
        self._memory = run.path / memory
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.clock = clock
        self.now: Callable[[], PupilTime] = clock.now
        self.publisher = Publisher(run.pub)
        self.pusher = Pusher(run.push)
        self.subscriber = Subscriber(run.sub, [_SHOULD_DOC])
        self._topics: dict[str, int] = {}
        self.behind: dict[str, int] = {}

    def publish(self, topic: str, payload: Mapping[str, Any]) -> None:
        self.publisher.send(topic, payload)

    def notify(self, notification: Mapping[str, Any]) -> None:
        self.pusher.notify({"timestamp": self.now(), **notification})

    def has_subscribers(self, topic: str) -> bool:
        return self.publisher.has_subscribers(topic)

    def subscribe(self, topic: str, newest: int = 0) -> None:
        self._topics[topic] = newest
        self.subscriber.subscribe(topic)

    def unsubscribe(self, topic: str) -> None:
        self._topics.pop(topic, None)
        if topic != _SHOULD_DOC:
            self.subscriber.unsubscribe(topic)

    def wake(self) -> None:
        os.eventfd_write(self.wake_fd, 1)

    def was_woken(self) -> bool:
        """Tell whether the plugin has asked for its turn since this was asked last."""
        try:
            return bool(os.eventfd_read(self.wake_fd))
        except BlockingIOError:
            return False

    def remember(self, state: Mapping[str, Any]) -> None:
        try:
            replace_file(self._memory, msgpack.packb(dict(state)), durable=False)
        except OSError as error:
            _log.error("what was set now will be lost if this process dies: %s", error)

    def remembered(self) -> dict[str, Any]:
        if not self._memory.exists():
            return {}
        kept: dict[str, Any] = msgpack.unpackb(self._memory.read_bytes(), strict_map_key=False)
        return kept

    def is_for_plugin(self, topic: str) -> bool:
        """Tell whether the plugin asked for a topic; the host itself also listens."""
        return topic.startswith(tuple(self._topics))

    def waiting(self) -> list[Message]:
        """Return the messages that wait, a bounded number of them, less those that the plugin asked to pass over."""
        batch: list[Message] = []
        while len(batch) < _BATCH and (message := self.subscriber.receive(0)) is not None:
            batch.append(message)
        limits = [(topic, newest) for topic, newest in self._topics.items() if newest]
        if not limits:
            return batch
        kept, seen = [], dict[str, int]()
        for message in reversed(batch):
            seen[message.topic] = count = seen.get(message.topic, 0) + 1
            if any(count > newest and message.topic.startswith(topic) for topic, newest in limits):
                self.behind[message.topic] = self.behind.get(message.topic, 0) + 1
            else:
                kept.append(message)
        return kept[::-1]

    def close(self) -> None:
        for peer in (self.publisher, self.pusher, self.subscriber):
            peer.close()
        os.close(self.wake_fd)


class Host:
    """One plugin on the bus; ``turn`` does one step of its loop.

    Raises:
        PluginArgument: the plugin does not take these arguments.
    """

    def __init__(self, name: str, kind: type[Plugin], args: Mapping[str, Any], run: RunDir, clock: PupilClock) -> None:
        self._name = name
        self._doc = inspect.getdoc(kind) or ""
        same = hashlib.sha256(json.dumps([name, args], sort_keys=True, default=str).encode()).hexdigest()[:16]
        self._context = _BusContext(run, clock, f"{same}.memory")
        self._idle_at = 0.0
        self._received = self._failed = self._failed_in_a_row = 0
        try:
            self._plugin = kind(self._context, args)
        except BaseException:
            self._context.close()
            raise
        for topic in kind.topics:
            self._context.subscribe(topic)

    @property
    def sources(self) -> tuple[zmq.Socket[bytes], int]:
        """What becomes readable when there is something to do."""
        return self._context.subscriber.socket, self._context.wake_fd

    def begin(self) -> None:
        """Let the plugin have its first turn; what it raises then, as for want of a port, ends the process."""
        self._plugin.on_idle()

    def turn(self) -> None:
        """Hand over the messages that wait (``PluginContext.subscribe`` says which), and let the plugin do what is due.

        Raises:
            PluginError: the plugin has failed ten times since it last handled a message.
        """
        for message in self._context.waiting():
            if message.topic == _SHOULD_DOC:
                self._context.notify({"subject": "meta.doc", "actor": self._name, "doc": self._doc})
            if self._context.is_for_plugin(message.topic):
                self._received += 1
                if self._attempt(partial(self._plugin.on_message, message), message.topic):
                    self._failed_in_a_row = 0
        if self._context.was_woken() or time.monotonic() >= self._idle_at:
            self._idle_at = time.monotonic() + _IDLE_S
            self._attempt(self._plugin.on_idle, "its turn without a message")

    def _attempt(self, step: Callable[[], None], what: str) -> bool:
        try:
            step()
        except Exception as error:
            self._failed += 1
            self._failed_in_a_row += 1
            _log.exception("plugin %s failed at %s", self._name, what)
            if self._failed_in_a_row >= _FAILURES_IN_A_ROW:
                raise PluginError(
                    f"plugin {self._name} failed {_FAILURES_IN_A_ROW} times in a row, last at {what}: {error}"
                ) from error
            return False
        return True

    def stats(self) -> dict[str, Any]:
        """Return what the supervisor shows in ``gazed status``."""
        counts = {
            "received": self._received,
            "lost": sum(self._context.subscriber.lost.values()),
            "behind": sum(self._context.behind.values()),
            "failed": self._failed,
        }
        return {**counts, **self._plugin.stats()}

    def close(self) -> None:
        """Close the plugin and give everything back."""
        try:
            self._plugin.close()
        finally:
            self._context.close()


def _arguments(name: str, text: str) -> dict[str, Any]:
    try:
        args = json.loads(text)
    except ValueError as error:
        raise PluginArgument(f"plugin {name}: its arguments are no JSON: {error}") from error
    if not isinstance(args, dict):
        raise PluginArgument(f"plugin {name}: its arguments should be a JSON object, got {text[:80]}")
    return args


def main(argv: list[str]) -> None:
    """Run one plugin until the daemon ends."""
    name = argv[1]
    with Child.start(name) as child:
        args = _arguments(name, argv[2] if len(argv) > 2 else "{}")
        kind = find_plugin(name)
        host = Host(name, kind, args, child.run, child.clock)
        try:
            wait = zmq.Poller()
            for source in (*host.sources, child.wake_fd):
                wait.register(source, zmq.POLLIN)
            host.begin()
            child.ready()
            gc.collect()
            gc.freeze()
            while not child.stopping:
                if wait.poll(round(_IDLE_S * 1000)) and kind.gather_s:
                    time.sleep(kind.gather_s)
                host.turn()
                child.beat(host.stats)
        finally:
            host.close()


if __name__ == "__main__":
    main(sys.argv)
