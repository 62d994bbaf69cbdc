"""Emulated USB cameras, which the real ``uvc`` wheel (its libuvc and libusb) or a kernel's vhci-hcd take for real."""

from usbcam.model import EYE, SET_CUR, Camera, Faults
from usbcam.pictures import read_counter
from usbcam.preload import build_shim, shim_environment
from usbcam.server import Server

__all__ = ["EYE", "SET_CUR", "Camera", "Faults", "Server", "build_shim", "read_counter", "shim_environment"]
