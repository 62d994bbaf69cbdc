"""All in simulated time. Errors are counted from the median: what even the fastest frame needs is in no clock."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gazed_timesync import HostNs
from gazed_timesync.devices.device_clock import DeviceClock
from gazed_timesync.devices.testing import CameraFrames, Load, camera_frames, libuvc_stamps, map_frames

LOADS: tuple[Load, ...] = ("idle", "load", "stalls")
FPS = 120.0


def stamps_of(frames: CameraFrames) -> NDArray[np.float64]:
    """Stamps of a camera whose counter started 7 s before the host's clock."""
    return frames.ticks / 15e6 + 7


def errors_of(
    frames: CameraFrames,
    stamps: NDArray[np.float64],
    clock: DeviceClock,
    *,
    floor_s: float | None = None,
    outside: float = 2e-4,
) -> NDArray[np.float64]:
    """Map the frames, check what always holds, and return the errors in seconds.

    From 0.1 s on all but ``outside`` of them are within the bound stated.
    """
    captured, bounds = map_frames(clock, frames, stamps)
    assert np.diff(captured).min() >= 0.99e-6
    assert (captured <= frames.arrival_s + 1e-9).all()
    errors = captured - frames.exposed_s
    later = frames.exposed_s > 0.1
    stated = later & np.isfinite(bounds)
    errors -= np.median(errors[stated]) if floor_s is None else floor_s
    assert (np.abs(errors) > bounds)[stated].mean() <= outside
    return errors


def p95(errors: NDArray[np.float64]) -> float:
    return float(np.percentile(np.abs(errors), 95))


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("ppm", [-150, 5, 150])
def test_a_camera_with_a_clock_of_its_own(load: Load, ppm: float) -> None:
    frames = camera_frames(120, fps=FPS, ppm=ppm, load=load, seed=abs(ppm))
    clock = DeviceClock(1 / FPS)
    errors = errors_of(frames, stamps_of(frames), clock)
    assert p95(errors[frames.exposed_s > 10]) <= 0.2e-3
    assert np.abs(errors[frames.exposed_s > 0.1]).max() <= 2e-3
    assert (clock.kind, clock.steps) == ("hardware", 0)
    assert clock.error_s is not None
    assert clock.error_s <= 1e-3


@pytest.mark.parametrize(("fps", "limit_s"), [(5.0, 4e-3), (30.0, 1.3e-3), (200.0, 1e-3)])
def test_any_frame_rate(fps: float, limit_s: float) -> None:
    """The limit is the beat of frames and USB transfers: 4 ms by the number of phases in which they meet."""
    frames = camera_frames(120, fps=fps, load="load", seed=4)
    errors = errors_of(frames, stamps_of(frames), DeviceClock(1 / fps))
    assert p95(errors[frames.exposed_s > 10]) <= limit_s


def test_the_latency_is_taken_off() -> None:
    frames = camera_frames(20, seed=1)
    plain, _ = map_frames(DeviceClock(1 / FPS), frames, stamps_of(frames))
    earlier, _ = map_frames(DeviceClock(1 / FPS, latency_s=0.005), frames, stamps_of(frames))
    assert np.median(plain - earlier) == pytest.approx(0.005, abs=1e-6)


@pytest.mark.parametrize("load", LOADS)
def test_a_late_first_frame_without_a_stamp(load: Load) -> None:
    frames = camera_frames(30, load=load, seed=7, first_late_s=0.03)
    stamps = stamps_of(frames)
    stamps[0] = 0
    errors = errors_of(frames, stamps, DeviceClock(1 / FPS))
    assert np.abs(errors[frames.exposed_s > 0.1]).max() <= 2e-3


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("counted", [True, False])
def test_lost_frames(load: Load, counted: bool) -> None:
    frames = camera_frames(90, load=load, seed=2)
    frames = frames.only(np.random.default_rng(2).random(len(frames.ticks)) > 0.1)
    if not counted:
        rows = len(frames.ticks)
        frames = CameraFrames(frames.exposed_s, frames.ticks, frames.arrival_s, np.arange(1, rows + 1))
    clock = DeviceClock(1 / FPS)
    errors = errors_of(frames, stamps_of(frames), clock)
    assert p95(errors[frames.exposed_s > 10]) <= 0.2e-3
    assert clock.steps == 0


@pytest.mark.parametrize("load", LOADS)
def test_single_glitches_cost_nothing(load: Load) -> None:
    frames = camera_frames(60, load=load, seed=3)
    stamps = stamps_of(frames)
    stamps[50::97] += 0.03
    stamps[90::97] = math.nan
    stamps[120::97] = 0
    clock = DeviceClock(1 / FPS)
    errors = errors_of(frames, stamps, clock, outside=1e-3)  # in the midst of a stall they cost a frame
    assert p95(errors[frames.exposed_s > 10]) <= 0.2e-3
    assert (clock.kind, clock.steps) == ("hardware", 0)


@pytest.mark.parametrize("load", LOADS)
def test_a_counter_that_goes_back_once_adds_a_wrap_for_good(load: Load) -> None:
    frames = camera_frames(60, load=load, seed=4)
    stamps = stamps_of(frames)
    stamps[3000] -= 0.02
    stamps[3000:] += 2**32 / 15e6
    clock = DeviceClock(1 / FPS)
    errors = errors_of(frames, stamps, clock)
    assert p95(errors[frames.exposed_s > 10]) <= 0.5e-3
    assert np.abs(errors[frames.exposed_s > 0.1]).max() <= 3e-3
    assert clock.steps == 1


@pytest.mark.parametrize("load", LOADS)
def test_the_driver_rescales_its_history_every_minute(load: Load) -> None:
    """Steps of 20 to 900 ms of both signs for 15 minutes; the rate of the stamps changes with each."""
    frames = camera_frames(900, fps=60, load=load, seed=5)
    stamps, random = stamps_of(frames), np.random.default_rng(5)
    captured, _ = map_frames(DeviceClock(1 / 60), frames, stamps)
    floor_s = float(np.median(captured - frames.exposed_s))
    for minute in range(1, 15):
        step = random.choice([-1, 1]) * 10 ** random.uniform(-1.7, -0.045)
        after = frames.exposed_s - 60 * minute
        stamps[after > 0] += step * (1 + after[after > 0] / (60 * minute + 200))
    assert (np.diff(stamps) < 0).any()
    clock = DeviceClock(1 / 60)
    errors = errors_of(frames, stamps, clock, floor_s=floor_s)
    assert p95(errors[frames.exposed_s > 10]) <= 1e-3
    assert np.abs(errors[frames.exposed_s > 0.1]).max() <= 10e-3
    assert clock.steps >= 14


def test_the_stamps_of_libuvc() -> None:
    frames = camera_frames(600, fps=30, ppm=60, load="stalls", seed=6)
    stamps = libuvc_stamps(frames)
    errors = errors_of(frames, stamps, DeviceClock(1 / 30))
    library = (stamps - frames.exposed_s)[300:]
    assert p95(library - np.median(library)) > 5 * p95(errors[300:])


@pytest.mark.parametrize("seed", [1, 2])
def test_a_host_too_busy_to_look_makes_the_bound_wide_and_keeps_it_true(seed: int) -> None:
    """Libuvc learns from what it sees late, and corrects its stamps by tens of milliseconds."""
    frames = camera_frames(600, fps=FPS, ppm=50, load="polled", seed=seed)
    floor_s = float((frames.arrival_s - frames.exposed_s).min())
    clock = DeviceClock(1 / FPS)
    errors = errors_of(frames, libuvc_stamps(frames), clock, floor_s=floor_s, outside=0.01)
    assert np.abs(errors[frames.exposed_s > 1]).max() < 0.03


@pytest.mark.parametrize("load", LOADS)
def test_a_camera_without_stamps_but_with_a_steady_rate(load: Load) -> None:
    frames = camera_frames(60, ppm=400, load=load, seed=8)
    frames = frames.only(np.random.default_rng(8).random(len(frames.ticks)) > 0.05)
    clock = DeviceClock(1 / FPS)
    errors = errors_of(frames, np.full(len(frames.ticks), 3.5), clock)
    assert p95(errors[frames.exposed_s > 15]) <= 0.3e-3
    assert clock.kind == "arrival"
    assert clock.error_s is not None


def test_no_stamps_and_no_steady_rate_leaves_the_arrival() -> None:
    frames = camera_frames(60, load="load", seed=9)
    frames = frames.only(np.random.default_rng(9).random(len(frames.ticks)) > 0.1)
    frames = CameraFrames(frames.exposed_s, frames.ticks, frames.arrival_s, np.arange(1, len(frames.ticks) + 1))
    clock = DeviceClock(1 / FPS)
    captured, bounds = map_frames(clock, frames, np.zeros(len(frames.ticks)))
    assert np.isinf(bounds[100:]).all()
    assert (clock.kind, clock.error_s) == ("arrival", None)
    assert np.abs(captured - frames.arrival_s)[100:].max() <= 1e-6


def test_stamps_that_go_wild_are_left_and_taken_up_again() -> None:
    frames = camera_frames(90, load="load", seed=10)
    stamps = stamps_of(frames)
    stamps[3600:7200] += np.random.default_rng(10).uniform(-0.05, 0.05, 3600)
    clock = DeviceClock(1 / FPS)
    kinds = []
    for stamp, arrival, sequence in zip(stamps, frames.arrival_ns(), frames.sequence.tolist(), strict=True):
        clock.map(stamp, arrival, sequence)
        kinds.append(clock.kind)
    assert set(kinds[2:3600]) == set(kinds[7300:]) == {"hardware"}
    assert set(kinds[3700:7200]) == {"arrival"}
    errors = errors_of(frames, stamps, DeviceClock(1 / FPS), outside=5e-3)  # it takes some frames to find out
    assert p95(errors[frames.exposed_s > 10]) <= 0.5e-3


def test_an_exposure_that_rules_the_frame_rate() -> None:
    """30 frames a second in the light, 22 at dusk, then every interval another."""
    random = np.random.default_rng(11)
    periods = np.concatenate([np.full(900, 1 / 30), np.full(900, 1 / 22), random.uniform(0.03, 0.06, 900)])
    exposed = 0.1 + np.cumsum(periods)
    arrival = exposed + 5e-3 + random.exponential(200e-6, len(exposed))
    ticks = np.floor(exposed * (1 + 50e-6) * 15e6).astype(np.int64)
    frames = CameraFrames(exposed, ticks, arrival, np.arange(1, len(exposed) + 1))
    clock = DeviceClock(1 / 30)
    errors = errors_of(frames, stamps_of(frames), clock, outside=3 / 2700)
    assert p95(errors) <= 0.5e-3
    assert (clock.kind, clock.steps) == ("hardware", 0)


@pytest.mark.parametrize("rate", [0.98, 1.02])
def test_a_counter_of_another_frequency_than_declared(rate: float) -> None:
    frames = camera_frames(60, seed=12)
    clock = DeviceClock(1 / FPS)
    captured, _ = map_frames(clock, frames, stamps_of(frames) * rate)
    errors = (captured - frames.exposed_s)[frames.exposed_s > 30]
    assert p95(errors - np.median(errors)) <= 0.5e-3
    assert clock.kind == "hardware"


def test_a_pause_of_an_hour_is_a_new_start() -> None:
    frames = camera_frames(20, seed=13)
    late = frames.exposed_s > 10
    pause = 3600.0 * late
    frames = CameraFrames(
        frames.exposed_s + pause,
        frames.ticks + np.round(pause * 15e6 * (1 - 80e-6)).astype(np.int64),
        frames.arrival_s + pause,
        frames.sequence,
    )
    errors = errors_of(frames, stamps_of(frames), DeviceClock(1 / FPS))
    assert np.abs(errors[frames.exposed_s > 0.1]).max() <= 5e-3


def test_a_new_stream_keeps_the_skew() -> None:
    first = camera_frames(60, ppm=180, seed=14, warm_up_ppm=0)
    again = camera_frames(60, ppm=180, seed=15, warm_up_ppm=0)
    again = CameraFrames(again.exposed_s + 100, again.ticks, again.arrival_s + 100, again.sequence)
    warm, cold = DeviceClock(1 / FPS), DeviceClock(1 / FPS)
    map_frames(warm, first, stamps_of(first))
    warm.reset()
    assert warm.error_s is None
    early = slice(120, 600)
    known = errors_of(again, stamps_of(again) + 500, warm)[early]
    unknown = errors_of(again, stamps_of(again) + 500, cold)[early]
    assert np.ptp(known) < np.ptp(unknown)
    assert warm.steps == 0


def test_a_sequence_that_begins_anew_is_a_new_stream() -> None:
    frames = camera_frames(20, seed=16)
    half = len(frames.ticks) // 2
    sequence = np.concatenate([np.arange(half), np.arange(len(frames.ticks) - half)])
    stamps = stamps_of(frames)
    stamps[half:] += 123.4
    clock = DeviceClock(1 / FPS)
    frames = CameraFrames(frames.exposed_s, frames.ticks, frames.arrival_s, sequence)
    assert np.abs(errors_of(frames, stamps, clock)[frames.exposed_s > 0.1]).max() <= 5e-3
    assert clock.steps == 0


STAMPS = st.one_of(
    st.none(),
    st.floats(),
    st.integers(-3, 3).map(float),
    st.floats(0, 100),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e300, 5e-324, -0.0]),
)


@settings(max_examples=200, deadline=None)
@given(
    period=st.sampled_from([1 / 200, 1 / 120, 1 / 30, 1.0]),
    rows=st.lists(
        st.tuples(STAMPS, st.integers(1000, 2**62) | st.integers(1000, 10**8), st.integers(-(2**63), 2**63)),
        max_size=60,
    ),
    steady=st.integers(0, 40),
)
def test_whatever_comes_in_the_times_rise_and_never_lie_after_the_arrival(period, rows, steady) -> None:
    clock = DeviceClock(period)
    arrival, last = 10**9, -(2**200)
    for index in range(steady):
        arrival += round(period * 1e9)
        last = clock.map(index * period + 1, HostNs(arrival), index)
    for stamp, passed, sequence in rows:
        arrival += passed
        captured = clock.map(stamp, HostNs(arrival), sequence)
        assert isinstance(captured, int)
        assert last < captured <= arrival
        error = clock.error_s
        assert error is None or 0 <= error < math.inf
        last = captured
    assert clock.kind in ("hardware", "arrival")
