from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_recorder.errors import NotARecording
from gazed_recorder.reader import Recording
from gazed_recorder.reading.correlate import correlate
from gazed_recorder.testing import make_recording

FRAMES = np.array([1.0, 2.0, 4.0])
TIMES = st.lists(st.integers(0, 400).map(lambda tick: tick / 16), max_size=30)


def the_seeds_rule(data: list[float], timestamps: list[float]) -> list[int]:
    """Walk datums and frames side by side, as ``correlate_data`` of Pupil's documentation describes it."""
    index = [-1] * len(data)
    frame = number = 0
    while number < len(data) and frame + 1 < len(timestamps):
        if data[number] <= (timestamps[frame] + timestamps[frame + 1]) / 2.0:
            index[number] = frame
            number += 1
        else:
            frame += 1
    return index


@pytest.mark.parametrize(
    ("timestamp", "nearest", "midpoint"),
    [(0.0, 0, 0), (1.4, 0, 0), (1.5, 1, 0), (1.6, 1, 1), (2.9, 1, 1), (3.0, 2, 1), (3.1, 2, -1), (9.0, 2, -1)],
)
def test_two_rules_and_what_they_do_halfway(timestamp: float, nearest: int, midpoint: int) -> None:
    assert correlate(np.array([timestamp]), FRAMES, "nearest").tolist() == [nearest]
    assert correlate(np.array([timestamp]), FRAMES, "midpoint").tolist() == [midpoint]


@given(TIMES, TIMES)
def test_the_midpoint_rule_is_the_seeds(data: list[float], frames: list[float]) -> None:
    data, frames = sorted(data), sorted(frames)
    assert correlate(np.array(data), np.array(frames), "midpoint").tolist() == the_seeds_rule(data, frames)


@given(TIMES, TIMES)
def test_the_nearest_frame_is_nearest(data: list[float], frames: list[float]) -> None:
    frames = sorted(set(frames))
    found = correlate(np.array(data), np.array(frames), "nearest")
    for timestamp, index in zip(data, found.tolist(), strict=True):
        assert (index == -1) == (not frames)
        if frames:
            # Of two equally near frames the later one.
            assert index == max(range(len(frames)), key=lambda number: (-abs(frames[number] - timestamp), number))


def test_an_unknown_rule_is_refused() -> None:
    rule: Any = "next"
    with pytest.raises(ValueError, match="wanted nearest or midpoint"):
        correlate(np.array([1.0]), FRAMES, rule)


def test_a_recording_correlates_its_tables(tmp_path: Any) -> None:
    recording = Recording(make_recording(tmp_path, frames=12, datums=20))
    world = recording.world.timestamps
    stamps = recording.gaze["timestamp"]
    away = np.abs(world[recording.correlate(recording.gaze)] - stamps)
    np.testing.assert_allclose(away, np.abs(world[:, None] - stamps).min(axis=0), atol=1e-12)
    with pytest.raises(NotARecording, match="no stream 'world'"):
        Recording(make_recording(tmp_path, streams=("eye0",))).correlate(recording.gaze)
