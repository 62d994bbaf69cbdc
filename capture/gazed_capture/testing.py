"""The contract of a source as a test, and a source that follows a script.

A new source passes ``check_source``; a test of whatever reads sources uses ``FakeSource``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np

from gazed_bus.frame import Frame, StreamInfo
from gazed_capture.errors import DeviceLost, EndOfStream, SourceError, SourceNotFound, SourceOptionError
from gazed_capture.options import refuse_unknown
from gazed_capture.source import ClockQuality, Demand, DeviceInfo, Source, SourceStats
from gazed_timesync import HostNs, host_now

__all__ = ["FakeSource", "check_source"]

_PATIENCE_S = 30.0
_SLACK_S = 1.0
"""How late a read may come back: generous, so that a busy machine fails nobody."""
_STEPS = ("frame", "timeout", "missed", "lost", "absent", "error")


def check_source(factory: Callable[[], Source], *, frames: int = 5) -> None:
    """Hold a source against the whole protocol of ``gazed_capture.source``.

    Args:
        factory: makes a new source that can deliver at least ``frames`` frames each time it is opened.
        frames: how many frames to read each time.

    Raises:
        AssertionError: the source breaks the protocol; the text says where.
    """
    before = _descriptors()
    source = factory()
    _require(_descriptors() == before, "constructing a source must open nothing")
    _check_options(type(source))
    _check_closed(source, "before open")
    demand = source.find()
    _require(bool(demand.device.source and demand.device.name), "find() names its source and the device")
    _require(_descriptors() == before, "find() must open nothing")
    for turn in ("first open", "open after close"):
        info = source.open()
        try:
            _check_info(info)
            _check_frames(source, info, frames, turn)
        finally:
            source.close()
        source.close()
        _check_closed(source, "after close")
        held = _descriptors()
        if turn == "first open":
            before = held
    _require(held <= before, "the second open and close left files open")
    for device in type(source).devices():
        _require(isinstance(device, DeviceInfo), "devices() lists DeviceInfo")


def _check_options(kind: type[Source]) -> None:
    try:
        kind("world", {"no_such_option": 1})
    except SourceOptionError as error:
        _require("no_such_option" in error.message, "the refusal of an unknown option must name it")
    else:
        raise AssertionError("an unknown option must be refused with SourceOptionError")


def _check_closed(source: Source, when: str) -> None:
    try:
        source.read(0.0)
    except SourceError:
        return
    raise AssertionError(f"read {when} must raise SourceError")


def _check_info(info: StreamInfo) -> None:
    _require(bool(info.source and info.device), "StreamInfo names its source and its device")
    _require(info.width > 0 and info.height > 0 and info.fps > 0, "StreamInfo has a size and a rate")
    kinds = ("hardware", "kernel", "sender", "arrival", "file", "simulated")
    _require(info.clock in kinds, f"StreamInfo.clock is one of {kinds}, not {info.clock!r}")
    _require(
        (info.format == "pcm") == (info.sample_rate is not None), "StreamInfo.sample_rate is for sound, and needed"
    )
    if info.sample_rate is not None:
        _require(info.fps == info.sample_rate / info.width, "StreamInfo.fps of sound counts blocks")
    if info.intrinsics is not None:
        keys = {"camera_matrix", "dist_coefs", "cam_type", "resolution"}
        _require(keys <= set(info.intrinsics), f"StreamInfo.intrinsics needs {sorted(keys)}")


def _check_frames(source: Source, info: StreamInfo, wanted: int, turn: str) -> None:
    _require(source.stats().delivered == 0, f"{turn}: the counts start at 0")
    frames: list[Frame] = []
    end = time.monotonic() + _PATIENCE_S
    while len(frames) < wanted:
        _require(time.monotonic() < end, f"{turn}: only {len(frames)} of {wanted} frames in {_PATIENCE_S} s")
        frame = _timed_read(source, 0.0 if len(frames) % 2 else 0.05)
        if frame is not None:
            _check_frame(frame, info, frames[-1] if frames else None)
            frames.append(frame)
    stats = source.stats()
    _require(stats.delivered == wanted, f"{turn}: stats count {stats.delivered} delivered, {wanted} were read")
    gaps = frames[-1].sequence - frames[0].sequence + 1 - wanted
    _require(stats.missed >= gaps, f"{turn}: stats count {stats.missed} missed, the sequence has gaps of {gaps}")
    _require(stats.clock.kind == info.clock, f"{turn}: stats and StreamInfo disagree on the clock")


def _timed_read(source: Source, timeout: float) -> Frame | None:
    start = time.monotonic()
    frame = source.read(timeout)
    took = time.monotonic() - start
    _require(took < timeout + _SLACK_S, f"read({timeout}) took {took:.2f} s")
    return frame


def _check_frame(frame: Frame, info: StreamInfo, last: Frame | None) -> None:
    what = f"frame {frame.sequence}"
    _require(frame.stream == info.stream, f"{what}: stream {frame.stream!r}, StreamInfo says {info.stream!r}")
    _require((frame.width, frame.height) == (info.width, info.height), f"{what}: size differs from StreamInfo")
    _require(frame.format == info.format, f"{what}: format {frame.format!r}, StreamInfo says {info.format!r}")
    _require(frame.host_ns <= host_now(), f"{what}: host_ns lies in the future")
    _require(frame.captured_ns <= frame.host_ns, f"{what}: captured after it was taken out")
    if last is not None:
        _require(frame.sequence > last.sequence, f"{what}: comes after {last.sequence}")
        follows = frame.format != "pcm" or frame.sequence == last.sequence + 1
        _require(follows, f"{what}: sound has no gaps, and this comes after {last.sequence}")
        _require(frame.captured_ns > last.captured_ns, f"{what}: captured_ns does not rise")
        _require(frame.host_ns >= last.host_ns, f"{what}: host_ns falls")
    _check_payload(frame, what)


def _check_payload(frame: Frame, what: str) -> None:
    pixels = frame.width * frame.height
    if frame.format == "jpeg":
        image = cv2.imdecode(np.frombuffer(frame.payload, np.uint8), cv2.IMREAD_GRAYSCALE)
        size = (image.shape[1], image.shape[0]) if image is not None else None
        _require(size is not None, f"{what}: the payload is no JPEG")
        _require(size == (frame.width, frame.height), f"{what}: the JPEG is {size}, the frame says otherwise")
    elif frame.format == "yuv":
        _require(len(frame.payload) > pixels, f"{what}: too few bytes for planar yuv")
    else:
        wanted = pixels * {"gray": 1, "bgr": 3, "pcm": 2}[frame.format]
        _require(len(frame.payload) == wanted, f"{what}: {len(frame.payload)} bytes, wanted {wanted}")


def _require(truth: bool, text: str) -> None:
    if not truth:
        raise AssertionError(text)


def _descriptors() -> int:
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))


class FakeSource:
    """A source that does what its script says.

    Options:
        steps: what happens, one after the other; after the last comes EndOfStream. A script goes on where it was when
            the source is opened again.
            ``frame``: a frame; ``timeout``: one read brings nothing; ``missed``: a frame that never arrives;
            ``lost``: read raises DeviceLost; ``absent``: the next ``open`` raises SourceNotFound; ``error``: read
            raises SourceError.
        width, height: of the images, in pixels (default 64 x 48).
        fps: frames per second; 0 (default) delivers at once.
    """

    delivers: ClassVar[Literal["images", "sound"]] = "images"

    def __init__(self, stream: str, options: Mapping[str, Any]) -> None:
        refuse_unknown("fake", options, ("steps", "width", "height", "fps"))
        self._stream = stream
        self._steps = list(options.get("steps", ()))
        for step in self._steps:
            if step not in _STEPS:
                raise SourceOptionError(f"source 'fake' knows no step {step!r}: it takes {', '.join(_STEPS)}")
        self._width, self._height = options.get("width", 64), options.get("height", 48)
        self._fps = options.get("fps", 0)
        self._jpeg = b""
        self._open = self._gone = False
        self._sequence = self._delivered = self._missed = 0
        self._captured = 0
        self._due = 0.0

    def find(self) -> Demand:
        """Name the camera, unless the script says that it is away."""
        if self._steps[:1] == ["absent"]:
            raise SourceNotFound(f"{self._stream}: the fake camera is not there")
        return Demand(DeviceInfo("fake", "fake camera", "1"))

    def open(self) -> StreamInfo:
        """Go on with the script."""
        if self._steps[:1] == ["absent"]:
            self._steps.pop(0)
            raise SourceNotFound(f"{self._stream}: the fake camera is not there")
        image = np.random.default_rng(1).integers(0, 255, (self._height, self._width), np.uint8)
        self._jpeg = cv2.imencode(".jpg", image)[1].tobytes()
        self._sequence = self._delivered = self._missed = 0
        self._due = time.monotonic()
        self._open = True
        return StreamInfo(
            stream=self._stream,
            source="fake",
            device="fake camera",
            serial="1",
            width=self._width,
            height=self._height,
            fps=self._fps or 30.0,
            format="jpeg",
            clock="arrival",
        )

    def read(self, timeout: float) -> Frame | None:
        """Do the next step of the script."""
        if not self._open:
            raise SourceError(f"{self._stream}: the fake camera is not open")
        while self._steps[:1] == ["missed"]:
            self._steps.pop(0)
            self._sequence += 1
            self._missed += 1
        if not self._steps:
            raise EndOfStream(f"{self._stream}: the script is at its end")
        step = self._steps[0]
        if step == "frame":
            return self._frame(timeout)
        if step in ("lost", "absent"):
            self._gone = True
            raise DeviceLost(f"{self._stream}: the fake camera is gone")
        self._steps.pop(0)
        if step == "error":
            raise SourceError(f"{self._stream}: the fake camera stumbled")
        time.sleep(timeout)
        return None

    def _frame(self, timeout: float) -> Frame | None:
        wait = self._due - time.monotonic() if self._fps else 0.0
        time.sleep(min(max(wait, 0.0), timeout))
        if wait > timeout:
            return None
        self._steps.pop(0)
        self._due += 1 / self._fps if self._fps else 0.0
        self._captured = max(host_now(), self._captured + 1)
        sequence, self._sequence = self._sequence, self._sequence + 1
        self._delivered += 1
        return Frame(
            stream=self._stream,
            sequence=sequence,
            host_ns=HostNs(self._captured),
            captured_ns=HostNs(self._captured),
            device_time=None,
            width=self._width,
            height=self._height,
            format="jpeg",
            payload=self._jpeg,
        )

    def stats(self) -> SourceStats:
        """Return the counts since the last ``open``."""
        return SourceStats(self._delivered, self._missed, clock=ClockQuality("arrival"))

    def close(self) -> None:
        """Stop; a ``lost`` step that was read is over."""
        if self._gone and self._steps[:1] == ["lost"]:
            self._steps.pop(0)
        self._open = self._gone = False

    @classmethod
    def devices(cls) -> list[DeviceInfo]:
        """Return nothing: a fake camera is only made by hand."""
        return []
