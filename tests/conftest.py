"""What every test gets: an empty environment of its own, and a check that it leaves nothing behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gazed_bus.rundir import RunDir
from gazed_timesync import PupilClock


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GAZED_RUN", "GAZED_STATUS_FD", "NOTIFY_SOCKET"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread, a child process or a socket behind."""
    me = psutil.Process()
    threads = set(threading.enumerate())
    children = {child.pid for child in me.children()}
    yield
    deadline = time.monotonic() + 3
    while True:
        left = [thread.name for thread in threading.enumerate() if thread not in threads and not thread.daemon]
        orphans = [child for child in me.children() if child.pid not in children]
        if not left and not orphans:
            break
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: threads {left}, processes {[child.cmdline() for child in orphans]}")
        time.sleep(0.02)
    gc.collect()


@pytest.fixture
def run_dir() -> Iterator[RunDir]:
    run = RunDir.create()
    yield run
    run.remove()


@pytest.fixture
def clock(run_dir: RunDir) -> Iterator[PupilClock]:
    with PupilClock.create(run_dir.clock) as clock:
        yield clock


@pytest.fixture(scope="session", autouse=True)
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Render each simulated wearer once for all workers, outside the user's own cache."""
    root = tmp_path_factory.getbasetemp()
    shared = root.parent if os.environ.get("PYTEST_XDIST_WORKER") else root
    old = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(shared / "cache")
    Path(os.environ["XDG_CACHE_HOME"]).mkdir(exist_ok=True)
    yield
    if old is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = old
