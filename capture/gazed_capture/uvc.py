"""The source ``uvc``: a USB camera through ``pupil-labs-uvc`` (libuvc), with the camera's own time stamps.

What the library does not do well is done here: cameras are found by sysfs, since its list opens them all and dies of
one without a product string; loss is told by sysfs, since it reports timeouts only; its stamps, which it corrects
backwards and in steps, go through ``DeviceClock``. What it does to the process in spite of that stays in the process.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from gazed_bus.frame import Frame, StreamInfo
from gazed_capture.controls import apply_controls
from gazed_capture.errors import (
    DeviceLost,
    DeviceRefused,
    NoBandwidth,
    SourceError,
    SourceNotFound,
    SourceOptionError,
)
from gazed_capture.frame_counter import FrameCounter
from gazed_capture.jpeg import is_whole_jpeg
from gazed_capture.selection import pick
from gazed_capture.source import ClockQuality, Demand, DeviceInfo, SourceStats
from gazed_capture.usb import SYSFS_USB, UsbDevice, usb_devices
from gazed_capture.uvc_descriptors import CameraFormat, Streaming, read_streaming
from gazed_capture.uvc_options import UvcOptions
from gazed_timesync import HostNs, host_now
from gazed_timesync.devices.device_clock import DeviceClock

__all__ = ["UvcSource"]

_LIBRARY = "uvc.uvc_bindings"
_NATIVE: dict[CameraFormat, int] = {"mjpeg": 7, "gray": 9}
# The library waits in whole milliseconds, and for ever if asked for 0.
_SHORTEST_S = 1e-3
_FIRST_FRAMES = 3
_FIRST_FRAMES_S = 2.0
_FIRST_WAIT_S = 0.1
# Of abandoned captures, each with a thread, 3 descriptors and some MB.
_MOST_ABANDONED = 32
_RIGHTS = "install config/udev/60-gazed.rules, join the group plugdev (sudo usermod -aG plugdev $USER), log in again"
_log = logging.getLogger(__name__)


class UvcSource:
    """A USB camera of the video class.

    ``gazed_capture.uvc_options`` lists the options. Images are handed on as the camera made them. JPEGs are not
    decoded; one that is cut off is left out and counts as ``corrupt`` and as ``missed``. ``device_time`` is the
    library's stamp.

    Args:
        stream: name of the stream.
        options: its configuration table.
        library: stands in for the module ``uvc.uvc_bindings``.
        sysfs: stands in for ``/sys/bus/usb/devices``.

    Raises:
        SourceOptionError: as ``Source``; or the library is not installed.
    """

    delivers: ClassVar[Literal["images", "sound"]] = "images"

    def __init__(
        self, stream: str, options: Mapping[str, Any], *, library: Any = None, sysfs: Path = SYSFS_USB
    ) -> None:
        self._stream = stream
        self._options = UvcOptions.read(stream, options)
        if library is None and importlib.util.find_spec("uvc") is None:
            raise SourceOptionError(
                f"{stream}: source 'uvc' needs the package 'pupil-labs-uvc'",
                hint="install it with: pip install 'gazed[uvc]'",
            )
        self._library = library
        self._sysfs = sysfs
        self._capture: Any = None
        self._abandoned = 0
        self._device: UsbDevice | None = None
        self._clock = DeviceClock(1 / self._options.fps, latency_s=self._options.latency_s)
        self._clock_of: tuple[str, str, float] | None = None
        self._counter = FrameCounter(1 / self._options.fps)
        self._delivered = self._corrupt = self._missed_before = 0

    def find(self) -> Demand:
        """Tell which camera ``open`` would take, and what it would reserve.

        Raises:
            SourceNotFound: no camera fits.
            DeviceAmbiguous: more than one does.
        """
        device, info = self._locate()
        reserves = self._reserves(read_streaming(device.descriptors)) if device.room else 0
        return Demand(info, reserves, device.room)

    def _locate(self) -> tuple[UsbDevice, DeviceInfo]:
        cameras = _cameras(self._sysfs)
        info = pick(self._options.wanted, [info for _, info in cameras])
        return next(camera for camera in cameras if camera[1] is info)

    def _reserves(self, streaming: Streaming) -> int:
        """Return the bytes of each microframe that libuvc reserves: the first alternate setting with enough of them."""
        options = self._options
        if streaming.is_bulk:
            return 0
        if options.format == "gray":
            needed = options.width * options.height * options.fps / 8000 + 12
        elif options.bandwidth_factor:
            # libuvc, uvc_stream_start: pixels / 8 x factor, at one frame a second more, and a payload header.
            needed = options.width * options.height / 8 * options.bandwidth_factor * (options.fps + 1) / 8000 + 12
        else:
            return max(streaming.packets, default=0)
        return next((size for size in streaming.packets if size >= needed), math.ceil(needed))

    def open(self) -> StreamInfo:
        """Start the camera with its mode and controls, and take its first frames, whose stamps are of no use.

        Raises:
            SourceNotFound, DeviceAmbiguous: as ``find``.
            DeviceRefused: no right to write its node, or another program has it.
            NoBandwidth: the USB controller has no room left for it.
            SourceError: it has no such mode, or the library cannot drive it.
        """
        self.close()
        device, info = self._locate()
        streaming = read_streaming(device.descriptors)
        self._refuse_deadly(device, streaming)
        uvc = self._library or importlib.import_module(_LIBRARY)
        self._device = device
        self._delivered = self._corrupt = self._missed_before = 0
        self._capture = self._connect(uvc, device)
        try:
            fps, period = self._set_mode(streaming)
            controls = apply_controls(self._stream, self._capture.controls, self._options.controls)
            self._renew_clock(device, period)
            self._take_first_frames(uvc, device, self._reserves(streaming))
        except BaseException:
            # After a refusal of bandwidth, a capture never works again.
            self.close()
            raise
        return StreamInfo(
            stream=self._stream,
            source="uvc",
            device=info.name,
            serial=device.serial or device.path,
            width=self._options.width,
            height=self._options.height,
            fps=fps,
            format="jpeg" if self._options.format == "mjpeg" else "gray",
            clock=self._clock.kind,
            controls=controls,
        )

    def _refuse_deadly(self, device: UsbDevice, streaming: Streaming) -> None:
        if problem := _deadly(device, streaming):
            raise SourceError(
                f"{self._stream}: {_named(device)}: {problem}", hint="the kernel may drive it: source = 'v4l2'"
            )

    def _connect(self, uvc: Any, device: UsbDevice) -> Any:
        what = f"{self._stream}: {_named(device)}"
        try:
            return uvc.Capture(f"{device.bus}:{device.address}")
        except uvc.DeviceNotFoundError as error:
            raise SourceNotFound(f"{what} left while it was opened", hint="plug it in again") from error
        except uvc.OpenError as error:
            text = str(error)
            if "Access denied" in text:
                raise DeviceRefused(f"{what}: this user may not write {device.node}", hint=_RIGHTS) from error
            if "busy" in text:
                raise DeviceRefused(
                    f"{what}: another program has it", hint=f"find it with: fuser -v {device.node}"
                ) from error
            raise SourceError(f"{what} cannot be opened: {text}") from error
        except (uvc.CaptureError, KeyError) as error:
            # KeyError: libuvc's users take a processing unit for granted.
            raise SourceError(f"{what} cannot be driven: {error}", hint="source = 'v4l2' may do") from error

    def _set_mode(self, streaming: Streaming) -> tuple[float, float]:
        """Set the mode; return frames per second and the period in seconds."""
        options, capture = self._options, self._capture
        capture.bandwidth_factor = options.bandwidth_factor
        offered = [mode for mode in capture.available_modes if mode.format_native == _NATIVE[options.format]]
        # The library rounds rates down: 29 stands for 29.97, and for an interval of 33.3334 ms.
        fitting = [
            mode
            for mode in offered
            if (mode.width, mode.height) == (options.width, options.height) and abs(mode.fps - options.fps) <= 1
        ]
        if not fitting:
            asked = f"{options.width}x{options.height}@{options.fps:g} {options.format}"
            there = ", ".join(f"{mode.width}x{mode.height}@{mode.fps}" for mode in offered) or "none"
            raise SourceError(
                f"{self._stream}: the camera has no mode {asked}; its modes of that format are {there}",
                hint="set width, height, fps and format of this stream",
            )
        chosen = min(fitting, key=lambda mode: abs(mode.fps - options.fps))
        capture.frame_mode = chosen
        exact = [
            mode.period_s
            for mode in streaming.modes
            if (mode.format, mode.width, mode.height) == (options.format, options.width, options.height)
            and int(1 / mode.period_s + 1e-6) == chosen.fps
        ]
        period = exact[0] if exact else 1 / chosen.fps
        return round(1 / period, 2), period

    def _renew_clock(self, device: UsbDevice, period: float) -> None:
        """Begin a new count and a new stretch of stamps; the drift of a camera that came back is known already."""
        self._counter = FrameCounter(period)
        clock_of = (device.path, device.serial, period)
        if clock_of == self._clock_of:
            self._clock.reset()
        else:
            self._clock = DeviceClock(period, latency_s=self._options.latency_s)
            self._clock_of = clock_of

    def _take_first_frames(self, uvc: Any, device: UsbDevice, reserves: int) -> None:
        """Start the stream and leave out the first frames: the first has no stamp, and some are needed to judge it.

        A camera that sends none is no error; it may yet.
        """
        deadline = time.monotonic() + _FIRST_FRAMES_S
        taken = 0
        while taken < _FIRST_FRAMES and time.monotonic() < deadline:
            try:
                frame = self._capture.get_frame(_FIRST_WAIT_S)
            except TimeoutError:
                self._check_present(device)
            except uvc.StreamError as error:
                _log.debug("%s: %s", self._stream, error)
            except uvc.InsufficientBandwidthError as error:
                raise NoBandwidth(
                    f"{self._stream}: {device.controller} has no room left for the {reserves} bytes of each microframe"
                    f" that {_named(device)} asks for",
                    hint="lower width, height, fps or bandwidth_factor, or plug it into another controller",
                ) from error
            except uvc.CaptureError as error:
                raise SourceError(f"{self._stream}: {_named(device)} does not start: {error}") from error
            else:
                if not _is_first(frame):
                    self._place(frame, host_now())
                taken += 1

    def read(self, timeout: float) -> Frame | None:
        """Return the next image, or ``None`` after ``timeout`` seconds.

        Raises:
            DeviceLost: the camera was unplugged.
            SourceError: the source is not open, or the library gave up.
        """
        if self._capture is None or self._device is None:
            raise SourceError(f"{self._stream}: the camera is not open", hint="call open() first")
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            frame = self._next(self._device, max(left, _SHORTEST_S))
            if frame is not None or left <= 0:
                return frame

    def _next(self, device: UsbDevice, timeout: float) -> Frame | None:
        """Return what the library has, if it is an image."""
        try:
            image = self._capture.get_frame(timeout)
        except TimeoutError:
            self._check_present(device)
            return None
        except Exception as error:
            if "JPEG" in str(error):
                self._corrupt += 1
                return None
            self._check_present(device)
            raise SourceError(f"{self._stream}: {_named(device)} does not deliver: {error}") from error
        host = host_now()
        if _is_first(image):
            return None
        payload = bytes(image.jpeg_buffer) if self._options.format == "mjpeg" else image.gray.tobytes()
        if not self._is_whole(payload):
            self._corrupt += 1
            return None
        sequence, stamp, captured = self._place(image, host)
        if not self._delivered:
            # What was made before the first frame that anybody asked for is not missed.
            self._missed_before = self._counter.missed
        self._delivered += 1
        return Frame(
            stream=self._stream,
            sequence=sequence,
            host_ns=host,
            captured_ns=captured,
            device_time=stamp,
            width=self._options.width,
            height=self._options.height,
            format="jpeg" if self._options.format == "mjpeg" else "gray",
            payload=payload,
        )

    def _place(self, image: Any, host: HostNs) -> tuple[int, float | None, HostNs]:
        """Return an image's sequence number, its stamp, and when it was captured."""
        stamp = float(image.timestamp)
        known = stamp if math.isfinite(stamp) and stamp > 0 else None
        sequence = self._counter.count(image.index, known, host)
        return sequence, known, self._clock.map(known, host, sequence)

    def _is_whole(self, payload: bytes) -> bool:
        width, height = self._options.width, self._options.height
        if self._options.format == "gray":
            return len(payload) == width * height
        return is_whole_jpeg(payload, width, height)

    def _check_present(self, device: UsbDevice) -> None:
        if self._is_gone(device):
            raise DeviceLost(f"{self._stream}: {_named(device)} was unplugged", hint="plug it in again")

    def _is_gone(self, device: UsbDevice) -> bool:
        """Tell whether the camera is not where it was, or came back there under another address."""
        try:
            address = (self._sysfs / device.path / "devnum").read_text().strip()
        except OSError:
            return True
        return address != str(device.address)

    def stats(self) -> SourceStats:
        """Return the counts since the last ``open``."""
        quality = ClockQuality(self._clock.kind, self._clock.error_s)
        missed = self._counter.missed - self._missed_before if self._delivered else 0
        return SourceStats(self._delivered, missed, self._corrupt, quality)

    def close(self) -> None:
        """Give the camera back.

        One that is gone is abandoned: the library may wait for ever for its last transfers, and holds the interpreter
        while it waits. Should that happen after very many losses, the heartbeat stops, and a new process begins clean.
        """
        # Forgotten first: a frame asked of a closed capture is the end of the process.
        capture, self._capture = self._capture, None
        if capture is None or self._device is None:
            return
        if self._is_gone(self._device) and self._abandoned < _MOST_ABANDONED:
            self._abandoned += 1
            # Kept from being closed by its own end, too.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(capture))
            return
        capture.close()

    @classmethod
    def devices(cls, sysfs: Path = SYSFS_USB) -> list[DeviceInfo]:
        """List the cameras that are plugged in, by ``sysfs``; works without the library."""
        return [info for _, info in _cameras(sysfs)]


def _is_first(image: Any) -> bool:
    """Tell whether an image is the first of a stream, to which the library gives no stamp."""
    return bool(image.index == 1)


def _cameras(sysfs: Path) -> list[tuple[UsbDevice, DeviceInfo]]:
    return [(device, _info(device)) for device in usb_devices(sysfs) if device.is_camera]


def _info(device: UsbDevice) -> DeviceInfo:
    streaming = read_streaming(device.descriptors)
    problem = _deadly(device, streaming)
    if not problem and os.access(device.node, os.F_OK) and not os.access(device.node, os.R_OK | os.W_OK):
        problem = f"this user may not write {device.node}: {_RIGHTS}"
    return DeviceInfo(
        source="uvc",
        name=device.name or f"camera {device.vendor:04x}:{device.product:04x}",
        serial=device.serial,
        modes=tuple(dict.fromkeys((mode.width, mode.height, mode.fps) for mode in streaming.modes)),
        problem=problem,
        path=device.path,
        controller=device.controller,
    )


def _deadly(device: UsbDevice, streaming: Streaming) -> str:
    """Return what about a camera makes the library crash; empty if nothing."""
    if not device.name:
        return "it has no product string, which the camera library cannot bear"
    if streaming.is_bulk:
        return "it sends images by bulk transfers, which the camera library cannot bear"
    return ""


def _named(device: UsbDevice) -> str:
    return f"{device.name or 'a camera without a name'} (USB {device.path}, serial {device.serial or 'none'})"
