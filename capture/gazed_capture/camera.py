"""The camera process: one source, read in a loop; each frame goes to the recorder lane and to whoever listens.

Nothing is computed here. Started by the supervisor as ``python -m gazed_capture.camera '<CameraSettings as JSON>'``.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import msgpack
import msgspec
import zmq

from gazed_bus.child import Child
from gazed_bus.client import Publisher, Pusher, Subscriber
from gazed_bus.frame import Frame, FrameFormat, StreamInfo, frame_topic
from gazed_bus.lane import LaneSender
from gazed_bus.rundir import RunDir
from gazed_capture.errors import DeviceLost, EndOfStream, SourceError, SourceOptionError
from gazed_capture.source import Source, find_source
from gazed_timesync import PupilClock, PupilTime

__all__ = ["Camera", "CameraSettings"]

_READ_S = 0.1
_RETRY_S = 0.5
_HAND_OVER_S = 0.5
_log = logging.getLogger(__name__)


class CameraSettings(msgspec.Struct, frozen=True):
    """What a camera process is told when it starts."""

    stream: str
    source: str
    options: dict[str, Any] = {}
    publish: FrameFormat = "jpeg"
    """Format asked for on the bus; anything but the camera's own is made by the Frame_Publisher plugin."""
    lane_buffer_bytes: int = 64 << 20


class Camera:
    """One stream, from its source to the lane and the bus.

    Takes everything it talks to as arguments; ``turn`` does one step of the loop.
    """

    def __init__(self, settings: CameraSettings, source: Source, run: RunDir, clock: PupilClock) -> None:
        self._stream = settings.stream
        self._source = source
        self._clock = clock
        self._lane = LaneSender(run.lane, settings.stream, limit_bytes=settings.lane_buffer_bytes)
        # Frames are large: while the broker is away, only the last few wait for it.
        self._publisher = Publisher(run.pub, hwm=64)
        self._pusher = Pusher(run.push)
        self._notifications = Subscriber(run.sub, ["notify.frame_publishing.set_format", "notify.meta.should_doc"])
        self._publish: FrameFormat = settings.publish
        self._info: StreamInfo | None = None
        self._retry_at = 0.0
        self._ended = False
        self._lost_since: float | None = None
        self._next_sequence: int | None = None
        self._last = PupilTime(-9e9)
        self._steps = clock.steps
        self._frames = 0
        self._bytes = 0
        self._wait = zmq.Poller()
        self._wait.register(self._lane.socket, zmq.POLLIN)
        self._lane.announce("waiting", None)

    @property
    def streaming(self) -> bool:
        """Whether the device is open."""
        return self._info is not None

    def turn(self) -> None:
        """Open the device if it is not, read one frame if there is one, and serve the lane and the bus."""
        if self._info is not None:
            self._read()
        elif not self._ended and time.monotonic() >= self._retry_at:
            self._open()
        else:
            self._wait.poll(int(_READ_S * 1000))
        self._lane.turn()
        while (message := self._notifications.receive(0)) is not None:
            self._on_notification(message.payload)

    def _open(self) -> None:
        try:
            self._info = self._source.open()
        except SourceOptionError:
            raise
        except SourceError as error:
            self._source.close()
            self._retry_at = time.monotonic() + _RETRY_S
            if self._lost_since is None:
                self._lose(error)
            return
        self._next_sequence = None
        self._lane.announce("streaming", self._info)
        if self._lost_since is not None:
            away = time.monotonic() - self._lost_since
            _log.warning("%s: %s is back after %.1f s", self._stream, self._info.device, away)
            self._notify("camera.found", away_s=away, device=self._info.device, serial=self._info.serial)
            self._lost_since = None

    def _lose(self, error: SourceError) -> None:
        _log.warning("%s: %s", self._stream, error)
        self._lost_since = time.monotonic()
        self._lane.announce("lost", None)
        self._notify("camera.lost", reason=error.message, code=error.code)

    def _read(self) -> None:
        try:
            frame = self._source.read(_READ_S)
        except EndOfStream as end:
            _log.info("%s: %s", self._stream, end)
            self._ended = True
            self._lane.announce("ended", self._info)
            self._info = None
            self._source.close()
            return
        except SourceError as error:
            self._info = None
            self._source.close()
            if not isinstance(error, DeviceLost):
                self._retry_at = time.monotonic() + _RETRY_S
            self._lose(error)
            return
        if frame is not None:
            self._deliver(frame)

    def _deliver(self, frame: Frame) -> None:
        missed = frame.sequence - self._next_sequence if self._next_sequence is not None else 0
        self._next_sequence = frame.sequence + 1
        # Read before the epoch: a jump in between is then seen with the next frame, and never overlooked.
        steps = self._clock.steps
        timestamp = self._clock.to_pupil(frame.captured_ns)
        if steps != self._steps:
            self._steps = steps
        elif timestamp <= self._last:
            # Two exposures closer than a float64 can tell: keep the order the device gave them.
            timestamp = PupilTime(self._last + 1e-6)
        self._last = timestamp
        self._frames += 1
        self._bytes += len(frame.payload)
        self._lane.offer(frame, timestamp, missed)
        topic = frame_topic(frame.stream)
        if self._publish != frame.format:
            topic = f"camera.{frame.stream}"
        if self._publisher.has_subscribers(topic):
            body = {
                "topic": topic,
                "width": frame.width,
                "height": frame.height,
                "index": frame.sequence,
                "timestamp": timestamp,
                "format": frame.format,
            }
            self._publisher.send_packed(topic, msgpack.packb(body), (frame.payload,))

    def _on_notification(self, notification: Mapping[str, Any]) -> None:
        if notification.get("subject") == "frame_publishing.set_format":
            if notification.get("format") in ("jpeg", "gray", "bgr", "yuv"):
                self._publish = notification["format"]
        elif notification.get("subject") == "meta.should_doc":
            self._notify("meta.doc", actor=self._stream, doc=Camera.__doc__, record=False)

    def _notify(self, subject: str, **fields: Any) -> None:
        base = {"subject": subject, "stream": self._stream, "timestamp": self._clock.now(), "record": True}
        self._pusher.notify({**base, **fields})

    def stats(self) -> dict[str, Any]:
        """Return what the supervisor shows in ``gazed status``."""
        source = self._source.stats()
        return {
            "state": "streaming" if self._info else "ended" if self._ended else "lost",
            "frames": self._frames,
            "bytes": self._bytes,
            "missed": source.missed,
            "corrupt": source.corrupt,
            "clock": source.clock.kind,
            "held": self._lane.held,
            "dropped": self._lane.dropped,
        }

    def close(self) -> None:
        """Give everything back, after what a recording is still owed was handed over, if that can be done soon."""
        self._source.close()
        deadline = time.monotonic() + _HAND_OVER_S
        while self._lane.held and time.monotonic() < deadline:
            self._wait.poll(10)
            self._lane.turn()
        for peer in (self._lane, self._publisher, self._pusher, self._notifications):
            peer.close()


def _claim_real_time() -> None:
    """Free the loop from the garbage collector and from busier processes, as far as this user may."""
    gc.collect()
    gc.freeze()
    gc.disable()
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(5))


def main(argv: list[str]) -> None:
    """Run one camera until the daemon ends."""
    settings = msgspec.json.decode(argv[1], type=CameraSettings)
    with Child.start(settings.stream) as child:
        source = find_source(settings.source)(settings.stream, settings.options)
        camera = Camera(settings, source, child.run, child.clock)
        try:
            camera.turn()
            child.ready()
            _claim_real_time()
            while not child.stopping:
                camera.turn()
                child.beat(camera.stats)
        finally:
            camera.close()


if __name__ == "__main__":
    main(sys.argv)
