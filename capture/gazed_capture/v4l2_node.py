"""One video node of the kernel, through its ioctls.

Source of the interface: the kernel's ``videodev2.h`` and its documentation, "Video for Linux API". libav's reader of
these nodes is not used: it waits without end for a camera that is silent, and hides the number that the driver gives
to each frame, without which lost frames can only be guessed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gazed_capture import v4l2_structs as v4l2

__all__ = ["Capability", "Control", "ImageFormat", "Node", "Picture"]

_BUFFERS = 8
_CAPTURE, _STREAMING, _HAS_NODE_CAPS = 0x1, 0x0400_0000, 0x8000_0000
_BROKEN, _CLOCK_MASK, _CLOCK_MONOTONIC = 0x40, 0xE000, 0x2000
_RATE_IS_SET = 0x1000
_DISCRETE = 1
_NEXT = 0x8000_0000
_DISABLED, _WRITE_ONLY = 0x1, 0x40
_INTEGER, _BOOLEAN, _MENU, _NUMBER_MENU = 1, 2, 3, 9
_FIELD_NONE = 1


@dataclass(frozen=True, slots=True)
class Capability:
    """What a node says of itself."""

    driver: str
    card: str
    captures: bool
    """Whether images can be streamed from it; other nodes deliver metadata, encode, or put out."""


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """The format that the driver chose."""

    pixels: str
    """Four characters: ``MJPG``, ``GREY``, ``YUYV``, …"""
    width: int
    height: int
    stride: int
    """Bytes from line to line; 0 for compressed images."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What came out of the driver."""

    number: int
    """The driver's count of frames, 32 bits; it goes on where frames were lost."""
    stamp_ns: int | None
    """The kernel's stamp, in ns of CLOCK_MONOTONIC; ``None`` from drivers that use another clock."""
    broken: bool
    """The driver itself says that the image is damaged."""
    data: bytes


class Control:
    """One control of the camera; ``controls.apply_controls`` sets it."""

    def __init__(self, node: Node, number: int, name: str, kind: type[int] | type[bool] | dict[str, int]) -> None:
        self._node = node
        self._number = number
        self.display_name = name
        self.d_type = kind
        """``int``, ``bool``, or the entries of a menu: ``{label: number}``."""
        self._value = 0
        self.refresh()

    @property
    def value(self) -> int:
        """What the camera said last."""
        return self._value

    @value.setter
    def value(self, value: int) -> None:
        self._node.call(v4l2.S_CTRL, v4l2.ControlValue(id=self._number, value=value))

    def refresh(self) -> None:
        """Ask the camera."""
        held = v4l2.ControlValue(id=self._number)
        self._node.call(v4l2.G_CTRL, held)
        self._value = held.value


class Node:
    """An open video node; the methods do what the ioctls of their names do, and raise ``OSError`` as these do."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._maps: list[mmap.mmap] = []
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def call(self, request: v4l2.Request, argument: ctypes.Structure | ctypes.c_int) -> None:
        """Make one request; the answer is in ``argument``."""
        fcntl.ioctl(self._fd, request.number, argument)

    def capability(self) -> Capability:
        """Ask what the node is."""
        answer = v4l2.Capability()
        self.call(v4l2.QUERYCAP, answer)
        own = answer.device_caps if answer.capabilities & _HAS_NODE_CAPS else answer.capabilities
        captures = bool(own & _CAPTURE and own & _STREAMING)
        return Capability(answer.driver.decode(errors="replace"), answer.card.decode(errors="replace"), captures)

    def formats(self) -> list[str]:
        """Return the pixel formats on offer, as four characters each."""
        described = v4l2.FormatDescription(type=v4l2.VIDEO_CAPTURE)
        return [_text(described.pixelformat) for _ in self._each(v4l2.ENUM_FMT, described)]

    def modes(self, pixels: str) -> list[tuple[int, int, float]]:
        """Return (width, height, frames per second) of a pixel format; ranges, which few cameras have, are left out."""
        modes = []
        size = v4l2.FrameSize(pixelformat=_code(pixels))
        for _ in self._each(v4l2.ENUM_FRAMESIZES, size):
            if size.type != _DISCRETE:
                break
            interval = v4l2.FrameInterval(pixelformat=_code(pixels), width=size.width, height=size.height)
            for _ in self._each(v4l2.ENUM_FRAMEINTERVALS, interval):
                if interval.type != _DISCRETE:
                    break
                modes.append((size.width, size.height, interval.denominator / max(interval.numerator, 1)))
        return modes

    def _each(self, request: v4l2.Request, query: v4l2.Indexed) -> Iterator[None]:
        """Ask for one entry of a list after the other, until there is none."""
        for index in range(1024):
            query.index = index
            try:
                self.call(request, query)
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOTTY):
                    return
                raise
            yield

    def set_format(self, pixels: str, width: int, height: int) -> ImageFormat:
        """Ask for a format; return the nearest one, which the driver chose."""
        wanted = v4l2.Format(type=v4l2.VIDEO_CAPTURE)
        wanted.width, wanted.height, wanted.pixelformat, wanted.field = width, height, _code(pixels), _FIELD_NONE
        self.call(v4l2.S_FMT, wanted)
        return ImageFormat(_text(wanted.pixelformat), wanted.width, wanted.height, wanted.bytesperline)

    def set_rate(self, fps: float) -> float | None:
        """Ask for frames per second; return the nearest rate, ``None`` where the driver has no choice of rates."""
        wanted = v4l2.StreamParameters(type=v4l2.VIDEO_CAPTURE)
        wanted.numerator, wanted.denominator = 1000, round(1000 * fps)
        try:
            self.call(v4l2.S_PARM, wanted)
        except OSError as error:
            if error.errno == errno.ENOTTY:
                return None
            raise
        if not wanted.capability & _RATE_IS_SET or not wanted.numerator:
            return None
        return wanted.denominator / wanted.numerator

    def start(self) -> None:
        """Map buffers and let them fill."""
        request = v4l2.RequestBuffers(count=_BUFFERS, type=v4l2.VIDEO_CAPTURE, memory=v4l2.MMAP)
        self.call(v4l2.REQBUFS, request)
        for index in range(request.count):
            buffer = self._buffer(index)
            self.call(v4l2.QUERYBUF, buffer)
            self._maps.append(mmap.mmap(self._fd, buffer.length, offset=buffer.offset))
            self.call(v4l2.QBUF, buffer)
        self.call(v4l2.STREAMON, ctypes.c_int(v4l2.VIDEO_CAPTURE))

    def _buffer(self, index: int = 0) -> v4l2.Buffer:
        return v4l2.Buffer(index=index, type=v4l2.VIDEO_CAPTURE, memory=v4l2.MMAP)

    def picture(self, timeout: float) -> Picture | None:
        """Return the oldest picture that waits, ``None`` if none came within ``timeout`` seconds.

        Raises:
            OSError: the device is gone, or has stopped.
        """
        if not self._poll.poll(max(0.0, timeout) * 1000):
            return None
        buffer = self._buffer()
        try:
            self.call(v4l2.DQBUF, buffer)
        except BlockingIOError:
            return None
        stamped = buffer.flags & _CLOCK_MASK == _CLOCK_MONOTONIC
        picture = Picture(
            number=buffer.sequence,
            stamp_ns=buffer.seconds * 1_000_000_000 + buffer.microseconds * 1000 if stamped else None,
            broken=bool(buffer.flags & _BROKEN),
            data=self._maps[buffer.index][: buffer.bytesused],
        )
        self.call(v4l2.QBUF, buffer)
        return picture

    def controls(self) -> list[Control]:
        """Return the controls that hold a number, a switch or an entry of a menu, and that answer."""
        found: list[Control] = []
        query = v4l2.QueryControl(id=_NEXT)
        while True:
            try:
                self.call(v4l2.QUERYCTRL, query)
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOTTY):
                    return found
                raise
            if query.type in (_INTEGER, _BOOLEAN, _MENU, _NUMBER_MENU) and not query.flags & (_DISABLED | _WRITE_ONLY):
                kind = bool if query.type == _BOOLEAN else int if query.type == _INTEGER else self._labels(query)
                with contextlib.suppress(OSError):
                    found.append(Control(self, query.id, query.name.decode(errors="replace"), kind))
            query = v4l2.QueryControl(id=query.id | _NEXT)

    def _labels(self, control: v4l2.QueryControl) -> dict[str, int]:
        labels = {}
        for index in range(control.minimum, control.maximum + 1):
            entry = v4l2.QueryMenu(id=control.id, index=index)
            # Menus have holes: not every driver has every entry.
            with contextlib.suppress(OSError):
                self.call(v4l2.QUERYMENU, entry)
                number = int.from_bytes(bytes(entry.name)[:8], "little", signed=True)
                labels[entry.text if control.type == _MENU else str(number)] = index
        return labels

    def close(self) -> None:
        """Stop and let go of the node."""
        # A device that is gone has stopped already.
        with contextlib.suppress(OSError):
            self.call(v4l2.STREAMOFF, ctypes.c_int(v4l2.VIDEO_CAPTURE))
        for mapped in self._maps:
            mapped.close()
        self._maps.clear()
        os.close(self._fd)


def _code(pixels: str) -> int:
    return int.from_bytes(pixels.encode("ascii"), "little")


def _text(code: int) -> str:
    return (code & 0x7FFF_FFFF).to_bytes(4, "little").decode("ascii", errors="replace")
