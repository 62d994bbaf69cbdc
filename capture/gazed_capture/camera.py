"""The camera process: one source, read in a loop; each frame goes to the recorder lane and to whoever listens.

A microphone is run in the same way: its frames are blocks of sound. Nothing is computed here. Started by the supervisor
as ``python -m gazed_capture.camera '<CameraSettings as JSON>'``.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import msgpack
import msgspec
import zmq

from gazed_bus.child import Child
from gazed_bus.client import Publisher, Pusher, Subscriber
from gazed_bus.frame import AUDIO, Frame, FrameFormat, StreamInfo, frame_topic
from gazed_bus.lane import LaneSender
from gazed_bus.rundir import RunDir
from gazed_capture.errors import EndOfStream, SourceError, SourceOptionError
from gazed_capture.source import Source, make_source
from gazed_timesync import PupilClock, PupilTime

__all__ = ["Camera", "CameraSettings"]

_READ_S = 0.1
_TURN_S = 0.02
# Longer than a heartbeat, so that the supervisor knows of the loss before drivers are asked again.
_RETRY_S = 0.6
# Drivers may stop the whole interpreter while they open a device that does not answer.
_PATIENCE_S = 30
_HAND_OVER_S = 0.5
_SILENT_S = 1.0
_SILENT_PERIODS = 3
# What those who compute on the images need to know of the camera.
_SHOWN = ("width", "height", "fps", "format", "intrinsics")
_log = logging.getLogger(__name__)


class CameraSettings(msgspec.Struct, frozen=True):
    """What a camera process is told when it starts."""

    stream: str
    source: str
    options: dict[str, Any] = {}
    publish: FrameFormat = "jpeg"
    """Format asked for on the bus; anything but the camera's own is made by the Frame_Publisher plugin."""
    lane_buffer_bytes: int = 64 << 20


class _Opening(threading.Thread):
    """Opens a source; a device may take seconds, in which the lane and the heartbeat go on."""

    def __init__(self, source: Source) -> None:
        super().__init__(name="open", daemon=True)
        self.since = time.monotonic()
        self.info: StreamInfo | None = None
        self.error: Exception | None = None
        self._source = source
        self.start()

    def run(self) -> None:
        try:
            self.info = self._source.open()
        except Exception as error:  # noqa: BLE001 - whoever looks at the outcome raises it
            self.error = error


class Camera:
    """One stream, from its source to the lane and the bus.

    Takes everything it talks to as arguments; ``turn`` does one step of the loop. A device that has not opened within
    ``open_limit_s`` hangs: no device takes that long.
    """

    def __init__(
        self, settings: CameraSettings, source: Source, run: RunDir, clock: PupilClock, *, open_limit_s: float = 30.0
    ) -> None:
        self._stream = settings.stream
        self._source = source
        self._open_limit_s = open_limit_s
        self._clock = clock
        self._lane = LaneSender(run.lane, settings.stream, limit_bytes=settings.lane_buffer_bytes)
        # Frames are large: while the broker is away, only the last few wait for it.
        self._publisher = Publisher(run.pub, hwm=64)
        self._pusher = Pusher(run.push)
        self._notifications = Subscriber(run.sub, ["notify.frame_publishing.set_format", "notify.meta.should_doc"])
        self._publish: FrameFormat = settings.publish
        self._info: StreamInfo | None = None
        self._opening: _Opening | None = None
        self._retry_at = 0.0
        self._ended = False
        self._lost_since: float | None = None
        self._reason = ""
        self._heard_at = 0.0
        self._silent = False
        self._missed: int | None = None
        self._missed_before = self._corrupt_before = 0
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
            self._read(self._info)
        else:
            if self._opening is not None:
                self._finish_opening(self._opening)
            elif not self._ended and time.monotonic() >= self._retry_at:
                self._opening = _Opening(self._source)
            self._wait.poll(int(_TURN_S * 1000))
        self._lane.turn()
        while (message := self._notifications.receive(0)) is not None:
            self._on_notification(message.payload)

    def _finish_opening(self, opening: _Opening) -> None:
        """Take over what came of it.

        Raises:
            SourceOptionError: the configuration is wrong; trying again is of no use.
            SourceError: the device hangs; only the end of this process frees it.
        """
        if opening.is_alive():
            if time.monotonic() - opening.since > self._open_limit_s:
                raise SourceError(f"{self._stream}: the device has not answered for {self._open_limit_s:g} s")
            return
        self._opening = None
        if opening.info is not None:
            self._begin(opening.info)
        elif isinstance(opening.error, SourceError) and not isinstance(opening.error, SourceOptionError):
            self._source.close()
            self._retry_at = time.monotonic() + _RETRY_S
            self._lose(opening.error)
            # The collector is off, and a device may be away for days.
            gc.collect()
        elif opening.error is not None:
            raise opening.error

    def _begin(self, info: StreamInfo) -> None:
        self._info = info
        self._heard_at = time.monotonic()
        self._missed = None
        self._reason = ""
        self._lane.announce("streaming", info)
        _log.info("%s: streaming from %s (%s)", self._stream, info.device, info.serial)
        if self._lost_since is not None:
            away = time.monotonic() - self._lost_since
            _log.warning("%s: %s is back after %.1f s", self._stream, info.device, away)
            self._notify("camera.found", away_s=away, device=info.device, serial=info.serial)
            self._lost_since = None

    def _lose(self, error: SourceError) -> None:
        if error.message == self._reason:
            return
        self._reason = error.message
        _log.warning("%s%s", error.message, f" ({error.hint})" if error.hint else "")
        if self._lost_since is None:
            self._lost_since = time.monotonic()
            self._silent = False
            self._lane.announce("lost", None)
            self._notify("camera.lost", reason=error.message, code=error.code, hint=error.hint)

    def _read(self, info: StreamInfo) -> None:
        try:
            frame = self._source.read(_READ_S)
        except EndOfStream as end:
            _log.info("%s: %s", self._stream, end)
            self._ended = True
            self._lane.announce("ended", self._info)
            self._close_device()
            return
        except SourceError as error:
            self._close_device()
            self._retry_at = time.monotonic() + _RETRY_S
            self._lose(error)
            return
        now = time.monotonic()
        if frame is not None:
            if self._silent:
                self._silent = False
                self._lane.announce("streaming", info)
                _log.warning("%s: %s delivers again after %.1f s", self._stream, info.device, now - self._heard_at)
                self._notify("camera.heard", away_s=now - self._heard_at)
            self._heard_at = now
            self._deliver(frame)
        elif not self._silent and now - self._heard_at > max(_SILENT_S, _SILENT_PERIODS / info.fps):
            self._silent = True
            self._lane.announce("silent", info)
            _log.warning("%s: %s is there and delivers nothing", self._stream, info.device)
            self._notify("camera.silent", device=info.device, serial=info.serial)

    def _close_device(self) -> None:
        """Close the source, and keep its counts, which begin anew when it is opened again."""
        counts = self._source.stats()
        self._missed_before += counts.missed
        self._corrupt_before += counts.corrupt
        self._info = None
        self._source.close()

    def _deliver(self, frame: Frame) -> None:
        so_far = self._source.stats().missed
        # What was made before the first frame that was asked for is not missed.
        missed, self._missed = so_far - (so_far if self._missed is None else self._missed), so_far
        segment = self._clock.segment_at(frame.captured_ns)
        timestamp = segment.to_pupil(frame.captured_ns)
        if segment.steps != self._steps:
            self._steps = segment.steps
        elif timestamp <= self._last:
            # Two exposures closer than a float64 can tell: keep the order the device gave them.
            timestamp = PupilTime(self._last + 1e-6)
        self._last = timestamp
        self._frames += 1
        self._bytes += len(frame.payload)
        self._lane.offer(frame, timestamp, missed)
        if frame.stream != AUDIO:
            self._show(frame, timestamp)

    def _show(self, frame: Frame, timestamp: PupilTime) -> None:
        """Publish an image, if anybody listens.

        ``camera.<stream>`` is for the Frame_Publisher, which makes of it what was asked for. Where that is JPEG, which
        no camera with raw images has, they are published as they are.
        """
        topic = frame_topic(frame.stream)
        if self._publish not in ("jpeg", frame.format):
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
            "state": self._state,
            "patience_s": None if self._info else _PATIENCE_S,
            "reason": "it is there and delivers nothing" if self._silent and self._info else self._reason,
            "device": self._info.device if self._info else "",
            "serial": self._info.serial if self._info else "",
            "info": {name: getattr(self._info, name) for name in _SHOWN} if self._info else None,
            "frames": self._frames,
            "bytes": self._bytes,
            "missed": self._missed_before + (source.missed if self._info else 0),
            "corrupt": self._corrupt_before + (source.corrupt if self._info else 0),
            "clock": source.clock.kind,
            "clock_error_s": source.clock.error_s,
            "held": self._lane.held,
            "dropped": self._lane.dropped,
        }

    @property
    def _state(self) -> str:
        if self._info is not None:
            return "silent" if self._silent else "streaming"
        if self._ended:
            return "ended"
        return "opening" if self._lost_since is None else "lost"

    def close(self) -> None:
        """Give everything back, after what a recording is still owed was handed over, if that can be done soon."""
        deadline = time.monotonic() + _HAND_OVER_S
        while self._lane.held and time.monotonic() < deadline:
            self._wait.poll(10)
            self._lane.turn()
        if self._opening is None:
            # A device that is just being opened is given back by the end of the process.
            self._source.close()
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
        source = make_source(settings.source, settings.stream, settings.options)
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
