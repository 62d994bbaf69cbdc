"""How well camera stamps are mapped to the host's clock, and what a frame costs; all in simulated time.

    python tests/bench/bench_device_clock.py [--json] [--seconds 600] [--seeds 3] [--fps 120]

Each row is one load of the host (idle; load; stalls of 20 to 200 ms every ten seconds) and one way to stamp frames:
the arrival, libuvc's own model, and ``DeviceClock`` on libuvc's stamps and on undisturbed ones. Errors in ms from 10 s
on, the median taken out (the constant delay is in no clock): the median over the seeds; ``worst`` is over all. `drift`
is the slope of the error in ms per hour; `backwards` counts stamps that do not rise. The cameras transfer in blocks of
4 ms, whose beat with the frames is in all figures but the last two: what a driver would get that told the number of a
frame's last packet (`packets`), and the camera's source clock reference as well (`references`).
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gazed_timesync.devices.device_clock import DeviceClock
from gazed_timesync.devices.testing import CameraFrames, Load, Seen, camera_frames, libuvc_stamps, map_frames


def figures(frames: CameraFrames, stamps: NDArray[np.float64]) -> dict[str, float]:
    later = frames.exposed_s > 10
    errors = (stamps - frames.exposed_s)[later] * 1e3
    off = np.abs(errors - np.median(errors))
    return {
        "p50": float(np.median(off)),
        "p95": float(np.percentile(off, 95)),
        "worst": float(off.max()),
        "drift": float(np.polyfit(frames.exposed_s[later], errors, 1)[0]) * 3600,
        "backwards": int((np.diff(stamps[1:]) <= 0).sum()),
    }


def run(load: Load, ppm: float, seconds: float, fps: float, seed: int) -> dict[str, dict[str, float]]:
    frames = camera_frames(seconds, fps=fps, ppm=ppm, load=load, seed=seed, first_late_s=[0, 4e-3, 30e-3][seed % 3])
    library = libuvc_stamps(frames)
    undisturbed = frames.ticks / 15e6 + 7
    clock = DeviceClock(1 / fps)
    started = time.perf_counter()
    mapped, bounds = map_frames(clock, frames, undisturbed)
    cost_us = (time.perf_counter() - started) / len(mapped) * 1e6
    on_library, library_bounds = map_frames(DeviceClock(1 / fps), frames, library)
    rows = {
        "arrival": figures(frames, frames.arrival_s),
        "libuvc": figures(frames, library),
        "DeviceClock on libuvc": figures(frames, on_library),
        "DeviceClock": figures(frames, mapped),
    }
    seen: tuple[Seen, ...] = ("packets", "references")
    for known in seen:
        better = camera_frames(seconds, fps=fps, ppm=ppm, load=load, seen=known, seed=seed)
        stamped, _ = map_frames(DeviceClock(1 / fps), better, better.ticks / 15e6 + 7)
        rows[f"DeviceClock, {known}"] = figures(better, stamped)
    rows["DeviceClock"] |= {"bound": float(np.median(bounds)) * 1e3, "us_per_frame": cost_us}
    rows["DeviceClock on libuvc"] |= {"bound": float(np.median(library_bounds)) * 1e3}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fps", type=float, default=120)
    parser.add_argument("--ppm", type=float, default=50)
    options = parser.parse_args()
    result: dict[str, dict[str, Any]] = {}
    loads: tuple[Load, ...] = ("idle", "load", "stalls")
    for load in loads:
        runs = [run(load, options.ppm, options.seconds, options.fps, seed) for seed in range(options.seeds)]
        result[load] = {
            way: {
                name: round((max if name in ("worst", "backwards") else np.median)([row[way][name] for row in runs]), 4)
                for name in runs[0][way]
            }
            for way in runs[0]
        }
    if options.json:
        print(json.dumps(result))
        return
    for load, ways in result.items():
        for way, values in ways.items():
            print(f"{load:7s} {way:23s} " + "  ".join(f"{name} {value:8.3f}" for name, value in values.items()))


if __name__ == "__main__":
    main()
