"""What the gaze mapper costs: for a pupil datum, and when a calibration or a validation ends.

    python tests/bench/bench_mapper.py [--json]

Times are those of the plugin's own thread, with everything packed as for the bus; the fit runs in its own process.
Two eyes, 2D and 3D datums, 120 Hz, a calibration of 30 s.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from gazed_bus.codec import Message, encode, notification_topic
from gazed_plugins.gaze.plugin import GazeMapper
from gazed_plugins.gaze.testing import GRID, pupil_datums, reference, target_at
from gazed_plugins.testing import FakeContext

RATE, SECONDS, IMAGES = 120, 30, 30


class Packing(FakeContext):
    """Packs what is said and keeps the subjects."""

    def publish(self, topic: str, payload: Mapping[str, Any]) -> None:
        encode(topic, payload)

    def notify(self, notification: Mapping[str, Any]) -> None:
        encode(notification_topic(notification), notification)
        self.notified.append({"subject": notification["subject"]})


def collect(mapper: GazeMapper, mode: str) -> dict[str, float]:
    """Run one calibration or validation; return the longest turns in ms and the seconds to the result."""
    mapper.on_message(Message(f"notify.{mode}.should_start", {"choreography": "network"}))
    refs = []
    for row in range(SECONDS * RATE):
        stamp = 100 + row / RATE
        place = GRID[row * len(GRID) // (SECONDS * RATE)]
        if row % (RATE // IMAGES) == 0:
            refs.append(reference(place, stamp))
        for eye in (0, 1):
            for datum in pupil_datums(eye, target_at(place), stamp + 0.002 * eye):
                mapper.on_message(Message(datum["topic"], datum))
    mapper.on_message(Message("notify.calibration.add_ref_data", {"ref_data": refs}))
    begun = time.perf_counter()
    mapper.on_message(Message("notify.calibration.should_stop", {}))
    longest = time.perf_counter() - begun
    while mapper.stats()["computing"]:
        turn = time.perf_counter()
        mapper.on_idle()
        longest = max(longest, time.perf_counter() - turn)
        time.sleep(0.01)
    return {f"{mode} longest turn ms": 1000 * longest, f"{mode} result s": time.perf_counter() - begun}


def per_datum(mapper: GazeMapper, method: int) -> np.ndarray:
    """Return µs for each datum of two eyes that the mapper takes, gaze packed."""
    took = []
    for row in range(3000):
        for eye in (0, 1):
            datum = pupil_datums(eye, target_at((0.4, 0.6)), 200 + row / RATE + 0.002 * eye)[method]
            message = Message(datum["topic"], datum)
            begun = time.perf_counter()
            mapper.on_message(message)
            took.append(time.perf_counter() - begun)
    return 1e6 * np.array(took)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    results: dict[str, float] = {}
    for method, gazer in enumerate(("Gazer2D", "Gazer3D")):
        with tempfile.TemporaryDirectory() as folder:
            mapper = GazeMapper(Packing(), {"folder": folder, "gazer": gazer})
            figures = collect(mapper, "calibration") | collect(mapper, "validation")
            took = per_datum(mapper, method)
            mapper.close()
        figures |= {"datum us p50": float(np.percentile(took, 50)), "datum us p99": float(np.percentile(took, 99))}
        results |= {f"{gazer} {key}": round(value, 2) for key, value in figures.items()}
    if parser.parse_args().json:
        print(json.dumps(results))
        return
    for key, figure in results.items():
        print(f"{key:40} {figure:10.2f}")


if __name__ == "__main__":
    main()
