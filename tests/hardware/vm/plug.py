"""The guest's end of the cable: emulated cameras are plugged into this kernel, and pulled out.

    python -m vm.plug 0 1          plugs in the cameras 0 and 1 (in tests/hardware)

A camera on the host comes in over USB/IP (the kernel's Documentation/usb/usbip_protocol.rst); vhci-hcd takes the
connected socket and behaves as if the camera hung at one of its ports.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from pathlib import Path

__all__ = ["CONTROL_PORT", "HOST", "USBIP_PORT", "attach", "plug", "set_fault", "unplug"]

HOST = "10.0.2.2"
"""The host as the guest sees it."""
CONTROL_PORT, USBIP_PORT = "GAZED_VM_CONTROL", "GAZED_VM_USBIP"
"""Environment variables that hold the ports."""

_VHCI = Path("/sys/devices/platform/vhci_hcd.0")
_VERSION, _IMPORT = 0x0111, 0x8003
_BUS_ID = 32
_HEAD, _RECORD, _NUMBERS_AT = 8, 312, 288
_FREE = "004"


def plug(camera: int) -> None:
    """Plug a camera in again."""
    _ask(camera, "plug")
    attach(camera)


def unplug(camera: int) -> None:
    """Pull a camera's cable."""
    _ask(camera, "unplug")


def set_fault(camera: int, fault: str, value: object) -> None:
    """Set one of the camera's ``usbcam.Faults``; of those that are functions, every how many frames (0: never)."""
    _ask(camera, fault, value)


def _ask(camera: int, what: str, value: object = None) -> None:
    with socket.create_connection((HOST, int(os.environ[CONTROL_PORT]))) as link, link.makefile("rw") as lines:
        lines.write(json.dumps({"camera": camera, "what": what, "value": value}) + "\n")
        lines.flush()
        if lines.readline() != "done\n":
            raise RuntimeError(f"the host did not {what} camera {camera}")


def attach(camera: int) -> None:
    """Plug in a camera that is there on the host."""
    with socket.create_connection((HOST, int(os.environ[USBIP_PORT]))) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sendall(struct.pack(">HHI", _VERSION, _IMPORT, 0) + f"1-{camera + 1}".encode().ljust(_BUS_ID, b"\0"))
        answer = link.recv(_HEAD + _RECORD, socket.MSG_WAITALL)
        if len(answer) != _HEAD + _RECORD:
            raise RuntimeError(f"the host refused camera {camera}: {answer!r}")
        bus, device, speed = struct.unpack_from(">III", answer, _HEAD + _NUMBERS_AT)
        ports = (line.split() for line in (_VHCI / "status").read_text().splitlines())
        free = next(int(port[1]) for port in ports if port[0] == "hs" and port[2] == _FREE)
        # The kernel takes a reference of its own to the socket.
        (_VHCI / "attach").write_text(f"{free} {link.fileno()} {bus << 16 | device} {speed}")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        attach(int(argument))
