"""The header boxes of the videos gazed writes: ISO base media (ISO/IEC 14496-12), times in microseconds.

While it is recorded, a video is a fragmented mp4 of one track with one frame a fragment::

    ftyp | slot (free, 16 bytes) | moov without frames | padding | fragments

Closing appends a ``moov`` with the whole index and then, with one write, turns the slot into the header of an ``mdat``
that spans everything up to it: an ordinary mp4 (``ftyp | mdat | moov``). It can be read before, between and after.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import numpy as np
import numpy.typing as npt

from gazed_recorder.errors import DamagedFile

__all__ = [
    "FTYP",
    "SLOT_AT",
    "SLOT_OPEN",
    "TIMESCALE",
    "CodecName",
    "VideoCodec",
    "closed_slot",
    "find_box",
    "index",
    "mjpeg_codec",
    "preamble",
    "sample_description",
]

CodecName = Literal["mjpeg", "h264", "mpeg4"]

TIMESCALE = 1_000_000
FTYP = struct.pack(">I4s4sI4s4s4s", 28, b"ftyp", b"isom", 0x200, b"isom", b"iso6", b"mp41")
SLOT_AT = len(FTYP)
SLOT_OPEN = struct.pack(">I4sQ", 16, b"free", 0)

_BOX = struct.Struct(">I4s")
_LONE_FRAME_US = 33_333
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_EMPTY_INDEX = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class VideoCodec:
    """What a player must know before the first frame."""

    name: CodecName
    width: int
    height: int
    sample_entry: bytes
    """The whole ``stsd`` box, as libav writes it."""


def mjpeg_codec(width: int, height: int) -> VideoCodec:
    """Return the codec of a camera's JPEGs of ``width`` x ``height`` pixels."""
    header = io.BytesIO()
    container = av.open(header, "w", format="mp4", options={"movflags": "empty_moov"})
    stream = container.add_mux_stream("mjpeg", rate=30, width=width, height=height)
    stream.time_base = Fraction(1, TIMESCALE)
    container.start_encoding()
    entry = sample_description(header.getvalue())
    container.close()
    return VideoCodec("mjpeg", width, height, entry)


def sample_description(header: bytes) -> bytes:
    """Cut the ``stsd`` box out of the header of an mp4.

    Raises:
        DamagedFile: there is none.
    """
    path = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    return _box(b"stsd", header[slice(*find_box(header, path))])


def find_box(data: bytes, path: tuple[bytes, ...]) -> tuple[int, int]:
    """Return where the payload of the box at ``path`` begins and ends in ``data``; every step down takes the first.

    Raises:
        DamagedFile: a box on the way is missing or longer than its parent.
    """
    at, end = 0, len(data)
    for name in path:
        while True:
            if at + 8 > end:
                raise DamagedFile(f"box {b'/'.join(path).decode()}: {name.decode()} is missing at byte {at}")
            size, found = _BOX.unpack_from(data, at)
            if size < 8 or at + size > end:
                raise DamagedFile(f"box {found!r} at byte {at}: {size} bytes long, {end - at} are there")
            if found == name:
                at, end = at + 8, at + size
                break
            at += size
    return at, end


def preamble(codec: VideoCodec) -> bytes:
    """Return what a video begins with: ``ftyp``, the open slot, a ``moov`` without frames, padding."""
    extends = _box(b"mvex", _full(b"trex", 0, 0, struct.pack(">5I", 1, 1, 0, 0, 0)))
    start = FTYP + SLOT_OPEN + _moov(codec, 0, _tables(codec, *[_EMPTY_INDEX] * 4), extends)
    return start + _box(b"free", bytes(-len(start) % 16))


def closed_slot(end: int) -> bytes:
    """Return the 16 bytes that make one ``mdat`` of everything from the slot to byte ``end`` of the file."""
    return struct.pack(">I4sQ", 1, b"mdat", end - SLOT_AT)


def index(
    codec: VideoCodec,
    sizes: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    dts: npt.NDArray[np.int64],
    keys: npt.NDArray[np.int64],
) -> bytes:
    """Return the ``moov`` of a finished video.

    ``sizes`` and ``offsets`` in bytes, ``dts`` in microseconds, each (n,); ``keys`` the numbers, from 0, of the frames
    that need no other.
    """
    # The last frame lasts the mean of the others: OpenCV takes the mean rate to find frames by their number.
    last = round(int(dts[-1] - dts[0]) / (len(dts) - 1)) if len(dts) > 1 else _LONE_FRAME_US
    deltas = np.append(np.diff(dts), last)[: len(dts)]
    return _moov(codec, int(deltas.sum()), _tables(codec, sizes, offsets, deltas, keys), b"")


def _tables(
    codec: VideoCodec,
    sizes: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    deltas: npt.NDArray[np.int64],
    keys: npt.NDArray[np.int64],
) -> bytes:
    runs = np.flatnonzero(np.diff(deltas, prepend=-1))
    lengths = np.diff(runs, append=len(deltas))
    count = struct.pack(">I", len(sizes))
    every_key = len(keys) == len(sizes)
    return b"".join(
        (
            codec.sample_entry,
            _full(
                b"stts",
                0,
                0,
                struct.pack(">I", len(runs)),
                np.column_stack((lengths, deltas[runs])).astype(">u4").tobytes(),
            ),
            b""
            if every_key
            else _full(b"stss", 0, 0, struct.pack(">I", len(keys)), (keys + 1).astype(">u4").tobytes()),
            _full(b"stsc", 0, 0, struct.pack(">4I", 1, 1, 1, 1) if len(sizes) else bytes(4)),
            _full(b"stsz", 0, 0, bytes(4), count, sizes.astype(">u4").tobytes()),
            _full(b"co64", 0, 0, count, offsets.astype(">u8").tobytes()),
        )
    )


def _moov(codec: VideoCodec, duration: int, tables: bytes, extends: bytes) -> bytes:
    times = struct.pack(">QQIQ", 0, 0, TIMESCALE, duration)
    movie = _full(b"mvhd", 1, 0, times, struct.pack(">IHHQ", 0x10000, 0x100, 0, 0), _MATRIX, bytes(24), b"\0\0\0\2")
    track = struct.pack(">QQIIQQQ", 0, 0, 1, 0, duration, 0, 0)
    shape = struct.pack(">II", codec.width << 16, codec.height << 16)
    # The name of the handler is free text: it tells the codec apart where two share a sample entry.
    handler = struct.pack(">I4s12s", 0, b"vide", b"") + f"gazed {codec.name}\0".encode()
    media = _box(
        b"mdia",
        _full(b"mdhd", 1, 0, times, struct.pack(">HH", 0x55C4, 0)),
        _full(b"hdlr", 0, 0, handler),
        _box(
            b"minf",
            _full(b"vmhd", 0, 1, bytes(8)),
            _box(b"dinf", _full(b"dref", 0, 0, b"\0\0\0\1", _full(b"url ", 0, 1))),
            _box(b"stbl", tables),
        ),
    )
    return _box(b"moov", movie, _box(b"trak", _full(b"tkhd", 1, 3, track, _MATRIX, shape), media), extends)


def _box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return _BOX.pack(8 + len(body), name) + body


def _full(name: bytes, version: int, flags: int, *content: bytes) -> bytes:
    return _box(name, struct.pack(">I", version << 24 | flags), *content)
