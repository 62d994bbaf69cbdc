"""Fixations: live and in a recording."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_bus.codec import Message
from gazed_bus.errors import CameraModelError
from gazed_plugins.errors import PluginArgument
from gazed_plugins.events.fixation import FixationDetector
from gazed_plugins.events.fixation_offline import find_fixations
from gazed_plugins.events.window import DirectionWindow, dispersion_deg
from gazed_plugins.gaze.camera import default_camera
from gazed_plugins.testing import FakeContext, check_plugin

FPS = 120
CAMERA = default_camera("Pupil Cam1 ID2", 1280, 720)
FLAT = {"camera": "Pupil Cam1 ID2"}
FRAMES = np.arange(200) / 30 + 50


def direction(degrees: float) -> list[float]:
    return [float(np.sin(np.radians(degrees))), 0.1, float(np.cos(np.radians(degrees)))]


def gaze(t: float, degrees: float, *, solid: bool = True, confidence: float = 0.9) -> dict[str, Any]:
    """Return gaze this far to the right of straight ahead."""
    ray = direction(degrees)
    norm = CAMERA.to_norm(CAMERA.project([ray]))[0].tolist()
    topic = "gaze.3d.01." if solid else "gaze.2d.01."
    datum = {"topic": topic, "norm_pos": norm, "confidence": confidence, "timestamp": t, "base_data": []}
    return datum | ({"gaze_point_3d": [700 * value for value in ray]} if solid else {})


def course(*stays: tuple[float, float], **options: Any) -> list[dict[str, Any]]:
    """Return gaze that stays in places: (seconds, degrees) each."""
    places = np.concatenate([np.full(round(seconds * FPS), degrees) for seconds, degrees in stays])
    return [gaze(50 + index / FPS, float(place), **options) for index, place in enumerate(places)]


def say(datums: list[dict[str, Any]], **args: Any) -> list[dict[str, Any]]:
    context = FakeContext()
    plugin = FixationDetector(context, args)
    for datum in datums:
        plugin.on_message(Message(datum["topic"], datum))
    return [message.payload for message in context.published]


KEYS = ["topic", "norm_pos", "dispersion", "method", "base_data", "timestamp", "duration", "confidence"]


@pytest.mark.parametrize("solid", [True, False])
def test_it_is_a_plugin_and_says_what_pupil_says(solid: bool) -> None:
    datums = course((1.0, 5.0), solid=solid)
    messages = [Message(datum["topic"], datum) for datum in datums]
    published = check_plugin(FixationDetector, FLAT | {"max_dispersion": 2}, messages).published
    assert {message.topic for message in published} == {"fixations"}
    datum = published[0].payload
    assert list(datum) == KEYS + ["gaze_point_3d"] * solid + ["id"]
    assert datum["method"] == ("3d gaze" if solid else "2d gaze")
    assert datum["base_data"] == [[each["topic"], each["timestamp"]] for each in datums[: len(datum["base_data"])]]
    assert datum["timestamp"] == 50.0
    assert datum["duration"] == pytest.approx(300, abs=1000 / FPS)
    assert datum["norm_pos"] == pytest.approx(datums[0]["norm_pos"])
    assert datum["confidence"] == pytest.approx(0.9)
    assert datum["dispersion"] == pytest.approx(0, abs=1e-4)


def test_a_fixation_keeps_its_id_while_it_lasts() -> None:
    events = say(course((0.8, 0.0), (0.2, 12.0), (0.8, 20.0)))
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)
    assert {event["id"] for event in events} == {0, 1}
    for event in events:
        assert 280 < event["duration"] < 320
    times = [event["base_data"][-1][1] for event in events if event["id"] == 0]
    assert min(np.diff(times)) >= 1 / 30 - 1e-9


@pytest.mark.parametrize(("step", "count"), [(2.9, 1), (3.1, 2)])
@pytest.mark.parametrize("solid", [True, False])
def test_the_limit_is_3_degrees(step: float, count: int, solid: bool) -> None:
    datums = course((0.5, 0.0), (0.5, step), solid=solid)
    # `direction` also looks 0.1 down, so that angles are a little smaller.
    angle = dispersion_deg(np.array([direction(0), direction(step)]))
    assert step - 0.1 < angle < step
    events = say(datums, max_dispersion=3.0 * angle / step, **FLAT)
    assert len({event["id"] for event in events}) == count
    assert max(event["dispersion"] for event in events) < 3.0


def test_pursuit_is_no_fixation() -> None:
    assert say([gaze(50 + index / FPS, 30 * index / FPS) for index in range(2 * FPS)]) == []


def test_gaze_of_low_confidence_is_passed_over() -> None:
    datums = course((1.0, 0.0))
    blinked = [
        each | {"confidence": 0.3, "gaze_point_3d": [9.0, 9.0, 9.0]} if i % 3 else each for i, each in enumerate(datums)
    ]
    events = say(blinked)
    assert events
    assert all(event["confidence"] == pytest.approx(0.9) for event in events)


def test_nobody_fixates_through_a_gap() -> None:
    datums = [gaze(t, 0.0) for t in (50.0, 50.01, 52.0, 52.01, 52.02)]
    assert say(datums) == []


def test_time_that_goes_back_begins_anew() -> None:
    datums = course((1.0, 0.0))
    first, again = say(datums), say(datums + datums)
    assert again == first + [event | {"id": 1} for event in first]


def test_while_time_stands_still_nothing_piles_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gazed_plugins.events.fixation._MOST", 50)
    plugin = FixationDetector(FakeContext(), {})
    for _ in range(200):
        plugin.on_message(Message("gaze.3d.0.", gaze(1.0, 0.0)))
    assert len(plugin._history) == len(plugin._window) == 50


def test_one_datum_without_3d_makes_the_window_2d() -> None:
    datums = course((2.0, 3.0))
    datums[FPS] = gaze(datums[FPS]["timestamp"], 3.0, solid=False)
    methods = [
        (event["method"], datums[FPS]["timestamp"] in [t for _, t in event["base_data"]]) for event in say(datums)
    ]
    assert {("2d gaze", True), ("3d gaze", False)} == set(methods)


def test_the_world_camera_is_what_the_daemon_tells() -> None:
    context = FakeContext()
    plugin = FixationDetector(context, {})
    world = {"device": "Pupil Cam1 ID2", "info": {"width": 1280, "height": 720, "intrinsics": None}}
    plugin.on_message(Message("gazed.status", {"streams": {"world": world}}))
    plugin.on_message(Message("gazed.status", {"streams": {"world": {"device": "", "info": None}}}))
    plugin.on_message(Message("gazed.status", {"streams": []}))
    flat = course((1.0, 3.0), solid=False)
    for datum in flat:
        plugin.on_message(Message(datum["topic"], datum))
    assert [message.payload for message in context.published] == say(flat, **FLAT)


def test_garbage_is_counted() -> None:
    plugin = FixationDetector(FakeContext(), {})
    good = gaze(50.0, 0.0)
    for bad in ({"timestamp": None}, {"gaze_point_3d": [0, 0, 0]}, {"norm_pos": [float("nan"), 0]}, {"topic": 3}):
        plugin.on_message(Message("gaze.3d.01.", good | bad))
    assert plugin.stats() == {"fixations": 0, "unreadable": 4}


@pytest.mark.parametrize(
    "args", [{"max_dispersion": 0}, {"min_duration": "1"}, {"resolution": [0, 1]}, {"camera": 1}, {"min_duraton": 1}]
)
def test_arguments_are_checked(args: dict[str, Any]) -> None:
    with pytest.raises(PluginArgument, match=next(iter(args))):
        FixationDetector(FakeContext(), args)


def test_an_intrinsics_file_has_to_be_there() -> None:
    with pytest.raises(CameraModelError, match="nowhere"):
        FixationDetector(FakeContext(), {"intrinsics": "/nowhere/world.intrinsics"})


@pytest.mark.parametrize("solid", [True, False])
def test_a_recording_has_its_fixations(solid: bool) -> None:
    stays = ((0.15, 0.0), (0.2, 6.0), (0.1, 12.0))
    found = find_fixations(course(*stays, solid=solid), CAMERA, FRAMES)
    assert [event["id"] for event in found] == [0, 1, 2]
    assert [event["timestamp"] for event in found] == pytest.approx([50, 50.15, 50.35])
    for event, (seconds, _) in zip(found, stays, strict=True):
        assert event["duration"] == pytest.approx(1000 * (seconds - 1 / FPS))
        assert event["start_frame_index"] <= event["mid_frame_index"] <= event["end_frame_index"]
        assert FRAMES[event["start_frame_index"]] >= event["timestamp"]


def test_a_long_fixation_is_cut_at_the_longest_duration() -> None:
    found = find_fixations(course((1.0, 0.0)), CAMERA, FRAMES)
    assert all(event["duration"] <= 220 for event in found)
    assert sum(len(event["base_data"]) for event in found) > 0.9 * FPS


def test_a_short_stay_and_a_gap_are_no_fixations() -> None:
    assert find_fixations(course((0.05, 0.0), (0.05, 6.0), (0.05, 12.0)), CAMERA, FRAMES) == []
    assert find_fixations([gaze(50.0, 0.0), gaze(51.0, 0.0)], CAMERA, FRAMES) == []
    assert find_fixations([], CAMERA, FRAMES) == []


def slow(datums: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Return the fixations as their definition has them: greedy, each end the last at which all gaze is together."""
    t = [datum["timestamp"] for datum in datums]
    rays = np.array([datum["gaze_point_3d"] for datum in datums]).reshape(-1, 3)
    spans, start = [], 0
    while start < len(t):
        ends = [
            end
            for end in range(start + 1, len(t) + 1)
            if 0.08 <= t[end - 1] - t[start] <= 0.22 and dispersion_deg(rays[start:end]) < 1.5
        ]
        if ends:
            spans.append((start, ends[-1]))
            start = ends[-1]
        else:
            start += 1
    return spans


@given(st.lists(st.tuples(st.floats(0.001, 0.06), st.floats(-2, 2)), max_size=80))
def test_one_pass_finds_what_the_definition_says(steps: list[tuple[float, float]]) -> None:
    t = 50 + np.cumsum([step for step, _ in steps] or [0])
    datums = [gaze(float(time), turn) for time, (_, turn) in zip(t, steps, strict=False)]
    found = find_fixations(datums, CAMERA, FRAMES)
    stamps = [datum["timestamp"] for datum in datums]
    spans = [(stamps.index(event["timestamp"]), stamps.index(event["base_data"][-1][1]) + 1) for event in found]
    assert spans == slow(datums)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=600), st.integers(1, 300))
def test_the_window_knows_its_dispersion(places: list[float], length: int) -> None:
    window = DirectionWindow(3.0)
    for index, place in enumerate(places):
        window.append(direction(place))
        if len(window) > length:
            window.pop_first()
        rows = np.array([direction(each) for each in places[max(0, index + 1 - length) : index + 1]])
        if index % 50 == 0 or index == len(places) - 1:
            wanted = dispersion_deg(rows)
            # What the arc cosine makes of the last bit of 1.
            assert window.dispersion_deg() == pytest.approx(wanted, abs=2e-6)
            assert window.is_close == (wanted < 3.0) or abs(wanted - 3.0) < 2e-6
