"""The clock of a sound stream is told by what it shows, and followed when somebody sets it."""

from __future__ import annotations

import pytest

from gazed_timesync import HostNs, UnixNs
from gazed_timesync.stream_clock import StreamClock

S = 1_000_000_000
UNIX_S = 1_790_000_000


@pytest.mark.parametrize(("kind", "offset_s"), [("monotonic", 0), ("realtime", UNIX_S), ("other", 77_000)])
def test_each_clock_is_told_from_the_others(kind: str, offset_s: int) -> None:
    clock = StreamClock()
    for k in range(20):
        delay = (k % 7 + 1) * 100_000
        stream_ns = (500 + k) * S
        host = HostNs(stream_ns + delay)
        clock.observe(stream_ns / S + offset_s, host, UnixNs(host + UNIX_S * S))
        assert clock.kind == kind
    assert clock.to_host(519.0 + offset_s) == pytest.approx(519 * S, abs=100_500)


def test_a_step_of_the_unix_clock_moves_nothing() -> None:
    clock = StreamClock()
    for step_s in (0, 3600, -0.3, 7e8, -2e8):
        unix = round((UNIX_S + step_s) * S)
        clock.observe(unix / S, HostNs(500 * S), UnixNs(unix))
        assert clock.kind == "realtime"
        assert clock.to_host(unix / S - 0.1) == pytest.approx(499.9 * S, abs=1000)


def test_one_reading_that_took_long_moves_nothing() -> None:
    clock = StreamClock()
    clock.observe(500.0 + UNIX_S, HostNs(500 * S), UnixNs((500 + UNIX_S) * S))
    clock.observe(501.0 + UNIX_S, HostNs(504 * S), UnixNs((504 + UNIX_S) * S))
    assert clock.to_host(501.0 + UNIX_S) == pytest.approx(501 * S, abs=1000)
