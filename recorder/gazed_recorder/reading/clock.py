"""``RecordedClock``: Pupil time, host time and Unix time of a recording, and the leader's time fitted once more."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from gazed_recorder.clock_log import CLOCK, PAIR, SEGMENT, TIMESYNC
from gazed_recorder.datalog import PldataReader
from gazed_recorder.errors import DamagedFile
from gazed_recorder.manifest import Int64, Manifest
from gazed_timesync import ClockError, ClockPair, HostNs, Segment, UnixNs
from gazed_timesync.sync.exchange import Exchange, unpack_exchanges

__all__ = ["RecordedClock", "Refit", "read_clock"]

Floats = NDArray[np.float64]


class _Segment(msgspec.Struct):
    host_ns: Int64
    pupil_ns: Int64
    rate: Annotated[float, msgspec.Meta(gt=-0.1, lt=0.1)]
    steps: int
    number: int


class _Pair(msgspec.Struct):
    host_ns: Int64
    unix_ns: Int64
    error_ns: Int64


class _Exchanges(msgspec.Struct):
    leader: str
    exchanges: bytes


_Datum = TypeVar("_Datum", bound=msgspec.Struct)
_CLOCK_DATUMS: dict[str, type[_Segment | _Pair]] = {SEGMENT: _Segment, PAIR: _Pair}

_EVERY_S = 5.0
# Two exchanges in a row may differ by this: a second of waiting, at the rate a clock may be slewed by.
_SAME_S = 5e-3
# Pairs further apart than this may differ by drift; nearer ones, by this much, only if somebody set the clock.
_STEP_WITHIN_NS, _STEP_NS = 5_000_000_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Refit:
    """The leader's time, from exchanges before and after each instant; arrays of shape (n,) for n instants."""

    timestamp: Floats
    """Recorded Pupil time, s."""
    correction: Floats
    """What has to be added to it to be the leader's time, s."""
    sigma: Floats
    """Standard deviation of the correction, s."""
    bound: Floats
    """What the correction cannot be wrong by, s."""

    def correct(self, timestamp: Floats) -> Floats:
        """Return the leader's time for recorded Pupil times, both in seconds; outside, the nearest correction holds."""
        return timestamp + np.interp(timestamp, self.timestamp, self.correction)


class RecordedClock:
    """The clocks of a recording.

    In a recording of Pupil Capture's, which does not tell host time, that is Pupil time itself.
    """

    def __init__(
        self, segments: Iterable[Segment], pairs: Sequence[ClockPair], runs: Sequence[Sequence[Exchange]] = ()
    ) -> None:
        self.segments = _in_effect(segments)
        """What Pupil time went by, in order."""
        self.pairs = tuple(sorted(pairs, key=lambda pair: pair.host))
        """Host and Unix time at the same instants."""
        self.runs = runs
        """Exchanges with leaders, each run with one leader and in order."""
        self._hosts = np.array([segment.host for segment in self.segments], np.int64)
        self._pupils = np.array([segment.pupil_ns for segment in self.segments], np.int64)
        self._rates = np.array([segment.rate for segment in self.segments])
        # Offsets from the first pair's: as a float64, Unix time is no finer than 0.2 us.
        self._unix_offset_ns = self.pairs[0].unix - self.pairs[0].host
        self._unix_runs = _runs(self.pairs, self._unix_offset_ns)
        self._unix_hosts, self._unix_offsets = map(np.concatenate, zip(*self._unix_runs, strict=True))

    @overload
    def to_pupil(self, host: int) -> float: ...
    @overload
    def to_pupil(self, host: NDArray[np.int64]) -> Floats: ...
    def to_pupil(self, host: int | NDArray[np.int64]) -> float | Floats:
        """Convert host nanoseconds to Pupil time in seconds, as the daemon did."""
        hosts = np.asarray(host, np.int64)
        at = np.maximum(np.searchsorted(self._hosts, hosts, "right") - 1, 0)
        elapsed = hosts - self._hosts[at]
        result = (self._pupils[at] + elapsed + np.rint(elapsed * self._rates[at]).astype(np.int64)) / 1e9
        return result if isinstance(host, np.ndarray) else float(result)

    @overload
    def to_host(self, timestamp: float) -> int: ...
    @overload
    def to_host(self, timestamp: Floats) -> NDArray[np.int64]: ...
    def to_host(self, timestamp: float | Floats) -> int | NDArray[np.int64]:
        """Convert Pupil time in seconds to host nanoseconds; as exact as a float64 is."""
        stamps = np.rint(np.asarray(timestamp, np.float64) * 1e9).astype(np.int64)
        at = np.maximum(np.searchsorted(self._pupils, stamps, "right") - 1, 0)
        result = self._hosts[at] + np.rint((stamps - self._pupils[at]) / (1 + self._rates[at])).astype(np.int64)
        return result if isinstance(timestamp, np.ndarray) else int(result)

    @overload
    def to_unix(self, timestamp: float) -> float: ...
    @overload
    def to_unix(self, timestamp: Floats) -> Floats: ...
    def to_unix(self, timestamp: float | Floats) -> float | Floats:
        """Convert Pupil time to Unix time, both in seconds; as exact as a float64 is, some 0.2 us."""
        seconds, rest = np.divmod(np.asarray(self.to_unix_ns(timestamp)), 1_000_000_000)
        result = seconds + rest / 1e9
        return result if isinstance(timestamp, np.ndarray) else float(result)

    @overload
    def to_unix_ns(self, timestamp: float) -> int: ...
    @overload
    def to_unix_ns(self, timestamp: Floats) -> NDArray[np.int64]: ...
    def to_unix_ns(self, timestamp: float | Floats) -> int | NDArray[np.int64]:
        """Convert Pupil time in seconds to Unix time in nanoseconds.

        The offset is interpolated between the pairs, unless somebody set the Unix clock there; outside the nearest one
        holds.
        """
        hosts = np.asarray(self.to_host(timestamp))
        offsets = np.rint(np.interp(hosts, self._unix_hosts, self._unix_offsets)).astype(np.int64)
        result = hosts + self._unix_offset_ns + offsets
        return result if isinstance(timestamp, np.ndarray) else int(result)

    @overload
    def from_unix(self, unix: float) -> float: ...
    @overload
    def from_unix(self, unix: Floats) -> Floats: ...
    def from_unix(self, unix: float | Floats) -> float | Floats:
        """Convert Unix time to Pupil time, both in seconds; of times that were shown twice, the later one is taken."""
        times = np.asarray(unix, np.float64)
        hosts, nearest = np.zeros(times.shape), np.full(times.shape, np.inf)
        for run_hosts, beyond in self._unix_runs:
            offsets = self._unix_offset_ns / 1e9 + beyond / 1e9
            shown = run_hosts / 1e9 + offsets
            outside = np.maximum(0, np.maximum(shown[0] - times, times - shown[-1]))
            hosts = np.where(outside <= nearest, times - np.interp(times, shown, offsets), hosts)
            nearest = np.minimum(outside, nearest)
        result = self.to_pupil(np.rint(hosts * 1e9).astype(np.int64))
        return result if isinstance(unix, np.ndarray) else float(result)

    def refit(self, window_s: float = 60.0) -> Refit:
        """Fit the leader's time once more, every 5 s, from the exchanges within half of ``window_s`` either way.

        It is better than what the recording went by, above all in its first half minute: then nobody knew what came.

        Raises:
            ClockError: too few exchanges with a leader were recorded.
        """
        pieces = [piece for run in self.runs for piece in _even(run)]
        rows = [row for piece in pieces for row in self._refit_piece(piece, window_s)]
        if not rows:
            raise ClockError(
                "the recording has too few exchanges with a leader to fit its time",
                hint="record with the plugin Time_Sync as a follower",
            )
        return Refit(*np.array(sorted(rows)).T)

    def _refit_piece(self, run: Sequence[Exchange], window_s: float) -> Iterator[tuple[float, float, float, float]]:
        from gazed_timesync.sync.estimator import Estimator

        half, sent = round(window_s / 2 * 1e9), [exchange.sent for exchange in run]
        count = max(1, round((sent[-1] - sent[0]) / 1e9 / _EVERY_S))
        for at in np.linspace(sent[0], sent[-1], count + 1).astype(np.int64).tolist():
            near = run[bisect.bisect_left(sent, at - half) : bisect.bisect_right(sent, at + half)]
            if found := Estimator.over(near, HostNs(at), window_s):
                timestamp = self.to_pupil(at)
                yield timestamp, found.pupil_ns / 1e9 - timestamp, found.sigma_s, found.bound_s


def read_clock(folder: Path, manifest: Manifest, logs: Sequence[str]) -> RecordedClock:
    """Read the clocks of a recording; ``logs`` are those that it has.

    Raises:
        DamagedFile: a log cannot be read.
    """
    readings = [manifest.start, *manifest.clock, *([manifest.stop] if manifest.stop else [])]
    segments = [Segment(HostNs(manifest.start.host_ns), round(manifest.start.timestamp * 1e9))]
    pairs = {r.host_ns: ClockPair(HostNs(r.host_ns), UnixNs(r.unix_ns), r.error_ns) for r in readings}
    if CLOCK in logs:
        found, logged = _read_log(folder / f"{CLOCK}.pldata")
        segments = found or segments
        pairs.update((pair.host, pair) for pair in logged)
    return RecordedClock(
        segments, [*pairs.values()], _read_runs(folder / f"{TIMESYNC}.pldata") if TIMESYNC in logs else ()
    )


def _read_log(path: Path) -> tuple[list[Segment], list[ClockPair]]:
    segments, pairs = [], []
    for datum in _datums(path, _CLOCK_DATUMS):
        if isinstance(datum, _Segment):
            segments.append(Segment(HostNs(datum.host_ns), datum.pupil_ns, datum.rate, datum.steps, datum.number))
        else:
            pairs.append(ClockPair(HostNs(datum.host_ns), UnixNs(datum.unix_ns), datum.error_ns))
    return segments, pairs


def _read_runs(path: Path) -> list[list[Exchange]]:
    runs: list[list[Exchange]] = []
    leader = ""
    for datum in _datums(path, {"timesync.exchanges": _Exchanges}):
        try:
            exchanges = [exchange for exchange in unpack_exchanges(datum.exchanges) if exchange.sound]
        except ClockError as error:
            raise DamagedFile(f"{path}: {error.message}") from error
        if not runs or datum.leader != leader:
            runs.append([])
        leader = datum.leader
        runs[-1] += exchanges
    return [sorted(run) for run in runs if run]


def _datums(path: Path, kinds: Mapping[str, type[_Datum]]) -> Iterator[_Datum]:
    """Yield the datums of these topics."""
    for topic, payload in PldataReader(path):
        if kind := kinds.get(topic.decode("utf-8", "replace")):
            try:
                yield msgspec.msgpack.decode(payload, type=kind)
            except (msgspec.DecodeError, RecursionError) as error:
                raise DamagedFile(f"{path}: {topic.decode()}: {error}") from error


def _even(run: Sequence[Exchange]) -> list[list[Exchange]]:
    """Cut a run where the leader stepped: where two exchanges in a row have no offset in common."""
    pieces: list[list[Exchange]] = []
    low = high = 0.0
    for exchange in run:
        least, most = exchange.replied - exchange.received / 1e9, exchange.received_by_leader - exchange.sent / 1e9
        if not pieces or least > high + _SAME_S or most < low - _SAME_S:
            pieces.append([])
        pieces[-1].append(exchange)
        low, high = least, most
    return pieces


def _in_effect(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Leave out what later segments took the place of; a number that came twice counts once."""
    kept: list[Segment] = []
    for segment in sorted(set(segments), key=lambda each: each.number):
        while kept and kept[-1].host >= segment.host:
            kept.pop()
        kept.append(segment)
    return tuple(kept)


def _runs(pairs: Sequence[ClockPair], base: int) -> list[tuple[Floats, Floats]]:
    """Return host times and offsets of Unix time beyond ``base``, both ns, to interpolate between; anew after steps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for number, pair in enumerate(pairs):
        offset = pair.unix - pair.host
        if number:
            last = pairs[number - 1]
            before = last.unix - last.host
            if abs(offset - before) > _STEP_NS and pair.host - last.host < _STEP_WITHIN_NS:
                middle = (last.host + pair.host) // 2
                runs[-1].append((middle, before - base))
                runs.append([(middle + 1, offset - base)])
        runs[-1].append((pair.host, offset - base))
    return [(columns[0], columns[1]) for columns in (np.array(run, np.float64).T for run in runs)]
