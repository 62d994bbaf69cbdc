"""Devices for tests: emulated USB cameras, which the processes that a test starts take for real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from usbcam import Camera, Server, build_shim, shim_environment


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the library that stands in for the kernel's USB devices."""
    if find_spec("uvc") is None:
        pytest.skip("needs the package pupil-labs-uvc: pip install 'gazed[uvc]'")
    built = build_shim(tmp_path_factory.mktemp("shim"))
    if built is None:
        pytest.skip("needs a C compiler: apt-get install gcc libc6-dev")
    return built


@pytest.fixture
def usb(shim: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Plug cameras in: ``usb(camera, …, budgets=…)`` returns their server; processes started from then on see them."""
    servers: list[Server] = []

    def plug(*cameras: Camera, **options: Any) -> Server:
        servers.append(Server(cameras, **options))
        for name, value in shim_environment(shim, servers[-1]).items():
            monkeypatch.setenv(name, value)
        return servers[-1]

    yield plug
    for server in servers:
        server.close()
