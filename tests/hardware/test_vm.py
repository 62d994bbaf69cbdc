"""Tier V: one boot of a virtual machine with real drivers, in which the tests of ``vm/guest_*.py`` run.

``sh tests/hardware/vm/run.sh`` fetches the machine and runs this.
"""

from __future__ import annotations

import os
import shlex
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import pytest
from usbcam import Camera, Server
from vm.cable import Cable
from vm.machine import Machine, MachineError, Outcome, vm_folder

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

HERE = Path(__file__).resolve().parent
# Permissions come first: their udev changes the rights of all that is plugged in later.
GUESTS = (
    "vm/guest_permissions.py",
    "vm/guest_v4l2.py",
    "vm/guest_uvc.py",
    "vm/guest_sound.py",
    "vm/guest_daemon.py",
    "test_real_camera.py",
)
MODULES = ("vivid,n_devs=1,node_types=0x1", "uvcvideo", "vhci_hcd", "snd_aloop")
MODES = ((192, 192, (120, 30, 15)),)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Mapping[str, list[str]]]:
    """Boot and run everything; return what came of it, and what failed in each file."""
    out = tmp_path_factory.mktemp("out")
    cameras = [Camera(f"Pupil Cam2 ID{number}", f"EMU000{number + 1}", modes=MODES) for number in range(2)]
    try:
        machine = Machine(vm_folder(), MODULES, os.environ.get("GAZED_VM_ACCEL", "tcg"))
    except MachineError as error:
        pytest.skip(f"{error}; fetch it: sh tests/hardware/vm/run.sh")
    with Server(cameras) as server, Cable(server) as cable:
        outcome = machine.run(_script(cable.environment), out, timeout=800)
    sys.stdout.write(outcome.log)
    return outcome, _failures(out / "report.xml")


def _script(environment: Mapping[str, str]) -> str:
    python = shlex.quote(sys.executable)
    settings = {**environment, "GAZED_VM": str(vm_folder())}
    exports = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    plug = f"cd {shlex.quote(str(HERE))} && {python} -m vm.plug 0 1"
    options = "-o addopts= --timeout=300 -p no:cacheprovider -q --durations=10 --basetemp=/tmp/basetemp"
    # The whole daemon runs in vm/guest_daemon.py, with a patience that no real machine needs.
    elsewhere = "tests/hardware/test_real_camera.py::test_what_the_devices_deliver_is_recorded"
    options += f" --junitxml=/out/report.xml --deselect {elsewhere}"
    return "\n".join([*exports, plug, f"{python} -m pytest {options} {' '.join(GUESTS)}"])


def _failures(report: Path) -> dict[str, list[str]]:
    """Return for each file what went wrong in its tests; files without a test are absent."""
    failures: dict[str, list[str]] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own
        file = case.attrib["classname"].removeprefix("tests.hardware.").replace(".", "/") + ".py"
        wrong = failures.setdefault(file, [])
        wrong += [f"{case.attrib['name']}: {bad.text}" for kind in ("failure", "error") for bad in case.iter(kind)]
    return failures


@pytest.mark.parametrize("file", GUESTS)
def test_every_test_in_the_guest_passes(guest: tuple[Outcome, Mapping[str, list[str]]], file: str) -> None:
    outcome, failures = guest
    assert file in failures, outcome.log
    assert not failures[file], "\n\n".join(failures[file])
