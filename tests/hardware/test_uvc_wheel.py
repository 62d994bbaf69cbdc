"""The unmodified camera library, with its libuvc and libusb, on emulated cameras: what we rely on, and its traps."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from usbcam import Camera, Server

from gazed.testing import wait_for

PRELUDE = f"""
import json, sys, time, uvc
sys.path.insert(0, {str(Path(__file__).parent)!r})
from usbcam import read_counter

def start(width=192, height=192, fps=200, uid="1:2"):
    capture = uvc.Capture(uid)
    wanted = width, height, fps
    capture.frame_mode = next(m for m in capture.available_modes if (m.width, m.height, m.fps) == wanted)
    return capture

def grab(capture, count, timeout=1.0):
    rows = []
    for _ in range(count):
        try:
            frame = capture.get_frame(timeout)
            rows.append((frame.index, frame.timestamp, read_counter(frame.gray)))
        except Exception as error:
            rows.append(repr(error))
    return rows

def say(value):
    print("SAID", json.dumps(value), flush=True)
"""


def run(code: str, expect: int = 0, during: Callable[[], None] = lambda: None) -> Any:
    """Run code with the library in a process of its own; return what it said last."""
    disturb = threading.Thread(target=during)
    disturb.start()
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], capture_output=True, check=False, text=True, timeout=30
    )
    disturb.join()
    assert done.returncode == expect, done.stdout + done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("SAID ")]
    return json.loads(said[-1][5:]) if said else done.stderr


def streaming(camera: Camera, frames: int = 20) -> None:
    wait_for(lambda: len(camera.truth) >= frames)


def test_it_lists_the_cameras(usb: Callable[..., Server]) -> None:
    usb(Camera("Pupil Cam2 ID0", "A"), Camera("Pupil Cam2 ID1", "B"))
    listed = run("say(uvc.device_list())")
    found = {(each["name"], each["serialNumber"], each["uid"]) for each in listed}
    assert found == {("Pupil Cam2 ID0", "A", "1:2"), ("Pupil Cam2 ID1", "B", "1:3")}


@pytest.mark.parametrize("fps", [200, 30])
def test_its_stamps_are_the_cameras_with_one_offset_for_a_stream(usb: Callable[..., Server], fps: int) -> None:
    camera = Camera()
    usb(camera)
    rows = run(f"c = start(fps={fps}); say(grab(c, 40)); c.close()")
    # The first one may have been replaced by the second before it was asked for.
    assert [stamp for index, stamp, _ in rows if index == 1] in ([0.0], [])
    numbers = [number for _, _, number in rows]
    assert numbers == sorted(set(numbers))
    errors = [stamp - camera.truth[number] / 1e9 for index, stamp, number in rows if index > 1]
    assert max(errors) - min(errors) < 1e-5


def test_two_cameras_stream_at_once_and_a_gray_one_too(usb: Callable[..., Server]) -> None:
    usb(Camera(), Camera(serial="B", modes=(), gray_modes=((192, 192, (120,)),)))
    first, second = run("a, b = start(), start(fps=120, uid='1:3'); say([grab(c, 20) for c in (a, b)])")
    assert all(isinstance(row, list) for row in first + second)


def test_a_control_outside_the_range_is_refused_without_an_error(usb: Callable[..., Server]) -> None:
    camera = Camera()
    usb(camera)
    values = run(
        """
c = start()
controls = {control.display_name: control for control in c.controls}
for name, value in (("Auto Exposure Mode", 1), ("Absolute Exposure Time", 40), ("Gain", 999)):
    controls[name].value = value
say({name: control.value for name, control in controls.items()})"""
    )
    assert (values["Auto Exposure Mode"], values["Absolute Exposure Time"], values["Gain"]) == (1, 40, 0)
    assert (camera.knobs[1, 2].value, camera.knobs[1, 4].value) == (1, 40)


def test_a_pulled_cable_looks_like_silence(usb: Callable[..., Server]) -> None:
    camera = Camera()
    server = usb(camera)

    def pull() -> None:
        streaming(camera)
        server.unplug(0)

    rows, listed = run("c = start(); r = grab(c, 200, 0.01); c.close(); say([r, uvc.device_list()])", during=pull)
    assert rows[-1] == "TimeoutError()"
    assert listed == []


def test_a_silent_camera_goes_on_by_itself(usb: Callable[..., Server]) -> None:
    camera = Camera()
    usb(camera)

    def hush() -> None:
        streaming(camera)
        camera.faults.mute = True
        said = len(camera.truth)
        wait_for(lambda: len(camera.truth) > said + 60)
        camera.faults.mute = False

    code = """
c, rows = start(), []
while not (rows and isinstance(rows[-1], tuple) and "TimeoutError()" in rows):
    rows += grab(c, 1, 0.1)
say(rows)"""
    assert isinstance(run(code, during=hush)[-1], list)


def test_what_is_no_jpeg_is_an_error_of_one_frame(usb: Callable[..., Server]) -> None:
    camera = Camera()
    camera.faults.garbage = lambda number: number % 2 == 1
    usb(camera)
    rows = run("c = start(fps=30); say(grab(c, 6))")
    assert rows.count("StreamError('JPEG header corrupt.')") >= 2
    assert any(isinstance(row, list) for row in rows)


def test_a_refusal_of_bandwidth_leaves_the_capture_dead_and_a_new_one_works(usb: Callable[..., Server]) -> None:
    usb(Camera(), budgets={1: 300})
    rows = run(
        """
c = start(); rows = grab(c, 2); c.close()
c = start(); c.bandwidth_factor = 0.5; rows += grab(c, 1)
say(rows)"""
    )
    assert rows[0].startswith("InsufficientBandwidthError")
    assert "Resource busy" in rows[1]
    assert isinstance(rows[2], list)


def test_no_permission_and_a_busy_camera_are_told_by_the_text(usb: Callable[..., Server]) -> None:
    server = usb(Camera(), Camera(serial="B"))
    server.refuse[0] = errno.EACCES
    assert "OpenError: Could not open device. Error: Access denied" in run("start()", expect=1)
    other = "subprocess.run([sys.executable, '-c', 'import uvc; uvc.Capture(\"1:3\")'], stderr=subprocess.PIPE)"
    said = run(f"import subprocess\nc = start(uid='1:3'); say({other}.stderr.decode())")
    assert "OpenError: Could not open device. Error: Resource busy" in said


@pytest.mark.parametrize(
    ("camera", "signal"), [(Camera(bulk=True), -8), (Camera(name=""), -11)], ids=["bulk endpoint", "no product string"]
)
def test_cameras_that_it_dies_of(usb: Callable[..., Server], camera: Camera, signal: int) -> None:
    usb(camera, Camera())
    assert len(run("c = start(uid='1:3'); say(grab(c, 3))")) == 3, "another camera must not be touched by it"
    run("c = start(); c.get_frame(1)", expect=signal)
