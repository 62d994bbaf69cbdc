"""The process that fits: it answers, says what went wrong, and never outlives its parent."""

from __future__ import annotations

import subprocess
import sys
import time

import msgpack
import psutil

from gazed_plugins.gaze.fitting import WorkerProcess, camera_map, solve
from gazed_plugins.gaze.testing import WORLD, session


def job(**fields):
    data = session()
    return {
        "gazer": "Gazer2D",
        "camera": camera_map(WORLD),
        "refs": data["ref_list"],
        "pupils": [msgpack.packb(pupil) for pupil in data["pupil_list"]],
        "min_confidence": 0.8,
        "eye_translations": None,
        "calibration": None,
        **fields,
    }


def wait_for(worker: WorkerProcess) -> dict:
    end = time.monotonic() + 60
    while (answer := worker.answer()) is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    return answer


def test_it_answers_what_a_call_would() -> None:
    worker = WorkerProcess()
    worker.start(job())
    try:
        assert wait_for(worker) == solve(job())
    finally:
        worker.close()


def test_what_goes_wrong_is_the_answer() -> None:
    assert "no gazer 'Gazer9'" in solve(job(gazer="Gazer9"))["error"]["reason"]
    assert solve(job(pupils=[]))["error"]["reason"] == "Not sufficient pupil data available."
    assert solve({})["error"]["reason"] == "KeyError: 'refs'"
    assert "cam_type" in solve(job(camera={**camera_map(WORLD), "cam_type": "round"}))["error"]["reason"]


def test_one_that_is_killed_has_failed() -> None:
    worker = WorkerProcess()
    (child,) = [each for each in psutil.Process().children() if "gazed_plugins.gaze.fitting" in each.cmdline()]
    child.kill()
    worker.start(job())
    try:
        assert "ended (code -9)" in wait_for(worker)["error"]["reason"]
    finally:
        worker.close()


def test_one_that_never_got_a_job_can_be_closed() -> None:
    WorkerProcess().close()


def test_it_ends_when_its_parent_is_killed() -> None:
    script = (
        "import time\n"
        "from gazed_plugins.gaze.fitting import WorkerProcess\n"
        "worker = WorkerProcess()\n"
        "print(worker._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(30)
