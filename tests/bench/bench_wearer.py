"""What the simulated wearer costs: drawing each stream's loop once, and replaying it.

    python tests/bench/bench_wearer.py [--json] [--seconds N]

Each stream is drawn into an empty cache and then replayed in a process of its own, in real time, all at once. CPU is
that of the processes alone, in percent of one core.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from typing import Any

SETUPS: dict[str, tuple[str, dict[str, Any]]] = {
    "world 1280x720@30": ("world", {}),
    "eye0 400x400@120": ("eye0", {}),
    "eye1 400x400@120": ("eye1", {}),
    "eye0 192x192@200": ("eye0", {"width": 192, "height": 192, "fps": 200}),
    "eye1 192x192@200": ("eye1", {"width": 192, "height": 192, "fps": 200}),
}


def draw(name: str) -> dict[str, float]:
    """Draw one loop into the cache."""
    from gazed_capture.simulated import SimulatedSource

    start = time.process_time()
    source = SimulatedSource(*SETUPS[name])
    source.open()
    source.close()
    return {"draw_cpu_s": time.process_time() - start}


def replay(name: str, seconds: float) -> dict[str, float]:
    """Read one stream for a while."""
    from gazed_capture.simulated import SimulatedSource

    source = SimulatedSource(*SETUPS[name])
    source.open()
    frames, size, late = 0, 0, []
    start, cpu = time.monotonic(), time.process_time()
    while time.monotonic() - start < seconds:
        frame = source.read(0.1)
        if frame is not None:
            frames += 1
            size += len(frame.payload)
            late.append(frame.host_ns - frame.captured_ns)
    spent, took = time.process_time() - cpu, time.monotonic() - start
    late.sort()
    result = {
        "fps": frames / took,
        "missed": float(source.stats().missed),
        "cpu_percent": 100 * spent / took,
        "jpeg_kb": size / max(frames, 1) / 1000,
        "arrival_p50_ms": late[len(late) // 2] / 1e6,
        "arrival_p99_ms": late[len(late) * 99 // 100] / 1e6,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    source.close()
    return result


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        with spawn.Pool(1, maxtasksperchild=1) as pool:
            drawn = [pool.apply(draw, (name,)) for name in SETUPS]
        with spawn.Pool(len(SETUPS), maxtasksperchild=1) as pool:
            played = pool.starmap(replay, [(name, arguments.seconds) for name in SETUPS], chunksize=1)
    results = {name: {**a, **b} for name, a, b in zip(SETUPS, drawn, played, strict=True)}
    if arguments.json:
        print(json.dumps(results))
        return
    for name, figures in results.items():
        print(f"{name:20}", "  ".join(f"{key} {value:.2f}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
