import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_timesync import HostNs
from gazed_timesync.devices.sample_clock import SampleClock

RATE, BLOCK = 48000, 1024
START = 10**12


def run(
    seconds: float, *, ppm: float, noise_s: float, seed: int = 0, bad_s: float = 0.0, warm_up_ppm: float = 0.0
) -> tuple[SampleClock, np.ndarray, np.ndarray]:
    """Feed a clock the stamps of a card; return it, the true times of the blocks and the clock's errors, in seconds.

    The card is off by ``ppm`` and warms up; its stamps scatter by ``noise_s`` and are nonsense for the first ``bad_s``.
    """
    random = np.random.default_rng(seed)
    count = int(seconds * RATE / BLOCK)
    nominal = np.arange(count) * BLOCK / RATE
    truth = nominal * (1 + ppm * 1e-6) + warm_up_ppm * 1e-6 * (nominal + 300 * np.expm1(-nominal / 300))
    stamps = truth + random.normal(0, noise_s, count)
    stamps += np.where(random.random(count) < 0.01, random.uniform(-0.1, 0.1, count), 0)
    bad = truth < bad_s
    stamps[bad] = truth[bad] + random.uniform(-0.5, 0.5) * (1 - truth[bad] / (2 * bad_s))
    clock = SampleClock(RATE)
    result = np.empty(count)
    for index, stamp in enumerate(stamps):
        clock.observe(index * BLOCK, HostNs(START + round(stamp * 1e9)))
        result[index] = (clock.time_of(index * BLOCK) - START) / 1e9
    assert (np.diff(result) > 0).all()
    return clock, truth, result - truth


@pytest.mark.parametrize("ppm", [100, -100])
def test_an_hour_of_a_card_that_is_off_by_100_ppm(ppm: float) -> None:
    clock, truth, errors = run(3600, ppm=ppm, noise_s=1e-3, warm_up_ppm=5)
    settled = errors[truth > 30]
    assert np.abs(settled).max() < 1e-3
    assert abs(np.mean(settled[-2000:]) - np.mean(settled[:2000])) < 0.2e-3
    assert clock.skew_ppm == pytest.approx(ppm + 5, abs=3)
    assert clock.rate_hz == pytest.approx(RATE / (1 + (ppm + 5) * 1e-6), abs=0.2)
    assert clock.error_s < 1e-3


@pytest.mark.parametrize("noise_s", [0.3e-3, 3e-3])
def test_the_error_is_within_the_bound_from_the_second_second_on(noise_s: float) -> None:
    outside, seen = 0, 0
    for seed in range(8):
        random = np.random.default_rng(seed)
        clock = SampleClock(RATE)
        for index in range(40 * RATE // BLOCK):
            truth = index * BLOCK / RATE * (1 + 80e-6)
            clock.observe(index * BLOCK, HostNs(START + round((truth + random.normal(0, noise_s)) * 1e9)))
            error = (clock.time_of(index * BLOCK) - START) / 1e9 - truth
            if truth > 2:
                seen += 1
                outside += abs(error) > clock.error_s
    assert outside / seen < 0.02


@pytest.mark.parametrize("seed", range(4))
def test_nonsense_at_the_start_is_forgotten(seed: int) -> None:
    _, truth, errors = run(30, ppm=50, noise_s=0.5e-3, bad_s=1.5, seed=seed)
    assert np.abs(errors[truth < 2]).max() < 0.6
    assert np.abs(errors[truth > 12]).max() < 5e-3


def test_it_runs_on_without_a_step_when_the_stamps_move_for_good() -> None:
    """As when the sound system begins to buffer differently: 30 ms more delay from one block to the next."""
    clock, times = SampleClock(RATE), []
    random = np.random.default_rng(1)
    for index in range(60 * RATE // BLOCK):
        moved = 0.03 if index * BLOCK > 30 * RATE else 0
        stamp = index * BLOCK / RATE + moved + random.normal(0, 0.5e-3)
        clock.observe(index * BLOCK, HostNs(START + round(stamp * 1e9)))
        times.append(clock.time_of(index * BLOCK))
    intervals = np.diff(times) / 1e9
    assert np.abs(intervals - BLOCK / RATE).max() < 0.1 * BLOCK / RATE + 1e-6
    assert (times[-1] - START) / 1e9 == pytest.approx(index * BLOCK / RATE + 0.03, abs=2e-3)
    assert (times[29 * RATE // BLOCK] - START) / 1e9 == pytest.approx(29, abs=0.03)


def test_before_the_first_question_the_line_follows_at_once() -> None:
    clock = SampleClock(RATE)
    for index in range(100):
        stamp = index * BLOCK / RATE + (0.4 if index < 20 else 0.0)
        clock.observe(index * BLOCK, HostNs(START + round(stamp * 1e9)))
    assert (clock.time_of(99 * BLOCK) - START) / 1e9 == pytest.approx(99 * BLOCK / RATE, abs=10e-3)


def test_a_single_stamp_is_a_clock_of_the_nominal_rate() -> None:
    clock = SampleClock(RATE)
    with pytest.raises(ValueError, match="no sample"):
        clock.time_of(0)
    clock.observe(500, HostNs(START))
    assert clock.time_of(500) == START
    assert clock.time_of(500 + RATE) == START + 10**9
    assert clock.skew_ppm == 0


def test_a_second_back_the_answers_stay_what_they_were() -> None:
    clock, answers = SampleClock(RATE), {}
    random = np.random.default_rng(3)
    for index in range(20 * RATE // BLOCK):
        clock.observe(index * BLOCK, HostNs(START + round((index * BLOCK / RATE + random.normal(0, 5e-3)) * 1e9)))
        for back in range(min(index, 44)):
            asked = index * BLOCK - back * BLOCK
            if back:
                assert abs(clock.time_of(asked) - answers[asked]) <= 1
            answers[asked] = clock.time_of(asked)


@given(
    stamps=st.lists(st.tuples(st.integers(1, 50_000), st.floats(-0.6, 0.6)), min_size=1, max_size=200),
    back=st.integers(0, 5000),
)
def test_time_rises_with_the_samples_whatever_the_stamps(stamps: list[tuple[int, float]], back: int) -> None:
    clock, sample, last = SampleClock(RATE), 0, None
    for step, noise in stamps:
        clock.observe(sample, HostNs(START + round((sample / RATE + noise) * 1e9)))
        time = clock.time_of(sample)
        assert last is None or time > last
        assert all(
            a < b for a, b in itertools.pairwise(clock.time_of(s) for s in range(sample - back, sample + 2, 500))
        )
        last = clock.time_of(sample)
        sample += step
