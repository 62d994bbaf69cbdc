"""The three ways onto the bus: publish, push what must arrive, subscribe.

None of these objects may be used by two threads at once. Before a process ends, it closes them and then terminates the
context (``zmq.Context.instance().term()``): what was pushed last is on its way until then.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import zmq

from gazed_bus.codec import Message, Raw, add_sequence, decode, encode, notification_topic, strip_sequence
from gazed_bus.errors import MessageError, NotDelivered
from gazed_bus.gaps import GapCounter

__all__ = ["Publisher", "Pusher", "Subscriber"]

_DRAIN_EVERY = 64
_DRAIN_AT_MOST = 20_000
_MAX_TOPICS = 8192


class _Sequences:
    """Numbers the messages of one publisher, topic by topic."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._publisher = 1 + secrets.randbelow((1 << 21) - 1)
        self._next: dict[str | bytes, int] = {}

    def add(self, topic: str | bytes, packed: bytes) -> bytes:
        # Subjects that clients make up must not fill the memory; a new publisher number is no loss to anybody.
        if len(self._next) >= _MAX_TOPICS and topic not in self._next:
            self._begin()
        counter = self._next.get(topic, 0)
        numbered = add_sequence(packed, self._publisher, counter)
        self._next[topic] = counter + 1
        return numbered


class _Closing(ABC):
    """Context manager that closes."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Publisher(_Closing):
    """Publishes without ever waiting; what nobody subscribes to does not leave the process.

    ``hwm`` bounds the messages in flight to the broker. What exceeds it is dropped, and every subscriber sees the gap.
    """

    def __init__(
        self, endpoint: str, *, context: zmq.Context[zmq.Socket[bytes]] | None = None, hwm: int = 2000
    ) -> None:
        self._sequences = _Sequences()
        self._sent = 0
        self._subscribed: set[bytes] = set()
        self._socket = (context or zmq.Context.instance()).socket(zmq.XPUB)
        self._socket.linger = 200
        self._socket.sndhwm = hwm
        self._socket.reconnect_ivl = 50
        # Otherwise the subscriptions of a broker that has died would live on, and messages pile up for the next one.
        self._socket.immediate = True
        self._socket.connect(endpoint)

    def send(self, topic: str, payload: Mapping[str, Any]) -> None:
        """Publish a map; ``__raw_data__`` in it travels as extra frames.

        Raises:
            MessageError: the payload cannot be packed.
        """
        _, packed, *raw = encode(topic, payload)
        self.send_packed(topic, bytes(packed), raw)

    def send_packed(self, topic: str | bytes, packed: bytes, raw: Sequence[Raw] = ()) -> None:
        """Publish a map that is packed already and holds its ``topic``; the way for whoever is in a hurry.

        Raises:
            MessageError: ``packed`` is no map.
        """
        self._sent += 1
        if not self._sent % _DRAIN_EVERY:
            self._take_subscriptions()
        name = topic.encode() if isinstance(topic, str) else topic
        self._socket.send_multipart((name, self._sequences.add(name, packed), *raw))

    def has_subscribers(self, topic: str) -> bool:
        """Tell whether anybody at the broker subscribes to ``topic``; as of the last few milliseconds."""
        self._take_subscriptions()
        name = topic.encode()
        return any(name[:length] in self._subscribed for length in range(len(name) + 1))

    def _take_subscriptions(self) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                # Subscribers can send anything upstream. libzmq takes each frame that begins with 0 or 1 for a
                # subscription, wherever it stands in a message; so frames are read one by one.
                frame = self._socket.recv(zmq.NOBLOCK)
                if frame[:1] == b"\x01":
                    self._subscribed.add(frame[1:])
                elif frame[:1] == b"\x00":
                    self._subscribed.discard(frame[1:])

    def close(self) -> None:
        """Close; what is in flight still has 0.2 s."""
        self._socket.close()


class Pusher(_Closing):
    """Hands over what must arrive at the broker: notifications and log records.

    Messages wait here while the broker is being restarted, ``hwm`` of them at most.
    """

    def __init__(
        self, endpoint: str, *, context: zmq.Context[zmq.Socket[bytes]] | None = None, hwm: int = 10_000
    ) -> None:
        self._sequences = _Sequences()
        self._endpoint = endpoint
        self._context = context or zmq.Context.instance()
        self._hwm = hwm
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.linger = 1000
        self._socket.sndhwm = hwm
        self._socket.reconnect_ivl = 50
        self._socket.connect(endpoint)

    def sibling(self) -> Pusher:
        """Return another pusher to the same place, for another thread."""
        return Pusher(self._endpoint, context=self._context, hwm=self._hwm)

    def send(self, topic: str, payload: Mapping[str, Any]) -> None:
        """Send a map under ``topic``; ``__raw_data__`` in it travels as extra frames.

        Raises:
            MessageError: the payload cannot be packed.
            NotDelivered: the queue is full.
        """
        name, packed, *raw = encode(topic, payload)
        self.forward([name, self._sequences.add(topic, bytes(packed)), *raw])

    def notify(self, notification: Mapping[str, Any]) -> None:
        """Send a notification under the topic that its ``subject``, ``delay`` and ``remote_notify`` ask for.

        Raises:
            MessageError: no ``subject``, or the notification cannot be packed.
            NotDelivered: the queue is full.
        """
        self.send(notification_topic(notification), notification)

    def forward(self, frames: Sequence[Raw | zmq.Frame]) -> None:
        """Send frames as they are.

        Raises:
            NotDelivered: the queue is full.
        """
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            raise NotDelivered(
                f"{self._endpoint} takes no more messages: {self._hwm} are waiting",
                hint="see in `gazed status` whether the broker runs",
            ) from None

    def close(self) -> None:
        """Close; what is in flight still has a second."""
        self._socket.close()


class Subscriber(_Closing):
    """Receives topics by prefix and counts what it did not get.

    ``lost`` counts gaps by topic (see ``GapCounter``), ``undecodable`` counts garbage, which is skipped. With
    ``latest`` only the newest message of each topic is handed out, and ``skipped`` counts by topic those passed over.
    ``hwm`` bounds the messages that wait in this process; more wait at the broker, as many bytes as it allows.
    """

    def __init__(
        self,
        endpoint: str,
        topics: Iterable[str],
        *,
        latest: bool = False,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        hwm: int = 256,
    ) -> None:
        self.undecodable = 0
        self.skipped: dict[str, int] = {}
        self._latest = latest
        self._wait_ms = -1
        self._newest: dict[bytes, list[bytes]] = {}
        self._gaps = GapCounter()
        self._topics: set[bytes] = set()
        self._socket = (context or zmq.Context.instance()).socket(zmq.SUB)
        self._socket.linger = 0
        self._socket.rcvhwm = hwm
        self._socket.reconnect_ivl = 50
        for topic in topics:
            self.subscribe(topic)
        self._socket.connect(endpoint)

    @property
    def lost(self) -> dict[str, int]:
        """How many messages of each topic were published but not received; topics without loss are absent."""
        return self._gaps.lost

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """The SUB socket, to wait on together with others; received from only through this object."""
        return self._socket

    def subscribe(self, topic: str) -> None:
        """Also receive topics that begin with ``topic``; the empty string means everything."""
        name = topic.encode()
        if name not in self._topics:
            self._topics.add(name)
            self._socket.subscribe(name)

    def unsubscribe(self, topic: str) -> None:
        """Undo ``subscribe``; a topic that was not subscribed is no error."""
        name = topic.encode()
        if name in self._topics:
            self._topics.remove(name)
            self._socket.unsubscribe(name)
            kept = tuple(self._topics)
            self._gaps.forget(lambda series: not series.startswith(kept))

    def receive(self, timeout: float | None = None) -> Message | None:
        """Return the next message, decoded and without its ``seq``; ``None`` after ``timeout`` seconds without one."""
        deadline = _deadline(timeout)
        frames = self.receive_packed(timeout)
        while frames is not None:
            try:
                return decode([frames[0], strip_sequence(frames[1]), *frames[2:]])
            except MessageError:
                self.undecodable += 1
            frames = self.receive_packed(_remaining(deadline))
        return None

    def receive_packed(self, timeout: float | None = None) -> list[bytes] | None:
        """Return the frames of the next message as they came (topic, map with ``seq``, raw …), not decoded."""
        if not self._latest:
            return self._take(timeout)
        for _ in range(_DRAIN_AT_MOST):
            # Wait for the first message only, then take what else has arrived.
            frames = self._take(0 if self._newest else timeout)
            if frames is None:
                break
            if frames[0] in self._newest:
                name = frames[0].decode("utf-8", "replace")
                self.skipped[name] = self.skipped.get(name, 0) + 1
            # A replaced message keeps its place in the row, so that a slow reader gets every topic in turn.
            self._newest[frames[0]] = frames
        return self._newest.pop(next(iter(self._newest))) if self._newest else None

    def _take(self, timeout: float | None) -> list[bytes] | None:
        deadline = _deadline(timeout)
        while True:
            wait = -1 if timeout is None else max(0, math.ceil(timeout * 1000))
            if wait != self._wait_ms:
                self._socket.rcvtimeo = self._wait_ms = wait
            try:
                frames = self._socket.recv_multipart()
            except zmq.Again:
                return None
            if len(frames) > 1:
                self._gaps.see(frames[0], frames[1])
                return frames
            self.undecodable += 1
            timeout = _remaining(deadline)

    def __iter__(self) -> Iterator[Message]:
        """Yield messages for ever."""
        while True:
            message = self.receive()
            if message is not None:
                yield message

    def close(self) -> None:
        """Close."""
        self._socket.close(0)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
