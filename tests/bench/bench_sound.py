"""Clicks through a real sound system and the whole daemon: how far off they are in the finished recording.

python tests/bench/bench_sound.py [--seconds 60] [--json]

``median_ms``, ``p95_ms`` and ``worst_ms`` are recorded minus played, by the sound system's own stamps of what it plays;
``drift_ppm`` is the slope of that over the recording; ``skew_ppm`` is how far the (null) sound card's clock is off.
Needs the packages that tests/hardware/fake_audio.py names.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "hardware"))

from fake_audio import FakeAudio
from sound_checks import Player, click_times, errors_ms

from gazed.config import load_config
from gazed.trial import Trial
from gazed_recorder.manifest import Manifest
from gazed_recorder.reader import Recording
from gazed_recorder.verify import verify


def run(seconds: float) -> dict[str, object]:
    streams = {
        "world": {"source": "simulated", "options": {"width": 320, "height": 240, "seconds": 2}},
        "eye0": {"enabled": False},
        "eye1": {"enabled": False},
        "audio": {"enabled": True, "source": "microphone", "options": {"name": "mic"}},
    }
    with FakeAudio.running() as audio, tempfile.TemporaryDirectory(prefix="gazed-sound-") as scratch:
        os.environ.update(audio.own)
        config = load_config(overrides={"recorder": {"root": scratch}, "streams": streams})
        with Trial(config) as daemon:
            folder = Path(daemon.remote.start("sound").rec_path)
            time.sleep(1)
            with Player("speaker", seconds, audio.env) as player:
                played = player.times()
            daemon.remote.stop()
        blocks = list(Recording(folder).sound())
        heard = np.array(click_times((block.timestamp, block.samples[:, 0]) for block in blocks))
        errors = np.array(errors_ms(heard.tolist(), played))
        starts = np.array([block.timestamp for block in blocks])
        nominal = np.arange(len(starts)) * len(blocks[0].samples) / blocks[0].rate
        report = Manifest.load(folder).streams["audio"]
        return {
            "seconds": round(float(starts[-1] - starts[0]), 1),
            "clicks_played": len(played),
            "clicks_heard": len(heard),
            "median_ms": float(np.median(errors)),
            "p95_ms": float(np.percentile(np.abs(errors), 95)),
            "worst_ms": float(np.abs(errors).max()),
            "drift_ppm": float(np.polyfit(heard - heard[0], errors, 1)[0] * 1e3),
            "skew_ppm": float((np.polyfit(nominal, starts - starts[0], 1)[0] - 1) * 1e6),
            "blocks_with_silence": report.missed,
            "blocks_dropped": sum(report.dropped.values()),
            "problems": verify(folder).problems,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = run(args.seconds)
    if args.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:20} {value:.3f}" if isinstance(value, float) else f"{name:20} {value}")


if __name__ == "__main__":
    main()
