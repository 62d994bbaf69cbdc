"""What pupil detection costs, how near it comes to the truth of the simulated wearer, and what the blink gate is worth.

    python tests/bench/bench_pupil.py [--json] [--seeds N] [--size 192|400] [--seconds S]

Speed is wall time per frame in one thread, the median (and 99th percentile). The gaze error is the angle between the
normal of the 3D circle and the true direction, on frames that show nearly all of the pupil and have a confidence of at
least 0.6: before the first blink (and after one second), and from five seconds on. ``bare`` is the engines without a
gate, ``oracle`` knows from the truth how much of the pupil is hidden.
"""

from __future__ import annotations

import os

os.environ["OPENCV_FOR_THREADS_NUM"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from gazed_capture.wearer.bank import open_bank
from gazed_capture.wearer.options import read_options
from gazed_capture.wearer.rig import camera_matrix
from gazed_plugins.pupil.detector import PupilDetector
from gazed_plugins.pupil.intrinsics import EyeCamera
from gazed_plugins.pupil.settings import PupilSettings

FPS = {192: 200, 400: 120}
SHOWN, HIDDEN = 0.95, 0.7


class Oracle:
    """A gate that knows the truth."""

    def __init__(self, visible: NDArray[np.float64], fps: float) -> None:
        self._visible, self._fps = visible, fps

    def judge(self, _gray: NDArray[np.uint8], datum: dict[str, Any]) -> str:
        return "" if self._visible[round(datum["timestamp"] * self._fps)] > HIDDEN else "oracle"


def footage(stream: str, seed: int, size: int, seconds: float) -> tuple[list[bytes], NDArray[np.void]]:
    """Return one loop of a wearer: its JPEGs and their truth."""
    options = {"width": size, "height": size, "fps": FPS[size], "seed": seed, "seconds": seconds}
    bank = open_bank(read_options(stream, options).bank)
    jpegs = [bank.jpeg(row) for row in range(len(bank.truth))]
    bank.close()
    return jpegs, bank.truth


def decode(jpeg: bytes) -> NDArray[np.uint8]:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)


def detector(stream: str, size: int, **settings: Any) -> PupilDetector:
    focal = float(camera_matrix(stream, size, size)[0, 0])
    return PupilDetector(int(stream[3]), EyeCamera(focal, (size, size), "argument"), PupilSettings.of(settings))


def timed(step: Callable[[Any], object], items: list[Any]) -> dict[str, float]:
    took = []
    for item in items:
        start = time.perf_counter()
        step(item)
        took.append(1e3 * (time.perf_counter() - start))
    return {"ms": float(np.median(took)), "ms_p99": float(np.percentile(took, 99))}


def speed(size: int) -> dict[str, dict[str, float]]:
    """Return what each step costs."""
    jpegs, _ = footage("eye0", 1, size, 10)
    images = [decode(jpeg) for jpeg in jpegs]
    luma = av.VideoCodecContext.create("mjpeg", "r")
    luma.thread_count = 1

    def run(**settings: Any) -> Callable[[int], object]:
        one = detector("eye0", size, **settings)
        return lambda index: one.detect(images[index], index / FPS[size])

    frames = list(range(len(images)))
    result = {
        "decode cv2 gray": timed(decode, jpegs),
        "decode av luma": timed(lambda jpeg: np.asarray(luma.decode(av.Packet(jpeg))[0].planes[0]), jpegs),
        "2d": timed(run(detect_3d=False, gate=False), frames),
        "2d + gate": timed(run(detect_3d=False), frames),
        "2d + gate + 3d": timed(run(), frames),
    }
    result["gate"] = {"ms": result["2d + gate"]["ms"] - result["2d"]["ms"]}
    result["3d"] = {"ms": result["2d + gate + 3d"]["ms"] - result["2d + gate"]["ms"]}
    return result


def truthful(stream: str, seed: int, size: int, seconds: float) -> dict[str, float]:
    """Return errors against the truth of one wearer's eye."""
    jpegs, truth = footage(stream, seed, size, seconds)
    images = [decode(jpeg) for jpeg in jpegs]
    t, visible = np.arange(len(images)) / FPS[size], truth["pupil_visible"]
    result: dict[str, float] = {}
    for name in ("bare", "gate", "oracle"):
        one = detector(stream, size, gate=name != "bare")
        if name == "oracle":
            one._gate = Oracle(visible, FPS[size])  # type: ignore[assignment]
        found = [one.detect(image, float(now)) for image, now in zip(images, t, strict=True)]
        flat, deep = zip(*found, strict=True)
        confidence = np.array([datum["confidence"] for datum in deep])
        normal = np.array([datum["circle_3d"]["normal"] for datum in deep])
        angle = np.degrees(np.arccos(np.clip((normal * truth["gaze"]).sum(1), -1, 1)))
        good = (visible > SHOWN) & (confidence >= 0.6)
        first = t[np.argmax(truth["lid_opening"] < 1)]
        result[f"gaze before {name}"] = float(np.median(angle[good & (t > 1) & (t < first)]))
        result[f"gaze after {name}"] = float(np.median(angle[good & (t > 5)]))
        result[f"gaze after p95 {name}"] = float(np.percentile(angle[good & (t > 5)], 95))
        closed = truth["lid_opening"] == 0
        for kind, datums in (("2d", flat), ("3d", deep)):
            sure = np.array([datum["confidence"] for datum in datums])
            result[f"closed < 0.5 {kind} {name}"] = float((sure[closed] < 0.5).mean())
            result[f"shown >= 0.6 {kind} {name}"] = float((sure[visible > SHOWN] >= 0.6).mean())
    center = np.array([datum["ellipse"]["center"] for datum in flat])
    error = np.hypot(center[:, 0] - truth["cx"], center[:, 1] - truth["cy"])[visible > SHOWN]
    result["center px"], result["center px p95"] = float(np.median(error)), float(np.percentile(error, 95))
    return result


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--size", type=int, choices=sorted(FPS), default=192)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"speed": {str(size): speed(size) for size in FPS}}
    wearers = [("eye0" if seed % 2 else "eye1", seed) for seed in range(1, arguments.seeds + 1)]
    each = {
        f"{stream} of wearer {seed}": truthful(stream, seed, arguments.size, arguments.seconds)
        for stream, seed in wearers
    }
    results["truth"] = each
    results["median"] = {
        name: float(np.median([one[name] for one in each.values()])) for name in next(iter(each.values()))
    }
    if arguments.json:
        print(json.dumps(results))
        return
    for size, steps in results["speed"].items():
        for name, figures in steps.items():
            print(f"{size:4} {name:16}", "  ".join(f"{key} {value:.3f}" for key, value in figures.items()))
    for name, median in results["median"].items():
        print(f"{name:28} median {median:7.3f}   each " + " ".join(f"{one[name]:.3f}" for one in each.values()))


if __name__ == "__main__":
    main()
