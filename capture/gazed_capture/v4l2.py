"""The source ``v4l2``: a camera through the kernel's own driver, with the kernel's time stamps."""

from __future__ import annotations

import errno
import grp
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from gazed_bus.frame import Frame, PayloadFormat, StreamInfo
from gazed_capture.controls import apply_controls
from gazed_capture.errors import DeviceLost, DeviceRefused, NoBandwidth, SourceError, SourceNotFound
from gazed_capture.hole_counter import HoleCounter
from gazed_capture.jpeg import is_whole_jpeg
from gazed_capture.selection import pick
from gazed_capture.source import ClockQuality, Demand, DeviceInfo, SourceStats
from gazed_capture.usb import usb_parent
from gazed_capture.v4l2_node import ImageFormat, Node, Picture
from gazed_capture.v4l2_options import PIXELS, V4l2Options
from gazed_timesync import HostNs, host_now

__all__ = ["V4l2Source"]

_SYSFS = Path("/sys")
_PAYLOADS: dict[str, PayloadFormat] = {"mjpeg": "jpeg", "gray": "gray", "yuyv": "yuv"}
_RATE_TOLERANCE = 0.02
_STEP_NS = 1_000  # what float64 seconds and microseconds of video can tell apart
_COUNT_MASK = 0xFFFF_FFFF
_RIGHTS = "install config/udev/60-gazed.rules, join the group video (sudo usermod -aG video $USER), log in again"


@dataclass(frozen=True, slots=True)
class _Candidate:
    info: DeviceInfo
    node: Path


class V4l2Source:
    """A camera that the kernel drives.

    ``gazed_capture.v4l2_options`` lists the options. JPEGs are handed on as the camera made them, ``gray`` likewise;
    ``yuyv`` is sorted into planes and leaves as ``yuv`` 4:2:2. What the driver calls damaged, what has not the size of
    its format, and a JPEG that is cut off is left out; it counts as ``corrupt`` and as ``missed``.

    ``device_time`` is the kernel's stamp: CLOCK_MONOTONIC at the first packet of the image, as most drivers have it.
    The capture time is the same, but never later than the arrival (some drivers stamp ahead). Lost frames are known
    from the driver's count, and from holes between the stamps up to seven frames later; see ``HoleCounter``.

    What it asks of a USB controller is settled between kernel and camera when the stream starts, and not known before.

    Args:
        stream: name of the stream.
        options: its configuration table.
        open_node: stands in for the kernel.
        sysfs: stands in for ``/sys``.

    Raises:
        SourceOptionError: as ``Source``.
    """

    delivers: ClassVar[Literal["images", "sound"]] = "images"

    def __init__(
        self,
        stream: str,
        options: Mapping[str, Any],
        *,
        open_node: Callable[[Path], Node] = Node,
        sysfs: Path = _SYSFS,
    ) -> None:
        self._stream = stream
        self._options = V4l2Options.read(stream, options)
        self._open_node = open_node
        self._sysfs = sysfs
        self._node: Node | None = None
        self._what = stream
        self._reset(0.0)

    def _reset(self, fps: float) -> None:
        self._format = ImageFormat("", 0, 0, 0)
        self._counter = HoleCounter(1 / (fps or self._options.fps))
        self._number: int | None = None
        self._index = self._captured = 0
        self._delivered = self._corrupt = 0
        self._stamped = True

    def find(self) -> Demand:
        """Tell which camera ``open`` would take; its node is asked what it is, and not started.

        Raises:
            SourceNotFound: no camera fits.
            DeviceAmbiguous: more than one does.
        """
        return Demand(self._locate().info)

    def _locate(self) -> _Candidate:
        candidates = _candidates(self._sysfs, self._open_node)
        if self._options.node is not None:
            wanted = self._options.node.resolve()
            candidates, there = [one for one in candidates if one.node == wanted], candidates
            if not candidates:
                nodes = ", ".join(f"{one.node} ({one.info.name})" for one in there) or "none"
                raise SourceNotFound(
                    f"{self._stream}: {self._options.node} is no camera; there are {nodes}",
                    hint="`gazed devices` shows what is there",
                )
        info = pick(self._options.wanted, [one.info for one in candidates])
        return next(one for one in candidates if one.info is info)

    def open(self) -> StreamInfo:
        """Start the camera with its mode and controls.

        Raises:
            SourceNotFound, DeviceAmbiguous: as ``find``.
            DeviceRefused: no right to write its node, or another program has it.
            NoBandwidth: the USB controller has no room left for it.
            SourceError: it has no such mode.
        """
        self.close()
        chosen = self._locate()
        self._what = f"{self._stream}: {chosen.info.name} ({chosen.node})"
        try:
            node = self._node = self._open_node(chosen.node)
            self._format = self._set_format(node)
            fps = self._set_rate(node)
            controls = apply_controls(self._stream, node.controls(), self._options.controls)
            node.start()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise _refusal(self._what, chosen.node, error) from error
            raise
        chosen_format = self._format
        self._reset(fps)
        self._format = chosen_format
        return StreamInfo(
            stream=self._stream,
            source="v4l2",
            device=chosen.info.name,
            serial=chosen.info.serial or chosen.info.path,
            width=self._options.width,
            height=self._options.height,
            fps=fps,
            format=_PAYLOADS[self._options.format],
            clock="kernel",
            controls=controls,
        )

    def _set_format(self, node: Node) -> ImageFormat:
        options, offered = self._options, node.formats()
        for pixels in PIXELS[options.format]:
            if pixels in offered:
                got = node.set_format(pixels, options.width, options.height)
                if (got.pixels, got.width, got.height) == (pixels, options.width, options.height):
                    return got
        raise self._no_mode(node)

    def _set_rate(self, node: Node) -> float:
        fps = node.set_rate(self._options.fps)
        if fps is not None and abs(fps / self._options.fps - 1) > _RATE_TOLERANCE:
            raise self._no_mode(node)
        return fps or self._options.fps

    def _no_mode(self, node: Node) -> SourceError:
        options = self._options
        there = "; ".join(
            f"{name}: {', '.join(f'{width}x{height}@{fps:g}' for width, height, fps in node.modes(pixels)) or 'any'}"
            for name, all_pixels in PIXELS.items()
            for pixels in all_pixels
            if pixels in node.formats()
        )
        return SourceError(
            f"{self._what} has no mode {options.width}x{options.height}@{options.fps:g} {options.format}; "
            f"its modes are {there or 'of formats that are not supported'}",
            hint="set width, height, fps and format of this stream",
        )

    def read(self, timeout: float) -> Frame | None:
        """Return the next image, or ``None`` after ``timeout`` seconds.

        Raises:
            DeviceLost: the camera was unplugged, or its driver has stopped.
            SourceError: the source is not open.
        """
        if self._node is None:
            raise SourceError(f"{self._stream}: the camera is not open", hint="call open() first")
        deadline = host_now() + round(timeout * 1e9)
        while True:
            left = deadline - host_now()
            try:
                picture = self._node.picture(left / 1e9)
            except OSError as error:
                raise DeviceLost(f"{self._what} is gone: {error.strerror}", hint="plug it in again") from error
            frame = self._frame(picture) if picture else None
            if frame is not None or left <= 0:
                return frame

    def _frame(self, picture: Picture) -> Frame | None:
        host = host_now()
        # The count has 32 bits, and drivers that do not count leave it at 0.
        made = (picture.number - self._number) & _COUNT_MASK if self._number is not None else 0
        if self._number is not None:
            self._index += made if 0 < made <= _COUNT_MASK >> 1 else 1
        self._number = picture.number
        payload = self._payload(picture)
        if payload is None:
            self._corrupt += 1
            return None
        stamp = picture.stamp_ns
        self._stamped = stamp is not None
        seconds = stamp / 1e9 if stamp is not None else None
        sequence = self._counter.count(self._index, seconds)
        captured = max(min(stamp if stamp is not None else host, host), self._captured + _STEP_NS)
        self._captured = captured
        self._delivered += 1
        return Frame(
            stream=self._stream,
            sequence=sequence,
            host_ns=HostNs(max(host, captured)),
            captured_ns=HostNs(captured),
            device_time=seconds,
            width=self._options.width,
            height=self._options.height,
            format=_PAYLOADS[self._options.format],
            payload=payload,
        )

    def _payload(self, picture: Picture) -> bytes | None:
        """Return the image as it is handed on; ``None`` if it is damaged."""
        width, height, data = self._options.width, self._options.height, picture.data
        if picture.broken:
            return None
        if self._options.format == "mjpeg":
            return data if is_whole_jpeg(data, width, height) else None
        line = width * (2 if self._options.format == "yuyv" else 1)
        stride = max(self._format.stride, line)
        if len(data) < stride * (height - 1) + line:
            return None
        # The last line need not be padded.
        lines = np.lib.stride_tricks.as_strided(np.frombuffer(data, np.uint8), (height, line), (stride, 1))
        if self._options.format == "gray":
            return data if len(data) == line * height else lines.tobytes()
        return b"".join(lines[:, first::step].tobytes() for first, step in ((0, 2), (1, 4), (3, 4)))

    def stats(self) -> SourceStats:
        """Return the counts since the last ``open``."""
        quality = ClockQuality("kernel" if self._stamped else "arrival")
        return SourceStats(self._delivered, self._counter.missed, self._corrupt, quality)

    def close(self) -> None:
        """Stop the camera and let go of its node."""
        node, self._node = self._node, None
        if node is not None:
            node.close()

    @classmethod
    def devices(cls, sysfs: Path = _SYSFS, open_node: Callable[[Path], Node] = Node) -> list[DeviceInfo]:
        """List the cameras that the kernel drives."""
        return [candidate.info for candidate in _candidates(sysfs, open_node)]


def _candidates(sysfs: Path, open_node: Callable[[Path], Node]) -> list[_Candidate]:
    folder = sysfs / "class/video4linux"
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    nodes = sorted((name for name in names if name[5:].isdigit()), key=lambda name: int(name[5:]))
    found = (_candidate(sysfs, folder / name, open_node) for name in nodes)
    return [candidate for candidate in found if candidate is not None]


def _candidate(sysfs: Path, entry: Path, open_node: Callable[[Path], Node]) -> _Candidate | None:
    """Look at one node; ``None`` for one that delivers no images, or is just leaving."""
    node = Path("/dev", entry.name)
    try:
        name = (entry / "name").read_text("utf-8", errors="replace").strip()
        first = (entry / "index").read_text().strip() == "0"
        usb = usb_parent(entry / "device", sysfs / "bus/usb/devices")
    except OSError:
        return None
    modes: tuple[tuple[int, int, float], ...] = ()
    problem = ""
    try:
        opened = open_node(node)
        try:
            if not opened.capability().captures:
                return None
            known = [pixels for pixels in opened.formats() if any(pixels in names for names in PIXELS.values())]
            modes = tuple(dict.fromkeys(mode for pixels in known for mode in opened.modes(pixels)))
        finally:
            opened.close()
    except PermissionError:
        problem = f"this user may not read and write {node}{_owner(node)}: {_RIGHTS}"
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            return None
        problem = f"{node}: {error.strerror}"
    # What cannot be asked is taken for what its driver lists first; the others carry metadata.
    if problem and not first:
        return None
    info = DeviceInfo(
        source="v4l2",
        name=usb.name if usb and usb.name else name,
        serial=usb.serial if usb else "",
        modes=modes,
        problem=problem,
        path=usb.path if usb else str(node),
        controller=usb.controller if usb else "",
    )
    return _Candidate(info, node)


def _owner(node: Path) -> str:
    try:
        status = node.stat()
    except OSError:
        return ""
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    return f" (mode {status.st_mode & 0o777:04o}, group {group})"


def _refusal(what: str, node: Path, error: OSError) -> SourceError:
    """Return what a refusal of the kernel means."""
    if isinstance(error, PermissionError):
        return DeviceRefused(f"{what}: this user may not read and write {node}{_owner(node)}", hint=_RIGHTS)
    if error.errno == errno.EBUSY:
        return DeviceRefused(f"{what}: another program has it", hint=f"find it with: fuser -v {node}")
    if error.errno == errno.ENOSPC:
        return NoBandwidth(
            f"{what}: its USB controller has no room left for this mode",
            hint="lower width, height or fps, or plug it into another controller",
        )
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return SourceNotFound(f"{what} left while it was opened", hint="plug it in again")
    return SourceError(f"{what} does not start: {os.strerror(error.errno or 0)}", hint="plug it in again")
