"""The structures and request numbers of the kernel's ``videodev2.h``, as far as they are used.

Fields that are not used are left out where they stand last, and the structure is filled up to its size.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "DQBUF",
    "ENUM_FMT",
    "ENUM_FRAMEINTERVALS",
    "ENUM_FRAMESIZES",
    "G_CTRL",
    "MMAP",
    "QBUF",
    "QUERYBUF",
    "QUERYCAP",
    "QUERYCTRL",
    "QUERYMENU",
    "REQBUFS",
    "STREAMOFF",
    "STREAMON",
    "S_CTRL",
    "S_FMT",
    "S_PARM",
    "VIDEO_CAPTURE",
    "Buffer",
    "Capability",
    "ControlValue",
    "Format",
    "FormatDescription",
    "FrameInterval",
    "FrameSize",
    "Indexed",
    "QueryControl",
    "QueryMenu",
    "Request",
    "RequestBuffers",
    "StreamParameters",
]

VIDEO_CAPTURE = 1
MMAP = 1
_U8, _U32, _S32, _LONG = ctypes.c_uint8, ctypes.c_uint32, ctypes.c_int32, ctypes.c_long
_READ, _WRITE = 2, 1


class Capability(ctypes.Structure):
    """``v4l2_capability``."""

    driver: bytes
    card: bytes
    capabilities: int
    device_caps: int
    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", _U32),
        ("capabilities", _U32),
        ("device_caps", _U32),
        ("reserved", _U32 * 3),
    )


class Indexed(ctypes.Structure):
    """An entry of a list."""

    index: int


class FormatDescription(Indexed):
    """``v4l2_fmtdesc``."""

    pixelformat: int
    _fields_ = (
        ("index", _U32),
        ("type", _U32),
        ("flags", _U32),
        ("description", ctypes.c_char * 32),
        ("pixelformat", _U32),
        ("mbus_code", _U32),
        ("reserved", _U32 * 3),
    )


class FrameSize(Indexed):
    """``v4l2_frmsizeenum``; width and height are those of a discrete size."""

    type: int
    width: int
    height: int
    _fields_ = (
        ("index", _U32),
        ("pixelformat", _U32),
        ("type", _U32),
        ("width", _U32),
        ("height", _U32),
        ("rest", _U32 * 6),
    )


class FrameInterval(Indexed):
    """``v4l2_frmivalenum``; the fraction is that of a discrete interval, in seconds."""

    type: int
    numerator: int
    denominator: int
    _fields_ = (
        ("index", _U32),
        ("pixelformat", _U32),
        ("width", _U32),
        ("height", _U32),
        ("type", _U32),
        ("numerator", _U32),
        ("denominator", _U32),
        ("rest", _U32 * 6),
    )


class _PixelFormat(ctypes.Structure):
    _fields_ = (
        ("width", _U32),
        ("height", _U32),
        ("pixelformat", _U32),
        ("field", _U32),
        ("bytesperline", _U32),
        ("sizeimage", _U32),
    )


class _AnyFormat(ctypes.Union):
    # Other members of the union hold pointers, which align it.
    _anonymous_ = ("pix",)
    _fields_ = (("pix", _PixelFormat), ("raw", _U8 * 200), ("aligned", ctypes.c_void_p))


class Format(ctypes.Structure):
    """``v4l2_format`` of a single-planar image."""

    width: int
    height: int
    pixelformat: int
    field: int
    bytesperline: int
    _anonymous_ = ("any",)
    _fields_ = (("type", _U32), ("any", _AnyFormat))


class StreamParameters(ctypes.Structure):
    """``v4l2_streamparm`` of a capture device; the fraction is the time of a frame in seconds."""

    capability: int
    numerator: int
    denominator: int
    _fields_ = (
        ("type", _U32),
        ("capability", _U32),
        ("capturemode", _U32),
        ("numerator", _U32),
        ("denominator", _U32),
        ("rest", _U8 * 184),
    )


class RequestBuffers(ctypes.Structure):
    """``v4l2_requestbuffers``."""

    count: int
    _fields_ = (("count", _U32), ("type", _U32), ("memory", _U32), ("capabilities", _U32), ("flags", _U32))


class Buffer(ctypes.Structure):
    """``v4l2_buffer`` of mapped memory."""

    index: int
    bytesused: int
    flags: int
    seconds: int
    microseconds: int
    sequence: int
    offset: int
    length: int
    _fields_ = (
        ("index", _U32),
        ("type", _U32),
        ("bytesused", _U32),
        ("flags", _U32),
        ("field", _U32),
        ("seconds", _LONG),
        ("microseconds", _LONG),
        ("timecode", _U32 * 4),
        ("sequence", _U32),
        ("memory", _U32),
        ("offset", ctypes.c_ulong),
        ("length", _U32),
        ("reserved2", _U32),
        ("request_fd", _S32),
    )


class QueryControl(ctypes.Structure):
    """``v4l2_queryctrl``."""

    id: int
    type: int
    name: bytes
    minimum: int
    maximum: int
    flags: int
    _fields_ = (
        ("id", _U32),
        ("type", _U32),
        ("name", ctypes.c_char * 32),
        ("minimum", _S32),
        ("maximum", _S32),
        ("step", _S32),
        ("default_value", _S32),
        ("flags", _U32),
        ("reserved", _U32 * 2),
    )


class QueryMenu(ctypes.Structure):
    """``v4l2_querymenu``; the name of an entry, or its number in the first eight bytes."""

    _pack_ = 1
    name: ctypes.Array[ctypes.c_uint8]
    _fields_ = (("id", _U32), ("index", _U32), ("name", _U8 * 32), ("reserved", _U32))

    @property
    def text(self) -> str:
        """The name as text."""
        return bytes(self.name).split(b"\0")[0].decode(errors="replace")


class ControlValue(ctypes.Structure):
    """``v4l2_control``."""

    value: int
    _fields_ = (("id", _U32), ("value", _S32))


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the kernel's ``_IOWR('V', …)`` family."""

    code: int
    argument: type[ctypes.Structure] | type[ctypes.c_int]
    way: int = _READ | _WRITE
    _family: ClassVar[int] = ord("V")

    @property
    def number(self) -> int:
        """The number that ioctl takes (``asm-generic/ioctl.h``)."""
        return self.way << 30 | ctypes.sizeof(self.argument) << 16 | self._family << 8 | self.code


QUERYCAP = Request(0, Capability, _READ)
ENUM_FMT = Request(2, FormatDescription)
S_FMT = Request(5, Format)
REQBUFS = Request(8, RequestBuffers)
QUERYBUF = Request(9, Buffer)
QBUF = Request(15, Buffer)
DQBUF = Request(17, Buffer)
STREAMON = Request(18, ctypes.c_int, _WRITE)
STREAMOFF = Request(19, ctypes.c_int, _WRITE)
S_PARM = Request(22, StreamParameters)
G_CTRL = Request(27, ControlValue)
S_CTRL = Request(28, ControlValue)
QUERYCTRL = Request(36, QueryControl)
QUERYMENU = Request(37, QueryMenu)
ENUM_FRAMESIZES = Request(74, FrameSize)
ENUM_FRAMEINTERVALS = Request(75, FrameInterval)
