"""A UVC camera as a plain object: control requests, exposures, MJPEG and gray payloads.

No I/O: a transport (``engine.py``) asks it what a control request returns and what it sends in a microframe. Time is
CLOCK_MONOTONIC in seconds. Requests and payload headers: USB Video Class 1.1, 4 and 2.4.3.3.
"""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from usbcam import descriptors
from usbcam.descriptors import CT, PU, UNITS_OF_100NS, Format
from usbcam.pictures import counter_gray, counter_jpeg

__all__ = ["EYE", "GET_CUR", "MICROFRAME", "SET_CUR", "Camera", "Faults", "Knob"]

SET_CUR = 0x01
GET_CUR, GET_MIN, GET_MAX, GET_RES, GET_LEN, GET_INFO, GET_DEF = 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87
MICROFRAME = 125e-6
EYE = ((192, 192, (200, 120, 30)), (400, 400, (120, 60, 30)))
"""Modes of an eye camera, fast and small."""

_END_OF_HEADER, _SCR, _PTS, _END_OF_FRAME = 0x80, 0x08, 0x04, 0x02
_GET_DESCRIPTOR, _GET_CONFIGURATION, _GET_INTERFACE, SET_INTERFACE = 6, 8, 10, 11


@dataclass
class Knob:
    """One control: its size in bytes and its values; ``info`` 3 means readable and writable."""

    size: int
    low: int
    high: int
    default: int
    info: int = 3
    value: int = field(init=False)

    def __post_init__(self) -> None:
        self.value = self.default

    def get(self, request: int) -> bytes | None:
        """Answer a GET request; ``None`` is a stall."""
        if request == GET_LEN:
            return struct.pack("<H", self.size)
        if request == GET_INFO:
            return bytes([self.info])
        known = {GET_CUR: self.value, GET_MIN: self.low, GET_MAX: self.high, GET_RES: 1, GET_DEF: self.default}
        number = known.get(request)
        return None if number is None else number.to_bytes(self.size, "little", signed=self.low < 0)

    def set(self, data: bytes) -> bytes | None:
        """Take a new value; ``None`` (a stall) if it is refused."""
        value = int.from_bytes(data[: self.size], "little", signed=self.low < 0)
        if len(data) != self.size or not self.low <= value <= self.high or not self.info & 2:
            return None
        self.value = value
        return b""


def _knobs() -> dict[tuple[int, int], Knob]:
    return {
        (CT, 2): Knob(1, 1, 8, 8),  # auto exposure mode (bitmap)
        (CT, 3): Knob(1, 0, 1, 0),  # auto exposure priority
        (CT, 4): Knob(4, 1, 5000, 63),  # absolute exposure time, in units of 100 us
        (PU, 1): Knob(2, 0, 15, 8),  # backlight compensation
        (PU, 2): Knob(2, -64, 64, 0),  # brightness
        (PU, 3): Knob(2, 0, 64, 32),  # contrast
        (PU, 4): Knob(2, 0, 100, 0),  # gain
        (PU, 5): Knob(1, 0, 2, 1),  # power line frequency
        (PU, 9): Knob(2, 72, 500, 100),  # gamma
    }


def _never(_: int) -> bool:
    return False


@dataclass
class Faults:
    """What goes wrong with a camera; a test may change any of it at any time. Functions take the frame's number."""

    mute: bool = False
    """Answers, but sends no image."""
    skip: Callable[[int], bool] = _never
    """Frames that are exposed and never sent."""
    truncate: Callable[[int], bool] = _never
    """Frames of which the second half of the JPEG is missing."""
    garbage: Callable[[int], bool] = _never
    """Frames that are no JPEG at all."""
    polled_s: float = 0.0
    """How often the host looks for transfers that have ended, on a busy machine; 0: it is told at once."""
    drop_packet: float = 0.0
    """Probability that an isochronous packet is lost."""
    pts: bool = True
    scr: bool = True
    """Whether payload headers carry the device's time stamps."""
    early: Callable[[int], float] = lambda _: 0.0
    """By how many seconds a frame's PTS is too early."""
    strings: bool = True
    """Whether string descriptors can be read."""
    stall: set[tuple[int, int]] = field(default_factory=set)
    """(request, selector) that are refused."""


class Camera:
    """One emulated camera.

    ``truth[n]`` is the time in ns of CLOCK_MONOTONIC at which frame ``n`` was exposed, ``unsent`` the frames that were
    never sent whole, because of a fault or because the host did not poll. Numbers go on over restarts and replugs.
    ``clock_ppm`` is how much faster than the host's the device's clock runs. An empty ``name`` or ``serial`` is a
    camera without that string. ``lock`` guards all of it where several hosts talk to the camera.
    """

    def __init__(
        self,
        name: str = "Pupil Cam2 ID0",
        serial: str = "EMU0001",
        *,
        manufacturer: str = "emulated",
        vendor: int = 0x1209,
        product: int = 0x0001,
        modes: Sequence[tuple[int, int, Sequence[int]]] = EYE,
        gray_modes: Sequence[tuple[int, int, Sequence[int]]] = (),
        clock_hz: int = 15_000_000,
        clock_ppm: float = 0.0,
        bulk: bool = False,
    ) -> None:
        self.name, self.serial, self.manufacturer = name, serial, manufacturer
        self.vendor, self.product, self.is_bulk = vendor, product, bulk
        self.clock_hz, self.clock_ppm = clock_hz, clock_ppm
        offered: list[Format] = [("MJPG", tuple(modes)), ("Y8  ", tuple(gray_modes))]
        self.formats = [entry for entry in offered if entry[1]]
        self.knobs = _knobs()
        self.faults = Faults()
        self.truth: dict[int, int] = {}
        self.unsent: set[int] = set()
        self.alts: dict[int, int] = {}
        self.lock = threading.RLock()
        self._makers: dict[tuple[int, int], Callable[[int], bytes]] = {}
        self._number = -1
        self._probe = self._negotiate(b"")
        self._commit()

    @property
    def reserved(self) -> int:
        """Bytes of each microframe that the camera holds now."""
        return 0 if self.is_bulk else descriptors.bytes_a_microframe(self.alts.get(1, 0))

    def device_descriptor(self) -> bytes:
        """Return the device descriptor."""
        return descriptors.device(self.vendor, self.product, (self.manufacturer, self.name, self.serial))

    def configuration_descriptor(self) -> bytes:
        """Return the configuration descriptor with its interfaces."""
        return descriptors.configuration(self.formats, self.knobs, self.clock_hz, self.is_bulk)

    def control(self, kind: int, request: int, value: int, index: int, data: bytes) -> bytes | None:
        """Answer a control request (bmRequestType, bRequest, wValue, wIndex); ``None`` is a stall."""
        if kind & 0x60 == 0:
            return self._standard(kind, request, value, index)
        if kind & 0x60 == 0x40:  # vendor requests are between host and server
            return b""
        if (request, value >> 8) in self.faults.stall:
            return None
        if index & 0xFF == 1:
            return self._stream_control(request, value >> 8, data)
        knob = self.knobs.get((index >> 8, value >> 8))
        if knob is None:
            return None
        return knob.set(data) if request == SET_CUR else knob.get(request)

    def _standard(self, kind: int, request: int, value: int, index: int) -> bytes | None:
        if (kind, request) == (0x80, _GET_DESCRIPTOR):
            which = value >> 8
            if which == 3:
                return self._string(value & 0xFF)
            return {1: self.device_descriptor, 2: self.configuration_descriptor}.get(which, lambda: None)()
        if request == SET_INTERFACE:
            self.set_interface(index, value)
        if (kind, request) == (0x81, _GET_INTERFACE):
            return bytes([self.alts.get(index, 0)])
        return {(0x80, 0): b"\0\0", (0x80, _GET_CONFIGURATION): b"\1"}.get(
            (kind, request), None if kind & 0x80 else b""
        )

    def _string(self, index: int) -> bytes | None:
        if not self.faults.strings:
            return None
        if index == 0:
            return b"\x04\x03\x09\x04"
        text = {1: self.manufacturer, 2: self.name, 3: self.serial}.get(index, "")
        return descriptors.string(text) if text else None

    # ---- what is streamed: UVC 1.1, 4.3.1.1

    def _stream_control(self, request: int, selector: int, data: bytes) -> bytes:
        if request == SET_CUR:
            self._probe = self._negotiate(data)
            if selector == 2:
                self._commit()
            return b""
        return {GET_LEN: struct.pack("<H", 26), GET_INFO: b"\3"}.get(request, self._probe)

    def _negotiate(self, data: bytes) -> bytes:
        data = data.ljust(26, b"\0")
        form = min(max(data[2], 1), len(self.formats))
        modes = self.formats[form - 1][1]
        frame = min(max(data[3], 1), len(modes))
        width, height, rates = modes[frame - 1]
        wanted = struct.unpack_from("<I", data, 4)[0] or UNITS_OF_100NS // rates[0]
        interval = min((UNITS_OF_100NS // rate for rate in rates), key=lambda offered: abs(offered - wanted))
        payload = descriptors.BULK_PAYLOAD if self.is_bulk else 3060
        return struct.pack("<HBBIHHHHHII", 1, form, frame, interval, 0, 0, 0, 0, 32, width * height * 2, payload)

    def _commit(self) -> None:
        self._form, self._frame, self._interval = self._probe[2], self._probe[3], self._probe[4:8]
        self._restart()

    def set_interface(self, number: int, alt: int) -> None:
        """Choose an altsetting; of the streaming interface, 0 stops the stream."""
        self.alts[number] = alt
        if number == 1:
            self._restart()

    def _restart(self) -> None:
        self._period = int.from_bytes(self._interval, "little") * 1e-7
        self._started: float | None = None
        self._image, self._sent, self._toggle = b"", 0, 0
        self._first = self._number + 1

    def _make(self, number: int) -> bytes:
        key = self._form, self._frame
        if key not in self._makers:
            fourcc, modes = self.formats[self._form - 1]
            width, height, _ = modes[self._frame - 1]
            self._makers[key] = (counter_jpeg if fourcc == "MJPG" else counter_gray)(width, height)
        image = self._makers[key](number)
        if self.faults.garbage(number):
            return bytes(len(image))
        return image[: len(image) // 2] if self.faults.truncate(number) else image

    def _expose(self, now: float) -> bool:
        """Start the next frame if its time has come; tell whether a frame is being sent."""
        if self._started is None:
            self._started = now
        if self._image:
            return True
        latest = self._first + int((now - self._started) / self._period + 1e-6)
        if latest <= self._number:
            return False
        for number in range(self._number + 1, latest + 1):
            self._exposed = self._started + (number - self._first) * self._period
            self.truth[number] = round(self._exposed * 1e9)
            self.unsent.add(number)
        self._number = latest
        if self.faults.mute or self.faults.skip(latest):
            return False
        self._image, self._sent, self._toggle = self._make(latest), 0, self._toggle ^ 1
        return True

    def _ticks(self, when: float) -> int:
        return int(when * self.clock_hz * (1 + self.clock_ppm * 1e-6)) & 0xFFFFFFFF

    def _payload(self, now: float, room: int) -> bytes:
        faults = self.faults
        size = 2 + 4 * faults.pts + 6 * faults.scr
        chunk = self._image[self._sent : self._sent + room - size]
        self._sent += len(chunk)
        flags = _END_OF_HEADER | self._toggle | _PTS * faults.pts | _SCR * faults.scr
        if self._sent >= len(self._image):
            flags |= _END_OF_FRAME
            self._image = b""
            self.unsent.discard(self._number)
        head = bytes([size, flags])
        if faults.pts:
            head += struct.pack("<I", self._ticks(self._exposed - faults.early(self._number)))
        if faults.scr:
            head += struct.pack("<IH", self._ticks(now), int(now * 1e3) & 0x7FF)
        return head + chunk

    def iso(self, now: float, room: int) -> bytes:
        """Return what is sent in the microframe that begins ``now``: at most ``room`` bytes, or nothing."""
        if not self.alts.get(1) or not self._expose(now):
            return b""
        payload = self._payload(now, room)
        return b"" if random.random() < self.faults.drop_packet else payload

    def bulk(self, now: float, room: int) -> bytes:
        """Return the next bulk payload, or nothing when no frame is ready."""
        return self._payload(now, room) if self._expose(now) else b""
