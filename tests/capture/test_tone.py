"""The simulated microphone makes what its formula says, when it says so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gazed_bus.frame import Frame
from gazed_capture.errors import DeviceLost, SourceNotFound, SourceOptionError
from gazed_capture.sound import BLOCK
from gazed_capture.tone import ToneSource
from gazed_timesync import host_now


def listen(source: ToneSource, blocks: int) -> list[Frame]:
    frames: list[Frame] = []
    while len(frames) < blocks:
        frame = source.read(0.05)
        if frame is not None:
            frames.append(frame)
    return frames


def click_times(frames: list[Frame], rate: float) -> list[float]:
    """Return when clicks begin, in seconds of the host's clock."""
    sound = np.concatenate([np.frombuffer(frame.payload, "<i2")[:: frame.height] for frame in frames])
    onsets = np.flatnonzero((sound[1:] > 16_000) & (sound[:-1] <= 16_000)) + 1
    return [frames[onset // BLOCK].captured_ns / 1e9 + onset % BLOCK / rate for onset in onsets]


@pytest.mark.parametrize("ppm", [0, 10_000])
def test_clicks_begin_when_the_formula_says(ppm: float) -> None:
    source = ToneSource("audio", {"click_every_s": 0.25, "ppm": ppm, "channels": 2})
    source.open()
    frames = listen(source, 40)
    times = click_times(frames, 48_000 * (1 + ppm / 1e6))
    assert len(times) >= 3
    for at in times:
        assert 0 <= (at + 1e-9) % 0.25 < 1 / 48_000 + 2e-9
    step = (frames[-1].captured_ns - frames[0].captured_ns) / 39e9
    assert step == pytest.approx(BLOCK / 48_000 / (1 + ppm / 1e6), rel=1e-6)
    assert all(frame.host_ns - frame.captured_ns >= step * 1e9 - 1 for frame in frames)


def test_the_tone_is_what_was_asked_for() -> None:
    source = ToneSource("audio", {"tone_hz": 1000.0, "rate": 32_000, "click_every_s": 3600.0})
    source.open()
    sound = np.concatenate([np.frombuffer(frame.payload, "<i2") for frame in listen(source, 8)])
    spectrum = np.abs(np.fft.rfft(sound))
    assert spectrum.argmax() / len(sound) * 32_000 == pytest.approx(1000, abs=4)


def test_lost_blocks_are_silence_and_counted() -> None:
    source = ToneSource("audio", {"lose": [1, 3], "rate": 192_000})
    source.open()
    frames = listen(source, 5)
    assert [frame.sequence for frame in frames] == list(range(5))
    assert [any(frame.payload) for frame in frames] == [True, False, True, False, True]
    assert [frame.device_time is None for frame in frames] == [False, True, False, True, False]
    assert source.stats().missed == 2
    half = ToneSource("audio", {"lose": 0.5, "rate": 192_000})
    half.open()
    frames = listen(half, 60)
    assert 10 < half.stats().missed < 50
    assert half.stats().missed == sum(not any(frame.payload) for frame in frames)


def test_a_pulled_cable_is_a_lost_device_that_comes_back(tmp_path: Path) -> None:
    cable = tmp_path / "cable"
    source = ToneSource("audio", {"cable": str(cable)})
    source.open()
    listen(source, 1)
    cable.touch()
    start = host_now()
    with pytest.raises(DeviceLost, match="unplugged"):
        listen(source, 100)
    assert host_now() - start < 1e9
    source.close()
    with pytest.raises(SourceNotFound, match="unplugged"):
        source.find()
    cable.unlink()
    source.open()
    assert listen(source, 1)[0].sequence == 0
    source.close()


def test_a_read_without_patience_returns_at_once() -> None:
    source = ToneSource("audio", {"rate": 8_000})
    source.open()
    start = time.monotonic()
    assert source.read(0) is None
    assert time.monotonic() - start < 0.1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tone": 3}, "tone_hz"),
        ({"rate": 48_000.5}, "rate is a whole number from 8000 to 192000"),
        ({"channels": True}, "channels"),
        ({"tone_hz": float("nan")}, "tone_hz"),
        ({"ppm": "fast"}, "ppm"),
        ({"lose": 1.0}, "lose"),
        ({"lose": [-1]}, "lose"),
        ({"cable": 3}, "cable"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(SourceOptionError) as refusal:
        ToneSource("audio", options)
    assert text in str(refusal.value)
