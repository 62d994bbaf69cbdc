"""Measuring a real daemon while it records and a subscriber in a process of its own receives every frame."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import psutil  # type: ignore[import-untyped]

from gazed.config import Config
from gazed.errors import DaemonError
from gazed.summary import recorded_frames, stream_figures
from gazed.trial import Trial
from gazed_bus.frame import frame_topic
from gazed_recorder.layout import video_parts

__all__ = ["run_bench"]

_SUBSCRIBER_START_S = 15.0
_SUBSCRIBER_END_S = 20.0


def run_bench(config: Config, seconds: float, say: Callable[[str], None], *, keep: bool) -> dict[str, Any]:
    """Record for ``seconds`` and return what ``gazed bench --json`` prints.

    ``latency_ms`` runs from the moment a frame was taken out of the camera's driver until a subscriber over TCP had
    it; ``since_exposure_ms`` from the exposure, which adds what the camera itself takes. ``cpu_percent`` is of one
    core over the recording, ``pss_mb`` the proportional share of memory at its end (1 MB = 1,000,000 bytes).
    The recording is deleted afterwards unless ``keep``.

    Raises:
        GazedError: the daemon did not start, or refused.
    """
    with tempfile.TemporaryDirectory(prefix="gazed-bench-") as scratch:
        if not keep:
            recorder = msgspec.structs.replace(config.recorder, root=str(Path(scratch) / "recordings"))
            config = msgspec.structs.replace(config, recorder=recorder)
        arrivals = Path(scratch) / "arrivals.npz"
        say("starting the daemon")
        with Trial(config) as trial, _subscriber(trial.port, arrivals):
            processes = _processes(trial)
            say(f"recording {seconds:g} s")
            folder = Path(trial.remote.start("bench").rec_path)
            before, began = _cpu_seconds(processes), time.monotonic()
            time.sleep(seconds)
            after, took = _cpu_seconds(processes), time.monotonic() - began
            pss = {name: round(process.memory_full_info().pss / 1e6, 1) for name, process in processes.items()}
            trial.remote.stop()
        latency, since_exposure = _latencies(folder, arrivals)
        return {
            "seconds": seconds,
            "recording": str(folder) if keep else None,
            "streams": stream_figures(folder),
            "latency_ms": latency,
            "since_exposure_ms": since_exposure,
            "cpu_percent": {name: round((after[name] - before[name]) / took * 100, 1) for name in processes},
            "pss_mb": pss,
        }


@contextlib.contextmanager
def _subscriber(port: int, file: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "gazed.latency", str(port), str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        try:
            if not select.select([process.stdout], [], [], _SUBSCRIBER_START_S)[0] or not process.stdout.readline():
                raise DaemonError(f"the measuring subscriber was not ready within {_SUBSCRIBER_START_S:g} s")
            yield
            process.stdin.close()
            process.wait(_SUBSCRIBER_END_S)
        finally:
            process.kill()


def _processes(trial: Trial) -> dict[str, psutil.Process]:
    children = trial.remote.status()["processes"]
    pids = {"supervisor": trial.process} | {name: process["pid"] for name, process in children.items()}
    return {name: psutil.Process(pid) for name, pid in pids.items()}


def _cpu_seconds(processes: dict[str, psutil.Process]) -> dict[str, float]:
    times = {name: process.cpu_times() for name, process in processes.items()}
    return {name: used.user + used.system for name, used in times.items()}


def _latencies(folder: Path, arrivals: Path) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Match received frames with recorded ones by their timestamp, which is the same float64 on both ways."""
    latency, since_exposure = {}, {}
    seen = np.load(arrivals)
    for stream in video_parts(folder):
        topic = frame_topic(stream)
        if f"{topic}/timestamp" not in seen:
            continue
        recorded = recorded_frames(folder, stream)
        _, in_seen, in_recorded = np.intersect1d(
            seen[f"{topic}/timestamp"], recorded["timestamp"], assume_unique=True, return_indices=True
        )
        received = seen[f"{topic}/received_ns"][in_seen]
        latency[topic] = _percentiles(received - recorded["host_ns"][in_recorded])
        since_exposure[topic] = _percentiles(received - recorded["captured_ns"][in_recorded])
    return latency, since_exposure


def _percentiles(nanoseconds: npt.NDArray[np.int64]) -> dict[str, float]:
    if not len(nanoseconds):
        return {"p50": float("nan"), "p99": float("nan")}
    p50, p99 = np.percentile(nanoseconds, (50, 99)) / 1e6
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "frames": len(nanoseconds)}
