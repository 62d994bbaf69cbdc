"""What is known of a leader's clock from the exchanges with it: offset, skew, and how sure that is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gazed_timesync.clock import HostNs
from gazed_timesync.sync.corridor import CorridorFit, fit_corridor
from gazed_timesync.sync.edge import lower_edge
from gazed_timesync.sync.exchange import Exchange

__all__ = ["SKEW_SD", "Break", "Estimate", "Estimator"]

SKEW_SD = 50e-6
"""How far off two crystals are that are not known yet, as one standard deviation."""

Break = Literal["leader-stepped", "rate-bent"]

_WINDOW_S = 90.0
_CAPACITY = 4096
_LEAST = 5  # exchanges, before anything is said
_SUSPECTS, _AMONG = 2, 12  # so many exchanges that cannot be, among so many, prove a step
_TOLERANCE_S = 100e-6
_BEND = 60e-6  # of a rate, at most, while nothing but the rate is to blame
_LAGS_S = (3.0, 8.0, 20.0)
_SIGMAS = 4.5
_RESOLUTION_S = 2e-6
_NEW_RATE_MIN = 12  # exchanges that can tell of a bent rate

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """The leader's clock against the host's: ``pupil_ns`` at ``host``, and ``1 + skew`` per host ns from there."""

    host: HostNs
    pupil_ns: int
    skew: float
    sigma_s: float
    """Standard deviation of the offset, in seconds."""
    sigma_skew: float
    bound_s: float
    """What the offset cannot be wrong by, in seconds, at ``host``: causality alone, whatever the network did."""
    exchanges: int

    @property
    def offset_s(self) -> float:
        """How far the leader is ahead of the host's monotonic clock, in seconds."""
        return (self.pupil_ns - self.host) / 1e9

    def pupil_ns_at(self, host: HostNs) -> int:
        """Return the leader's time at a host time, in nanoseconds."""
        elapsed = host - self.host
        return self.pupil_ns + elapsed + round(elapsed * self.skew)

    def bound_at(self, host: HostNs) -> float:
        """Return the bound at a host time, in seconds: it grows with what is not known of the skew."""
        return self.bound_s + abs(host - self.host) * 1e-9 * (4 * self.sigma_skew + 1e-6)

    def sigma_at(self, host: HostNs) -> float:
        """Return the standard deviation of the offset at a host time, in seconds."""
        return float(np.hypot(self.sigma_s, (host - self.host) * 1e-9 * self.sigma_skew))


class Estimator:
    """The leader's clock from the exchanges of the last 90 s.

    A leader that steps, and a rate that bends (a time service that slews either clock, a crystal that warms), are told
    apart from noise; what was before is then forgotten. The corridor itself is ``fit_corridor``.

    Args:
        skew: the expected rate of the leader's clock against the host's, less one; from an earlier acquaintance.
        skew_sd: how far off that may be.
        window_s: how far back exchanges count.
    """

    def __init__(self, skew: float = 0.0, skew_sd: float = SKEW_SD, window_s: float = _WINDOW_S) -> None:
        self._skew, self._skew_sd, self._window_s = skew, skew_sd, window_s
        self._rows = np.empty((_CAPACITY, 4))
        self._begin = self._end = 0
        self._origin: tuple[HostNs, float] | None = None
        self._suspects: list[tuple[float, float, float, float]] = []
        self._fit: CorridorFit | None = None
        self._fit_at = 0.0
        self._fits: deque[tuple[float, CorridorFit]] = deque()
        self._stale = False
        self._breaks: list[Break] = []
        self.refused = 0
        """How many exchanges were no times at all, or contradicted all others."""

    @classmethod
    def over(cls, exchanges: Iterable[Exchange], at: HostNs, window_s: float) -> Estimate | None:
        """Estimate after the fact, from exchanges before and after ``at``, ``window_s`` in all.

        Where the leader steps or a rate bends after ``at``, only those before it count.
        """
        half = round(window_s / 2 * 1e9)
        estimator, near = cls(window_s=window_s), [each for each in exchanges if abs(each.sent - at) <= half]
        for exchange in near:
            if exchange.sent <= at:
                estimator.add(exchange)
        before = estimator.estimate(at)
        estimator.take_breaks()
        for exchange in near:
            if exchange.sent > at:
                estimator.add(exchange)
        around = estimator.estimate(at)
        if around is None or (estimator.take_breaks() and before is not None):
            return before
        return estimator._refitted_at(at)

    def add(self, exchange: Exchange) -> bool:
        """Take in an exchange; tell whether it was taken for good. Exchanges come in the order they were made in."""
        if not exchange.sound:
            self.refused += 1
            return False
        if self._origin is None:
            self._origin = exchange.sent, exchange.received_by_leader
        host, leader = self._origin
        sent, received = (exchange.sent - host) * 1e-9, (exchange.received - host) * 1e-9
        row = (sent, exchange.received_by_leader - leader, exchange.replied - leader, received)
        if self._contradicts(row):
            if self._suspects and not _agree(self._suspects[-1], row):
                self.refused += len(self._suspects)
                self._suspects.clear()
            self._suspects.append(row)
            if len(self._suspects) < _SUSPECTS:
                return False
            # With a small step, or a wide corridor, most exchanges after it can be either side of it.
            since = np.searchsorted(self._rows[: self._end, 0], self._suspects[0][0])
            self._restart(sorted([*self._suspects, *map(tuple, self._rows[since : self._end].tolist())]))
            return True
        self._append(row)
        if self._suspects and self._rows[max(self._begin, self._end - _AMONG), 0] > self._suspects[0][0]:
            self.refused += len(self._suspects)
            self._suspects.clear()
        return True

    def leader_stepped(self) -> None:
        """Forget the offset, but not the skew: the leader says that its clock jumped."""
        self._restart([])

    def estimate(self, now: HostNs) -> Estimate | None:
        """Return what is known of the leader's clock at ``now``, or nothing while fewer than five exchanges agree."""
        if self._stale and self._end - self._begin >= _LEAST:
            self._refit()
        if self._fit is None:
            return None
        found = self._told(self._fit, self._fit_at)
        return Estimate(
            host=now,
            pupil_ns=found.pupil_ns_at(now),
            skew=found.skew,
            sigma_s=found.sigma_at(now),
            sigma_skew=found.sigma_skew,
            bound_s=found.bound_at(now),
            exchanges=found.exchanges,
        )

    def _refitted_at(self, at: HostNs) -> Estimate:
        """Return the estimate for an instant in the midst of the exchanges, where it is surest."""
        assert self._origin is not None  # noqa: S101 - there is an estimate
        at_s = (at - self._origin[0]) * 1e-9
        rows = self._rows[self._begin : self._end]
        return self._told(fit_corridor(rows, at_s, self._skew, self._skew_sd), at_s)

    def _told(self, fit: CorridorFit, at_s: float) -> Estimate:
        """Return a fit for ``at_s`` as it is told."""
        assert self._origin is not None  # noqa: S101 - there is a fit
        host, leader = self._origin
        return Estimate(
            host=HostNs(host + round(at_s * 1e9)),
            pupil_ns=round(leader * 1e9) + round((at_s + fit.offset_s) * 1e9),
            skew=fit.skew,
            sigma_s=fit.sigma_s,
            sigma_skew=fit.sigma_skew,
            bound_s=fit.half_s + abs(at_s - fit.centre_s) * 4 * fit.sigma_skew,
            exchanges=self._end - self._begin,
        )

    def take_breaks(self) -> list[Break]:
        """Return what broke the line since this was asked last."""
        found, self._breaks = self._breaks, []
        return found

    def _contradicts(self, row: tuple[float, float, float, float]) -> bool:
        if self._fit is None:
            return False
        sent, leader_in, leader_out, received = row
        since = (sent + received) / 2 - self._fit_at
        expected = self._fit.offset_s + self._fit.skew * since
        uncertain = self._fit.sigma_s + self._fit.sigma_skew * abs(since)
        tolerance = 6 * uncertain + _BEND * abs(since) + _TOLERANCE_S
        return not leader_out - received - tolerance <= expected <= leader_in - sent + tolerance

    def _restart(self, rows: list[tuple[float, float, float, float]]) -> None:
        if self._fit is not None:
            self._skew, self._skew_sd = self._fit.skew, max(3 * self._fit.sigma_skew, 1e-6)
        self._begin = self._end
        for row in rows:
            self._append(row)
        self._suspects = []
        self._fit = None
        self._fits.clear()
        self._breaks.append("leader-stepped")

    def _append(self, row: tuple[float, float, float, float]) -> None:
        if self._end == _CAPACITY:
            self._begin = max(self._begin, _CAPACITY // 2)
            kept = self._end - self._begin
            self._rows[:kept] = self._rows[self._begin : self._end].copy()
            self._begin, self._end = 0, kept
        self._rows[self._end] = row
        self._end += 1
        self._forget_before(row[3] - self._window_s)
        self._stale = True

    def _forget_before(self, time_s: float) -> None:
        while self._begin < self._end and self._rows[self._begin, 0] < time_s:
            self._begin += 1

    def _refit(self) -> None:
        self._stale = False
        now = float(self._rows[self._end - 1, 3])
        # While a step is suspected, exchanges before and after it are mixed.
        since = None if self._suspects else self._bent_since(now)
        if since is not None:
            self._forget_before(since)
            self._new_rate()
        while (count := self._end - self._begin) >= _LEAST:
            fit = fit_corridor(self._rows[self._begin : self._end], now, self._skew, self._skew_sd)
            if fit.half_s >= 0:
                self._fit, self._fit_at = fit, now
                self._fits.append((now, fit))
                while len(self._fits) > 2 and self._fits[1][0] < now - _LAGS_S[-1]:
                    self._fits.popleft()
                return
            # No line fits all of them; what is newer is more likely of one piece.
            self._begin += max(1, count // 2)
            self._new_rate()
        self._fit = None

    def _new_rate(self) -> None:
        if self._fit is not None:
            self._skew = self._fit.skew
        self._skew_sd = SKEW_SD
        self._fits.clear()
        self._breaks.append("rate-bent")

    def _bent_since(self, now: float) -> float | None:
        """Return since when exchanges no longer lie where an older fit expected them, if they do not."""
        for lag in _LAGS_S:
            before = [each for each in self._fits if each[0] <= now - lag]
            if not before:
                return None
            at, fit = before[-1]
            rows = self._rows[self._begin : self._end]
            rows = rows[np.searchsorted(rows[:, 0], at, side="right") :]
            if len(rows) >= _NEW_RATE_MIN and (since := _surprising(rows, at, fit)) is not None:
                return since
        return None


def _agree(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Whether the leader's clock can have run evenly between two exchanges."""
    return max(one[2] - one[3], other[2] - other[3]) <= min(one[1] - one[0], other[1] - other[0]) + _TOLERANCE_S


def _surprising(rows: Array, at: float, fit: CorridorFit) -> float | None:
    """Return since when the edges of later exchanges lie elsewhere than a fit of ``at`` expects, beyond chance."""
    sent, leader_in, leader_out, received = rows.T
    back = received - (leader_out - leader_in)
    centre = float(sent.mean() + back.mean()) / 2
    ahead = centre - at
    expected = fit.offset_s + fit.skew * ahead
    up = leader_in - sent - fit.skew * (sent - centre) - expected
    low = back - leader_in + fit.skew * (back - centre) + expected
    outside = -np.minimum(up, low) > max(
        _RESOLUTION_S / 2, 4 * (fit.sigma_s + fit.sigma_skew * (float(received[-1]) - at))
    )
    if outside.any():
        return float(sent[np.argmax(outside)])
    count = max(6, min(30, len(rows) // 3))
    (up_edge, up_sd), (low_edge, low_sd) = lower_edge(up, count), lower_edge(low, count)
    sigma = (0.25 * (up_sd**2 + low_sd**2) + fit.sigma_s**2 + (fit.sigma_skew * ahead) ** 2) ** 0.5
    return at if abs(up_edge - low_edge) / 2 > _SIGMAS * sigma + _RESOLUTION_S else None
