"""The source ``network``: frames that another program pushes over the bus, as head-mounted displays do.

Source of the format: Pupil Core's HMD streaming. A message under the topic: a map of ``width``, ``height``, ``index``,
``timestamp``, ``format`` and ``projection_matrix`` (9 numbers), perhaps ``distortion_coeffs``, then the image as one
raw frame. ``format`` is ``rgb``, ``bgr`` or ``gray``, 8 bits a sample without padding; ``jpeg`` is ours.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np
import zmq

from gazed_bus.client import Subscriber
from gazed_bus.codec import Message
from gazed_bus.frame import Frame, PayloadFormat, StreamInfo
from gazed_bus.rundir import RunDir
from gazed_capture.errors import DeviceLost, SourceError, SourceNotFound, SourceOptionError
from gazed_capture.jpeg import jpeg_size
from gazed_capture.options import read_number, refuse_unknown
from gazed_capture.source import ClockQuality, Demand, DeviceInfo, SourceStats
from gazed_timesync import HostNs, PupilClock, PupilTime, host_now

__all__ = ["NetworkSource"]

_FIRST_FRAME_S = 1.0
_SILENCE_S = 1.0
_SILENT_FRAMES = 3
_MAX_BYTES = 64 << 20
_OLDEST_NS = 5_000_000_000
_LARGEST_GAP = 10_000
_STEP_NS = 1_000  # what float64 seconds and microseconds of video can tell apart
_ADDRESS = re.compile(r"tcp://.+:\d+|ipc://.+")


_Size = Annotated[int, msgspec.Meta(gt=0, le=16_384)]


class _Head(msgspec.Struct, frozen=True):
    """What each message must hold."""

    width: _Size
    height: _Size
    index: Annotated[int, msgspec.Meta(ge=0)]
    timestamp: float
    format: Literal["rgb", "bgr", "gray", "jpeg"]


class _Lens(msgspec.Struct, frozen=True):
    """What it may hold of the camera."""

    projection_matrix: Annotated[list[float], msgspec.Meta(min_length=9, max_length=9)]
    distortion_coeffs: Annotated[list[float], msgspec.Meta(min_length=4, max_length=14)] = msgspec.field(
        default_factory=lambda: [0.0] * 5
    )


@dataclass(frozen=True, slots=True)
class _Image:
    """A message that is what it says."""

    width: int
    height: int
    format: PayloadFormat
    payload: bytes
    index: int
    stamp: float
    intrinsics: dict[str, object] | None


class NetworkSource:
    """Takes frames from the bus that another program publishes.

    Options:
        topic: what to subscribe to (default ``hmd_streaming.<stream>``).
        address: ``tcp://host:port`` of a program that publishes by itself (default: this daemon's own bus).
        fps: frames per second that the sender means to send (default 30); the format has no field for it.

    Every frame that arrives is handed out. ``index`` becomes ``sequence``: a gap is counted as missed; an index that
    stays or goes back, or leaps by more than 10,000, is a sender that began anew. Losses on the bus that ``index`` does
    not show are known from the publisher's ``seq``, if it has one. What is no frame, is not as large as it says, or has
    another size or format than the first one, is counted as corrupt. ``rgb`` images are bottom-up and leave as ``bgr``,
    top-down.

    ``timestamp`` is Pupil time of this daemon. It is ``device_time``, and the capture time where it lies within the 5 s
    before arrival; otherwise, and where an address but no daemon is known, the frame counts as captured on arrival.
    A sender that is silent for a second (three frames, if that is longer) is lost; so is one that changes its size.
    """

    delivers: ClassVar[Literal["images", "sound"]] = "images"

    def __init__(self, stream: str, options: Mapping[str, Any]) -> None:
        refuse_unknown("network", options, ("topic", "address", "fps"))
        topic, address = options.get("topic", f"hmd_streaming.{stream}"), options.get("address")
        if not isinstance(topic, str) or not topic:
            raise SourceOptionError(f"{stream}: topic is a text that is not empty, got {topic!r}")
        if address is not None and not (isinstance(address, str) and _ADDRESS.fullmatch(address)):
            raise SourceOptionError(
                f"{stream}: address is that of a publisher, got {address!r}", hint="address = 'tcp://host:port'"
            )
        self._stream, self._topic = stream, topic
        self._fps = read_number(stream, options, "fps", 30.0, 0.1, 1000)
        self._address: str | None = address
        self._silence_ns = round(max(_SILENCE_S, _SILENT_FRAMES / self._fps) * 1e9)
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._subscriber: Subscriber | None = None
        self._clock: PupilClock | None = None
        self._reset()

    def _reset(self) -> None:
        self._info: StreamInfo | None = None
        self._first: tuple[_Image, HostNs] | None = None
        self._heard = host_now()
        self._index: int | None = None
        self._sequence = self._captured = self._lost = 0
        self._delivered = self._missed = self._corrupt = 0

    def find(self) -> Demand:
        """Name the topic; whether somebody sends is known only after ``open``."""
        return Demand(DeviceInfo("network", self._topic, self._where))

    def open(self) -> StreamInfo:
        """Subscribe and wait up to a second for a first frame.

        Raises:
            SourceNotFound: nobody sends.
            SourceError: there is no such address, or no daemon whose bus could be meant.
        """
        self.close()
        self._reset()
        self._subscribe()
        image = self._receive(self._heard + round(max(_FIRST_FRAME_S, 2 / self._fps) * 1e9))
        if image is None:
            broken = "; what came was no frame" if self._corrupt else ""
            self.close()
            raise SourceNotFound(
                f"{self._stream}: nobody sends {self._topic!r} on {self._where}{broken}",
                hint="start the program that sends, or check the options topic and address",
            )
        self._first = image, host_now()
        stamped = self._to_host(*self._first) is not None
        self._info = StreamInfo(
            stream=self._stream,
            source="network",
            device=self._topic,
            serial=self._where,
            width=image.width,
            height=image.height,
            fps=self._fps,
            format=image.format,
            clock="sender" if stamped else "arrival",
            intrinsics=image.intrinsics,
        )
        return self._info

    @property
    def _where(self) -> str:
        return self._address or "the daemon's bus"

    def _subscribe(self) -> None:
        run = RunDir(Path(os.environ["GAZED_RUN"])) if "GAZED_RUN" in os.environ else None
        if run is None and self._address is None:
            raise SourceError(
                f"{self._stream}: there is no daemon whose bus could be read",
                hint="give the option address, or start the daemon: gazed run",
            )
        self._clock = PupilClock(run.clock) if run else None
        # A context of its own is gone after close, with all its threads and files.
        self._context = zmq.Context()
        self._context.setsockopt(zmq.MAXMSGSIZE, _MAX_BYTES)
        address = self._address or (run.sub if run else "")
        try:
            self._subscriber = Subscriber(address, [self._topic], context=self._context, hwm=64)
        except zmq.ZMQError as error:
            self.close()
            raise SourceError(f"{self._stream}: cannot connect to {address}: {error}") from error

    def read(self, timeout: float) -> Frame | None:
        """Return the next frame, or ``None`` after ``timeout`` seconds.

        Raises:
            DeviceLost: the sender is silent.
            SourceError: the source is not open.
        """
        if self._subscriber is None or self._info is None:
            raise SourceError(f"{self._stream}: {self._topic!r} is not open", hint="call open() first")
        ready, self._first = self._first, None
        if ready is None and (image := self._receive(host_now() + round(timeout * 1e9))) is not None:
            ready = image, host_now()
        if ready is not None:
            return self._hand_out(*ready)
        silent = host_now() - self._heard
        if silent > self._silence_ns:
            raise DeviceLost(
                f"{self._stream}: the sender of {self._topic!r} on {self._where} is silent for {silent / 1e9:.1f} s",
                hint="start it again; recording goes on with its next frame",
            )
        return None

    def _receive(self, deadline: int) -> _Image | None:
        """Return the next image of this stream; ``None`` when the deadline is over."""
        assert self._subscriber is not None  # noqa: S101 - called between open and close
        while True:
            message = self._subscriber.receive(max(0, deadline - host_now()) / 1e9)
            if message is None:
                return None
            if message.topic == self._topic:
                image = _read_image(message)
                if image is not None and self._fits(image):
                    self._heard = host_now()
                    return image
                self._corrupt += 1
            if host_now() >= deadline:
                return None

    def _fits(self, image: _Image) -> bool:
        info = self._info
        return info is None or (image.width, image.height, image.format) == (info.width, info.height, info.format)

    def _hand_out(self, image: _Image, arrived: HostNs) -> Frame:
        captured = max(self._to_host(image, arrived) or arrived, self._captured + _STEP_NS)
        self._captured = captured
        step = self._step(image.index)
        if self._delivered:
            self._sequence += step
            self._missed += step - 1
        self._delivered += 1
        return Frame(
            stream=self._stream,
            sequence=self._sequence,
            host_ns=HostNs(max(host_now(), captured)),
            captured_ns=HostNs(captured),
            device_time=image.stamp,
            width=image.width,
            height=image.height,
            format=image.format,
            payload=image.payload,
        )

    def _step(self, index: int) -> int:
        """Return by how much the sequence rises with this frame."""
        assert self._subscriber is not None  # noqa: S101 - called between open and close
        lost, self._lost = self._lost, self._subscriber.lost.get(self._topic, 0)
        before, self._index = self._index, index
        indexed = index - before if before is not None else 1
        return max(indexed if 0 < indexed <= _LARGEST_GAP else 1, min(self._lost - lost, _LARGEST_GAP) + 1)

    def _to_host(self, image: _Image, arrived: HostNs) -> HostNs | None:
        """Return when the sender says that the image was made; ``None`` where that cannot be."""
        if self._clock is None or not abs(image.stamp) < 9e9:
            return None
        host = self._clock.to_host(PupilTime(image.stamp))
        return host if arrived - _OLDEST_NS <= host <= arrived else None

    def stats(self) -> SourceStats:
        """Return the counts since the last ``open``; messages that cannot be decoded are corrupt, too."""
        undecodable = self._subscriber.undecodable if self._subscriber else 0
        clock = ClockQuality(self._info.clock if self._info else "arrival")
        return SourceStats(self._delivered, self._missed, self._corrupt + undecodable, clock)

    def close(self) -> None:
        """Leave the bus."""
        if self._subscriber is not None:
            self._subscriber.close()
        if self._context is not None:
            self._context.destroy(0)
        if self._clock is not None:
            self._clock.close()
        self._subscriber = self._context = self._clock = self._first = None

    @classmethod
    def devices(cls) -> list[DeviceInfo]:
        """Return nothing: a sender is named, not found."""
        return []


def _read_image(message: Message) -> _Image | None:
    """Return the image of a message; ``None`` for what is none."""
    try:
        head = msgspec.convert(message.payload, type=_Head)
    except msgspec.ValidationError:
        return None
    if len(message.raw) != 1 or not math.isfinite(head.timestamp):
        return None
    width, height, [raw] = head.width, head.height, message.raw
    if head.format == "jpeg":
        if jpeg_size(raw) != (width, height):
            return None
    elif len(raw) != width * height * (1 if head.format == "gray" else 3):
        return None
    if head.format == "rgb":
        raw = np.frombuffer(raw, np.uint8).reshape(height, width, 3)[::-1, :, ::-1].tobytes()
    kind: PayloadFormat = "bgr" if head.format == "rgb" else head.format
    return _Image(width, height, kind, raw, head.index, head.timestamp, _intrinsics(message.payload, width, height))


def _intrinsics(payload: Mapping[str, Any], width: int, height: int) -> dict[str, object] | None:
    """Return the camera model in the form of ``StreamInfo``; ``None`` where the sender tells none that is one."""
    try:
        lens = msgspec.convert(payload, type=_Lens)
    except msgspec.ValidationError:
        return None
    values, distortion = lens.projection_matrix, lens.distortion_coeffs
    if not all(math.isfinite(value) for value in values + distortion):
        return None
    return {
        "camera_matrix": [values[0:3], values[3:6], values[6:9]],
        "dist_coefs": [distortion],
        "cam_type": "radial",
        "resolution": [width, height],
    }
