"""One supervised process: whatever follows on whatever, there is one of it or none, and nothing leaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from gazed.processes import ManagedProcess
from gazed_bus.rundir import RunDir

_CHILD = """
import os, signal, sys, time
status = int(os.environ["GAZED_STATUS_FD"])
def end(*_):
    if "slow" in sys.argv:
        time.sleep(3.3)
        open(sys.argv[-1], "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
os.write(status, b'{"ready": {}}\\n')
if "babble" in sys.argv:
    os.write(status, b"nonsense\\n")
while True:
    os.write(status, b'{"beat": {}}\\n')
    time.sleep(0.5)
"""


@pytest.fixture(autouse=True)
def _child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_child_of_the_test.py").write_text(_CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def live(run: RunDir, story: Callable[[ManagedProcess], Awaitable[None]], *arguments: str) -> ManagedProcess:
    """Tell a story of one process, and end it."""

    async def tell() -> ManagedProcess:
        process = ManagedProcess("tested", "a_child_of_the_test", lambda: arguments, run)
        process.start()
        async with asyncio.timeout(20):
            await story(process)
        await process.stop(1.0)
        assert process.pid is None
        assert children() == []
        return process

    return asyncio.run(tell())


def children() -> list[int]:
    return [child.pid for child in psutil.Process().children()]


async def until(look: Callable[[], bool]) -> None:
    while not look():
        await asyncio.sleep(0.01)


def test_a_start_right_after_a_stop_leaves_one_new_process(run_dir: RunDir) -> None:
    async def story(process: ManagedProcess) -> None:
        assert await process.wait_ready()
        first = process.pid
        stopping = asyncio.create_task(process.stop(1.0))
        process.start()
        await stopping
        await until(lambda: process.state == "ready")
        assert process.pid != first
        assert children() == [process.pid]

    assert live(run_dir, story).restarts == 0


def test_a_start_in_the_middle_of_a_stop_leaves_one_new_process(run_dir: RunDir) -> None:
    async def story(process: ManagedProcess) -> None:
        assert await process.wait_ready()
        for _ in range(5):
            stopping = [asyncio.create_task(process.stop(1.0)) for _ in range(2)]
            await asyncio.sleep(0)
            process.start()
            await asyncio.gather(*stopping)
            await until(lambda: process.state == "ready")
            assert children() == [process.pid]

    assert live(run_dir, story).restarts == 0


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
def test_a_stop_at_any_moment_of_the_start_leaves_nothing(run_dir: RunDir, steps: int) -> None:
    async def story(process: ManagedProcess) -> None:
        for _ in range(steps):
            await asyncio.sleep(0)
        await process.stop(1.0)
        await until(lambda: children() == [])

    assert live(run_dir, story).state == "stopped"


def test_a_process_that_says_nonsense_is_replaced(run_dir: RunDir) -> None:
    async def story(process: ManagedProcess) -> None:
        await until(lambda: process.restarts >= 2)

    assert live(run_dir, story, "babble").last_exit == -9


def test_a_process_that_cannot_be_started_uses_up_its_budget_and_can_be_stopped(run_dir: RunDir) -> None:
    async def story(process: ManagedProcess) -> None:
        assert not await process.wait_ready()
        await until(lambda: process.restarts >= 2)

    assert live(run_dir, story, "x" * 200_000).last_exit == 71


def test_a_process_that_closes_its_files_has_its_grace(run_dir: RunDir, tmp_path: Path) -> None:
    async def story(process: ManagedProcess) -> None:
        assert await process.wait_ready()
        await process.stop(6.0)

    live(run_dir, story, "slow", str(tmp_path / "closed"))
    assert (tmp_path / "closed").exists()


def test_restarts_cost_no_descriptors(run_dir: RunDir) -> None:
    async def story(process: ManagedProcess) -> None:
        assert await process.wait_ready()
        before = psutil.Process().num_fds()
        for deaths in (1, 2, 3):
            process.kill()
            await until(lambda deaths=deaths: process.restarts == deaths and process.state == "ready")
        await until(lambda: psutil.Process().num_fds() <= before)

    live(run_dir, story)
