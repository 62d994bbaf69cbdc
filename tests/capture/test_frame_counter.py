"""Frames are counted as the camera made them, whatever the driver's numbers and stamps do."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from gazed_capture.frame_counter import FrameCounter
from gazed_timesync import HostNs

PERIOD = 1 / 120
FAR = 11_000.0


def count(frames: Iterable[tuple[int, float | None, float]], period: float = PERIOD) -> tuple[list[int], int]:
    """Return the sequence numbers and the missed frames of (index, stamp, arrival) in seconds."""
    counter = FrameCounter(period)
    numbers = [counter.count(index, stamp, HostNs(round(arrival * 1e9))) for index, stamp, arrival in frames]
    return numbers, counter.missed


def stream(made: Iterable[int], *, indexed: bool, late: float = 0.0, seed: int = 1) -> list[tuple[int, float, float]]:
    """Return frames ``made``, numbered as made or as sent, that arrive up to ``late`` seconds late."""
    chance = random.Random(seed)
    return [
        (number if indexed else place, FAR + number * PERIOD, 5 + number * PERIOD + chance.random() * late)
        for place, number in enumerate(made)
    ]


@pytest.mark.parametrize("late", [0.0, 0.003])
@pytest.mark.parametrize("indexed", [True, False], ids=["numbered", "not numbered"])
def test_gaps_count_whether_the_driver_knows_them_or_not(indexed: bool, late: float) -> None:
    made = [n for n in range(400) if n not in (50, 51, 52, 200) and n < 300] + list(range(340, 380))
    numbers, missed = count(stream(made, indexed=indexed, late=late))
    assert numbers == made
    assert missed == 4 + 40


def test_late_arrivals_are_no_gaps() -> None:
    frames = [(n, FAR + n * PERIOD, 5 + n * PERIOD + (0.09 if n % 7 == 0 else 0)) for n in range(300)]
    numbers, missed = count(frames)
    assert numbers == list(range(300))
    assert missed == 0


@pytest.mark.parametrize("step", [0.868, 0.02, -0.537, -0.02, 286.33, 3 * PERIOD, -3 * PERIOD])
def test_a_jump_of_the_stamps_is_no_gap_and_hides_none_after_it(step: float) -> None:
    made = [n for n in range(600) if n != 500]
    frames = [(i, s + (step if s >= FAR + 300 * PERIOD else 0), a) for i, s, a in stream(made, indexed=False)]
    assert count(frames) == (made, 1)


def test_a_clock_that_drifts_counts_the_same() -> None:
    made = [n for n in range(120 * 300) if n % 5000 != 17]
    frames = [(i, s * (1 + 150e-6), a) for i, s, a in stream(made, indexed=False, late=0.002)]
    numbers, missed = count(frames)
    assert missed == 36000 - len(made)
    assert numbers[-1] == made[-1]


def test_a_rate_that_is_off_its_name_is_learned() -> None:
    made = [*range(200), *range(260, 400)]
    numbers, _ = count(stream(made, indexed=False), period=PERIOD * 1.04)
    assert numbers == made


def test_a_camera_that_exposes_longer_is_believed_after_some_frames() -> None:
    made = [*range(100), *range(100, 600, 2)]
    _, missed = count(stream(made, indexed=False))
    assert 0 < missed <= 10


def test_without_stamps_the_driver_is_believed() -> None:
    frames = [(index, None, index * PERIOD) for index in (1, 2, 5, 6)]
    assert count(frames) == ([0, 1, 4, 5], 2)


def test_one_constant_stamp_is_as_good_as_none() -> None:
    frames = [(index, 70.0, index * PERIOD) for index in range(1, 50)]
    assert count(frames) == (list(range(49)), 0)


def test_a_stamp_that_is_missing_now_and_then_does_no_harm() -> None:
    frames = [(i, None if i % 10 == 3 else s, a) for i, s, a in stream(range(100), indexed=True)]
    assert count(frames) == (list(range(100)), 0)
