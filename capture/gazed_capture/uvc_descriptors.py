"""What a USB camera says of its video streams in its descriptors, read without opening it.

Layouts: USB 2.0 section 9.6 (interface, endpoint); USB Device Class Definition for Video Devices 1.1 section 3.9 and
the payload documents for MJPEG and uncompressed video (formats, frames).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["CameraFormat", "CameraMode", "Streaming", "read_streaming"]

CameraFormat = Literal["mjpeg", "gray"]

_INTERFACE, _ENDPOINT, _CLASS_INTERFACE = 0x04, 0x05, 0x24
_VIDEO, _STREAMING = 0x0E, 0x02
_FORMAT_RAW, _FRAME_RAW, _FRAME_MJPEG = 0x04, 0x05, 0x07
_ISOCHRONOUS, _BULK = 1, 2
_GRAY = b"Y8  "
_TICK_S = 1e-7


@dataclass(frozen=True, slots=True)
class CameraMode:
    """One format, size and rate on offer."""

    format: CameraFormat
    width: int
    """Pixels, as the next."""
    height: int
    period_s: float
    """From frame to frame."""

    @property
    def fps(self) -> float:
        """Frames per second, to two places: periods are whole multiples of 100 ns."""
        return round(1 / self.period_s, 2)


@dataclass(frozen=True, slots=True)
class Streaming:
    """What is known of a camera's streams; empty where its descriptors tell nothing."""

    modes: tuple[CameraMode, ...]
    packets: tuple[int, ...]
    """Bytes of a microframe that each alternate setting reserves, in the camera's order."""
    is_bulk: bool
    """Whether images come by bulk transfers only, which reserve nothing."""


def read_streaming(descriptors: bytes) -> Streaming:
    """Read device and configuration descriptors, one after the other as in sysfs; what makes no sense is skipped."""
    modes: list[CameraMode] = []
    packets: list[int] = []
    bulk = streaming = gray = False
    for kind, body in _split(descriptors):
        if kind == _INTERFACE and len(body) >= 7:
            streaming = (body[3], body[4]) == (_VIDEO, _STREAMING)
        elif not streaming:
            continue
        elif kind == _ENDPOINT and len(body) >= 4:
            transfer = body[1] & 3
            bulk = bulk or transfer == _BULK
            if transfer == _ISOCHRONOUS:
                packets.append(_per_microframe(int.from_bytes(body[2:4], "little")))
        elif kind == _CLASS_INTERFACE and body:
            if body[0] == _FORMAT_RAW:
                gray = body[3:7] == _GRAY
            elif body[0] == _FRAME_MJPEG:
                modes += _modes("mjpeg", body)
            elif body[0] == _FRAME_RAW and gray:
                modes += _modes("gray", body)
    return Streaming(tuple(modes), tuple(packets), bulk and not packets)


def _split(descriptors: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of each descriptor, up to the first that is cut off."""
    at = 0
    while at + 2 <= len(descriptors):
        length = descriptors[at]
        if length < 2 or at + length > len(descriptors):
            return
        yield descriptors[at + 1], descriptors[at + 2 : at + length]
        at += length


def _per_microframe(max_packet_size: int) -> int:
    # USB 2.0 table 9-13: bits 10..0 are the size, bits 12..11 the additional packets in a microframe.
    return (max_packet_size & 0x7FF) * ((max_packet_size >> 11 & 3) + 1)


def _modes(form: CameraFormat, body: bytes) -> list[CameraMode]:
    if len(body) < 24:
        return []
    width, height = struct.unpack_from("<HH", body, 3)
    # A count of 0 stands for a range: its ends are the first two of (shortest, longest, step).
    count = min(body[23] or 2, (len(body) - 24) // 4)
    periods = struct.unpack_from(f"<{count}I", body, 24)
    return [CameraMode(form, width, height, ticks * _TICK_S) for ticks in periods if ticks]
