"""A running daemon in a viewer: what is on the bus goes into a live recording, which viewers on this machine watch.

This is a process of its own, on this machine or another one than the daemon's. It is a subscriber like any other: what
it cannot keep up with is dropped by the broker, or here, and counted; the daemon never waits for it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from gazed_bus.client import Subscriber
from gazed_bus.errors import NotReachable, PortInUse
from gazed_bus.remote import Remote
from gazed_plugins.rerun.blueprint import blueprint_chunks, views_of
from gazed_plugins.rerun.calls import Chunk, LiveRecording, properties
from gazed_plugins.rerun.entities import live_entities, styled
from gazed_plugins.rerun.live_data import LiveData
from gazed_plugins.rerun.live_file import LiveFile
from gazed_plugins.rerun.live_images import LiveImages

__all__ = ["LiveView"]

_STATUS = "gazed.status"
_SILENT_S = 3.0
_WINDOW_S = 20.0
_POLL_S = 0.05
# What is read in a row, of data and of images, before anything else gets its turn.
_AT_ONCE = 500
_IMAGES_AT_ONCE = 11


class LiveView:
    """Sends what a daemon publishes to viewers, and into a file if one is given. Use as a context manager.

    Args:
        remote: the daemon.
        port: where viewers get it, on the loopback; 0 takes a free one.
        save: a file that it is kept in as well.
        replace: whether that file may be there already.
        most_fps: images a second of each camera; 0 for none.
        every_s: how long data are gathered before they are sent.
        say: told in a line when the daemon goes and comes back.

    Raises:
        RemoteError: the daemon does not answer, or is none.
        PortInUse: another program has the port.
        AlreadyThere: there is such a file.
        OSError: it cannot be written.
    """

    def __init__(
        self,
        remote: Remote,
        port: int,
        *,
        save: Path | None = None,
        replace: bool = False,
        most_fps: float = 15.0,
        every_s: float = 0.3,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._remote = remote
        self._every_s = every_s
        self._say = say
        self._data = LiveData()
        self._images = LiveImages(most_fps) if most_fps else None
        streams = [name for name, stream in remote.status()["streams"].items() if stream["state"] != "data"]
        views = views_of(live_entities(streams, images=self._images is not None), window_s=_WINDOW_S)
        port = _free(port)
        self.recording_id = f"live-{uuid.uuid4()}"
        """What the recording is called; other programs may log into it."""
        self._file = None
        if save is not None:
            self._file = LiveFile(save, self.recording_id, list(blueprint_chunks(views)), replace=replace)
        try:
            self._recording = LiveRecording(self.recording_id, port, views)
        except BaseException:
            if self._file is not None:
                self._file.close()
            raise
        self.url = self._recording.url
        """Where viewers get it: ``rerun+http://127.0.0.1:…``."""
        self._styled = set[str]()
        self._passed_over = 0
        self._lost: dict[str, int] = {}
        where = f"{remote.address}:{remote.port}"
        self._hand_on(list(properties(f"live from {where}", time.time_ns(), {"daemon": where})))

    @property
    def counts(self) -> dict[str, Any]:
        """What was shown so far, by kind and stream, and what was not.

        ``thinned`` images came sooner than ``most_fps`` has it, ``passed_over`` ones while this process was busy;
        ``lost`` counts by topic what the broker dropped, ``unreadable`` is garbage.
        """
        shown = {name: count for name, count in self._data.counts.items() if name != "unreadable"}
        images = self._images
        return {
            **shown,
            "images": dict(images.counts) if images else {},
            "thinned": images.thinned if images else 0,
            "passed_over": self._passed_over,
            "lost": dict(self._lost),
            "unreadable": self._data.counts["unreadable"] + (images.unreadable if images else 0),
        }

    def run(self, stop: Callable[[], bool]) -> None:
        """Send until ``stop`` says so; a daemon that goes away is waited for.

        Raises:
            DiskFull, OSError: the file cannot be written any further.
            PluginError: viewers cannot be served any more.
        """
        away = False
        while not stop():
            try:
                with self._remote.subscribe(*LiveData.topics, _STATUS) as data:
                    if away:
                        self._say("the daemon is back")
                    away = False
                    self._watch(data, stop)
            except NotReachable:
                if not away:
                    self._say("the daemon does not answer any more: waiting for it")
                away = True
                time.sleep(_POLL_S)
        self._send()

    def _watch(self, data: Subscriber, stop: Callable[[], bool]) -> None:
        """Send what comes until ``stop`` says so.

        Raises:
            NotReachable: the daemon is gone.
        """
        poller = zmq.Poller()
        poller.register(data.socket, zmq.POLLIN)
        with contextlib.ExitStack() as ended:
            ended.callback(lambda: self._count_lost(data))
            images = None
            if self._images is not None:
                images = ended.enter_context(self._remote.subscribe(*LiveImages.topics, latest=True))
                ended.callback(lambda: self._count_passed_over(images))
                poller.register(images.socket, zmq.POLLIN)
            heard = sent = time.monotonic()
            while not stop():
                poller.poll(round(1000 * _POLL_S))
                now = time.monotonic()
                heard = now if self._take_data(data) else heard
                if images is not None:
                    self._take_images(images)
                if now - sent >= self._every_s:
                    sent = now
                    self._send()
                if now - heard > _SILENT_S:
                    self._remote.time()
                    heard = now
            # What has arrived is shown.
            self._take_data(data)

    def _take_data(self, data: Subscriber) -> bool:
        """Take what waits, some of it; tell whether there was anything."""
        for number in range(_AT_ONCE):
            frames = data.receive_packed(0)
            if frames is None:
                return number > 0
            if frames[0] != _STATUS.encode():
                self._data.take(frames)
        return True

    def _take_images(self, images: Subscriber) -> None:
        assert self._images is not None  # noqa: S101 - who subscribes has a place for them
        for _ in range(_IMAGES_AT_ONCE):
            message = images.receive(0)
            if message is None:
                return
            self._images.take(message)

    def _send(self) -> None:
        images = self._images
        if images is not None:
            self._data.world = images.sizes.get("world")
        parts = (self._data.chunks(), images.chunks() if images is not None else ())
        if chunks := list(styled(chain(*parts), self._styled)):
            self._hand_on(chunks)

    def _hand_on(self, chunks: Sequence[Chunk]) -> None:
        if self._file is not None:
            self._file.send(chunks)
        self._recording.send(chunks)

    def _count_lost(self, data: Subscriber) -> None:
        for topic, count in data.lost.items():
            self._lost[topic] = self._lost.get(topic, 0) + count

    def _count_passed_over(self, images: Subscriber | None) -> None:
        if images is not None:
            self._passed_over += sum(images.skipped.values()) + sum(images.lost.values())

    def close(self) -> None:
        """End the recording: the file is whole.

        Raises:
            DiskFull, OSError: it is not.
        """
        if self._images is not None:
            self._images.close()
        self._recording.close()
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _free(port: int) -> int:
    """Return a port that can be had: the SDK's server only logs that it cannot have one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            hint = "another gazed view? --data-port 0 takes a free one"
            raise PortInUse(f"port {port} is taken by another program", hint=hint) from error
        found: int = probe.getsockname()[1]
        return found
