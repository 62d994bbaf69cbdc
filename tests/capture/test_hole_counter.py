"""What the kernel's stamps tell of frames that never reached it, and what they do not."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazed_capture.hole_counter import HoleCounter

T = 1 / 120


def feed(stamps: list[float], period: float = T) -> HoleCounter:
    counter = HoleCounter(period)
    numbers = [counter.count(index, stamp) for index, stamp in enumerate(stamps)]
    assert all(b > a for a, b in pairwise(numbers))
    assert numbers[-1] + 1 - len(numbers) == counter.missed
    return counter


def evenly(count: int) -> list[float]:
    return [100 + n * T for n in range(count)]


@given(st.lists(st.integers(10, 190), max_size=6, unique=True), st.integers())
@settings(max_examples=40, deadline=None)
def test_lost_frames_are_counted_in_spite_of_jitter(lost: list[int], seed: int) -> None:
    rng = random.Random(seed)
    apart = [n for n in sorted(lost) if all(abs(n - other) > 8 for other in lost if other < n)]
    stamps = [stamp + rng.uniform(0, 0.25 * T) for n, stamp in enumerate(evenly(220)) if n not in apart]
    assert feed(stamps).missed == len(apart)


@pytest.mark.parametrize("late", [0.9, 1.7, 5.5])
def test_a_stamp_taken_late_is_no_lost_frame(late: float) -> None:
    stamps = evenly(60)
    for k in range(int(late) + 1):
        stamps[30 + k] = max(stamps[30 + k], stamps[30] + late * T + k * 1e-4) if k else stamps[30] + late * T
    assert feed(stamps).missed == 0


def test_a_stop_of_many_frames_is_counted() -> None:
    stamps = evenly(100)
    assert feed(stamps[:40] + stamps[70:]).missed == 30


def test_a_driver_that_stamps_packets_in_bunches_is_believed() -> None:
    """A frame every 5 ms, stamped by a host that looks every 3 ms, or every 4."""
    for every in (3, 4):
        stamps = [-(-n * 5 // every) * every / 1000 for n in range(400)]
        assert feed(stamps, 0.005).missed == 0


def test_a_camera_that_becomes_slower_is_believed_after_some_frames() -> None:
    dark = [101 + 2 * n * T for n in range(200)]
    assert feed(evenly(120) + dark).missed <= 8


def test_what_the_driver_counts_is_counted_once() -> None:
    counter = HoleCounter(T)
    for index in (n for n in range(100) if n % 7):
        counter.count(index, 100 + index * T)
    assert counter.missed == 1 + 14
    assert [HoleCounter(T).count(3, None)] == [3]
