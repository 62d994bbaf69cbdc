"""Source ``v4l2`` on real drivers: vivid, which also fails on request, and uvcvideo with emulated cameras."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from usbcam.pictures import read_counter

from gazed.testing import wait_for
from gazed_bus.frame import Frame
from gazed_capture import v4l2_structs
from gazed_capture.errors import DeviceLost, DeviceRefused, SourceError, SourceNotFound
from gazed_capture.testing import check_source
from gazed_capture.v4l2 import V4l2Source
from gazed_capture.v4l2_node import Node
from vm.plug import plug, set_fault, unplug

VIVID = {"name": "vivid*", "format": "gray", "width": 320, "height": 180, "fps": 30}
EYE = {"serial": "EMU0001", "width": 192, "height": 192, "fps": 30}
LIBRARY = """
import sys
from gazed_capture.uvc import UvcSource
source = UvcSource("eye0", {"serial": "EMU0001", "width": 192, "height": 192, "fps": 30})
source.open()
print("open", flush=True)
sys.stdin.read()
source.close()
"""

Open = Callable[..., V4l2Source]


@pytest.fixture
def opened() -> Iterator[Open]:
    sources = []

    def opened(**options: Any) -> V4l2Source:
        sources.append(V4l2Source("eye0", options))
        sources[-1].open()
        return sources[-1]

    yield opened
    for source in sources:
        source.close()


def read(source: V4l2Source, count: int) -> list[Frame]:
    frames = []
    end = time.monotonic() + 60
    while len(frames) < count:
        assert time.monotonic() < end, f"only {len(frames)} of {count} frames"
        frame = source.read(0.5)
        if frame is not None:
            frames.append(frame)
    return frames


def read_until_lost(source: V4l2Source) -> DeviceLost:
    with pytest.raises(DeviceLost) as caught:
        read(source, 10_000)
    return caught.value


def number(frame: Frame) -> int:
    """Return the number that is drawn into an image of an emulated camera."""
    gray = cv2.imdecode(np.frombuffer(frame.payload, np.uint8), cv2.IMREAD_GRAYSCALE)
    return read_counter(gray)


@contextmanager
def button(source: V4l2Source, name: str) -> Iterator[Callable[[], None]]:
    """Find one of vivid's buttons, which are no controls that a camera would have, and yield what presses it."""
    node = Node(Path(source.find().device.path))
    query = v4l2_structs.QueryControl()
    while query.name != name.encode():
        query = v4l2_structs.QueryControl(id=query.id | 0x8000_0000)
        node.call(v4l2_structs.QUERYCTRL, query)
    yield lambda: node.call(v4l2_structs.S_CTRL, v4l2_structs.ControlValue(id=query.id, value=1))
    node.close()


@pytest.mark.parametrize("form", ["gray", "yuyv"])
def test_vivid_keeps_the_contract(form: str) -> None:
    check_source(lambda: V4l2Source("world", {**VIVID, "format": form}))


def test_a_kernels_stamps_are_kept_and_never_later_than_the_arrival(opened: Open) -> None:
    """Vivid stamps ahead of time."""
    for options in (VIVID, EYE):
        for frame in read(opened(**options), 10):
            assert frame.device_time is not None
            assert frame.captured_ns <= frame.host_ns
            assert abs(frame.device_time - frame.captured_ns / 1e9) < 0.1


def test_buffers_that_the_driver_drops_are_counted(opened: Open) -> None:
    source = opened(**VIVID, controls={"Percentage of Dropped Buffers": 30})
    frames = read(source, 60)
    source.close()
    assert source.stats().missed == frames[-1].sequence + 1 - len(frames) > 0
    opened(**VIVID, controls={"Percentage of Dropped Buffers": 0})


def test_a_damaged_image_is_counted_and_left_out(opened: Open) -> None:
    source = opened(**VIVID)
    with button(source, "Inject V4L2_BUF_FLAG_ERROR") as press:
        # The driver needs a free buffer for its error.
        read(source, 20)
        press()
        frames = read(source, 10)
    assert source.stats().corrupt == 1
    assert source.stats().missed == frames[-1].sequence + 1 - source.stats().delivered >= 1


def test_a_driver_that_gives_up_is_a_lost_device_that_comes_back(opened: Open) -> None:
    source = opened(**VIVID)
    with button(source, "Inject Fatal Streaming Error") as press:
        press()
    read_until_lost(source)
    source.open()
    read(source, 2)


@contextmanager
def fault(name: str, value: object) -> Iterator[None]:
    set_fault(0, name, value)
    try:
        yield
    finally:
        set_fault(0, name, 0)


def test_every_image_arrives_once_and_in_order_or_is_counted(opened: Open) -> None:
    with fault("skip", 20):
        frames = read(opened(**EYE), 150)
    drawn = [number(frame) for frame in frames]
    assert all(b > a for a, b in pairwise(drawn))
    # A hole is counted when it lasts; the last frames may still be short of it.
    assert frames[-1].sequence - frames[0].sequence >= drawn[-9] - drawn[0]


def test_images_that_are_cut_off_are_counted_and_left_out(opened: Open) -> None:
    source = opened(**EYE)
    with fault("truncate", 10):
        frames = read(source, 50)
    assert all(number(frame) % 10 for frame in frames)
    assert 0 < source.stats().corrupt <= source.stats().missed


def test_controls_are_read_back() -> None:
    source = V4l2Source("eye0", {**EYE, "controls": {"Gain": 7, "Auto Exposure": "Manual Mode", "Gamma": 10_000}})
    info = source.open()
    source.close()
    assert info.controls is not None
    assert (info.controls["Gain"], info.controls["Auto Exposure"]) == (7, 1)
    assert info.controls["Gamma"] <= 500
    assert (info.source, info.serial, info.fps, info.clock) == ("v4l2", "EMU0001", 30, "kernel")


def test_a_mode_that_is_not_there_is_refused_with_those_that_are(opened: Open) -> None:
    with pytest.raises(SourceError, match=r"no mode 193x192@30 mjpeg; its modes are mjpeg: .*192x192@120"):
        opened(**{**EYE, "width": 193})


@pytest.mark.parametrize("options", [VIVID, EYE])
def test_a_camera_has_one_reader(opened: Open, options: dict[str, Any]) -> None:
    opened(**options)
    with pytest.raises(DeviceRefused, match="another program has it"):
        opened(**options)


def test_a_silent_camera_is_no_lost_one(opened: Open) -> None:
    source = opened(**EYE)
    read(source, 2)
    with fault("mute", True):
        while source.read(0.5) is not None:
            pass
        assert source.read(0.5) is None
    read(source, 2)


def test_an_unplugged_camera_is_lost_and_found_under_its_serial_number(opened: Open) -> None:
    source = opened(**EYE)
    read(source, 2)
    unplug(0)
    pulled = time.monotonic()
    lost = read_until_lost(source)
    assert "Pupil Cam2 ID0" in lost.message
    # Far more than it takes, far less than a reader that waits for a frame that never comes.
    assert time.monotonic() - pulled < 5
    source.close()
    with pytest.raises(SourceNotFound, match="EMU0001"):
        source.open()
    plug(0)
    wait_for(lambda: any(device.serial == "EMU0001" for device in V4l2Source.devices()))
    source.open()
    assert [frame.sequence for frame in read(source, 3)] == [0, 1, 2]


def test_the_library_takes_a_camera_away_and_gives_it_back(opened: Open) -> None:
    source = opened(**EYE)
    read(source, 2)
    other = subprocess.Popen([sys.executable, "-c", LIBRARY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        read_until_lost(source)
        source.close()
        assert other.stdout.readline() == "open\n"
        with pytest.raises(SourceNotFound):
            source.open()
    finally:
        other.communicate()
    wait_for(lambda: any(device.serial == "EMU0001" for device in V4l2Source.devices()))
    source.open()
    read(source, 2)
