"""What a recording tells of itself as a whole: when it began, and how large the world's image is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

from gazed_recorder.errors import UnknownUnixTime
from gazed_recorder.reader import Recording
from gazed_recorder.reading.clock import RecordedClock

__all__ = ["known_clock", "start_of", "unix_time", "wall_clock", "world_size"]


def start_of(recording: Recording, firsts: Iterable[float]) -> float:
    """Return the Pupil time in s at which a recording began; where it does not tell, that of its first sample.

    ``firsts`` are the times of the first samples of what is in it.
    """
    start = recording.info.start_time_synced_s
    return start if math.isfinite(start) else min(firsts, default=0.0)


def known_clock(recording: Recording) -> RecordedClock | None:
    """Return the clock of a recording; ``None`` where it does not tell Unix time.

    Raises:
        DamagedFile: what was recorded of it cannot be read.
    """
    try:
        return recording.clock
    except UnknownUnixTime:
        return None


def unix_time(recording: Recording, timestamp: float) -> float | None:
    """Return a Pupil time as Unix time, both in s; ``None`` where the recording does not tell."""
    clock = known_clock(recording)
    unix = clock.to_unix(timestamp) if clock else 0.0
    return unix if unix > 0 else None


def wall_clock(recording: Recording, timestamp: float) -> datetime | None:
    """Return the date of a Pupil time; ``None`` where the recording does not tell, or tells what is no date."""
    unix = unix_time(recording, timestamp)
    with suppress(OverflowError, ValueError, OSError):
        return None if unix is None else datetime.fromtimestamp(unix, UTC)
    return None


def world_size(recording: Recording) -> tuple[int, int] | None:
    """Return width and height of the world's image in px; ``None`` without a video of the world.

    Raises:
        DamagedFile: it cannot be read.
    """
    return recording.world.size if "world" in recording.streams else None
