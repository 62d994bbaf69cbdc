"""The files of Rerun's web viewer, taken out of the installed SDK once: it has them inside its program."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from gazed_plugins.errors import PluginError
from gazed_plugins.export.errors import MissingExtra

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
        raise MissingExtra("rerun-sdk is not installed", hint="pip install 'gazed[rerun]'") from None
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
    spec = find_spec("rerun_cli")
    if spec is None or spec.origin is None:
        raise MissingExtra("rerun-sdk comes without its program", hint="pip install 'gazed[rerun]'")
    # Not the script of the same name: whoever ends that one leaves the program behind.
    program = Path(spec.origin).parent / "rerun"
    pages, data = _free_port(), _free_port()
    command = [str(program), "--serve-web", "--bind", "127.0.0.1"]
    command += ["--port", str(data), "--web-viewer-port", str(pages)]
    with (folder / "log").open("wb") as log:
        served = subprocess.Popen(
            command, env=_silent_home(folder / "home"), stdin=subprocess.DEVNULL, stdout=log, stderr=log
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


def _silent_home(home: Path) -> dict[str, str]:
    """Return an environment in which the program tells nobody that it was used: a home where this is settled."""
    settings = home / "rerun" / "analytics.json"
    settings.parent.mkdir(parents=True)
    told = {"analytics_enabled": False, "analytics_id": "0" * 32, "metadata": {}}
    told |= {"config_file_path": str(settings), "data_dir_path": str(home / "data")}
    settings.write_text(json.dumps(told))
    return {"PATH": os.defpath, "HOME": str(home), "XDG_CONFIG_HOME": str(home)}


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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
