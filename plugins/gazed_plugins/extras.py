"""The optional extras of gazed: what packages each of them consists of, and how one is installed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

__all__ = ["EXTRAS", "found_packages", "install_command", "missing_package"]

EXTRAS = {
    "daemon": ("av", "opencv-python"),
    "uvc": ("pupil-labs-uvc",),
    "audio": ("sounddevice",),
    "lsl": ("pylsl",),
    "detect": ("pupil-detectors", "pye3d", "scipy"),
    "export": ("h5netcdf", "h5py", "pandas", "pooch", "pyarrow", "tables", "xarray"),
    "nwb": ("ndx-pose", "pynwb"),
    "rerun": ("rerun-sdk", "datafusion"),
    "batch": ("distributed", "duckdb", "pyarrow"),
    "movement": ("movement",),
}
"""By the name of the extra, the names of its distributions, as ``pyproject.toml`` lists them."""

# The wheel of pye3d is built against numpy 1; built here, it works with numpy 2.
_BEFORE = {"detect": "apt-get install -y g++ libeigen3-dev && "}
_OPTIONS = {"detect": "--no-binary pye3d "}


def missing_package(extra: str, version: Callable[[str], str] = installed_version) -> str:
    """Return the first distribution of an extra that is not installed; empty if all are."""
    for name in EXTRAS[extra]:
        try:
            version(name)
        except PackageNotFoundError:
            return name
    return ""


def found_packages(extra: str) -> list[str]:
    """Return names and versions of the distributions of an extra, all of which are installed."""
    return [f"{name} {installed_version(name)}" for name in EXTRAS[extra]]


def install_command(extra: str) -> str:
    """Return the command line that installs an extra."""
    pip = f"{shlex.quote(sys.executable)} -m pip install {_OPTIONS.get(extra, '')}'gazed[{extra}]'"
    return _BEFORE.get(extra, "") + pip
