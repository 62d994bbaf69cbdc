"""Reads a ``uvc`` source in a process that sees emulated cameras, and compares its times with the truth.

LD_PRELOAD=… USBSHIM=… python uvc_reader.py OPTIONS_JSON SECONDS OUT.npz
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from usbcam.pictures import read_counter

from gazed_capture.uvc import UvcSource

__all__ = ["Reading", "start_reader"]

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """What a source delivered, one entry a frame; times in ns of CLOCK_MONOTONIC."""

    numbers: Times
    """Read from the image; -1 where it could not be decoded."""
    sequence: Times
    captured: Times
    arrived: Times
    stamps: npt.NDArray[np.float64]
    """The library's, in seconds; NaN where there was none."""
    stated: npt.NDArray[np.float64]
    """The error that the source stated at that time, in seconds; NaN where it stated none."""
    delivered: int
    missed: int
    corrupt: int
    kind: str

    def errors(self, truth: dict[int, int]) -> npt.NDArray[np.float64]:
        """Return capture time minus exposure in seconds, less what the fastest frame needed to arrive."""
        exposed = np.array([truth[number] for number in self.numbers.tolist()])
        fastest = (self.arrived - exposed).min()
        return np.asarray((self.captured - exposed - fastest) / 1e9)


class _Reader:
    def __init__(self, command: list[str], out: Path) -> None:
        self._out = out
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def result(self, timeout: float) -> Reading:
        """Wait until it has ended.

        Raises:
            RuntimeError: it failed; the message is what it said.
        """
        try:
            said = self._process.communicate(timeout=timeout)[1]
        finally:
            self._process.kill()
            self._process.wait()
        if self._process.returncode:
            raise RuntimeError(f"the reader ended with {self._process.returncode}: {said}")
        with np.load(self._out) as saved:
            return Reading(**{name: saved[name] if saved[name].ndim else saved[name].item() for name in saved.files})


def start_reader(options: dict[str, Any], seconds: float, folder: Path) -> _Reader:
    """Start a process that reads for a while; call ``result`` of what is returned."""
    out = folder / f"{time.monotonic_ns()}.npz"
    command = [sys.executable, __file__, json.dumps(options), str(seconds), str(out)]
    return _Reader(command, out)


def _number(jpeg: bytes) -> int:
    gray = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    return -1 if gray is None else read_counter(gray)


def _read(options: dict[str, Any], seconds: float) -> dict[str, Any]:
    source = UvcSource("eye0", options)
    rows = []
    try:
        source.open()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            frame = source.read(0.1)
            if frame is not None:
                stamp = np.nan if frame.device_time is None else frame.device_time
                stated = source.stats().clock.error_s
                row = _number(bytes(frame.payload)), frame.sequence, frame.captured_ns, frame.host_ns, stamp
                rows.append((*row, np.nan if stated is None else stated))
        stats = source.stats()
    finally:
        source.close()
    numbers, sequence, captured, arrived, stamps, stated = zip(*rows, strict=True)
    whole = {"numbers": numbers, "sequence": sequence, "captured": captured, "arrived": arrived}
    counts = {"delivered": stats.delivered, "missed": stats.missed, "corrupt": stats.corrupt, "kind": stats.clock.kind}
    return {**{k: np.array(v, np.int64) for k, v in whole.items()}, "stamps": stamps, "stated": stated, **counts}


if __name__ == "__main__":
    np.savez(sys.argv[3], **_read(json.loads(sys.argv[1]), float(sys.argv[2])))
