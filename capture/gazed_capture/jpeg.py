"""The size of a JPEG, read from its header alone."""

from __future__ import annotations

__all__ = ["is_whole_jpeg", "jpeg_size"]

_START_OF_IMAGE, _END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_START_OF_SCAN = 0xDA


def jpeg_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Return (width, height) in pixels; ``None`` if ``data`` does not begin with the header of a JPEG.

    Source of the format: ITU-T T.81, B.1 and B.2.2.
    """
    if data[:2] != _START_OF_IMAGE:
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _FRAME_HEADERS:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        elif marker == _START_OF_SCAN:
            return None
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def is_whole_jpeg(data: bytes, width: int, height: int) -> bool:
    """Tell whether ``data`` is a JPEG of that size that is not cut off."""
    # Cameras pad their images, so the end need not be the last two bytes; cut data has none.
    return jpeg_size(data) == (width, height) and data.rfind(_END_OF_IMAGE) >= 0
