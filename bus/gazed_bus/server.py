"""The broker's one Python loop: requests in, delayed notifications out.

Nothing here waits for anybody, and one turn of the loop does little, so that ``t`` is answered at once.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import zmq

from gazed_bus.backlog import Backlog
from gazed_bus.client import Pusher, Subscriber
from gazed_bus.codec import decode, strip_sequence
from gazed_bus.delayed import DelayedNotifications
from gazed_bus.errors import MessageError, NotDelivered
from gazed_bus.pupil_remote import PupilRemote
from gazed_bus.requests import OUTCOME_TOPICS, Reply, Requests
from gazed_timesync import PupilClock

__all__ = ["Server"]

_MAX_NOTIFICATION = 65_536
_MAX_HOPS = 10
_REQUESTS_A_TURN = 100
_CHECK_EVERY_S = 0.1
_WARN_EVERY_S = 1.0
# Clients subscribe and ask in one breath; the answer must not overtake their subscription.
_DOC_DELAY_S = 0.05
_DOC = "Remote control of gazed with Pupil Remote's commands, and with gazed's own requests in JSON."
_log = logging.getLogger(__name__)


class Server:
    """Serves Pupil Remote on ``router`` and, by ``pusher`` and ``subscriber``, what the bus asks of the broker.

    The subscriber has subscribed to ``topics``. ``stop_fd`` is readable when the server is to end; then it closes all
    three.
    """

    topics = ("delayed_notify.", "notify.meta.should_doc", *OUTCOME_TOPICS)

    def __init__(
        self,
        router: zmq.Socket[bytes],
        pusher: Pusher,
        subscriber: Subscriber,
        clock: PupilClock,
        ports: tuple[int, int],
        backlog: Backlog,
        stop_fd: int,
    ) -> None:
        self.answered = 0
        self.malformed = 0
        self.turned = time.monotonic()
        self._warned = 0.0
        self._router, self._pusher, self._subscriber = router, pusher, subscriber
        self._backlog = backlog
        self._delayed = DelayedNotifications()
        self._requests = Requests(clock, pusher.send)
        self._remote = PupilRemote(clock, ports, self._requests, pusher.send, pusher.forward)
        self._stop_fd = stop_fd
        self._poller = zmq.Poller()
        for source in (router, subscriber.socket, stop_fd):
            self._poller.register(source, zmq.POLLIN)

    @property
    def delayed(self) -> int:
        """How many delayed notifications wait."""
        return len(self._delayed)

    def show(self, status: Mapping[str, Any]) -> None:
        """Take the daemon's status, for those who ask; may come from another thread."""
        self._requests.show(status)

    def run(self) -> None:
        """Serve until ``stop_fd`` is readable, then close."""
        checked = 0.0
        try:
            while self._stop_fd not in self._wait():
                self._answer_requests()
                self._hear_bus()
                self._do_what_is_due(time.monotonic())
                self.turned = time.monotonic()
                if self.turned - checked >= _CHECK_EVERY_S:
                    checked = self.turned
                    self._backlog.check()
        finally:
            for part in (self._router, self._pusher, self._subscriber):
                part.close()

    def _wait(self) -> dict[object, int]:
        due = [moment for moment in (self._delayed.next_due(), self._requests.next_deadline()) if moment is not None]
        seconds = min([_CHECK_EVERY_S, *(moment - time.monotonic() for moment in due)])
        return dict(self._poller.poll(max(0, math.ceil(seconds * 1000))))

    def _answer_requests(self) -> None:
        with contextlib.suppress(zmq.Again):
            for _ in range(_REQUESTS_A_TURN):
                frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
                # The way back ends with an empty frame; what comes without one cannot be answered.
                ends = (index for index in range(1, min(len(frames), _MAX_HOPS)) if not len(frames[index]))
                end = next(ends, 0)
                if not end:
                    self.malformed += 1
                    continue
                self.answered += 1
                self._remote.handle(frames[end + 1 :], self._reply_to([frame.bytes for frame in frames[: end + 1]]))

    def _reply_to(self, way_back: list[bytes]) -> Reply:
        def reply(content: bytes) -> None:
            self._router.send_multipart([*way_back, content], zmq.NOBLOCK)

        return reply

    def _hear_bus(self) -> None:
        frames = self._subscriber.receive_packed(0)
        if frames is None:
            return
        try:
            if len(frames[1]) > _MAX_NOTIFICATION:
                raise MessageError(f"{frames[0][:100]!r}: {len(frames[1])} bytes, at most {_MAX_NOTIFICATION} are read")
            message = decode([frames[0], strip_sequence(frames[1]), *frames[2:]])
            if message.topic.startswith("delayed_notify."):
                self._delayed.add(message, time.monotonic())
            elif message.topic == "notify.meta.should_doc":
                doc = {"subject": "meta.doc", "actor": "pupil_remote", "doc": _DOC, "delay": _DOC_DELAY_S}
                self._pusher.notify(doc)
            else:
                self._requests.on_message(message)
        except (MessageError, NotDelivered) as error:
            self.malformed += 1
            if self.turned - self._warned > _WARN_EVERY_S:
                self._warned = self.turned
                _log.warning("ignored (%d so far): %s", self.malformed, error)

    def _do_what_is_due(self, now: float) -> None:
        for notification in self._delayed.take_due(now):
            try:
                self._pusher.notify(notification)
            except (MessageError, NotDelivered) as error:
                _log.warning("a delayed notification was lost: %s", error)
        self._requests.expire(now)
