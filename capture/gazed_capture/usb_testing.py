"""USB cameras as files: for tests of whatever reads sysfs."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

from gazed_capture.uvc_descriptors import CameraMode

__all__ = ["plug_in", "pull_out", "video_descriptors"]


def plug_in(
    root: Path,
    path: str,
    *,
    address: int,
    product: str = "",
    serial: str = "",
    video: bool = True,
    speed: str = "480",
    descriptors: bytes = b"",
) -> None:
    """Write a device into a tree like ``/sys/bus/usb/devices``, as the kernel does: a string it lacks has no file."""
    texts = {
        "busnum": path.partition("-")[0].removeprefix("usb"),
        "devnum": str(address),
        "idVendor": "1209",
        "idProduct": "0001",
        "speed": speed,
        "product": product,
        "serial": serial,
    }
    folder = root / path
    folder.mkdir(parents=True)
    for name, text in texts.items():
        if text:
            (folder / name).write_text(f"{text}\n")
    (folder / "descriptors").write_bytes(descriptors)
    interface = root / f"{path}:1.0"
    interface.mkdir()
    (interface / "bInterfaceClass").write_text("0e\n" if video else "03\n")


def pull_out(root: Path, path: str) -> None:
    """Remove a device from the tree."""
    shutil.rmtree(root / f"{path}:1.0")
    shutil.rmtree(root / path)


def video_descriptors(modes: Sequence[CameraMode], packets: Sequence[int] = (), *, bulk: bool = False) -> bytes:
    """Return the descriptors of a camera with these modes, as ``read_streaming`` takes them.

    Args:
        modes: on offer; one frame descriptor each.
        packets: bytes of a microframe for each alternate setting: at most 1024, or a multiple of 2 or 3 up to 3072.
        bulk: whether it has a bulk endpoint instead.
    """
    streams = b""
    for form, head, subtype in (("mjpeg", _class(0x06, bytes(8)), 0x07), ("gray", _class(0x04, _gray()), 0x05)):
        chosen = [mode for mode in modes if mode.format == form]
        streams += head if chosen else b""
        for number, mode in enumerate(chosen, 1):
            sizes = struct.pack("<BBHH", number, 0, mode.width, mode.height)
            ticks = round(mode.period_s * 1e7)
            streams += _class(subtype, sizes + bytes(12) + struct.pack("<IBI", ticks, 1, ticks))
    body = _interface(0, 0, 1, 1) + _class(0x01, bytes(10)) + _interface(1, 0, int(bulk), 2) + streams
    if bulk:
        body += _endpoint(2, 512)
    for alt, size in enumerate(packets, 1):
        times = -(-size // 1024)
        body += _interface(1, alt, 1, 2) + _endpoint(5, size // times | (times - 1) << 11)
    device = struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x0200, 0xEF, 2, 1, 64, 0x1209, 1, 0x0100, 1, 2, 3, 1)
    return device + struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), 2, 1, 0, 0x80, 250) + body


def _interface(number: int, alt: int, endpoints: int, subclass: int) -> bytes:
    return bytes((9, 4, number, alt, endpoints, 0x0E, subclass, 0, 0))


def _endpoint(attributes: int, size: int) -> bytes:
    return struct.pack("<BBBBHB", 7, 5, 0x81, attributes, size, 1)


def _class(subtype: int, body: bytes) -> bytes:
    return bytes((len(body) + 3, 0x24, subtype)) + body


def _gray() -> bytes:
    return bytes((2, 1)) + b"Y8  " + bytes.fromhex("00001000800000aa00389b71") + bytes(6)
