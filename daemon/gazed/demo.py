"""The demonstration: a real daemon with the simulated wearer, one recording through the remote API, verified."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gazed.config import Config
from gazed.summary import recorded_frames, stream_figures
from gazed.trial import Trial
from gazed_capture.wearer.truth import write_truth
from gazed_recorder.verify import verify

__all__ = ["run_demo"]


def run_demo(config: Config, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Record for ``seconds`` and prove the result; ``say`` gets a line for each step.

    Returns what ``gazed demo --json`` prints: ``recording``, ``streams``, ``verified``, ``problems``.

    Raises:
        GazedError: the daemon did not start, or refused.
    """
    say("starting the daemon and its simulated wearer (the first time, the wearer is drawn: some seconds)")
    with Trial(config) as trial:
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
    }


def _write_all_truth(config: Config, folder: Path) -> None:
    """Write what the simulated wearer really did into ``truth/`` of a recording, one row for each frame."""
    for name in (name for name, stream in config.enabled_streams.items() if stream.source == "simulated"):
        frames = recorded_frames(folder, name)
        options = config.streams[name].options
        write_truth(folder / "truth", name, options, frames["captured_ns"], frames["timestamp"])
