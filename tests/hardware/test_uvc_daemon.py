"""The whole daemon on emulated USB cameras: what it records, and what it does when a camera misbehaves."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from usbcam import SET_CUR, Camera, Server, read_counter

from gazed.config import load_config
from gazed.errors import StartFailed
from gazed.testing import wait_for
from gazed.trial import Trial
from gazed_recorder.manifest import Manifest, StreamReport
from gazed_recorder.reader import Recording
from gazed_recorder.verify import verify

FPS = 200
PERIOD_S = 1 / FPS
PU, GAIN, GAMMA = 2, 4, 9


@contextmanager
def eyes(root: Path, **options: Mapping[str, Any]) -> Iterator[Trial]:
    """Run a daemon with eye cameras of 192x192 at 200 Hz; ``options`` adds some for each stream."""
    size = {"width": 192, "height": 192, "fps": FPS}
    streams = {name: {"source": "uvc", "options": {**size, **more}} for name, more in options.items()}
    settings = {"root": str(root), "floor_mb": 1, "warn_mb": 100}
    with Trial(load_config(overrides={"recorder": settings, "streams": streams})) as trial:
        yield trial


def recorded(folder: Path, stream: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the number in each recorded image, and its timestamp."""
    numbers, stamps = [], []
    for frame in Recording(folder).frames(stream):
        gray = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
        numbers.append(read_counter(gray))
        stamps.append(frame.timestamp)
    return np.array(numbers), np.array(stamps)


def assert_sound(folder: Path) -> Manifest:
    assert verify(folder).problems == []
    return Manifest.load(folder)


def assert_every_image_has_its_own_time(folder: Path, stream: str, camera: Camera, report: StreamReport) -> None:
    """Hold the decoded video against the camera: order, time of each image, and each missing one counted."""
    numbers, stamps = recorded(folder, stream)
    assert (np.diff(numbers) > 0).all()
    assert (np.diff(stamps) > 0).all()
    errors = stamps - np.array([camera.truth[number] / 1e9 for number in numbers.tolist()])
    assert 0 < np.median(errors) < PERIOD_S
    assert np.abs(errors - np.median(errors)).max() < 0.8 * PERIOD_S
    absent = int(numbers[-1] - numbers[0]) + 1 - len(numbers)
    assert absent == report.missed + sum(report.dropped.values()) + report.lost
    assert len(numbers) == report.written


def count(trial: Trial, stream: str) -> int:
    return int(trial.remote.status()["streams"][stream]["frames"])


def test_ten_thousand_images_sit_at_their_own_times_or_are_counted_as_missing(
    usb: Callable[..., Server], tmp_path: Path
) -> None:
    clean, faulty = Camera(serial="A"), Camera(serial="B", clock_ppm=150)
    usb(clean, faulty)
    with eyes(tmp_path, eye0={"serial": "A"}, eye1={"serial": "B"}) as daemon:
        folder = Path(daemon.remote.start("ten thousand").rec_path)
        first = max(len(camera.truth) for camera in (clean, faulty))
        broken = range(first + 100, first + 4600)
        faulty.faults.skip = lambda number: number in broken and number % 500 == 77
        faulty.faults.truncate = lambda number: number in broken and number % 500 == 177
        faulty.faults.garbage = lambda number: number in broken and number % 500 == 277
        wait_for(lambda: min(len(camera.truth) for camera in (clean, faulty)) >= first + 5000, 60)
        assert 9 <= daemon.remote.status()["streams"]["eye1"]["corrupt"] <= 18
        daemon.remote.stop()
    manifest = assert_sound(folder)
    assert_every_image_has_its_own_time(folder, "eye0", clean, manifest.streams["eye0"])
    assert_every_image_has_its_own_time(folder, "eye1", faulty, manifest.streams["eye1"])
    assert manifest.streams["eye1"].missed >= 27
    assert {manifest.streams[eye].info["serial"] for eye in ("eye0", "eye1")} == {"A", "B"}


def test_a_camera_pulled_out_while_recording_comes_back_as_what_it_was(
    usb: Callable[..., Server], tmp_path: Path
) -> None:
    pulled, other = Camera(serial="A"), Camera(serial="B")
    pulled.faults.stall.add((SET_CUR, GAIN))
    server = usb(pulled, other)
    controls = {"Auto Exposure Mode": 1, "Gamma": 200, "Gain": 7}
    with (
        eyes(tmp_path, eye0={"serial": "A", "controls": controls}, eye1={"serial": "B"}) as daemon,
        daemon.remote.subscribe("notify.camera.") as events,
    ):
        folder = Path(daemon.remote.start("pulled").rec_path)
        wait_for(lambda: len(pulled.truth) > 200)
        server.unplug(0)
        out_at = daemon.remote.time()
        lost = events.receive(5).payload
        assert (lost["subject"], lost["stream"]) == ("camera.lost", "eye0")
        assert lost["timestamp"] - out_at < 1.0
        assert "unplugged" in lost["reason"]
        wait_for(lambda: daemon.remote.status()["streams"]["eye0"]["state"] == "lost")
        pulled.knobs[PU, GAMMA].value = 100
        server.plug(0)
        back_at = daemon.remote.time()
        found = events.receive(10).payload
        assert (found["subject"], found["stream"], found["serial"]) == ("camera.found", "eye0", "A")
        assert found["timestamp"] - back_at < 3.0
        again = len(pulled.truth)
        wait_for(lambda: len(pulled.truth) > again + 200)
        daemon.remote.stop()
    manifest = assert_sound(folder)
    eye0, eye1 = manifest.streams["eye0"], manifest.streams["eye1"]
    assert pulled.knobs[PU, GAMMA].value == 200
    assert eye0.info["controls"].items() >= {"Auto Exposure Mode": 1, "Gamma": 200, "Gain": 0}.items()
    assert eye0.gap_count >= 1
    assert recorded(folder, "eye0")[0][-1] > again
    assert_every_image_has_its_own_time(folder, "eye1", other, eye1)
    assert (eye1.dropped, eye1.lost) == ({}, 0)


def test_silence_is_told_and_the_stream_goes_on_by_itself(usb: Callable[..., Server], tmp_path: Path) -> None:
    camera = Camera()
    usb(camera)
    with eyes(tmp_path, eye0={}) as daemon, daemon.remote.subscribe("notify.camera.") as events:
        folder = Path(daemon.remote.start("silence").rec_path)
        camera.faults.mute = True
        assert events.receive(5).payload["subject"] == "camera.silent"
        wait_for(lambda: daemon.remote.status()["streams"]["eye0"]["state"] == "silent")
        camera.faults.mute = False
        assert events.receive(5).payload["subject"] == "camera.heard"
        before = count(daemon, "eye0")
        wait_for(lambda: count(daemon, "eye0") > before + 50)
        daemon.remote.stop()
    assert_every_image_has_its_own_time(folder, "eye0", camera, assert_sound(folder).streams["eye0"])


def test_a_camera_that_cannot_be_had_says_why_and_is_used_as_soon_as_it_can_be(
    usb: Callable[..., Server], tmp_path: Path
) -> None:
    good, other = Camera(serial="A"), Camera(serial="B")
    server = usb(good, other, budgets={1: 6000})

    def replace(camera: Camera) -> None:
        server.unplug(0)
        server.cameras[0] = camera
        server.plug(0)

    with (
        eyes(tmp_path, eye0={"path": "1-1"}, eye1={"path": "1-2"}) as daemon,
        daemon.remote.subscribe("logging.") as log,
    ):
        folder = Path(daemon.remote.start("cannot be had").rec_path)

        def says(reason: str) -> None:
            wait_for(lambda: reason in daemon.remote.status()["streams"]["eye0"].get("reason", ""))

        def streams() -> None:
            wait_for(lambda: daemon.remote.status()["streams"]["eye0"]["state"] == "streaming")

        server.refuse[0] = errno.EACCES
        replace(good)
        says("may not write /dev/bus/usb/001/")
        server.refuse.clear()
        streams()

        server.budgets[1] = other.reserved + 100
        replace(good)
        says("usb1 has no room left")
        server.budgets[1] = 6000
        streams()

        # The kernel read its strings when it was plugged in; that they fail now is what the library dies of.
        good.faults.strings = False
        replace(good)
        wait_for(lambda: "SIGSEGV" in daemon.remote.status()["processes"]["eye0"]["reason"])
        good.faults.strings = True
        wait_for(lambda: (line := log.receive(5)) and "SIGSEGV" in str(line.payload))
        streams()

        replace(Camera(serial="A", bulk=True))
        says("bulk transfers")
        replace(Camera(name="", serial="A"))
        says("no product string")
        replace(good)
        streams()
        daemon.remote.stop()
    manifest = assert_sound(folder)
    assert_every_image_has_its_own_time(folder, "eye1", other, manifest.streams["eye1"])
    assert (manifest.streams["eye1"].dropped, manifest.streams["eye1"].lost) == ({}, 0)


def test_two_cameras_that_fit_are_listed_and_neither_is_taken(usb: Callable[..., Server], tmp_path: Path) -> None:
    usb(Camera(serial="A"), Camera(serial="B"))
    with pytest.raises(StartFailed) as refusal, eyes(tmp_path, eye0={"name": "Pupil Cam2 ID0"}):
        pass
    assert "A" in refusal.value.message
    assert "B" in refusal.value.message
    assert "1-2" in refusal.value.message
