"""Blinks: live events and the blinks of a recording."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_bus.codec import Message
from gazed_capture.wearer.truth import load_truth
from gazed_plugins.errors import PluginArgument
from gazed_plugins.events.blink import BlinkDetection
from gazed_plugins.events.blink_offline import blink_response, find_blinks
from gazed_plugins.testing import FakeContext, check_plugin

FPS = 120


def pupil(timestamp: float, confidence: float, eye: int = 0) -> Message:
    topic = f"pupil.{eye}.2d"
    return Message(topic, {"topic": topic, "id": eye, "confidence": confidence, "timestamp": timestamp, "method": "2d"})


def signal(*blinks: tuple[float, float], seconds: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Return times and a confidence that is 0 from the start to the end of each blink, else 1."""
    t = np.arange(round(seconds * FPS)) / FPS + 50
    closed = np.any([(t - 50 >= start) & (t - 50 < end) for start, end in blinks], axis=0)
    return t, np.where(closed, 0.0, 1.0)


def say(t: np.ndarray, confidence: np.ndarray, **args: Any) -> list[dict[str, Any]]:
    context = FakeContext()
    plugin = BlinkDetection(context, args)
    for time, sure in zip(t.tolist(), confidence.tolist(), strict=True):
        plugin.on_message(pupil(time, sure))
    return [message.payload for message in context.published]


def test_it_is_a_plugin_and_says_what_pupil_says() -> None:
    t, sure = signal((1.0, 1.15))
    messages = [pupil(float(time), float(value)) for time, value in zip(t, sure, strict=True)]
    published = check_plugin(BlinkDetection, {"history_length": 0.2}, messages).published
    assert {message.topic for message in published} == {"blinks"}
    datum = published[0].payload
    assert list(datum) == ["topic", "type", "confidence", "base_data", "timestamp", "record"]
    assert datum["record"] is True
    assert datum["base_data"][0] in [message.payload for message in messages]
    assert datum["timestamp"] == datum["base_data"][len(datum["base_data"]) // 2]["timestamp"]


def test_a_blink_is_an_onset_and_then_an_offset() -> None:
    events = say(*signal((1.0, 1.15), (2.5, 2.8)))
    kinds = [event["type"] for event in events]
    runs = [kind for index, kind in enumerate(kinds) if not index or kinds[index - 1] != kind]
    assert runs == ["onset", "offset", "onset", "offset"]
    onset, offset = (next(event for event in events if event["type"] == kind) for kind in ("onset", "offset"))
    assert onset["timestamp"] == pytest.approx(51.0, abs=0.1)
    assert offset["timestamp"] == pytest.approx(51.15, abs=0.1)
    assert all(0.5 < event["confidence"] <= 1 for event in events)


def test_the_response_is_that_of_the_kernel() -> None:
    rng = np.random.default_rng(3)
    t, sure = np.arange(60) / FPS, rng.uniform(0, 1, 60)
    for event in say(t, sure, onset_confidence_threshold=0.0, offset_confidence_threshold=0.0):
        values = np.array([datum["confidence"] for datum in event["base_data"]])
        kernel = np.zeros(len(values))
        kernel[: len(values) // 2], kernel[(len(values) + 1) // 2 :] = 1 / len(values), -1 / len(values)
        response = float(values @ kernel) / 0.45
        assert event["type"] == ("onset" if response > 0 else "offset")
        assert event["confidence"] == pytest.approx(min(abs(response), 1))
        span = event["base_data"][-1]["timestamp"] - event["base_data"][1]["timestamp"]
        assert span <= 0.2 <= event["base_data"][-1]["timestamp"] - event["base_data"][0]["timestamp"]


def test_an_event_that_lasts_is_repeated_30_times_a_second() -> None:
    onsets = [event for event in say(*signal((1.0, 1.5))) if event["type"] == "onset"]
    ends = [event["base_data"][-1]["timestamp"] for event in onsets]
    assert len(onsets) > 1
    assert min(np.diff(ends)) >= 1 / 30 - 1e-9


def test_time_that_goes_back_begins_anew() -> None:
    t, sure = signal((1.0, 1.15))
    first, again = say(t, sure), say(np.concatenate([t, t]), np.concatenate([sure, sure]))
    assert again == first + first


def test_a_datum_of_the_future_costs_a_moment_only() -> None:
    t, sure = signal((1.0, 1.15))
    at = round(0.5 * FPS)
    undisturbed, events = say(t, sure), say(np.insert(t, at, 1e12), np.insert(sure, at, 1.0))
    assert events == undisturbed


def test_while_time_stands_still_nothing_piles_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gazed_plugins.events.blink._MOST", 50)
    plugin = BlinkDetection(FakeContext(), {})
    for _ in range(200):
        plugin.on_message(pupil(1.0, 1.0))
    assert len(plugin._history) == 50


def test_datums_of_two_eyes_may_overtake_each_other() -> None:
    context = FakeContext()
    plugin = BlinkDetection(context, {})
    for time, value in zip(*signal((1.0, 1.15)), strict=True):
        plugin.on_message(pupil(float(time), float(value)))
        plugin.on_message(pupil(float(time) - 0.004, float(value), eye=1))
    event = context.published[0].payload
    assert {datum["id"] for datum in event["base_data"]} == {0, 1}


def test_3d_datums_and_garbage_are_passed_over() -> None:
    context = FakeContext()
    plugin = BlinkDetection(context, {})
    for index in range(200):
        plugin.on_message(Message("pupil.0.3d", {"timestamp": index / FPS, "confidence": float(index < 100)}))
        plugin.on_message(Message("pupil.0.2d", {"timestamp": "now", "confidence": float("nan")}))
    assert not context.published
    assert plugin.stats()["unreadable"] == 200


def test_arguments_have_limits() -> None:
    with pytest.raises(PluginArgument, match="history_length"):
        BlinkDetection(FakeContext(), {"history_length": -1})


def test_a_recording_has_its_blinks() -> None:
    blinks = find_blinks(*signal((1.0, 1.15), (2.5, 2.8)))
    assert [blink.id for blink in blinks] == [1, 2]
    for blink, (start, end) in zip(blinks, ((51.0, 51.15), (52.5, 52.8)), strict=True):
        assert blink.start_timestamp == pytest.approx(start, abs=0.1)
        assert blink.end_timestamp == pytest.approx(end, abs=0.1)
        assert blink.start_timestamp < (start + end) / 2 < blink.end_timestamp
        assert 0 < blink.confidence <= 1


def test_an_onset_right_after_a_blink_starts_there() -> None:
    confidence = [1, 1, 1, 0, 1, 0, 1, 1, 1]
    times = np.arange(9) / 10
    kinds = np.sign(np.trunc(blink_response(times, confidence)))
    assert kinds.tolist() == [-1, 0, 0, 1, -1, 1, -1, 0, 0], "the case is an offset with an onset right behind it"
    first, second = find_blinks(times, confidence)
    assert (first.start, first.end) == (3, 4)
    assert (second.start, second.end) == (5, 6)


def test_the_offline_response_is_a_convolution() -> None:
    rng = np.random.default_rng(5)
    t, sure = np.arange(100) / FPS, rng.uniform(0, 1, 100)
    size = 2 * round(100 * 0.2 / t[-1] / 2)
    kernel = np.r_[np.full(size // 2, 1 / size), np.full(size // 2, -1 / size)]
    full = np.convolve(sure, kernel[::-1])
    middle = (size - 1) // 2
    np.testing.assert_allclose(blink_response(t, sure), full[middle : middle + 100] / 0.45, atol=1e-12)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_short_a_recording_has_no_blinks(count: int) -> None:
    assert find_blinks(np.arange(count) / 1.0, np.ones(count)) == []


@given(st.lists(st.floats(0, 1), max_size=300))
def test_blinks_are_in_order_and_do_not_overlap(confidence: list[float]) -> None:
    t = np.arange(len(confidence)) / FPS
    blinks = find_blinks(t, confidence)
    edges = [edge for blink in blinks for edge in (blink.start, blink.end)]
    assert edges == sorted(edges)
    assert len({blink.start for blink in blinks}) == len(blinks)
    assert [blink.id for blink in blinks] == list(range(1, len(blinks) + 1))
    assert all(t[blink.start] == blink.start_timestamp and 0 < blink.confidence <= 1 for blink in blinks)


@given(st.lists(st.tuples(st.floats(0, 0.05), st.floats(0, 1)), max_size=200))
def test_live_windows_hold_every_datum_in_order(steps: list[tuple[float, float]]) -> None:
    t = np.cumsum([step for step, _ in steps] or [0.0])
    sent = t.tolist()
    for event in say(t, np.array([value for _, value in steps] or [1.0])):
        window = [datum["timestamp"] for datum in event["base_data"]]
        end = len(sent) - sent[::-1].index(window[-1])
        assert any(window == sent[stop - len(window) : stop] for stop in range(len(window), end + 1))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_blinks_of_the_simulated_wearer_are_found(seed: int) -> None:
    rows = load_truth("eye0", {"seed": seed, "width": 96, "height": 96}).rows
    closing = rows["lid_opening"] < 0.5
    starts = rows["loop_s"][np.flatnonzero(np.diff(closing.astype(int)) > 0)]
    noise = np.random.default_rng(seed).normal(0, 0.03, len(rows))
    confidence = np.clip(np.where(closing, 0.1, 0.97) + noise, 0, 1)
    found = find_blinks(rows["loop_s"], confidence)
    assert len(found) == len(starts) > 1
    for blink, start in zip(found, starts, strict=True):
        assert blink.start_timestamp < start + 0.05 < blink.end_timestamp
    events = say(rows["loop_s"], confidence)
    assert all(min(abs(event["timestamp"] - starts)) < 0.3 for event in events)
    for kind in ("onset", "offset"):
        times = np.array([event["timestamp"] for event in events if event["type"] == kind])
        assert all(np.min(np.abs(times - start)) < 0.3 for start in starts)
