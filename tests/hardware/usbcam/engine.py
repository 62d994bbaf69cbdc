"""USB requests in real time, between a camera and a transport.

``Engine.submit`` takes a request, and calls its ``done`` once: for control requests at once, else from a thread of the
engine's at the time at which a high-speed host controller would. An isochronous request of n packets ends n
microframes after the one queued before it, or after it was submitted if none was.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from usbcam.model import MICROFRAME, Camera

__all__ = ["Engine", "Kind", "Urb"]

Kind = Literal["control", "iso", "bulk", "interrupt"]


@dataclass(eq=False)
class Urb:
    """One request. ``status`` becomes 0 or a negative errno; ``packets`` are [length, actual length, status]."""

    kind: Kind
    tag: int
    inwards: bool
    length: int
    done: Callable[[Urb], None]
    setup: bytes = b""
    data: bytes = b""
    packets: list[list[int]] = field(default_factory=list)
    status: int = 0
    payload: bytes = b""
    start: float = 0.0


class Engine:
    """The host controller of one connection to one camera.

    ``permit(setup)`` stands for the host's kernel: it returns 0 or the negative errno with which a control request ends
    before it reaches the camera.
    """

    def __init__(self, camera: Camera, permit: Callable[[bytes], int]) -> None:
        self._camera, self._permit = camera, permit
        self._gone = False
        self._wake = threading.Condition()
        self._queue: list[tuple[float, int, Urb]] = []
        self._live: set[Urb] = set()
        self._order = itertools.count()
        self._next_iso = self._due = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"usb {camera.name}")
        self._thread.start()

    def submit(self, urb: Urb) -> None:
        """Take a request."""
        if urb.kind == "control":
            urb.status = -errno.ENODEV if self._gone else self._control(urb)
            urb.done(urb)
            return
        with self._wake:
            if not self._gone:
                now = time.monotonic()
                self._live.add(urb)
                if urb.kind == "iso":
                    queued = any(other.kind == "iso" for other in self._live if other is not urb)
                    urb.start = max(self._next_iso, now) if queued else now
                    self._next_iso = urb.start + len(urb.packets) * MICROFRAME
                    polled = self._camera.faults.polled_s
                    # Transfers end in order, also where the delay has just become shorter.
                    due = math.ceil(self._next_iso / polled) * polled if polled else self._next_iso
                    self._due = max(self._due, due)
                    self._push(self._due, urb)
                elif urb.kind == "bulk":
                    self._push(now, urb)
                self._wake.notify()
                return
        urb.status = -errno.ENODEV
        urb.done(urb)

    def cancel(self, urb: Urb, status: int = -errno.ECONNRESET) -> bool:
        """End a request early; false if it had ended already."""
        with self._wake:
            if urb not in self._live:
                return False
            self._live.discard(urb)
        urb.status = status
        urb.packets = [[length, 0, -errno.EXDEV] for length, _, _ in urb.packets]
        urb.done(urb)
        return True

    def stop(self) -> None:
        """End all requests with -ENODEV, as an unplugged device does, and the thread."""
        with self._wake:
            self._gone = True
            live = list(self._live)
            self._wake.notify()
        for urb in live:
            self.cancel(urb, -errno.ENODEV)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _control(self, urb: Urb) -> int:
        kind, request = urb.setup[0], urb.setup[1]
        value, index, length = (int.from_bytes(urb.setup[i : i + 2], "little") for i in (2, 4, 6))
        with self._camera.lock:
            refused = self._permit(urb.setup)
            if refused:
                return refused
            reply = self._camera.control(kind, request, value, index, urb.data)
        if reply is None:
            return -errno.EPIPE
        urb.payload = reply[:length] if kind & 0x80 else b""
        return 0

    def _push(self, when: float, urb: Urb) -> None:
        heapq.heappush(self._queue, (when, next(self._order), urb))

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._gone and not (self._queue and self._queue[0][0] <= time.monotonic()):
                    self._wake.wait(self._queue[0][0] - time.monotonic() if self._queue else None)
                if self._gone:
                    return
                urb = heapq.heappop(self._queue)[2]
                if urb not in self._live or not self._transfer(urb):
                    continue
                self._live.discard(urb)
            urb.done(urb)

    def _transfer(self, urb: Urb) -> bool:
        with self._camera.lock:
            if urb.kind == "iso":
                got = [self._camera.iso(urb.start + i * MICROFRAME, p[0]) for i, p in enumerate(urb.packets)]
                for packet, payload in zip(urb.packets, got, strict=True):
                    packet[1] = len(payload)
                urb.payload = b"".join(got)
                return True
            urb.payload = self._camera.bulk(time.monotonic(), urb.length)
        if not urb.payload:
            self._push(time.monotonic() + MICROFRAME * 8, urb)
        return bool(urb.payload)
