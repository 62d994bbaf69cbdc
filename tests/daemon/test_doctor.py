"""The doctor: each check finds what is there and names the command that mends what is not."""

import re
import resource
import socket
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from gazed.config import load_config
from gazed.doctor import (
    check_extra,
    check_library,
    check_port,
    check_python,
    check_realtime,
    check_recordings,
    examine,
)
from gazed_plugins.extras import EXTRAS


def refuse(soname):
    raise OSError(f"{soname}: cannot open shared object file")


@pytest.mark.parametrize(("minor", "state"), [(10, "missing"), (11, "ok"), (13, "ok"), (14, "missing")])
def test_python(minor, state):
    assert check_python((3, minor)).state == state


def test_a_library_that_is_missing_is_mended_with_apt():
    check = check_library("libGL.so.1", "libgl1", "OpenCV", load=refuse)
    assert check.state == "missing"
    assert check.mend.endswith("apt-get install -y libgl1")
    assert check_library("libx.so", "libx", "an extra", needed=False, load=refuse).state == "advice"
    assert check_library("libx.so", "libx", "an extra", load=str).state == "ok"


def test_an_extra():
    def without(name: str) -> str:
        raise PackageNotFoundError(name)

    assert check_extra("daemon", version=without).mend == f"{sys.executable} -m pip install 'gazed[daemon]'"
    mend = check_extra("detect", version=without).mend
    assert mend.startswith("apt-get install -y g++ libeigen3-dev && ")
    assert mend.endswith("--no-binary pye3d 'gazed[detect]'")
    assert check_extra("detect", needed=True, version=without).state == "missing"
    assert check_extra("daemon").state == "ok"


def test_the_table_of_extras_is_that_of_the_project():
    listed = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())
    wanted = {
        extra: {re.match(r"[\w-]+", package)[0] for package in packages}
        for extra, packages in listed["project"]["optional-dependencies"].items()
    }
    # rerun-sdk[catalog] is rerun-sdk and datafusion.
    assert {extra: set(packages) - {"datafusion"} for extra, packages in EXTRAS.items()} == wanted


def test_recordings_on_a_disk_with_room(tmp_path):
    check = check_recordings(tmp_path / "not" / "yet", 1)
    assert (check.state, check.found[: len(str(tmp_path))]) == ("ok", str(tmp_path))
    assert not (tmp_path / "not").exists()
    full = check_recordings(tmp_path, 10**12)
    assert full.state == "missing"
    assert "wanted at least 1000000000000 MB" in full.found


def test_recordings_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    assert check_recordings(tmp_path / "file" / "recordings", 1).state == "missing"


def test_recordings_in_a_place_that_cannot_even_be_looked_at(tmp_path):
    check = check_recordings(tmp_path / ("x" * 300), 1)
    assert (check.state, "too long" in check.found) == ("missing", True)


def test_a_port_free_and_taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = check_port("127.0.0.1", port)
        assert taken.state == "missing"
        assert taken.mend == f"gazed run --port {port + 1}"
    assert check_port("127.0.0.1", port).state == "ok"
    assert check_port("203.0.113.7", port).state == "missing"


def test_realtime():
    assert check_realtime(0, is_root=True).state == "ok"
    assert check_realtime(resource.RLIM_INFINITY, is_root=False).state == "ok"
    assert check_realtime(99, is_root=False).state == "ok"
    assert "limits.d" in check_realtime(0, is_root=False).mend


def test_everything_has_a_name_and_what_is_wrong_has_a_remedy(tmp_path):
    checks = list(examine(load_config(overrides={"recorder": {"root": str(tmp_path), "floor_mb": 1}})))
    assert len({check.name for check in checks}) == len(checks)
    assert [check.name for check in checks if check.state != "ok" and not check.mend] == []
