"""What finding circle markers, blinks and fixations costs, and how near markers come to the truth.

    python tests/bench/bench_events.py [--json] [--seeds N]

Markers: in the world images of the simulated wearer (1280x720), in one thread; milliseconds of CPU for an image, with
the whole image searched and with the marker followed; distance to the true centre in px; images in which it was missed,
and markers where there are none. Events: microseconds for a datum of two eyes at 120 Hz each.
"""

from __future__ import annotations

import os

os.environ["OPENCV_FOR_THREADS_NUM"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gazed_bus.codec import Message
from gazed_capture.wearer.bank import open_bank
from gazed_capture.wearer.options import read_options
from gazed_plugins.events.blink import BlinkDetection
from gazed_plugins.events.fixation import FixationDetector
from gazed_plugins.marker.circle import CircleDetector, Marker
from gazed_plugins.testing import FakeContext

FAR_PX = 10.0


def timed(step: Callable[[Any], Any], items: list[Any]) -> tuple[list[Any], NDArray[np.float64]]:
    """Return the results and the CPU time of each in s."""
    results, took = [], []
    for item in items:
        start = time.process_time()
        results.append(step(item))
        took.append(time.process_time() - start)
    return results, np.array(took)


def markers(seed: int) -> dict[str, dict[str, float]]:
    """Return the figures of one wearer."""
    bank = open_bank(read_options("world", {"seed": seed}).bank)
    pictures = [
        cv2.imdecode(np.frombuffer(bank.jpeg(row), np.uint8), cv2.IMREAD_GRAYSCALE) for row in range(len(bank.truth))
    ]
    bank.close()

    def searched(image: NDArray[np.uint8]) -> list[Marker]:
        return CircleDetector().detect(image)

    result = {}
    for name, step in (("searched", searched), ("followed", CircleDetector().detect)):
        found, took = timed(step, pictures)
        errors, missed, false = [], 0, 0
        for each, truth in zip(found, bank.truth, strict=True):
            off = [float(np.hypot(*(np.array(marker.center) - truth["target_px"]))) for marker in each]
            false += sum(value > FAR_PX for value in off)
            near = min(off, default=np.inf)
            missed += near > FAR_PX
            errors += [near] if near <= FAR_PX else []
        result[name] = {
            "ms_min": 1e3 * float(took.min()),
            "ms_p50": 1e3 * float(np.median(took)),
            "ms_p95": 1e3 * float(np.percentile(took, 95)),
            "error_px_p50": float(np.median(errors)),
            "error_px_max": max(errors),
            "images": len(found),
            "missed": missed,
            "false": false,
        }
    return result


def events() -> dict[str, dict[str, float]]:
    """Return microseconds for a datum; one in five is of a saccade or a blink."""
    rng = np.random.default_rng(1)
    t = np.arange(12_000) / 240
    moving = (t % 2) > 1.6
    place = np.where(moving, rng.uniform(-20, 20, len(t)), 0.3 * rng.standard_normal(len(t)))
    pupils, gaze, flat = [], [], []
    for time_s, degrees, busy in zip(t.tolist(), np.radians(place).tolist(), moving.tolist(), strict=True):
        base = {"timestamp": time_s, "confidence": 0.1 if busy else 0.95}
        pupils.append(Message("pupil.0.2d", {"topic": "pupil.0.2d", "id": 0, **base}))
        base |= {"topic": "gaze.3d.01.", "confidence": 0.95, "norm_pos": [0.5 + degrees, 0.5]}
        flat.append(Message("gaze.2d.01.", base))
        gaze.append(
            Message("gaze.3d.01.", base | {"gaze_point_3d": [700 * np.sin(degrees), 0.0, 700 * np.cos(degrees)]})
        )
    result = {}
    cases = (
        ("blinks", BlinkDetection, pupils),
        ("fixations 3d", FixationDetector, gaze),
        ("fixations 2d", FixationDetector, flat),
    )
    for name, kind, messages in cases:
        context = FakeContext()
        _, took = timed(kind(context, {}).on_message, messages)
        result[name] = {
            "us_mean": 1e6 * float(took.mean()),
            "us_p50": 1e6 * float(np.median(took)),
            "us_p99": 1e6 * float(np.percentile(took, 99)),
            "published": len(context.published),
        }
    return result


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    results = {f"markers of wearer {seed}": markers(seed) for seed in range(1, arguments.seeds + 1)} | {
        "events": events()
    }
    if arguments.json:
        print(json.dumps(results))
        return
    for what, rows in results.items():
        for name, figures in rows.items():
            print(f"{what} {name:14}", "  ".join(f"{key} {value:.3g}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
