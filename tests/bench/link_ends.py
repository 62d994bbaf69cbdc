"""The processes at both ends of the link of ``bench_link.py``, which starts them: a leader, or one follower of it.

    python tests/bench/link_ends.py leader|ours|ours-udp|capture|corrected|compensated|lsl OPTIONS

OPTIONS is JSON: ppm, steps ([[at s, size s], ...]), seconds; for a follower the leader's address and ports, and how
many threads spin beside it. It says that it is ready, waits for a line with the host time to begin at, and at the end
prints what it saw. The truth is at hand, as both ends are on one machine: the leader's clock is a known function of
CLOCK_MONOTONIC, `ppm` fast against it. Which of two clocks is off nobody can tell, so it stands for the follower's.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import random
import signal
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from gazed_timesync import Discipline, Follower, HostNs, Leader, LocalClock, PupilTime, host_now

try:
    pylsl: Any = importlib.import_module("pylsl")
except ImportError:
    pylsl = None

AHEAD_S = 5000.0
EVERY_S = 0.05
READS = 1_000_000
_TIME = struct.Struct("<d")
Row = tuple[float, float, int]


class Course:
    """The leader's clock."""

    def __init__(self, ppm: float, steps: list[tuple[float, float]]) -> None:
        self.begin = HostNs(0)
        self._rate, self._steps = ppm * 1e-6, steps

    def at(self, host: HostNs) -> float:
        """Return what it shows at a host time."""
        elapsed_s = (host - self.begin) * 1e-9
        return AHEAD_S + elapsed_s * (1 + self._rate) + sum(size for at, size in self._steps if elapsed_s >= at)

    def now(self) -> PupilTime:
        """Return what it shows."""
        return PupilTime(self.at(host_now()))

    @property
    def steps(self) -> int:
        """How often it has jumped."""
        return sum(host_now() - self.begin >= at * 1e9 for at, _ in self._steps)


class _Plain(socketserver.BaseRequestHandler):
    course: Course

    def handle(self) -> None:
        while self.request.recv(4) == b"sync":
            self.request.send(_TIME.pack(self.course.now()))


class PlainLeader(socketserver.ThreadingTCPServer):
    """The clock service as Pupil Capture has it: a thread for each connection."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A follower has gone."""


class CaptureFollower:
    """Pupil Capture's follower, as ``gazed_timesync.sync.testing.SimulatedPeer`` describes it, over a real socket."""

    def __init__(self, address: str, port: int, corrected: bool) -> None:
        self._leader, self._corrected = (address, port), corrected
        self._base_s: float | None = None
        self._jitter_s = 0.0
        self.backwards = 0
        threading.Thread(target=self._run, daemon=True).start()

    def shown(self, host: HostNs) -> float:
        """Return its Pupil time."""
        return host * 1e-9 + (self._base_s or 0.0)

    def look(self, host: HostNs, course: Course) -> Row | None:
        """Return error, stated bound and number of steps, if it has a clock."""
        return None if self._base_s is None else (self.shown(host) - course.at(host), self._jitter_s, 0)

    def _run(self) -> None:
        while True:
            try:
                offset = self._measure()
            except OSError:
                time.sleep(1.0)
                continue
            if self._base_s is None or abs(offset) > 10e-3:
                self._base_s = (self._base_s or 0.0) + offset
                self.backwards += offset < 0
            elif abs(offset) > max(self._jitter_s, 0.1e-3):
                self._slew(offset)
            time.sleep(10 + random.random())

    def _slew(self, offset: float) -> None:
        for _ in range(20):
            if abs(offset) <= max(self._jitter_s, 0.1e-3):
                return
            step = max(-0.5e-3, min(0.5e-3, offset))
            self._base_s = (self._base_s or 0.0) + step
            self.backwards += step < 0
            offset -= step
            time.sleep(0.1)

    def _measure(self) -> float:
        found = []
        with socket.create_connection(self._leader, 1.0) as connected:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(60):
                asked = self.shown(host_now())
                connected.sendall(b"sync")
                came = connected.recv(_TIME.size)
                answered = self.shown(host_now())
                if len(came) != _TIME.size:
                    raise ConnectionError("the leader has gone")
                late = answered if self._corrected else asked
                found.append((answered - asked, _TIME.unpack(came)[0] + (answered - asked) / 2 - late))
        best = [offset for _, offset in sorted(found)[: int(60 * 0.69)]]
        mean: float = sum(best) / len(best)
        self._jitter_s = sum(abs(offset - mean) for offset in best) / len(best)
        return mean


class OurFollower:
    """The follower that is shipped, with a clock of its own."""

    def __init__(self, address: str, port: int | None, udp_port: int | None) -> None:
        self._clock = LocalClock()
        self._discipline = Discipline(self._clock)
        self._known = False
        self._follower = Follower(
            self._discipline, address, port, udp_port=udp_port, name="leader", on_events=self._on_events
        )
        self._last = self._clock.now(), 0
        self.backwards = self.reads = 0
        self.events: list[tuple[int, str]] = []

    def _on_events(self, events: Any) -> None:
        self._known = True
        if hasattr(self, "events"):
            self.events += [(each.host, each.state.value if each.kind == "state" else each.kind) for each in events]

    def look(self, host: HostNs, course: Course) -> Row | None:
        """Return error, stated bound and number of steps, if it has a clock."""
        if self._clock.steps == 0:
            return None
        return self._clock.to_pupil(host) - course.at(host), self._discipline.bound(host), self._clock.steps

    def read(self, times: int) -> None:
        """Read the clock so often, and count when it shows less than before without having jumped."""
        shown, steps = self._last
        for _ in range(times):
            now = self._clock.now()
            if now < shown:
                self.backwards += self._clock.steps == steps
                steps = self._clock.steps
            shown = now
        self._last = shown, self._clock.steps
        self.reads += times

    def close(self) -> None:
        """Stop following."""
        self._follower.close()


class LslFollower:
    """LSL's ``time_correction``. LSL knows only the machine's own clock, so what drifts since its probe is added."""

    backwards = 0

    def __init__(self, ppm: float) -> None:
        self._rate = ppm * 1e-6
        found = pylsl.resolve_byprop("name", "link", 1, 15.0)
        if not found:
            raise SystemExit("LSL does not find its stream")
        self._inlet = pylsl.StreamInlet(found[0])
        self._correct = pylsl.lib.lib.lsl_time_correction_ex
        self._correct.restype = ctypes.c_double

    def look(self, host: HostNs, _: Course) -> Row | None:
        """Return error, no bound, no steps; waits for the first."""
        remote, uncertain, failed = ctypes.c_double(), ctypes.c_double(), ctypes.c_int()
        correction = self._correct(
            self._inlet.obj,
            ctypes.byref(remote),
            ctypes.byref(uncertain),
            ctypes.c_double(10.0),
            ctypes.byref(failed),
        )
        return None if failed.value else (correction + self._rate * (host * 1e-9 - remote.value), float("nan"), 0)


def lead(course: Course) -> None:
    """Serve the clock in all ways until killed."""
    _Plain.course = course
    plain = PlainLeader(("", 0), _Plain)
    ours, compensating = Leader(course, ""), Leader(course, "", compensate=True)
    outlet = None if pylsl is None else pylsl.StreamOutlet(pylsl.StreamInfo("link", "", 1, 0, "float32", "link"))
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    ports = {"plain": plain.server_address[1], "udp": ours.udp_port, "compensated": compensating.port}
    print(json.dumps(ports | {"lsl": outlet is not None}), flush=True)
    course.begin = HostNs(int(sys.stdin.readline()))
    sys.stdin.read()


def _made(name: str, options: dict[str, Any]) -> Callable[[], Any]:
    address, ports = options["address"], options["ports"]
    if name == "lsl":
        lsl = LslFollower(options["ppm"])
        return lambda: lsl
    return {
        "ours": lambda: OurFollower(address, ports["plain"], None),
        "ours-udp": lambda: OurFollower(address, None, ports["udp"]),
        "capture": lambda: CaptureFollower(address, ports["plain"], False),
        "corrected": lambda: CaptureFollower(address, ports["plain"], True),
        "compensated": lambda: CaptureFollower(address, ports["compensated"], False),
    }[name]


def _spin() -> None:
    while True:
        pass


def follow(name: str, course: Course, options: dict[str, Any]) -> None:
    """Follow the leader from the given host time on, and print what the clock showed."""
    make = _made(name, options)
    print("{}", flush=True)
    course.begin = HostNs(int(sys.stdin.readline()))
    for _ in range(options["spinning"]):
        threading.Thread(target=_spin, daemon=True).start()
    time.sleep(max(0.0, (course.begin - host_now()) / 1e9))
    follower = make()
    ticks = round(options["seconds"] / EVERY_S)
    rows = []
    for tick in range(1, ticks + 1):
        time.sleep(max(0.0, (course.begin - host_now()) / 1e9 + tick * EVERY_S))
        host = host_now()
        seen = follower.look(host, course)
        if seen is not None:
            rows.append(((host_now() - course.begin) / 1e9, *seen))
        if isinstance(follower, OurFollower):
            follower.read(READS // ticks + 1)
    events = [((at - course.begin) / 1e9, kind) for at, kind in getattr(follower, "events", [])]
    result = {"rows": rows, "backwards": follower.backwards, "reads": getattr(follower, "reads", 0), "events": events}
    print(json.dumps(result | {"cpu_s": time.process_time()}), flush=True)
    if isinstance(follower, OurFollower):
        follower.close()
    os._exit(0)  # threads of LSL and of those that spin do not end otherwise


def main() -> None:
    name, options = sys.argv[1], json.loads(sys.argv[2])
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: no end outlives the bench
    course = Course(options["ppm"], options["steps"])
    if name == "leader":
        lead(course)
    else:
        follow(name, course, options)


if __name__ == "__main__":
    main()
