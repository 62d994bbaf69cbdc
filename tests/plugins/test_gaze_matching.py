"""Which datums the matchers put together."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_plugins.gaze.matching import LiveMatcher, match_for_calibration, nearest


def _pupil(eye: int, timestamp: float, confidence: float = 1.0) -> dict:
    return {"id": eye, "timestamp": timestamp, "confidence": confidence, "method": "2d c++"}


def _run(pupils: list[dict]) -> list[list[tuple[int, float]]]:
    matcher = LiveMatcher()
    return [[(datum["id"], datum["timestamp"]) for datum in matcher.add(pupil)] for pupil in pupils]


def test_one_eye_alone_is_answered_at_once():
    pupils = [_pupil(1, k / 120) for k in range(30)]
    assert _run(pupils) == [[(1, k / 120)] for k in range(30)]


def test_two_eyes_half_a_frame_apart_make_alternating_pairs():
    stamps = [(k % 2, k / 240) for k in range(20)]
    found = _run([_pupil(*stamp) for stamp in stamps])
    assert found[0] == [stamps[0]]
    assert found[1:] == [sorted([a, b]) for a, b in pairwise(stamps)]


def test_two_eyes_exposed_together_make_pairs_of_which_half_are_simultaneous():
    found = _run([_pupil(eye, k / 120) for k in range(10) for eye in (0, 1)])
    assert found[1::2] == [[(0, k / 120), (1, k / 120)] for k in range(10)]
    assert all(len(match) == 2 for match in found[1:])


def test_an_uncertain_eye_is_mapped_alone_and_so_is_its_partner():
    found = _run([_pupil(0, 1.0), _pupil(1, 1.004, 0.59), _pupil(0, 1.008), _pupil(1, 1.012)])
    assert found == [[(0, 1.0)], [(1, 1.004)], [(0, 1.008)], [(0, 1.008), (1, 1.012)]]


def test_an_eye_that_falls_silent_is_left_behind_within_two_intervals():
    both = [_pupil(k % 2, k / 240) for k in range(100)]
    alone = [_pupil(0, 100 / 240 + k / 120) for k in range(10)]
    found = _run(both + alone)[100:]
    assert [len(match) for match in found] == [2, 2, *[1] * 8]


@pytest.mark.parametrize("rate", [30, 200])
def test_the_cutoff_follows_the_rate_of_the_eyes(rate):
    found = _run([_pupil(k % 2, k / (2 * rate)) for k in range(400)])
    assert all(len(match) == 2 for match in found[200:])
    matcher = LiveMatcher()
    for k in range(800):
        matcher.add(_pupil(k % 2, k / (2 * rate)))
    assert len(matcher.add(_pupil(0, 800 / (2 * rate) + 2.1 / rate))) == 1


def test_one_long_gap_does_not_widen_the_cutoff():
    matcher = LiveMatcher()
    for k in range(100):
        matcher.add(_pupil(k % 2, k / 240))
    matcher.add(_pupil(0, 100.0))
    assert len(matcher.add(_pupil(1, 100.02))) == 1


def test_a_clock_that_is_set_back_pairs_again_at_once():
    early = [_pupil(k % 2, 5 + k / 240) for k in range(10)]
    found = _run([_pupil(k % 2, 1000 + k / 240) for k in range(10)] + early)[10:]
    assert [len(match) for match in found] == [1, *[2] * 9]


def test_a_datum_that_comes_late_still_finds_its_partner():
    matcher = LiveMatcher()
    for k in range(20):
        matcher.add(_pupil(k % 2, k / 240))
    matcher.add(_pupil(0, 22 / 240))
    assert [datum["timestamp"] for datum in matcher.add(_pupil(1, 21 / 240))] == [22 / 240, 21 / 240]


arrivals = st.lists(
    st.tuples(st.integers(0, 1), st.floats(0.0001, 0.05), st.sampled_from([0.3, 0.6, 1.0])), min_size=1, max_size=80
)


@given(arrivals)
def test_every_datum_is_answered_once_and_order_is_kept(steps):
    now, pupils = 0.0, []
    for eye, step, confidence in steps:
        now += step
        pupils.append(_pupil(eye, now, confidence))
    matcher = LiveMatcher()
    means = []
    for pupil in pupils:
        match = matcher.add(pupil)
        assert pupil in match
        assert [datum["id"] for datum in match] in ([0], [1], [0, 1])
        if len(match) == 2:
            assert min(datum["confidence"] for datum in match) >= 0.6
        means.append(sum(datum["timestamp"] for datum in match) / len(match))
    assert means == sorted(means)


@given(arrivals, st.randoms())
def test_datums_out_of_order_are_answered_too(steps, random):
    now, pupils = 0.0, []
    for eye, step, confidence in steps:
        now += step
        pupils.append(_pupil(eye, now, confidence))
    random.shuffle(pupils)
    matcher = LiveMatcher()
    assert all(pupil in matcher.add(pupil) for pupil in pupils)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, unique=True), st.floats(-2e6, 2e6))
def test_nearest_is_the_nearest(stamps, wanted):
    stamps = sorted(stamps)
    assert abs(stamps[nearest(stamps, wanted)] - wanted) == min(abs(stamp - wanted) for stamp in stamps)


def test_halfway_is_the_later_one():
    assert [nearest([1.0, 2.0, 4.0], wanted) for wanted in (0, 1, 1.4, 1.5, 3.0, 9)] == [0, 0, 0, 1, 2, 2]
    with pytest.raises(ValueError, match="no timestamps"):
        nearest([], 1.0)


def test_calibration_takes_the_nearest_of_each_eye_within_a_fifteenth():
    pupils = [_pupil(1, 2.05), _pupil(0, 1.0), _pupil(0, 1.02), _pupil(1, 1.03), _pupil(0, 2.0), _pupil(0, 5.0)]
    refs = [{"timestamp": stamp} for stamp in (1.019, 2.0, 3.0, 5.02)]
    matches = match_for_calibration(refs, pupils)
    stamps = [[datum["timestamp"] for datum in match] for match in matches.binocular]
    assert stamps == [[1.019, 1.02, 1.03], [2.0, 2.0, 2.05]]
    assert [match[1]["timestamp"] for match in matches.right] == [1.02, 2.0, 5.0]
    assert [match[1]["timestamp"] for match in matches.left] == [1.03, 2.05]


def test_a_pair_may_not_be_spread_over_more_than_a_fifteenth():
    matches = match_for_calibration([{"timestamp": 1.0}], [_pupil(0, 0.96), _pupil(1, 1.04)])
    assert [len(found) for found in (matches.binocular, matches.right, matches.left)] == [0, 1, 1]


def test_calibration_without_anything_matches_nothing():
    assert match_for_calibration([], []).binocular == []
    assert match_for_calibration([{"timestamp": 1.0}], []).right == []
