"""A subscriber that notes when frames arrive: ``python -m gazed.latency PORT FILE`` until its standard input closes.

It says ``ready`` on standard output once it is subscribed, and writes ``FILE`` (npz) at its end: for each topic the
Pupil times of the frames (float64, seconds) under ``<topic>/timestamp`` and the moments they were received
(int64, CLOCK_MONOTONIC nanoseconds) under ``<topic>/received_ns``.
"""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt

from gazed_bus.remote import Remote
from gazed_timesync import host_now

__all__: list[str] = []

_WAIT_S = 0.2


def _main(port: int, file: str) -> None:
    ended = threading.Event()

    def watch_parent() -> None:
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=watch_parent, daemon=True).start()
    seen: dict[str, list[tuple[float, int]]] = defaultdict(list)
    with Remote("127.0.0.1", port) as remote, remote.subscribe("frame.") as frames:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while not ended.is_set():
            message = frames.receive(_WAIT_S)
            if message is not None:
                seen[message.topic].append((message.payload["timestamp"], host_now()))
    arrays: dict[str, npt.NDArray[Any]] = {}
    for topic, rows in seen.items():
        arrays[f"{topic}/timestamp"] = np.array([row[0] for row in rows], np.float64)
        arrays[f"{topic}/received_ns"] = np.array([row[1] for row in rows], np.int64)
    with open(file, "wb") as out:  # noqa: PTH123 - np.savez would add a suffix to a path
        np.savez(out, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2])
