"""The frame: one image as a camera delivered it, or one block of sound, with every clock that is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gazed_timesync import HostNs

__all__ = ["AUDIO", "Frame", "FrameFormat", "PayloadFormat", "StreamInfo", "frame_topic", "is_stream_name"]

FrameFormat = Literal["jpeg", "gray", "bgr", "yuv"]
"""Formats of images: a JPEG; or 8-bit samples without padding: gray, interleaved BGR, planar YUV 4:2:2."""
PayloadFormat = Literal["jpeg", "gray", "bgr", "yuv", "pcm"]
"""The formats of images, and sound: interleaved signed 16-bit little-endian samples."""

AUDIO = "audio"
"""Name of the stream of a microphone."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of one camera, or one block of sound.

    ``payload`` is what the device delivered: a camera's JPEG stays that JPEG from here to the disk.
    """

    stream: str
    """``world``, ``eye0``, ``eye1``, …, ``audio``"""
    sequence: int
    """Counts what the device produced; a gap means frames that never reached this process. Sound has no gaps:
    silence stands in for samples that were lost."""
    host_ns: HostNs
    """Host time at which the frame was taken out of the driver."""
    captured_ns: HostNs
    """Best estimate of the exposure (of the first sample) on the host clock; ``host_ns`` where nothing is known."""
    device_time: float | None
    """The device's own stamp in seconds, as it came; ``None`` where the device has no clock, or did not make it all."""
    width: int
    """Pixels; of sound, samples of each channel."""
    height: int
    """Pixels; of sound, channels."""
    format: PayloadFormat
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
    """As ``Frame``."""
    fps: float
    """Nominal frames per second; of sound, blocks."""
    format: PayloadFormat
    clock: str
    """What the capture times rest on: ``hardware``, ``kernel``, ``sender``, ``arrival``, ``file`` or ``simulated``."""
    intrinsics: dict[str, object] | None = None
    """``{camera_matrix 3x3, dist_coefs, cam_type, resolution}`` as in Pupil's intrinsics files; ``None`` if unknown."""
    controls: dict[str, object] | None = None
    """The camera's controls as read back after they were set, by name; ``None`` where it has none."""
    sample_rate: int | None = None
    """Nominal samples a second of sound; ``None`` for images."""


def is_stream_name(name: str) -> bool:
    """Tell whether ``name`` can be a stream: ``world``, ``audio``, or ``eye`` and one digit."""
    return name in ("world", AUDIO) or (len(name) == 4 and name.startswith("eye") and name[3] in "0123456789")


def frame_topic(stream: str) -> str:
    """Return Pupil's topic of a stream's frames: ``frame.world``, ``frame.eye.0``."""
    return f"frame.{stream}" if stream == "world" else f"frame.eye.{stream[3:]}"
