"""The capture times of the source ``uvc`` against the camera's true exposures, whatever the camera's clock does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from usbcam import Camera, Server
from uvc_reader import Reading, start_reader

FPS = 120
MODE = {"width": 192, "height": 192, "fps": FPS}
# What the emulated bus adds: it delivers by a clock of its own, in a process that shares the machine.
BUS_S = 0.5e-3


def assert_within_what_is_stated(reading: Reading, camera: Camera) -> None:
    assert (np.diff(reading.captured) > 0).all()
    assert (reading.captured <= reading.arrived).all()
    errors = np.abs(reading.errors(camera.truth))
    # The first frames have nothing but their own arrival to go by, which load may delay by anything.
    known = ~np.isnan(reading.stated) & (reading.captured > reading.captured[0] + 1_000_000_000)
    assert (errors[known] <= reading.stated[known] + BUS_S).all()


def test_times_stay_within_the_stated_error_whatever_the_stamps_do(usb: Callable[..., Server], tmp_path: Path) -> None:
    cameras = {
        "true": Camera(serial="true"),
        "fast": Camera(serial="fast", clock_ppm=150),
        "slow": Camera(serial="slow", clock_ppm=-150),
        "no PTS": Camera(serial="no PTS"),
        "no SCR": Camera(serial="no SCR"),
        "back once": Camera(serial="back once"),
    }
    cameras["no PTS"].faults.pts = False
    cameras["no SCR"].faults.scr = False
    cameras["back once"].faults.early = lambda number: 0.02 if number == 3 * FPS else 0.0
    usb(*cameras.values())
    readers = {name: start_reader({**MODE, "serial": name}, 8, tmp_path) for name in cameras}
    readings = {name: reader.result(30) for name, reader in readers.items()}
    for name, reading in readings.items():
        assert_within_what_is_stated(reading, cameras[name])
        assert (np.diff(reading.numbers) == np.diff(reading.sequence)).all(), name
        assert reading.kind == ("arrival" if name == "no PTS" else "hardware"), name


def test_what_a_busy_host_lets_pass_is_counted(usb: Callable[..., Server], tmp_path: Path) -> None:
    camera = Camera()
    camera.faults.polled_s = 0.05
    usb(camera)
    reading = start_reader(MODE, 4, tmp_path).result(30)
    assert (np.diff(reading.captured) > 0).all()
    assert (np.diff(reading.numbers) == np.diff(reading.sequence)).all()
    assert reading.missed >= np.diff(reading.numbers).max() - 1 > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_times_stay_within_the_stated_error_while_the_library_corrects_its_history(
    usb: Callable[..., Server], tmp_path: Path
) -> None:
    """After six minutes libuvc begins to correct the clock's frequency, and with it all its stamps, in steps.

    One of about whole periods cannot be told from lost frames.
    """
    camera = Camera(clock_ppm=150)
    usb(camera)
    reading = start_reader(MODE, 13 * 60, tmp_path).result(14 * 60)
    steps = np.diff(reading.stamps) * FPS
    assert (np.abs(steps - np.round(steps)) > 0.05).any(), "the library's stamps were to jump"
    assert_within_what_is_stated(reading, camera)
    assert (np.diff(reading.numbers) <= np.diff(reading.sequence)).all(), "each missing frame must be counted"
