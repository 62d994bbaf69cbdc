"""What this machine lacks, and for each thing the command that mends it."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import msgspec

from gazed.config import Config, config_root
from gazed.errors import DaemonError
from gazed.ports import try_port
from gazed.sources import StreamPlan, controller_loads, plan_streams, refuse_ambiguous
from gazed_bus.rundir import RunDir
from gazed_plugins.extras import EXTRAS, found_packages, install_command, missing_package
from gazed_timesync import GazedError

__all__ = [
    "Check",
    "check_extra",
    "check_library",
    "check_port",
    "check_python",
    "check_realtime",
    "check_recordings",
    "check_streams",
    "examine",
    "require_extra",
]

_REALTIME_PRIORITY = 5
_OLDEST, _NEWEST = (3, 11), (3, 13)


class Check(msgspec.Struct, frozen=True):
    """One thing looked at. ``missing`` is needed and not there; ``advice`` is good to have."""

    name: str
    state: Literal["ok", "advice", "missing"]
    found: str
    mend: str = ""


def examine(config: Config) -> Iterator[Check]:
    """Look at everything a daemon with this configuration needs, one check after the other."""
    yield check_python(sys.version_info[:2])
    yield check_library("libGL.so.1", "libgl1", "OpenCV")
    yield check_library("libglib-2.0.so.0", "libglib2.0-0", "OpenCV")
    for package in ("numpy", "cv2", "av", "zmq"):
        yield _check_import(package)
    yield check_library("libportaudio.so.2", "libportaudio2", "sound", needed=False)
    needed = {"daemon": True, "detect": config.pupil.enabled or config.gaze.enabled}
    for extra in EXTRAS:
        yield check_extra(extra, needed=needed.get(extra, False))
    yield from check_streams(config)
    yield check_recordings(Path(config.recorder.root), config.recorder.floor_mb)
    yield _check_run_directory()
    yield check_port(config.daemon.listen, config.daemon.port)
    yield check_realtime(resource.getrlimit(resource.RLIMIT_RTPRIO)[1], os.geteuid() == 0)


def check_python(found: tuple[int, ...]) -> Check:
    """Check the version of Python, given as (major, minor)."""
    text = ".".join(map(str, found))
    if _OLDEST <= found <= _NEWEST:
        return Check("python", "ok", text)
    return Check("python", "missing", f"{text}; wanted 3.11 to 3.13", _apt("python3.11"))


def check_library(
    soname: str, package: str, wanted_by: str, *, needed: bool = True, load: Callable[[str], object] = ctypes.CDLL
) -> Check:
    """Check that the dynamic loader finds a system library."""
    try:
        load(soname)
    except OSError:
        state: Literal["advice", "missing"] = "missing" if needed else "advice"
        return Check(soname, state, f"not found; {wanted_by} wants it", _apt(package))
    return Check(soname, "ok", f"for {wanted_by}")


def require_extra(extra: str) -> None:
    """Go on only where the packages of an optional extra are installed.

    Raises:
        DaemonError: one is missing; the hint installs it.
    """
    found = check_extra(extra)
    if found.state != "ok":
        raise DaemonError(f"this needs gazed[{extra}], but {found.found}", hint=found.mend)


def check_extra(extra: str, *, needed: bool = False, version: Callable[[str], str] = version) -> Check:
    """Check that the packages of an optional extra are installed."""
    if missing := missing_package(extra, version):
        state: Literal["advice", "missing"] = "missing" if needed else "advice"
        return Check(f"gazed[{extra}]", state, f"{missing} is not installed", install_command(extra))
    return Check(f"gazed[{extra}]", "ok", ", ".join(found_packages(extra)))


def check_recordings(root: Path, floor_mb: int) -> Check:
    """Check that recordings can be written below ``root`` and that more than ``floor_mb`` is free there."""
    another = "gazed run --recordings DIR"
    existing = root
    try:
        while not existing.exists():
            existing = existing.parent
        if not existing.is_dir():
            return Check("recordings", "missing", f"{existing} is not a folder", another)
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Check("recordings", "missing", f"{existing}: {error.strerror}", another)
    status = os.statvfs(existing)
    free_mb = status.f_bavail * status.f_frsize // 1_000_000
    if free_mb < floor_mb:
        return Check("recordings", "missing", f"{root}: {free_mb} MB free, wanted at least {floor_mb} MB", another)
    return Check("recordings", "ok", f"{root}: {free_mb / 1000:.1f} GB free")


def check_port(listen: str, port: int) -> Check:
    """Check that the port of Pupil Remote is free, or taken by a gazed that answers."""
    name = f"port {port}"
    try:
        try_port(listen, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return Check(name, "missing", f"{listen}: {error.strerror}", "gazed run --listen 127.0.0.1")
    else:
        return Check(name, "ok", f"free on {listen}")
    from gazed_bus.remote import Remote

    try:
        with Remote(listen, port, timeout=1.0) as remote:
            remote.status()
    except GazedError:
        return Check(name, "missing", "taken by another program", f"gazed run --port {port + 1}")
    return Check(name, "ok", "a gazed daemon is running here")


def check_realtime(limit: int, is_root: bool) -> Check:
    """Check that camera processes may ask for real-time priority; ``limit`` is the hard limit, -1 for none."""
    if is_root or limit == resource.RLIM_INFINITY or limit >= _REALTIME_PRIORITY:
        return Check("real-time priority", "ok", "allowed")
    return Check(
        "real-time priority",
        "advice",
        f"limit is {limit}, wanted {_REALTIME_PRIORITY}",
        f'echo "$USER - rtprio {_REALTIME_PRIORITY}" | sudo tee /etc/security/limits.d/gazed.conf',
    )


def _check_import(package: str) -> Check:
    try:
        module = import_module(package)
    except ImportError as error:
        return Check(package, "missing", str(error), "sh config/setup.sh")
    return Check(package, "ok", str(module.__version__))


def check_streams(config: Config) -> Iterator[Check]:
    """Check the options of every stream, that its device is there and may be opened, and that the cameras fit."""
    try:
        plans = plan_streams(config)
        refuse_ambiguous(plans)
    except GazedError as error:
        yield Check("cameras", "missing", error.message, error.hint or "gazed config check")
        return
    for plan in plans:
        yield _check_plan(plan)
    for load in controller_loads(plans):
        state: Literal["ok", "missing"] = "missing" if load.left_out else "ok"
        mend = "another USB controller, a smaller image or a lower rate for them" if load.left_out else ""
        yield Check(f"USB {load.controller}", state, load.text, mend)


def _check_plan(plan: StreamPlan) -> Check:
    if plan.code == "device-problem":
        return Check(plan.stream, "missing", f"{plan.found}: {plan.message}", _install_rules())
    if plan.code:
        return Check(plan.stream, "missing", plan.message, plan.hint or "gazed devices")
    return Check(plan.stream, "ok", f"{plan.source}: {plan.found}")


def _check_run_directory() -> Check:
    try:
        run = RunDir.create()
    except OSError as error:
        return Check("run directory", "missing", f"{error.filename}: {error.strerror}", "export XDG_RUNTIME_DIR=DIR")
    run.remove()
    return Check("run directory", "ok", str(run.path.parent))


def _install_rules() -> str:
    rules = shlex.quote(str(config_root() / "udev" / "60-gazed.rules"))
    do = _sudo()
    install = f"{do}cp {rules} /etc/udev/rules.d/ && {do}udevadm control --reload && {do}udevadm trigger"
    return f"{install} && {do}usermod -aG plugdev,video,audio $USER; then log in again"


def _apt(package: str) -> str:
    return f"{_sudo()}apt-get install -y {package}"


def _sudo() -> str:
    return "" if os.geteuid() == 0 else "sudo "
