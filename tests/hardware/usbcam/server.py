"""A USB/IP server that exports emulated cameras: to a kernel with vhci-hcd, and to ``shim/usbfs.c``.

Protocol: the kernel's Documentation/usb/usbip_protocol.rst, version 1.1.1.
"""

from __future__ import annotations

import errno
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from usbcam.descriptors import bytes_a_microframe
from usbcam.engine import Engine, Kind, Urb
from usbcam.model import Camera
from usbcam.sysfs import SysTree

__all__ = ["Server"]

_VERSION, _HIGH_SPEED = 0x0111, 3
_LIST, _IMPORT = 0x8005, 0x8003
_SUBMIT, _REPLY_SUBMIT, _REPLY_UNLINK = 1, 3, 4
_CLAIM = 0x40, 0xC1
_SET_STREAMING = 0x01, 11, 1


class Server:
    """Cameras on USB buses. ``cameras[i]`` hangs at ``ports[i]``: ``1-1``, ``1-2``, … if not said otherwise.

    ``budgets`` limits the bytes of each microframe that a bus gives to all its cameras: an altsetting that does
    not fit is refused with ENOSPC. ``refuse[i]`` is an errno with which opening camera ``i`` fails. Both may change.
    ``root`` is a folder with the ``/sys`` and ``/dev`` of these buses, and the address of the server for the shim.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        *,
        ports: Sequence[str] | None = None,
        budgets: Mapping[int, int] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.cameras = list(cameras)
        self.ports = list(ports or (f"1-{i + 1}" for i in range(len(self.cameras))))
        self.refuse: dict[int, int] = {}
        self.budgets = dict(budgets or {})
        self._numbers: dict[int, int] = {}
        self._last_number = dict.fromkeys(map(self._bus, range(len(self.cameras))), 1)
        self._links: set[_Link] = set()
        self._lock = threading.RLock()
        self.root = Path(tempfile.mkdtemp(prefix="usbcam-"))
        self._tree = SysTree(self.root, sorted(self._last_number))
        self._listener = socket.create_server((host, port))
        self.port: int = self._listener.getsockname()[1]
        (self.root / "address").write_text(f"{host}:{self.port}\n")
        for index in range(len(self.cameras)):
            self.plug(index)
        self._thread = threading.Thread(target=self._accept, daemon=True, name="usbip")
        self._thread.start()

    def plug(self, index: int) -> None:
        """Connect a camera. As with the kernel, it gets a number that its bus has not just used."""
        bus = self._bus(index)
        with self._lock:
            used = {number for i, number in self._numbers.items() if self._bus(i) == bus}
            following = (n if n < 128 else n - 126 for n in range(self._last_number[bus] + 1, 254))
            number = next(n for n in following if n not in used)
            self._numbers[index] = self._last_number[bus] = number
            self._tree.add(self.ports[index], bus, number, self.cameras[index])

    def unplug(self, index: int) -> None:
        """Pull a camera's cable: its requests end with ENODEV, and it is seen no more."""
        with self._lock:
            self._numbers.pop(index)
        for link in [link for link in list(self._links) if link.index == index]:
            link.cut()
        with self.cameras[index].lock:
            self.cameras[index].set_interface(1, 0)
        self._tree.remove(self.ports[index])

    def number(self, index: int) -> int:
        """Return the address of a camera on its bus."""
        return self._numbers[index]

    def close(self) -> None:
        """Pull all cables, and end."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for index in list(self._numbers):
            self.unplug(index)
        shutil.rmtree(self.root)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _bus(self, index: int) -> int:
        return int(self.ports[index].partition("-")[0])

    def _permit(self, link: _Link, setup: bytes) -> int:
        """Refuse what the host's kernel would: an interface that another program holds, bandwidth that is not there."""
        kind, request, value, interface, _ = struct.unpack("<BBHHH", setup)
        if (kind, request) == _CLAIM:
            if not value:
                link.claims.discard(interface)
            elif any(
                interface in other.claims for other in list(self._links) if other.index == link.index and other != link
            ):
                return -errno.EBUSY
            else:
                link.claims.add(interface)
        if (kind, request, interface) != _SET_STREAMING:
            return 0
        bus = self._bus(link.index)
        others = [camera for i, camera in enumerate(self.cameras) if i != link.index and self._bus(i) == bus]
        wanted = sum(camera.reserved for camera in others) + bytes_a_microframe(value)
        return -errno.ENOSPC if wanted > self.budgets.get(bus, wanted) else 0

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._greet, args=(sock,), daemon=True, name="usbip link").start()

    def _record(self, index: int) -> bytes:
        camera, name = self.cameras[index], self.ports[index].encode()
        head = b"/sys/devices/emulated".ljust(256, b"\0") + name.ljust(32, b"\0")
        numbers = self._bus(index), self._numbers[index], _HIGH_SPEED, camera.vendor, camera.product, 0x0100
        return head + struct.pack(">IIIHHHBBBBBB", *numbers, 0xEF, 2, 1, 1, 1, 2)

    def _greet(self, sock: socket.socket) -> None:
        with sock, suppress(EOFError, OSError):  # a host that hangs up is an ordinary end
            _, code, _ = struct.unpack(">HHI", _read(sock, 8))
            if code == _LIST:
                with self._lock:
                    records = [self._record(index) for index in sorted(self._numbers)]
                interfaces = bytes((0x0E, 1, 0, 0, 0x0E, 2, 0, 0))
                body = b"".join(record + interfaces for record in records)
                sock.sendall(struct.pack(">HHII", _VERSION, 5, 0, len(records)) + body)
            elif code == _IMPORT:
                self._import(sock, _read(sock, 32).rstrip(b"\0").decode())

    def _import(self, sock: socket.socket, wanted: str) -> None:
        """Open a camera by its port (``1-1``), or as the shim does by its node (``001/002``; ``?``: only say if)."""
        name = wanted.rstrip("?")
        with self._lock:
            names = {f"{self._bus(i):03}/{number:03}": i for i, number in self._numbers.items()}
            index = {**names, **{self.ports[i]: i for i in self._numbers}}.get(name, -1)
            status = self.refuse.get(index, 0) if index >= 0 else errno.ENODEV
            sock.sendall(struct.pack(">HHI", _VERSION, 3, status) + (b"" if status else self._record(index)))
            if status or wanted.endswith("?"):
                return
            link = _Link(index, sock, self.cameras[index], self._permit)
            self._links.add(link)
        try:
            link.serve()
        finally:
            self._links.discard(link)
            link.engine.stop()


class _Link:
    """One host's connection to one camera."""

    def __init__(self, index: int, sock: socket.socket, camera: Camera, permit: Callable[[_Link, bytes], int]) -> None:
        self.index, self._sock = index, sock
        self.claims: set[int] = set()
        self.engine = Engine(camera, lambda setup: permit(self, setup))
        self._live: dict[int, Urb] = {}
        self._sending = threading.Lock()

    def cut(self) -> None:
        """End it as a pulled cable does."""
        self.engine.stop()
        with suppress(OSError):  # the host was faster
            self._sock.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Pass requests on until the host hangs up."""
        while True:
            head = _read(self._sock, 48)
            command, tag, _, direction, endpoint = struct.unpack_from(">IIIII", head)
            if command == _SUBMIT:
                _, length, _, count = struct.unpack_from(">Iiii", head, 20)
                data = b"" if direction or length <= 0 else _read(self._sock, length)
                raw = _read(self._sock, 16 * count) if 0 < count < 4096 else b""
                packets = [[size, 0, 0] for _, size, _, _ in struct.iter_unpack(">IIII", raw)]
                kind: Kind = (
                    "control" if endpoint == 0 else "iso" if packets else "bulk" if endpoint == 1 else "interrupt"
                )
                urb = Urb(kind, tag, bool(direction), length, self._reply, head[40:48], data, packets)
                self._live[tag] = urb
                self.engine.submit(urb)
            else:
                victim = self._live.get(struct.unpack_from(">I", head, 20)[0])
                hit = victim is not None and self.engine.cancel(victim)
                status = -errno.ECONNRESET if hit else 0
                self._send(struct.pack(">IIIIIi24x", _REPLY_UNLINK, tag, 0, 0, 0, status))

    def _reply(self, urb: Urb) -> None:
        self._live.pop(urb.tag, None)
        if urb.status == -errno.ECONNRESET:  # an unlinked request is answered by the reply to the unlinking
            return
        offset, packets = 0, []
        for length, actual, status in urb.packets:
            packets.append(struct.pack(">IIIi", offset, length, actual, status))
            offset += length
        actual = len(urb.payload) if urb.inwards else urb.length
        bad = sum(1 for packet in urb.packets if packet[2])
        numbers = urb.status, actual, 0, len(packets), bad
        head = struct.pack(">IIIIIiiiii8x", _REPLY_SUBMIT, urb.tag, 0, 0, 0, *numbers)
        self._send(head + urb.payload + b"".join(packets))

    def _send(self, data: bytes) -> None:
        with self._sending, suppress(OSError):  # nobody is there to hear it; serve() ends the link
            self._sock.sendall(data)


def _read(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
