"""Descriptors of an emulated UVC 1.0 camera, byte by byte.

Sources: USB 2.0, 9.6 (standard descriptors); USB Video Class 1.1, 3.7 (VideoControl), 3.9 (VideoStreaming), with the
payload documents for MJPEG 3.1 and uncompressed video 3.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

__all__ = [
    "ALTS",
    "BULK_PAYLOAD",
    "CT",
    "PU",
    "UNITS_OF_100NS",
    "Format",
    "bytes_a_microframe",
    "configuration",
    "device",
    "string",
]

Format = tuple[str, Sequence[tuple[int, int, Sequence[int]]]]
"""FourCC (``MJPG`` or ``Y8  ``) and its frames: width, height, frames a second (the first one is the default)."""

UNITS_OF_100NS = 10_000_000
CT, PU = 1, 2
"""Ids of the camera terminal and of the processing unit."""
ALTS = (0x080, 0x200, 0x300, 0x400, 0xA00, 0xB20, 0xBE0, 0x1380, 0x13FC, 0x1400)
"""wMaxPacketSize of the altsettings 1, 2, …: 11 bits of size, 2 bits of extra transactions (USB 2.0, 9.6.6)."""
BULK_PAYLOAD = 16384

_VIDEO, _CONTROL, _STREAMING = 0x0E, 1, 2
_GUID_TAIL = bytes.fromhex("00001000800000aa00389b71")
# Which bit of bmControls announces a selector: UVC 1.1, 3.7.2.3 and 3.7.2.5.
_PU_BITS = {1: 8, 2: 0, 3: 1, 4: 9, 5: 10, 9: 5}


def bytes_a_microframe(alt: int) -> int:
    """Return what an altsetting of the streaming interface reserves of each microframe."""
    size = ALTS[alt - 1] if alt else 0
    return (size & 0x7FF) * (1 + (size >> 11))


def device(vendor: int, product: int, strings: Sequence[str]) -> bytes:
    """Return the device descriptor; ``strings`` are manufacturer, product, serial, where an empty one has index 0."""
    indices = [i if text else 0 for i, text in enumerate(strings, 1)]
    return struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x0200, 0xEF, 2, 1, 64, vendor, product, 0x0100, *indices, 1)


def string(text: str) -> bytes:
    """Return a string descriptor."""
    raw = text.encode("utf-16-le")
    return bytes([2 + len(raw), 3]) + raw


def configuration(formats: Sequence[Format], controls: Iterable[tuple[int, int]], clock_hz: int, bulk: bool) -> bytes:
    """Return the configuration descriptor with all that belongs to it.

    ``controls`` are (unit, selector); ``clock_hz`` is dwClockFrequency; ``bulk`` gives the streaming interface a bulk
    endpoint in place of the isochronous altsettings.
    """
    body = struct.pack("<BBBBBBBB", 8, 11, 0, 2, _VIDEO, 3, 0, 2)
    body += _interface(0, 0, 1, _CONTROL) + _video_control(list(controls), clock_hz)
    streaming = _video_streaming(formats)
    if bulk:
        body += _interface(1, 0, 1, _STREAMING) + streaming + _endpoint(0x81, 2, 512, 0)
    else:
        body += _interface(1, 0, 0, _STREAMING) + streaming
        for alt, size in enumerate(ALTS, 1):
            body += _interface(1, alt, 1, _STREAMING) + _endpoint(0x81, 5, size, 1)
    return struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), 2, 1, 0, 0x80, 250) + body


def _interface(number: int, alt: int, endpoints: int, subclass: int) -> bytes:
    return struct.pack("<BBBBBBBBB", 9, 4, number, alt, endpoints, _VIDEO, subclass, 0, 0)


def _endpoint(address: int, attributes: int, size: int, interval: int) -> bytes:
    return struct.pack("<BBBBHB", 7, 5, address, attributes, size, interval)


def _video_control(controls: list[tuple[int, int]], clock_hz: int) -> bytes:
    camera = sum(1 << selector - 1 for unit, selector in controls if unit == CT)
    processing = sum(1 << _PU_BITS[selector] for unit, selector in controls if unit == PU)
    units = struct.pack("<BBBBHBBHHHB", 18, 0x24, 2, CT, 0x0201, 0, 0, 0, 0, 0, 3) + camera.to_bytes(3, "little")
    units += struct.pack("<BBBBBHB", 11, 0x24, 5, PU, CT, 0, 2) + processing.to_bytes(2, "little") + b"\0"
    units += struct.pack("<BBBBHBBB", 9, 0x24, 3, 3, 0x0101, 0, PU, 0)
    head = struct.pack("<BBBHHIBB", 13, 0x24, 1, 0x0100, 13 + len(units), clock_hz, 1, 1)
    return head + units + _endpoint(0x83, 3, 16, 6) + struct.pack("<BBBH", 5, 0x25, 3, 16)


def _video_streaming(formats: Sequence[Format]) -> bytes:
    body = b""
    for index, (fourcc, frames) in enumerate(formats, 1):
        if fourcc == "MJPG":
            body += struct.pack("<BBBBBBBBBBB", 11, 0x24, 6, index, len(frames), 0, 1, 0, 0, 0, 0)
        else:
            guid = fourcc.encode() + _GUID_TAIL
            body += struct.pack("<BBBBB16sBBBBBB", 27, 0x24, 4, index, len(frames), guid, 8, 1, 0, 0, 0, 0)
        kind = 7 if fourcc == "MJPG" else 5
        for number, (width, height, rates) in enumerate(frames, 1):
            size, intervals = width * height, [UNITS_OF_100NS // rate for rate in rates]
            body += struct.pack("<BBBBBHH", 26 + 4 * len(rates), 0x24, kind, number, 0, width, height)
            body += struct.pack("<IIIIB", size * 8, size * 8 * max(rates), size * 2, intervals[0], len(rates))
            body += struct.pack(f"<{len(rates)}I", *intervals)
        body += struct.pack("<BBBBBB", 6, 0x24, 0x0D, 1, 1, 4)
    size = 13 + len(formats)
    head = struct.pack("<BBBBHBBBBBBB", size, 0x24, 1, len(formats), size + len(body), 0x81, 0, 3, 0, 0, 0, 1)
    return head + bytes(len(formats)) + body
