"""Exports emulated cameras over USB/IP until it is interrupted: ``python -m usbcam`` in ``tests/hardware``.

It prints the variables with which a program on this machine sees them.
"""

import argparse
import threading
from contextlib import suppress

from usbcam.model import Camera
from usbcam.preload import build_shim, shim_environment
from usbcam.server import Server

parser = argparse.ArgumentParser(prog="python -m usbcam", description=__doc__)
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=3240)
parser.add_argument("--cameras", type=int, default=1)
wanted = parser.parse_args()
cameras = [Camera(f"Pupil Cam2 ID{i}", f"EMU{i:04}") for i in range(wanted.cameras)]
with Server(cameras, host=wanted.host, port=wanted.port) as server, suppress(KeyboardInterrupt):
    shim = build_shim(server.root)
    seen = shim_environment(shim, server) if shim else {}
    print(f"port {server.port}", *(f"{name}={value}" for name, value in seen.items()), flush=True)
    threading.Event().wait()
