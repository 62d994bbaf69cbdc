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

from gazed.calibrating import begin, finish
from gazed.config import Config
from gazed.errors import DaemonError
from gazed.summary import recorded_frames, stream_figures
from gazed.trial import Trial
from gazed.waiting import wait_until_computing
from gazed_bus.remote import Remote
from gazed_recorder.layout import video_parts
from gazed_recorder.reader import Recording

__all__ = ["run_bench"]

_CALIBRATE_S = 10.0
_SUBSCRIBER_START_S = 15.0
_SUBSCRIBER_END_S = 20.0


def run_bench(config: Config, seconds: float, say: Callable[[str], None], *, keep: bool) -> dict[str, Any]:
    """Record for ``seconds`` and return what ``gazed bench --json`` prints.

    ``latency_ms`` runs from the moment a frame was taken out of the camera's driver until a subscriber over TCP had
    it; ``since_exposure_ms`` from the exposure, which adds what the camera itself takes. ``cpu_percent`` is of one
    core over the recording, ``pss_mb`` the proportional share of memory at its end (1 MB = 1,000,000 bytes).
    The recording is deleted afterwards unless ``keep``.

    With ``[gaze]`` switched on, pupils and gaze are measured in place of frames, after a calibration; the latency of
    gaze is that since the newest frame it rests on. ``detection`` then counts, for each eye, the recorded ``frames``,
    those ``detected``, and what its detector passed over or lost since the start of the daemon.

    Raises:
        GazedError: the daemon did not start, or refused.
    """
    with tempfile.TemporaryDirectory(prefix="gazed-bench-") as scratch:
        if not keep:
            recorder = msgspec.structs.replace(config.recorder, root=str(Path(scratch) / "recordings"))
            config = msgspec.structs.replace(config, recorder=recorder)
        stored = str(Path(scratch) / "calibrations")
        config = msgspec.structs.replace(config, gaze=msgspec.structs.replace(config.gaze, folder=stored))
        topics = ["pupil.", "gaze."] if config.gaze.enabled else ["frame."]
        arrivals = Path(scratch) / "arrivals.npz"
        say("starting the daemon")
        with Trial(config) as trial, _subscriber(trial.port, arrivals, topics):
            if config.gaze.enabled:
                say(f"calibrating for {_CALIBRATE_S:g} s")
                _calibrate(trial.remote, config)
            processes = _processes(trial)
            say(f"recording {seconds:g} s")
            folder = Path(trial.remote.start("bench").rec_path)
            before, began = _cpu_seconds(processes), time.monotonic()
            time.sleep(seconds)
            after, took = _cpu_seconds(processes), time.monotonic() - began
            pss = {name: round(process.memory_full_info().pss / 1e6, 1) for name, process in processes.items()}
            trial.remote.stop()
            plugins = trial.remote.status()["plugins"]
        latency, since_exposure = _latencies(folder, arrivals)
        detection = {"detection": _detection(folder, plugins)} if config.pupil.enabled else {}
        return {
            "seconds": seconds,
            "recording": str(folder) if keep else None,
            "streams": stream_figures(folder),
            "latency_ms": latency,
            "since_exposure_ms": since_exposure,
            "cpu_percent": {name: round((after[name] - before[name]) / took * 100, 1) for name in processes},
            "pss_mb": pss,
            **detection,
        }


def _calibrate(remote: Remote, config: Config) -> None:
    wait_until_computing(remote, config)
    begin(remote, "calibration")
    time.sleep(_CALIBRATE_S)
    finish(remote, "calibration")


def _detection(folder: Path, plugins: dict[str, Any]) -> dict[str, dict[str, int]]:
    recording = Recording(folder)
    seen: dict[int, set[float]] = {}
    for pupil in recording.data("pupil") if "pupil" in recording.logs else ():
        seen.setdefault(pupil["id"], set()).add(pupil["timestamp"])
    counts = {}
    for stream in (stream for stream in recording.streams if stream.startswith("eye")):
        eye, frames = int(stream[3:]), recording.timestamps(stream).tolist()
        stats = plugins.get(f"pupil{eye}", {})
        passed_over = {name: stats.get(name, 0) for name in ("behind", "lost")}
        detected = sum(stamp in seen.get(eye, ()) for stamp in frames)
        counts[stream] = {"frames": len(frames), "detected": detected, **passed_over}
    return counts


@contextlib.contextmanager
def _subscriber(port: int, file: Path, topics: list[str]) -> Iterator[None]:
    command = [sys.executable, "-m", "gazed.latency", str(port), str(file), *topics]
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
    """Match what was received with recorded frames by their timestamp, which is the same float64 on both ways."""
    frames = {stream: recorded_frames(folder, stream) for stream in video_parts(folder)}
    since: dict[str, dict[str, list[npt.NDArray[np.int64]]]] = {"host_ns": {}, "captured_ns": {}}
    seen = np.load(arrivals)
    for label in sorted(name.removesuffix("/timestamp") for name in seen.files if name.endswith("/timestamp")):
        topic, _, stream = label.partition("@")
        if stream not in frames:
            continue
        recorded, stamps = frames[stream], seen[f"{label}/timestamp"]
        row = np.minimum(np.searchsorted(recorded["timestamp"], stamps), len(recorded) - 1)
        known = recorded["timestamp"][row] == stamps
        for clock, found in since.items():
            found.setdefault(topic, []).append(seen[f"{label}/received_ns"][known] - recorded[clock][row[known]])
    latency, since_exposure = (
        {topic: _percentiles(np.concatenate(parts)) for topic, parts in found.items()} for found in since.values()
    )
    return latency, since_exposure


def _percentiles(nanoseconds: npt.NDArray[np.int64]) -> dict[str, float]:
    if not len(nanoseconds):
        return {"p50": float("nan"), "p99": float("nan")}
    p50, p99 = np.percentile(nanoseconds, (50, 99)) / 1e6
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "frames": len(nanoseconds)}
