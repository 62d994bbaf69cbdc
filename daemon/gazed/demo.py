"""The demonstration: a real daemon calibrates and records the simulated wearer; verified, held against the truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from gazed.accuracy import measure_accuracy
from gazed.analysis import without_analysis
from gazed.calibrating import begin, finish
from gazed.config import Config
from gazed.doctor import check_extra
from gazed.summary import recorded_frames, stream_figures
from gazed.trial import Trial
from gazed.waiting import wait_until_computing
from gazed_bus.remote import Remote
from gazed_capture.wearer.truth import write_truth
from gazed_recorder.verify import verify

__all__ = ["run_demo"]

# What is recorded for ten seconds after ten seconds of calibration shows places that the calibration did not know.
_LOOP_S = 20
_SETTLE_S = 2.0
_CALIBRATE_S = 10.0


def run_demo(config: Config, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Calibrate the wearer, record for ``seconds`` and prove the result; ``say`` gets a line for each step.

    Returns what ``gazed demo --json`` prints: ``recording``, ``streams``, ``verified``, ``problems``, and ``accuracy``
    (see ``measure_accuracy``), which is ``None`` where the detectors are not installed.

    Raises:
        GazedError: the daemon did not start, or refused; or the calibration failed.
    """
    detectors = check_extra("detect")
    if detectors.state != "ok":
        say(f"without pupils and gaze: {detectors.found}; to have them: {detectors.mend}")
        config = without_analysis(config)
    config = _with_longer_loop(config)
    say("starting the daemon and its simulated wearer (the first time, the wearer is drawn: some seconds)")
    with Trial(config) as trial:
        if config.gaze.enabled:
            wait_until_computing(trial.remote, config)
            say(f"calibrating for {_CALIBRATE_S:g} s: the wearer looks at the marker that the world camera sees")
            _calibrate(trial.remote)
        say(f"recording {seconds:g} s")
        folder = Path(trial.remote.start("demo").rec_path)
        time.sleep(seconds / 2)
        trial.remote.annotate("half time")
        time.sleep(seconds / 2)
        trial.remote.stop()
    say("writing the ground truth and verifying")
    _write_all_truth(config, folder)
    result = verify(folder)
    return {
        "recording": str(folder),
        "streams": stream_figures(folder),
        "verified": result.ok,
        "problems": result.problems,
        "accuracy": measure_accuracy(folder) if config.gaze.enabled else None,
    }


def _calibrate(remote: Remote) -> None:
    # An eye model is of no use before it has seen the eye look around.
    time.sleep(_SETTLE_S)
    begin(remote, "calibration")
    time.sleep(_CALIBRATE_S)
    finish(remote, "calibration")


def _with_longer_loop(config: Config) -> Config:
    """Let the wearer look at other places while it is recorded, and keep its calibrations beside its recordings."""
    streams = {
        name: msgspec.structs.replace(stream, options={**stream.options, "seconds": _LOOP_S})
        if stream.source == "simulated"
        else stream
        for name, stream in config.streams.items()
    }
    folder = str(Path(config.recorder.root) / "demo" / "calibrations")
    return msgspec.structs.replace(config, streams=streams, gaze=msgspec.structs.replace(config.gaze, folder=folder))


def _write_all_truth(config: Config, folder: Path) -> None:
    """Write what the simulated wearer really did into ``truth/`` of a recording, one row for each frame."""
    for name in (name for name, stream in config.enabled_streams.items() if stream.source == "simulated"):
        frames = recorded_frames(folder, name)
        options = config.streams[name].options
        write_truth(folder / "truth", name, options, frames["captured_ns"], frames["timestamp"])
