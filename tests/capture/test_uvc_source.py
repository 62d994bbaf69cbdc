"""The source ``uvc`` over a library with all the traps of the real one, and a tree of files for the USB bus."""

from __future__ import annotations

import importlib.util
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gazed_bus.frame import Frame
from gazed_capture.errors import (
    DeviceAmbiguous,
    DeviceLost,
    DeviceRefused,
    NoBandwidth,
    SourceError,
    SourceNotFound,
    SourceOptionError,
)
from gazed_capture.source import Demand, find_source
from gazed_capture.testing import check_source
from gazed_capture.usb_testing import plug_in, pull_out, video_descriptors
from gazed_capture.uvc import UvcSource
from gazed_capture.uvc_descriptors import CameraMode
from gazed_capture.uvc_testing import FakeCamera, FakeUvc

OPTIONS = {"width": 192, "height": 192, "fps": 200}
MODES = (
    CameraMode("mjpeg", 192, 192, 0.005),
    CameraMode("mjpeg", 1280, 720, 333_334e-7),
    CameraMode("gray", 64, 48, 0.01),
)
PACKETS = (128, 512, 768, 1024, 1600, 3060)
DESCRIPTORS = video_descriptors(MODES, PACKETS)


class Bus:
    """A USB bus with the fake library on top."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uvc = FakeUvc()
        self._address = 1

    def plug(self, path: str = "1-1", camera: FakeCamera | None = None, **texts: Any) -> FakeCamera:
        self._address += 1
        camera = camera or FakeCamera()
        plug_in(
            self.root,
            path,
            address=self._address,
            **{"product": "Pupil Cam2 ID0", "serial": "A", "descriptors": DESCRIPTORS, **texts},
        )
        self.uvc.cameras[f"{path.partition('-')[0]}:{self._address}"] = camera
        camera.gone = False
        return camera

    def unplug(self, camera: FakeCamera, path: str = "1-1") -> None:
        camera.gone = True
        pull_out(self.root, path)

    def source(self, stream: str = "eye0", **options: Any) -> UvcSource:
        return UvcSource(stream, {**OPTIONS, **options}, library=self.uvc, sysfs=self.root)


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    return Bus(tmp_path)


def take(source: UvcSource, count: int = 1) -> list[Frame]:
    frames: list[Frame] = []
    end = time.monotonic() + 10
    while len(frames) < count:
        assert time.monotonic() < end
        frame = source.read(0.1)
        if frame is not None:
            frames.append(frame)
    return frames


def test_the_contract(bus: Bus) -> None:
    class Plugged(UvcSource):
        def __init__(self, stream: str, options: dict[str, Any]) -> None:
            super().__init__(stream, {**OPTIONS, **options}, library=bus.uvc, sysfs=bus.root)

    bus.plug()
    check_source(lambda: Plugged("eye0", {}))


def test_it_is_registered() -> None:
    assert find_source("uvc") is UvcSource


def test_without_the_library_cameras_are_listed_and_the_source_says_what_it_needs(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus.plug()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert [device.path for device in UvcSource.devices(bus.root)] == ["1-1"]
    with pytest.raises(SourceOptionError, match="pupil-labs-uvc") as caught:
        UvcSource("eye0", {})
    assert "gazed[uvc]" in caught.value.hint


def test_stream_info_tells_the_camera_and_its_controls(bus: Bus) -> None:
    bus.plug(serial="")
    source = bus.source(controls={"Gain": 7})
    info = source.open()
    source.close()
    assert (info.device, info.serial, info.format) == ("Pupil Cam2 ID0", "1-1", "jpeg")
    assert (info.width, info.height, info.fps, info.clock) == (192, 192, 200, "hardware")
    assert info.controls == {
        "Auto Exposure Mode": 8,
        "Auto Exposure Priority": 1,
        "Absolute Exposure Time": 63,
        "Gain": 7,
        "Absolute Iris": 5,
    }


def test_the_first_frame_which_has_no_stamp_is_left_out(bus: Bus) -> None:
    bus.plug()
    source = bus.source()
    source.open()
    frames = take(source, 20)
    source.close()
    assert all(frame.device_time and frame.device_time > 5000 for frame in frames)
    assert source.stats().delivered == 20


def test_capture_times_follow_the_camera_and_latency_is_subtracted(bus: Bus) -> None:
    bus.plug()
    late = {}
    for latency in (0, 40):
        source = bus.source(latency_ms=latency)
        source.open()
        frames = take(source, 20)
        source.close()
        assert source.stats().clock.kind == "hardware"
        late[latency] = min(frame.host_ns - frame.captured_ns for frame in frames)
    assert late[40] - late[0] == pytest.approx(40e6, abs=10e6)


def test_raw_gray_images(bus: Bus) -> None:
    bus.plug()
    source = bus.source(format="gray", width=64, height=48, fps=100)
    assert source.open().format == "gray"
    (frame,) = take(source)
    source.close()
    assert len(frame.payload) == 64 * 48
    assert isinstance(frame.payload, bytes)


def test_a_mode_the_camera_lacks_is_refused_with_those_it_has(bus: Bus) -> None:
    camera = bus.plug()
    source = bus.source(width=640, height=480)
    with pytest.raises(SourceError, match=r"no mode 640x480@200 mjpeg.*192x192@200, 64x48@30"):
        source.open()
    assert camera.log[-1] == "close"


def test_a_rate_that_the_library_rounds_down_is_found_and_known_exactly(bus: Bus) -> None:
    bus.plug(camera=FakeCamera([(1280, 720, 29)]))
    source = bus.source("world", width=1280, height=720, fps=30)
    assert source.open().fps == 30.0
    source.close()


def test_controls_are_set_after_the_mode_automatics_first(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    camera = bus.plug()
    wanted = {
        "Absolute Exposure Time": 40,
        "Auto Exposure Mode": "manual mode",
        "Auto Exposure Priority": False,
        "Absolute Iris": 9,
    }
    source = bus.source(controls=wanted)
    info = source.open()
    source.close()
    assert camera.log == [
        "open",
        "mode",
        "Auto Exposure Mode",
        "Auto Exposure Priority",
        "Absolute Exposure Time",
        "Absolute Iris ",
        "close",
    ]
    assert info.controls == {
        "Auto Exposure Mode": 1,
        "Auto Exposure Priority": 0,
        "Absolute Exposure Time": 40,
        "Gain": 0,
        "Absolute Iris": 9,
    }
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("Gain", 999, "refused 'Gain' = 999 and keeps 0"),
        ("Gian", 3, "no control 'Gian'; did you mean 'Gain'"),
        ("Auto Exposure Mode", "manul", "takes one of manual mode, auto mode, got 'manul'"),
        ("Gain", "high", "takes a number, got 'high'"),
    ],
)
def test_a_control_that_is_not_taken_over_is_a_warning(
    bus: Bus, caplog: pytest.LogCaptureFixture, name: str, value: object, text: str
) -> None:
    bus.plug()
    source = bus.source(controls={name: value})
    info = source.open()
    source.close()
    assert text in caplog.text
    assert info.controls
    assert info.controls["Gain"] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"width": 0},
        {"height": 3.5},
        {"fps": "30"},
        {"fps": True},
        {"fps": float("nan")},
        {"format": "yuyv"},
        {"controls": ["Gain"]},
        {"bandwidth_factor": -1},
        {"latency_ms": float("inf")},
        {"serial": 5},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SourceOptionError, match=next(iter(options))):
        UvcSource("eye0", options, library=FakeUvc())


def test_a_control_takes_no_fraction() -> None:
    with pytest.raises(SourceOptionError, match="control 'Gain' takes a whole number"):
        UvcSource("eye0", {"controls": {"Gain": 1.5}}, library=FakeUvc())


def test_a_refusal_for_lack_of_rights_names_the_node(bus: Bus) -> None:
    camera = bus.plug()
    camera.open_error = FakeUvc.OpenError("Could not open device. Error: Access denied")
    with pytest.raises(DeviceRefused, match="/dev/bus/usb/001/002") as caught:
        bus.source().open()
    assert "60-gazed.rules" in caught.value.hint
    assert "plugdev" in caught.value.hint


def test_a_camera_that_another_program_has(bus: Bus) -> None:
    camera = bus.plug()
    camera.open_error = FakeUvc.OpenError("Could not open device. Error: Resource busy")
    with pytest.raises(DeviceRefused, match="another program has it"):
        bus.source().open()


@pytest.mark.parametrize(
    "error", [KeyError("processing_unit"), FakeUvc.InitError("Could not init"), FakeUvc.OpenError("Pipe error")]
)
def test_a_camera_that_the_library_cannot_drive(bus: Bus, error: Exception) -> None:
    camera = bus.plug()
    camera.open_error = error
    with pytest.raises(SourceError, match=r"Pupil Cam2 ID0 \(USB 1-1, serial A\) cannot be"):
        bus.source().open()


def test_a_camera_that_leaves_while_it_is_opened(bus: Bus) -> None:
    bus.plug()
    bus.uvc.cameras.clear()
    with pytest.raises(SourceNotFound, match="left"):
        bus.source().open()


def test_after_a_refusal_of_bandwidth_it_is_closed_and_can_be_opened_again(bus: Bus) -> None:
    camera = bus.plug()
    camera.start_error = FakeUvc.InsufficientBandwidthError(
        "Can't start isochronous stream - error: 'Undefined error'."
    )
    source = bus.source()
    with pytest.raises(NoBandwidth, match=r"usb1.*512 bytes"):
        source.open()
    assert camera.log[-1] == "close"
    camera.start_error = None
    source.open()
    take(source)
    source.close()


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        ({"product": ""}, "no product string"),
        ({"descriptors": video_descriptors(MODES, bulk=True)}, "bulk"),
    ],
)
def test_a_camera_that_would_end_the_process_is_refused(bus: Bus, texts: dict[str, Any], text: str) -> None:
    camera = bus.plug(**texts)
    source = bus.source()
    with pytest.raises(SourceError, match=text) as caught:
        source.open()
    assert "v4l2" in caught.value.hint
    assert camera.log == []
    (listed,) = UvcSource.devices(bus.root)
    assert text in listed.problem


def test_silence_is_no_frame_and_no_loss(bus: Bus) -> None:
    camera = bus.plug()
    source = bus.source()
    source.open()
    take(source)
    camera.mute = True
    start = time.monotonic()
    assert source.read(0.05) is None
    assert time.monotonic() - start >= 0.05
    assert source.read(0.0) is None
    camera.mute = False
    take(source)
    source.close()


def test_a_camera_that_is_silent_from_the_start_may_yet_deliver(bus: Bus) -> None:
    camera = bus.plug()
    camera.mute = True
    opened = threading.Thread(target=(source := bus.source()).open)
    opened.start()
    opened.join(10)
    assert source.read(0.01) is None
    camera.mute = False
    (frame,) = take(source)
    source.close()
    assert frame.captured_ns <= frame.host_ns


def test_unplugged_is_lost_and_back_under_a_new_address(bus: Bus) -> None:
    camera = bus.plug()
    source = bus.source(controls={"Gain": 9})
    source.open()
    first = take(source, 5)
    bus.unplug(camera)
    start = time.monotonic()
    with pytest.raises(DeviceLost, match="unplugged"):
        take(source, 10_000)
    assert time.monotonic() - start < 1
    source.close()
    with pytest.raises(SourceNotFound):
        source.open()
    fresh = FakeCamera()
    bus.plug(camera=fresh)
    info = source.open()
    second = take(source, 5)
    source.close()
    assert info.controls
    assert info.controls["Gain"] == 9
    assert second[0].captured_ns > first[-1].captured_ns
    assert source.stats().missed == second[-1].sequence - second[0].sequence - 4


def test_replugged_between_two_reads_is_lost_too(bus: Bus) -> None:
    camera = bus.plug()
    source = bus.source()
    source.open()
    bus.unplug(camera)
    bus.plug(camera=FakeCamera())
    with pytest.raises(DeviceLost):
        source.read(0.1)
    source.close()


def test_images_that_are_broken_are_left_out_and_counted(bus: Bus) -> None:
    camera = bus.plug(camera=FakeCamera([(192, 192, 30)]))
    source = bus.source(fps=30)
    source.open()
    before = take(source)[0].sequence
    camera.next = [FakeUvc.StreamError("JPEG header corrupt."), b"\xff\xd8 cut off"]
    after = take(source)[0].sequence
    source.close()
    stats = source.stats()
    assert stats.corrupt == 2
    assert after - before >= 3
    assert stats.missed == after - before - 1


def test_frames_that_the_library_threw_away_are_missed(bus: Bus) -> None:
    camera = bus.plug(camera=FakeCamera([(192, 192, 30)]))
    source = bus.source(fps=30)
    source.open()
    first = take(source)[0]
    camera.skip = 3
    second = take(source)[0]
    source.close()
    assert second.sequence - first.sequence >= 4
    assert source.stats().missed == second.sequence - first.sequence - 1


def test_an_error_of_the_library_is_told(bus: Bus) -> None:
    camera = bus.plug()
    source = bus.source()
    source.open()
    camera.next = [FakeUvc.StreamError("Input/output error")]
    with pytest.raises(SourceError, match="does not deliver: Input/output error"):
        take(source, 100)
    source.close()


def test_a_camera_that_is_gone_is_never_closed_unless_too_many_are_held(bus: Bus) -> None:
    source = bus.source()
    closed = []
    for _ in range(34):
        camera = bus.plug()
        source.open()
        bus.unplug(camera)
        source.close()
        closed.append("close" in camera.log)
        with pytest.raises(SourceError, match="not open"):
            source.read(0.0)
    assert closed == [False] * 32 + [True] * 2


def test_find_names_the_camera_and_what_it_reserves(bus: Bus) -> None:
    bus.plug()
    bus.plug("1-2", product="Pupil Cam2 ID1", serial="B")
    demand = bus.source(name="*ID1").find()
    assert (demand.device.serial, demand.device.path, demand.device.controller) == ("B", "1-2", "usb1")
    # 192 * 192 / 8 * 2 * 201 / 8000 + 12 = 243.5, and the first altsetting with as much
    assert (demand.reserves, demand.limit) == (512, 6000)
    with pytest.raises(DeviceAmbiguous, match=r"serial A, path 1-1.*serial B, path 1-2"):
        bus.source().find()
    with pytest.raises(SourceNotFound, match="Pupil Cam2 ID0"):
        bus.source(serial="C").find()


@pytest.mark.parametrize(
    ("options", "reserves"),
    [
        ({"width": 1280, "height": 720, "fps": 30}, 1024),
        ({"width": 1280, "height": 720, "fps": 30, "bandwidth_factor": 4}, 3060),
        ({"width": 1280, "height": 720, "fps": 30, "bandwidth_factor": 0}, 3060),
        ({"width": 1920, "height": 1080, "fps": 60}, 3965),
        ({"format": "gray"}, 1024),
    ],
)
def test_reservations_follow_the_formula_of_the_library(bus: Bus, options: dict[str, Any], reserves: int) -> None:
    bus.plug()
    assert bus.source(**options).find().reserves == reserves


def test_what_is_not_on_a_high_speed_bus_shares_nothing(bus: Bus) -> None:
    bus.plug("2-1", speed="5000")
    demand = bus.source().find()
    assert demand == Demand(demand.device, 0, 0)


def test_devices_lists_cameras_with_their_modes(bus: Bus) -> None:
    bus.plug()
    plug_in(bus.root, "1-4", address=9, product="Mouse", video=False)
    (device,) = UvcSource.devices(bus.root)
    assert device.name == "Pupil Cam2 ID0"
    assert device.modes == ((192, 192, 200), (1280, 720, 30), (64, 48, 100))
    assert device.problem == ""


def test_a_machine_without_usb_lists_nothing(tmp_path: Path) -> None:
    assert UvcSource.devices(tmp_path / "none") == []


def test_nothing_is_logged_in_the_ordinary_case(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bus.plug()
    source = bus.source()
    source.open()
    take(source, 3)
    source.close()
    assert caplog.records == []
