"""Source ``uvc`` on the kernel's own USB: claims, drivers that give way and come back, cables that are pulled."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from gazed.testing import wait_for
from gazed_capture.errors import DeviceLost, DeviceRefused
from gazed_capture.uvc import UvcSource
from gazed_capture.v4l2 import V4l2Source
from vm.plug import plug, unplug

EYE = {"serial": "EMU0002", "width": 192, "height": 192, "fps": 30}
HOLDER = """
import sys
from gazed_capture.uvc import UvcSource
source = UvcSource("eye1", {"serial": "EMU0002", "width": 192, "height": 192, "fps": 30})
source.open()
print("open", flush=True)
sys.stdin.read()
source.close()
"""


@pytest.fixture
def source() -> Iterator[UvcSource]:
    source = UvcSource("eye1", EYE)
    yield source
    source.close()


def driven_by_the_kernel() -> bool:
    return any(device.serial == "EMU0002" for device in V4l2Source.devices())


def read(source: UvcSource, count: int) -> None:
    end = time.monotonic() + 60
    while count:
        assert time.monotonic() < end
        count -= source.read(0.5) is not None


def test_the_kernels_driver_gives_way_and_comes_back(source: UvcSource) -> None:
    assert driven_by_the_kernel()
    info = source.open()
    assert (info.device, info.serial) == ("Pupil Cam2 ID1", "EMU0002")
    assert not driven_by_the_kernel()
    read(source, 10)
    source.close()
    wait_for(driven_by_the_kernel)


def test_a_camera_that_another_program_has_is_refused(source: UvcSource) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(DeviceRefused, match="another program has it"):
            source.open()
    finally:
        holder.communicate()
    source.open()
    read(source, 2)


def test_an_unplugged_camera_is_lost_and_found_at_its_port(source: UvcSource) -> None:
    where = source.find().device.path
    by_path = UvcSource("eye1", {**EYE, "serial": "EMU0002", "path": where})
    by_path.open()
    try:
        read(by_path, 2)
        unplug(1)
        pulled = time.monotonic()
        with pytest.raises(DeviceLost, match="Pupil Cam2 ID1"):
            read(by_path, 10_000)
        assert time.monotonic() - pulled < 5
        by_path.close()
        plug(1)
        wait_for(driven_by_the_kernel)
        by_path.open()
        read(by_path, 2)
    finally:
        by_path.close()
