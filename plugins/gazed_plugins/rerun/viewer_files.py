"""The files of Rerun's web viewer, taken out of the installed SDK once: it has them inside its program."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gazed_plugins.errors import PluginError
from gazed_plugins.export.errors import MissingExtra
from gazed_plugins.extras import install_command
from gazed_plugins.rerun.program import free_port, rerun_program, silent_environment

__all__ = ["FILES", "viewer_files"]

FILES = ("index.html", "re_viewer.js", "re_viewer_bg.wasm", "favicon.ico")
_READY_S = 20.0
_POLL_S = 0.02


def viewer_files() -> Path:
    """Return a folder with the viewer's files (``FILES``), below ``$XDG_CACHE_HOME`` or ``~/.cache``.

    The first time, the SDK's own program is started for a second, on this machine's loopback, and asked for them.

    Raises:
        MissingExtra: the SDK is not installed.
        PluginError: its program does not hand them out.
        OSError: they cannot be stored.
    """
    try:
        installed = version("rerun-sdk")
    except PackageNotFoundError:
        raise MissingExtra("rerun-sdk is not installed", hint=install_command("rerun")) from None
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gazed"
    folder = base / f"rerun-viewer-{installed}"
    if not folder.is_dir():
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base, prefix=".rerun-viewer-") as fresh:
            _take_out(Path(fresh))
            whole = Path(fresh) / "whole"
            whole.mkdir()
            for name in FILES:
                (Path(fresh) / name).rename(whole / name)
            try:
                whole.rename(folder)
            except OSError:
                # Another process was faster.
                if not folder.is_dir():
                    raise
    return folder


def _take_out(folder: Path) -> None:
    pages, data = free_port(), free_port()
    command = [str(rerun_program()), "--serve-web", "--bind", "127.0.0.1"]
    command += ["--port", str(data), "--web-viewer-port", str(pages)]
    with (folder / "log").open("wb") as log:
        served = subprocess.Popen(
            command, env=silent_environment(folder / "home"), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            _await(served, pages, folder / "log")
            for name in FILES:
                address = f"http://127.0.0.1:{pages}/{name}"
                with urllib.request.urlopen(address, timeout=_READY_S) as answer, (folder / name).open("wb") as file:
                    shutil.copyfileobj(answer, file)
        finally:
            served.terminate()
            served.wait()


def _await(served: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError as error:
            if served.poll() is None and time.monotonic() < deadline:
                time.sleep(_POLL_S)
                continue
            said = log.read_text(errors="replace")[-500:].strip()
            raise PluginError(f"rerun's program does not hand out its viewer: {said}") from error
        return
