"""USB devices and their descriptors, read from a tree of files as the kernel writes it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_capture.usb import usb_devices, usb_parent
from gazed_capture.usb_testing import plug_in, pull_out, video_descriptors
from gazed_capture.uvc_descriptors import CameraMode, read_streaming

MODES = (CameraMode("mjpeg", 192, 192, 0.005), CameraMode("mjpeg", 1280, 720, 1 / 30), CameraMode("gray", 64, 48, 0.02))


def test_devices_are_read_without_opening_them(tmp_path: Path) -> None:
    plug_in(tmp_path, "usb1", address=1, product="xHCI Host Controller", video=False)
    plug_in(tmp_path, "1-2.4", address=17, product="Pupil Cam2 ID0", serial="A1", descriptors=b"\x12\x01")
    plug_in(tmp_path, "1-3", address=4, product="Keyboard", video=False, speed="1.5")
    camera, keyboard, hub = usb_devices(tmp_path)
    assert [hub.name, camera.name, keyboard.name] == ["xHCI Host Controller", "Pupil Cam2 ID0", "Keyboard"]
    assert (camera.path, camera.bus, camera.address, camera.serial) == ("1-2.4", 1, 17, "A1")
    assert (camera.vendor, camera.product, camera.speed_mbit) == (0x1209, 0x0001, 480.0)
    assert (camera.node, camera.controller, camera.room) == ("/dev/bus/usb/001/017", "usb1", 6000)
    assert camera.descriptors == b"\x12\x01"
    assert [device.is_camera for device in (hub, camera, keyboard)] == [False, True, False]
    assert keyboard.room == 0


def test_a_machine_without_usb_has_no_devices(tmp_path: Path) -> None:
    assert usb_devices(tmp_path / "none") == []


def test_strings_that_a_device_lacks_are_empty(tmp_path: Path) -> None:
    plug_in(tmp_path, "1-1", address=2)
    (camera,) = usb_devices(tmp_path)
    assert (camera.name, camera.manufacturer, camera.serial) == ("", "", "")


@pytest.mark.parametrize("file", ["busnum", "devnum", "speed", "idVendor"])
@pytest.mark.parametrize("left", [None, ""])
def test_a_device_that_is_just_leaving_is_left_out(tmp_path: Path, file: str, left: str | None) -> None:
    plug_in(tmp_path, "1-1", address=2, product="leaving")
    plug_in(tmp_path, "1-2", address=3, product="staying")
    if left is None:
        (tmp_path / "1-1" / file).unlink()
    else:
        (tmp_path / "1-1" / file).write_text(left)
    assert [device.name for device in usb_devices(tmp_path)] == ["staying"]


def test_a_device_that_was_pulled_out_is_gone(tmp_path: Path) -> None:
    plug_in(tmp_path, "1-1", address=2)
    pull_out(tmp_path, "1-1")
    assert usb_devices(tmp_path) == []


def test_the_parent_of_an_interface(tmp_path: Path) -> None:
    plug_in(tmp_path, "1-1", address=2, product="camera")
    link = tmp_path / "video0"
    link.symlink_to(tmp_path / "1-1:1.0")
    parent = usb_parent(link, tmp_path)
    assert parent is not None
    assert parent.name == "camera"
    assert usb_parent(tmp_path / "platform", tmp_path) is None


def test_descriptors_tell_modes_and_altsettings() -> None:
    streaming = read_streaming(video_descriptors(MODES, (128, 1024, 1600, 3072)))
    assert streaming.modes == tuple(
        CameraMode(mode.format, mode.width, mode.height, pytest.approx(mode.period_s, abs=1e-7)) for mode in MODES
    )
    assert [mode.fps for mode in streaming.modes] == [200, 30, 50]
    assert streaming.packets == (128, 1024, 1600, 3072)
    assert not streaming.is_bulk


def test_a_camera_with_bulk_transfers_is_known() -> None:
    assert read_streaming(video_descriptors(MODES, bulk=True)).is_bulk


def test_a_range_of_rates_shows_its_ends() -> None:
    whole = video_descriptors(MODES[:1])
    ticks = struct.pack("<I", 50_000)
    old = ticks + b"\x01" + ticks
    at = whole.index(old)
    frame = at - 21
    new = ticks + b"\x00" + struct.pack("<III", 50_000, 333_333, 1)
    longer = bytes((whole[frame] + 8,)) + whole[frame + 1 : at] + new
    assert whole[frame + 1 : frame + 3] == b"\x24\x07"
    changed = whole[:frame] + longer + whole[at + len(old) :]
    assert [mode.fps for mode in read_streaming(changed).modes] == [200, 30]


@given(
    st.lists(
        st.builds(
            CameraMode,
            st.just("mjpeg"),
            st.integers(1, 65535),
            st.integers(1, 65535),
            st.integers(1, 2**32 - 1).map(lambda ticks: ticks * 1e-7),
        ),
        max_size=12,
    ),
    st.lists(st.integers(1, 1024) | st.integers(513, 1024).map(lambda n: 2 * n), max_size=8),
)
def test_descriptors_are_read_as_written(modes: list[CameraMode], packets: list[int]) -> None:
    streaming = read_streaming(video_descriptors(modes, packets))
    assert streaming.modes == tuple(modes)
    assert streaming.packets == tuple(packets)


@given(st.binary(max_size=400), st.integers(0, 300), st.integers(0, 255))
def test_no_descriptors_are_too_strange(noise: bytes, at: int, value: int) -> None:
    read_streaming(noise)
    whole = bytearray(video_descriptors(MODES, (128, 1024)))
    read_streaming(whole[:at])
    whole[at % len(whole)] = value
    read_streaming(bytes(whole) + noise)
