"""What is kept of each frame besides the image: one fixed record, on disk in ``<stream>_frames.npy``."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

__all__ = ["FRAME_DTYPE", "FrameRecord"]

FRAME_DTYPE = np.dtype(
    [
        ("sequence", "<u8"),
        ("device_time", "<f8"),
        ("host_ns", "<i8"),
        ("captured_ns", "<i8"),
        ("timestamp", "<f8"),
        ("checksum", "<u8"),
    ]
)
_LAYOUT = struct.Struct("<QdqqdQ")


class FrameRecord(NamedTuple):
    """One row of ``<stream>_frames.npy`` (48 bytes, little-endian, ``FRAME_DTYPE``)."""

    sequence: int
    """The source's count of this frame."""
    device_time: float
    """Seconds of the device's clock as it came; NaN where it has none."""
    host_ns: int
    """CLOCK_MONOTONIC at dequeue, nanoseconds."""
    captured_ns: int
    """Estimated exposure on CLOCK_MONOTONIC, nanoseconds."""
    timestamp: float
    """Pupil time in seconds: the value in ``<stream>_timestamps.npy``."""
    checksum: int
    """xxh3_64 of the stored packet, seed 0."""

    def pack(self) -> bytes:
        """Return the 48 bytes of the row."""
        return _LAYOUT.pack(*self)

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> FrameRecord:
        """Read a row back from 48 bytes."""
        return cls(*_LAYOUT.unpack(data))
