"""A stand-in for the module ``uvc.uvc_bindings`` of pupil-labs-uvc 1.0.8, traps included, for tests without a camera.

What ends the process in the library raises ``AssertionError`` here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["FakeCamera", "FakeUvc"]

_FAR = 5000.0


class _CaptureError(Exception):
    pass


class _StreamError(_CaptureError):
    pass


class _InitError(_CaptureError):
    pass


class _OpenError(_InitError):
    pass


class _DeviceNotFoundError(_InitError):
    pass


class _InsufficientBandwidthError(_InitError):
    pass


class _Mode(NamedTuple):
    width: int
    height: int
    fps: int
    format_native: int = 7
    format_name: str = "MJPG"
    supported: bool = True


class _Control:
    def __init__(self, display_name: str, value: int, high: int = 500, d_type: Any = int) -> None:
        self.display_name = display_name
        self.d_type = d_type
        self._value, self._high = value, high
        self.order: Callable[[str], None] = lambda _name: None

    @property
    def value(self) -> int:
        return self._value

    @value.setter
    def value(self, value: int) -> None:
        self.order(self.display_name)
        if value <= self._high:
            self._value = value

    def refresh(self) -> None:
        """Nothing to do: the value is the camera's."""


class _Frame:
    def __init__(self, index: int, timestamp: float, data: bytes, size: tuple[int, int]) -> None:
        self.index, self.timestamp = index, timestamp
        self._data, self._size = data, size

    @property
    def jpeg_buffer(self) -> memoryview:
        return memoryview(self._data)

    @property
    def gray(self) -> NDArray[np.uint8]:
        return np.frombuffer(self._data, np.uint8).reshape(self._size[1], self._size[0])


class FakeCamera:
    """One camera, and what goes wrong with it: attributes that a test sets at any time."""

    def __init__(self, modes: Sequence[tuple[int, int, int]] = ((192, 192, 200), (64, 48, 30))) -> None:
        self.modes = [_Mode(*mode) for mode in modes] + [_Mode(64, 48, 100, 9, "Y8  ")]
        self.controls = [
            _Control("Auto Exposure Mode", 8, 8, {"manual mode": 1, "auto mode": 2}),
            _Control("Auto Exposure Priority", 1, 1, bool),
            _Control("Absolute Exposure Time", 63),
            _Control("Gain", 0, 100),
            _Control("Absolute Iris ", 5),
        ]
        self.log: list[str] = []
        """What was done to it, in order."""
        self.open_error: Exception | None = None
        self.start_error: Exception | None = None
        self.next: list[bytes | Exception] = []
        """What the next frames are instead of an image, or the error with which ``get_frame`` ends."""
        self.mute = self.gone = False
        self.skip = 0
        """So many frames reach the library and nobody else."""
        for control in self.controls:
            control.order = self.log.append


class _Capture:
    def __init__(self, camera: FakeCamera) -> None:
        if camera.open_error is not None:
            raise camera.open_error
        self._camera = camera
        self._mode: _Mode | None = None
        self._index = 0
        self._dead = self._closed = False
        self._start = 0.0
        self.bandwidth_factor = 2.0
        camera.log.append("open")

    @property
    def available_modes(self) -> list[_Mode]:
        return self._camera.modes

    @property
    def controls(self) -> list[_Control]:
        return self._camera.controls

    @property
    def frame_mode(self) -> _Mode | None:
        return self._mode

    @frame_mode.setter
    def frame_mode(self, mode: _Mode) -> None:
        self._mode = mode
        self._camera.log.append("mode")

    def get_frame(self, timeout: float = 0) -> _Frame:
        """Return the newest frame."""
        if self._closed:
            raise AssertionError("get_frame after close ends the process")
        if timeout < 1e-3:
            raise AssertionError("get_frame waits for ever")
        if self._mode is None:
            raise AssertionError("without a mode, the smallest is used")
        if self._dead:
            raise _InitError("Can't open stream control - error: 'Resource busy'.")
        if not self._index:
            self._begin()
        if self._camera.gone or self._camera.mute:
            # Cancelled transfers end each wait at once.
            time.sleep(0.0 if self._camera.gone else timeout)
            raise TimeoutError
        return self._take(self._mode, timeout)

    def _begin(self) -> None:
        if self._camera.start_error is not None:
            self._dead = True
            raise self._camera.start_error
        self._start = time.monotonic()

    def _take(self, mode: _Mode, timeout: float) -> _Frame:
        newest = int((time.monotonic() - self._start) * mode.fps) + 1
        index = max(self._index + 1 + self._camera.skip, newest)
        exposed = self._start + (index - 1) / mode.fps
        wait = exposed + 1e-3 - time.monotonic()
        time.sleep(min(max(wait, 0.0), timeout))
        if wait > timeout:
            raise TimeoutError
        self._index, self._camera.skip = index, 0
        data: bytes | Exception = self._camera.next.pop(0) if self._camera.next else self._image(mode, index)
        if isinstance(data, Exception):
            raise data
        return _Frame(index, 0.0 if index == 1 else _FAR + exposed, data, (mode.width, mode.height))

    def _image(self, mode: _Mode, index: int) -> bytes:
        image = np.full((mode.height, mode.width), index % 200, np.uint8)
        return cv2.imencode(".jpg", image)[1].tobytes() if mode.format_native == 7 else image.tobytes()

    def close(self) -> None:
        self._closed = True
        self._camera.log.append("close")


class FakeUvc:
    """The module: ``cameras`` by uid (``bus:address``)."""

    CaptureError = _CaptureError
    StreamError = _StreamError
    InitError = _InitError
    OpenError = _OpenError
    DeviceNotFoundError = _DeviceNotFoundError
    InsufficientBandwidthError = _InsufficientBandwidthError

    def __init__(self) -> None:
        self.cameras: dict[str, FakeCamera] = {}

    def Capture(self, uid: str) -> _Capture:  # noqa: N802 - the library's name
        """Open the camera ``uid``."""
        if uid not in self.cameras:
            raise _DeviceNotFoundError(f"Device with uid: `{uid}` not found")
        return _Capture(self.cameras[uid])
