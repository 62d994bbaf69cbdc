"""How far gaze is from where the simulated wearer looks, after calibrations on nine of its targets.

    python tests/bench/bench_gaze.py [--json] [--detect] [--seeds N]

For each wearer, nine fixations that lie far apart calibrate, and the others inside their area are held out. Pupils
come from the ground truth, exact or with noise, and with --detect from the engines over the images (minutes). Figures
are degrees at the world camera, the median over all held-out gaze of one wearer, and over wearers the median and worst.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from gazed_capture.wearer.bank import open_bank
from gazed_capture.wearer.options import read_options
from gazed_capture.wearer.rig import camera_matrix
from gazed_plugins.gaze.accuracy import CalibratedArea
from gazed_plugins.gaze.camera import Camera
from gazed_plugins.gaze.registry import make_gazer

WORLD = Camera(camera_matrix("world", 1280, 720), np.zeros(5), 1280, 720, "radial")
SIZE, FPS, SECONDS = 192, 60.0, 60.0
WARM_UP_S = 4.0
NOISE_PX, NOISE_DEG = 0.1, 0.5  # of pupil centres, and of the eyeballs' directions
FAR_MM = 1000.0


def datums(eye: int, truth: Any, rng: np.random.Generator, *, noise: float) -> list[dict[str, Any]]:
    """Return 2D and 3D pupil datums of one eye's truth; ``noise`` scales the noise."""
    found = []
    for row in truth:
        center = np.array([row["cx"], row["cy"]]) + 0.5 + noise * NOISE_PX * rng.normal(size=2)
        normal = row["gaze"] + noise * np.radians(NOISE_DEG) * rng.normal(size=3)
        both = {
            "id": eye,
            "timestamp": float(row["loop_s"]),
            "confidence": 1.0 if row["pupil_visible"] > 0.99 else 0.0,
            "norm_pos": [center[0] / SIZE, 1 - center[1] / SIZE],
        }
        eyeball = {
            "sphere": {"center": row["eyeball_mm"].tolist()},
            "circle_3d": {"normal": (normal / np.linalg.norm(normal)).tolist()},
        }
        found += [{**both, "method": "2d c++"}, {**both, "method": "pye3d", **eyeball}]
    return found


def detected(eye: int, bank: Any) -> list[dict[str, Any]]:
    """Return what the engines find in the images of one eye."""
    from gazed_plugins.pupil.detector import PupilDetector
    from gazed_plugins.pupil.intrinsics import EyeCamera

    focal = float(camera_matrix(f"eye{eye}", SIZE, SIZE)[0, 0])
    detector = PupilDetector(eye, EyeCamera(focal, (SIZE, SIZE), "stream"))
    found = []
    for row, truth in enumerate(bank.truth):
        gray = cv2.imdecode(np.frombuffer(bank.jpeg(row), np.uint8), cv2.IMREAD_GRAYSCALE)
        found += detector.detect(gray, float(truth["loop_s"]))
    return found


def fixations(truth: Any) -> list[slice]:
    """Return the rows of each fixation, after the warm-up."""
    moved = np.flatnonzero(np.any(np.diff(truth["target_mm"], axis=0) != 0, axis=1)) + 1
    edges = [0, *moved.tolist(), len(truth)]
    return [slice(a, b) for a, b in pairwise(edges) if b - a >= 0.15 * FPS and truth["loop_s"][a] > WARM_UP_S]


def spread(norm: np.ndarray, count: int) -> list[int]:
    """Choose places that lie far apart: each next one is the farthest from those chosen."""
    chosen = [int(np.argmin(norm.sum(axis=1)))]
    while len(chosen) < min(count, len(norm)):
        away = np.linalg.norm(norm[:, None] - norm[chosen], axis=2).min(axis=1)
        chosen.append(int(away.argmax()))
    return chosen


def references(truth: Any, rows: slice) -> list[dict[str, Any]]:
    """Return the references of one fixation, at 30 frames a second."""
    found = []
    for row in truth[rows][::2]:
        pixel = WORLD.project(row["target_mm"])[0]
        place = {"screen_pos": pixel.tolist(), "norm_pos": WORLD.to_norm(pixel).tolist()}
        found.append({**place, "timestamp": float(row["loop_s"])})
    return found


def error(gazer: Any, pupils: list[dict[str, Any]], truth: Any, held: list[slice]) -> float:
    """Return the median angle in degrees between gaze and target, over held-out fixations."""
    stamps = truth["loop_s"]
    gaze = [datum for datum in gazer.map_all(pupils) if datum["confidence"] >= 0.6]
    index = np.rint(np.array([datum["timestamp"] for datum in gaze]) * FPS).astype(int)
    inside = np.zeros(len(stamps), bool)
    for rows in held:
        inside[rows] = True
    used = [k for k, row in enumerate(index) if row < len(stamps) and inside[row]]
    looked = WORLD.rays_of_norm([gaze[k]["norm_pos"] for k in used])
    target = truth["target_mm"][index[used]]
    target = target / np.linalg.norm(target, axis=1, keepdims=True)
    return float(np.median(np.degrees(np.arccos(np.clip(np.sum(looked * target, axis=1), -1, 1)))))


def wearer(seed: int, kinds: list[str]) -> dict[str, float]:
    """Return all figures of one wearer."""
    options = {"width": SIZE, "height": SIZE, "fps": FPS, "seconds": SECONDS, "seed": seed}
    banks = [open_bank(read_options(stream, options).bank) for stream in ("eye0", "eye1")]
    truth = banks[0].truth
    every = fixations(truth)
    norm = np.array([WORLD.to_norm(WORLD.project(truth["target_mm"][rows.start]))[0] for rows in every])
    far = np.array([truth["target_mm"][rows.start][2] > FAR_MM for rows in every])
    plans = {"far": np.flatnonzero(far), "near": np.flatnonzero(~far), "both": np.arange(len(every))}
    figures: dict[str, float] = {}
    for kind in kinds:
        rng = np.random.default_rng(seed)
        pupils = []
        for eye, bank in enumerate(banks):
            pupils += (
                detected(eye, bank)
                if kind == "detected"
                else datums(eye, bank.truth, rng, noise=float(kind == "noisy"))
            )
        for name in ("Gazer2D", "Gazer3D"):
            for plan in ("far", "both"):
                among = plans[plan]
                chosen = among[spread(norm[among], 9)]
                refs = [ref for k in chosen for ref in references(truth, every[k])]
                gazer = make_gazer(name, WORLD)
                begun = time.perf_counter()
                gazer.fit({"ref_list": refs, "pupil_list": pupils})
                figures[f"{kind} {name} fit_s"] = time.perf_counter() - begun
                area = CalibratedArea(norm[chosen])
                for depth in ("far", "near"):
                    held = [k for k in plans[depth] if k not in chosen and not area.is_extrapolating(norm[k])]
                    if held:
                        key = f"{kind} {name} calibrated {plan}, looked {depth}"
                        figures[key] = error(gazer, pupils, truth, [every[k] for k in held])
    for bank in banks:
        bank.close()
    return figures


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--detect", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    kinds = ["exact", "noisy", *["detected"] * arguments.detect]
    runs = [wearer(seed, kinds) for seed in range(1, arguments.seeds + 1)]
    results = {}
    for key in runs[0]:
        values = [run[key] for run in runs if key in run]
        results[key] = {"median": float(np.median(values)), "worst": max(values)}
    if arguments.json:
        print(json.dumps(results))
        return
    for key, figure in results.items():
        print(f"{key:48} median {figure['median']:.3f}  worst {figure['worst']:.3f}")


if __name__ == "__main__":
    main()
