"""What pupil detection costs, how near it comes to the truth of the simulated wearer, and what the blink gate is worth.

    python tests/bench/bench_pupil.py [--json] [--table] [--seeds N] [--size 192|400] [--seconds S]

Speed is wall time per frame in one thread, the median (and 99th percentile). --table shows many kinds of wearers in
place of the speed: noise, pupil sizes, lights, drooping lids, long blinks. Figures of one kind are medians over seeds:

- ``center px``: from the centre found to the true one, on frames that show nearly all of the pupil
- ``gaze``: degrees between the normal of the 3D circle and the true direction, on frames with lids as open as they go
  and a confidence of at least 0.6, ``before`` the first blink (and after one second) and ``after`` five seconds
- ``closed < 0.5``: part of the frames with lids wholly closed whose confidence is below 0.5
- ``hidden >= 0.6``: part of the frames that show less than half of the pupil with a confidence of at least 0.6
- ``open >= 0.6``: part of the frames with open lids with a confidence of at least 0.6

``bare`` is the engines without a gate, ``oracle`` is a gate that knows from the truth how much of the pupil is hidden.
"""

from __future__ import annotations

import os

os.environ["OPENCV_FOR_THREADS_NUM"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
import math
import time
from collections.abc import Callable
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from pupil_detectors import Detector2D

from gazed_capture.wearer.options import read_options
from gazed_capture.wearer.render import render
from gazed_capture.wearer.rig import camera_matrix
from gazed_plugins.pupil.detector import PupilDetector
from gazed_plugins.pupil.intrinsics import EyeCamera
from gazed_plugins.pupil.settings import PupilSettings

FPS = {192: 200, 400: 120}
SHOWN, HIDDEN = 0.95, 0.7
KINDS: dict[str, dict[str, float]] = {
    "as it comes": {},
    "noise 6": {"noise": 6},
    "noise 12": {"noise": 12},
    "small pupils": {"pupil_mm": 3.0},
    "large pupils": {"pupil_mm": 6.5},
    "no lights": {"lights": 0},
    "6 lights": {"lights": 6},
    "droop 0.2": {"droop": 0.2},
    "droop 0.3": {"droop": 0.3},
    "droop 0.4": {"droop": 0.4},
    "closed 0.3 s": {"closed_s": 0.3},
    "closed 1 s": {"closed_s": 1.0},
    "all at once": {"noise": 6, "pupil_mm": 6.0, "lights": 4, "droop": 0.25, "closed_s": 0.2},
}


class Oracle:
    """A gate that knows the truth."""

    def __init__(self, visible: NDArray[np.float64], fps: float) -> None:
        self._visible, self._fps = visible, fps

    def judge(self, _gray: NDArray[np.uint8], datum: dict[str, Any]) -> str:
        return "" if self._visible[round(datum["timestamp"] * self._fps)] > HIDDEN else "oracle"


class Replay:
    """A 2D engine that says again what it said: it does not depend on the gate, and costs more than all else."""

    def __init__(self, found: list[Any]) -> None:
        self._found = iter(found)

    def detect(self, _gray: NDArray[np.uint8], **_: Any) -> Any:
        return next(self._found)


def footage(stream: str, seed: int, size: int, seconds: float, **kind: float) -> tuple[list[bytes], NDArray[np.void]]:
    """Return one loop of a wearer: its JPEGs and their truth."""
    options = {"width": size, "height": size, "fps": FPS[size], "seed": seed, "seconds": seconds, **kind}
    loop = render(read_options(stream, options).bank)
    return [loop.images[image] for image in loop.image_of_row], loop.truth


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


def spread(name: str, errors: NDArray[np.float64]) -> dict[str, float]:
    """Return median and 95th percentile; nothing if no frame was like that."""
    if not len(errors):
        return {}
    return {name: float(np.median(errors)), f"{name} p95": float(np.percentile(errors, 95))}


def truthful(stream: str, seed: int, size: int, seconds: float, **kind: float) -> dict[str, float]:
    """Return errors against the truth of one wearer's eye."""
    jpegs, truth = footage(stream, seed, size, seconds, **kind)
    images = [decode(jpeg) for jpeg in jpegs]
    engine = Detector2D()
    flat = [engine.detect(image) for image in images]
    center = np.array([found["ellipse"]["center"] for found in flat])
    t, visible, lids = np.arange(len(images)) / FPS[size], truth["pupil_visible"], truth["lid_opening"]
    clean, hidden = visible > SHOWN, visible < 0.5
    opened, closed = lids == lids.max(), lids == 0
    px = np.hypot(center[:, 0] - truth["cx"], center[:, 1] - truth["cy"])[clean]
    result = spread("center px", px)
    for name in ("bare", "gate", "oracle"):
        one = detector(stream, size, gate=name != "bare")
        one._engine_2d = Replay(flat)
        if name == "oracle":
            one._gate = Oracle(visible, FPS[size])  # type: ignore[assignment]
        datums = [one.detect(image, float(now)) for image, now in zip(images, t, strict=True)]
        sure_2d, sure = np.array([[datum["confidence"] for datum in pair] for pair in datums]).T
        normal = np.array([deep["circle_3d"]["normal"] for _, deep in datums])
        angle = np.degrees(np.arccos(np.clip((normal * truth["gaze"]).sum(1), -1, 1)))
        good = opened & (sure >= 0.6)
        before, after = angle[good & (t > 1) & (t < t[np.argmax(~opened)])], angle[good & (t > 5)]
        result |= spread(f"gaze before {name}", before) | spread(f"gaze after {name}", after)
        result |= {
            f"closed < 0.5 2d {name}": float((sure_2d[closed] < 0.5).mean()),
            f"closed < 0.5 3d {name}": float((sure[closed] < 0.5).mean()),
            f"hidden >= 0.6 2d {name}": float((sure_2d[hidden] >= 0.6).mean()),
            f"open >= 0.6 2d {name}": float((sure_2d[opened] >= 0.6).mean()),
            f"open >= 0.6 3d {name}": float((sure[opened] >= 0.6).mean()),
        }
    return result


def table(kinds: dict[str, dict[str, float]], seeds: int, size: int, seconds: float) -> dict[str, Any]:
    """Return for each kind of wearer the figures of each seed, and their medians."""
    found: dict[str, Any] = {}
    for name, kind in kinds.items():
        each = [truthful("eye0" if seed % 2 else "eye1", seed, size, seconds, **kind) for seed in range(1, seeds + 1)]
        median = {
            figure: float(np.median([one[figure] for one in each if figure in one])) for figure in set().union(*each)
        }
        found[name] = {"median": median, "each": each}
    return found


COLUMNS = {
    "center px": "center px",
    "closed < 0.5 2d gate": "closed 2d",
    "closed < 0.5 3d gate": "closed 3d",
    "hidden >= 0.6 2d bare": "hid bare",
    "hidden >= 0.6 2d gate": "hid gate",
    "open >= 0.6 2d bare": "open bare",
    "open >= 0.6 2d gate": "open gate",
    "gaze before gate": "before",
    "gaze after bare": "aft bare",
    "gaze after gate": "aft gate",
    "gaze after oracle": "aft orac",
}


def show(found: dict[str, Any]) -> None:
    """Print medians, and gaze after blinks with the gate of each seed."""
    print(f"{'median over seeds':18}", *(f"{head:>9}" for head in COLUMNS.values()), "  aft gate of each seed")
    for name, figures in found.items():
        row = [figures["median"].get(figure, math.nan) for figure in COLUMNS]
        each = " ".join(f"{one.get('gaze after gate', math.nan):.2f}" for one in figures["each"])
        print(f"{name:18}", *(f"{figure:9.3f}" for figure in row), " ", each)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--size", type=int, choices=sorted(FPS), default=192)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    results: dict[str, Any] = {} if arguments.table else {"speed": {str(size): speed(size) for size in FPS}}
    kinds = KINDS if arguments.table else {"as it comes": {}}
    results["truth"] = table(kinds, arguments.seeds, arguments.size, arguments.seconds)
    if arguments.json:
        print(json.dumps(results))
        return
    for size, steps in results.get("speed", {}).items():
        for name, figures in steps.items():
            print(f"{size:4} {name:16}", "  ".join(f"{key} {value:.3f}" for key, value in figures.items()))
    show(results["truth"])


if __name__ == "__main__":
    main()
