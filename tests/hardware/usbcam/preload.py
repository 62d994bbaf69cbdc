"""Builds the library that puts emulated cameras behind the system calls of a process, and its environment."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from usbcam.server import Server

__all__ = ["build_shim", "shim_environment"]

_SOURCES = Path(__file__).parent / "shim"


def build_shim(folder: Path) -> Path | None:
    """Compile the shim into ``folder`` and return its path; ``None`` without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    out = folder / "usbfs_shim.so"
    # Fortified headers would define open() themselves.
    flags = ["-O2", "-Wall", "-Werror", "-U_FORTIFY_SOURCE", "-shared", "-fPIC", "-pthread"]
    sources = [str(_SOURCES / name) for name in ("usbfs.c", "paths.c")]
    subprocess.run([compiler, *flags, "-o", str(out), *sources], check=True)
    return out


def shim_environment(shim: Path, server: Server) -> dict[str, str]:
    """Return the variables with which a process (and its children) sees the cameras of ``server``, and no others."""
    return {"LD_PRELOAD": str(shim), "USBSHIM": str(server.root)}
