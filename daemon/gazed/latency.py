"""A subscriber that notes when messages arrive: ``python -m gazed.latency PORT FILE TOPIC…``.

It says ``ready`` on standard output once it is subscribed, and ends when its standard input closes. Then it writes
``FILE`` (npz): for each topic the Pupil times of the frames that the messages are of (float64, seconds) under
``<topic>@<stream>/timestamp`` and the moments they were received (int64, CLOCK_MONOTONIC nanoseconds) under
``<topic>@<stream>/received_ns``. Frames are of their own stream, pupils of their eye; all gaze has the topic ``gaze``
and is of the newest frame that it rests on.
"""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gazed_bus.remote import Remote
from gazed_timesync import host_now

__all__: list[str] = []

_WAIT_S = 0.2


def _frame_of(topic: str, payload: Mapping[str, Any]) -> tuple[str, float]:
    """Return what a message is filed under, and the time of its frame."""
    if topic.startswith("gaze."):
        newest = max(payload["base_data"], key=lambda pupil: float(pupil["timestamp"]))
        return f"gaze@eye{newest['id']}", newest["timestamp"]
    if topic.startswith("pupil."):
        return f"{topic}@eye{payload['id']}", payload["timestamp"]
    return f"{topic}@{topic.removeprefix('frame.').replace('.', '')}", payload["timestamp"]


def _main(port: int, file: str, topics: Sequence[str]) -> None:
    ended = threading.Event()

    def watch_parent() -> None:
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=watch_parent, daemon=True).start()
    seen: dict[str, list[tuple[float, int]]] = defaultdict(list)
    with Remote("127.0.0.1", port) as remote, remote.subscribe(*topics) as messages:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while not ended.is_set():
            message = messages.receive(_WAIT_S)
            if message is not None:
                received = host_now()
                label, timestamp = _frame_of(message.topic, message.payload)
                seen[label].append((timestamp, received))
    arrays: dict[str, npt.NDArray[Any]] = {}
    for label, rows in seen.items():
        arrays[f"{label}/timestamp"] = np.array([row[0] for row in rows], np.float64)
        arrays[f"{label}/received_ns"] = np.array([row[1] for row in rows], np.int64)
    with open(file, "wb") as out:  # noqa: PTH123 - np.savez would add a suffix to a path
        np.savez(out, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
