"""Who may open a camera: without the udev rules, with them, in their groups or not. Needs a udev of its own."""

from __future__ import annotations

import grp
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gazed.config import config_root
from gazed.testing import wait_for
from gazed_capture.source import DeviceInfo
from gazed_capture.usb import usb_devices
from gazed_capture.v4l2 import V4l2Source
from vm.machine import vm_folder
from vm.plug import plug, unplug

NOBODY = 65534
SIZE = {"width": 192, "height": 192, "fps": 30}
STREAMS = {"world": "v4l2", "eye0": "uvc"}
READER = """
import json, sys
from gazed_capture.source import find_source
source = find_source(sys.argv[1])("eye0", json.loads(sys.argv[2]))
source.open()
while source.read(1.0) is None:
    pass
source.close()
"""


def as_nobody(command: Sequence[str], groups: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[grp.getgrnam(name).gr_gid for name in groups],
        env={name: os.environ[name] for name in ("PATH", "HOME")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def options(serial: str) -> dict[str, Any]:
    return {"serial": serial, **SIZE}


@pytest.fixture(scope="module", autouse=True)
def _everybody_may_run_this_python() -> None:
    for path in (Path(sys.executable).resolve(), Path(__file__)):
        open_to_everybody(path)


def open_to_everybody(path: Path) -> None:
    for folder in path.parents:
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH)


@pytest.fixture(scope="module")
def udev() -> Iterator[None]:
    """Install udev and our rules, and let it treat the devices that are there."""
    copy = f"tar -C {vm_folder() / 'udev'} -c . | tar -C / -x --keep-directory-symlink"
    subprocess.run(["sh", "-c", copy], check=True)
    rules = Path("/etc/udev/rules.d/60-gazed.rules")
    rules.write_bytes((config_root() / "udev" / rules.name).read_bytes())
    daemon = subprocess.Popen(["/lib/systemd/systemd-udevd"])
    wait_for(Path("/run/udev/control").exists)
    udevadm("trigger", "--action=add")
    udevadm("settle", "--timeout=30")
    yield
    daemon.terminate()
    daemon.wait()


def udevadm(*arguments: str) -> None:
    # The guest's files are a root of their own, which udevadm takes for a place where it has nothing to do.
    subprocess.run(["udevadm", *arguments], env={**os.environ, "SYSTEMD_IGNORE_CHROOT": "1"}, check=True)


def doctor(tmp_path: Path, groups: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Return what `gazed doctor` says of each stream to a user in these groups."""
    streams = "".join(
        f"[streams.{name}]\nsource = '{source}'\noptions = {{ serial = 'EMU000{number}' }}\n"
        for number, (name, source) in enumerate(STREAMS.items(), start=1)
    )
    config = tmp_path / "gazed.toml"
    config.write_text(
        f"[recorder]\nroot = '{tempfile.gettempdir()}'\n{streams}[streams.eye1]\nsource = 'file'\nenabled = false\n"
    )
    open_to_everybody(config)
    done = as_nobody(["-m", "gazed", "doctor", "--json", "--config", str(config)], groups)
    checks = json.loads(done.stdout)["checks"]
    return {check["name"]: check for check in checks}


def video(serial: str) -> DeviceInfo:
    return next(device for device in V4l2Source.devices() if device.serial == serial)


def usb_node(serial: str) -> Path:
    return next(Path(device.node) for device in usb_devices() if device.serial == serial)


def rights(node: Path) -> tuple[str, int]:
    status = node.stat()
    return grp.getgrgid(status.st_gid).gr_name, status.st_mode & 0o777


def test_without_rules_the_doctor_names_the_node_the_right_and_the_rule(tmp_path: Path) -> None:
    checks = doctor(tmp_path)
    for stream, node in (("world", "/dev/video"), ("eye0", str(usb_node("EMU0002")))):
        assert checks[stream]["state"] == "missing"
        assert "this user may not" in checks[stream]["found"]
        assert node in checks[stream]["found"]
        assert "60-gazed.rules" in checks[stream]["mend"]


def test_without_rules_the_source_is_refused() -> None:
    for source, serial in (("v4l2", "EMU0001"), ("uvc", "EMU0002")):
        done = as_nobody(["-c", READER, source, json.dumps(options(serial))])
        assert done.returncode
        assert "DeviceRefused" in done.stderr


def test_the_rules_give_the_cameras_to_the_groups(udev: None) -> None:
    nodes = [Path("/dev", entry.name) for entry in Path("/sys/class/video4linux").iterdir()]
    assert {rights(node) for node in nodes} == {("video", 0o660)}
    assert rights(usb_node("EMU0001")) == rights(usb_node("EMU0002")) == ("plugdev", 0o660)


def test_members_of_the_groups_may_read_the_cameras(udev: None, tmp_path: Path) -> None:
    checks = doctor(tmp_path, ["video", "plugdev"])
    assert {checks[stream]["state"] for stream in STREAMS} == {"ok"}
    for source, serial in (("v4l2", "EMU0001"), ("uvc", "EMU0002")):
        done = as_nobody(["-c", READER, source, json.dumps(options(serial))], ["video", "plugdev"])
        assert done.returncode == 0, done.stderr


def test_others_are_still_refused(udev: None) -> None:
    done = as_nobody(["-c", READER, "v4l2", json.dumps(options("EMU0001"))])
    assert "DeviceRefused" in done.stderr
    assert "group video" in done.stderr


def test_a_camera_that_is_plugged_in_again_has_its_rights_again(udev: None) -> None:
    unplug(0)
    wait_for(lambda: all(device.serial != "EMU0001" for device in usb_devices()))
    plug(0)
    wait_for(lambda: any(device.serial == "EMU0001" for device in V4l2Source.devices()))
    udevadm("settle", "--timeout=30")
    assert rights(usb_node("EMU0001")) == ("plugdev", 0o660)
