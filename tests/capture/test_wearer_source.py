"""The simulated source behaves like a camera on a bus: paced, lossy, and sometimes unplugged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gazed_bus.frame import Frame
from gazed_capture.errors import DeviceLost, SourceError, SourceNotFound, SourceOptionError
from gazed_capture.simulated import SimulatedSource
from gazed_capture.wearer.truth import load_truth
from gazed_timesync import host_now

TINY: dict[str, Any] = {"width": 64, "height": 64, "seconds": 1.0, "fps": 200}


@pytest.fixture
def opened() -> Iterator[Any]:
    """Open sources of tiny streams, and close them at the end."""
    sources: list[SimulatedSource] = []

    def open_source(stream: str = "eye0", **options: Any) -> SimulatedSource:
        source = SimulatedSource(stream, {**TINY, **options})
        source.open()
        sources.append(source)
        return source

    yield open_source
    for source in sources:
        source.close()


def _frames(source: SimulatedSource, count: int) -> list[Frame]:
    frames = [source.read(1.0) for _ in range(count)]
    assert all(frame is not None for frame in frames)
    return [frame for frame in frames if frame is not None]


def test_exposures_are_exactly_periodic_and_arrive_later(opened: Any) -> None:
    source = opened(fps=90, jitter_ms=1.0)
    frames = _frames(source, 12)
    captured = np.array([frame.captured_ns for frame in frames])
    sequence = np.array([frame.sequence for frame in frames])
    steps = np.diff(captured) - np.diff(sequence) * 1e9 / 90
    assert np.abs(steps).max() <= 1
    assert all(frame.host_ns - frame.captured_ns >= 2_000_000 for frame in frames)
    assert np.std(np.diff([frame.host_ns for frame in frames])) > 0
    device = np.array([frame.device_time for frame in frames])
    np.testing.assert_allclose(np.diff(device), np.diff(sequence) / 90, atol=1e-9)
    stats = source.stats()
    assert (stats.clock.kind, stats.clock.error_s) == ("simulated", 0.0)
    assert stats.delivered == 12
    assert stats.delivered + stats.missed == sequence[-1] + 1


def test_device_clock_drifts_as_told(opened: Any) -> None:
    frames = _frames(opened(ppm=10_000), 10)
    device = frames[-1].device_time - frames[0].device_time
    host = (frames[-1].captured_ns - frames[0].captured_ns) / 1e9
    assert device / host == pytest.approx(1.01, rel=1e-6)


def test_cameras_see_the_same_moment_and_the_truth_knows_it(opened: Any) -> None:
    world, right, left = opened("world", fps=50), opened("eye0"), opened("eye1")
    for source in (world, right, left):
        frame = _frames(source, 1)[0]
        options = {**TINY, "fps": 50 if source is world else 200}
        row = load_truth(frame.stream, options).at(frame.captured_ns)
        assert abs(row["loop_s"] - frame.captured_ns % 10**9 / 1e9) < 1e-6


def test_read_without_a_frame_returns_none(opened: Any) -> None:
    source = opened(fps=4)
    _frames(source, 1)  # the next is a quarter of a second away
    assert source.read(0.0) is None
    assert source.read(0.02) is None


def test_listed_frames_never_arrive_and_are_counted(opened: Any) -> None:
    source = opened(skip=[0, 3, 4], fps=50)
    sequence = [frame.sequence for frame in _frames(source, 4)]
    assert not {0, 3, 4} & set(sequence)
    assert source.stats().missed == sequence[-1] + 1 - 4
    assert source.stats().missed >= 3


def test_a_rate_of_losses_is_the_same_each_time(opened: Any) -> None:
    def lost() -> set[int]:
        source = opened(skip=0.4, fps=400)
        sequence = {frame.sequence for frame in _frames(source, 30)}
        assert source.stats().missed == max(sequence) + 1 - 30
        return set(range(40)) - sequence

    # A busy machine may lose more, but what the option takes is lost both times.
    assert len(lost() & lost()) > 5


def test_a_late_reader_misses_what_the_driver_cannot_hold(opened: Any) -> None:
    source = opened(fps=400, jitter_ms=0)
    first = _frames(source, 1)[0]
    time.sleep(0.05)
    asked = host_now()
    late = _frames(source, 1)[0]
    assert late.sequence - first.sequence >= 15
    assert late.captured_ns > asked - 2_000_000 - 4 * 2_500_000
    assert source.stats().missed == late.sequence + 1 - 2


def test_pulling_the_cable_is_seen_at_once_and_mended_by_opening_again(tmp_path: Path) -> None:
    cable = tmp_path / "unplugged"
    source = SimulatedSource("eye0", {**TINY, "fps": 1, "cable": str(cable)})
    source.open()
    pull = threading.Timer(0.03, cable.touch)
    pull.start()
    start = host_now()
    with pytest.raises(DeviceLost, match="wearer-1-eye0 was unplugged"):
        _frames(source, 9)
    pull.join()
    assert host_now() - start < 2e9
    cable.unlink()
    with pytest.raises(DeviceLost):
        source.read(0.0)
    cable.touch()
    with pytest.raises(SourceNotFound) as refused:
        source.open()
    assert str(cable) in refused.value.hint
    cable.unlink()
    assert source.open().serial == "wearer-1-eye0"
    source.close()
    source.close()
    with pytest.raises(SourceError, match="not open"):
        source.read(0.0)


def test_info_tells_the_exact_lens() -> None:
    source = SimulatedSource("world", {**TINY, "fps": 20})
    info = source.open()
    source.close()
    assert (info.width, info.height, info.fps, info.format, info.clock) == (64, 64, 20.0, "jpeg", "simulated")
    assert info.intrinsics == {
        "camera_matrix": [[40.0, 0.0, 31.5], [0.0, 40.0, 31.5], [0.0, 0.0, 1.0]],
        "dist_coefs": [[0.0] * 5],
        "cam_type": "radial",
        "resolution": [64, 64],
    }


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"widht": 400}, "'widht'"),
        ({"width": 401}, "even numbers"),
        ({"width": 400.5}, "a whole number from 64 to 4096"),
        ({"fps": 0}, "a number from 1 to 1000"),
        ({"fps": True}, "fps"),
        ({"seed": -1}, "seed"),
        ({"seconds": 0.1}, "seconds"),
        ({"jitter_ms": "a"}, "jitter_ms"),
        ({"skip": 1.0}, "skip"),
        ({"skip": [-1]}, "skip"),
        ({"cable": 5}, "the path of a file"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], wanted: str) -> None:
    with pytest.raises(SourceOptionError, match=wanted):
        SimulatedSource("eye0", options)


def test_other_streams_are_refused_and_the_three_are_listed() -> None:
    with pytest.raises(SourceOptionError, match="world, eye0, eye1"):
        SimulatedSource("eye2", {})
    assert [device.serial for device in SimulatedSource.devices()] == [
        "wearer-1-world",
        "wearer-1-eye0",
        "wearer-1-eye1",
    ]
