import numpy as np
import pytest

from gazed_timesync.devices.device_clock import DeviceClock
from gazed_timesync.devices.offline_clock import refit_arrivals
from gazed_timesync.devices.testing import CameraFrames, Load, camera_frames, map_frames

LOADS: tuple[Load, ...] = ("idle", "load", "stalls")


def refit_ms(frames: CameraFrames, stamps: np.ndarray, fps: float) -> np.ndarray:
    """Return the errors after the fact, ms, from their median; NaN where the stamps are of no use."""
    late = refit_arrivals(stamps, np.array(frames.arrival_ns()), frames.sequence, 1 / fps)
    errors = np.where(late >= 0, frames.arrival_s - late / 1e9 - frames.exposed_s, np.nan) * 1e3
    return errors - np.nanmedian(errors)


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("fps", [30.0, 120.0])
def test_it_is_better_than_what_was_known_then_above_all_at_the_start(load: Load, fps: float) -> None:
    frames = camera_frames(300, fps=fps, load=load, seed=1)
    stamps = frames.ticks / 15e6 + 7
    after = refit_ms(frames, stamps, fps)
    captured, _ = map_frames(DeviceClock(1 / fps), frames, stamps)
    live = (captured - frames.exposed_s) * 1e3
    live -= np.median(live)
    assert np.percentile(np.abs(after), 95) <= min(0.1, np.percentile(np.abs(live), 95))
    begin = frames.exposed_s < 10
    assert np.percentile(np.abs(after[begin]), 95) <= np.percentile(np.abs(live[begin]), 95)


@pytest.mark.parametrize("load", LOADS)
def test_with_all_that_uvc_tells(load: Load) -> None:
    frames = camera_frames(300, load=load, seen="references", ppm=-100, seed=2)
    errors = np.abs(refit_ms(frames, frames.ticks / 15e6 + 7, 120.0))
    assert np.percentile(errors, 95) <= 0.05
    assert errors.max() <= 0.2


def test_a_jump_of_the_stamps_and_lost_frames() -> None:
    frames = camera_frames(120, load="load", seen="references", seed=3)
    stamps = frames.ticks / 15e6 + 7
    stamps[6000:] += 286.3
    keep = np.random.default_rng(3).random(len(stamps)) > 0.1
    errors = refit_ms(frames.only(keep), stamps[keep], 120.0)
    assert np.isnan(errors).sum() <= 10
    assert np.nanpercentile(np.abs(errors), 95) <= 0.05
    assert np.nanmax(np.abs(errors)) <= 0.5


def test_a_stream_that_began_again_is_fitted_for_itself() -> None:
    frames = camera_frames(60, seen="references", seed=4)
    half = len(frames.ticks) // 2
    stamps = frames.ticks / 15e6 + 7
    stamps[half:] = stamps[:half]
    sequence = np.concatenate([np.arange(1, half + 1)] * 2)
    frames = CameraFrames(frames.exposed_s, frames.ticks, frames.arrival_s, sequence)
    assert np.nanpercentile(np.abs(refit_ms(frames, stamps, 120.0)), 95) <= 0.1


@pytest.mark.parametrize("stamps", [np.nan, 0.0, 3.5])
def test_stamps_of_no_use_are_not_used(stamps: float) -> None:
    frames = camera_frames(20, seed=5)
    given = np.full(len(frames.ticks), stamps)
    assert (refit_arrivals(given, np.array(frames.arrival_ns()), frames.sequence, 1 / 120) == -1).all()


def test_nothing_and_next_to_nothing() -> None:
    none = np.zeros(0, np.int64)
    assert len(refit_arrivals(np.zeros(0), none, none, 0.01)) == 0
    one = np.array([10**12])
    assert refit_arrivals(np.array([5.0]), one, np.array([1]), 0.01).tolist() == [-1]
