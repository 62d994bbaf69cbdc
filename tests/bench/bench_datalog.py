"""How many datums a second a log takes.

``python tests/bench/bench_datalog.py [--json] [--seconds S] [--dir DIR]``: appends real-sized datums (pupil 2d and 3d,
gaze, annotation), flushing as the recorder does, and repairs the log at the end. ``DIR`` gets some 2 GB for a moment.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import msgpack

from gazed_recorder.datalog import DatumLog, repair_log

_FLUSH_EVERY = 15_000


def _datums() -> list[tuple[str, bytes]]:
    sphere = {"center": [0.1, 0.2, 42.0], "radius": 10.392304845413264}
    pupil_2d = {"id": 0, "norm_pos": [0.5, 0.5], "diameter": 40.0, "confidence": 0.99, "method": "2d c++"}
    pupil_3d = {
        **pupil_2d,
        "sphere": sphere,
        "circle_3d": {**sphere, "normal": [0.1, 0.2, -0.97]},
        "theta": 1.5,
        "phi": -1.5,
    }
    gaze = {"norm_pos": [0.4, 0.6], "gaze_point_3d": [1.0, 2.0, 300.0], "base_data": [pupil_3d, pupil_3d]}
    bodies = {"pupil.0.2d": pupil_2d, "pupil.0.3d": pupil_3d, "gaze.3d.01.": gaze, "annotation": {"label": "trial"}}
    return [(topic, msgpack.packb({"topic": topic, "timestamp": 1.5, **body})) for topic, body in bodies.items()]


def measure(folder: Path, seconds: float) -> dict[str, float]:
    """Return rates of appending and repairing."""
    log = DatumLog(folder, "pupil")
    datums = _datums()
    begun, cpu = time.perf_counter(), time.process_time()
    appended = 0
    while time.perf_counter() - begun < seconds and log.size < 2e9:
        for _ in range(_FLUSH_EVERY // len(datums)):
            for topic, payload in datums:
                log.append(topic, 1.5, payload)
        log.flush()
        appended += _FLUSH_EVERY // len(datums) * len(datums)
    log.close()
    took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    again = time.perf_counter()
    count = repair_log(folder, "pupil").count
    scan = time.perf_counter() - again
    if count != appended:
        raise SystemExit(f"{appended} appended, {count} found")
    return {
        "appends_per_s": round(appended / took),
        "appends_per_cpu_s": round(appended / cpu),
        "bytes_per_datum": round(log.size / appended),
        "mb_per_s": round(log.size / took / 1e6),
        "scan_records_per_s": round(count / scan),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--dir", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        figures = measure(Path(folder), options.seconds)
    print(json.dumps(figures) if options.json else "\n".join(f"{value:>12,} {name}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
