"""The program that the Rerun SDK brings along: where it is, and how it is kept from telling that it was used."""

from __future__ import annotations

import json
import os
import socket
from importlib.util import find_spec
from pathlib import Path

from gazed_plugins.export.errors import MissingExtra
from gazed_plugins.extras import install_command

__all__ = ["free_port", "rerun_program", "silent_environment"]


def rerun_program() -> Path:
    """Return the program itself, not the script ``rerun``: whoever ends that one leaves the program behind.

    Raises:
        MissingExtra: the SDK is not installed.
    """
    spec = find_spec("rerun_cli")
    program = Path(spec.origin).parent / "rerun" if spec and spec.origin else None
    if program is None or not program.exists():
        raise MissingExtra("rerun-sdk is not installed", hint=install_command("rerun"))
    return program


def silent_environment(home: Path) -> dict[str, str]:
    """Return an environment in which the program sends nothing to its makers: a home, made here, where that is settled.

    By itself it would, from its second start on.
    """
    settings = home / "rerun" / "analytics.json"
    settings.parent.mkdir(parents=True)
    told = {"analytics_enabled": False, "analytics_id": "0" * 32, "metadata": {}}
    told |= {"config_file_path": str(settings), "data_dir_path": str(home / "data")}
    settings.write_text(json.dumps(told))
    return {"PATH": os.defpath, "HOME": str(home), "XDG_CONFIG_HOME": str(home)}


def free_port() -> int:
    """Return a port that nobody has on the loopback at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
