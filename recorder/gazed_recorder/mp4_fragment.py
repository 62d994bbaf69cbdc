"""One frame, or block of sound, in a file: the fragment (ISO/IEC 14496-12, 8.8) and the record before it.

    free: magic, FrameRecord, padding | mdat: the packet | moof

``moof`` stands behind its ``mdat``: a write that was cut short leaves bytes that players pass over, not half an image.
Its last byte, the count in ``trun``, is the one that makes the frame exist.

A fragment begins 8 bytes after a multiple of 16 and is padded so that its ``moof`` lies on one. Libav (8.1) refuses a
file that ends in bytes 40 to 47 of a ``moof``; writes are cut at page boundaries, which so are never there.
"""

from __future__ import annotations

import struct

from gazed_recorder.records import FrameRecord

__all__ = [
    "HEAD_SIZE",
    "MAGIC",
    "TAIL_SIZE",
    "fragment_head",
    "fragment_size",
    "fragment_tail",
    "read_head",
    "read_tail",
]

MAGIC = b"gazedFRM"
HEAD_SIZE = 72
TAIL_SIZE = 104
"""Bytes before (without padding) and behind the packet."""

_FREE = struct.Struct(">I4s8s48s")
_MDAT = struct.Struct(">I4s")
_TAIL = struct.Struct(">I4s I4sII I4s I4sIIQIII I4sIQ I4sII")
_MFHD, _TFHD, _TFDT, _TRUN = 16, 36, 20, 16
_FLAGS_KEY = 0x02000000
_FLAGS_DELTA = 0x01010000
_TFHD_FLAGS = 0x39
"""Base data offset, default duration, size and flags are given."""
_PADDING = [bytes(n) for n in range(16)]


def fragment_size(size: int) -> int:
    """Return how many bytes the fragment of a packet of ``size`` bytes takes."""
    return HEAD_SIZE + size + -size % 16 + TAIL_SIZE


def fragment_head(record: FrameRecord, size: int) -> bytes:
    """Return what stands before a packet of ``size`` bytes."""
    padding = -size % 16
    free = _FREE.pack(HEAD_SIZE - 8 + padding, b"free", MAGIC, record.pack())
    return free + _PADDING[padding] + _MDAT.pack(size + 8, b"mdat")


def read_head(data: bytes, at: int = 0) -> tuple[FrameRecord, int, int] | None:
    """Return the record, the bytes before the packet and the packet's size; ``None`` if ``data`` holds no head."""
    if len(data) < at + HEAD_SIZE:
        return None
    free, _, _, record = _FREE.unpack_from(data, at)
    if not HEAD_SIZE - 8 <= free < HEAD_SIZE + 8 or len(data) < at + free + 8:
        return None
    size = _MDAT.unpack_from(data, at + free)[0] - 8
    if size < 0:
        return None
    fields = FrameRecord.unpack(record)
    return (fields, free + 8, size) if data.startswith(fragment_head(fields, size), at) else None


def fragment_tail(number: int, offset: int, size: int, dts: int, duration: int, key: bool) -> bytes:
    """Return the ``moof`` of frame ``number`` (from 1), a packet of ``size`` bytes at byte ``offset``.

    Times are in units of the track.
    """
    traf = TAIL_SIZE - 8 - _MFHD
    mfhd = (_MFHD, b"mfhd", 0, number)
    tfhd = (_TFHD, b"tfhd", _TFHD_FLAGS, 1, offset, duration, size, _FLAGS_KEY if key else _FLAGS_DELTA)
    tfdt = (_TFDT, b"tfdt", 1 << 24, dts)
    return _TAIL.pack(TAIL_SIZE, b"moof", *mfhd, traf, b"traf", *tfhd, *tfdt, _TRUN, b"trun", 0, 1)


def read_tail(data: bytes, offset: int, size: int) -> tuple[int, int, int, bool] | None:
    """Return the number of the frame (from 1), its time, how long it lasts and whether it is a key frame.

    ``None`` if ``data`` does not begin with the tail of a packet of ``size`` bytes at byte ``offset``.
    """
    if len(data) < TAIL_SIZE:
        return None
    fields = _TAIL.unpack_from(data)
    number, duration, flags, dts = fields[5], fields[13], fields[15], fields[19]
    key = flags == _FLAGS_KEY
    tail = fragment_tail(number, offset, size, dts, duration, key)
    return (number, dts, duration, key) if data.startswith(tail) else None
