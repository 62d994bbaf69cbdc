"""Emulated USB cameras: the real ``uvc`` wheel, its libuvc and libusb, or a kernel's vhci-hcd, see them as real ones."""

from usbcam.model import EYE, SET_CUR, Camera, Faults
from usbcam.pictures import read_counter
from usbcam.server import Server
from usbcam.shim import build_shim, shim_environment

__all__ = ["EYE", "SET_CUR", "Camera", "Faults", "Server", "build_shim", "read_counter", "shim_environment"]
