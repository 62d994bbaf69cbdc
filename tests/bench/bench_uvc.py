"""How far capture times of a USB camera are from its true exposures: ours, the library's own, and mere arrival.

The camera is emulated, all above it is real. Milliseconds; ``spread`` is about the median, for what is off by a
constant.

Run: python tests/bench/bench_uvc.py [--json] [--seconds 20]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1] / "hardware"))

from usbcam import Camera, Server, build_shim, shim_environment
from uvc_reader import start_reader


def summary(off_s: npt.NDArray[np.float64]) -> dict[str, float]:
    spread = np.abs(off_s - np.median(off_s))
    values = {"median": np.median(off_s), "p99": np.percentile(off_s, 99), "p99_spread": np.percentile(spread, 99)}
    return {name: round(float(value) * 1e3, 3) for name, value in values.items()}


def measure(fps: int, ppm: float, seconds: float, folder: Path, shim: Path) -> dict[str, object]:
    camera = Camera(clock_ppm=ppm)
    with Server([camera]) as server:
        os.environ.update(shim_environment(shim, server))
        reading = start_reader({"width": 192, "height": 192, "fps": fps}, seconds, folder).result(seconds + 60)
    truth = np.array([camera.truth[number] for number in reading.numbers.tolist()])
    return {
        "capture time": summary((reading.captured - truth) / 1e9),
        "library's stamp": summary(reading.stamps - truth / 1e9),
        "arrival": summary((reading.arrived - truth) / 1e9),
        "stated error": round(float(np.nanmedian(reading.stated)) * 1e3, 3),
        "frames": reading.delivered,
        "missed": reading.missed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        shim = build_shim(Path(name))
        if shim is None:
            sys.exit("needs a C compiler: apt-get install gcc libc6-dev")
        cases = [(fps, ppm) for fps in (120, 200) for ppm in (0.0, 150.0, -150.0)]
        result = {
            f"{fps} Hz, {ppm:+.0f} ppm": measure(fps, ppm, wanted.seconds, Path(name), shim) for fps, ppm in cases
        }
    if wanted.json:
        print(json.dumps(result))
        return
    for case, values in result.items():
        print(case)
        for what, value in values.items():
            print(f"  {what}: {value}")


if __name__ == "__main__":
    main()
