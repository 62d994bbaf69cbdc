"""The source of the kernel's cameras, on a kernel that follows a script; the real one is met in the virtual machine."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gazed_capture import v4l2_structs
from gazed_capture.errors import (
    DeviceAmbiguous,
    DeviceLost,
    DeviceRefused,
    NoBandwidth,
    SourceError,
    SourceNotFound,
    SourceOptionError,
)
from gazed_capture.testing import check_source
from gazed_capture.v4l2 import V4l2Source
from gazed_capture.v4l2_node import Capability, ImageFormat, Node, Picture
from gazed_timesync import host_now

SIZE = {"width": 64, "height": 48, "fps": 30}
JPEG = cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 255, (48, 64), np.uint8))[1].tobytes()
MS = 1_000_000


class FakeControl:
    def __init__(self, name: str, value: int, labels: dict[str, int] | None = None) -> None:
        self.display_name = name
        self.d_type: Any = labels or int
        self.value = value

    def refresh(self) -> None:
        self.value = min(self.value, 100)


class FakeNode:
    """A camera node; ``script`` holds pictures, errors, and seconds of silence, and begins anew with each start."""

    def __init__(self, script: list[Any] | None = None, **answers: Any) -> None:
        self.script = script
        self.answers = answers
        self.opened = 0
        self.held = [FakeControl("Gain", 5), FakeControl("Power Line Frequency", 0, {"Off": 0, "50 Hz": 1})]

    def __call__(self, path: Path) -> FakeNode:
        self._answer("open")
        self.path = path
        self.opened += 1
        return self

    def _answer(self, name: str, value: Any = None) -> Any:
        answer = self.answers.get(name, value)
        if isinstance(answer, int) and name in ("open", "set_format", "start"):
            raise OSError(answer, os.strerror(answer))
        return answer

    def capability(self) -> Capability:
        return Capability("fake", "Fake: Fake", self._answer("captures", True))

    def formats(self) -> list[str]:
        return self._answer("formats", ["MJPG", "YUYV", "GREY", "NV12"])

    def modes(self, pixels: str) -> list[tuple[int, int, float]]:
        return [(64, 48, 30.0), (640, 480, 30.0)] if pixels == "MJPG" else []

    def set_format(self, pixels: str, width: int, height: int) -> ImageFormat:
        self.pixels = pixels
        return self._answer("set_format", ImageFormat(pixels, width, height, self.answers.get("stride", 0)))

    def set_rate(self, fps: float) -> float | None:
        return self._answer("rate", fps)

    def controls(self) -> list[FakeControl]:
        return self.held

    def start(self) -> None:
        self._answer("start")
        self.left = list(self.script) if self.script is not None else None
        self.number = 0

    def picture(self, timeout: float) -> Picture | None:
        if self.left is None:
            time.sleep(0.002)
            self.number += 1
            return picture(self.number, host_now() - 3 * MS)
        if not self.left:
            time.sleep(max(timeout, 0))
            return None
        step = self.left.pop(0)
        if isinstance(step, OSError):
            raise step
        return step

    def close(self) -> None:
        self.opened -= 1


def picture(number: int, stamp_ns: int | None, data: bytes = JPEG, *, broken: bool = False) -> Picture:
    return Picture(number, stamp_ns, broken, data)


def gone() -> OSError:
    return OSError(errno.ENODEV, os.strerror(errno.ENODEV))


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A machine with one camera on USB, that has a node for metadata, too, and one camera that is built in."""
    add_usb(tmp_path, "1-2", "Eye Cam", "0042")
    add_node(tmp_path, "video0", "Eye Cam: Eye Cam", usb="1-2")
    add_node(tmp_path, "video1", "Eye Cam: Eye Cam", usb="1-2", index=1)
    add_node(tmp_path, "video10", "built-in")
    return tmp_path


def add_usb(sysfs: Path, path: str, name: str, serial: str) -> None:
    texts = {"busnum": 1, "devnum": 7, "idVendor": "1209", "idProduct": "0001", "speed": 480, "product": name}
    write(sysfs / "bus/usb/devices" / path, {**texts, "serial": serial})
    write(sysfs / "bus/usb/devices" / f"{path}:1.0", {"bInterfaceClass": "0e"})


def add_node(sysfs: Path, node: str, name: str, *, usb: str = "", index: int = 0) -> None:
    write(sysfs / "class/video4linux" / node, {"name": name, "index": index})
    parent = sysfs / "bus/usb/devices" / f"{usb}:1.0" if usb else sysfs / "devices/platform/fake.0"
    parent.mkdir(parents=True, exist_ok=True)
    (sysfs / "class/video4linux" / node / "device").symlink_to(parent)


def write(folder: Path, texts: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(f"{text}\n")


class Kernel:
    """Opens a fake node by its path."""

    def __init__(self, **nodes: FakeNode) -> None:
        self.nodes = nodes

    def __call__(self, path: Path) -> Node:
        return self.nodes.get(path.name, FakeNode(captures=False))(path)


Make = Callable[..., V4l2Source]


@pytest.fixture
def make(sysfs: Path) -> Make:
    def make(node: FakeNode, stream: str = "eye0", **options: Any) -> V4l2Source:
        return V4l2Source(stream, {**SIZE, **options}, open_node=Kernel(video0=node), sysfs=sysfs)

    return make


def read_all(source: V4l2Source, count: int) -> list[Any]:
    frames = [source.read(1.0) for _ in range(count)]
    assert all(frames)
    return frames


def test_it_keeps_the_contract(make: Make) -> None:
    node = FakeNode()
    check_source(lambda: make(node))
    assert node.opened == 0


def test_what_the_recording_is_told(make: Make) -> None:
    source = make(FakeNode(rate=29.97), controls={"Gain": 500, "Power Line Frequency": "50 Hz", "Zoom": 1})
    info = source.open()
    assert (info.source, info.device, info.serial, info.clock, info.fps) == ("v4l2", "Eye Cam", "0042", "kernel", 29.97)
    assert info.controls == {"Gain": 100, "Power Line Frequency": 1}
    assert source.find().device.path == "1-2"
    source.close()


def test_stamps_are_the_kernels_and_never_later_than_the_arrival(make: Make) -> None:
    now = host_now()
    stamps = [now - 50 * MS, now - 20 * MS, now + 10**12, now - 20 * MS]
    source = make(FakeNode([picture(n, stamp) for n, stamp in enumerate(stamps)]))
    source.open()
    frames = read_all(source, 4)
    assert [frame.captured_ns for frame in frames[:2]] == stamps[:2]
    assert [frame.device_time for frame in frames] == [stamp / 1e9 for stamp in stamps]
    assert now < frames[2].captured_ns <= frames[2].host_ns
    assert frames[3].captured_ns > frames[2].captured_ns
    source.close()


def test_a_driver_without_stamps_is_timed_by_arrival(make: Make) -> None:
    source = make(FakeNode([picture(0, None)]))
    source.open()
    [frame] = read_all(source, 1)
    assert (frame.device_time, frame.captured_ns) == (None, frame.host_ns)
    assert source.stats().clock.kind == "arrival"
    source.close()


def test_lost_frames_are_counted(make: Make) -> None:
    start = host_now() - 10**9
    numbers = [2**32 - 2, 2**32 - 1, 1, 2]
    at = [0, 1, 3, 4]
    source = make(FakeNode([picture(n, start + k * 33 * MS) for n, k in zip(numbers, at, strict=True)]))
    source.open()
    assert [frame.sequence for frame in read_all(source, 4)] == at
    assert source.stats().missed == 1
    source.close()


def test_a_driver_that_does_not_count_is_known_by_its_stamps(make: Make) -> None:
    start = host_now() - 10**9
    made = [0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    source = make(FakeNode([picture(0, start + k * 33 * MS) for k in made]))
    source.open()
    assert read_all(source, len(made))[-1].sequence == made[-1]
    assert source.stats().missed == 2
    source.close()


@pytest.mark.parametrize(
    "damage",
    [
        {"data": b""},
        {"data": JPEG[:-200]},
        {"data": JPEG[2:]},
        {"data": cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes()},
        {"broken": True},
    ],
)
def test_damage_is_left_out_and_counted(make: Make, damage: dict[str, Any]) -> None:
    start = host_now() - 10**9
    pictures = [picture(n, start + n * 33 * MS, **(damage if n == 1 else {})) for n in range(3)]
    source = make(FakeNode(pictures))
    source.open()
    assert [frame.sequence for frame in read_all(source, 2)] == [0, 2]
    assert (source.stats().corrupt, source.stats().missed, source.stats().delivered) == (1, 1, 2)
    source.close()


@pytest.mark.parametrize("padding", [0, 32])
def test_gray_and_yuyv_lose_nothing(make: Make, padding: int) -> None:
    rng = np.random.default_rng(2)
    gray, yuyv = rng.integers(0, 255, (48, 64), np.uint8), rng.integers(0, 255, (48, 128), np.uint8)
    for name, image in (("gray", gray), ("yuyv", yuyv)):
        stride = image.shape[1] + padding
        padded = np.zeros((48, stride), np.uint8)
        padded[:, : image.shape[1]] = image
        pictures = [picture(0, host_now(), padded.tobytes()[: 48 * stride - padding]), picture(1, host_now(), bytes(9))]
        source = make(FakeNode(pictures, stride=stride), format=name)
        source.open()
        [frame] = read_all(source, 1)
        if name == "gray":
            assert (frame.format, frame.payload) == ("gray", gray.tobytes())
        else:
            planes = np.frombuffer(frame.payload, np.uint8)
            assert frame.format == "yuv"
            assert np.array_equal(planes[: 48 * 64].reshape(48, 64), yuyv[:, ::2])
            assert np.array_equal(planes[48 * 64 : 48 * 96].reshape(48, 32), yuyv[:, 1::4])
            assert np.array_equal(planes[48 * 96 :].reshape(48, 32), yuyv[:, 3::4])
        assert source.read(0) is None
        assert source.stats().corrupt == 1
        source.close()


def test_silence_is_no_loss_and_a_vanished_camera_is_one(make: Make) -> None:
    node = FakeNode([picture(0, host_now()), *[picture(n, None, b"", broken=True) for n in range(1, 25)], gone()])
    source = make(node)
    source.open()
    read_all(source, 1)
    with pytest.raises(DeviceLost, match=r"Eye Cam \(/dev/video0\) is gone: No such device"):
        source.read(1.0)
    assert source.stats().corrupt == 24
    source.close()
    node.script = []
    source.open()
    assert source.read(0.01) is None
    source.close()
    assert node.opened == 0


@pytest.mark.parametrize(
    ("answers", "error", "text"),
    [
        ({"start": errno.EBUSY}, DeviceRefused, "another program has it"),
        ({"set_format": errno.EBUSY}, DeviceRefused, "another program has it"),
        ({"start": errno.ENOSPC}, NoBandwidth, "no room left"),
        ({"start": errno.ENODEV}, SourceNotFound, "left while it was opened"),
        ({"start": errno.EIO}, SourceError, "does not start: Input/output error"),
        ({"open": errno.EACCES}, DeviceRefused, "may not read and write /dev/video0"),
        ({"formats": ["YUYV"]}, SourceError, "no mode 64x48@30 mjpeg; its modes are yuyv: any"),
        ({"set_format": ImageFormat("MJPG", 640, 480, 0)}, SourceError, "mjpeg: 64x48@30, 640x480@30; gray: any"),
        ({"rate": 15.0}, SourceError, "no mode 64x48@30 mjpeg"),
    ],
)
def test_refusals_say_what_and_why(make: Make, answers: dict[str, Any], error: type, text: str) -> None:
    node = FakeNode(**answers)
    source = make(node)
    with pytest.raises(error, match=text) as caught:
        source.open()
    assert caught.type is error
    assert caught.value.hint
    assert node.opened == 0


def test_the_user_without_the_right_learns_what_gives_it(sysfs: Path) -> None:
    denied = Kernel(video0=FakeNode(open=errno.EACCES), video1=FakeNode(open=errno.EACCES))
    [device] = V4l2Source.devices(sysfs, denied)
    assert device.name == "Eye Cam"
    for word in ("/dev/video0", "60-gazed.rules", "group video"):
        assert word in device.problem


def test_devices_are_the_nodes_that_capture(sysfs: Path) -> None:
    [eye, builtin] = V4l2Source.devices(sysfs, Kernel(video0=FakeNode(), video10=FakeNode(formats=["GREY"])))
    assert (eye.name, eye.serial, eye.path, eye.controller) == ("Eye Cam", "0042", "1-2", "usb1")
    assert eye.modes == ((64, 48, 30.0), (640, 480, 30.0))
    assert (builtin.name, builtin.path, builtin.problem) == ("built-in", "/dev/video10", "")
    assert V4l2Source.devices(sysfs / "nothing") == []


def test_selection(sysfs: Path) -> None:
    kernel = Kernel(video0=FakeNode(), video10=FakeNode())

    def found(**options: Any) -> str:
        return V4l2Source("world", options, open_node=kernel, sysfs=sysfs).find().device.path

    assert found(name="Eye*") == found(serial="0042") == found(path="1-2") == found(node="/dev/video0") == "1-2"
    assert found(name="built-in") == found(node="/dev/video10") == "/dev/video10"
    with pytest.raises(DeviceAmbiguous, match="Eye Cam"):
        found()
    with pytest.raises(SourceNotFound, match="/dev/video0 \\(Eye Cam\\), /dev/video10"):
        found(node="/dev/video1")
    with pytest.raises(SourceNotFound):
        found(node="/dev/video0", serial="43")


@pytest.mark.parametrize(
    "options",
    [{"format": "nv12"}, {"node": 0}, {"width": 0}, {"fps": "30"}, {"controls": 1}, {"controls": {"Gain": 0.5}}],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SourceOptionError):
        V4l2Source("world", options)


def test_the_kernels_numbers() -> None:
    """As the header itself has them on a 64-bit machine."""
    assert {name: getattr(v4l2_structs, name).number for name in ("QUERYCAP", "S_FMT", "DQBUF", "STREAMON")} == {
        "QUERYCAP": 0x80685600,
        "S_FMT": 0xC0D05605,
        "DQBUF": 0xC0585611,
        "STREAMON": 0x40045612,
    }
    assert v4l2_structs.S_PARM.number == 0xC0CC5616
    assert v4l2_structs.QUERYMENU.number == 0xC02C5625
    assert v4l2_structs.ENUM_FRAMEINTERVALS.number == 0xC034564B
    wanted = v4l2_structs.Format(type=1)
    wanted.height = 0x01020304
    assert bytes(wanted)[12:16] == b"\4\3\2\1"
    assert ctypes.sizeof(v4l2_structs.ControlValue) == 8


def test_what_is_no_video_node_answers_with_an_error() -> None:
    node = Node(Path("/dev/null"))
    with pytest.raises(OSError, match="ioctl"):
        node.capability()
    assert node.controls() == []
    node.close()
