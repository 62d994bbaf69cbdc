"""The USB devices of this machine as the kernel shows them in sysfs, without opening any.

The layout is that of ``/sys/bus/usb/devices`` (Linux, Documentation/ABI/testing/sysfs-bus-usb): one entry for each
device, ``1-2.4`` (bus 1, port 2 of the root hub, port 4 of the hub there), one for each of its interfaces,
``1-2.4:1.0``, and one for each root hub, ``usb1``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["SYSFS_USB", "UsbDevice", "usb_devices", "usb_parent"]

SYSFS_USB = Path("/sys/bus/usb/devices")
_VIDEO_CLASS = "0e"
_HIGH_SPEED_MBIT = 480.0
# USB 2.0 section 5.6.4: periodic transfers get 80 % of a microframe, which has room for 7500 bytes.
_HIGH_SPEED_ROOM = 6000


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """One USB device, hubs included."""

    path: str
    """The port it is plugged into, ``1-2.4``: the same after every replug. Of a root hub ``usb1``."""
    bus: int
    address: int
    """Number on the bus; another one after every replug."""
    name: str
    """Product string; empty where the device has none. The same holds for the next two."""
    manufacturer: str
    serial: str
    vendor: int
    product: int
    speed_mbit: float
    is_camera: bool
    """Whether one of its interfaces is of the video class (0e)."""
    descriptors: bytes
    """Device descriptor and all configurations as the device sent them; empty where they cannot be read."""

    @property
    def node(self) -> str:
        """The device file that a program must be allowed to write."""
        return f"/dev/bus/usb/{self.bus:03}/{self.address:03}"

    @property
    def controller(self) -> str:
        """The bus, whose bandwidth it shares with all others there: ``usb1``."""
        return f"usb{self.bus}"

    @property
    def room(self) -> int:
        """Bytes of each microframe (125 us) that all cameras of a high-speed bus share; 0 for other speeds."""
        return _HIGH_SPEED_ROOM if self.speed_mbit == _HIGH_SPEED_MBIT else 0


def usb_devices(root: Path = SYSFS_USB) -> list[UsbDevice]:
    """Return all USB devices, sorted by path; a machine without USB has none. One that is just leaving is left out."""
    try:
        entries = sorted(entry.name for entry in root.iterdir())
    except FileNotFoundError:
        return []
    found = (_read_device(root, name, entries) for name in entries if ":" not in name)
    return [device for device in found if device is not None]


def usb_parent(interface: Path, root: Path = SYSFS_USB) -> UsbDevice | None:
    """Return the USB device that an interface belongs to; ``None`` where it is none of USB.

    Args:
        interface: a link to it, as ``/sys/class/video4linux/video0/device``.
        root: as ``usb_devices``.
    """
    name = interface.resolve().name.partition(":")[0]
    return next((device for device in usb_devices(root) if device.path == name), None)


def _read_device(root: Path, name: str, entries: list[str]) -> UsbDevice | None:
    folder = root / name
    try:
        return UsbDevice(
            path=name,
            bus=int(_text(folder / "busnum")),
            address=int(_text(folder / "devnum")),
            name=_text_if_any(folder / "product"),
            manufacturer=_text_if_any(folder / "manufacturer"),
            serial=_text_if_any(folder / "serial"),
            vendor=int(_text(folder / "idVendor"), 16),
            product=int(_text(folder / "idProduct"), 16),
            speed_mbit=float(_text(folder / "speed")),
            is_camera=any(
                _text(root / entry / "bInterfaceClass") == _VIDEO_CLASS
                for entry in entries
                if entry.startswith(f"{name}:")
            ),
            descriptors=_bytes_if_any(folder / "descriptors"),
        )
    except (OSError, ValueError):
        # Reading races with unplugging: files are missing then, or empty.
        return None


def _text(path: Path) -> str:
    return path.read_text("utf-8", errors="replace").strip()


def _text_if_any(path: Path) -> str:
    try:
        return _text(path)
    except FileNotFoundError:
        return ""


def _bytes_if_any(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
