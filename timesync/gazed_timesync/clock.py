"""Host time, Pupil time, and the line between them that a discipline may bend.

Inside gazed every time is an ``int``: nanoseconds of CLOCK_MONOTONIC (``HostNs``). On the wire and on disk
it is Pupil time: ``float64`` seconds (``PupilTime``). What leads from one to the other is a chain of straight segments
in a small shared file, so that every process of a daemon converts alike and a change is seen at once.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, NamedTuple, NewType, Protocol, Self

from gazed_timesync.errors import ClockError, ClockHeld

__all__ = [
    "MAX_HELD_RATE",
    "MAX_RATE",
    "AdjustableClock",
    "BentClock",
    "HostNs",
    "PupilClock",
    "PupilTime",
    "Segment",
    "host_now",
]

HostNs = NewType("HostNs", int)
"""Nanoseconds of CLOCK_MONOTONIC."""
PupilTime = NewType("PupilTime", float)
"""Seconds since the Pupil epoch, as published and recorded."""

MAX_RATE = 5000e-6
"""How much faster or slower than the host clock Pupil time may run."""
MAX_HELD_RATE = 1000e-6
"""The same while a recording holds the clock."""

# One page of 64-byte lines: the header (magic, number of the newest segment, hold), then the segments.
_SIZE = 4096
_LINE = 8
_KEPT = _SIZE // 64 - 1
_MAGIC = 0x327A6167  # "gaz2"
_AT_MAGIC, _AT_NEWEST, _AT_HOLD = range(3)
# A new rate begins this much later than it is set, so that no reader has yet converted what it changes.
_LEAD_NS = 20_000_000


def host_now() -> HostNs:
    """Return the host clock, in nanoseconds of CLOCK_MONOTONIC."""
    return HostNs(time.monotonic_ns())


class Segment(NamedTuple):
    """A straight piece of the relation: at ``host`` it is ``pupil_ns``, and from there on ``1 + rate`` per host ns.

    ``steps`` counts the jumps up to and with this segment, ``number`` the segments of the clock.
    """

    host: HostNs
    pupil_ns: int
    rate: float = 0.0
    steps: int = 0
    number: int = 0

    def pupil_ns_at(self, host: HostNs) -> int:
        """Return Pupil time in nanoseconds, to the nanosecond; also before the segment begins."""
        elapsed = host - self.host
        return self.pupil_ns + elapsed + round(elapsed * self.rate)

    def to_pupil(self, host: HostNs) -> PupilTime:
        """Convert host time to Pupil time on the line of this segment."""
        return PupilTime(self.pupil_ns_at(host) / 1e9)

    def to_host(self, timestamp: PupilTime) -> HostNs:
        """Convert Pupil time to host time on the line of this segment."""
        return HostNs(self.host + round((round(timestamp * 1e9) - self.pupil_ns) / (1 + self.rate)))


class AdjustableClock(Protocol):
    """What a discipline needs of the clock that it keeps to a leader's."""

    @property
    def segment(self) -> Segment:
        """The newest segment; it may begin a moment after now."""

    @property
    def held(self) -> bool:
        """Whether a recording runs, so that the clock must not jump."""

    def set_rate(self, rate: float, at: HostNs | None = None) -> None:
        """Run faster or slower than the host clock, without a step."""

    def jump_to(self, target: PupilTime, at: HostNs | None = None) -> None:
        """Be ``target`` at a host time."""

    def to_pupil(self, host: HostNs) -> PupilTime:
        """Convert host time to Pupil time."""


class BentClock(ABC):
    """What clocks made of segments have in common: how they are bent and set. Where the segments are is theirs.

    A new segment is written, and then holds from ``_publish`` on; both happen within ``_writing``, by one at a time.
    """

    _HELD: ClassVar[str]
    _HINT: ClassVar[str]

    @property
    @abstractmethod
    def segment(self) -> Segment:
        """The newest segment. One that only changes the rate begins 20 ms after it was set."""

    @property
    @abstractmethod
    def held(self) -> bool:
        """Whether the clock must not jump."""

    @abstractmethod
    def to_pupil(self, host: HostNs) -> PupilTime:
        """Convert host time to Pupil time."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[object]: ...

    @abstractmethod
    def _write(self, segment: Segment) -> None: ...

    @abstractmethod
    def _publish(self, number: int) -> None: ...

    def _host(self) -> HostNs:
        return host_now()

    @property
    def rate(self) -> float:
        """How much faster than the host clock Pupil time runs: 0.0 alike, 50e-6 for 50 ppm faster."""
        return self.segment.rate

    @property
    def steps(self) -> int:
        """How often the clock has jumped."""
        return self.segment.steps

    def now(self) -> PupilTime:
        """Return the Pupil time of this instant."""
        return self.to_pupil(self._host())

    def set_rate(self, rate: float, at: HostNs | None = None) -> None:
        """Run ``rate`` faster than the host clock from ``at`` on (by default in 20 ms), without a step.

        It does not reach behind the newest segment: that one's beginning takes the place of an earlier ``at``.

        Raises:
            ClockError: ``rate`` is beyond +-5000e-6.
            ClockHeld: the clock is held, and ``rate`` is beyond +-1000e-6.
        """
        if not abs(rate) <= MAX_RATE:
            raise ClockError(f"clock rate {rate!r} is out of range: wanted at most {MAX_RATE} either way")
        with self._writing():
            if self.held and abs(rate) > MAX_HELD_RATE:
                raise ClockHeld(
                    f"clock rate {rate!r} {self._HELD}: wanted at most {MAX_HELD_RATE} either way", hint=self._HINT
                )
            last = self.segment
            while True:
                begin = HostNs(max(last.host, self._host() + _LEAD_NS if at is None else at))
                self._write(Segment(begin, last.pupil_ns_at(begin), rate, last.steps, last.number + 1))
                # A writer that was kept from running meanwhile begins later once more.
                if at is not None or self._host() < begin - _LEAD_NS // 2:
                    break
            self._publish(last.number + 1)

    def jump_to(self, target: PupilTime, at: HostNs | None = None) -> None:
        """Let Pupil time be ``target`` at host time ``at`` (now, if not given), and go on from there at the same rate.

        What was before ``at`` keeps its times.

        Raises:
            ClockHeld: the clock is held.
            ClockError: ``target`` is not a finite number within +-9e9 seconds.
        """
        if not -9e9 < target < 9e9:
            raise ClockError(f"Pupil time {target!r} is out of range: wanted seconds between -9e9 and 9e9")
        with self._writing():
            if self.held:
                raise ClockHeld(f"the clock cannot be set {self._HELD}", hint=self._HINT)
            last = self.segment
            begin = self._host() if at is None else at
            self._write(Segment(begin, round(target * 1e9), last.rate, last.steps + 1, last.number + 1))
            self._publish(last.number + 1)


class PupilClock(BentClock):
    """The adjustable Pupil clock, shared by all processes of one daemon through a file.

    It is a chain of ``Segment``: for a host time the newest one holds that begins at or before it, so that the
    conversion is the same in every process, whenever it is asked for. The last 63 segments are there; what lies before
    them is on the line of the oldest. Readers never wait. Writers exclude each other by a lock on the file.

    Pupil time never goes backwards but by ``jump_to``, which is refused with ``ClockHeld`` while a recording holds the
    clock. A clock is made once with ``create`` (by the supervisor) and opened by everybody else.

    Raises:
        ClockError: the file is missing, damaged, or is not a clock.
    """

    _HELD, _HINT = "during a recording", "stop the recording first: gazed record stop"

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise ClockError(f"clock file {path}: {error.strerror}", hint="is the daemon running?") from error
        if (size := os.fstat(self._file).st_size) != _SIZE:
            os.close(self._file)
            raise ClockError(f"clock file {path} has {size} bytes, wanted {_SIZE}")
        self._map = mmap.mmap(self._file, _SIZE)
        self._words = memoryview(self._map).cast("q")
        self._lock = threading.Lock()
        if self._words[_AT_MAGIC] != _MAGIC:
            self.close()
            raise ClockError(f"{path} is not a gazed clock file")
        try:
            self._cached = self._load()
        except ClockError:
            self.close()
            raise

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a new clock: Pupil time is at first the host's monotonic time in seconds."""
        first = struct.pack(f"={_LINE}q", _MAGIC, *[0] * (_LINE - 1)) + _pack(Segment(HostNs(0), 0))
        path.write_bytes(first.ljust(_SIZE, b"\0"))
        return cls(path)

    @property
    def segment(self) -> Segment:
        """The newest segment. One that only changes the rate begins 20 ms after it was set."""
        if self._words[_AT_NEWEST] != self._cached.number:
            self._cached = self._load()
        return self._cached

    @property
    def held(self) -> bool:
        """Whether a recording holds the clock."""
        return bool(self._words[_AT_HOLD])

    def hold(self) -> None:
        """Refuse jumps from now on; the recorder calls this when a recording starts."""
        with self._writing():
            self._words[_AT_HOLD] = 1

    def release(self) -> None:
        """Allow jumps again."""
        with self._writing():
            self._words[_AT_HOLD] = 0

    def segments(self, after: int = -1) -> list[Segment]:
        """Return the segments that are there of those numbered above ``after``, oldest first."""
        found = [self.segment]
        while found[-1].number > max(after + 1, 0) and (older := self._read(found[-1].number - 1)):
            found.append(older)
        return [segment for segment in reversed(found) if segment.number > after]

    def segment_at(self, host: HostNs) -> Segment:
        """Return the segment that holds at a host time."""
        segment = self.segment
        while host < segment.host and (older := self._read(segment.number - 1)):
            segment = older
        return segment

    def to_pupil(self, host: HostNs) -> PupilTime:
        """Convert host time to Pupil time."""
        start, pupil_ns, rate, _, number = self._cached
        if host < start or self._words[_AT_NEWEST] != number:
            start, pupil_ns, rate, _, _ = self.segment_at(host)
        elapsed = host - start
        return PupilTime((pupil_ns + elapsed + round(elapsed * rate)) / 1e9)

    def to_host(self, timestamp: PupilTime) -> HostNs:
        """Convert Pupil time to host time, on the times since the last jump; to the nanosecond within 50 days."""
        segment, wanted = self.segment, round(timestamp * 1e9)
        while wanted < segment.pupil_ns and (older := self._read(segment.number - 1)) and older.steps == segment.steps:
            segment = older
        return segment.to_host(timestamp)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _write(self, segment: Segment) -> None:
        line = _LINE * (1 + segment.number % _KEPT)
        self._words[line : line + _LINE] = memoryview(_pack(segment)).cast("q")

    def _publish(self, number: int) -> None:
        self._words[_AT_NEWEST] = number

    def _load(self) -> Segment:
        # More than one try is needed only if the ring goes around while this process is kept from running.
        for _ in range(1000):
            if found := self._read(self._words[_AT_NEWEST]):
                return found
        raise ClockError("the clock file is damaged", hint="restart the daemon")

    def _read(self, number: int) -> Segment | None:
        """Return a segment, or nothing if it is no longer, or not yet, there as a whole."""
        line = _LINE * (1 + number % _KEPT)
        # The sum makes up for the order of writes, which not every processor keeps.
        host, pupil_ns, rate, steps, found, total, *_ = words = self._words[line : line + _LINE].tolist()
        if found != number or total != _sum(words):
            return None
        return Segment(HostNs(host), pupil_ns, struct.unpack("=d", struct.pack("=q", rate))[0], steps, number)

    def close(self) -> None:
        """Give the shared page back; the clock is unusable afterwards. Closing twice is fine."""
        if not self._map.closed:
            self._words.release()
            self._map.close()
            os.close(self._file)

    def __enter__(self) -> PupilClock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _sum(words: list[int]) -> int:
    host, pupil_ns, rate, steps, number, *_ = words
    return ~(host ^ pupil_ns ^ rate ^ steps ^ (number << 8))


def _pack(segment: Segment) -> bytes:
    host, pupil_ns, rate, steps, number = segment
    words = list(struct.unpack("=5q", struct.pack("=qqdqq", host, pupil_ns, rate, steps, number)))
    return struct.pack(f"={_LINE}q", *words, _sum(words), 0, 0)
