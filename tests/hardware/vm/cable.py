"""The host's end of the cable between emulated cameras and the guest's kernel; ``plug.py`` is the guest's."""

from __future__ import annotations

import json
import socketserver
import threading
from typing import Any

from usbcam import Server

from vm.plug import CONTROL_PORT, USBIP_PORT

__all__ = ["Cable"]


class Cable:
    """Does to the cameras of ``server`` what the guest asks for. Use as a context manager.

    A request is one line of JSON; it is answered by one as soon as it is done.
    """

    def __init__(self, server: Server) -> None:
        cable = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    cable._do(**json.loads(line))
                    self.wfile.write(b"done\n")

        self._server = server
        self._control = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._control.daemon_threads = True
        self._thread = threading.Thread(target=self._control.serve_forever, args=(0.05,), name="cable")

    @property
    def environment(self) -> dict[str, str]:
        """What the guest must be told."""
        return {CONTROL_PORT: str(self._control.server_address[1]), USBIP_PORT: str(self._server.port)}

    def _do(self, camera: int, what: str, value: Any) -> None:
        if what == "plug":
            self._server.plug(camera)
        elif what == "unplug":
            self._server.unplug(camera)
        else:
            faults = self._server.cameras[camera].faults
            every = callable(getattr(faults, what))
            setattr(faults, what, (lambda number: bool(value) and number % value == 0) if every else value)

    def __enter__(self) -> Cable:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._control.shutdown()
        self._thread.join()
        self._control.server_close()
