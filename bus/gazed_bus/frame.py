"""The frame: one image as a camera delivered it, with every clock that is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gazed_timesync import HostNs

__all__ = ["Frame", "FrameFormat", "StreamInfo", "frame_topic", "is_stream_name"]

FrameFormat = Literal["jpeg", "gray", "bgr", "yuv"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of one camera.

    ``payload`` is what the device delivered: a camera's JPEG stays that JPEG from here to the disk.
    """

    stream: str
    """``world``, ``eye0``, ``eye1``, …"""
    sequence: int
    """Counts what the device produced; a gap means frames that never reached this process."""
    host_ns: HostNs
    """Host time at which the frame was taken out of the driver."""
    captured_ns: HostNs
    """Best estimate of the exposure on the host clock; equals ``host_ns`` where nothing better is known."""
    device_time: float | None
    """The device's own stamp in seconds, as it came; ``None`` where the device has no clock."""
    width: int
    height: int
    format: FrameFormat
    payload: bytes | memoryview


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a source is delivering: the facts that the recording keeps about a stream."""

    stream: str
    source: str
    """Registered name of the source: ``file``, ``simulated``, …"""
    device: str
    """Human-readable name of the device."""
    serial: str
    """What tells it from its twins: a serial number, a USB path, a file path."""
    width: int
    height: int
    fps: float
    """Nominal frames per second."""
    format: FrameFormat
    clock: str
    """What the capture times rest on: ``hardware``, ``kernel``, ``arrival``, ``file`` or ``simulated``."""
    intrinsics: dict[str, object] | None = None
    """``{camera_matrix 3x3, dist_coefs, cam_type, resolution}`` as in Pupil's intrinsics files; ``None`` if unknown."""
    controls: dict[str, object] | None = None


def is_stream_name(name: str) -> bool:
    """Tell whether ``name`` can be a stream: ``world`` or ``eye`` and one digit."""
    return name == "world" or (len(name) == 4 and name.startswith("eye") and name[3] in "0123456789")


def frame_topic(stream: str) -> str:
    """Return Pupil's topic of a stream's frames: ``frame.world``, ``frame.eye.0``."""
    return f"frame.{stream}" if stream == "world" else f"frame.eye.{stream[3:]}"
