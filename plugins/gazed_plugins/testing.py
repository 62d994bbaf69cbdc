"""The contract of a plugin as a test, and a context without a bus."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgpack

from gazed_bus.codec import Message, decode, encode, notification_topic
from gazed_plugins.errors import PluginArgument
from gazed_plugins.plugin import Plugin
from gazed_timesync import LocalClock, PupilTime

__all__ = ["FakeContext", "check_plugin"]


class FakeContext:
    """A ``PluginContext`` that keeps what the plugin says.

    What is published or notified goes through the real codec, so that what cannot be packed fails here as it would on
    the bus.
    """

    def __init__(self, listeners: Iterable[str] = ("",)) -> None:
        self.listeners = set(listeners)
        """Topics (by prefix) that somebody subscribes to; everything, if not told otherwise."""
        self.subscriptions: set[str] = set()
        self.published: list[Message] = []
        self.notified: list[dict[str, Any]] = []
        self.memory: dict[str, Any] = {}
        """What the plugin remembers."""
        self.woken = threading.Event()
        """Set by ``wake``."""
        self.time = PupilTime(0.0)
        self.clock = LocalClock()

    def now(self) -> PupilTime:
        """Return ``time``, which the test sets."""
        return self.time

    def publish(self, topic: str, payload: Mapping[str, Any]) -> None:
        """Keep a message."""
        self.published.append(decode(encode(topic, payload)))

    def notify(self, notification: Mapping[str, Any]) -> None:
        """Keep a notification."""
        topic = notification_topic(notification)
        self.notified.append(decode(encode(topic, notification)).payload)

    def has_subscribers(self, topic: str) -> bool:
        """Tell whether ``listeners`` holds a prefix of ``topic``."""
        return topic.startswith(tuple(self.listeners))

    def subscribe(self, topic: str, newest: int = 0) -> None:  # noqa: ARG002 - nothing waits here
        """Keep a subscription."""
        self.subscriptions.add(topic)

    def unsubscribe(self, topic: str) -> None:
        """Forget a subscription."""
        self.subscriptions.discard(topic)

    def wake(self) -> None:
        """Set ``woken``."""
        self.woken.set()

    def remember(self, state: Mapping[str, Any]) -> None:
        """Keep it in ``memory``."""
        self.memory = msgpack.unpackb(msgpack.packb(dict(state)), strict_map_key=False)

    def remembered(self) -> dict[str, Any]:
        """Return ``memory``."""
        return self.memory


def check_plugin(
    kind: type[Plugin],
    args: Mapping[str, Any],
    messages: Iterable[Message],
    *,
    listeners: Iterable[str] = ("",),
) -> FakeContext:
    """Hold a plugin against the protocol of ``gazed_plugins.plugin`` and return what it said.

    Args:
        kind: the class of the plugin.
        args: arguments it takes.
        messages: what it is to be given; those it did not subscribe to are not handed over, as in its process.
        listeners: topics that somebody subscribes to, by prefix.

    Raises:
        AssertionError: the plugin breaks the protocol; the text says where.
    """
    _require(bool(inspect.getdoc(kind)), "a plugin has a docstring: it is what meta.should_doc shows")
    _require(isinstance(kind.topics, tuple), "topics is a tuple of strings")
    _refuses(lambda: kind(FakeContext(), {**args, "no_such_argument": 1}), "no_such_argument")
    _require(0 <= kind.gather_s <= 0.1, "gather_s is from 0 to 0.1 seconds")
    context = FakeContext(listeners)
    plugin = kind(context, args)
    for topic in kind.topics:
        context.subscribe(topic)
    plugin.on_idle()
    for message in messages:
        if message.topic.startswith(tuple(context.subscriptions)):
            plugin.on_message(message)
    plugin.on_idle()
    _require(all(isinstance(key, str) for key in plugin.stats()), "stats() is a map with names")
    plugin.close()
    left = context.subscriptions - set(kind.topics)
    _require(not left, f"close left subscriptions: {sorted(left)}")
    return context


def _refuses(make: Callable[[], object], name: str) -> None:
    try:
        make()
    except PluginArgument as error:
        _require(name in error.message, "the refusal of an unknown argument must name it")
    else:
        raise AssertionError("an unknown argument must be refused with PluginArgument")


def _require(truth: bool, text: str) -> None:
    if not truth:
        raise AssertionError(text)
