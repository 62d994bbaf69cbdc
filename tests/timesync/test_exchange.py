import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_timesync import ClockError, Exchange, HostNs
from gazed_timesync.sync.estimator import Estimator
from gazed_timesync.sync.exchange import pack_exchanges, unpack_exchanges

ints = st.integers(-(2**62), 2**62).map(HostNs)
times = st.floats(allow_nan=True, allow_infinity=True)
exchanges = st.builds(Exchange, ints, times, times, ints)


@given(st.lists(st.builds(Exchange, ints, st.floats(allow_nan=False), st.floats(allow_nan=False), ints), max_size=5))
def test_exchanges_come_out_of_a_log_as_they_went_in(made):
    assert unpack_exchanges(pack_exchanges(made)) == made


def test_a_log_that_is_cut_is_refused():
    with pytest.raises(ClockError, match="33 bytes"):
        unpack_exchanges(bytes(33))


@pytest.mark.parametrize(
    ("exchange", "sound"),
    [
        (Exchange(HostNs(0), 5.0, 5.0, HostNs(10_000)), True),
        (Exchange(HostNs(0), 5.0, 5.000_009, HostNs(10_000)), True),
        (Exchange(HostNs(0), 5.0, 5.001, HostNs(10_000)), False),
        (Exchange(HostNs(0), 5.001, 5.0, HostNs(10_000)), False),
        (Exchange(HostNs(10), 5.0, 5.0, HostNs(0)), False),
        (Exchange(HostNs(0), math.nan, 5.0, HostNs(10_000)), False),
        (Exchange(HostNs(0), 5.0, math.inf, HostNs(10_000)), False),
        (Exchange(HostNs(0), 1e300, 1e300, HostNs(10_000)), False),
    ],
)
def test_what_cannot_be_times_is_told_from_what_can(exchange, sound):
    assert exchange.sound is sound


@given(st.lists(exchanges, max_size=40))
def test_an_estimator_survives_any_exchanges(made):
    estimator = Estimator()
    for exchange in made:
        estimator.add(exchange)
        estimate = estimator.estimate(exchange.received)
        assert estimate is None or (estimate.bound_s >= 0 and abs(estimate.skew) < 1e-3)
