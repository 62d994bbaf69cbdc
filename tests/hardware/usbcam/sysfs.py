"""What the kernel shows of USB devices in /sys and /dev, as a tree of real files in a folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from usbcam.model import Camera

__all__ = ["SysTree"]

_CONTROLLER = "pci0000:00/0000:00:14.0"


class SysTree:
    """``<root>/sys/bus/usb/devices`` and ``<root>/dev/bus/usb``, with a root hub for each bus."""

    def __init__(self, root: Path, buses: list[int]) -> None:
        self.root = root
        self._entries = root / "sys/bus/usb/devices"
        self._entries.mkdir(parents=True)
        for bus in buses:
            hub = bytes((18, 1, 0, 2, 9, 0, 1, 64, 0x6B, 0x1D, 2, 0, 0, 6, 0, 2, 0, 1))
            hub += bytes((9, 2, 25, 0, 1, 1, 0, 0xE0, 0, 9, 4, 0, 0, 1, 9, 0, 0, 0, 7, 5, 0x81, 3, 4, 0, 12))
            self._make(f"usb{bus}", bus, 1, hub, (0x1D6B, 0x0002), ("", "Emulated Host Controller", ""))

    def add(self, name: str, bus: int, number: int, camera: Camera) -> None:
        """Show a camera that was plugged into port ``name`` (``1-1``)."""
        raw = camera.device_descriptor() + camera.configuration_descriptor()
        strings = camera.manufacturer, camera.name, camera.serial
        home = self._make(name, bus, number, raw, (camera.vendor, camera.product), strings)
        for interface in (0, 1):
            folder = home / f"{name}:1.{interface}"
            texts = {"bInterfaceClass": "0e", "bInterfaceSubClass": f"{interface + 1:02x}", "bInterfaceProtocol": "00"}
            _write(folder, {**texts, "bInterfaceNumber": f"{interface:02x}", "bAlternateSetting": " 0"})
            self._link(folder)

    def remove(self, name: str) -> None:
        """Show the device no longer."""
        entry = self._entries / name
        home = entry.resolve()
        node = self.root / _node(int((home / "busnum").read_text()), int((home / "devnum").read_text()))
        for link in [entry, *self._entries.glob(f"{name}:*")]:
            link.unlink()
        node.unlink()
        shutil.rmtree(home)

    def _make(
        self, name: str, bus: int, number: int, raw: bytes, ids: tuple[int, int], strings: tuple[str, str, str]
    ) -> Path:
        home = self.root / "sys/devices" / _CONTROLLER / f"usb{bus}"
        home = home if number == 1 else home / name
        texts = {"busnum": f"{bus}", "devnum": f"{number}", "speed": "480", "bConfigurationValue": "1"}
        texts |= {"idVendor": f"{ids[0]:04x}", "idProduct": f"{ids[1]:04x}", "bDeviceClass": f"{raw[4]:02x}"}
        texts |= {key: text for key, text in zip(("manufacturer", "product", "serial"), strings, strict=True) if text}
        _write(home, texts)
        (home / "descriptors").write_bytes(raw)
        node = self.root / _node(bus, number)
        node.parent.mkdir(parents=True, exist_ok=True)
        node.touch(mode=0o664)
        self._link(home)
        return home

    def _link(self, home: Path) -> None:
        (self._entries / home.name).symlink_to(os.path.relpath(home, self._entries))


def _node(bus: int, number: int) -> str:
    return f"dev/bus/usb/{bus:03}/{number:03}"


def _write(folder: Path, texts: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_text(f"{text}\n")
