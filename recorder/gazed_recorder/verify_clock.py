"""Proving that the clocks of a recording are of one piece, and that its frames are stamped by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from gazed_recorder.clock_log import CLOCK
from gazed_recorder.manifest import Manifest
from gazed_recorder.reading.clock import RecordedClock, read_clock
from gazed_recorder.verify_part import PartCheck
from gazed_timesync import GazedError

__all__ = ["check_clock"]

# A frame that came too close to the one before is set 1 us behind it.
_CLOSE_S = 1e-5
# What a killed recorder did not write down of a new rate: its last tenth of a second, at 1000 ppm.
_CLOSE_AFTER_KILL_S = 1e-3


def check_clock(
    folder: Path, manifest: Manifest, logs: Sequence[str], tracks: Mapping[str, Sequence[PartCheck]]
) -> Iterator[str]:
    """Yield what is wrong with the logs ``clock`` and ``timesync``, and which ``tracks`` do not keep to them."""
    try:
        clock = read_clock(folder, manifest, logs)
    except GazedError as error:
        yield error.message
        return
    if CLOCK not in logs:
        return
    yield from _segments(clock)
    for before, after in pairwise(clock.pairs):
        if not before.host < after.host or before.error_ns < 0:
            yield f"{CLOCK}: pairs at host times {before.host} and {after.host}, wanted later and later ones"
    first = clock.segments[0]
    if first.host > manifest.start.host_ns:
        yield f"{CLOCK}: the first segment begins {(first.host - manifest.start.host_ns) / 1e9:.6f} s after the start"
    close_s = _CLOSE_S if manifest.state == "complete" else _CLOSE_AFTER_KILL_S
    for stream, parts in tracks.items():
        for part in parts:
            if part.records is None or not len(part.records):
                continue
            off = np.abs(part.records["timestamp"] - clock.to_pupil(part.records["captured_ns"]))
            if not off.max() <= close_s:
                worst = int(np.argmax(off))
                yield (
                    f"{stream}: {int((off > close_s).sum())} frames are not stamped by the recorded clock, "
                    f"the one at {part.records['timestamp'][worst]:.6f} is {off[worst]:.6f} s off"
                )


def _segments(clock: RecordedClock) -> Iterator[str]:
    for before, after in pairwise(clock.segments):
        if after.steps != before.steps:
            yield f"{CLOCK}: the clock jumped during the recording, at host time {after.host}"
        elif after.number == before.number + 1 and before.pupil_ns_at(after.host) != after.pupil_ns:
            yield f"{CLOCK}: segment {after.number} begins elsewhere than the one before ends"
        elif after.number != before.number + 1 and abs(before.pupil_ns_at(after.host) - after.pupil_ns) > 10**9:
            yield f"{CLOCK}: segments between {before.number} and {after.number} are missing"
