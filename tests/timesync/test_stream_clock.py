import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_timesync import HostNs, UnixNs
from gazed_timesync.devices.stream_clock import StreamClock

HOST = HostNs(50 * 10**9)
UNIX = UnixNs(1_700_000_000 * 10**9)


def test_the_host_clock_is_recognised_and_taken_as_it_is() -> None:
    clock = StreamClock()
    clock.observe(HOST / 1e9 - 0.03, HOST, UNIX)
    assert clock.kind == "monotonic"
    assert clock.to_host(49.123456789) == 49_123_456_789


def test_the_time_of_day_is_recognised_and_followed_when_it_is_set() -> None:
    clock = StreamClock()
    for later, shift in [(0, 0.0), (1, 0.0), (2, 0.4), (3, -3600.0)]:
        host, unix = HostNs(HOST + later * 10**9), UnixNs(UNIX + later * 10**9 + round(shift * 1e9))
        clock.observe(unix / 1e9 - 0.02, host, unix)
        assert clock.kind == "realtime"
        assert clock.to_host(unix / 1e9 - 0.25) == pytest.approx(host - 250_000_000, abs=1000)


def test_any_other_clock_is_placed_by_its_fastest_reading() -> None:
    clock = StreamClock()
    for index in range(100):
        stream = 7 + index * 0.02
        late = 0.0002 if index == 50 else random.Random(index).uniform(0.001, 0.05)
        clock.observe(stream, HostNs(HOST + round((stream + late) * 1e9)), UnixNs(UNIX + round(stream * 1e9)))
    assert clock.kind == "other"
    assert clock.to_host(8.0) == pytest.approx(HOST + 8 * 10**9 + 200_000, abs=1000)


@given(unix=st.integers(10**18, 2 * 10**18), host=st.integers(10**9, 10**16), back_ms=st.integers(0, 900))
def test_a_time_of_day_leads_back_to_the_host(unix: int, host: int, back_ms: int) -> None:
    clock = StreamClock()
    clock.observe(unix / 1e9, HostNs(host), UnixNs(unix))
    assert abs(clock.to_host((unix - back_ms * 1_000_000) / 1e9) - (host - back_ms * 1_000_000)) <= 1000
