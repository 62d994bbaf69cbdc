"""The header boxes of the mp4 files gazed writes: ISO base media (ISO/IEC 14496-12), one track of pictures or sound.

While it is recorded, a file is a fragmented mp4 with one frame (or block of sound) a fragment::

    ftyp | slot (free, 16 bytes) | moov without frames | padding | fragments

Closing appends a ``moov`` with the whole index and then, with one write, turns the slot into the header of an ``mdat``
that spans everything up to it: an ordinary mp4 (``ftyp | mdat | moov``). It can be read before, between and after.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, cast, get_args

import av
import numpy as np
import numpy.typing as npt

from gazed_recorder.errors import DamagedFile

__all__ = [
    "FTYP",
    "SLOT_AT",
    "SLOT_OPEN",
    "CodecName",
    "Track",
    "closed_slot",
    "find_box",
    "index",
    "mjpeg_track",
    "preamble",
    "read_track",
    "sample_description",
]

CodecName = Literal["mjpeg", "h264", "mpeg4", "flac"]

FTYP = struct.pack(">I4s4sI4s4s4s", 28, b"ftyp", b"isom", 0x200, b"isom", b"iso6", b"mp41")
SLOT_AT = len(FTYP)
SLOT_OPEN = struct.pack(">I4sQ", 16, b"free", 0)

_BOX = struct.Struct(">I4s")
_LONE_FRAME_US = 33_333
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_EMPTY_INDEX = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Track:
    """What a player must know before the first frame."""

    name: CodecName
    width: int
    """Pixels; of sound, samples of each channel in a block."""
    height: int
    """Pixels; of sound, channels."""
    sample_entry: bytes
    """The whole ``stsd`` box, as libav writes it."""
    timescale: int = 1_000_000
    """Units of time in a second: microseconds for pictures, samples for sound."""

    @property
    def sound(self) -> bool:
        """Whether it holds sound, in blocks that follow each other without a gap."""
        return self.name == "flac"

    @property
    def lone(self) -> int:
        """How long a frame lasts that is the only one, in units of ``timescale``."""
        return self.width if self.sound else _LONE_FRAME_US


def mjpeg_track(width: int, height: int) -> Track:
    """Return the track of a camera's JPEGs of ``width`` x ``height`` pixels."""
    header = io.BytesIO()
    container = av.open(header, "w", format="mp4", options={"movflags": "empty_moov"})
    stream = container.add_mux_stream("mjpeg", rate=30, width=width, height=height)
    stream.time_base = Fraction(1, 1_000_000)
    container.start_encoding()
    entry = sample_description(header.getvalue())
    container.close()
    return Track("mjpeg", width, height, entry)


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


def read_track(moov: bytes) -> Track:
    """Read the track back from a file's ``moov`` box, as ``preamble`` and ``index`` write it.

    Raises:
        DamagedFile: a box is missing, or says what no file of ours does.
    """
    media = (b"moov", b"trak", b"mdia")
    handler = moov[slice(*find_box(moov, (*media, b"hdlr")))]
    header = moov[slice(*find_box(moov, (*media, b"mdhd")))]
    entry = sample_description(moov)
    name = handler[24:].decode(errors="replace").rstrip("\0").removeprefix("gazed ")
    if name not in get_args(CodecName) or len(entry) < 52:
        raise DamagedFile(f"the codec is {name!r}, known are {', '.join(get_args(CodecName))}")
    # FLAC tells its channels in the sample entry, and the length of its blocks in the STREAMINFO behind it.
    places = (68, 40) if name == "flac" else (48, 50)
    width, height = (int.from_bytes(entry[at : at + 2], "big") for at in places)
    if name != "flac":
        return Track(cast(CodecName, name), width, height, entry)
    timescale = int.from_bytes(header[20:24], "big")
    if not (width and height and timescale):
        raise DamagedFile(f"sound of {height} channels in blocks of {width} samples, {timescale} a second")
    return Track("flac", width, height, entry, timescale)


def preamble(track: Track) -> bytes:
    """Return what a file begins with: ``ftyp``, the open slot, a ``moov`` without frames, padding."""
    extends = _box(b"mvex", _full(b"trex", 0, 0, struct.pack(">5I", 1, 1, 0, 0, 0)))
    start = FTYP + SLOT_OPEN + _moov(track, 0, _tables(track, *[_EMPTY_INDEX] * 4), extends)
    return start + _box(b"free", bytes(-len(start) % 16))


def closed_slot(end: int) -> bytes:
    """Return the 16 bytes that make one ``mdat`` of everything from the slot to byte ``end`` of the file."""
    return struct.pack(">I4sQ", 1, b"mdat", end - SLOT_AT)


def index(
    track: Track,
    sizes: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    dts: npt.NDArray[np.int64],
    keys: npt.NDArray[np.int64],
) -> bytes:
    """Return the ``moov`` of a finished file.

    ``sizes`` and ``offsets`` in bytes, ``dts`` in units of the track, each (n,); ``keys`` the numbers, from 0, of the
    frames that need no other.
    """
    # The last frame lasts the mean of the others: OpenCV takes the mean rate to find frames by their number.
    last = round(int(dts[-1] - dts[0]) / (len(dts) - 1)) if len(dts) > 1 else track.lone
    deltas = np.append(np.diff(dts), last)[: len(dts)]
    return _moov(track, int(deltas.sum()), _tables(track, sizes, offsets, deltas, keys), b"")


def _tables(
    track: Track,
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
            track.sample_entry,
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


def _moov(track: Track, duration: int, tables: bytes, extends: bytes) -> bytes:
    times = struct.pack(">QQIQ", 0, 0, track.timescale, duration)
    movie = _full(b"mvhd", 1, 0, times, struct.pack(">IHHQ", 0x10000, 0x100, 0, 0), _MATRIX, bytes(24), b"\0\0\0\2")
    volume, shape = (0x100, (0, 0)) if track.sound else (0, (track.width << 16, track.height << 16))
    header = struct.pack(">QQIIQQHHHH", 0, 0, 1, 0, duration, 0, 0, 0, volume, 0)
    # The name of the handler is free text: it tells the codec apart where two share a sample entry.
    kind = b"soun" if track.sound else b"vide"
    handler = struct.pack(">I4s12s", 0, kind, b"") + f"gazed {track.name}\0".encode()
    media = _box(
        b"mdia",
        _full(b"mdhd", 1, 0, times, struct.pack(">HH", 0x55C4, 0)),
        _full(b"hdlr", 0, 0, handler),
        _box(
            b"minf",
            _full(b"smhd", 0, 0, bytes(4)) if track.sound else _full(b"vmhd", 0, 1, bytes(8)),
            _box(b"dinf", _full(b"dref", 0, 0, b"\0\0\0\1", _full(b"url ", 0, 1))),
            _box(b"stbl", tables),
        ),
    )
    whole = _box(b"trak", _full(b"tkhd", 1, 3, header, _MATRIX, struct.pack(">II", *shape)), media)
    return _box(b"moov", movie, whole, extends)


def _box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return _BOX.pack(8 + len(body), name) + body


def _full(name: bytes, version: int, flags: int, *content: bytes) -> bytes:
    return _box(name, struct.pack(">I", version << 24 | flags), *content)
